"""Edges as load: requests made beforehand by the edge's own code, sent over its own link, and when what came back."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Unpack

from edge_node.arms import Arm
from edge_node.asking import Sent
from edge_node.coding import Coded, code
from edge_node.given import GivenPicture
from edge_node.head import Head
from edge_node.link import CloudLink
from edge_node.media import ImageSource
from edge_node.wanted import Sampling, make_settings
from wire.codecs import parse_codec
from wire.errors import CleaveError
from wire.keys import input_key
from wire.manifest import MANIFEST_NAME, bundle_digest, load_manifest
from wire.v1 import inference_pb2 as pb


@dataclass(frozen=True, slots=True)
class Job:
    """One request, ready to be sent any number of times."""

    opening: pb.Open  # without an id
    payloads: tuple[bytes, ...]  # one per input
    after_s: float = 0.0  # when to send it
    leave_s: float | None = None  # how long after that to cancel it
    leave_tokens: int | None = None  # after how many tokens to cancel it
    hash_first: bool | None = False


@dataclass(slots=True)
class Outcome:
    """What became of a job. `arrivals` are (seconds, tokens) of each delta, on `time.perf_counter`."""

    request_id: str
    sent_s: float = 0.0
    ended_s: float = 0.0
    text: str = ""
    num_tokens: int = 0
    ending: str = ""  # "done", "left", or the error code's name
    cache: str = ""
    sent_bytes: int = 0
    arrivals: list[tuple[float, int]] = field(default_factory=list)

    @property
    def said(self) -> tuple[str, int]:
        """What must be equal to the answer alone."""
        return self.text, self.num_tokens


class JobMaker:
    """The edge's half of requests to one bundle: head and codec run here, once per picture, split point and codec.

    The bundle has one chain for pictures.
    """

    def __init__(self, bundle: Path) -> None:
        data = (bundle / MANIFEST_NAME).read_bytes()
        self.manifest = load_manifest(data)
        self.chain = self.manifest.chain("image")
        self._bundle = bundle
        self._digest = bundle_digest(data)
        self._head = Head(bundle, self.chain)
        self._coded: dict[tuple[bytes, int, str], Coded] = {}

    @property
    def num_split_points(self) -> int:
        return len(self.chain.split_points)

    def spread(self, count: int) -> list[int]:
        """Split points from the first to the last, as far apart as may be."""
        last = self.num_split_points - 1
        return [round(index * last / (count - 1)) for index in range(count)]

    def job(
        self,
        image: ImageSource,
        question: str,
        split: int,
        codec: str = "raw",
        **sampling: Unpack[Sampling],
    ) -> Job:
        """A question about a picture at an arm."""
        given = GivenPicture(image)
        key = input_key(given.data, self.chain.preprocessing_digest)
        place = (key, split, codec)
        if place not in self._coded:
            arm = Arm(self.chain, self.chain.input_shape.shape_id, split, parse_codec(codec))
            self._coded[place], _ = code(arm, self._head, given, self._bundle, key)
        coded = self._coded[place]
        opening = pb.Open(
            model=self.manifest.model,
            bundle_digest=self._digest,
            text=question,
            settings=make_settings(sampling),
            inputs=[coded.item],
        )
        return Job(opening, (coded.payload,))


@contextlib.asynccontextmanager
async def edges(address: str, count: int) -> AsyncIterator[list[CloudLink]]:
    """So many edges, each with a stream of its own that is open already."""
    links = [CloudLink(address) for _ in range(count)]
    try:
        for link in links:
            await link.connected()
        yield links
    finally:
        for link in links:
            await link.close()


async def ask(link: CloudLink, job: Job, request_id: str) -> Outcome:
    """Sends one job at its time and hears it to its end."""
    outcome = Outcome(request_id)
    opening = pb.Open()
    opening.CopyFrom(job.opening)
    opening.request_id = request_id
    if job.after_s:
        await asyncio.sleep(job.after_s)
    outcome.sent_s = time.perf_counter()
    try:
        async with asyncio.timeout(job.leave_s):
            await _hear(link, opening, job, outcome)
    except TimeoutError:
        outcome.ending = "left"
    except CleaveError as error:
        outcome.ending = error.code.name.lower()
    outcome.ended_s = time.perf_counter()
    return outcome


async def _hear(link: CloudLink, opening: pb.Open, job: Job, outcome: Outcome) -> None:
    sent = Sent()
    try:
        async with aclosing(link.ask(opening, job.payloads, sent, hash_first=job.hash_first)) as downs:
            async for down in downs:
                kind = down.WhichOneof("message")
                if kind == "deltas":
                    now = time.perf_counter()
                    for delta in down.deltas.deltas:
                        outcome.text += delta.text
                        outcome.arrivals.append((now, delta.num_tokens))
                    if job.leave_tokens and sum(num for _, num in outcome.arrivals) >= job.leave_tokens:
                        outcome.ending = "left"
                        return
                elif kind == "done":
                    outcome.num_tokens = down.done.generated_tokens
                    outcome.cache = pb.Cache.Name(down.done.cache).removeprefix("CACHE_").lower()
                    outcome.ending = "done"
    finally:
        outcome.sent_bytes = sent.message_bytes


async def at_once(links: Sequence[CloudLink], jobs: Sequence[Job], run: str) -> list[Outcome]:
    """All jobs, each on the next edge; their ids begin with `run`."""
    asked = (ask(links[index % len(links)], job, f"{run}-{index}") for index, job in enumerate(jobs))
    return list(await asyncio.gather(*asked))


async def in_turn(link: CloudLink, jobs: Iterable[Job], run: str) -> list[Outcome]:
    """One job after the other."""
    return [await ask(link, job, f"{run}-{index}") for index, job in enumerate(jobs)]


async def closed_loop(links: Sequence[CloudLink], jobs: Sequence[Job], run: str) -> list[Outcome]:
    """Every edge takes the next of its own jobs (one of every len(links)) as soon as the last has ended."""
    count = len(links)

    async def edge(number: int) -> list[Outcome]:
        own = range(number, len(jobs), count)
        return [await ask(links[number], jobs[index], f"{run}-{index}") for index in own]

    by_edge = await asyncio.gather(*(edge(number) for number in range(count)))
    return [by_edge[index % count][index // count] for index in range(len(jobs))]


def steady_tokens_per_s(outcomes: Sequence[Outcome]) -> float:
    """Tokens per second between the time when all have their first text and the time when the first has its last."""
    begins = max(outcome.arrivals[0][0] for outcome in outcomes)
    ends = min(outcome.arrivals[-1][0] for outcome in outcomes)
    count = sum(num for outcome in outcomes for at, num in outcome.arrivals if begins < at <= ends)
    return count / (ends - begins) if ends > begins else 0.0


def tokens_per_s(outcomes: Sequence[Outcome]) -> float:
    """All tokens, from the first that was sent to the last end."""
    took_s = max(one.ended_s for one in outcomes) - min(one.sent_s for one in outcomes)
    return sum(one.num_tokens for one in outcomes) / took_s
