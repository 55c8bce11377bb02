"""A bundle's chains, traced again here; refused where they are not what the bundle lists."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from splitmodel.adapters.base import Adapter
from splitmodel.encoder import Encoder, EncoderInput
from splitmodel.media import Media, blank
from splitmodel.probe import ProbeData, read_probe
from splitmodel.recipes import recipe_of
from splitmodel.tiling import axis_of_tiles
from wire.errors import IncompatibleBundle
from wire.manifest import Chain, Manifest
from wire.sizes import ImageSize, Size, SoundSize
from wire.tensors import TensorSpec

# Blank inputs of which some have several tiles, whatever a processor's tiles are.
_PICTURES = ((256, 256), (1024, 256), (256, 1024), (1024, 1024), (4096, 4096))
_SECONDS = (1, 10, 40, 120)


def trace_bundle(manifest: Manifest, adapter: Adapter, folder: Path) -> dict[str, Encoder]:
    """The encoder of every chain, by chain id; raises IncompatibleBundle where one of them is not the bundle's."""
    _require_made_of(manifest, adapter, folder)
    probe = read_probe(folder / manifest.probe.path)
    return {chain.chain_id: _trace(manifest, chain, adapter, probe, folder) for chain in manifest.chains}


def _trace(manifest: Manifest, chain: Chain, adapter: Adapter, probe: ProbeData, folder: Path) -> Encoder:
    media = _probe_media(manifest, chain, probe)
    axis = _tile_axis(chain, adapter, media) if chain.input_shape.is_tiled else None
    size = _listed_size(chain, adapter.processing.rate_hz)
    encoder = adapter.trace_encoder(chain.modality, media[0], axis=axis, size=size)
    recipe, _ = recipe_of(adapter, encoder)
    if recipe.digest() != chain.preprocessing_digest:
        raise IncompatibleBundle(
            f"the bundle in {folder} preprocesses {chain.chain_id} in another way than {adapter.checkpoint.name} does; "
            "make it again with `cleave partition`"
        )
    _require_same_boundaries(chain, encoder)
    return encoder


def _require_made_of(manifest: Manifest, adapter: Adapter, folder: Path) -> None:
    checkpoint = adapter.checkpoint
    if manifest.weights_digest != checkpoint.weights_digest:
        raise IncompatibleBundle(
            f"the bundle in {folder} was made of other weights ({manifest.model}, {manifest.weights_digest[:12]}) "
            f"than {checkpoint.name} ({checkpoint.weights_digest[:12]}); make it again with `cleave partition`"
        )
    if manifest.shape != adapter.shape:
        raise IncompatibleBundle(
            f"the bundle in {folder} is of shape {manifest.shape!r}, and {checkpoint.name} is {adapter.shape!r} here; "
            "make it again with the versions installed here"
        )


def _probe_media(manifest: Manifest, chain: Chain, probe: ProbeData) -> list[Media]:
    """What the probe has for a chain; raises IncompatibleBundle where that is nothing."""
    here = (chain.modality, chain.input_shape.shape_id)
    indices = [i for i, item in enumerate(manifest.probe.items) if (item.modality, item.shape_id) == here]
    if not indices:
        raise IncompatibleBundle(
            f"the bundle's probe has no input for {chain.chain_id}; make the bundle again"
        )
    return [probe.media(index, chain.modality) for index in indices]


def _tile_axis(chain: Chain, adapter: Adapter, media: Sequence[Media]) -> int:
    """Where the processor lays the tiles that the bundle lists; the probe's inputs may have one each."""

    def inputs() -> Iterator[EncoderInput]:
        for one in media:
            yield adapter.encoder_input(chain.modality, one)
        sizes: list[Size] = [ImageSize(*sides) for sides in _PICTURES]
        if chain.modality == "audio":
            rate_hz = adapter.processing.rate_hz
            sizes = [SoundSize(seconds * rate_hz, rate_hz) for seconds in _SECONDS]
        for size in sizes:
            yield adapter.encoder_input(chain.modality, blank(size))

    axis = axis_of_tiles(chain.input_shape.tensors[0].shape, inputs())
    if axis is None:
        raise IncompatibleBundle(
            f"the bundle lists {chain.chain_id} as tiled, and the processor here makes no tiles of that shape; make it "
            "again with the versions installed here"
        )
    return axis


def _listed_size(chain: Chain, rate_hz: int) -> Size | None:
    shape = chain.input_shape
    if shape.width is not None and shape.height is not None:
        return ImageSize(shape.width, shape.height)
    return SoundSize(shape.samples, rate_hz) if shape.samples is not None else None


def _require_same_boundaries(chain: Chain, encoder: Encoder) -> None:
    here = [(point.label, _shapes(point.tensors)) for point in encoder.chain.split_points]
    there = [(point.label, _shapes(point.specs())) for point in chain.split_points]
    if here != there:
        differing = next(
            (i for i, (a, b) in enumerate(zip(here, there, strict=False)) if a != b),
            min(len(here), len(there)),
        )
        raise IncompatibleBundle(
            f"this cloud cuts {chain.chain_id} into {len(here)} split points and the bundle into {len(there)}, first "
            f"different at {differing}; make the bundle again with the versions installed here"
        )


def _shapes(specs: Sequence[TensorSpec]) -> list[tuple[object, ...]]:
    """What has to agree: the cloud may compute in another dtype than the edge, but not take a float for an integer."""
    return [(spec.name, spec.shape, "float" if spec.dtype.is_float else spec.dtype) for spec in specs]
