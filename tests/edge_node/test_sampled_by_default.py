"""A model that samples where nobody names a temperature: the edge draws a seed, so that the answer can be had again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.faulty.link import faulty_link
from cleave import EdgeNode
from cloud_node.asked.served import Served
from cloud_node.model.sampling import seed_of
from cloud_node.streams import messages
from edge_node.wanted import make_settings, seeded
from tests.kit.clouds import CloudThread, FakePrompt, FakeRunner, cloud_thread
from tests.kit.pictures import textured
from wire.v1 import inference_pb2 as pb

PICTURE = textured(60, 40)


class Drawing(FakeRunner):
    """The first word is drawn: of the request's seed where it has one, else of chance."""

    def __init__(self) -> None:
        super().__init__()
        self.seeds: list[int | None] = []

    def begin(self, prompt: FakePrompt, row: int) -> int:
        settings = prompt.sequence.request.settings
        self.seeds.append(settings.seed)
        is_drawn = settings.temperature is None or settings.temperature > 0
        prompt.words[0] = str(seed_of(settings)) if is_drawn else prompt.words[0]
        return super().begin(prompt, row)


@pytest.fixture
def served(served: Served) -> Served:
    return replace(served, samples_by_default=True)


@pytest.fixture
def runner() -> Drawing:
    return Drawing()


def test_answer_goes_on_on_a_cloud_that_never_heard_of_it(
    served: Served, tiny_bundle: Path, bundles: Path, node: CloudThread, runner: Drawing
) -> None:
    other = Drawing()
    other.release.set()
    with (
        cloud_thread(served, tiny_bundle, other) as another,
        faulty_link(node.address) as link,
        EdgeNode(link.address, bundles=bundles) as edge,
    ):
        texts = iter(edge.ask("drawn hold two", PICTURE))
        beginning = next(texts)
        link.lead_to(another.address)
        link.cut()
        text = beginning + "".join(texts)
    assert runner.seeds == other.seeds
    assert text == f"{runner.seeds[0]} hold two "


def test_seed_is_drawn_where_tokens_are_and_only_there(edge: EdgeNode, runner: Drawing) -> None:
    options: list[Any] = [{}, {"top_k": 4}, {"temperature": 0.0}, {"temperature": 0.5}, {"seed": 3}]
    for one in options:
        edge.ask("hi", PICTURE, **one).text()
    by_default, with_top_k, greedy, warm, given = runner.seeds
    assert len({by_default, with_top_k, warm} - {None}) == 3
    assert (greedy, given) == (None, 3)


def test_cloud_that_does_not_say_so_gets_no_seed(
    monkeypatch: pytest.MonkeyPatch, served: Served, tiny_bundle: Path, bundles: Path, runner: Drawing
) -> None:
    made = messages._model

    def of_old(*given: Any) -> pb.Model:
        model = made(*given)
        model.ClearField("samples_by_default")
        return model

    monkeypatch.setattr(messages, "_model", of_old)
    with cloud_thread(served, tiny_bundle, runner) as node, EdgeNode(node.address, bundles=bundles) as edge:
        edge.ask("hi", PICTURE).text()
    assert runner.seeds == [None]


@pytest.mark.usefixtures("always_asks")
def test_cloud_that_samples_from_its_next_start_on_is_heard(
    served: Served, tiny_bundle: Path, bundles: Path
) -> None:
    runners = Drawing(), Drawing()
    with (
        cloud_thread(replace(served, samples_by_default=False), tiny_bundle, runners[0]) as before,
        cloud_thread(served, tiny_bundle, runners[1]) as after,
        faulty_link(before.address) as link,
        EdgeNode(link.address, bundles=bundles) as edge,
    ):
        edge.ask("hi", PICTURE).text()
        link.lead_to(after.address)
        link.cut()
        edge.ask("hi", PICTURE).text()
    assert runners[0].seeds == [None]
    assert runners[1].seeds != [None]


def test_settings_that_are_given_stay() -> None:
    given = make_settings({"top_k": 7, "stop": ["."], "max_new_tokens": 9})
    drawn = seeded(given, samples_by_default=True)
    assert drawn.HasField("seed")
    assert not given.HasField("seed")
    drawn.ClearField("seed")
    assert drawn == given
