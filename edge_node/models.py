"""The models that a cloud serves, ready to run here: each with its bundle and the heads of its chains, side by side."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

from edge_node.bundle_check import BundleCheck
from edge_node.bundle_store import BundleStore, StoredBundle, require_digest
from edge_node.head import Head
from edge_node.link import CloudLink
from edge_node.preprocess import needed_files
from edge_node.trust import BundleTrust, Offered
from wire.chain_entries import Chain
from wire.errors import CleaveError, MalformedMessage, UnknownModel
from wire.limits import MAX_NAME_CHARS
from wire.modality import modality_to_wire
from wire.v1 import inference_pb2 as pb

_log = logging.getLogger(__name__)

REFRESH_S = 300.0
_MAX_NAME, _MAX_LISTED = 80, 16  # characters of a name, and names, in a sentence


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
    """By name; each one's manifest is fetched when it is first asked for.

    What the cloud serves is asked for at first, and again after `refresh_s`: that is how long a new bundle, or one that
    was taken back, may take to reach a device that goes on asking.
    """

    def __init__(
        self,
        store: BundleStore,
        num_threads: int = 0,
        trust: BundleTrust | None = None,
        refresh_s: float = REFRESH_S,
    ) -> None:
        self._store = store
        self._num_threads = num_threads
        self._check = BundleCheck(store.folder, trust or BundleTrust())
        self._refresh_s = refresh_s
        self._described: dict[str, pb.Model] = {}
        self._described_s = 0.0  # when, on the monotonic clock
        self._served: dict[str, ServedModel] = {}
        self._usual = ""  # where no model is named
        self._lock = asyncio.Lock()

    async def get(self, name: str | None, cloud: CloudLink) -> ServedModel:
        """The model of that name; without one, that which this device knows of this cloud, at first the cloud's first.

        Raises UnknownModel, MalformedMessage, or Denied where its bundle is not to be trusted.
        """
        async with self._lock:
            await self._describe(cloud)
            wanted = name if name is not None else await self._chosen(cloud)
            if wanted not in self._described:
                raise UnknownModel(f"{cloud.address} serves {_listed(self._described)}, not {wanted!r}")
            held, model = self._served.get(wanted), self._described[wanted]
            if held is None or held.bundle.digest != model.bundle_digest:
                held = await self._renewed(held, model, cloud, is_named=name is not None)
                self._served[wanted] = held
            elif held.model is not model:  # of the same bundle; what else is said of it may have changed
                _require_same(model, held.bundle)
                held.model = model
            if name is None:
                self._usual = wanted
            return held

    async def _chosen(self, cloud: CloudLink) -> str:
        """The one that was asked so far; at first, one that this device knows, as the cloud may say any name."""
        if self._usual in self._described:
            return self._usual
        return await self._check.chosen(cloud.address, self._described)

    async def _describe(self, cloud: CloudLink) -> None:
        """Asks again after a while; a cloud that does not answer then still has an open stream, maybe."""
        now_s = time.monotonic()
        if self._described and now_s < self._described_s + self._refresh_s:
            return
        self._described_s = now_s
        try:
            # What is known already is worth no wait: the request itself may have one.
            models = (await cloud.describe(is_patient=not self._described)).models
            _require_names(models, cloud.address)
            self._described = {model.name: model for model in models}
        except CleaveError as error:
            if not self._described:
                raise
            _log.warning("what %s serves could not be asked for again: %s", cloud.address, error)

    async def _renewed(
        self, held: ServedModel | None, model: pb.Model, cloud: CloudLink, *, is_named: bool
    ) -> ServedModel:
        """The bundle that the cloud names now; the one that is held where that is not to be had, and still served."""
        try:
            return await self._open(model, cloud, is_named=is_named)
        except CleaveError as error:
            if held is None or held.bundle.digest not in model.also_served:
                raise
            _log.warning("bundle %s of %r is asked further: %s", held.bundle.digest[:12], model.name, error)
            self._described[model.name] = held.model
            return held

    async def _open(self, model: pb.Model, cloud: CloudLink, *, is_named: bool) -> ServedModel:
        require_digest(model.bundle_digest)
        offered = Offered(cloud.address, model.name, model.bundle_digest, is_named)
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


def _require_names(models: Iterable[pb.Model], address: str) -> None:
    """They are written to logs and terminals: raises MalformedMessage for one that could be more than a name there."""
    for model in models:
        if not (1 <= len(model.name) <= MAX_NAME_CHARS and model.name.isprintable()):
            raise MalformedMessage(
                f"{address} serves a model of the name {model.name[:64]!a}; expected 1 to {MAX_NAME_CHARS} printable "
                "characters"
            )


def _require_same(model: pb.Model, bundle: StoredBundle) -> None:
    described = [(c.modality, c.input_shape.shape_id, len(c.split_points)) for c in model.chains]
    listed = [
        (modality_to_wire(c.modality), c.input_shape.shape_id, len(c.split_points))
        for c in bundle.manifest.chains
    ]
    if sorted(described) != sorted(listed):
        raise MalformedMessage(
            f"the cloud describes {_said(described)} of {model.name!r}, and its bundle lists {_said(listed)}; "
            "the cloud serves another bundle than it says"
        )


def _listed(names: Iterable[str]) -> str:
    """As a cloud called them, and no more of them than a sentence holds."""
    return ", ".join(repr(name[:_MAX_NAME]) for name in islice(names, _MAX_LISTED)) or "no model"


def _said(chains: list[tuple[pb.Modality.ValueType, str, int]]) -> str:
    return (
        " and ".join(f"{count} split points at {shape_id[:_MAX_NAME]!r}" for _, shape_id, count in chains)
        or "no split points"
    )
