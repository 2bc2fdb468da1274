"""The contract of every data source for translation from image to image."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gan_lightning.data.base import ImageDataModule, Images, Split, example_indices
from gan_lightning.data.loaders import ImageLoader, UnpairedLoader
from gan_lightning.images import to_float
from gan_lightning.training.randomness import derived_seed

if TYPE_CHECKING:
    from gan_lightning.data.decoded import DecodedImages

Pairs = tuple[Tensor, Tensor]
"""Targets uint8 (N, C, H, W), and the source of each, uint8 (N, C', H', W')."""


class TranslationDataModule(ImageDataModule):
    """Images to translate from, the sources, and images to translate into, the targets.

    The images of :class:`ImageDataModule` are the targets: their shape, their number, and what metrics compare with. On the
    device, a batch is (targets float (B, C, H, W), sources float (B, C', H', W')), both in [-1, 1].

    If the data are ``paired``, each source of a batch belongs to its target, and both are cropped and flipped alike. Otherwise
    each epoch draws targets and sources independently, and has as many of both as there are of the more numerous ones.

    Attributes:
        image_shape: (C, H, W) of the targets.
        source_shape: (C', H', W') of the sources. If it has one channel more than the target, the last one is a mask: 255 where
            the image is missing.
        paired: each source of a training batch belongs to its target.
        has_pairs: :meth:`pairs` knows the target of each source, for measuring. This may be so if training is unpaired.
        target_data: images that the targets are made from.
        source_data: images that the sources are made from; the same as ``target_data`` if each file or image yields both.
        source_description: origin of the sources, for checkpoints: ``mask``, true if their last channel is a mask, and
            ``degradation``, class path and arguments of the function that makes them from targets, or None.
    """

    source_shape: tuple[int, int, int]
    paired: bool = True
    has_pairs: bool = True
    target_data: ImageDataModule
    source_data: ImageDataModule
    source_description: Mapping[str, Any] = MappingProxyType({"mask": False, "degradation": None})

    @property
    def folders(self) -> "Sequence[DecodedImages]":
        return [folder for part in self._parts for folder in part.folders]

    @property
    def _parts(self) -> Sequence[ImageDataModule]:
        same = self.source_data is self.target_data
        return [self.target_data] if same else [self.target_data, self.source_data]

    @abstractmethod
    def pairs_at(self, split: Split, indices: Tensor) -> Pairs:
        """Pairs of a split at ``indices``, int64 (N,). Only these are read if the split is not in memory.

        Raises:
            InputError: no target belongs to a source.
        """

    def pairs(self, split: Split) -> Pairs:
        """Return every pair of a split, in a fixed order.

        Raises:
            InputError: no target belongs to a source.
        """
        return self.pairs_at(split, torch.arange(self.num_images(split)))

    def example_pairs(self, split: Split, count: int) -> Pairs:
        """Choose targets and sources at equal distances, at most ``count`` of each: in pairs, if there are any."""
        sizes = self.num_images(split), self.num_sources(split)
        targets, sources = (example_indices(None, size, 1, min(count, *sizes)) for size in sizes)
        if self.has_pairs:
            return self.pairs_at(split, targets)
        return self.images_at(split, targets)[0], self.sources_at(split, sources)

    def num_sources(self, split: Split) -> int:
        """Number of sources of a split: that of the targets, if there are pairs."""
        return self.num_images(split)

    def num_both(self, split: Split) -> int:
        """Number of targets or of sources of a split, whichever is smaller."""
        return min(self.num_images(split), self.num_sources(split))

    def sources_at(self, split: Split, indices: Tensor) -> Tensor:
        """Sources of a split at ``indices``, uint8 (N, C', H', W')."""
        return self.pairs_at(split, indices)[1]

    def images(self, split: Split) -> Images:
        return self._targets(self.target_data.images(split))

    def num_images(self, split: Split) -> int:
        return self.target_data.num_images(split)

    def images_at(self, split: Split, indices: Tensor) -> Images:
        return self._targets(self.target_data.images_at(split, indices))

    def labels(self, split: Split) -> Tensor | None:
        return self.target_data.labels(split) if self.num_classes else None

    def examples(self, rows: int, columns: int, split: Split = "train") -> Images:
        return self._targets(self.target_data.examples(rows, columns, split))

    def prepare_data(self) -> None:
        for part in self._parts:
            part.prepare_data()

    def setup(self, stage: str) -> None:
        for part in self._parts:
            part.setup(stage)

    def train_dataloader(self) -> ImageLoader:
        for part in self._parts:
            part.trainer = self.trainer
        loaders = [part.train_dataloader() for part in self._parts]
        if self.paired:
            return loaders[0]
        length = max(loader.sampler.size for loader in loaders)
        targets, sources = (
            loader.ordered_by(loader.sampler.independent(length, derived_seed(side, self.seed)))
            for side, loader in (("targets", loaders[0]), ("sources", loaders[-1]))
        )
        return UnpairedLoader(targets, sources)

    def on_after_batch_transfer(self, batch: Images, dataloader_idx: int) -> Images:
        targets, sources = self._pair(*batch)
        return to_float(targets), to_float(sources)

    @abstractmethod
    def _pair(self, images: Tensor, other: Tensor | None) -> Pairs:
        """Make targets and sources of a batch of the loader, flipped.

        Args:
            images: images of ``target_data``.
            other: their labels or None; if the data are not paired, images of ``source_data``.
        """

    def _targets(self, images: Images) -> Images:
        """Take the targets out of images of ``target_data``."""
        return images
