"""Pictures, speech and words through the project's own models, side by side in one cloud: the README's commands."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cleave.assets import assets_folder
from cleave.processes import cloud_process
from tests.kit.commands import cleave, started

pytestmark = pytest.mark.slow

SAMPLES = assets_folder() / "samples"
MODELS = ("default", "speech", "dual")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What edges keep, the pictures to index, the indexes."""
    folder = tmp_path_factory.mktemp("senses")
    (folder / "pictures").mkdir()
    for picture in SAMPLES.glob("*.png"):
        shutil.copy(picture, folder / "pictures")
    return folder


@pytest.fixture(scope="module")
def three(folder: Path) -> Iterator[str]:
    """The address of a cloud that serves all three; it makes their bundles itself."""
    more = [argument for model in MODELS[1:] for argument in ("--model", model)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLEAVE_CACHE", str(folder / "cloud"))
        indexes = str(folder / "indexes")
        with cloud_process(MODELS[0], None, *more, "--index-dir", indexes, timeout_s=280) as (address, _):
            yield address


def spoken() -> list[dict[str, str]]:
    """The project's own sounds, with what is said in them."""
    listed: list[dict[str, str]] = json.loads((SAMPLES / "speech.json").read_text())
    return listed


def test_question_about_a_picture_is_answered(three: str, folder: Path) -> None:
    asked = cleave(
        "ask", "--cloud", three, "--image", SAMPLES / "digit.png", "Which digit is shown?", cache=folder
    )
    assert (asked.code, asked.out.strip()) == (0, "8")


@pytest.mark.parametrize(
    ("language", "task"), [("en", "transcribe"), ("fr", "translate"), ("zh", "translate")]
)
def test_speech_is_written_down_in_three_languages(
    three: str, folder: Path, language: str, task: str
) -> None:
    for sample in spoken()[:2]:
        asked = cleave(
            "ask", "--cloud", three, "--model", "speech", "--sound", SAMPLES / sample["sound"], "--language", language,
            "--task", task, cache=folder,
        )  # fmt: skip
        assert (asked.code, asked.out.strip()) == (0, sample[language]), asked.err


def test_speech_is_heard_in_lines_of_json_the_last_of_them_final(three: str, folder: Path) -> None:
    sample = spoken()[0]
    arguments = ("listen", "--cloud", three, "--model", "speech", "--json", "--every", "0.3")
    heard = cleave(*arguments, "--realtime", SAMPLES / sample["sound"], cache=folder)
    lines = [json.loads(line) for line in heard.out.splitlines()]
    assert heard.code == 0, heard.err
    assert [line["final"] for line in lines] == [False] * (len(lines) - 1) + [True]
    assert lines[-1]["text"] == sample["en"]


def test_speech_comes_from_a_microphones_pipe(three: str, folder: Path) -> None:
    import soundfile

    sample = spoken()[0]
    samples, rate = soundfile.read(SAMPLES / sample["sound"], dtype="int16", always_2d=True)
    command = [
        sys.executable, "-m", "cleave.cli", "listen", "--cloud", three, "--model", "speech", "--rate", str(rate), "-",
    ]  # fmt: skip
    heard = subprocess.run(
        command, input=samples[:, 0].tobytes(), capture_output=True, timeout=60, check=False
    )
    assert (heard.returncode, heard.stdout.decode().strip()) == (0, sample["en"]), heard.stderr.decode()


def test_pictures_are_indexed_and_found_by_words_and_by_pictures(three: str, folder: Path) -> None:
    added = cleave("index", "--cloud", three, "--model", "dual", "--json", folder / "pictures", cache=folder)
    assert json.loads(added.out)["added"] == len(list((folder / "pictures").iterdir()))
    search = ("search", "--cloud", three, "--model", "dual", "--json", "--hits", "2")
    by_words = cleave(*search, "a red circle", cache=folder)
    assert Path(json.loads(by_words.out)["hits"][0]["item"]).name == "exists.png"
    by_picture = json.loads(cleave(*search, "--image", SAMPLES / "count.png", cache=folder).out)["hits"]
    assert Path(by_picture[0]["item"]).name == "count.png"
    assert by_picture[0]["similarity"] == pytest.approx(1, abs=0.01)
    assert len(by_picture) == 2


def test_file_that_is_no_picture_is_told_and_the_others_are_added(
    three: str, folder: Path, tmp_path: Path
) -> None:
    shutil.copy(SAMPLES / "digit.png", tmp_path)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    added = cleave(
        "index", "--cloud", three, "--model", "dual", "--name", "some", "--json", tmp_path, cache=folder
    )
    told = json.loads(added.out)
    assert (added.code, told["added"], [Path(path).name for path in told["failed"]]) == (1, 1, ["broken.png"])


def test_what_a_model_cannot_do_is_one_clear_sentence(three: str, folder: Path) -> None:
    for arguments in (
        ("ask", "--model", "dual", "--image", SAMPLES / "digit.png", "What?"),
        ("ask", "--model", "speech", "--image", SAMPLES / "digit.png"),
        ("listen", "--model", "default", SAMPLES / spoken()[0]["sound"]),
        ("search", "--model", "dual", "--name", "nothing-of-this-name", "a circle"),
        ("ask", "--model", "speech", "--sound", SAMPLES / spoken()[0]["sound"], "--language", "tlh"),
    ):
        cleave(arguments[0], "--cloud", three, *arguments[1:], cache=folder).require_one_clear_error()


def test_listening_ends_at_ctrl_c(three: str, folder: Path) -> None:
    arguments = ("listen", "--cloud", three, "--model", "speech", "-")
    with started(*arguments, cache=folder) as process:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode in (130, -signal.SIGINT)
