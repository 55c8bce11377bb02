"""Packing: several questions in one sequence give the logits that each gives alone, through the stock forward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from bench.zoo.weights import randomise
from training.batches import Batch
from training.model import make_processor
from training.packing import IGNORED, pack, visible
from training.questions import Question, questions
from training.scenes import scene
from training.trainer import Trainer, packed_logits, vision_patches


def _alone(model: Any, processor: Any, seed: int, question: Question) -> torch.Tensor:
    """Logits that predict the answer's tokens: [answer, vocabulary]."""
    content = [{"type": "image"}, {"type": "text", "text": question.text}]
    prompt = processor.apply_chat_template([{"role": "user", "content": content}], tokenize=False)
    inputs = processor(text=prompt + question.answer, images=scene(seed).image, return_tensors="pt")
    num_answer = len(processor.tokenizer.encode(question.answer))
    return torch.as_tensor(model(**inputs).logits[0, -num_answer - 1 :])


@torch.no_grad()
def test_packed_equals_unpacked(make_trainer: Callable[[], Trainer]) -> None:
    trainer = make_trainer()
    mixture, model = trainer.mixture, trainer.model.eval()
    randomise(model, seed=3)
    processor = make_processor(mixture.shape, mixture.tokenizer)
    batch = mixture.batch(40, 3)
    assert batch.packed is not None
    packed = packed_logits(model, vision_patches(model, batch.pixels), batch)
    for row in range(3):
        for index, question in enumerate(questions(scene(40 + row), mixture.num_questions)):
            is_answer = (batch.packed.segments[row] == index) & (batch.packed.labels[row] != IGNORED)
            alone = _alone(model, processor, 40 + row, question)
            assert torch.allclose(packed[row][is_answer], alone, atol=2e-4, rtol=1e-4)
            other = _alone(model, processor, 41 + row, question)
            assert not torch.allclose(alone, other, atol=1e-2), "the picture must matter"


def test_prompt_ends_a_line(make_trainer: Callable[[], Trainer]) -> None:
    mixture = make_trainer().mixture
    processor = make_processor(mixture.shape, mixture.tokenizer)
    content = [{"type": "image"}, {"type": "text", "text": "What is it?"}]
    messages = [{"role": "user", "content": content}]
    prompt = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert prompt == "<image>What is it?\n"


def test_labels_are_the_answer_and_its_end(tokenizer: PreTrainedTokenizerFast) -> None:
    asked = [Question("colour", "What colour is it?", "red"), Question("size", "How big?", "small")]
    packed = pack([asked], tokenizer)
    labels = [label for label in packed.labels[0].tolist() if label != IGNORED]
    assert tokenizer.decode(labels) == "red</s>small</s>"


def test_questions_do_not_see_each_other(tokenizer: PreTrainedTokenizerFast) -> None:
    asked = [Question("colour", "What colour is it?", "red"), Question("size", "How big?", "small")]
    packed = pack([asked], tokenizer)
    allowed = visible(packed, num_patches=4)[0, 0]
    segments = torch.cat([torch.full((4,), -1), packed.segments[0]])
    crossing = (segments[:, None] == 1) & (segments[None, :] == 0)
    assert not allowed[crossing].any()
    assert allowed[4:, :4].all()
    assert not allowed.triu(1).any()


def test_batch_without_questions_has_no_texts(make_trainer: Callable[[], Trainer]) -> None:
    batch: Batch = make_trainer().mixture.batch(0, 2, has_questions=False)
    assert batch.packed is None
    assert (batch.targets[..., 0] > 0).any()
