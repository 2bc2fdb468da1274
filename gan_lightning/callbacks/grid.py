"""What all pictures during training share: when they are drawn, and where they are saved."""

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from torch import Tensor

from gan_lightning.errors import InputError
from gan_lightning.module import AdversarialModule
from gan_lightning.pictures import read_png, require_animation, write_animation, write_png


class Grid(Callback):
    """Base of a callback that draws the same samples each time, into ``images/step_00001000.png``, TensorBoard and W&B.

    Args:
        every_n_steps: generator updates from one grid to the next; there is always one at the end. 0 draws only that.
        rows: rows of the grid.
        columns: columns of the grid; None lets the subclass choose.
        timelapse: an animation of all grids of the run's folder, ``images/timelapse.gif`` or ``.mp4``, at its end; None
            writes none.

    Attributes:
        shows: name of the grids in TensorBoard and W&B.

    Raises:
        InputError: a number is out of range, or the package for MP4 is not installed.
    """

    shows: ClassVar[str]

    def __init__(self, every_n_steps: int, rows: int, columns: int | None, timelapse: Literal["gif", "mp4"] | None) -> None:
        if every_n_steps < 0:
            raise InputError(f"image_grid.every_n_steps is {every_n_steps}: use at least 0")
        for name, number in {"rows": rows, "columns": columns}.items():
            if number is not None and number < 1:
                raise InputError(f"image_grid.{name} is {number}: use at least 1")
        if timelapse is not None:
            require_animation(Path(f"timelapse.{timelapse}"))
        self.every_n_steps, self.rows, self.columns, self.timelapse = every_n_steps, rows, columns, timelapse
        self._is_ready = False
        self._drawn_at = -1
        self._folder = Path()

    @abstractmethod
    def _prepare(self, trainer: Trainer, pl_module: LightningModule) -> bool:
        """Choose what all grids show, in the first process. Returns False if nothing can be drawn."""

    @abstractmethod
    def _picture(self, pl_module: LightningModule) -> Tensor:
        """Draw a grid, uint8 (3 or 4, height, width), on the CPU."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        # here, because every process must read log_dir; it is None in a fast_dev_run
        self._folder = Path(trainer.log_dir or trainer.default_root_dir) / "images"

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            self._is_ready = self._prepare(trainer, pl_module)

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
            if frames:
                write_animation(torch.stack(frames), self._folder / f"timelapse.{self.timelapse}")

    def _draw(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, AdversarialModule)
        if self._drawn_at == trainer.global_step:
            return
        pl_module.require_finite()  # in every process, so that all of them stop
        if not self._is_ready:
            return
        self._drawn_at = trainer.global_step
        self._save(trainer, self._picture(pl_module), f"step_{trainer.global_step:08d}", self.shows)

    def _save(self, trainer: Trainer, picture: Tensor, name: str, tag: str) -> None:
        """Save a picture uint8 (3 or 4, height, width) as ``images/NAME.png``, and log it as ``images/TAG``."""
        write_png(picture, self._folder / f"{name}.png")
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image(f"images/{tag}", picture, trainer.global_step)
            elif isinstance(logger, WandbLogger):
                logger.log_image(f"images/{tag}", [picture.permute(1, 2, 0).numpy()], trainer.global_step)
