"""Loaders of batches: from a tensor on the device, or through workers from the disk; and of pairs from two loaders.

All have what Lightning requires of a loader other than a DataLoader: ``__len__``, ``state_dict`` and ``load_state_dict`` (to
resume within an epoch), and a ``sampler``, because Lightning sets its epoch.
"""

import copy
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy
import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from gan_lightning.data.crops import DRAWS, Uncropped
from gan_lightning.data.stored import Stored
from gan_lightning.errors import InputError, one_line
from gan_lightning.training.devices import to_device
from gan_lightning.training.randomness import derived_seed

Batch = tuple[Tensor, Tensor | None]
"""Images uint8 (B, C, H, W), and their classes int64 (B,) or attributes float32 (B, K) or None.

In translation, the sources uint8 (B, C', H', W') stand in place of labels.
"""
Label = int | NDArray[numpy.float32]
"""A class, or attributes (K,)."""
Item = tuple[Tensor, Label, tuple[str, ...]]
"""An image uint8 (C, H, W), its label, and the files that could not be read and that this one replaces."""


class EpochShuffle(Sampler[tuple[int, int]]):
    """Order of one process's images, and random numbers for their crops: a function of (seed, epoch).

    All processes share one permutation, and process ``rank`` of ``world_size`` takes every ``world_size``-th image of it. If
    the length is not a multiple of ``world_size``, the tail is dropped, so that all processes have equally many.

    Args:
        size: number of images.
        seed: seed of the permutation, at least 0.
        rank: number of this process, from 0.
        world_size: number of processes.

    Attributes:
        length: images of an epoch, of all processes together: by default each image once.
    """

    def __init__(self, size: int, seed: int = 0, rank: int = 0, world_size: int = 1) -> None:
        self.size, self.length, self.seed, self.rank, self.world_size = size, size, seed, rank, world_size
        self.epoch = 0
        self.start = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length // self.world_size

    def independent(self, length: int, seed: int) -> "EpochShuffle":
        """Return an unrelated order of the same images, in epochs of another length.

        If an epoch is longer than there are images, it shows all of them before it repeats any.

        Args:
            length: images of an epoch, of all processes together.
            seed: seed of the order, at least 0.
        """
        other = copy.copy(self)
        other.length, other.seed = length, seed
        return other

    def indices(self) -> Tensor:
        """Order of this epoch, int64 (len(self),)."""
        return self._share(self._order(self._random("order")))

    def draws(self) -> Tensor:
        """Random numbers for the crops of this epoch, one for each image of the order, int64 (len(self),)."""
        return self._share(torch.randint(DRAWS, (self.length,), generator=self._random("crops")))

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Iterate over the order and the random numbers of this epoch, from position :attr:`start` on."""
        order, draws = (tensor[self.start :].tolist() for tensor in (self.indices(), self.draws()))
        return zip(order, draws, strict=True)

    def _order(self, random: torch.Generator) -> Tensor:
        """Draw the order of all processes' images, int64 (length,)."""
        return _repeated(self.size, self.length, random)

    def _random(self, use: str) -> torch.Generator:
        return torch.Generator().manual_seed(derived_seed(use, self.seed, self.epoch))

    def _share(self, of_all: Tensor) -> Tensor:
        """Take this process's part of what is drawn for all."""
        return of_all[: len(self) * self.world_size][self.rank :: self.world_size]


