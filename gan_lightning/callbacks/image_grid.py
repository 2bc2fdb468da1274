"""Pictures of the generator's samples during training."""

from typing import Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from gan_lightning.callbacks.grid import Grid
from gan_lightning.gan import GAN
from gan_lightning.images import class_columns, class_rows
from gan_lightning.latents import latents
from gan_lightning.pictures import grid

COLUMNS = 10
"""Columns of a grid that has no column for each class."""


class ImageGrid(Grid):
    """Draw a grid of samples for the same latents each time, into ``images/step_00001000.png``, TensorBoard and W&B.

    Without attributes, they are the first images that ``sample.py --seed 0`` draws from a checkpoint of that step.
    ``images/real.png`` shows real images in the same layout. If there are classes, every column is one class: always for real
    images, and for the samples of a conditional generator. With attributes, every column of samples has those of one training
    image.

    Args:
        every_n_steps: generator updates from one grid to the next; there is always one at the end. 0 draws only that.
        rows: images from top to bottom.
        columns: images from left to right; by default one for each class, or 10 if there are no classes or more than 20.
        timelapse: an animation of all grids of the run's folder, ``images/timelapse.gif`` or ``.mp4``, at its end; null
            writes none.

    Raises:
        InputError: a number out of range, or the package for MP4 is not installed.
    """

    shows = "samples"

    def __init__(
        self,
        every_n_steps: int = 1000,
        rows: int = 10,
        columns: int | None = None,
        timelapse: Literal["gif", "mp4"] | None = None,
    ) -> None:
        super().__init__(every_n_steps, rows, columns, timelapse)
        self._latents = torch.empty(0)
        self._labels: Tensor | None = None

    def _prepare(self, trainer: Trainer, pl_module: LightningModule) -> bool:
        assert isinstance(pl_module, GAN)
        generator = pl_module.generator
        rows, columns = self.rows, self.columns or class_columns(generator.num_classes) or COLUMNS
        self.columns = columns
        self._latents = latents(torch.arange(rows * columns), generator.latent_dim, seed=0).to(pl_module.device)
        data = getattr(trainer, "datamodule", None)
        if generator.conditional:
            conditions = None if data is None else data.conditions()
            if conditions is None:
                labels = class_rows(columns, rows, generator.num_classes)
            else:
                labels = conditions[torch.arange(columns) % len(conditions)].repeat_interleave(rows, dim=0)
            self._labels = _transposed(labels, columns).to(pl_module.device)
        if data is not None:
            self._save(trainer, grid(_transposed(data.examples(columns, rows)[0], columns), columns), "real", "real")
        return True

    def _picture(self, pl_module: LightningModule) -> Tensor:
        assert isinstance(pl_module, GAN)
        assert self.columns is not None
        return grid(pl_module.sample(self._latents, self._labels).cpu(), self.columns)


def _transposed(rows: Tensor, count: int) -> Tensor:
    """Turn a grid of ``count`` rows, one after the other (N, ...), into one with those as its columns."""
    return rows.reshape(count, -1, *rows.shape[1:]).transpose(0, 1).flatten(0, 1)
