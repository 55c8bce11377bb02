"""What a hostile cloud may say, by name: one clear error at the edge, in bounded time, memory and upload."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

import grpc
import numpy as np
import pytest
from PIL import Image

from edge_node.answer import texts_of
from edge_node.bundle_check import _fetched
from edge_node.bundle_store import BundleStore
from edge_node.inbox import Inbox
from edge_node.link import CloudLink, Sent
from edge_node.models import Models
from edge_node.patience import Patience, Tries
from edge_node.preprocess import preprocess
from edge_node.report import AnswerReport
from tests.kit.clouds import limits, settle
from wire.errors import (
    BadInput,
    CleaveError,
    Denied,
    Internal,
    MalformedMessage,
    TooLarge,
    Unavailable,
    from_failed,
)
from wire.limits import MAX_ANSWER_CHARS, MAX_UNREAD_BYTES
from wire.preprocessing import (
    CenterCrop,
    ImagePreprocessing,
    Pad,
    Patches,
    Resize,
    ResizeToArea,
    Step,
    TilesOfBestFit,
    TilesOfBestRatio,
)
from wire.sound_preprocessing import (
    CosineTransform,
    FitFrames,
    FitSamples,
    MelBank,
    MelSpectrogram,
    SoundPreprocessing,
    SoundStep,
)
from wire.v1 import inference_pb2 as pb
from wire.v1 import inference_pb2_grpc as pb_grpc

PAYLOADS = [bytes(100_000), bytes(50)]
DONE = pb.Down(done=pb.Done(request_id="r1"))


class Says(pb_grpc.InferenceServicer):
    """Welcomes, and says this as soon as something is asked."""

    def __init__(self, downs: Iterable[pb.Down], **changes: Any) -> None:
        self._downs = downs
        self._limits = limits(**changes)
        self.num_chunks = 0

    async def Stream(self, request_iterator: AsyncIterator[pb.Up], context: Any) -> AsyncIterator[pb.Down]:
        await anext(request_iterator)
        yield pb.Down(welcome=pb.Welcome(protocol_version=1, limits=self._limits.to_wire()))
        async for up in request_iterator:
            self.num_chunks += up.HasField("chunk")
            if up.HasField("open"):
                for down in self._downs:
                    yield down


@contextlib.asynccontextmanager
async def linked(cloud: Says) -> AsyncIterator[CloudLink]:
    server = grpc.aio.server()
    pb_grpc.add_InferenceServicer_to_server(cloud, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    link = CloudLink(f"127.0.0.1:{port}")
    try:
        yield link
    finally:
        await link.close()
        await server.stop(0)


def asked(cloud: Says) -> AnswerReport:
    """What one question to it led to."""
    report = AnswerReport("?")

    async def run() -> None:
        opening = pb.Open(request_id="r1", inputs=[pb.Input(), pb.Input()])
        async with linked(cloud) as link:
            downs: AsyncGenerator[pb.Down, None] = link.ask(opening, PAYLOADS, Sent(), hash_first=True)
            async with aclosing(downs), aclosing(texts_of(downs, [100_000, 50], report, 0.0)) as texts:
                async for _ in texts:
                    pass

    settle(run())
    return report


def need(index: int, start: int = 0) -> pb.Down:
    return pb.Down(need=pb.Need(request_id="r1", input_index=index, from_offset=start))


def said(text: str, index: int = 0) -> pb.Down:
    delta = pb.Delta(request_id="r1", text=text, token_index=index, num_tokens=1)
    return pb.Down(deltas=pb.DeltaBatch(deltas=[delta]))


def test_cloud_that_takes_no_chunk_is_one_clear_error() -> None:
    with pytest.raises(MalformedMessage, match="chunks of 0 bytes"):
        asked(Says([need(0), DONE], max_chunk_bytes=0))


def test_cloud_that_takes_huge_chunks_gets_none_above_the_protocols_own_limit() -> None:
    cloud = Says([need(0), DONE], max_chunk_bytes=2**32 - 1)
    asked(cloud)
    assert cloud.num_chunks == 2


def test_cloud_that_needs_an_input_again_and_again_gets_it_once() -> None:
    cloud = Says(itertools.repeat(need(0)))
    with pytest.raises(MalformedMessage, match="needs input 0 of 2 again"):
        asked(cloud)
    assert cloud.num_chunks <= 2


@pytest.mark.parametrize("index", [2, 2**32 - 1])
def test_input_that_the_request_does_not_have_is_not_sent(index: int) -> None:
    with pytest.raises(MalformedMessage, match=f"needs input {index} of 2"):
        asked(Says([need(index)]))


def test_offset_past_the_end_sends_nothing() -> None:
    cloud = Says([need(0, 2**64 - 1), DONE])
    asked(cloud)
    assert cloud.num_chunks == 0


def test_answer_without_end_ends() -> None:
    with pytest.raises(TooLarge, match=f"more than {MAX_ANSWER_CHARS:,} characters"):
        asked(Says(said("x" * 500_000, index) for index in itertools.count()))


def test_what_nobody_reads_ends_its_request_alone() -> None:
    inbox, message = Inbox(), said("x" * 1_000_000)
    kept = list(itertools.takewhile(lambda _: inbox.put(message) is message, range(1000)))
    assert len(kept) == MAX_UNREAD_BYTES // 1_000_600

    async def read() -> list[object]:
        return [await inbox.get() for _ in range(len(kept) + 1)]

    *messages, last = settle(read())
    assert messages == [message] * len(kept)
    assert isinstance(last, TooLarge)
    assert inbox.put(message) is message  # there is room again


def test_many_small_messages_that_nobody_reads_are_counted_with_what_they_take() -> None:
    inbox, message = Inbox(), said("")
    count = sum(1 for _ in itertools.takewhile(lambda _: inbox.put(message) is message, itertools.count()))
    assert count <= MAX_UNREAD_BYTES // 512


def test_unknown_messages_and_those_of_nobody_are_passed_over() -> None:
    strays = [
        pb.Down(),
        pb.Down(welcome=pb.Welcome()),
        pb.Down(ack=pb.Ack(request_id="other")),
        pb.Down(ack=pb.Ack(request_id="r1", input_index=2**32 - 1, received_bytes=2**64 - 1)),
        *(pb.Down(have=pb.Have(request_id="r1", what=2, input_index=index)) for index in range(5000)),
        pb.Down(have=pb.Have(request_id="r1", what=9)),  # type: ignore[arg-type]
        pb.Down(failed=pb.Failed(request_id="other")),
    ]
    assert asked(Says([*strays, said("yes"), DONE])).text == "yes"


@pytest.mark.parametrize("again_s", [float("nan"), float("inf"), -1.0])
def test_time_to_wait_that_is_none_is_not_waited(again_s: float) -> None:
    error = from_failed(pb.Failed(code=pb.ERROR_CODE_OVERLOADED, retry_after_s=again_s))
    assert error.retry_after_s is None


def test_sentence_that_moves_the_cursor_is_shown_on_one_line() -> None:
    sentence = "done\r\n\x1b[2J\x1b]0;title\x07 error:\u202e none\n\n" + "x" * 5000
    error = from_failed(pb.Failed(code=999, message=sentence))  # type: ignore[arg-type]
    assert isinstance(error, Internal)
    assert str(error).isprintable()
    assert str(error).startswith("done [2J ]0;title error: none xxx")
    assert len(str(error)) <= 2000


@pytest.mark.parametrize("told_s", [0.0, 1e-9])
def test_cloud_that_wants_to_be_asked_again_at_once_is_not_asked_in_a_loop(told_s: float) -> None:
    tries = Tries(Patience(), None)
    waits = [
        tries.wait_s(Unavailable("again", retry_after_s=told_s), float(now_s), 0.0, is_lost=False)
        for now_s in range(6)
    ]
    assert waits == sorted(waits)
    assert waits[0] > 0.01
    assert waits[-1] >= 1.0


@pytest.mark.parametrize("name", ["", "x" * 257, "tiny\x1b[2J", "tiny\nerror: none", "tiny\u202e"])
def test_model_whose_name_is_more_than_a_name_is_refused(tmp_path: Path, name: str) -> None:
    class Cloud:
        address, fetch = "host:1", None

        async def describe(self, *, is_patient: bool) -> pb.DescribeReply:
            return pb.DescribeReply(models=[pb.Model(name=name)])

    models = Models(BundleStore(tmp_path))
    with pytest.raises(MalformedMessage, match="printable characters") as refused:
        settle(models.get(None, cast(CloudLink, Cloud())))
    assert str(refused.value).isprintable()


def test_signature_that_never_ends_is_refused(tmp_path: Path) -> None:
    async def empty(digest: str, path: str, offset: int) -> AsyncGenerator[pb.BundlePart, None]:
        while True:
            yield pb.BundlePart(path=path)

    with pytest.raises(Denied, match="signature"):
        settle(_fetched("ab" * 32, empty))


PICTURE = Image.new("RGB", (300, 200))
SOUND = np.zeros(4000, np.float32)


def mel(fft: int = 512, hop: int = 160, mels: int = 40) -> MelSpectrogram:
    bank = MelBank(mels, 0.0, 8000.0, "slaney", True, False)
    return MelSpectrogram(fft, hop, fft, "hann", True, False, False, False, 0.0, 2, bank, 1e-10, "log")


PICTURE_STEPS: list[tuple[Step, type[CleaveError]]] = [
    (Resize(65_535, 65_535, 2), TooLarge),
    (CenterCrop(65_535, 65_535), TooLarge),
    (Pad(65_535, 65_535, 0), TooLarge),
    (Pad(10, 10, 0), BadInput),
    (ResizeToArea(1, 1 << 32, 1 << 32, 2), TooLarge),
    (TilesOfBestRatio(65_535, 65_535, 1, 64, 2), TooLarge),
    (TilesOfBestFit([(65_535, 65_535)], 64, 64, 64, 2), TooLarge),
    (Patches(7, 3, 16), BadInput),
]


@pytest.mark.parametrize(("step", "error"), PICTURE_STEPS, ids=lambda one: type(one).__name__)
def test_recipe_that_makes_too_much_of_a_picture_makes_nothing(step: Step, error: type[CleaveError]) -> None:
    with quick(), pytest.raises(error, match="bundle"):
        preprocess(ImagePreprocessing([step]), PICTURE, Path())


SOUND_STEPS: list[list[SoundStep]] = [
    [mel(mels=100), FitFrames(1 << 20, 0.0)],
    [FitSamples(1 << 24, "value", 0.0), mel(hop=1)],
    [FitSamples(1 << 23, "value", 0.0), mel(hop=64, mels=1), CosineTransform(1024, True, 0.0)],
    [FitSamples(1 << 23, "value", 0.0), mel(fft=1 << 14, hop=16, mels=1)],
]


@pytest.mark.parametrize("steps", SOUND_STEPS, ids=lambda steps: type(steps[-1]).__name__)
def test_recipe_that_makes_too_much_of_a_sound_makes_nothing(steps: list[SoundStep]) -> None:
    recipe = SoundPreprocessing(16_000, None, steps, "bins_frames")
    with quick(), pytest.raises(TooLarge):
        preprocess(recipe, SOUND, Path())


@contextlib.contextmanager
def quick(most_s: float = 2.0) -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < most_s
