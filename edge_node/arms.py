"""Which arm an input takes: chain, split point and codec, from what the caller named and what is left open."""

from __future__ import annotations

from dataclasses import dataclass

from edge_node.given import Given
from edge_node.shapes import chain_for, lists_sizes, no_such_shape
from wire.chain_entries import Chain
from wire.codecs import Codec, codec_name, parse_codec, split_codec_name
from wire.errors import BadInput, UnknownCodec, UnknownSplitPoint
from wire.manifest import Manifest
from wire.media.registry import AS_IT_IS, find_media_codec, is_media_codec, media_codecs
from wire.modality import modality_to_wire
from wire.v1 import inference_pb2 as pb

AS_IS = "as-is"


@dataclass(frozen=True, slots=True)
class MediaForm:
    """A media codec at a setting; AS_IT_IS stands for a file that is in its form already."""

    codec_id: str
    setting: str

    def __str__(self) -> str:
        return codec_name(self.codec_id, self.setting or AS_IS)


@dataclass(frozen=True, slots=True)
class Arm:
    """How one input is sent. `shape_id` is empty where it goes as a file, whatever its size."""

    chain: Chain
    shape_id: str
    split_point: int
    codec: Codec | MediaForm


@dataclass(frozen=True, slots=True)
class Wish:
    """What the caller named; None: the chain's default."""

    split: int | None = None
    codec: str | None = None


def choose_arm(model: pb.Model, manifest: Manifest, given: Given, wish: Wish) -> Arm:
    """Raises BadInput, UnknownSplitPoint or UnknownCodec for what this model, or this cloud, does not take."""
    chains = manifest.of(given.modality)
    size = given.size(chains[0]) if lists_sizes(chains) else None
    chain = chain_for(chains, size)
    codec = _codec(given, wish.codec)
    if chain is None:
        assert size is not None
        if wish.split or (codec is not None and not isinstance(codec, MediaForm)):
            raise no_such_shape(manifest.model, chains, size)
        return Arm(chains[0], "", 0, codec or _default_form(given))
    split = _split(manifest, chain, wish.split, codec)
    _require_served(model, chain, split)
    if isinstance(codec, MediaForm):
        return Arm(chain, "", 0, codec)
    return Arm(chain, chain.input_shape.shape_id, split, codec or parse_codec(chain.default_arm.codec))


def _split(manifest: Manifest, chain: Chain, wished: int | None, codec: Codec | MediaForm | None) -> int:
    last = len(chain.split_points) - 1
    is_media = isinstance(codec, MediaForm)
    chosen = wished if wished is not None else 0 if is_media else chain.default_arm.split_point
    if not 0 <= chosen <= last:
        raise UnknownSplitPoint(
            f"{manifest.model} has the split points 0 to {last} for {chain.modality}, not {chosen}; see "
            "`cleave describe`"
        )
    if is_media and chosen:
        raise UnknownCodec(
            f"{codec} sends the {chain.modality} itself, at split point 0, and split point {chosen} was asked for; "
            "leave out the one or the other"
        )
    return chosen


def _require_served(model: pb.Model, chain: Chain, split: int) -> None:
    modality = modality_to_wire(chain.modality)
    for described in model.chains:
        if (described.modality, described.input_shape.shape_id) == (modality, chain.input_shape.shape_id):
            point = described.split_points[split]
            if not point.served:
                raise UnknownSplitPoint(f"the cloud does not serve split point {split}: {point.reason}")


def _codec(given: Given, name: str | None) -> Codec | MediaForm | None:
    if name is None:
        return None
    if name == AS_IS:
        return _as_it_is(given)
    codec_id, setting = split_codec_name(name)
    if not is_media_codec(codec_id):
        return parse_codec(name)
    codec = find_media_codec(codec_id, setting)
    if codec.modality != given.modality:
        known = ", ".join(codec.codec_id for codec in media_codecs(given.modality))
        raise UnknownCodec(
            f"{codec_id} is no media codec of {given.modality}; expected one of {known or 'none'}"
        )
    return MediaForm(codec_id, setting or codec.settings[0])


def _as_it_is(given: Given) -> MediaForm:
    found = given.sniff()
    if found is None:
        known = ", ".join(codec.codec_id for codec in media_codecs(given.modality))
        raise BadInput(
            f"{given.name} cannot be sent as it is: that takes a file in one of the forms {known or 'none'}, whole and "
            "within bounds; name one of them instead"
        )
    return MediaForm(found, AS_IT_IS)


def _default_form(given: Given) -> MediaForm:
    """For what no chain takes: as it is, or as the form that everybody reads first."""
    found = given.sniff()
    if found is not None:
        return MediaForm(found, AS_IT_IS)
    codec = media_codecs(given.modality)[0]
    return MediaForm(codec.codec_id, codec.settings[0])
