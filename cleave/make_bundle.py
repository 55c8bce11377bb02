"""`cleave partition`: the partitioner with the device's own preprocessing, then the verification of both halves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from cleave.assets import resolve_model
from cleave.halves import Halves
from cleave.terminal import print_table, progress_bars
from cleave.verifying import Verification, print_verification, verify_halves
from edge_node.media import load_picture
from edge_node.preprocess import preprocess
from partitioner.partition import Partitioned, Wishes, partition
from splitmodel.loading import load
from splitmodel.media import MediaInput
from wire.errors import BadInput
from wire.manifest import Chain
from wire.sizes import ImageSize

NUM_INPUTS = 8
NUM_TOKENS = 8
_MAX_CALIBRATION_PICTURES = 32
_PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


def make_bundle(
    model: str,
    out: Path,
    *,
    calibration: Path | None,
    sizes: Sequence[str],
    name: str,
    verify: bool,
    as_json: bool,
) -> bool:
    """Writes the bundle and tells of it; False where head + tail are not the whole model."""
    wishes = Wishes(
        name=name,
        calibration=_pictures(calibration) if calibration is not None else [],
        sizes=[ImageSize.parse(text) for text in sizes],
    )
    with progress_bars() as progress:
        progress("load", 0, 1)
        checkpoint = load(resolve_model(model))
        progress("load", 1, 1)
        made = partition(checkpoint, out, preprocess, wishes, progress)
        result = verify_halves(Halves.of(made), NUM_INPUTS, NUM_TOKENS, progress) if verify else None
    if as_json:
        print(json.dumps(_to_dict(made, result)))
    else:
        for chain in made.manifest.chains:
            _print(made, chain)
        if result is not None:
            print_verification(result)
    return result is None or result.is_ok


def _pictures(folder: Path) -> list[MediaInput]:
    if not folder.is_dir():
        raise BadInput(f"{folder} is no folder; give a folder of pictures to calibrate with")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in _PICTURE_SUFFIXES)
    if not files:
        raise BadInput(f"{folder} holds no .png, .jpg, .webp or .bmp file to calibrate with")
    return [MediaInput("image", load_picture(path).image) for path in files[:_MAX_CALIBRATION_PICTURES]]


def _to_dict(made: Partitioned, result: Verification | None) -> dict[str, object]:
    return {
        "bundle": str(made.folder),
        "model": made.manifest.model,
        "shape": made.manifest.shape,
        "chains": [_chain_to_dict(chain) for chain in made.manifest.chains],
        "verification": result.to_dict() if result is not None else None,
        "ok": result is None or result.is_ok,
    }


def _chain_to_dict(chain: Chain) -> dict[str, object]:
    arm = chain.default_arm
    return {
        "chain": chain.chain_id,
        "split_points": [
            {"index": p.index, "label": p.label, "raw_bytes": p.raw_bytes, "macs": p.stage_macs}
            for p in chain.split_points
        ],
        "default": {"split_point": arm.split_point, "codec": arm.codec},
    }


def _print(made: Partitioned, chain: Chain) -> None:
    rows = []
    for point in chain.split_points:
        entries = [one for one in chain.codecs if one.split_point == point.index and one.faithfulness <= 0.02]
        best = min(entries, key=lambda entry: entry.payload_bytes)
        rows.append((
            point.index, point.label, point.raw_bytes, point.stage_macs / 1e6, best.codec, best.payload_bytes,
            f"{best.faithfulness:.4f}", "default" if point.index == chain.default_arm.split_point else "",
        ))  # fmt: skip
    columns = ("split", "label", "raw bytes", "stage MMACs", "smallest codec", "bytes", "relative error", "")
    title = f"{made.manifest.model} in {made.folder}, {chain.chain_id}: {len(rows)} split points"
    print_table(title, columns, rows)
