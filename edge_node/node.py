"""The edge node: a question and a picture in, text out. Asynchronous here; edge_node/blocking.py wraps it."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Unpack

from edge_node.bundle_store import BundleStore, Progress, StoredBundle, default_folder
from edge_node.coding import Coded, CodingTimes, choose_arm, code
from edge_node.head import Head
from edge_node.link import CONNECT_TIMEOUT_S, CloudLink, Sent
from edge_node.media import ImageSource, PictureSource, read_source
from edge_node.memory import DEFAULT_BYTES, FeatureMemory, Place
from edge_node.report import AnswerReport
from edge_node.wanted import Sampling, Wanted, make_settings
from wire.codecs import Codec
from wire.errors import BadInput, IncompatibleBundle, MalformedMessage, UnknownModel
from wire.keys import input_key
from wire.v1 import inference_pb2 as pb

_FINISH_REASONS = {
    pb.FINISH_REASON_STOP_TOKEN: "stop_token",
    pb.FINISH_REASON_STOP_STRING: "stop_string",
    pb.FINISH_REASON_LENGTH: "length",
}
_CACHES = {pb.CACHE_FEATURES: "features", pb.CACHE_ANSWER: "answer"}


@dataclass(frozen=True, slots=True)
class _Served:
    """A model that the cloud serves, ready to run here."""

    model: pb.Model
    bundle: StoredBundle
    head: Head


class AsyncEdgeNode:
    """One device. Needs only the cloud's address: it fetches the head from there and keeps it on disk.

    `bundles` is the folder to keep bundles in ($CLEAVE_CACHE or the user's cache by default); `num_threads`
    bounds the head's threads (0: all cores); `memory_bytes` of coded features are kept for further questions
    about the same pictures; `progress` hears of files being fetched.
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
    ) -> None:
        host, _, port = cloud.rpartition(":")
        if not host or not port.isdigit():
            raise BadInput(f"{cloud!r} is no address; give host:port, such as 127.0.0.1:50051")
        self._address = cloud
        self._timeout_s = connect_timeout_s
        self._store = BundleStore(bundles or default_folder(), progress)
        self._num_threads = num_threads
        self._memory = FeatureMemory(memory_bytes)
        self._link: CloudLink | None = None
        self._served: dict[str, _Served] = {}
        self._describing = asyncio.Lock()

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
        question: str,
        image: ImageSource,
        *,
        model: str | None = None,
        split: int | None = None,
        codec: str | None = None,
        deadline_s: float | None = None,
        hash_first: bool | None = None,
        priority: int = 0,
        **sampling: Unpack[Sampling],
    ) -> AsyncAnswer:
        """Asks about a picture; iterate over the result for the text as it comes.

        `split` and `codec` choose the arm (the bundle's default one where both are None). `hash_first` asks whether
        the cloud has the features, or the answer, before they are sent: one round trip for what may be a whole
        upload. None does so where the device has met the picture before, or its features are large. Of `priority`
        9 goes first. The rest says how tokens are chosen: see `Sampling`. Raises, while iterated, the CleaveError
        that says what went wrong and whose fault it is.
        """
        settings = make_settings(sampling)
        wanted = Wanted(question, image, model, split, codec, settings, deadline_s, hash_first, priority)
        report = AnswerReport(question)
        return AsyncAnswer(self._answer(wanted, report), report)

    async def _answer(self, wanted: Wanted, report: AnswerReport) -> AsyncGenerator[str, None]:
        started = time.perf_counter()
        source = await asyncio.to_thread(read_source, wanted.image)
        served = await self._model(wanted.model)
        split, codec = choose_arm(served.model, served.bundle.manifest, wanted.split, wanted.codec)
        key = input_key(source.data, served.bundle.manifest.preprocessing_digest)
        place = Place(served.bundle.digest, key, split, str(codec))
        hash_first, times = wanted.hash_first, CodingTimes()
        coded = self._memory.get(place)
        if coded is None:
            coded, times = await self._code(served, source, key, split, codec)
            self._memory.put(place, coded)
        elif hash_first is None:
            # The cloud was asked about this picture, too.
            hash_first = True
        report.model, report.split_point, report.codec = served.model.name, split, str(codec)
        report.split_label, report.feature_bytes = coded.label, len(coded.payload)
        report.ms.update(encode=times.encode_s * 1e3, codec=times.codec_s * 1e3)
        opening = _opening(served, wanted, coded.item)
        async with aclosing(self._texts(opening, coded.payload, hash_first, report, started)) as texts:
            async for text in texts:
                yield text
        if coded.jpeg_bytes is None:
            coded.jpeg_bytes = await asyncio.to_thread(lambda: source.picture().jpeg_bytes())
        report.jpeg_bytes = coded.jpeg_bytes

    async def _code(
        self, served: _Served, source: PictureSource, key: bytes, split: int, codec: Codec
    ) -> tuple[Coded, CodingTimes]:
        """The picture's features, made here; fetches the stages of the head that are missing."""
        manifest = served.bundle.manifest
        picture = await asyncio.to_thread(source.picture)
        paths = [stage.path for stage in manifest.chains[0].stages[:split]]
        await self._store.need(served.bundle, paths, self._cloud().fetch)
        await asyncio.to_thread(served.head.load, split)
        return await asyncio.to_thread(code, manifest, served.head, picture, key, split, codec)

    async def _texts(
        self, opening: pb.Open, payload: bytes, hash_first: bool | None, report: AnswerReport, started: float
    ) -> AsyncGenerator[str, None]:
        """Sends the request; what the cloud says of it goes to the report, and its text to the caller."""
        asked = time.perf_counter()
        sent = Sent()
        async with aclosing(self._cloud().ask(opening, payload, sent, hash_first=hash_first)) as downs:
            try:
                async for down in downs:
                    now = time.perf_counter()
                    match down.WhichOneof("message"):
                        case "ack" if down.ack.received_bytes == len(payload):
                            report.ms["upload"] = (now - asked) * 1e3
                        case "deltas":
                            report.ms.setdefault("first_token", (now - started) * 1e3)
                            for delta in down.deltas.deltas:
                                report.text += delta.text
                                yield delta.text
                        case "done":
                            report.ms["total"] = (now - started) * 1e3
                            report.ms.setdefault("first_token", report.ms["total"])
                            _note_done(report, down.done)
            except IncompatibleBundle:
                # The cloud serves another bundle by now: the next question asks which.
                self._served.clear()
                raise
            finally:
                report.uploaded_bytes, report.sent_bytes = sent.payload_bytes, sent.message_bytes

    async def _model(self, name: str | None) -> _Served:
        async with self._describing:
            if not self._served:
                for model in (await self._cloud().describe()).models:
                    bundle = await self._store.open(model.bundle_digest, self._cloud().fetch)
                    _require_same(model, bundle)
                    head = Head(bundle.folder, bundle.manifest.chains[0], self._num_threads)
                    self._served[model.name] = _Served(model, bundle, head)
        wanted = name if name is not None else next(iter(self._served), "")
        if wanted not in self._served:
            raise UnknownModel(
                f"{self._address} serves {', '.join(self._served) or 'no model'}, not {wanted!r}"
            )
        return self._served[wanted]

    def _cloud(self) -> CloudLink:
        if self._link is None:
            self._link = CloudLink(self._address, self._timeout_s)
        return self._link


