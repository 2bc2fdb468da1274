"""Pairs that are made from single images: the target is the image, and the source a degraded version of it."""

import os
from typing import Protocol

import torch
from torch import Tensor

from gan_lightning.data.base import ImageDataModule, Split
from gan_lightning.data.degradations import Degradation
from gan_lightning.data.translation import Pairs, TranslationDataModule
from gan_lightning.errors import InputError


class ImageData(Protocol):
    """A class of image data, or a function that makes such data. It may have more arguments, with defaults."""

    def __call__(
        self, *, root: str | os.PathLike[str], batch_size: int, horizontal_flip: bool, seed: int
    ) -> ImageDataModule: ...


class Derived(TranslationDataModule):
    """Pairs from images: each image is a target, and its degradation the source.

    The degradation is computed on the device, after crop and flip. A random one is a function of (seed, step, rank) in
    training, and of the image's index everywhere else, so that all runs are measured on the same sources.

    Args:
        source: class of the images, such as ``ImageFolder`` or ``CIFAR10``.
        degradation: function from an image to its source.
        root: folder of the images; None is $GAN_LIGHTNING_DATA, else ~/.cache/gan_lightning/data.
        paired: train on each source together with its target. If false, the sources of a batch belong to other images, drawn
            independently; they are still measured in pairs.
        batch_size: pairs per update of a network, for each process.
        horizontal_flip: flip every training image left to right with probability 1/2, before the degradation.
        seed: seed of the order, the flips, the random crops and the random degradations.

    Raises:
        InputError: the images cannot be degraded so, or ``source`` needs a root, or has none.
    """

    def __init__(
        self,
        source: ImageData,
        degradation: Degradation,
        root: str | os.PathLike[str] | None = None,
        paired: bool = True,
        batch_size: int = 64,
        horizontal_flip: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(root, batch_size, horizontal_flip, seed)
        self.source = self.target_data = self.source_data = _make(source, root, batch_size, seed)
        self.degradation, self.paired = degradation, paired
        self.name, self.extractor, self.class_names = self.source.name, self.source.extractor, self.source.class_names
        self.image_shape = self.source.image_shape
        self.source_shape = degradation.source_shape(self.image_shape)
        self.source_description = {"mask": degradation.has_mask, "degradation": degradation.describe()}

    @property
    def classifier_source(self) -> ImageDataModule:
        return self.source.classifier_source

    def pairs_at(self, split: Split, indices: Tensor) -> Pairs:
        images, _ = self.images_at(split, indices)
        return images, self.degraded(images, indices)

    def degraded(self, images: Tensor, indices: Tensor) -> Tensor:
        """Degrade images uint8 (N, C, H, W) whose numbers in a split are ``indices``, int64 (N,): uint8 (N, C', H', W')."""
        return self.degradation(images, self.degradation.fixed_draws(indices).to(images.device))

    def _pair(self, images: Tensor, other: Tensor | None) -> Pairs:
        targets = self._flipped(images)
        originals = targets
        if not self.paired:
            assert other is not None
            originals = self._flipped(other, "flips of sources")
        draws = torch.empty(len(images), self.degradation.num_draws, device=images.device)
        if self.degradation.num_draws:
            draws.uniform_(generator=self._random("degradation", images.device))
        return targets, self.degradation(originals, draws)


def _make(source: ImageData, root: str | os.PathLike[str] | None, batch_size: int, seed: int) -> ImageDataModule:
    """Make the images. The flips are those of the pairs.

    Raises:
        InputError: they need a root.
    """
    given = {} if root is None else {"root": root}
    try:
        return source(**given, batch_size=batch_size, horizontal_flip=False, seed=seed)
    except TypeError as error:
        if "'root'" not in str(error):
            raise
        if root is not None:
            raise InputError(f"data.root is {root}, but data.source has no root: use --data.source.path instead") from error
        raise InputError("data.source reads a folder, but data.root is missing: add --data.root FOLDER") from error
