"""Loading: what is no checkpoint is refused in one sentence, no code or pickle is run, weights have a digest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file

from partitioner.pictures import made_pictures
from splitmodel.loading import Checkpoint, load, weights_digest
from tests.kit.checkpoints import tiny_llava
from tests.kit.zoo import checkpoint_folder
from wire.errors import BadInput, CleaveError, UnknownModel

_WEIGHTS = "model.safetensors"


@pytest.fixture
def copy(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "copy"))


def refusal(name: str | Path, kind: type[CleaveError]) -> str:
    with pytest.raises(kind) as caught:
        load(str(name))
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert len(sentence) < 1000
    return sentence


def edit_config(folder: Path, change: dict[str, object]) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / _WEIGHTS)
    change(tensors)
    save_file(tensors, folder / _WEIGHTS, metadata={"format": "pt"})


@pytest.mark.parametrize("name", ["/no/such/place", "./nowhere", "a/b/c", "~nobody-of-that-name/model"])
def test_missing_directory_is_an_unknown_model(name: str) -> None:
    assert "is not a directory" in refusal(name, UnknownModel)


def test_file_is_an_unknown_model(copy: Path) -> None:
    assert "is not a directory" in refusal(copy / "config.json", UnknownModel)


def test_directory_without_config_is_an_unknown_model(tmp_path: Path) -> None:
    assert "without config.json" in refusal(tmp_path, UnknownModel)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not a valid JSON"),
        ("[]", "model_type"),
        ('{"model_type": "nothing-of-that-name"}', "nothing-of-that-name"),
        ('{"model_type": "llama", "hidden_size": "wide"}', "expected int, got str"),
    ],
)
def test_config_that_does_not_load_is_refused_with_the_reason(copy: Path, text: str, reason: str) -> None:
    (copy / "config.json").write_text(text)
    sentence = refusal(copy, BadInput)
    assert "config.json of" in sentence
    assert reason in sentence


@pytest.mark.parametrize("kind", ["depth_anything", "aimv2_text_model"])
def test_model_of_no_kind_that_is_served_is_refused_by_its_kind(copy: Path, kind: str) -> None:
    (copy / "config.json").write_text(json.dumps({"model_type": kind}))
    assert f"is a {kind} model, and transformers has no class for it that is served" in refusal(
        copy, BadInput
    )


def test_pickled_weights_are_never_read(copy: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str, ...]]:
            return Path.mkdir, (Path(tmp_path / "sprung"),)  # type: ignore[return-value]

    torch.save({"weights": Trap()}, copy / "pytorch_model.bin")
    (copy / _WEIGHTS).unlink()
    assert _WEIGHTS in refusal(copy, BadInput)
    assert not (tmp_path / "sprung").exists()


def test_code_in_the_checkpoint_is_never_run_and_nobody_is_asked(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked whether to run code"))
    (copy / "trap.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w').close()\n")
    edit_config(copy, {"model_type": "trap", "auto_map": {"AutoConfig": "trap.Config"}})
    refusal(copy, BadInput)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("num_bytes", [0, 100, 20_000])
def test_weights_cut_short_are_refused(copy: Path, num_bytes: int) -> None:
    (copy / _WEIGHTS).write_bytes((copy / _WEIGHTS).read_bytes()[:num_bytes])
    assert "does not load" in refusal(copy, BadInput)


def test_missing_weight_is_refused_and_not_made_up(copy: Path) -> None:
    edit_weights(copy, lambda tensors: tensors.popitem())
    assert refusal(copy, BadInput).startswith("1 weights of ")


def test_weights_of_another_size_are_refused(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    edit_config(copy, {"text_config": {**config["text_config"], "vocab_size": 400}})
    assert "of another shape than its config.json says" in refusal(copy, BadInput)


def test_weight_too_many_is_no_error_and_no_noise(copy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    edit_weights(copy, lambda tensors: tensors.update(spare=torch.ones(2)))
    load(str(copy))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("pattern", ["*processor*", "tokenizer*"])
def test_checkpoint_without_its_processor_is_refused(copy: Path, pattern: str) -> None:
    for path in copy.glob(pattern):
        path.unlink()
    assert "the processor of" in refusal(copy, BadInput)


def test_hub_id_is_refused_at_once_when_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    sentence = refusal("some-owner/no-such-model", UnknownModel)
    assert sentence.startswith("some-owner/no-such-model is no local directory, and the hub gave none")


def test_any_error_of_the_hubs_client_is_an_unknown_model(monkeypatch: pytest.MonkeyPatch) -> None:
    class ProxyRefused(Exception):
        pass

    def refuse(*_: object, **__: object) -> str:
        raise ProxyRefused("407 from the proxy")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    assert "407 from the proxy" in refusal("some-owner/no-such-model", UnknownModel)


def test_malformed_hub_id_is_an_unknown_model() -> None:
    assert "check the name" in refusal("some owner/no such model", UnknownModel)


def test_model_is_loaded_for_evaluation_in_float32(tiny_checkpoint: Path) -> None:
    checkpoint = load(str(tiny_checkpoint))
    assert not checkpoint.model.training
    assert checkpoint.model.dtype == torch.float32


def test_digest_is_the_same_whatever_dtype_the_weights_load_as(tiny_checkpoint: Path) -> None:
    halved = load(str(tiny_checkpoint), dtype=torch.bfloat16)
    assert halved.model.dtype == torch.bfloat16
    assert halved.weights_digest == load(str(tiny_checkpoint)).weights_digest


def test_digest_does_not_depend_on_the_order_in_which_files_came(tmp_path: Path) -> None:
    names = ["a.safetensors", "b.safetensors", "c.safetensors"]
    for folder, order in (("one", names), ("other", names[::-1])):
        (tmp_path / folder).mkdir()
        for name in order:
            (tmp_path / folder / name).write_bytes(name.encode())
        (tmp_path / folder / "notes.txt").write_text(folder)
    assert weights_digest(tmp_path / "one") == weights_digest(tmp_path / "other")


def test_digest_tells_where_one_file_ends_and_the_next_begins(tmp_path: Path) -> None:
    for folder, contents in (("one", (b"12", b"3")), ("other", (b"1", b"23"))):
        (tmp_path / folder).mkdir()
        for name, content in zip("ab", contents, strict=True):
            (tmp_path / folder / f"{name}.safetensors").write_bytes(content)
    assert weights_digest(tmp_path / "one") != weights_digest(tmp_path / "other")


def test_other_weights_have_another_digest(tiny_checkpoint: Path, copy: Path, tmp_path: Path) -> None:
    edit_weights(copy, lambda tensors: next(iter(tensors.values())).view(-1)[:1].add_(1e-3))
    digests = {
        weights_digest(folder) for folder in (tiny_checkpoint, copy, tiny_llava(tmp_path / "new", seed=9))
    }
    assert len(digests) == 3


def test_short_name_is_the_directorys_or_the_hub_id(tiny_checkpoint: Path) -> None:
    local = Checkpoint(f"{tiny_checkpoint}/", tiny_checkpoint, None, None, "")
    assert local.short_name == tiny_checkpoint.name
    hub = Checkpoint("owner/model", Path("/cache/snapshots/3f2a9c"), None, None, "")
    assert hub.short_name == "owner/model"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["smolvlm", "internvl", "qwen2_5_vl"])
def test_processor_whose_videos_need_what_is_missing_is_loaded_all_the_same(name: str) -> None:
    processor = load(str(checkpoint_folder(name))).processor
    inputs = processor.image_processor(made_pictures(2)[1], return_tensors="pt")
    assert inputs["pixel_values"].ndim >= 2
