"""Loaders of batches: from a tensor on the device, or through workers from the disk.

Both have what Lightning requires of a loader other than a DataLoader: ``__len__``, ``state_dict`` and ``load_state_dict`` (to
resume within an epoch), and a ``sampler``, because Lightning sets its epoch.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from gan_lightning.training.randomness import derived_seed

Batch = tuple[Tensor, Tensor | None]
"""Images uint8 (B, C, H, W), and labels int64 (B,) or None."""


class EpochShuffle(Sampler[int]):
    """Order of one process's images, a function of (seed, epoch).

    All processes share one permutation, and process ``rank`` of ``world_size`` takes every ``world_size``-th image of it. If
    the number of images is not a multiple of ``world_size``, the tail is dropped, so that all processes have equally many.

    Args:
        size: number of images.
        seed: seed of the permutation, at least 0.
        rank: number of this process, from 0.
        world_size: number of processes.
    """

    def __init__(self, size: int, seed: int = 0, rank: int = 0, world_size: int = 1) -> None:
        self.size, self.seed, self.rank, self.world_size = size, seed, rank, world_size
        self.epoch = 0
        self.start = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size // self.world_size

    def indices(self) -> Tensor:
        """Order of this epoch, int64 (len(self),)."""
        generator = torch.Generator().manual_seed(derived_seed("order", self.seed, self.epoch))
        permutation = torch.randperm(self.size, generator=generator)
        return permutation[: len(self) * self.world_size][self.rank :: self.world_size]

    def __iter__(self) -> Iterator[int]:
        """Iterate over the order of this epoch, from position :attr:`start` on."""
        return iter(self.indices()[self.start :].tolist())


class ImageLoader(ABC):
    """An epoch of whole batches in the order of ``sampler``. If the last images are too few for a batch, they are dropped.

    Args:
        batch_images: number of images of a batch.
        sampler: order of the images.
    """

    def __init__(self, batch_images: int, sampler: EpochShuffle) -> None:
        self.batch_images, self.sampler = batch_images, sampler
        self._next = 0  # batches yielded in this epoch; after load_state_dict, the batch to continue with

    def __len__(self) -> int:
        return len(self.sampler) // self.batch_images

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches. A generator: Lightning makes the iterator before it sets the epoch, so permuting must wait."""
        start = self._next % len(self)  # a state saved at an epoch's end continues with a whole epoch
        for number, batch in enumerate(self.batches(start), start):
            self._next = number + 1
            yield batch
        self._next = 0

    @abstractmethod
    def batches(self, start: int) -> Iterator[Batch]:
        """Yield the batches of this epoch from number ``start`` on."""

    def state_dict(self) -> dict[str, Any]:
        """Number of images of this epoch that all processes together have received."""
        return {"images": self._next * self._global_batch_images}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._next = state["images"] // self._global_batch_images

    @property
    def _global_batch_images(self) -> int:
        return self.batch_images * self.sampler.world_size


class DeviceLoader(ImageLoader):
    """Batches indexed from one uint8 tensor on the device: 100 times faster than PIL images through a DataLoader.

    Args:
        images: uint8 (N, C, H, W), on the training device.
        labels: int64 (N,) on that device, or None.
        batch_images: number of images of a batch.
        sampler: order of the images.
    """

    def __init__(self, images: Tensor, labels: Tensor | None, batch_images: int, sampler: EpochShuffle) -> None:
        super().__init__(batch_images, sampler)
        self.images, self.labels = images, labels

    def batches(self, start: int) -> Iterator[Batch]:
        order = self.sampler.indices().to(self.images.device)
        for batch in range(start, len(self)):
            chosen = order[batch * self.batch_images : (batch + 1) * self.batch_images]
            yield self.images[chosen], None if self.labels is None else self.labels[chosen]


class WorkerLoader(ImageLoader):
    """The same batches from a data set that is too large for the device, decoded by worker processes.

    Args:
        dataset: index -> (image uint8 (C, H, W), label); the label is -1 if there are none.
        labelled: True if there are labels.
        batch_images: number of images of a batch.
        sampler: order of the images.
        num_workers: number of processes that decode; 0 decodes in this one.
        pin_memory: pin the batches in host memory, for faster copies to a CUDA device.
    """

    def __init__(
        self,
        dataset: Dataset[tuple[Tensor, int]],
        labelled: bool,
        batch_images: int,
        sampler: EpochShuffle,
        num_workers: int,
        pin_memory: bool,
    ) -> None:
        super().__init__(batch_images, sampler)
        self.labelled = labelled
        self.loader = DataLoader(
            dataset,
            batch_images,
            sampler=sampler,
            num_workers=num_workers,
            pin_memory=pin_memory,
            drop_last=True,
            generator=torch.Generator(),  # for the workers' unused seeds: the run's random state stays unchanged
        )

    def batches(self, start: int) -> Iterator[Batch]:
        self.sampler.start = start * self.batch_images
        for images, labels in self.loader:
            yield images, labels if self.labelled else None
