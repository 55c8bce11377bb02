"""What a cloud under fuzzing serves: a model of each shape, and chains of every modality, tiled and listed by size."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloud_node.asked.served import Bounds, Served
from tests.wire.samples import make_chain, make_manifest
from wire.limits import Limits
from wire.manifest import (
    Arm,
    Chain,
    FileEntry,
    InputShape,
    Manifest,
    Preprocessing,
    ProbeItem,
    SplitPoint,
    TensorEntry,
)
from wire.modality import Modality
from wire.preprocessing import (
    CenterCrop,
    ImagePreprocessing,
    Normalize,
    Pad,
    Patches,
    Rescale,
    ResizeLongestEdge,
    ResizeShortestEdge,
    ResizeToArea,
    ResizeToMultiple,
    ResizeWithin,
    Tiles,
    TilesOfBestFit,
    TilesOfBestRatio,
)
from wire.shape import ModelShape
from wire.signature import Signature, dump_signatures, key_id, signed_message
from wire.sound_preprocessing import (
    CosineTransform,
    FitFrames,
    FitSamples,
    KeepRange,
    MelBank,
    MelSpectrogram,
    NormalizeBins,
    ScaleSamples,
    SoundPreprocessing,
    Standardize,
)
from wire.text_preprocessing import TextPreprocessing

RATE_HZ = 16_000
DIGEST = "cd" * 32
LIMITS = Limits(max_new_tokens=256)
BOUNDS = Bounds(LIMITS, default_deadline_s=60, max_deadline_s=600)
# Nobody else's: made of zeros.
TOKEN = "cleave_" + "A" * 43
TOKENS = f'[tenant.garden]\n[[token]]\ntenant = "garden"\nsha256 = "{sha256(TOKEN.encode()).hexdigest()}"\n'
_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
_PUBLIC = _KEY.public_key().public_bytes_raw()
PUBLIC_KEY = b64encode(_PUBLIC).decode()
SIGNATURE = dump_signatures([Signature(key_id(_PUBLIC), _KEY.sign(signed_message(DIGEST)))])
TOKENIZER = FileEntry("tokenizer.json", 3, "ef" * 32)
_SOUND = SoundPreprocessing(RATE_HZ, RATE_HZ, [FitSamples(RATE_HZ, "value", 0.0)], "samples")
_TEXT = TextPreprocessing(TOKENIZER.path, TOKENIZER.sha256, 16, 0, "right", has_mask=False)


def chain_of(
    modality: Modality, preprocessing: SoundPreprocessing | TextPreprocessing, tensor: TensorEntry
) -> Chain:
    """One stage over one tensor."""
    first = make_chain()
    num_bytes = tensor.spec().num_bytes
    return msgspec.structs.replace(
        first,
        modality=modality,
        input_shape=InputShape("all", [tensor]),
        preprocessing=preprocessing,
        preprocessing_digest=preprocessing.digest(),
        split_points=[
            SplitPoint(0, "input", [tensor], num_bytes),
            SplitPoint(1, "output", [TensorEntry("features", "float16", [1, 8, 4])], 64),
        ],
        stages=first.stages[:1],
        codecs=[],
        default_arm=Arm(1, "int8:token+zstd"),
    )


def manifest_of(shape: ModelShape) -> Manifest:
    """Pictures of any size, of one size, and in tiles; sounds; texts."""
    plain = make_chain()
    listed = msgspec.structs.replace(
        make_chain("640x480"),
        input_shape=msgspec.structs.replace(make_chain("640x480").input_shape, width=640, height=480),
    )
    tiled = msgspec.structs.replace(
        make_chain("tiles"),
        input_shape=msgspec.structs.replace(make_chain("tiles").input_shape, is_tiled=True),
    )
    sound = chain_of("audio", _SOUND, TensorEntry("samples", "float32", [1, RATE_HZ]))
    text = chain_of("text", _TEXT, TensorEntry("ids", "int64", [1, 16]))
    base = make_manifest()
    return msgspec.structs.replace(
        base,
        shape=shape,
        chains=[plain, listed, tiled, sound, text],
        files=[*base.files, TOKENIZER],
        probe=msgspec.structs.replace(base.probe, items=[ProbeItem("image", "32x32", "What is this?")]),
    )


def served_of(shape: ModelShape) -> Served:
    return Served(
        "sample/tiny",
        manifest_of(shape),
        DIGEST,
        refused={"image/tiles": {2: "its tail misses the probe"}},
        rate_hz=RATE_HZ,
        languages=("<|en|>", "<|fr|>"),
        tasks=("transcribe",),
    )


def all_served() -> list[Served]:
    """One of each shape."""
    shapes: tuple[ModelShape, ...] = ("generator", "encoder-decoder", "dual encoder")
    return [served_of(shape) for shape in shapes]


def recipes() -> list[Preprocessing]:
    """Of pictures: by steps of a fixed size, by the picture's own, tiles of each kind, patches; and of sounds."""
    rescaled = [Rescale(1 / 255), Normalize([0.5, 0.5, 0.5], [0.5, 0.5, 0.5])]
    pictures = [
        [ResizeShortestEdge(32, 64, 3), CenterCrop(32, 32), *rescaled],
        [ResizeWithin(64, 64, 8, 2), Pad(64, 64, 0), *rescaled],
        [ResizeLongestEdge(64, 3), ResizeToMultiple(16, 3), Tiles(16, 3), *rescaled],
        [TilesOfBestRatio(16, 16, 1, 6, 3), *rescaled],
        [TilesOfBestFit([(32, 32), (32, 64)], 16, 16, 16, 3), *rescaled],
        [ResizeToArea(8, 256, 4096, 3), *rescaled, Patches(4, 2, 2)],
    ]
    bank = MelBank(40, 0.0, 8000.0, "slaney", True, False)
    mel = MelSpectrogram(400, 160, 512, "hann", True, True, True, False, 0.0, 2, bank, 1e-10, "log10")
    kaldi = MelSpectrogram(400, 160, 512, "povey", False, False, False, True, 0.97, 2, bank, 1e-10, "log")
    after = [KeepRange(8.0), CosineTransform(13, True, 22.0), FitFrames(30, 0.0)]
    return [
        *(ImagePreprocessing(steps) for steps in pictures),
        SoundPreprocessing(RATE_HZ, None, [FitSamples(3200, "repeats", 0.0), mel, *after], "frames_bins"),
        SoundPreprocessing(
            RATE_HZ, 4800, [ScaleSamples(2.0), kaldi, NormalizeBins(True, True)], "copies_frames_bins", 3
        ),
        SoundPreprocessing(RATE_HZ, None, [Standardize(1e-7)], "samples"),
    ]
