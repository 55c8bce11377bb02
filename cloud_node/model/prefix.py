"""Keys and values of prompts that were read: a second question about the same picture reads only what is new.

A prompt is known by what the decoder reads up to the end of its last picture: token ids, embeddings and positions. From
there on, it is shared as far as the token ids agree, and as far as no shared token reads one that is not shared. It is
shared within one tenant only: a prompt that is read sooner would tell that another tenant asked about the same picture.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import torch
from torch import Tensor

from splitmodel.recording import PrefillCall
from splitmodel.tensors import to_numpy


@dataclass(frozen=True, slots=True)
class PrefixKey:
    """Content address of a tenant's prompt up to the end of its last picture, `num_tokens` long."""

    digest: bytes
    num_tokens: int


@dataclass(frozen=True, slots=True)
class _Kept:
    call: PrefillCall
    rows: list[Tensor]  # keys and values of each layer in turn, [heads, tokens, dim]

    @property
    def num_bytes(self) -> int:
        tensors = (*self.rows, self.call.position_ids, *self.call.masks.values())
        return sum(tensor.nbytes for tensor in tensors)


def prefix_key(
    call: PrefillCall, embedded: Tensor, cuts: Sequence[int], tenant: str = ""
) -> PrefixKey | None:
    """`embedded` are the token ids' own embeddings [1, tokens, dim]; where the call's differ, a picture is.

    None where there is no picture, or where the picture's tokens read what comes after them.
    """
    is_picture = (call.inputs_embeds != embedded).any(-1)[0]
    places = is_picture.nonzero()
    if not len(places):
        return None
    end = int(places[-1]) + 1
    if end not in cuts:
        return None
    digest = sha256(sha256(tenant.encode()).digest())
    digest.update(call.input_ids[:end].tobytes())
    for tensor in (call.inputs_embeds[0, :end], call.position_ids[..., :end]):
        digest.update(to_numpy(tensor).tobytes())
    return PrefixKey(digest.digest(), end)


class PrefixStore:
    """The least recently used go first once `max_bytes` are held. Used by the decoding thread alone."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.num_bytes = 0
        self.num_hits = 0
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, key: PrefixKey | None, call: PrefillCall, cuts: Sequence[int]) -> tuple[int, list[Tensor]]:
        """How many tokens are shared with a kept prompt, and its rows; (0, []) for none."""
        kept = self._kept.get(key.digest) if key is not None else None
        if kept is None or key is None:
            return 0, []
        self._kept.move_to_end(key.digest)
        shared = _num_shared(call, kept.call, cuts)
        if shared:
            self.num_hits += 1
        return shared, kept.rows

    def has(self, key: PrefixKey) -> bool:
        return key.digest in self._kept

    def keep(self, key: PrefixKey, call: PrefillCall, rows: list[Tensor]) -> None:
        """Keeps a prompt's rows; of two prompts with one key, the later one."""
        # The embeddings are in the key, and are many.
        slim = PrefillCall(
            call.input_ids,
            call.inputs_embeds.new_empty(0),
            call.position_ids,
            call.step_position_ids,
            call.masks,
        )
        kept = _Kept(slim, rows)
        if kept.num_bytes > self.max_bytes:
            return
        self._drop(key.digest)
        self._kept[key.digest] = kept
        self.num_bytes += kept.num_bytes
        while self.num_bytes > self.max_bytes:
            self._drop(next(iter(self._kept)))

    def _drop(self, digest: bytes) -> None:
        kept = self._kept.pop(digest, None)
        if kept is not None:
            self.num_bytes -= kept.num_bytes


def _num_shared(call: PrefillCall, kept: PrefillCall, cuts: Sequence[int]) -> int:
    """Tokens whose keys and values are the same in both; at least one token is left to be read."""
    most = min(len(call.input_ids) - 1, len(kept.input_ids))
    differing = (call.input_ids[:most] != kept.input_ids[:most]).nonzero()[0]
    shared = int(differing[0]) if len(differing) else most
    shared = cuts[at - 1] if (at := bisect_right(cuts, shared)) else 0
    for kind, mask in call.masks.items():
        if not torch.equal(mask[:shared, :shared], kept.masks[kind][:shared, :shared]):
            return 0
        if kept.masks[kind][:shared, shared:].any():
            return 0
    same = torch.equal(call.position_ids[..., :shared], kept.position_ids[..., :shared])
    return shared if same else 0
