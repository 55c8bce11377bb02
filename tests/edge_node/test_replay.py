"""A resumed answer is the uninterrupted one: each token once, and another answer is never its end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_node.replay import Replay
from wire.errors import Corrupt, Internal
from wire.v1 import inference_pb2 as pb

Pieces = list[tuple[str, int]]


def deltas(pieces: Pieces) -> list[pb.Delta]:
    made, index = [], 0
    for text, num_tokens in pieces:
        made.append(pb.Delta(text=text, token_index=index, num_tokens=num_tokens))
        index += num_tokens
    return made


def heard(replay: Replay, parts: list[pb.Delta]) -> list[pb.Delta]:
    return [new for one in parts if (new := replay.new_of(one)) is not None]


def regrouped(pieces: Pieces, every: int) -> Pieces:
    groups = [pieces[at : at + every] for at in range(0, len(pieces), every)]
    return [("".join(text for text, _ in group), sum(num for _, num in group)) for group in groups]


PIECES = st.lists(st.tuples(st.text(max_size=3), st.integers(1, 3)), min_size=1, max_size=12)


@given(PIECES, st.data())
def test_resumed_at_any_place_any_number_of_times_gives_each_token_once(
    pieces: Pieces, data: st.DataObject
) -> None:
    replay, got = Replay(), []
    for _ in range(data.draw(st.integers(0, 3))):
        # Another cloud's deltas end elsewhere, and it begins at 0; the same one may go on where it was.
        parts = deltas(regrouped(pieces, data.draw(st.integers(1, 4))))
        rest = [one for one in parts if one.token_index >= replay.num_tokens]
        if rest and rest[0].token_index == replay.num_tokens and data.draw(st.booleans()):
            parts = rest
        got += heard(replay, parts[: data.draw(st.integers(0, len(parts)))])
        replay.resume()
    got += heard(replay, deltas(regrouped(pieces, data.draw(st.integers(1, 4)))))
    replay.end(sum(num for _, num in pieces))
    assert "".join(one.text for one in got) == "".join(text for text, _ in pieces)
    assert sum(one.num_tokens for one in got) == sum(num for _, num in pieces)
    assert [one.token_index for one in got] == [
        sum(one.num_tokens for one in got[:at]) for at in range(len(got))
    ]


def test_resumed_answer_that_says_other_than_before_is_an_error() -> None:
    replay = Replay()
    heard(replay, deltas([("one ", 1), ("two ", 1)]))
    replay.resume()
    with pytest.raises(Internal, match="differs"):
        heard(replay, deltas([("one ", 1), ("too ", 1)]))


def test_resumed_answer_that_ends_before_where_it_was_is_an_error() -> None:
    replay = Replay()
    heard(replay, deltas([("one ", 1), ("two ", 1)]))
    replay.resume()
    heard(replay, deltas([("one ", 1)]))
    with pytest.raises(Internal, match="differs"):
        replay.end(1)


@pytest.mark.parametrize("index", [0, 2, 5])
def test_token_that_does_not_follow_is_an_error(index: int) -> None:
    replay = Replay()
    heard(replay, deltas([("one ", 1)]))
    with pytest.raises(Corrupt, match=f"token {index} where 1 was to follow"):
        replay.new_of(pb.Delta(text="?", token_index=index, num_tokens=1))


def test_answer_resumed_at_its_very_end_needs_no_delta() -> None:
    replay = Replay()
    heard(replay, deltas([("one ", 1)]))
    replay.resume()
    replay.end(1)


def test_answer_of_which_the_last_tokens_never_came_is_not_whole() -> None:
    replay = Replay()
    heard(replay, deltas([("one ", 1), ("two ", 1)]))
    with pytest.raises(Corrupt, match="has 3 tokens, and 2 came"):
        replay.end(3)
