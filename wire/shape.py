"""The shapes of model: what goes in, and what comes out of its tail."""

from typing import Literal, get_args

# Generator: features stand in for placeholder tokens of a decoder. Encoder-decoder: a decoder attends to them.
# Dual encoder: they are embeddings, to be compared.
ModelShape = Literal["generator", "encoder-decoder", "dual encoder"]
MODEL_SHAPES: tuple[ModelShape, ...] = get_args(ModelShape)
