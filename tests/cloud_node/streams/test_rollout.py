"""A staged rollout: which edges are told of the next bundle, by what they are and by the share; and its file."""

from __future__ import annotations

import itertools
import logging
import math
from dataclasses import replace
from pathlib import Path

import pytest

from cloud_node.asked.served import Served
from cloud_node.ready import Ready
from cloud_node.streams.rollout import Rollout, RolloutConfig, is_told_of_next, parse_share, parse_shares
from cloud_node.streams.versions import check_versions, labels_of
from tests.kit.clouds import FakeRunner, cloud_of, settle
from tests.kit.talking import channel, opening, talk
from wire.errors import BadInput
from wire.v1 import inference_pb2 as pb
from wire.v1 import inference_pb2_grpc as pb_grpc

EDGES = [f"edge-{number}" for number in range(4000)]
# Of the first 40, those among a tenth; for ever.
KEPT = ["edge-6", "edge-13", "edge-15", "edge-32", "edge-38", "edge-39"]


def told(share: float, model: str = "tiny") -> set[str]:
    return {edge for edge in EDGES if is_told_of_next(edge, model, share)}


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
def test_share_of_the_edges_is_told_within_chance(share: float) -> None:
    # 5 standard deviations of a binomial distribution: 1 in 1.7 million would miss it.
    most_off = 5 * math.sqrt(share * (1 - share) * len(EDGES))
    assert abs(len(told(share)) - share * len(EDGES)) <= most_off


def test_none_is_told_at_0_and_all_at_1() -> None:
    assert told(0.0) == set()
    assert told(1.0) == set(EDGES)


def test_edge_stays_told_while_the_share_grows() -> None:
    shares = [0.0, 0.05, 0.1, 0.3, 0.8, 1.0]
    for smaller, larger in itertools.pairwise(shares):
        assert told(smaller) < told(larger)


def test_two_models_are_tried_on_different_edges() -> None:
    assert told(0.1, "tiny") != told(0.1, "other")


def test_edge_that_does_not_say_who_it_is_belongs_to_the_last() -> None:
    assert not is_told_of_next("", "tiny", 0.999)
    assert is_told_of_next("", "tiny", 1.0)


def test_which_edges_are_told_is_the_same_on_every_node_and_version() -> None:
    assert [edge for edge in EDGES[:40] if is_told_of_next(edge, "tiny", 0.1)] == KEPT


