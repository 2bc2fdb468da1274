"""Pictures of translations of held-out sources during training."""

from typing import Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from gan_lightning.callbacks.grid import Grid
from gan_lightning.cycle import CycleGAN
from gan_lightning.data.base import Split
from gan_lightning.data.translation import TranslationDataModule
from gan_lightning.images import to_float
from gan_lightning.pictures import side_by_side
from gan_lightning.training.randomness import preserved_random_state
from gan_lightning.translation import PairedTranslation


class TranslationGrid(Grid):
    """Draw translations of the same held-out sources each time, into ``images/step_00001000.png``, TensorBoard and W&B.

    An example is source, output, target. With CycleGAN it is source, output, and the output translated back; below them are
    examples of the other direction: target, its translation, and that translated back.

    Args:
        every_n_steps: generator updates from one grid to the next; there is always one at the end. 0 draws only that.
        rows: examples from top to bottom, for each direction.
        columns: examples from left to right.
        timelapse: an animation of all grids of the run's folder, ``images/timelapse.gif`` or ``.mp4``, at its end; null
            writes none.

    Raises:
        InputError: a number is out of range, or the package for MP4 is not installed.
    """

    shows = "translations"

    def __init__(
        self,
        every_n_steps: int = 1000,
        rows: int = 8,
        columns: int = 2,
        timelapse: Literal["gif", "mp4"] | None = None,
    ) -> None:
        super().__init__(every_n_steps, rows, columns, timelapse)
        self._sources = self._targets = torch.empty(0)

    def _prepare(self, trainer: Trainer, pl_module: LightningModule) -> bool:
        assert self.columns is not None
        data = getattr(trainer, "datamodule", None)
        if not isinstance(data, TranslationDataModule):
            return False
        split: Split = "test" if data.num_both("test") else "train"
        self._targets, self._sources = data.example_pairs(split, self.rows * self.columns)
        return True

    def _picture(self, pl_module: LightningModule) -> Tensor:
        assert self.columns is not None
        sources, targets = (to_float(images.to(pl_module.device)) for images in (self._sources, self._targets))
        with preserved_random_state(pl_module.device):  # a generator may draw noise
            if isinstance(pl_module, CycleGAN):
                outputs, inverse = pl_module.translate(sources), pl_module.translate_back(targets)
                back, forth = pl_module.translate_back(to_float(outputs)), pl_module.translate(to_float(inverse))
                halves = [(self._sources, outputs, back), (self._targets, inverse, forth)]
                return torch.cat([side_by_side(*half, examples=self.columns) for half in halves], dim=1)
            assert isinstance(pl_module, PairedTranslation)
            return side_by_side(self._sources, pl_module.translate(sources), self._targets, examples=self.columns)
