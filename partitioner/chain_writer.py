"""One chain of a bundle: its recipe checked, its stages exported, its codecs measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from partitioner.calibrate import calibrate
from partitioner.checks import Preprocess, check_preprocessing, check_prompts
from partitioner.export import export_stages
from partitioner.plan import default_arm
from splitmodel.adapters.base import Adapter
from splitmodel.encoder import Encoder
from splitmodel.media import Media
from splitmodel.recipes import recipe_of
from wire.manifest import Chain, InputShape, Preprocessing, SplitPoint, Stage, TensorEntry
from wire.sizes import ImageSize, SoundSize

Progress = Callable[[str, int, int], None]  # step, done, in all


@dataclass(slots=True)
class ChainWriter:
    """Writes the chains of one bundle, one after the other; `progress` counts over all of them."""

    folder: Path
    adapter: Adapter
    preprocess: Preprocess
    progress: Progress
    num_chains: int
    num_written: int = 0

    def write(
        self, encoder: Encoder, examples: Sequence[Media], samples: Sequence[Media], prompt: str
    ) -> Chain:
        """Checks on the examples, calibrates on the samples; raises BadInput where a recipe is not the model's own."""
        recipe = self._recipe(encoder, examples, prompt)
        tiles = [tile for media in samples for tile in self.adapter.boundary_input(encoder, media)]
        stages = self._stages(encoder, tiles[0])
        entries = calibrate(
            encoder.chain, tiles, len(tiles) / len(samples), self._advance("calibrate", encoder)
        )
        points = encoder.chain.split_points
        macs = [0, *encoder.chain.stage_macs(tiles[0])]
        self.num_written += 1
        return Chain(
            modality=encoder.modality,
            input_shape=_input_shape(encoder),
            preprocessing=recipe,
            preprocessing_digest=recipe.digest(),
            split_points=[
                SplitPoint(
                    index=point.index,
                    label=point.label,
                    tensors=[TensorEntry.of(spec) for spec in point.tensors],
                    raw_bytes=point.num_bytes,
                    stage_macs=macs[point.index],
                )
                for point in points
            ],
            stages=stages,
            codecs=entries,
            default_arm=default_arm(entries),
        )

    def _recipe(self, encoder: Encoder, examples: Sequence[Media], prompt: str) -> Preprocessing:
        recipe, files = recipe_of(self.adapter, encoder)
        for path, data in files.items():
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / path).write_bytes(data)
        check_preprocessing(self.adapter, encoder, recipe, self.preprocess, examples, self.folder)
        check_prompts(self.adapter, encoder, examples, prompt)
        return recipe

    def _stages(self, encoder: Encoder, example: Sequence[Tensor]) -> list[Stage]:
        folder = f"stages/{encoder.modality}"
        # In one folder for all sizes: a stage may read weights that lie beside it, and nowhere else.
        prefix = "" if encoder.size is None else f"{encoder.shape_id.replace('@', '-')}-"
        (self.folder / folder).mkdir(parents=True, exist_ok=True)
        advance, stages = self._advance("export", encoder, extra=-1), []
        for index, model in enumerate(export_stages(encoder.chain, example)):
            path = f"{folder}/{prefix}{index:03}.onnx"
            (self.folder / path).write_bytes(model)
            stages.append(Stage(index=index, path=path))
            advance()
        return stages

    def _advance(self, step: str, encoder: Encoder, extra: int = 0) -> Callable[[], None]:
        """Counts the split points of one chain, of all chains as if they had as many."""
        points = encoder.chain.num_stages + 1 + extra
        done = self.num_written * points

        def advance() -> None:
            nonlocal done
            done += 1
            self.progress(step, done, points * self.num_chains)

        return advance


def _input_shape(encoder: Encoder) -> InputShape:
    size = encoder.size
    return InputShape(
        shape_id=encoder.shape_id,
        tensors=[TensorEntry.of(spec) for spec in encoder.chain.split_points[0].tensors],
        is_tiled=encoder.tile_axis is not None,
        width=size.width if isinstance(size, ImageSize) else None,
        height=size.height if isinstance(size, ImageSize) else None,
        samples=size.samples if isinstance(size, SoundSize) else None,
    )
