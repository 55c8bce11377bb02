"""How a text becomes a text encoder's input, as data: the edge tokenises by it, the cloud compares its digest."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from wire.canonical import struct_digest

_Id = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class TextPreprocessing(Struct, frozen=True, forbid_unknown_fields=True, tag_field="modality", tag="text"):
    """Token ids of a fixed length, int64 [1, length]; and where they are no padding, if the encoder takes that."""

    tokenizer: str  # a file of the bundle: `tokenizers`' own JSON format
    tokenizer_sha256: Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
    length: Annotated[int, Meta(ge=1, le=4096)]  # tokens; a longer text is cut, a shorter one padded
    pad_id: _Id
    padding_side: Literal["left", "right"]
    has_mask: bool  # whether the second tensor is the attention mask

    def digest(self) -> str:
        """SHA-256 of the canonical JSON: 64 hex digits."""
        return struct_digest(self)
