"""A small, valid manifest and its files, for the tests of wire."""

from hashlib import sha256
from pathlib import Path

from wire.manifest import (
    Arm,
    Chain,
    CodecEntry,
    FileEntry,
    InputShape,
    Manifest,
    Probe,
    ProbeItem,
    SplitPoint,
    Stage,
    TensorEntry,
)
from wire.preprocessing import (
    CenterCrop,
    ImagePreprocessing,
    Normalize,
    Pad,
    Rescale,
    Resize,
    ResizeShortestEdge,
)

CONTENTS = {
    "stages/image/000.onnx": b"first stage",
    "stages/image/001.onnx": b"second stage",
    "probe/probe.safetensors": b"probe",
}
PREPROCESSING = ImagePreprocessing(
    [
        ResizeShortestEdge(shortest_edge=224, longest_edge=None, resample=3),
        CenterCrop(height=224, width=224),
        Pad(height=224, width=224, fill=0),
        Resize(height=32, width=32, resample=2),
        Rescale(factor=1 / 255),
        Normalize(mean=[0.5, 0.5, 0.5], std=[0.25, 0.5, 1]),
    ]
)


def make_chain(shape_id: str = "32x32") -> Chain:
    """Two stages, three split points."""
    pixels = TensorEntry("pixel_values", "float32", [1, 3, 32, 32])
    features = TensorEntry("features", "float32", [1, 16, 8])
    mask = TensorEntry("mask", "bool", [1, 16])
    return Chain(
        modality="image",
        input_shape=InputShape(shape_id, [pixels]),
        preprocessing=PREPROCESSING,
        preprocessing_digest=PREPROCESSING.digest(),
        split_points=[
            SplitPoint(0, "input", [pixels], 12288),
            SplitPoint(1, "encoder.layers.0", [features, mask], 528, stage_macs=1000),
            SplitPoint(2, "output", [features], 512, stage_macs=2000),
        ],
        stages=[Stage(0, "stages/image/000.onnx"), Stage(1, "stages/image/001.onnx")],
        codecs=[
            CodecEntry(0, "jpeg:85", payload_bytes=700, faithfulness=0.03, tolerance=0.1),
            CodecEntry(1, "int8:token+zstd", payload_bytes=150, faithfulness=0.01, tolerance=0.02),
        ],
        default_arm=Arm(1, "int8:token+zstd"),
    )


def make_manifest() -> Manifest:
    """A manifest that lists `CONTENTS`."""
    return Manifest(
        format_version=2,
        model="sample/tiny",
        architecture="TinyForConditionalGeneration",
        shape="generator",
        weights_digest="ab" * 32,
        chains=[make_chain()],
        probe=Probe(
            "probe/probe.safetensors", [ProbeItem("image", "32x32", "What is this?")], tolerance=1e-5
        ),
        files=[
            FileEntry(path, len(content), sha256(content).hexdigest()) for path, content in CONTENTS.items()
        ],
        made_with={"torch": "2.13.0", "cleave": "0.1.0"},
    )


def write_bundle(folder: Path) -> None:
    """Write the files of `CONTENTS`."""
    for path, content in CONTENTS.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
