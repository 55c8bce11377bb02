"""The models that a cloud serves, ready to run here: each with its bundle and the heads of its chains, side by side."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from edge_node.bundle_check import BundleCheck
from edge_node.bundle_store import BundleStore, StoredBundle, require_digest
from edge_node.head import Head
from edge_node.link import CloudLink
from edge_node.preprocess import needed_files
from edge_node.trust import BundleTrust, Offered
from wire.chain_entries import Chain
from wire.errors import MalformedMessage, UnknownModel
from wire.modality import modality_to_wire
from wire.v1 import inference_pb2 as pb


@dataclass(slots=True)
class ServedModel:
    """One model. A head is made when an input first takes its chain, and then kept."""

    model: pb.Model
    bundle: StoredBundle
    num_threads: int = 0
    _heads: dict[str, Head] = field(default_factory=dict)

    def head(self, chain: Chain) -> Head:
        """The head of one of its chains; raises BadInput where this device cannot run it."""
        if chain.chain_id not in self._heads:
            self._heads[chain.chain_id] = Head(self.bundle.folder, chain, self.num_threads)
        return self._heads[chain.chain_id]


def files_before(chain: Chain, split_point: int) -> list[str]:
    """The bundle's files that a device needs to bring an input to a split point."""
    return [
        *needed_files(chain.preprocessing),
        *(path for stage in chain.stages[:split_point] for path in stage.files),
    ]


class Models:
    """By name; described once, and each one's manifest fetched when it is first asked for."""

    def __init__(self, store: BundleStore, num_threads: int = 0, trust: BundleTrust | None = None) -> None:
        self._store = store
        self._num_threads = num_threads
        self._check = BundleCheck(store.folder, trust or BundleTrust())
        self._described: dict[str, pb.Model] = {}
        self._served: dict[str, ServedModel] = {}
        self._lock = asyncio.Lock()

    async def get(self, name: str | None, cloud: CloudLink) -> ServedModel:
        """The model of that name, the cloud's first without one.

        Raises UnknownModel, MalformedMessage, or Denied where its bundle is not to be trusted.
        """
        async with self._lock:
            if not self._described:
                self._described = {model.name: model for model in (await cloud.describe()).models}
            wanted = name if name is not None else next(iter(self._described), "")
            if wanted not in self._described:
                listed = ", ".join(self._described) or "no model"
                raise UnknownModel(f"{cloud.address} serves {listed}, not {wanted!r}")
            if wanted not in self._served:
                self._served[wanted] = await self._open(self._described[wanted], cloud)
            return self._served[wanted]

    async def _open(self, model: pb.Model, cloud: CloudLink) -> ServedModel:
        require_digest(model.bundle_digest)
        offered = Offered(cloud.address, model.name, model.bundle_digest)
        # Before anything of it is fetched: what runs here is what the bundle holds.
        signature = await self._check.require(offered, cloud.fetch)
        bundle = await self._store.open(model.bundle_digest, cloud.fetch)
        _require_same(model, bundle)
        await self._check.remember(offered, signature)
        return ServedModel(model, bundle, self._num_threads)

    def forget(self) -> None:
        """The cloud serves something else by now: the next question asks what."""
        self._described.clear()
        self._served.clear()


def _require_same(model: pb.Model, bundle: StoredBundle) -> None:
    described = [(c.modality, c.input_shape.shape_id, len(c.split_points)) for c in model.chains]
    listed = [
        (modality_to_wire(c.modality), c.input_shape.shape_id, len(c.split_points))
        for c in bundle.manifest.chains
    ]
    if sorted(described) != sorted(listed):
        raise MalformedMessage(
            f"the cloud describes {_said(described)} of {model.name}, and its bundle lists {_said(listed)}; the cloud "
            "serves another bundle than it says"
        )


def _said(chains: list[tuple[pb.Modality.ValueType, str, int]]) -> str:
    return (
        " and ".join(f"{count} split points at {shape_id}" for _, shape_id, count in chains)
        or "no split points"
    )
