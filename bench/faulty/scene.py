"""Where faults happen: a cloud process, a link that breaks, an edge behind it, and questions with known answers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.faulty.cloud import Cloud, running
from bench.faulty.link import FaultyLink, faulty_link
from bench.faulty.sabotage import Sabotage
from bench.faulty.watched import Seen, Watched
from edge_node.blocking import EdgeNode

QUESTION = "what is this?"
# Long enough to be broken off anywhere.
LONG: dict[str, Any] = {"split": 0, "codec": "raw", "max_new_tokens": 200, "min_new_tokens": 200}
SHORT: dict[str, Any] = {"split": 0, "codec": "raw", "max_new_tokens": 8}


@dataclass(slots=True)
class Scene:
    """`pictures` are several, whose features together go in chunks. The cloud keeps no answers, so that all is work."""

    model: str
    bundle: Path
    cloud: Cloud
    link: FaultyLink
    edge: EdgeNode
    folder: Path  # where edges keep bundles: "bundles" in what a command calls its cache
    pictures: Sequence[Path]
    before: dict[str, float] = field(default_factory=dict)
    _known: dict[str, str] = field(default_factory=dict)

    def expected(self, num_pictures: int = 1, **options: Any) -> str:
        """The undisturbed answer, asked once."""
        key = f"{num_pictures} {options}"
        if key not in self._known:
            self._known[key] = self.ask(num_pictures, **options).end().text
            if not self._known[key]:
                raise AssertionError("the undisturbed question has no answer")
        return self._known[key]

    def ask(
        self, num_pictures: int = 1, edge: EdgeNode | None = None, question: str = QUESTION, **options: Any
    ) -> Watched:
        """Asks, and watches."""
        asking = edge or self.edge
        return Watched(asking.ask(question, images=self.pictures[:num_pictures], **options))

    @contextlib.contextmanager
    def with_edge(self, edge: EdgeNode) -> Iterator[Scene]:
        """The same scene for another edge, which has asked once."""
        self.ask(edge=edge, **SHORT).end()
        yield replace(self, edge=edge)

    def settle(self) -> None:
        """Before a fault: the known answers are asked for, then what the cloud holds is counted."""
        self.expected(**LONG)
        self.expected(**SHORT)
        self.before = self.cloud.counts()

    def after(self, seen: Seen) -> Seen:
        """With what the next request shows, and what the cloud holds then."""
        following = self.ask(**SHORT).end()
        is_wrong = following.error is None and following.text != self.expected(**SHORT)
        return replace(
            seen,
            num_wrong=seen.num_wrong + is_wrong,
            num_lost=seen.num_lost + (following.error is not None),
            left={**seen.left, **self.cloud.above(self.before)},
        )


@contextlib.contextmanager
def scene(
    model: str,
    bundle: Path,
    folder: Path,
    pictures: Sequence[Path],
    *arguments: str,
    sabotage: Sabotage | None = None,
) -> Iterator[Scene]:
    """A cloud with these arguments more, and an edge that reaches it over a link."""
    with (
        running(model, bundle, "--cache-mb", "0", *arguments, sabotage=sabotage) as cloud,
        faulty_link(cloud.address) as link,
        EdgeNode(link.address, bundles=folder) as edge,
    ):
        made = Scene(model, bundle, cloud, link, edge, folder, pictures)
        made.settle()
        yield made
