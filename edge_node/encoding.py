"""The inputs of a request, each coded at its arm: from memory where the device has met it before."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from edge_node.arms import Arm, Wish, choose_arm
from edge_node.bundle_store import BundleStore
from edge_node.coding import Coded, CodingTimes, code
from edge_node.given import Given
from edge_node.link import CloudLink
from edge_node.memory import FeatureMemory, Place
from edge_node.models import ServedModel, files_before
from edge_node.report import InputReport
from edge_node.tracing import Fact, Trace
from wire.keys import input_key


@dataclass(frozen=True, slots=True)
class Encoded:
    """One input, coded."""

    given: Given
    arm: Arm
    coded: Coded
    times: CodingTimes
    was_known: bool  # to the device, and so perhaps to the cloud

    def report(self) -> InputReport:
        return InputReport(
            modality=self.given.modality,
            split_point=self.arm.split_point,
            split_label=self.coded.label,
            codec=str(self.arm.codec),
            feature_bytes=len(self.coded.payload),
            media_codec=self.given.media_codec,
            note=self.coded.note,
        )

    def trace(self, trace: Trace) -> None:
        """What was done for it, if anything was."""
        if self.was_known:
            return
        facts: dict[str, Fact] = {"modality": self.given.modality, "split_point": self.arm.split_point}
        began_s, encoded_s = self.times.began_s, self.times.began_s + self.times.encode_s
        if self.times.encode_s:
            trace.span("encode", began_s, encoded_s, **facts)
        facts |= {"codec": str(self.arm.codec), "payload_bytes": len(self.coded.payload)}
        trace.span("codec", encoded_s, encoded_s + self.times.codec_s, **facts)

    def media_bytes(self) -> int:
        """What the input itself would have cost; measured once."""
        if self.coded.media_bytes is None:
            self.coded.media_bytes = self.given.media_bytes(self.arm.chain)
        return self.coded.media_bytes


class Encoder:
    """Runs preprocessing, heads and codecs on threads; fetches the files of the heads that are missing."""

    def __init__(self, store: BundleStore, memory: FeatureMemory) -> None:
        self._store = store
        self._memory = memory

    async def encode(
        self, served: ServedModel, inputs: Sequence[Given], wishes: Sequence[Wish], cloud: CloudLink
    ) -> list[Encoded]:
        """One after the other: a head takes all cores."""
        # Before anything is fetched or run, so that what cannot be asked is said at once.
        arms = [
            await asyncio.to_thread(choose_arm, served.model, served.bundle.manifest, given, wish)
            for given, wish in zip(inputs, wishes, strict=True)
        ]
        return [await self._one(served, given, arm, cloud) for given, arm in zip(inputs, arms, strict=True)]

    async def _one(self, served: ServedModel, given: Given, arm: Arm, cloud: CloudLink) -> Encoded:
        key = input_key(given.data, arm.chain.preprocessing_digest)
        place = Place(served.bundle.digest, key, arm.shape_id, arm.split_point, str(arm.codec))
        known = self._memory.get(place)
        if known is not None:
            return Encoded(given, arm, known, CodingTimes(), was_known=True)
        await self._store.need(served.bundle, files_before(arm.chain, arm.split_point), cloud.fetch)
        head = served.head(arm.chain)
        await asyncio.to_thread(head.load, arm.split_point)
        coded, times = await asyncio.to_thread(code, arm, head, given, served.bundle.folder, key)
        self._memory.put(place, coded)
        return Encoded(given, arm, coded, times, was_known=False)