@pytest.mark.parametrize(
    ("text", "share"),
    [("10%", 0.1), (" 0.5 ", 0.5), ("0%", 0), ("100%", 1), ("0", 0), ("1", 1), ("0.1%", 0.001)],
)
def test_share_is_read(text: str, share: float) -> None:
    assert parse_share(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["", "10", "101%", "-1%", "nan%", "1.5", "ten", "%", "inf"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="no share"):
        parse_share(text)


def test_file_gives_a_share_for_a_name_and_for_all_others() -> None:
    text = "# rollout\n25%   # of all\nmy model  0.5\nold 0%\n\n"
    assert parse_shares(text) == {"*": 0.25, "my model": 0.5, "old": 0.0}
    with pytest.raises(BadInput, match="second share"):
        parse_shares("a 1%\na 2%")


def test_file_is_read_again_when_it_changes_and_nonsense_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "rollout"
    file.write_text("10%")
    rollout = Rollout(RolloutConfig(file=file))
    (watched,) = rollout.watched
    assert rollout.share_of("tiny") == 0.1
    file.write_text("tiny 100%")
    assert watched.refresh()
    assert (rollout.share_of("tiny"), rollout.share_of("other")) == (1.0, 0.0)
    with caplog.at_level(logging.ERROR):
        file.write_text("tiny everybody")
        assert not watched.refresh()
        assert not watched.refresh()
        assert rollout.share_of("tiny") == rollout.share_of("tiny") == 1.0
        file.unlink()
        assert not watched.refresh()
        assert rollout.share_of("tiny") == rollout.share_of("tiny") == 1.0
        assert len([one for one in caplog.records if one.levelno == logging.ERROR]) == 2
    replacement = tmp_path / "new"
    replacement.write_text("tiny 0%")
    replacement.replace(file)
    assert watched.refresh()
    assert rollout.share_of("tiny") == 0.0


def test_wrong_file_or_two_ways_at_once_do_not_start(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot read the rollout file"):
        Rollout(RolloutConfig(file=tmp_path / "none"))
    (tmp_path / "bad").write_bytes(b"\xff")
    with pytest.raises(BadInput, match="UTF-8"):
        Rollout(RolloutConfig(file=tmp_path / "bad"))
    with pytest.raises(BadInput, match="both"):
        RolloutConfig(0.1, tmp_path / "bad")
    with pytest.raises(BadInput, match="from 0 to 1"):
        RolloutConfig(1.1)


def test_models_of_one_name_need_a_rollout_and_different_bundles(served: Served) -> None:
    second = replace(served, bundle_digest="cd" * 32)
    with pytest.raises(BadInput, match="give each a --name, or say with --rollout"):
        check_versions([served, second], is_rollout=False)
    with pytest.raises(BadInput, match="twice"):
        check_versions([served, second, served], is_rollout=True)
    with pytest.raises(BadInput, match="at most 17"):
        check_versions([replace(served, bundle_digest=f"{i:064x}") for i in range(18)], is_rollout=True)
    check_versions([served, second], is_rollout=True)
    check_versions([served, replace(served, name="other")], is_rollout=False)


def test_metrics_tell_bundles_of_one_name_apart(served: Served) -> None:
    second = replace(served, bundle_digest="cd" * 32)
    other = replace(served, name="other")
    assert labels_of([served, second, other]) == [
        f"{served.name}@{served.bundle_digest[:12]}",
        f"{served.name}@{'cd' * 6}",
        "other",
    ]


async def described(address: str, edge_id: str = "") -> pb.Model:
    async with channel(address) as made:
        reply = await pb_grpc.InferenceStub(made).Describe(pb.DescribeRequest(edge_id=edge_id))
    (model,) = reply.models
    return model


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_cloud_tells_a_share_of_the_edges_and_answers_both(
    served: Served, bundle: Path, share: float
) -> None:
    second = replace(served, bundle_digest="cd" * 32)
    runners = [FakeRunner(), FakeRunner()]
    models = [Ready(one, runner, bundle) for one, runner in zip((served, second), runners, strict=True)]

    async def run() -> None:
        async with cloud_of(models, rollout=RolloutConfig(share)) as server:
            edges = EDGES[:40]
            for edge in edges:
                model = await described(server.address, edge)
                wanted, others = (
                    (second, served) if is_told_of_next(edge, "tiny", share) else (served, second)
                )
                assert model.bundle_digest == wanted.bundle_digest
                assert list(model.also_served) == [others.bundle_digest]
            async with talk(server.address) as t:
                await t.welcomed()
                for index, one in enumerate((served, second)):
                    await t.say(open=opening(one, f"number {index}", request_id=f"r{index}"))
                    await t.hear("done", f"r{index}")
                await t.say(open=opening(replace(served, bundle_digest="ef" * 32), "hi", request_id="r2"))
                failed = await t.hear("failed", "r2")
                assert failed.code == pb.ERROR_CODE_INCOMPATIBLE_BUNDLE
                assert served.bundle_digest[:12] in failed.message
                assert second.bundle_digest[:12] in failed.message
            assert [runner.ran for runner in runners] == [["number 0"], ["number 1"]]

    settle(run())


def test_request_without_a_digest_goes_to_the_bundle_that_its_edge_is_told_of(
    served: Served, bundle: Path
) -> None:
    second = replace(served, bundle_digest="cd" * 32)
    runners = [FakeRunner(), FakeRunner()]
    models = [Ready(one, runner, bundle) for one, runner in zip((served, second), runners, strict=True)]
    first_edge = next(edge for edge in EDGES if not is_told_of_next(edge, "tiny", 0.5))
    next_edge = next(edge for edge in EDGES if is_told_of_next(edge, "tiny", 0.5))

    async def run() -> None:
        async with cloud_of(models, rollout=RolloutConfig(0.5)) as server:
            for edge in (first_edge, next_edge):
                async with talk(server.address) as t:
                    await t.welcomed(edge_id=edge)
                    unnamed = replace(served, bundle_digest="")
                    message = opening(unnamed, f"of {edge}", split_point=0)
                    await t.say(open=message)
                    await t.hear("done")
            assert [runner.ran for runner in runners] == [[f"of {first_edge}"], [f"of {next_edge}"]]

    settle(run())


def test_edge_id_that_is_none_is_refused(served: Served, bundle: Path) -> None:
    async def run() -> None:
        async with cloud_of([Ready(served, FakeRunner(), bundle)]) as server:
            with pytest.raises(Exception, match="edge_id"):
                await described(server.address, "x" * 65)

    settle(run())
