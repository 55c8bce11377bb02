"""easy-VQA (MIT, github.com/vzhou842/easy-VQA): pictures and questions out of its archive, never written to disk."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from training.questions import Question

KIND = "easy-vqa"
SHAPES = ("circle", "rectangle", "triangle")
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "black": (0, 0, 0),
    "gray": (128, 128, 128),
    "teal": (0, 128, 128),
    "brown": (165, 42, 42),
}


@dataclass(frozen=True, slots=True)
class Picture:
    """One 64 x 64 picture with its questions."""

    image: Image.Image
    questions: tuple[Question, ...]

    @property
    def shape(self) -> str | None:
        """The one shape in it, where a question gives it away."""
        return next((question.answer for question in self.questions if question.answer in SHAPES), None)


def read_easy_vqa(archive: Path, split: str) -> list[Picture]:
    """All pictures of the official split, `train` or `test`."""
    with zipfile.ZipFile(archive) as files:
        root = next(name for name in files.namelist() if name.endswith(f"{split}/questions.json"))
        asked: dict[int, list[Question]] = {}
        for text, answer, image_id in json.loads(files.read(root)):
            asked.setdefault(int(image_id), []).append(Question(KIND, str(text), str(answer)))
        folder = root.removesuffix("questions.json") + "images"
        return [
            Picture(
                Image.open(io.BytesIO(files.read(f"{folder}/{image_id}.png"))).convert("RGB"), tuple(found)
            )
            for image_id, found in sorted(asked.items())
        ]