class AsyncAnswer:
    """An answer as it comes: iterate for the text; `report` is complete once the text has ended.

    Whoever leaves it early closes it (`contextlib.aclosing` does), so that the cloud stops, too.
    """

    def __init__(self, texts: AsyncGenerator[str, None], report: AnswerReport) -> None:
        self._texts = texts
        self.report = report

    def __aiter__(self) -> AsyncIterator[str]:
        return self._texts

    async def text(self) -> str:
        """Waits for the whole text."""
        async for _ in self._texts:
            pass
        return self.report.text

    async def aclose(self) -> None:
        """Cancels what has not come yet."""
        await self._texts.aclose()


def _require_same(model: pb.Model, bundle: StoredBundle) -> None:
    described = [len(chain.split_points) for chain in model.chains]
    listed = [len(chain.split_points) for chain in bundle.manifest.chains]
    if described != listed:
        raise MalformedMessage(
            f"the cloud describes {described} split points of {model.name}, and its bundle lists {listed}"
        )


def _opening(served: _Served, wanted: Wanted, item: pb.Input) -> pb.Open:
    return pb.Open(
        request_id=secrets.token_hex(8),
        model=served.model.name,
        bundle_digest=served.bundle.digest,
        text=wanted.question,
        settings=wanted.settings,
        deadline_s=wanted.deadline_s or 0.0,
        inputs=[item],
        priority=wanted.priority,
    )


def _note_done(report: AnswerReport, done: pb.Done) -> None:
    report.finish_reason = _FINISH_REASONS.get(done.finish_reason, "")
    report.cache = _CACHES.get(done.cache, "miss")
    report.prompt_tokens, report.generated_tokens = done.prompt_tokens, done.generated_tokens
    times = done.times
    report.ms.update(
        queue=times.queue_s * 1e3,
        payload=times.decode_payload_s * 1e3,
        tail=times.tail_s * 1e3,
        prefill=times.prefill_s * 1e3,
        decode=times.decode_s * 1e3,
    )
