"""Edits of a right value, said by bytes: a fuzzer gets deeper into a strict format by these than by breaking JSON."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

_VALUES: tuple[Any, ...] = (
    *(None, True, "", {}, [], 0, 1, 2, 3, 64, 65, 255, 256, 4096, 4097, 65_535, 65_536, -1),
    *(2**31, 2**32, 2**53, 2**62, 2**63, 2**64 - 1, -(2**63), 0.5, -0.0, 1e-300, 1e300, -1e300, 1.5),
    *(
        "..",
        "../x",
        "/etc/passwd",
        "a/b/c/d/e",
        "a\0b",
        "manifest.json",
        "Manifest.JSON",
        "CON",
        "nul.onnx",
        "a.",
    ),
    *(
        "x" * 256,
        "x" * 65,
        "ab" * 32,
        "stages/image/000.onnx",
        "STAGES/image/000.onnx",
        "stages",
        "float32",
        "int8",
    ),
    *("image", "audio", "text", "video", "raw", "int8:token+zstd", "jpeg:90", "\u202e", "generator"),
)


def edited(value: Any, data: bytes) -> Any:
    """A copy with an edit for every three bytes: which place, what, and with which value."""
    changed = copy.deepcopy(value)
    for start in range(0, min(len(data) - 2, 30), 3):
        place, kind, choice = data[start : start + 3]
        places = list(_places(changed))
        if places:
            # 256 of the places that there are, over the whole length.
            _edit(*places[place * len(places) // 256], kind, choice)
    return changed


def _edit(parent: Any, key: Any, kind: int, choice: int) -> None:
    match kind % 5:
        case 0 | 1:
            parent[key] = copy.deepcopy(_VALUES[choice % len(_VALUES)])
        case 2:
            del parent[key]
        case 3 if isinstance(parent, list):
            parent.insert(choice % (len(parent) + 1), copy.deepcopy(parent[key]))
        case 3:
            parent[f"{key}{choice}"] = parent[key]
        case _ if isinstance(parent[key], int) and not isinstance(parent[key], bool):
            parent[key] += choice - 128
        case _:
            other = list(parent)[choice % len(parent)] if isinstance(parent, dict) else choice % len(parent)
            parent[key], parent[other] = parent[other], parent[key]


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container with each of its keys."""
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _places(value[key])
