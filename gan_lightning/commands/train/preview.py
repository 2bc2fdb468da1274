"""A picture of the real images or pairs that a training begins with, for ``train --dry_run``."""

import copy
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from gan_lightning.augment import AdaptiveAugment
from gan_lightning.data import TranslationDataModule
from gan_lightning.errors import InputError
from gan_lightning.gan import GAN
from gan_lightning.images import to_uint8
from gan_lightning.pictures import grid, side_by_side, write_png

COLUMNS, MOST = 8, 32  # images of a row, and of all rows
SHOWN_PROBABILITY = 0.5
"""Probability at which an adaptive augmentation is drawn. Its own is 0 at the start of a run."""


class Preview(Callback):
    """Draw the first real images of training, as they are cropped and flipped, and the same images augmented below each row.

    If the data are for translation, draw each source, and to the right of it its target.

    Attributes:
        picture: uint8 (3 or 4, height, width); None before the first step, and in all processes except the first.
        description: contents of the picture.
    """

    def __init__(self) -> None:
        self.picture: Tensor | None = None
        self.description = "real images, cropped and flipped as in training"

    @torch.no_grad()
    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self.picture is not None or not trainer.is_global_zero:
            return
        data = getattr(trainer, "datamodule", None)
        if isinstance(data, TranslationDataModule):
            self.picture = draw_pairs(*batch)
            beside = "its target" if data.paired else "a target that does not belong to it"
            self.description = f"each source, and next to it {beside}, cropped and flipped as in training"
            return
        assert isinstance(pl_module, GAN)
        images = batch[0][:MOST]  # float (N, C, H, W)
        rows = [images]
        if pl_module.augmentation is not None:
            augmentation = copy.deepcopy(pl_module.augmentation)
            augmentation.strength.fill_(1)
            below = "below each row, the same images as the discriminator sees them"
            if isinstance(augmentation, AdaptiveAugment):
                augmentation.probability.fill_(SHOWN_PROBABILITY)
                below += f" at probability {SHOWN_PROBABILITY}"
            self.description += f"; {below}"
            rows.append(augmentation(images))
        columns = min(COLUMNS, len(images))
        whole = len(images) // columns * columns
        pairs = [each[:whole].unflatten(0, (-1, columns)) for each in rows]  # (rows, columns, C, H, W) each
        self.picture = grid(to_uint8(torch.stack(pairs, dim=1).flatten(0, 2)).cpu(), columns)


def draw_pairs(targets: Tensor, sources: Tensor) -> Tensor:
    """Draw the first pairs of a batch, floats (N, C, H, W) and (N, C', H', W') in [-1, 1]: uint8 (3, height, width)."""
    columns = min(COLUMNS // 2, len(targets))
    whole = min(MOST // 2, len(targets)) // columns * columns
    return side_by_side(to_uint8(sources[:whole]), to_uint8(targets[:whole]), examples=columns)


def write_picture(picture: Tensor, path: Path) -> None:
    """Write a picture uint8 (3 or 4, height, width).

    Raises:
        InputError: the file cannot be written.
    """
    try:
        write_png(picture, path)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}): use another --default_root_dir") from error
