"""What an Open asks of the embeddings of its inputs. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from wire.errors import BadInput, MalformedMessage
from wire.limits import MAX_INDEX_HITS, MAX_ITEM_CHARS
from wire.v1 import inference_pb2 as pb

_INDEX_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Give:
    """They come back as they are."""


@dataclass(frozen=True, slots=True)
class Add:
    """They are kept under these names, one per input."""

    index: str
    item_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Search:
    """What is nearest to the one input is looked for."""

    index: str
    num_hits: int


Embed = Give | Add | Search


def parse_embed(message: pb.Embed, num_inputs: int) -> Embed:
    """Raises BadInput or MalformedMessage."""
    match message.WhichOneof("then"):
        case "add":
            return Add(_index_name(message.add.index), _item_ids(message.add.item_ids, num_inputs))
        case "search":
            if num_inputs != 1:
                raise BadInput(
                    f"a search is for one input, and the request has {num_inputs}; search one by one"
                )
            if not 1 <= message.search.num_hits <= MAX_INDEX_HITS:
                raise BadInput(
                    f"num_hits is {message.search.num_hits}, and it must be from 1 to {MAX_INDEX_HITS:,}"
                )
            return Search(_index_name(message.search.index), message.search.num_hits)
        case _:
            return Give()


def _index_name(name: str) -> str:
    if not _INDEX_NAME.fullmatch(name):
        raise MalformedMessage(f"index name {name[:64]!r} is not 1 to 64 characters of [A-Za-z0-9_-]")
    return name


def _item_ids(item_ids: Sequence[str], num_inputs: int) -> tuple[str, ...]:
    if len(item_ids) != num_inputs:
        raise MalformedMessage(
            f"there are {len(item_ids)} item ids for {num_inputs} inputs; give one per input"
        )
    for item_id in item_ids:
        if not 1 <= len(item_id) <= MAX_ITEM_CHARS:
            raise BadInput(
                f"an item id has {len(item_id)} characters, and it must have 1 to {MAX_ITEM_CHARS}"
            )
    if len(set(item_ids)) != len(item_ids):
        raise BadInput("two inputs of the request have one item id; give each its own")
    return tuple(item_ids)
