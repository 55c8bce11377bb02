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
from typing import Any
from zlib import crc32

from numpy.typing import NDArray

from edge_node.bundle_store import BundleStore, Progress, StoredBundle, default_folder
from edge_node.head import Head
from edge_node.link import CONNECT_TIMEOUT_S, CloudLink
from edge_node.media import ImageSource, Picture, load_picture
from edge_node.preprocess import preprocess
from edge_node.report import AnswerReport
from edge_node.wanted import Wanted, make_settings
from wire.codecs import Codec, encode, parse_codec
from wire.errors import BadInput, IncompatibleBundle, MalformedMessage, UnknownModel, UnknownSplitPoint
from wire.keys import input_key
from wire.tensors import make_headers
from wire.v1 import inference_pb2 as pb

Array = NDArray[Any]

_FINISH_REASONS = {pb.FINISH_REASON_STOP_TOKEN: "stop_token", pb.FINISH_REASON_LENGTH: "length"}
_CACHES = {pb.CACHE_FEATURES: "features", pb.CACHE_ANSWER: "answer"}


@dataclass(frozen=True, slots=True)
class _Served:
    """A model that the cloud serves, ready to run here."""

    model: pb.Model
    bundle: StoredBundle
    head: Head


@dataclass(frozen=True, slots=True)
class _Coded:
    """Features on their way: the payload and how long it took to make."""

    opening: pb.Open
    payload: bytes
    label: str
    encode_s: float
    codec_s: float


class AsyncEdgeNode:
    """One device. Needs only the cloud's address: it fetches the head from there and keeps it on disk.

    `bundles` is the folder to keep bundles in ($CLEAVE_CACHE or the user's cache by default); `num_threads`
    bounds the head's threads (0: all cores); `progress` hears of files being fetched.
    """

    def __init__(
        self,
        cloud: str,
        *,
        bundles: Path | None = None,
        num_threads: int = 0,
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

    def ask(
        self,
        question: str,
        image: ImageSource,
        *,
        model: str | None = None,
        split: int | None = None,
        codec: str | None = None,
        max_new_tokens: int | None = None,
        temperature: float | None = None,
        seed: int | None = None,
        deadline_s: float | None = None,
    ) -> AsyncAnswer:
        """Asks about a picture; iterate over the result for the text as it comes.

        `split` and `codec` choose the arm (the bundle's default one where both are None). Raises, while
        iterated, the CleaveError that says what went wrong and whose fault it is.
        """
        settings = make_settings(max_new_tokens, temperature, seed)
        wanted = Wanted(question, image, model, split, codec, settings, deadline_s)
        report = AnswerReport(question)
        return AsyncAnswer(self._answer(wanted, report), report)

    async def _answer(self, wanted: Wanted, report: AnswerReport) -> AsyncGenerator[str, None]:
        started = time.perf_counter()
        picture = await asyncio.to_thread(load_picture, wanted.image)
        served = await self._model(wanted.model)
        split, codec = _choose_arm(served, wanted.split, wanted.codec)
        paths = [stage.path for stage in served.bundle.manifest.chains[0].stages[:split]]
        await self._store.need(served.bundle, paths, self._cloud().fetch)
        await asyncio.to_thread(served.head.load, split)
        coded = await asyncio.to_thread(_code, served, wanted, picture, split, codec)
        report.model, report.split_point, report.codec = served.model.name, split, str(codec)
        report.split_label, report.uploaded_bytes = coded.label, len(coded.payload)
        report.ms.update(encode=coded.encode_s * 1e3, codec=coded.codec_s * 1e3)
        async with aclosing(self._texts(coded, report, started)) as texts:
            async for text in texts:
                yield text
        report.jpeg_bytes = await asyncio.to_thread(picture.jpeg_bytes)

    async def _texts(self, coded: _Coded, report: AnswerReport, started: float) -> AsyncGenerator[str, None]:
        """Sends the request; what the cloud says of it goes to the report, and its text to the caller."""
        sent = time.perf_counter()
        async with aclosing(self._cloud().ask(coded.opening, coded.payload)) as downs:
            try:
                async for down in downs:
                    now = time.perf_counter()
                    match down.WhichOneof("message"):
                        case "ack" if down.ack.received_bytes == len(coded.payload):
                            report.ms["upload"] = (now - sent) * 1e3
                        case "deltas":
                            report.ms.setdefault("first_token", (now - started) * 1e3)
                            for delta in down.deltas.deltas:
                                report.text += delta.text
                                yield delta.text
                        case "done":
                            report.ms["total"] = (now - started) * 1e3
                            _note_done(report, down.done)
            except IncompatibleBundle:
                # The cloud serves another bundle by now: the next question asks which.
                self._served.clear()
                raise

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


def _choose_arm(served: _Served, split: int | None, codec: str | None) -> tuple[int, Codec]:
    """What the caller named, and the bundle's default arm for the rest."""
    manifest, points = served.bundle.manifest, served.model.chains[0].split_points
    chosen = manifest.default_arm.split_point if split is None else split
    if not 0 <= chosen < len(points):
        raise UnknownSplitPoint(
            f"{served.model.name} has the split points 0 to {len(points) - 1}, not {chosen}; see `cleave describe`"
        )
    if not points[chosen].served:
        raise UnknownSplitPoint(f"the cloud does not serve split point {chosen}: {points[chosen].reason}")
    return chosen, parse_codec(codec or manifest.default_arm.codec)


def _code(served: _Served, wanted: Wanted, picture: Picture, split: int, codec: Codec) -> _Coded:
    """Preprocessing, head and codec; the Open that announces their result."""
    manifest = served.bundle.manifest
    point = manifest.chains[0].split_points[split]
    started = time.perf_counter()
    pixels = preprocess(manifest.preprocessing, picture.image)
    features = served.head.run(pixels, split)
    encoded = time.perf_counter()
    payloads = encode(codec, features, point.specs())
    payload = b"".join(payloads)
    coded = time.perf_counter()
    item = pb.Input(
        modality=pb.MODALITY_IMAGE,
        input_key=input_key(picture.data, manifest.preprocessing_digest),
        image=pb.ImageSize(width=picture.width, height=picture.height),
        shape_id=manifest.chains[0].input_shape.shape_id,
        split_point=split,
        codec_id=codec.codec_id,
        setting=codec.setting,
        tensors=make_headers(point.specs(), [len(part) for part in payloads]),
        total_bytes=len(payload),
        crc32=crc32(payload),
    )
    opening = pb.Open(
        request_id=secrets.token_hex(8),
        model=served.model.name,
        bundle_digest=served.bundle.digest,
        text=wanted.question,
        settings=wanted.settings,
        deadline_s=wanted.deadline_s or 0.0,
        inputs=[item],
    )
    return _Coded(opening, payload, point.label, encoded - started, coded - encoded)


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
