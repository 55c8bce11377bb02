"""Where the project's own models and sample pictures are: beside the package, or in the checkout."""

from __future__ import annotations

from pathlib import Path

from wire.errors import UnknownModel

_PLACES = (Path(__file__).parent / "assets", Path(__file__).parent.parent / "assets")


def assets_folder() -> Path:
    """Raises UnknownModel where the installation came without them."""
    for place in _PLACES:
        if place.is_dir():
            return place
    raise UnknownModel(
        "this installation came without assets; give a checkpoint directory instead of 'default'"
    )


# The project's own: pictures to text, speech to text, pictures and text to embeddings.
OWN_MODELS = ("default", "speech", "dual")


def resolve_model(name: str) -> str:
    """The name of one of the project's own models becomes its directory; other names stay."""
    return str(assets_folder() / name) if name in OWN_MODELS else name
