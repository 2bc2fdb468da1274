"""Loaders of batches: from a tensor that is on the device already, or through workers from the disk.

Both have what Lightning asks of a loader that is no DataLoader: ``__len__``, ``state_dict``, ``load_state_dict`` (a run
can stop and go on within an epoch), and a ``sampler`` whose epoch it sets.
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
    """The order of one process's images, a function of (seed, epoch).

    All processes share one permutation; its tail is dropped where it does not divide, and process ``rank`` of
    ``world_size`` takes every ``world_size``-th of it, so that all have equally many.

    Args:
        size: how many images there are.
        seed: of the permutation, at least 0.
        rank: which process this is.
        world_size: how many there are.
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
        """The order of this epoch, int64 (len(self),)."""
        generator = torch.Generator().manual_seed(derived_seed(self.seed, self.epoch))
        permutation = torch.randperm(self.size, generator=generator)
        return permutation[: len(self) * self.world_size][self.rank :: self.world_size]

    def __iter__(self) -> Iterator[int]:
        """The order from the image :attr:`start` on."""
        return iter(self.indices()[self.start :].tolist())


class ImageLoader(ABC):
    """An epoch of whole batches in the order of ``sampler``; the last images, too few for a batch, are dropped.

    Args:
        batch_images: how many images a batch holds.
        sampler: their order.
    """

    def __init__(self, batch_images: int, sampler: EpochShuffle) -> None:
        self.batch_images, self.sampler = batch_images, sampler
        self._next = 0  # batches of this epoch that were handed over, where to go on after load_state_dict

    def __len__(self) -> int:
        return len(self.sampler) // self.batch_images

    def __iter__(self) -> Iterator[Batch]:
        """A generator: Lightning makes an iterator before it sets the epoch, so nothing is permuted until the first batch."""
        start = self._next % len(self)  # a state saved at an epoch's end goes on with a whole epoch
        for number, batch in enumerate(self.batches(start), start):
            self._next = number + 1
            yield batch
        self._next = 0

    @abstractmethod
    def batches(self, start: int) -> Iterator[Batch]:
        """The batches of this epoch from number ``start`` on."""

    def state_dict(self) -> dict[str, Any]:
        """How many images of this epoch all processes together have been given."""
        return {"images": self._next * self._global_batch_images}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._next = state["images"] // self._global_batch_images

    @property
    def _global_batch_images(self) -> int:
        return self.batch_images * self.sampler.world_size


class DeviceLoader(ImageLoader):
    """Batches indexed from one uint8 tensor where it lies: 100 times faster than PIL images through a DataLoader.

    Args:
        images: uint8 (N, C, H, W), on the training device.
        labels: int64 (N,) there, or None.
        batch_images: how many images a batch holds.
        sampler: their order.
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
        dataset: index -> (image uint8 (C, H, W), label); the label is -1 where there are none.
        labelled: whether there are labels.
        batch_images: how many images a batch holds.
        sampler: their order.
        num_workers: processes that decode; 0 decodes in this one.
        pin_memory: for faster copies to a CUDA device.
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
            generator=torch.Generator(),  # of the workers' seeds, which nothing here draws with: the run's own stays as it is
        )

    def batches(self, start: int) -> Iterator[Batch]:
        self.sampler.start = start * self.batch_images
        for images, labels in self.loader:
            yield images, labels if self.labelled else None
