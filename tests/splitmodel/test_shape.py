"""A model's shape is told by what its class can do, and what cannot be split is told why in one sentence."""

from __future__ import annotations

from typing import Any

import pytest
import transformers

from splitmodel.shape import class_of, shape_of
from tests.kit.full_size_configs import FULL_SIZE


@pytest.mark.parametrize(
    ("name", "kind", "modalities"),
    [
        ("SmolVLM-256M", "generator", ("image",)),
        ("Qwen2.5-VL-3B", "generator", ("image", "video")),
        ("LLaVA-1.5-7B", "generator", ("image",)),
        ("Whisper-large-v3", "encoder-decoder", ("audio",)),
        ("CLIP ViT-L/14", "dual encoder", ("image", "text")),
    ],
)
def test_a_config_and_its_class_have_the_same_shape(
    name: str, kind: str, modalities: tuple[str, ...]
) -> None:
    config = FULL_SIZE[name].config()
    shape = shape_of(config)
    assert (shape.kind, shape.modalities, shape.reason) == (kind, modalities, "")
    assert shape.is_served
    assert shape_of(class_of(config)) == shape


@pytest.mark.parametrize(
    ("config", "kind", "modalities"),
    [
        (transformers.VoxtralConfig, "generator", ("audio",)),  # a method for its features
        (transformers.Qwen2AudioConfig, "generator", ("audio",)),  # a tower, and no method
        (transformers.VisionEncoderDecoderConfig, "encoder-decoder", ("image",)),
        (transformers.Pix2StructConfig, "encoder-decoder", ("image",)),
        (transformers.MoonshineConfig, "encoder-decoder", ("audio",)),
        (transformers.ClapConfig, "dual encoder", ("audio", "text")),
        (transformers.SiglipConfig, "dual encoder", ("image", "text")),
    ],
)
def test_other_families_have_the_shape_of_what_they_can_do(
    config: Any, kind: str, modalities: tuple[str, ...]
) -> None:
    mapped = class_of(config.__new__(config))
    assert (shape_of(mapped).kind, shape_of(mapped).modalities) == (kind, modalities)


@pytest.mark.parametrize(
    ("config", "kind", "because"),
    [
        (transformers.LlamaConfig(), "not supported", "text alone"),
        (transformers.T5Config(), "encoder-decoder", "text alone"),
        (transformers.ViTConfig(), "single", "neither generates"),
        (transformers.Wav2Vec2Config(), "single", "neither generates"),
        (transformers.ViltConfig(), "not supported", "one graph"),
        (transformers.XCLIPConfig(), "dual encoder", "videos"),
        (transformers.PatchTSTConfig(), "not supported", "no input"),
        (transformers.DepthAnythingConfig(), "not supported", "no class"),
    ],
)
def test_what_cannot_be_split_says_why_and_what_to_do(config: Any, kind: str, because: str) -> None:
    shape = shape_of(config)
    assert shape.kind == kind
    assert not shape.is_served
    assert because in shape.reason
    assert "; use " in shape.reason
    assert "\n" not in shape.reason
