"""The next token of each row, from its logits: by the row's own settings, whatever else is in the batch."""

from __future__ import annotations

import copy
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessorList

from cloud_node.asked.settings import Settings
from wire.errors import BadInput, CleaveError, ModelFailed


@dataclass(slots=True, eq=False)
class Choice:
    """How one sequence's tokens are chosen, and those chosen so far."""

    processors: LogitsProcessorList
    is_greedy: bool
    seed: int
    token_ids: list[int]  # of the prompt, then those chosen
    num_chosen: int = 0
    # Of the tokens that end an answer, none is chosen before this many others were.
    stop_ids: frozenset[int] = frozenset()
    min_new_tokens: int = 0

    @property
    def is_plain(self) -> bool:
        """The most likely token, of the logits as they are."""
        return self.is_greedy and not self.processors


def make_choice(model: Any, settings: Settings, prompt_ids: Sequence[int], max_new_tokens: int) -> Choice:
    """The model's own logits processors for these settings; raises BadInput for settings that it refuses."""
    config = copy.deepcopy(model.generation_config)
    given = settings.generate_arguments()
    config.update(**{**given, "max_new_tokens": max_new_tokens})
    # As `generate` does: where neither the request nor the checkpoint says, it draws from the likeliest 50.
    config.update(**config._get_default_generation_params(), defaults_only=True)
    at_least = min(config.min_new_tokens or 0, max_new_tokens)
    # Done here for all rows at once: a processor of each row would cost more than the rest of the choice.
    config.min_new_tokens = None
    config.max_length = len(prompt_ids) + max_new_tokens
    require_no_beams(config)
    try:
        model._prepare_special_tokens(
            config, kwargs_has_attention_mask=True, device=model.device, batch_size=1
        )
        processors = model._get_logits_processor(
            generation_config=config,
            input_ids_seq_length=len(prompt_ids),
            encoder_input_ids=torch.tensor([list(prompt_ids)], device=model.device),
            device=model.device,
        )
    except (TypeError, ValueError) as error:
        raise BadInput(f"the model does not take these settings: {' '.join(str(error).split())}") from error
    return Choice(
        processors,
        not config.do_sample,
        seed_of(settings),
        list(prompt_ids),
        stop_ids=stop_ids_of(config),
        min_new_tokens=at_least,
    )


def require_no_beams(generation_config: Any) -> None:
    """Raises BadInput where the model would search instead of choosing a token at a time."""
    if (generation_config.num_beams or 1) > 1:
        raise BadInput(
            "the model's generation config asks for beam search, which is not served; set num_beams to 1"
        )


def seed_of(settings: Settings) -> int:
    """The request's, or a random one."""
    return secrets.randbits(63) if settings.seed is None else settings.seed


def stop_ids_of(generation_config: Any) -> frozenset[int]:
    """The tokens that end an answer."""
    eos = generation_config.eos_token_id
    return frozenset() if eos is None else frozenset([eos] if isinstance(eos, int) else eos)


def choose(logits: Tensor, choices: Sequence[Choice]) -> list[int | CleaveError]:
    """One token per row of [rows, vocabulary], or why that row has none."""
    _forbid_ends(logits, choices)
    values, ids = logits.max(-1)
    chosen: list[int | CleaveError] = []
    for row, (choice, finite, token_id) in enumerate(
        zip(choices, values.isfinite().tolist(), ids.tolist(), strict=True)
    ):
        if not finite:
            chosen.append(ModelFailed("the model's logits are not finite; send features that are"))
            continue
        try:
            token = token_id if choice.is_plain else _by_settings(logits[row : row + 1], choice)
        except Exception as error:  # a processor's failure is its own row's
            chosen.append(
                ModelFailed(f"choosing a token failed ({type(error).__name__}); change the settings")
            )
            continue
        choice.token_ids.append(token)
        choice.num_chosen += 1
        chosen.append(token)
    return chosen


def _forbid_ends(logits: Tensor, choices: Sequence[Choice]) -> None:
    """In place: rows whose answers are too short yet choose no token that ends them."""
    pairs = [
        (row, token_id)
        for row, choice in enumerate(choices)
        if choice.num_chosen < choice.min_new_tokens
        for token_id in choice.stop_ids
    ]
    if pairs:
        rows, token_ids = zip(*pairs, strict=True)
        logits[list(rows), list(token_ids)] = -torch.inf


def _by_settings(logits: Tensor, choice: Choice) -> int:
    """`logits` are [1, vocabulary]."""
    ids = torch.tensor([choice.token_ids], device=logits.device)
    scores = choice.processors(ids, logits.float())
    if choice.is_greedy:
        return int(scores.argmax(-1))
    # On the CPU, so that a seed means the same tokens on every device.
    probabilities = torch.softmax(scores[0], -1).cpu()
    generator = torch.Generator().manual_seed(_draw_seed(choice.seed, choice.num_chosen))
    return int(torch.multinomial(probabilities, 1, generator=generator))


def _draw_seed(seed: int, token_index: int) -> int:
    """One generator per token: a draw depends on the seed and the token's index, never on the batch."""
    digest = sha256(seed.to_bytes(8, "little") + token_index.to_bytes(8, "little")).digest()
    return int.from_bytes(digest[:8], "little") >> 1
