"""Any order of messages gets an answer or a clear error: a machine that says anything at any time to a real cloud.

What holds whatever is said: nothing hangs; each Open that was sent on a stream ends with exactly one Done or Failed
there, unless its stream was cut; a stream ends with a status that its own messages explain; in the end nothing is left,
and whoever asks rightly is answered.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule, run_state_machine_as_test

from tests.kit.clouds import FakeRunner, cloud_thread, limits, served_from
from tests.kit.rude_edge import IDS, RudeEdge
from tests.kit.talking import chunk, item_of, opening
from tests.wire.samples import make_manifest, write_bundle
from wire.manifest import dump_manifest
from wire.v1 import inference_pb2 as pb

NUM_BYTES = 528  # of one payload
ODD_IDS = ["", "a b", "x" * 65, "../r1", "r\n1"]
EDGES = ["", "edge-1", "edge-2"]

BAD_FIELDS: list[dict[str, Any]] = [
    {"model": "none"},
    {"bundle_digest": "00" * 32},
    {"text": " "},
    {"text": "x" * 70_000},
    {"deadline_s": float("nan")},
    {"deadline_s": -1.0},
    {"priority": 10},
]
BAD_INPUT_FIELDS: list[dict[str, Any]] = [
    {"codec_id": "none"},
    {"split_point": 7},
    {"total_bytes": 1 << 63},
    {"num_tiles": 3},
    {"shape_id": "none"},
    {"payload": b"x"},
    {"crc32": 1},
    {"input_key": b"short"},
]


class Protocol(RudeEdge):
    """All that it may say."""

    @initialize(edge_id=st.sampled_from(EDGES))
    def start(self, edge_id: str) -> None:
        self.edge_id = edge_id
        self.channel = self.do(self._channel())

    # ------------------------------------------------------------------------------------------------------- streams

    # What may be said next never depends on what was heard, which depends on time: hypothesis has to be able to say all
    # of it again. Where there is no stream any more, whatever is said opens one.

    @rule(
        how=st.sampled_from(["cut", "half close", "second Hello", "nothing at all"]),
        edge_id=st.sampled_from(EDGES),
    )
    def end(self, how: str, edge_id: str) -> None:
        """Ends the stream; the next is maybe another edge's."""
        match how:
            case "half close" if self.talk is not None:
                self.do(self.talk.call.done_writing())
                self._read_to_the_end()
            case "second Hello":
                self._break(pb.Up(hello=pb.Hello(protocol_version=1)))
            case "nothing at all":
                self._break(pb.Up())
        if self.talk is not None:
            self.talk.call.cancel()
        self._forget()
        self.edge_id = edge_id

    @rule(
        first=st.sampled_from(
            [pb.Up(), pb.Up(open={}), pb.Up(ping={}), *(pb.Up(hello={"protocol_version": v}) for v in (0, 2))]
        )
    )
    def begin_wrongly(self, first: pb.Up) -> None:
        self.end("cut", self.edge_id)
        self.do(self._begin())
        self._break(first)
        assert self.talk is None

    @rule()
    def listen(self) -> None:
        """Hears all that is said to what was sent until now."""
        if self.talk is not None:
            self._barrier()

    # ------------------------------------------------------------------------------------------------------ messages

    @rule(
        request_id=st.sampled_from(IDS),
        num_inputs=st.integers(1, 2),
        is_inline=st.booleans(),
        text=st.sampled_from(["one two", "three", "fail", "unprepared"]),
        tokens=st.sampled_from([None, None, 0, 1, 2**64 - 1]),
    )
    def open(self, request_id: str, num_inputs: int, is_inline: bool, text: str, tokens: int | None) -> None:
        item = item_of(self.served.manifest.chains[0], is_inline=is_inline)
        message = opening(self.served, text, request_id=request_id, inputs=[item] * num_inputs)
        if tokens is not None:
            message.resume.received_tokens = tokens
        self._open(message)

    @rule(
        request_id=st.sampled_from(IDS + ODD_IDS),
        fields=st.sampled_from(BAD_FIELDS),
        item_fields=st.sampled_from([*BAD_INPUT_FIELDS, {}]),
        num_inputs=st.sampled_from([0, 1, 2, 17]),
    )
    def open_wrongly(
        self, request_id: str, fields: dict[str, Any], item_fields: dict[str, Any], num_inputs: int
    ) -> None:
        item = item_of(self.served.manifest.chains[0])
        for name, value in item_fields.items():
            setattr(item, name, value)
        message = opening(self.served, "what?", request_id=request_id, inputs=[item] * num_inputs)
        for name, value in fields.items():
            setattr(message, name, value)
        self._open(message)

    @rule(
        request_id=st.sampled_from([*IDS, "unknown"]),
        index=st.sampled_from([0, 0, 0, 1, 1, 2, 2**32 - 1]),
        size=st.sampled_from([264, 264, 264, 528, 1, 0, 529, 65_537]),
        skew=st.sampled_from([0, 0, 0, 0, 1, 2**63]),
        is_damaged=st.sampled_from([False, False, False, True]),
    )
    def send(self, request_id: str, index: int, size: int, skew: int, is_damaged: bool) -> None:
        self._ensure()
        place = f"{request_id}/{index}"
        start = self.offsets.get(place, 0)
        changes = {"crc32": 1} if is_damaged else {}
        piece = chunk(request_id, start + skew, bytes(size), input_index=index, **changes)
        self.offsets[place] = start + size
        self._say(pb.Up(chunk=piece))

    @rule(request_id=st.sampled_from([*IDS, "unknown", ""]))
    def cancel(self, request_id: str) -> None:
        self._ensure()
        self._say(pb.Up(cancel=pb.Cancel(request_id=request_id)))

    @rule(request_id=st.sampled_from(IDS), num_inputs=st.integers(1, 2))
    def send_all(self, request_id: str, num_inputs: int) -> None:
        """What is missing, as far as is known."""
        self._ensure()
        for index in range(num_inputs):
            start = self.offsets.get(f"{request_id}/{index}", 0)
            if start < NUM_BYTES and self.talk is not None:
                self._say(pb.Up(chunk=chunk(request_id, start, bytes(NUM_BYTES - start), input_index=index)))
                self.offsets[f"{request_id}/{index}"] = NUM_BYTES


@pytest.mark.slow
def test_any_order_of_messages_gets_an_answer_or_a_clear_error() -> None:
    with tempfile.TemporaryDirectory(prefix="cleave-tests-") as folder:
        bundle = Path(folder)
        write_bundle(bundle)
        (bundle / "manifest.json").write_bytes(dump_manifest(make_manifest()))
        served = served_from(bundle)
        given = limits(resume_s=0.05, max_open_requests=3)
        with cloud_thread(served, bundle, FakeRunner(), limits=given, num_slots=2) as node:
            Protocol.node, Protocol.served, Protocol.loop = node, served, asyncio.new_event_loop()
            run_state_machine_as_test(
                Protocol,
                settings=settings(
                    max_examples=80,
                    stateful_step_count=30,
                    deadline=None,
                    derandomize=True,
                    database=None,
                    # No others: they import in the middle of it, which Python 3.11 cannot do safely beside a thread.
                    phases=[Phase.generate, Phase.shrink],
                    suppress_health_check=list(HealthCheck),
                ),
            )
