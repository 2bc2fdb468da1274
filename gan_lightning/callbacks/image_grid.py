"""Pictures of what the generator draws, as the run goes on."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from gan_lightning.errors import InputError
from gan_lightning.gan import GAN
from gan_lightning.images import class_rows
from gan_lightning.pictures import grid, write_png


class ImageGrid(Callback):
    """A grid of samples for the same latents each time, to ``images/step_00001000.png`` and to TensorBoard.

    Real images of the same layout stand once beside them, in ``images/real.png``. Where there are labels, every row is one
    class: of the real images always, of the samples where the generator is conditional.

    Args:
        every_n_steps: how often, in generator updates; at the run's end there is always one. 0 is only then.
        rows: images from top to bottom.
        columns: images from left to right.
        seed: of the latents.

    Raises:
        InputError: a number out of range.
    """

    def __init__(self, every_n_steps: int = 1000, rows: int = 10, columns: int = 10, seed: int = 0) -> None:
        if every_n_steps < 0 or rows < 1 or columns < 1:
            raise InputError(
                f"image_grid has every_n_steps {every_n_steps}, rows {rows}, columns {columns}: give at least 0, 1 and 1"
            )
        self.every_n_steps, self.rows, self.columns, self.seed = every_n_steps, rows, columns, seed
        self._latents: Tensor | None = None
        self._labels: Tensor | None = None
        self._drawn_at = -1
        self._folder = Path()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        # asked for here, because every process has to ask; there is no log_dir in a fast_dev_run
        self._folder = Path(trainer.log_dir or trainer.default_root_dir) / "images"

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, GAN)
        if not trainer.is_global_zero:
            return
        count = self.rows * self.columns
        random = torch.Generator().manual_seed(self.seed)  # the training's own random numbers stay as they are
        self._latents = torch.randn(count, pl_module.generator.latent_dim, generator=random).to(pl_module.device)
        data = getattr(trainer, "datamodule", None)
        labels = None
        if data is not None:
            real, labels = data.examples(self.rows, self.columns)
            self._save(trainer, real, "real")
        if pl_module.generator.conditional:
            if labels is None:
                labels = class_rows(self.rows, self.columns, pl_module.generator.num_classes)
            self._labels = labels.to(pl_module.device)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.every_n_steps and trainer.global_step % self.every_n_steps == 0:
            self._draw(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._draw(trainer, pl_module)

    def _draw(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, GAN)
        if self._drawn_at == trainer.global_step:
            return
        pl_module.require_finite()  # in every process, so that all of them stop, and not only the one that draws
        if self._latents is None:
            return
        self._drawn_at = trainer.global_step
        self._save(trainer, pl_module.sample(self._latents, self._labels).cpu(), f"step_{trainer.global_step:08d}")

    def _save(self, trainer: Trainer, images: Tensor, name: str) -> None:
        picture = grid(images, self.columns)
        write_png(picture, self._folder / f"{name}.png")
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                tag = "images/real" if name == "real" else "images/samples"
                logger.experiment.add_image(tag, picture, trainer.global_step)
