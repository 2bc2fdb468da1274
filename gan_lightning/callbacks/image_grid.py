"""Pictures of the generator's samples during training."""

from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from torch import Tensor

from gan_lightning.errors import InputError
from gan_lightning.gan import GAN
from gan_lightning.images import class_columns, class_rows
from gan_lightning.latents import latents
from gan_lightning.pictures import grid, read_png, require_animation, write_animation, write_png

COLUMNS = 10
"""Columns of a grid that has no column for each class."""


class ImageGrid(Callback):
    """Draw a grid of samples for the same latents each time, into ``images/step_00001000.png``, TensorBoard and W&B.

    They are the first images that ``sample.py --seed 0`` draws from a checkpoint of that step. ``images/real.png`` shows real
    images in the same layout. If there are labels, every column is one class: always for real images, and for the samples of
    a conditional generator.

    Args:
        every_n_steps: generator updates from one grid to the next; there is always one at the end. 0 draws only that.
        rows: images from top to bottom.
        columns: images from left to right; by default one for each class, or 10 if there are no classes or more than 20.
        timelapse: an animation of all grids of the run's folder, ``images/timelapse.gif`` or ``.mp4``, at its end; null
            writes none.

    Raises:
        InputError: a number out of range, or the package for MP4 is not installed.
    """

    def __init__(
        self,
        every_n_steps: int = 1000,
        rows: int = 10,
        columns: int | None = None,
        timelapse: Literal["gif", "mp4"] | None = None,
    ) -> None:
        if every_n_steps < 0:
            raise InputError(f"image_grid.every_n_steps is {every_n_steps}: use at least 0")
        for name, number in {"rows": rows, "columns": columns}.items():
            if number is not None and number < 1:
                raise InputError(f"image_grid.{name} is {number}: use at least 1")
        if timelapse is not None:
            require_animation(Path(f"timelapse.{timelapse}"))
        self.every_n_steps, self.rows, self.columns, self.timelapse = every_n_steps, rows, columns, timelapse
        self._latents: Tensor | None = None
        self._labels: Tensor | None = None
        self._drawn_at = -1
        self._folder = Path()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        # here, because every process must read log_dir; it is None in a fast_dev_run
        self._folder = Path(trainer.log_dir or trainer.default_root_dir) / "images"

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, GAN)
        if not trainer.is_global_zero:
            return
        generator = pl_module.generator
        rows, columns = self.rows, self.columns or class_columns(generator.num_classes) or COLUMNS
        self.columns = columns
        self._latents = latents(torch.arange(rows * columns), generator.latent_dim, seed=0).to(pl_module.device)
        if generator.conditional:
            self._labels = _transposed(class_rows(columns, rows, generator.num_classes), columns).to(pl_module.device)
        if (data := getattr(trainer, "datamodule", None)) is not None:
            self._save(trainer, _transposed(data.examples(columns, rows)[0], columns), "real")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.every_n_steps and trainer.global_step % self.every_n_steps == 0:
            self._draw(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._draw(trainer, pl_module)
        if self.timelapse is not None and trainer.is_global_zero:
            grids = [read_png(path) for path in sorted(self._folder.glob("step_*.png"))]
            frames = [grid for grid in grids if grid.shape == grids[-1].shape]  # a resumed run may have another layout
            write_animation(torch.stack(frames), self._folder / f"timelapse.{self.timelapse}")

    def _draw(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, GAN)
        if self._drawn_at == trainer.global_step:
            return
        pl_module.require_finite()  # in every process, so that all of them stop
        if self._latents is None:
            return
        self._drawn_at = trainer.global_step
        self._save(trainer, pl_module.sample(self._latents, self._labels).cpu(), f"step_{trainer.global_step:08d}")

    def _save(self, trainer: Trainer, images: Tensor, name: str) -> None:
        assert self.columns is not None
        picture = grid(images, self.columns)
        write_png(picture, self._folder / f"{name}.png")
        for logger in trainer.loggers:
            tag = "images/real" if name == "real" else "images/samples"
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image(tag, picture, trainer.global_step)
            elif isinstance(logger, WandbLogger):
                logger.log_image(tag, [picture.permute(1, 2, 0).numpy()], trainer.global_step)


def _transposed(rows: Tensor, count: int) -> Tensor:
    """Turn a grid of ``count`` rows, one after the other (N, ...), into one with those as its columns."""
    return rows.reshape(count, -1, *rows.shape[1:]).transpose(0, 1).flatten(0, 1)
