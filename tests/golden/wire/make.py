"""Writes the golden files that are missing, and changes none: `python -m tests.golden.wire.make`.

Run it after a message got a field, or the registry a codec, and commit what it wrote.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import text_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from wire.codecs import Codec, all_codecs, decode, encode
from wire.tensors import Array, DType, TensorSpec
from wire.v1 import inference_pb2 as pb

HERE = Path(__file__).resolve().parent
MESSAGES = HERE / "messages"
CODECS = HERE / "codecs"
DTYPES = (DType.FLOAT32, DType.FLOAT16, DType.BFLOAT16, DType.INT64)


def message_classes() -> dict[str, type[Message]]:
    """Every message of the proto by its name."""
    return {name: getattr(pb, name) for name in pb.DESCRIPTOR.message_types_by_name}


def covered_fields(name: str) -> set[str]:
    """The fields of a message that its golden files set."""
    found = set()
    for path in sorted(MESSAGES.glob(f"{name}.*.binpb")):
        found |= {
            field.name for field, _ in message_classes()[name].FromString(path.read_bytes()).ListFields()
        }
    return found


def fill(message: Message, uncovered: set[str] | None = None) -> None:
    """Give every field a value of its own; of a oneof, the first field in `uncovered`, or else the first."""
    for field in message.DESCRIPTOR.fields:
        oneof = field.containing_oneof
        if oneof is not None and len(oneof.fields) > 1:
            wanted = [f for f in oneof.fields if uncovered and f.name in uncovered]
            if field.name != (wanted or oneof.fields)[0].name:
                continue
        _set(message, field)


def _set(message: Message, field: FieldDescriptor) -> None:
    for position in range(2 if field.is_repeated else 1):
        if field.message_type is not None:
            inner = getattr(message, field.name)
            if field.is_repeated:
                inner = inner.add()
            inner.SetInParent()
            fill(inner)
        elif field.is_repeated:
            getattr(message, field.name).append(_value(field, position))
        else:
            setattr(message, field.name, _value(field, position))


def _value(field: FieldDescriptor, position: int) -> Any:
    number = 10 * field.number + position
    if field.enum_type is not None:
        return field.enum_type.values[-1 - position].number
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_BYTES:
            return bytes([number, 0, 255])
        case FieldDescriptor.CPPTYPE_STRING:
            return f"{field.name} {position} é"
        case FieldDescriptor.CPPTYPE_BOOL:
            return True
        case FieldDescriptor.CPPTYPE_FLOAT | FieldDescriptor.CPPTYPE_DOUBLE:
            return number + 0.5
        case FieldDescriptor.CPPTYPE_UINT64:
            return number + 2**40
    return number


def sample(dtype: DType) -> Array:
    """[6, 8]: zeros of both signs, a constant row and channel, small, large and ordinary numbers."""
    generator = np.random.Generator(np.random.PCG64(7))
    values = np.round(generator.standard_normal((6, 8)) * 64) / 16
    values[1] = 0.5
    values[:, 2] = -3.0
    values[2] = 0.0
    values[3, :2] = -0.0
    values[4] *= 1000
    if dtype is DType.FLOAT32:
        values[5] *= 2.0**-20
    if dtype is DType.BFLOAT16:
        return (values.astype("<f4").view("<u4") >> 16).astype("<u2")
    return values.astype(dtype.numpy)


def codec_cases() -> Iterator[tuple[Path, Codec, DType]]:
    """Each codec with each kind of dtype, and its file."""
    for codec in all_codecs():
        for dtype in DTYPES:
            name = str(codec).replace(":", "-").replace("+", "-")
            yield CODECS / f"{name}.{dtype.value}.json", codec, dtype


def _write_messages() -> Iterator[Path]:
    for name, message_class in message_classes().items():
        fields = {field.name for field in message_class.DESCRIPTOR.fields}
        count = len(list(MESSAGES.glob(f"{name}.*.binpb")))
        while count == 0 or fields - covered_fields(name):
            message = message_class()
            fill(message, fields - covered_fields(name))
            count += 1
            path = MESSAGES / f"{name}.{count}.binpb"
            path.write_bytes(message.SerializeToString(deterministic=True))
            path.with_suffix(".txtpb").write_text(text_format.MessageToString(message, as_utf8=True), "utf-8")
            yield path


def _write_codecs() -> Iterator[Path]:
    for path, codec, dtype in codec_cases():
        if path.exists():
            continue
        array = sample(dtype)
        spec = TensorSpec("golden", dtype, array.shape)
        [payload] = encode(codec, [array], [spec])
        [decoded] = decode(codec, memoryview(payload), [len(payload)], [spec])
        case = {
            "codec_id": codec.codec_id,
            "setting": codec.setting,
            "dtype": dtype.value,
            "shape": array.shape,
            "payload_hex": payload.hex(),
            "decoded_hex": decoded.tobytes().hex(),
        }
        path.write_text(json.dumps(case, indent=1) + "\n", "utf-8")
        yield path


if __name__ == "__main__":
    for folder in (MESSAGES, CODECS):
        folder.mkdir(exist_ok=True)
    for written in (*_write_messages(), *_write_codecs()):
        print(written.relative_to(HERE))
