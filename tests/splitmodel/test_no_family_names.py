"""Nothing names a family: our code holds no model family's name, in an identifier or in a string."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

_ROOT = Path(__file__).parents[2]
_PACKAGES = ("wire", "splitmodel", "partitioner", "edge_node", "cloud_node", "cleave", "bench")
# It builds a tiny model of each family, for the rest to be verified on: nothing else can say which family it is.
_BUILDERS = _ROOT / "bench" / "zoo"
_FILES = sorted(
    path for package in _PACKAGES for path in (_ROOT / package).rglob("*.py") if _BUILDERS not in path.parents
)

_ALSO = (
    "llava",
    "clip",
    "siglip",
    "qwen",
    "gemma",
    "whisper",
    "llama",
    "mistral",
    "phi",
    "blip",
    "vit",
    "git",
)
# Families named with a word that our code needs in its own sense, and that sense.
_ENGLISH = {
    "align": "where a title stands on the screen",
    "beam": "beam search",
    "ctrl": "the key",
    "mask": "which tokens a token reads; a stem of mask2former",
    "data": "bytes, and what a stem is left of data2vec",
    "encoderdecoder": "a shape of model, of any family",
    "step": "one step of preprocessing or of the engine; a stem of step3",
}


@cache
def families() -> frozenset[str]:
    """Names of four letters or more, as they stand and up to their first digit, lower case."""
    names = [name for name in CONFIG_MAPPING_NAMES if len(name) >= 4]
    plain = {re.sub(r"[^a-z0-9]", "", name.lower()) for name in [*names, *_ALSO]}
    stems = {stem for name in plain if len(stem := re.split(r"\d", name)[0]) >= 4}
    return frozenset((plain | stems) - _ENGLISH.keys())


def texts(source: str) -> Iterator[tuple[int, str]]:
    """Every identifier and every string that is no docstring, with its line; comments are none of them."""
    tree = ast.parse(source)
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "np":
            continue  # numpy has a function called clip
        line = getattr(node, "lineno", 0)
        for field in ("id", "attr", "name", "arg", "asname", "module"):
            if isinstance(value := getattr(node, field, None), str):
                yield line, value
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield line, node.value


def words(text: str) -> set[str]:
    """Its words and, for snake case, its neighbouring words joined; camel case is taken apart."""
    apart = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", text)
    runs = {"".join(apart[i : i + n]) for n in (1, 2, 3, 4) for i in range(len(apart))}
    return {run.lower() for run in runs | set(re.split(r"[\W_]+", text))}


@pytest.mark.parametrize("path", _FILES, ids=lambda path: path.relative_to(_ROOT).as_posix())
def test_code_names_no_model_family(path: Path) -> None:
    found = [
        (line, sorted(named), text)
        for line, text in texts(path.read_text())
        if (named := words(text) & families())
    ]
    assert not found


@pytest.mark.parametrize(
    "source",
    [
        "if model_type == 'llava': pass",
        "from transformers import Qwen2VLForConditionalGeneration",
        "def is_gemma3(config): pass",
        "special_cases = {'paligemma-3b': 1}",
        "config.siglip_tower",
        "text = f'the whisper model {x}'",
    ],
)
def test_the_search_finds_a_family(source: str) -> None:
    assert any(words(text) & families() for _, text in texts(source))


@pytest.mark.parametrize(
    "source", ['"""As in LLaVA."""', "x = 1  # Gemma 3 starts at zero", "vision_tower = split"]
)
def test_the_search_leaves_comments_docstrings_and_other_words(source: str) -> None:
    assert not any(words(text) & families() for _, text in texts(source))
