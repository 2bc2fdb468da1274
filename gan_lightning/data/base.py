"""The contract of every data source."""

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from gan_lightning.data.loaders import DeviceLoader, EpochShuffle, ImageLoader
from gan_lightning.errors import InputError
from gan_lightning.home import default_root, expanded
from gan_lightning.images import class_rows, to_float
from gan_lightning.training.randomness import derived_seed

if TYPE_CHECKING:
    from gan_lightning.data.decoded import DecodedImages

MOST_CONDITIONS, MOST_NUMBERS = 1024, 2**15
"""Largest number of training images whose attributes samples are drawn with, and of numbers in them."""
Split = Literal["train", "test"]
Images = tuple[Tensor, Tensor | None]
"""Images uint8 (N, C, H, W), and labels: classes int64 (N,), or attributes float32 (N, K), or None."""


class ImageDataModule(LightningDataModule, ABC):
    """Images for a GAN, with their shape and classes known from the start.

    A batch is (images uint8 (B, C, H, W), labels int64 (B,) or float32 (B, condition_dim) or None). On the device its images
    are converted to floats in [-1, 1] and flipped. One batch holds the real images of one whole training step (see
    ``GAN.real_batches_per_step``). Training batches come from :meth:`images` of the train split. The test split is for metrics
    and is never trained on.

    Args:
        root: folder of the data; None is $GAN_LIGHTNING_DATA, else ~/.cache/gan_lightning/data.
        batch_size: images per update of a network, for each process.
        horizontal_flip: flip every training image left to right with probability 1/2.
        seed: seed of the flips and of the order of the images. The order is a function of the seed and the epoch.

    Attributes:
        image_shape: (C, H, W).
        class_names: name of every class; empty if there are none.
        condition_names: name of every attribute; empty if there are none. Data has classes or attributes, not both.
        name: name of the data set in metrics and files, derived from the class: ``fashion_mnist`` for FashionMNIST.
        extractor: default features to measure samples with in training: ``imagenet`` for photographs; ``classifier``, trained
            on the data set itself, for digits and the like, because ImageNet has none.

    Raises:
        InputError: the batch size is below 1.
    """

    image_shape: tuple[int, int, int]
    class_names: Sequence[str]
    condition_names: Sequence[str] = ()
    extractor: Literal["imagenet", "classifier"] = "imagenet"

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        batch_size: int = 64,
        horizontal_flip: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise InputError(f"data.batch_size is {batch_size}: use at least 1")
        self.root = expanded(root) if root is not None else default_root()
        self.batch_size = batch_size
        self.horizontal_flip = horizontal_flip
        self.seed = seed
        self.name: str = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(self).__name__).lower()

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 if there are none."""
        return len(self.class_names)

    @property
    def condition_dim(self) -> int:
        """Number of attributes; 0 if there are none."""
        return len(self.condition_names)

    @property
    def classifier_source(self) -> "ImageDataModule":
        """Data that the classifier for the metrics is trained on: the same data."""
        return self

    @property
    def folders(self) -> "Sequence[DecodedImages]":
        """Folders of files that the images are read from; none if they come from elsewhere."""
        return ()

    @abstractmethod
    def images(self, split: Split) -> Images:
        """Return every image of a split, in a fixed order.

        Raises:
            InputError: the data is missing or damaged.
        """

    def labels(self, split: Split) -> Tensor | None:
        """Return the labels of every image of a split, in the order of :meth:`images`."""
        return self.images(split)[1]

    def conditions(self) -> Tensor | None:
        """Choose the attributes of training images to draw samples with, in random order: float32 (M, K); None without any.

        They stand for the distribution of all. A checkpoint contains them, so there are at most :data:`MOST_CONDITIONS`, of
        :data:`MOST_NUMBERS` numbers.
        """
        labels = self.labels("train") if self.condition_names else None
        if labels is None:
            return None
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
        return labels[order[: max(1, min(MOST_CONDITIONS, MOST_NUMBERS // self.condition_dim))]]

    @property
    def condition_description(self) -> dict[str, Any]:
        """Names of the attributes and :meth:`conditions`, as primitives for a checkpoint; empty if there are none."""
        if (conditions := self.conditions()) is None:
            return {}
        rows = [[float(f"{value:.9g}") for value in row] for row in conditions.tolist()]  # exact in float32, and short
        return {"condition_names": list(self.condition_names), "conditions": rows}

    def num_images(self, split: Split) -> int:
        """Number of images of a split."""
        return len(self.images(split)[0])

    def images_at(self, split: Split, indices: Tensor) -> Images:
        """Images of a split at ``indices``, int64 (N,). Only these are read if the split is not in memory."""
        images, labels = self.images(split)
        return images[indices], None if labels is None else labels[indices]

    def batches_at(self, split: Split, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield images of a split in batches, uint8 (B, C, H, W), at the indices of each, int64 (B,)."""
        return (self.images_at(split, indices)[0] for indices in batches)

    def examples(self, rows: int, columns: int, split: Split = "train") -> Images:
        """Choose rows * columns images of a split for a picture. If there are classes, each row is one class."""
        return self.images_at(split, example_indices(self.labels(split), self.num_images(split), rows, columns))

    def setup(self, stage: str) -> None:
        """Read the images now, so that an error in them is raised before anything else is set up."""
        self.images("train")

    def teardown(self, stage: str) -> None:
        """End the processes that decode. If Python's garbage collector did it, it would wait for 5 seconds for each."""
        assert self.trainer is not None
        if isinstance(loader := self.trainer.train_dataloader, ImageLoader):
            loader.close()

    def train_dataloader(self) -> ImageLoader:
        assert self.trainer is not None
        images, labels = self.images("train")
        device = self.trainer.strategy.root_device
        return DeviceLoader(
            images.to(device),
            None if labels is None else labels.to(device),
            self._batch_images(len(images)),
            self._shuffle(len(images)),
        )

    def on_after_batch_transfer(self, batch: Images, dataloader_idx: int) -> Images:
        images, labels = batch
        return to_float(self._flipped(images)), labels

    def _flipped(self, images: Tensor, use: str = "flips") -> Tensor:
        """Flip each image of a batch (B, C, H, W) with probability 1/2, if flips are on.

        Args:
            images: the images.
            use: batches of the same use are flipped alike.
        """
        if not self.horizontal_flip:
            return images
        flipped = torch.rand(len(images), 1, 1, 1, generator=self._random(use, images.device), device=images.device) < 0.5
        return torch.where(flipped, images.flip(3), images)

    def _random(self, use: str, device: torch.device) -> torch.Generator:
        """Make the random generator of a use: a function of (seed, step, rank)."""
        assert self.trainer is not None
        seed = derived_seed(use, self.seed, self.trainer.global_step, self.trainer.global_rank)
        return torch.Generator(device).manual_seed(seed)

    def _shuffle(self, size: int) -> EpochShuffle:
        assert self.trainer is not None
        return EpochShuffle(size, self.seed, self.trainer.global_rank, self.trainer.world_size)

    def _batch_images(self, size: int) -> int:
        """Number of images of a batch: those of every update of one training step."""
        assert self.trainer is not None
        updates = int(getattr(self.trainer.lightning_module, "real_batches_per_step", 1))
        share = size // self.trainer.world_size
        if self.batch_size * updates > share:
            raise InputError(
                f"data.batch_size is {self.batch_size} and a training step takes {updates} such batches, but each process has "
                f"only {share} training images: use --data.batch_size {max(1, share // updates)} or less"
            )
        return self.batch_size * updates


def example_indices(labels: Tensor | None, size: int, rows: int, columns: int) -> Tensor:
    """Choose which of ``size`` images to show in a grid: one class per row if there are classes, else evenly spread."""
    if labels is None or labels.is_floating_point():
        return torch.arange(rows * columns) * size // (rows * columns)
    present = torch.unique(labels)  # a class may be in the other split only
    members = [(labels == label).nonzero().flatten() for label in present]
    wanted = class_rows(rows, columns, len(present)).tolist()
    return torch.stack([members[c][i % len(members[c])] for i, c in enumerate(wanted)])
