"""Which chain takes an input of some size. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from wire.chain_entries import Chain, InputShape
from wire.errors import BadInput
from wire.sizes import ImageSize, Size, SoundSize


def lists_sizes(chains: Sequence[Chain]) -> bool:
    """Whether only inputs of some sizes have a chain; else the one chain takes all."""
    return any(_is_listed(chain.input_shape) for chain in chains)


def chain_for(chains: Sequence[Chain], size: Size | None) -> Chain | None:
    """The chain, of one modality's, that takes an input: a picture's exact size, or a sound's shortest that holds it.

    `size` may be None where no chain lists sizes. None: no listed size fits.
    """
    if not lists_sizes(chains):
        return chains[0]
    match size:
        case ImageSize():
            fitting = [
                c for c in chains if (c.input_shape.width, c.input_shape.height) == (size.width, size.height)
            ]
        case SoundSize():
            fitting = [c for c in chains if (c.input_shape.samples or 0) >= size.samples]
            fitting.sort(key=lambda chain: chain.input_shape.samples or 0)
        case _:
            fitting = []
    return fitting[0] if fitting else None


def no_such_shape(model: str, chains: Sequence[Chain], size: Size) -> BadInput:
    """What to say where a split point was asked for that an input of this size does not have."""
    listed = ", ".join(_named(chain.input_shape, size) for chain in chains)
    what = "longer than all of" if isinstance(size, SoundSize) else "none of"
    return BadInput(
        f"the {_WHAT.get(chains[0].modality, 'input')} is {_said(size)}, {what} those that {model} has split points "
        f"for ({listed}); bring it to one of them, or send it at split point 0 with a media codec, which takes any size"
    )


_WHAT = {"image": "picture", "audio": "sound", "text": "text"}


def _is_listed(shape: InputShape) -> bool:
    return shape.width is not None or shape.height is not None or shape.samples is not None


def _named(shape: InputShape, size: Size) -> str:
    if isinstance(size, SoundSize) and shape.samples is not None:
        return f"{shape.samples / size.sample_rate_hz:g} s"
    return f"{shape.width}x{shape.height}"


def _said(size: Size) -> str:
    return f"{size.seconds:.2f} s long" if isinstance(size, SoundSize) else str(size)
