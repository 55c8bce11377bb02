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


@dataclass(frozen=True, slots=True)
class Picture:
    """One 64 x 64 picture with its questions."""

    image: Image.Image
    questions: tuple[Question, ...]


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
