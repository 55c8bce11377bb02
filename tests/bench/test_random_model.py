"""The random model is one that the default model's processor serves, of the size that is said."""

from pathlib import Path

import pytest
import torch

from bench.random_model import make_random_model, num_decoder_parameters
from cleave.assets import resolve_model
from splitmodel.loading import load


@pytest.mark.slow
def test_random_model_has_100_million_parameters_and_none_is_zero(tmp_path: Path):
    checkpoint = load(str(make_random_model(Path(resolve_model("default")), tmp_path / "made", 0)))
    assert 90e6 < num_decoder_parameters(checkpoint.model) < 110e6
    assert all(bool(parameter.any()) for parameter in checkpoint.model.parameters())
    assert checkpoint.model.dtype == torch.float32
    assert checkpoint.model.generation_config.eos_token_id == 2
