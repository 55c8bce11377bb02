"""The committed dual encoder loads through stock classes, fits its budget, and finds what it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file
from transformers import AutoModel, AutoProcessor, CLIPModel, CLIPProcessor

from training.dual.captions import Caption, Phrase
from training.dual.evaluate import FIRST_EVALUATED_SEED, evaluate, similarity
from training.dual.fitting import fits
from training.dual.pictures import render
from training.scenes import COLOURS, SHAPES, SIDE

_ASSETS = Path(__file__).parents[3] / "assets"
_MOST_BYTES = 8_000_000
_LEFT, _RIGHT = (8, 48, 40, 80), (86, 46, 122, 82)

Draw = Callable[[ImageDraw.ImageDraw], None]


@pytest.fixture(scope="module")
def loaded() -> tuple[Any, Any]:
    model = AutoModel.from_pretrained(_ASSETS / "dual", dtype=torch.float32)
    return model, AutoProcessor.from_pretrained(_ASSETS / "dual", backend="pil")


def _picture(*draws: Draw) -> Image.Image:
    image = Image.new("RGB", (SIDE, SIDE), (130, 125, 120))
    for draw in draws:
        draw(ImageDraw.Draw(image))
    return image


def _circle(colour: str, box: tuple[int, int, int, int]) -> Draw:
    return lambda draw: draw.ellipse(box, fill=COLOURS[colour])


def _square(colour: str, box: tuple[int, int, int, int]) -> Draw:
    return lambda draw: draw.rectangle(box, fill=COLOURS[colour])


_PICTURES = {
    "a red circle": _picture(_circle("red", _LEFT), _square("blue", _RIGHT)),
    "a green square": _picture(_square("green", _LEFT), _circle("yellow", _RIGHT)),
    "a purple circle": _picture(_circle("purple", _RIGHT)),
    "a white square on the right": _picture(_circle("black", _LEFT), _square("white", _RIGHT)),
    "an orange thing": _picture(_square("orange", _LEFT)),
}


def test_dual_model_is_a_stock_model_within_its_budget(loaded: tuple[Any, Any]) -> None:
    model, processor = loaded
    assert type(model) is CLIPModel
    assert type(processor) is CLIPProcessor
    assert processor.image_processor.size == {"height": SIDE, "width": SIDE}
    assert sum(path.stat().st_size for path in (_ASSETS / "dual").iterdir()) <= _MOST_BYTES


@pytest.mark.slow
def test_dual_model_finds_the_one_picture_with_what_is_asked_for(loaded: tuple[Any, Any]) -> None:
    texts = list(_PICTURES)
    first = similarity(*loaded, texts, list(_PICTURES.values())).argmax(1)
    assert [texts[index] for index in first] == texts


@pytest.mark.slow
def test_dual_model_finds_a_held_out_scene_for_any_colour_and_shape(loaded: tuple[Any, Any]) -> None:
    scenes = render(FIRST_EVALUATED_SEED + 20_000, 200)
    asked = [
        Caption(f"a {colour} {kind}", (Phrase(kind=kind, colour=colour),), is_whole=False)
        for colour in COLOURS
        for kind in SHAPES
    ]
    first = similarity(*loaded, [one.text for one in asked], list(scenes.pixels)).argmax(1)
    is_fitting = fits(asked, scenes.things)
    assert is_fitting.mean() < 0.1  # by chance one would find few
    assert is_fitting[np.arange(len(asked)), first].mean() >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize(("style", "least"), [("full", 0.95), ("partial", 0.85)])
def test_dual_model_finds_held_out_scenes_both_ways(style: Any, least: float) -> None:
    found = evaluate(_ASSETS / "dual", num_scenes=100, seed=FIRST_EVALUATED_SEED + 10_000, style=style)
    assert found.text_to_picture[1] >= least
    assert found.picture_to_text[1] >= least


def test_dual_model_shares_its_lower_layers_with_the_default_model() -> None:
    mine = load_file(_ASSETS / "dual" / "model.safetensors")
    others = load_file(_ASSETS / "default" / "model.safetensors")
    for name in ("layers.3.mlp.fc2.weight", "layers.0.self_attn.q_proj.weight"):
        (here,) = [value for key, value in mine.items() if key.endswith(name) and "vision" in key]
        (there,) = [value for key, value in others.items() if key.endswith(name) and "vision" in key]
        assert torch.equal(here, there)