class BalancedShuffle(EpochShuffle):
    """Order in which all classes are equally often. An epoch has as many images as there are.

    If the classes do not divide these equally, some have one image more; which ones is random. A class of too few images shows
    all of them before it repeats any. Of a class of too many, each epoch shows others.

    Args:
        labels: label of each image, int64 (N,).
        seed: seed of the order, at least 0.
        rank: number of this process, from 0.
        world_size: number of processes.
    """

    def __init__(self, labels: Tensor, seed: int = 0, rank: int = 0, world_size: int = 1) -> None:
        super().__init__(len(labels), seed, rank, world_size)
        self._members = [(labels == label).nonzero().flatten() for label in torch.unique(labels)]

    def _order(self, random: torch.Generator) -> Tensor:
        counts = torch.full((len(self._members),), self.length // len(self._members))
        counts[torch.randperm(len(counts), generator=random)[: self.length % len(counts)]] += 1
        drawn = [
            members[_repeated(len(members), count, random)]
            for members, count in zip(self._members, counts.tolist(), strict=True)
        ]
        return torch.cat(drawn)[torch.randperm(self.length, generator=random)]


def _repeated(size: int, count: int, random: torch.Generator) -> Tensor:
    """Draw ``count`` numbers below ``size``, int64 (count,): all of them before any is repeated."""
    rounds = range(-(-count // size))
    return torch.cat([torch.randperm(size, generator=random) for _ in rounds])[:count]


WAITED = 50
"""Number of steps to time."""
IF_DECODING_IS_SLOW = "decode them once, by --data.pack true, or use more --data.num_workers"
IF_THE_DISK_IS_SLOW = "put the data folder (GAN_LIGHTNING_DATA) on a faster disk, or use a larger --data.max_bytes_on_device"


class Waits:
    """Times the steps of a training, and prints a line, once, if it waits for batches for more than half of the time.

    The times are those of this process. It does not wait for a GPU on purpose: a full queue of the GPU slows it down anyway.

    Args:
        advice: what to do.
    """

    def __init__(self, advice: str) -> None:
        self.advice = advice
        self._waited = self._whole = 0.0
        self._steps = 0
        self._printed = False

    def timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield batches. A step lasts from one to the next; the first one of an epoch is not timed."""
        given: float | None = None
        asked = time.perf_counter()
        for batch in batches:
            now = time.perf_counter()
            if given is not None:
                self._add(now - asked, now - given)
            given = now
            yield batch
            asked = time.perf_counter()

    def _add(self, waited: float, whole: float) -> None:
        self._waited, self._whole, self._steps = self._waited + waited, self._whole + whole, self._steps + 1
        if self._steps < WAITED:
            return
        if (share := self._waited / self._whole) > 0.5 and not self._printed:
            self._printed = True
            rank_zero_info(f"Training waited for images {share:.0%} of the time of {WAITED} steps: {self.advice}")
        self._waited = self._whole = 0.0
        self._steps = 0


class ImageLoader(ABC):
    """An epoch of whole batches in the order of ``sampler``. If the last images are too few for a batch, they are dropped.

    Args:
        batch_images: number of images of a batch.
        sampler: order of the images.
        advice: advice to print if training waits for the batches; None does not time them.
    """

    def __init__(self, batch_images: int, sampler: EpochShuffle, advice: str | None = None) -> None:
        self.batch_images, self.sampler = batch_images, sampler
        self._waits = None if advice is None else Waits(advice)
        self._next = 0  # batches yielded in this epoch; after load_state_dict, the batch to continue with

    def __len__(self) -> int:
        return len(self.sampler) // self.batch_images

    def ordered_by(self, sampler: EpochShuffle) -> "ImageLoader":
        """Return a loader of the same images in another order. Both share the memory of the images."""
        other = copy.copy(self)
        other.sampler = sampler
        return other

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches. A generator: Lightning makes the iterator before it sets the epoch, so permuting must wait."""
        start = self._next % len(self)  # a state saved at an epoch's end continues with a whole epoch
        batches = self.batches(start)
        for number, batch in enumerate(self._waits.timed(batches) if self._waits else batches, start):
            self._next = number + 1
            yield batch
        self._next = 0

    @abstractmethod
    def batches(self, start: int) -> Iterator[Batch]:
        """Yield the batches of this epoch from number ``start`` on."""

    def close(self) -> None:  # noqa: B027  (most loaders have none)
        """End the processes that decode, if there are any. The next epoch starts others."""

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
        images: uint8 (N, C, H, W), on the training device, or in a file.
        labels: int64 (N,) or float32 (N, K) on that device, or None.
        batch_images: number of images of a batch.
        sampler: order of the images.
    """

    def __init__(self, images: Stored, labels: Tensor | None, batch_images: int, sampler: EpochShuffle) -> None:
        super().__init__(batch_images, sampler)
        self.images, self.labels = images, labels

    def batches(self, start: int) -> Iterator[Batch]:
        order = to_device(self.sampler.indices(), self.images.device)
        for batch in range(start, len(self)):
            chosen = order[batch * self.batch_images : (batch + 1) * self.batch_images]
            yield self.images[chosen], None if self.labels is None else self.labels[chosen]


class CropLoader(ImageLoader):
    """Batches of crops, each at a random place of an image on the device.

    Args:
        images: the images, on the training device, or in a file.
        labels: int64 (N,) or float32 (N, K) on that device, or None.
        batch_images: number of images of a batch.
        sampler: order of the images, and the random numbers for their crops.
        crop: height and width of the crops.
    """

    def __init__(
        self, images: Uncropped, labels: Tensor | None, batch_images: int, sampler: EpochShuffle, crop: tuple[int, int]
    ) -> None:
        super().__init__(batch_images, sampler)
        self.images, self.labels, self.crop = images, labels, crop

    def batches(self, start: int) -> Iterator[Batch]:
        order = self.sampler.indices()
        places = to_device(self.images.places(order, self.sampler.draws(), self.crop), self.images.pixels.device)
        labels = None if self.labels is None else self.labels[to_device(order, self.labels.device)]
        for batch in range(start, len(self)):
            chosen = slice(batch * self.batch_images, (batch + 1) * self.batch_images)
            yield self.images.crops(places[chosen], self.crop), None if labels is None else labels[chosen]


class WorkerLoader(ImageLoader):
    """The same batches from a data set that is too large for the device, decoded by worker processes.

    The processes wait for the next epoch. They end with the loader, or if an epoch is not taken to its end.

    Args:
        dataset: (index, random number for the crop) -> (image uint8 (C, H, W), label, failures); the label is -1 if there are
            none.
        labelled: True if there are labels.
        batch_images: number of images of a batch.
        sampler: order of the images, and the random numbers for their crops.
        num_workers: number of processes that decode; 0 decodes in this one.
        pin_memory: pin the batches in host memory, for faster copies to a CUDA device.
        report: called with the failures of a batch, if there are any.
        advice: advice to print if training waits for the batches.
    """

    def __init__(
        self,
        dataset: Dataset[Item],
        labelled: bool,
        batch_images: int,
        sampler: EpochShuffle,
        num_workers: int,
        pin_memory: bool,
        report: Callable[[Sequence[str]], None],
        advice: str = IF_DECODING_IS_SLOW,
    ) -> None:
        super().__init__(batch_images, sampler, advice)
        self.dataset, self.labelled, self.num_workers = dataset, labelled, num_workers
        self.pin_memory, self.report = pin_memory, report
        self._kept: DataLoader[Item] | None = None

    def batches(self, start: int) -> Iterator[Batch]:
        self.sampler.start, left = start * self.batch_images, len(self) - start
        try:
            for images, labels, failures in batches_of(self._loader, self.num_workers):
                if failures:
                    self.report(failures)
                batch = [torch.from_numpy(array) for array in (images, labels)]
                images, labels = (tensor.pin_memory() for tensor in batch) if self.pin_memory else batch
                left -= 1
                yield images, labels if self.labelled else None
        except BaseException:  # such as GeneratorExit: nobody takes the next batch
            if left:
                self._kept = None
            raise

    def close(self) -> None:
        self._kept = None

    def _loader(self, num_workers: int) -> "DataLoader[Item]":
        if self._kept is None or self._kept.num_workers != num_workers:
            self._kept = DataLoader(
                self.dataset,
                self.batch_images,
                sampler=self.sampler,
                num_workers=num_workers,
                collate_fn=pack,
                drop_last=True,
                generator=torch.Generator(),  # for the workers' unused seeds: the run's random state stays unchanged
                persistent_workers=num_workers > 0,
            )
        return self._kept


class AheadLoader(ImageLoader):
    """The batches of a loader that reads a file. A thread reads the next batch while this one is used.

    Args:
        loader: the loader.
        pin_memory: pin the batches in host memory, for faster copies to a CUDA device.
    """

    def __init__(self, loader: ImageLoader, pin_memory: bool) -> None:
        super().__init__(loader.batch_images, loader.sampler, IF_THE_DISK_IS_SLOW)
        self.loader, self.pin_memory = loader, pin_memory

    def ordered_by(self, sampler: EpochShuffle) -> "AheadLoader":
        return AheadLoader(self.loader.ordered_by(sampler), self.pin_memory)

    def close(self) -> None:
        self.loader.close()

    def batches(self, start: int) -> Iterator[Batch]:
        batches = self.loader.batches(start)

        def read() -> Batch | None:
            if (batch := next(batches, None)) is None:
                return None
            images, labels = (tensor.pin_memory() if self.pin_memory and tensor is not None else tensor for tensor in batch)
            assert images is not None
            return images, labels

        with ThreadPoolExecutor(1) as thread:
            following = thread.submit(read)
            while (batch := following.result()) is not None:
                following = thread.submit(read)
                yield batch


class UnpairedLoader(ImageLoader):
    """Batches of two loaders side by side: (targets uint8 (B, C, H, W), sources uint8 (B, C', H', W')), unrelated.

    Args:
        targets: loader of the targets. Its sampler's epoch is also that of the sources.
        sources: loader of the sources, with epochs of the same length.
    """

    def __init__(self, targets: ImageLoader, sources: ImageLoader) -> None:
        super().__init__(targets.batch_images, targets.sampler)
        self._waits = targets._waits or sources._waits
        self.targets, self.sources = targets, sources

    def close(self) -> None:
        self.targets.close()
        self.sources.close()

    def batches(self, start: int) -> Iterator[Batch]:
        self.sources.sampler.set_epoch(self.sampler.epoch)
        both = zip(self.targets.batches(start), self.sources.batches(start), strict=True)
        yield from ((targets, sources) for (targets, _), (sources, _) in both)


def pack(items: Sequence[Item]) -> tuple[NDArray[numpy.uint8], NDArray[Any], list[str]]:
    """Join items in the worker as arrays: images (B, C, H, W), labels (B,) or (B, K), and all failures.

    Arrays cross to this process as bytes through a pipe, for the reason in ``decoding.py``.
    """
    images, labels = torch.stack([item[0] for item in items]), numpy.array([item[1] for item in items])
    return images.numpy(), labels, [failure for item in items for failure in item[2]]


def batches_of(make: Callable[[int], "DataLoader[Any]"], num_workers: int) -> Iterator[Any]:
    """Iterate over the loader of ``num_workers`` processes; over that of none, with a warning, if they cannot be started.

    Raises:
        InputError: a process found an error.
    """
    try:
        if num_workers:
            torch.multiprocessing.Queue().close()  # if this fails within the loader, its destructor prints a traceback
        batches = iter(make(num_workers))
    except (OSError, ImportError) as error:  # no memory, file handle or semaphore is left
        if not num_workers:
            raise
        rank_zero_warn(f"{num_workers} processes that decode cannot be started ({one_line(error)}): this one decodes instead")
        batches = iter(make(0))
    try:
        yield from batches
    except InputError as error:
        raise InputError(str(error).rpartition("InputError: ")[2]) from error  # torch puts a traceback before it


@contextmanager
def naming_lost_workers() -> Iterator[None]:
    """Turn torch's error for a worker process that has died into a line. It may come at any place, from a signal.

    Raises:
        InputError: a worker has died within the block.
    """
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker (pid"):
            raise
        raise InputError(
            f"a process that decodes images has died ({one_line(error).partition('. ')[0]}), often because the memory is full: "
            "use fewer processes, as in --data.num_workers 0"
        ) from error
