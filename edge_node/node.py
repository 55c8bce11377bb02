"""The edge node: questions, pictures and sounds in, text out. Asynchronous here; edge_node/blocking.py wraps it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from edge_node.addresses import check_address
from edge_node.answer import AsyncAnswer
from edge_node.bundle_store import BundleStore, Progress, default_folder
from edge_node.credentials import Credentials
from edge_node.edge_id import check_edge_id, kept_edge_id
from edge_node.encoding import Encoder
from edge_node.given import SoundSource
from edge_node.hearing import Speech, hear, pieces, read_recording, sound_rate
from edge_node.link import CONNECT_TIMEOUT_S, CloudLink
from edge_node.listening import Heard
from edge_node.media import ImageSource
from edge_node.memory import DEFAULT_BYTES, FeatureMemory
from edge_node.models import Models
from edge_node.patience import RECONNECT_S, Patience
from edge_node.report import AnswerReport
from edge_node.requests import Requests
from edge_node.retrieval import Hit, hits_of, vector_of
from edge_node.tracing import UNTRACED, Tracer
from edge_node.trust import BundleTrust
from edge_node.wanted import (
    Codecs,
    EmbedOptions,
    HearOptions,
    Inputs,
    Sampling,
    Splits,
    Wanted,
    index_add,
    index_search,
    make_settings,
)
from wire.v1 import inference_pb2 as pb


class AsyncEdgeNode:
    """One device. Needs only the cloud's address: it fetches the heads from there and keeps them on disk.

    `bundles` is the folder to keep bundles in ($CLEAVE_CACHE or the user's cache by default); `num_threads`
    bounds a head's threads (0: all cores); `memory_bytes` of coded features are kept for further questions
    about the same inputs; `progress` hears of files being fetched; `credentials` are the environment's by default;
    `trust` says which bundles may run here. `cloud` may list several, as
    "10.0.0.1:50051,10.0.0.2:50051", by IP address: the first that answers is used, the next when it is lost.

    A connection that is lost in the middle of an answer is made again, and the answer goes on where it was: for
    `reconnect_s` without progress, and within the request's deadline. With `waits_when_busy` a cloud that is
    overloaded, or has a limit, is asked again when it says. A file that is fetched goes on as an answer does, and waits
    for a busy cloud in any case. `edge_id` is made and kept beside the bundles without one.
    `tracer` hears where each request's time went (`cleave.otlp`).
    """

    def __init__(
        self,
        cloud: str,
        *,
        bundles: Path | None = None,
        num_threads: int = 0,
        memory_bytes: int = DEFAULT_BYTES,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        progress: Progress | None = None,
        reconnect_s: float = RECONNECT_S,
        waits_when_busy: bool = False,
        edge_id: str | None = None,
        credentials: Credentials | None = None,
        trust: BundleTrust | None = None,
        tracer: Tracer = UNTRACED,
    ) -> None:
        self._address = check_address(cloud)
        self._timeout_s = connect_timeout_s
        self._credentials = Credentials.from_environment() if credentials is None else credentials
        self._edge_id = check_edge_id(edge_id) if edge_id is not None else None
        self._folder = bundles or default_folder()
        store = BundleStore(self._folder, progress)
        self._models = Models(store, num_threads, trust or BundleTrust.from_environment())
        encoder = Encoder(store, FeatureMemory(memory_bytes))
        self._patience = Patience(reconnect_s, waits_when_busy)
        self._requests = Requests(self._models, encoder, self._cloud, self._patience, tracer)
        self._link: CloudLink | None = None

    async def __aenter__(self) -> AsyncEdgeNode:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the link; what was being asked is cancelled."""
        if self._link is not None:
            await self._link.close()
            self._link = None

    async def describe(self) -> pb.DescribeReply:
        """The cloud's models, split points, codecs and limits."""
        return await self._cloud().describe()

    async def metrics(self) -> str:
        """The cloud's counts and measurements, in Prometheus' text format (docs/metrics.md)."""
        return await self._cloud().metrics()

    def ask(
        self,
        question: str = "",
        image: ImageSource | None = None,
        *,
        images: Sequence[ImageSource] = (),
        sound: SoundSource | None = None,
        sounds: Sequence[SoundSource] = (),
        model: str | None = None,
        split: Splits = None,
        codec: Codecs = None,
        deadline_s: float | None = None,
        hash_first: bool | None = None,
        priority: int = 0,
        **sampling: Unpack[Sampling],
    ) -> AsyncAnswer:
        """Asks about pictures and sounds; iterate over the result for the text as it comes.

        They go in the order given, pictures first; leave the question empty for a model that takes none. `split` and
        `codec` choose the arm (the bundle's default where both are None), one for all inputs or a list with one for
        each; a media codec such as "jpeg:90" or "as-is" sends the input itself. `hash_first` asks whether the cloud has
        the features, or the answer, before they are sent: one round trip for what may be a whole upload. None does so
        where the device has met all inputs before, or their features are large. Of `priority` 9 goes first. The rest
        says how tokens are chosen: see `Sampling`. Raises, while iterated, the CleaveError that says what went wrong
        and whose fault it is.
        """
        wanted = Wanted(
            Inputs.of(image, sound, None, images, sounds), split, codec, question, model, make_settings(sampling),
            deadline_s=deadline_s, hash_first=hash_first, priority=priority,
        )  # fmt: skip
        report = AnswerReport(question)
        return AsyncAnswer(self._requests.texts(wanted, report), report)

    async def listen(
        self,
        speech: Speech,
        rate_hz: int,
        *,
        every_s: float = 0.5,
        model: str | None = None,
        **options: Unpack[HearOptions],
    ) -> AsyncGenerator[Heard, None]:
        """What a model hears of one channel of speech at `rate_hz`, while it comes: text that is revised, then final.

        What is being said is asked about again after every `every_s` of it; at pauses its text stays. Raises what
        `ask` raises.
        """
        served = await self._models.get(model, self._cloud())
        manifest = served.bundle.manifest
        heard_hz = sound_rate(manifest)

        async def ask(samples: NDArray[np.float32]) -> str:
            return await self.ask(sound=(samples, heard_hz), model=model, **options).text()

        async with aclosing(hear(ask, manifest, speech, rate_hz, every_s)) as heard:
            async for one in heard:
                yield one

    async def transcribe(
        self, sound: SoundSource, *, model: str | None = None, **options: Unpack[HearOptions]
    ) -> str:
        """The text of a recording of any length: cut at its pauses, all pieces at once."""
        recording = await asyncio.to_thread(read_recording, sound)
        text = ""
        speech = self.listen(
            pieces(recording), recording.sample_rate_hz, every_s=math.inf, model=model, **options
        )
        async with aclosing(speech) as heard:
            async for one in heard:
                text = one.text
        return text

    async def embed(
        self,
        *,
        image: ImageSource | None = None,
        sound: SoundSource | None = None,
        text: str | None = None,
        **options: Unpack[EmbedOptions],
    ) -> NDArray[np.float32]:
        """The vector that a dual encoder makes of one input, [dim], of length 1."""
        inputs = Inputs.of(image, sound, text)
        return vector_of(await self._requests.embedded(Wanted(inputs, embed=pb.Embed(), **options)))

    async def index_add(
        self,
        index: str,
        item_id: str,
        *,
        image: ImageSource | None = None,
        sound: SoundSource | None = None,
        text: str | None = None,
        **options: Unpack[EmbedOptions],
    ) -> int:
        """Keeps one input's embedding on the cloud under this name; how many the index holds then."""
        inputs = Inputs.of(image, sound, text)
        embedded = await self._requests.embedded(Wanted(inputs, embed=index_add(index, [item_id]), **options))
        return embedded.num_indexed

    async def search(
        self,
        index: str,
        *,
        image: ImageSource | None = None,
        sound: SoundSource | None = None,
        text: str | None = None,
        num_hits: int = 10,
        **options: Unpack[EmbedOptions],
    ) -> list[Hit]:
        """What an index on the cloud holds nearest to one input, the nearest first."""
        inputs = Inputs.of(image, sound, text)
        return hits_of(
            await self._requests.embedded(Wanted(inputs, embed=index_search(index, num_hits), **options))
        )

    def _cloud(self) -> CloudLink:
        if self._link is None:
            edge_id = self._edge_id or kept_edge_id(self._folder)
            self._link = CloudLink(self._address, self._timeout_s, self._credentials, edge_id, self._patience)
        return self._link
