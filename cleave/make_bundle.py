"""`cleave partition`: the partitioner with the device's own preprocessing, then the verification of both halves."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from cleave.assets import resolve_model
from cleave.terminal import print_table, progress_bars
from cleave.verifying import Verification, print_verification, verify_halves
from edge_node.media import load_picture
from edge_node.preprocess import preprocess
from partitioner.partition import Partitioned, partition
from splitmodel.loading import load
from wire.errors import BadInput

NUM_INPUTS = 8
NUM_TOKENS = 8
_MAX_CALIBRATION_PICTURES = 32


def make_bundle(
    model: str, out: Path, *, calibration: Path | None, name: str, verify: bool, as_json: bool
) -> bool:
    """Writes the bundle and tells of it; False where head + tail are not the whole model."""
    pictures = _pictures(calibration) if calibration is not None else []
    with progress_bars() as progress:
        progress("load", 0, 1)
        checkpoint = load(resolve_model(model))
        progress("load", 1, 1)
        made = partition(checkpoint, out, preprocess, name=name, calibration=pictures, progress=progress)
        result = verify_halves(made, NUM_INPUTS, NUM_TOKENS, progress) if verify else None
    if as_json:
        print(json.dumps(_to_dict(made, result)))
    else:
        _print(made)
        if result is not None:
            print_verification(result)
    return result is None or result.is_ok


def _pictures(folder: Path) -> list[Image.Image]:
    if not folder.is_dir():
        raise BadInput(f"{folder} is no folder; give a folder of pictures to calibrate with")
    files = sorted(
        path for path in folder.iterdir() if path.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp", ".bmp")
    )
    if not files:
        raise BadInput(f"{folder} holds no .png, .jpg, .webp or .bmp file to calibrate with")
    return [load_picture(path).image for path in files[:_MAX_CALIBRATION_PICTURES]]


def _to_dict(made: Partitioned, result: Verification | None) -> dict[str, object]:
    chain, arm = made.manifest.chains[0], made.manifest.default_arm
    return {
        "bundle": str(made.folder),
        "model": made.manifest.model,
        "split_points": [
            {"index": p.index, "label": p.label, "raw_bytes": p.raw_bytes, "macs": p.stage_macs}
            for p in chain.split_points
        ],
        "default": {"split_point": arm.split_point, "codec": arm.codec},
        "verification": result.to_dict() if result is not None else None,
        "ok": result is None or result.is_ok,
    }


def _print(made: Partitioned) -> None:
    chain, arm = made.manifest.chains[0], made.manifest.default_arm
    best = {
        point.index: min(
            (
                entry
                for entry in chain.codecs
                if entry.split_point == point.index and entry.faithfulness <= 0.02
            ),
            key=lambda entry: entry.payload_bytes,
        )
        for point in chain.split_points
    }
    rows = [
        (
            point.index, point.label, point.raw_bytes, point.stage_macs / 1e6, best[point.index].codec,
            best[point.index].payload_bytes, f"{best[point.index].faithfulness:.4f}",
            "default" if point.index == arm.split_point else "",
        )
        for point in chain.split_points
    ]  # fmt: skip
    columns = ("split", "label", "raw bytes", "stage MMACs", "smallest codec", "bytes", "relative error", "")
    print_table(f"{made.manifest.model} in {made.folder}: {len(rows)} split points", columns, rows)
