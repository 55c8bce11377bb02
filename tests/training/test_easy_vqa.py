"""easy-VQA: its archive is read by split, and its one shape is found for dense supervision."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from transformers import PreTrainedTokenizerFast

from training import dense, easy_vqa
from training.batches import Mixture
from training.evaluate import easy_vqa_samples
from training.model import Shape
from training.packing import IGNORED
from training.scenes import SIDE


def _picture() -> Image.Image:
    image = Image.new("RGB", (64, 64), (240, 235, 250))
    ImageDraw.Draw(image).rectangle((8, 8, 23, 15), fill=easy_vqa.COLOURS["teal"])
    return image


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    buffer = io.BytesIO()
    _picture().save(buffer, "PNG")
    asked = [["what shape is present?", "rectangle", 0], ["is there a circle?", "no", 0]]
    with zipfile.ZipFile(tmp_path / "easy.zip", "w") as files:
        for split in ("train", "test"):
            files.writestr(f"easy_vqa/data/{split}/questions.json", json.dumps(asked))
            files.writestr(f"easy_vqa/data/{split}/images/0.png", buffer.getvalue())
    return tmp_path / "easy.zip"


def test_pictures_come_with_their_questions(archive: Path) -> None:
    [picture] = easy_vqa.read_easy_vqa(archive, "train")
    assert [question.answer for question in picture.questions] == ["rectangle", "no"]
    assert picture.shape == "rectangle"
    assert len(list(easy_vqa_samples(archive))) == 2


def test_shape_is_found_where_it_is() -> None:
    pixels = np.asarray(_picture().resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    targets = dense.easy_targets(pixels, "rectangle", 16).reshape(8, 8, 5)
    covered = {(row, column) for row, column in (targets[..., 0] != 0).nonzero().tolist()}
    assert covered == {(1, 1), (1, 2)}
    assert targets[1, 1, 0] == dense.KINDS.index("rectangle")
    assert targets[1, 1, 1] == dense.ALL_COLOURS.index("teal")
    assert (targets[1, 1, 2:] == IGNORED).all()


def test_unknown_shape_is_not_taught() -> None:
    pixels = np.asarray(_picture().resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    targets = dense.easy_targets(pixels, None, 16).reshape(8, 8, 5)
    assert targets[1, 1, 0] == IGNORED
    assert targets[0, 0, 0] == dense.KINDS.index("nothing")
    assert targets[0, 0, 1] == dense.ALL_COLOURS.index("nothing")


def test_mixture_holds_its_share(archive: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    pictures = easy_vqa.read_easy_vqa(archive, "train")
    batch = Mixture(Shape(), tokenizer, pictures, easy_share=0.5).batch(1, 4)
    assert sum(kinds[0] == easy_vqa.KIND for kinds in batch.kinds) == 2
    assert batch.pixels.shape == (4, 3, SIDE, SIDE)
    assert batch.pixels.abs().max() <= 1
