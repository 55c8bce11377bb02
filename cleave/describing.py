"""`cleave describe`: what a cloud serves."""

from __future__ import annotations

import json
from typing import Any

from cleave.connecting import Connection
from cleave.terminal import print_table
from wire.codecs import codec_name
from wire.modality import modality_from_wire
from wire.tensors import DType
from wire.v1 import inference_pb2 as pb


def describe_and_print(connection: Connection, *, as_json: bool) -> None:
    """Prints models, split points, codecs and limits, as tables or as one JSON object."""
    with connection.edge() as edge:
        reply = edge.describe()
    described = to_dict(reply)
    if as_json:
        print(json.dumps(described))
        return
    for model in described["models"]:
        _print_model(model)
    rows = [
        (c["codec"], ", ".join(c["settings"]), "yes" if c["lossless"] else "no", c["media"] or "")
        for c in described["codecs"]
    ]
    print_table("codecs", ("codec", "settings", "lossless", "sends itself, at split point 0"), rows)
    print_table(
        "limits", ("limit", "value"), [(name, f"{value:,}") for name, value in described["limits"].items()]
    )
    print(f"{connection.cloud}: cleave {reply.server_version}, protocol {reply.protocol_version}")


def to_dict(reply: pb.DescribeReply) -> dict[str, Any]:
    """The reply as plain values."""
    return {
        "server_version": reply.server_version,
        "protocol_version": reply.protocol_version,
        "models": [_model(model) for model in reply.models],
        "codecs": [
            {
                "codec": codec.codec_id,
                "settings": [s for s in codec.settings if s],
                "lossless": codec.lossless,
                "media": modality_from_wire(codec.media) if codec.media else None,
            }
            for codec in reply.codecs
        ],
        "limits": {field.name: value for field, value in reply.limits.ListFields()},
    }


def _model(model: pb.Model) -> dict[str, Any]:
    return {
        "name": model.name,
        "bundle": model.bundle_digest,
        "also_served": list(model.also_served),
        "shape": model.shape,
        "decoding": model.decoding,
        "samples_by_default": model.samples_by_default,
        "default": _arm(model.default_arm),
        "chains": [_chain(chain) for chain in model.chains],
    }


def _chain(chain: pb.Chain) -> dict[str, Any]:
    shape = chain.input_shape
    return {
        "modality": modality_from_wire(chain.modality),
        "input_shape": shape.shape_id,
        "width": shape.width if shape.HasField("width") else None,
        "height": shape.height if shape.HasField("height") else None,
        "samples": shape.samples if shape.HasField("samples") else None,
        "is_tiled": shape.is_tiled,
        "tail_batching": chain.tail_batching,
        "default": _arm(chain.default_arm),
        "split_points": [_split_point(point) for point in chain.split_points],
    }


def _arm(arm: pb.Arm) -> dict[str, Any]:
    return {"split_point": arm.split_point, "codec_id": arm.codec_id, "setting": arm.setting}


def _split_point(point: pb.SplitPoint) -> dict[str, Any]:
    tensors = [
        {"name": tensor.name, "dtype": DType.from_wire(tensor.dtype).value, "shape": list(tensor.dims)}
        for tensor in point.boundary
    ]
    return {
        "index": point.index, "label": point.label, "raw_bytes": point.raw_bytes, "tensors": tensors,
        "served": point.served, "reason": point.reason,
    }  # fmt: skip


def _print_model(model: dict[str, Any]) -> None:
    decoding = f", decodes {model['decoding']}" if model["decoding"] else ""
    sampling = ", samples by default" if model["samples_by_default"] else ""
    print(f"{model['name']} ({model['bundle'][:12]}): {model['shape']}{decoding}{sampling}")
    if model["also_served"]:
        print(f"also served: {', '.join(digest[:12] for digest in model['also_served'])}")
    for chain in model["chains"]:
        rows = [
            (
                point["index"],
                point["label"],
                " + ".join(f"{t['dtype']} {t['shape']}" for t in point["tensors"]),
                point["raw_bytes"],
                "yes" if point["served"] else point["reason"],
                _default(chain, point["index"]),
            )
            for point in chain["split_points"]
        ]
        title = f"{model['name']}: {chain['modality']}, {_which(chain)}"
        print_table(title, ("split", "label", "tensors", "raw bytes", "served", ""), rows)


def _default(chain: dict[str, Any], index: int) -> str:
    arm = chain["default"]
    is_default = index == arm["split_point"]
    return f"default, with {codec_name(arm['codec_id'], arm['setting'])}" if is_default else ""


def _which(chain: dict[str, Any]) -> str:
    """Which inputs take this chain."""
    if chain["width"] is not None:
        return f"of {chain['width']}x{chain['height']} pixels"
    if chain["samples"] is not None:
        return f"of at most {chain['samples']:,} samples"
    return "of any size, in tiles" if chain["is_tiled"] else "of any size"
