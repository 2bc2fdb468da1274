"""Decoding of many image files, by several processes.

Pixels cross between processes as bytes through pipes. Shared memory would take a file handle for each tensor, and containers
often have too little of it (64 MB in docker).
"""

import errno
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from gan_lightning.data.crops import DRAWS, Crop, Uncropped, crop_one
from gan_lightning.data.image_file import Facts, decode
from gan_lightning.data.loaders import Item, Label, batches_of, naming_lost_workers, pack
from gan_lightning.data.stored import Spool, Stored
from gan_lightning.data.tree import Files, path_hash
from gan_lightning.errors import InputError, one_line

FEW = 500  # files; starting a process costs more than reading them
CHUNK = 64  # files that cross to this process at once
TRIES = 100  # files to try in place of one that cannot be read
Part = tuple[int, list[NDArray[numpy.uint8]], dict[int, str], Facts, bool]
"""Number of files, images of the readable ones, index of an unreadable file -> the reason, treatment, and if it is lasting."""
OF_THE_SYSTEM = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""Errors that are not the file's fault: it is not reported as corrupt."""


class DecodedFiles(Dataset[Item]):
    """Image files, decoded on access: index -> (uint8 (C, H, W), label, reasons of failures). The label is -1 without labels.

    If a file cannot be read, because it has vanished or changed since it was checked, the next readable one replaces it.

    Random crops take a random number, too: (index, number). Without one, a hash of the path replaces it, so that the crop
    stays the same.
    """

    def __init__(
        self, files: Files, image_shape: tuple[int, int, int], white: float | None = None, crop: Crop = "center"
    ) -> None:
        self.files, self.image_shape, self.white, self.crop = files, image_shape, white, crop

    def __len__(self) -> int:
        return len(self.files.paths)

    def __getitem__(self, place: int | tuple[int, int]) -> Item:
        index, draw = (place, None) if isinstance(place, int) else place
        failures: list[str] = []
        for tried in range(index, index + min(TRIES, len(self))):
            number = tried % len(self)
            try:
                label: Label = -1 if self.files.labels is None else self.files.labels[number]
                image = self.read(number, Facts())
                if self.crop == "random":
                    image = crop_one(
                        image, fixed_draw(self.files.paths[number]) if draw is None else draw, self.image_shape[1:]
                    )
                return image, label, tuple(failures)
            except Exception as error:  # Pillow raises many kinds of exceptions for damaged files
                failures.append(f"{self.path(number)} ({reason(error)})")
        raise InputError(
            f"none of {len(failures)} files can be read any more, such as {failures[0]}: restore {self.files.folder}"
        )

    def path(self, index: int) -> Path:
        return self.files.path(index)

    def read(self, index: int, facts: Facts) -> Tensor:
        """Decode one file, uint8 (C, H, W); the whole image for random crops.

        Raises:
            InputError: the system has no memory or file handles left.
            Exception: the file is damaged.
        """
        try:
            return self._decode(index, facts)
        except (OSError, MemoryError) as error:
            if isinstance(error, MemoryError) or error.errno in OF_THE_SYSTEM:
                raise InputError(
                    f"{self.path(index)} cannot be read, because the system is short of memory or file handles "
                    f"({one_line(error)}): use fewer --data.num_workers, or a higher limit"
                ) from error
            raise

    def _decode(self, index: int, facts: Facts) -> Tensor:
        return decode(self.files.source(index), self.image_shape, self.white, facts, self.crop)


def fixed_draw(path: str) -> int:
    """Number in the place of a random one, for a crop that stays the same."""
    return path_hash(path) % DRAWS


def reason(error: Exception) -> str:
    """Shorten the error of a damaged file.

    Raises:
        InputError: the error is not the file's fault.
    """
    if isinstance(error, InputError):
        raise error
    return re.sub(" <_io.BytesIO object[^>]*>", "", one_line(error))[:200]  # Pillow's name for a file in memory


@dataclass
class Decoding:
    """The result of reading many files.

    Attributes:
        images: images of the readable files, in order: uint8 (N, C, H, W), or whole ones for random crops. None if they are not
            kept.
        corrupt: index of an unreadable file -> the reason.
        facts: treatment of the images.
        lasting: False if a reason may be over soon, such as missing permissions.
        files: number of files that were read.
        sizes: height and width of each image, only for random crops.
    """

    images: Stored | Uncropped | None = None
    corrupt: dict[int, str] = field(default_factory=dict)
    facts: Facts = field(default_factory=Facts)
    lasting: bool = True
    files: int = 0
    sizes: list[tuple[int, ...]] = field(default_factory=list)


@naming_lost_workers()
def read_all(
    dataset: DecodedFiles,
    num_workers: int,
    keep: Callable[[NDArray[numpy.uint8]], Any] = lambda pixels: None,
    noted: Callable[[], Any] = lambda: None,
    result: Decoding | None = None,
) -> Decoding:
    """Read every file once, with a progress bar. The pixels go to ``keep``, and everything else into the result.

    Args:
        dataset: the files.
        num_workers: number of processes that decode; few files are decoded in this one.
        keep: called with the pixels of each readable file: uint8 (C, H, W), or (H, W, C) for random crops.
        noted: called after each part of the files.
        result: the result of the first files, to continue with.

    Raises:
        InputError: a process has died.
    """
    result = result or Decoding()
    folder, begun = dataset.files.folder, result.files
    with tqdm(total=len(dataset), initial=begun, desc=f"Reading {folder}", unit=" images", delay=1) as bar:
        for count, images, corrupt, facts, lasting in _parts(dataset, num_workers, begun):
            for image in images:
                if dataset.crop == "random":
                    result.sizes.append(image.shape[1:])
                keep(image.transpose(1, 2, 0) if dataset.crop == "random" else image)
            result.corrupt |= corrupt
            result.facts.add(facts)
            result.lasting &= lasting
            result.files += count
            noted()
            bar.update(count)
    return result


def read_into_memory(dataset: DecodedFiles, num_workers: int) -> Decoding:
    """Read every file once, and keep the images as :class:`~gan_lightning.data.stored.Spool` does.

    Raises:
        InputError: a process has died, or the images do not fit.
    """
    spool = Spool(element_shape(dataset))
    result = read_all(dataset, num_workers, spool.add)
    result.images = arranged(spool.images, result.sizes)
    return result


def element_shape(dataset: DecodedFiles) -> tuple[int, ...]:
    """Shape of an image, (C, H, W), or of a pixel, (C,), if the images have different sizes."""
    return dataset.image_shape[:1] if dataset.crop == "random" else dataset.image_shape


def arranged(pixels: Stored, sizes: Sequence[Sequence[int]]) -> Stored | Uncropped:
    """Return pixels that :func:`read_all` gave as images; ``sizes`` are those of its result."""
    return Uncropped(pixels, torch.tensor(sizes)) if sizes else pixels


def read_batches(
    dataset: DecodedFiles, batches: Iterable[Tensor], num_workers: int
) -> Iterator[tuple[Tensor, Tensor, list[str]]]:
    """Read files that were readable before: images uint8 (B, C, H, W), labels (B, ...), and failures that others replace.

    Args:
        dataset: the files.
        batches: indices of the files of each batch, int64 (B,).
        num_workers: number of processes that decode.

    Raises:
        InputError: a process found an error, or has died.
    """
    chosen = [indices.tolist() for indices in batches]

    def make(workers: int) -> "DataLoader[Item]":
        return DataLoader(dataset, batch_sampler=chosen, num_workers=workers, collate_fn=pack, generator=torch.Generator())

    with naming_lost_workers():
        for images, labels, failures in batches_of(make, num_workers if sum(map(len, chosen)) > FEW else 0):
            yield torch.from_numpy(images), torch.from_numpy(labels), failures


def read_again(dataset: DecodedFiles, num_workers: int) -> tuple[Tensor, Tensor, list[str]]:
    """Read all files that were readable before, as :func:`read_batches` does, at once."""
    images, labels = room_for(len(dataset), dataset.image_shape), [torch.empty(0, dtype=torch.int64)] * (not len(dataset))
    failures, position = list[str](), 0
    for part, part_labels, failed in read_batches(dataset, torch.split(torch.arange(len(dataset)), CHUNK), num_workers):
        chosen = slice(position, position + len(part))
        images[chosen] = part
        labels.append(part_labels)
        position += len(part)
        failures += failed
    return images, torch.cat(labels), failures


def room_for(count: int, image_shape: tuple[int, int, int]) -> Tensor:
    """Make room for images, uint8 (count, C, H, W).

    Raises:
        InputError: they do not fit in memory.
    """
    try:
        return torch.empty(count, *image_shape, dtype=torch.uint8)
    except RuntimeError as error:  # torch has no special error for this on the CPU
        size = count * image_shape[0] * image_shape[1] * image_shape[2] / 1e9
        raise InputError(
            f"{count:,} images of {image_shape[1]}x{image_shape[2]} pixels take {size:,.0f} GB, more than the memory has: use "
            "smaller images, or fewer"
        ) from error


class _Attempts(Dataset[tuple[int, Any, Facts, bool]]):
    """The same files, but an unreadable one yields the reason."""

    def __init__(self, dataset: DecodedFiles) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[int, Any, Facts, bool]:
        facts = Facts()
        try:
            return index, self.dataset.read(index, facts), facts, True
        except Exception as error:  # Pillow raises many kinds of exceptions for damaged files
            return index, reason(error), Facts(), getattr(error, "errno", None) is None  # theirs have no number


def _parts(dataset: DecodedFiles, num_workers: int, start: int) -> Iterator[Part]:
    """Read every file from number ``start`` on, in order, in parts."""
    order: Any = range(start, len(dataset))  # torch's type is that of a class, but any sequence will do

    def make(workers: int) -> "DataLoader[Any]":
        return DataLoader(
            _Attempts(dataset), CHUNK, sampler=order, num_workers=workers, collate_fn=_pack, generator=torch.Generator()
        )  # a separate generator, for the workers' unused seeds: the run's random state stays unchanged

    yield from batches_of(make, num_workers if len(order) > FEW else 0)


def _pack(attempts: list[tuple[int, Any, Facts, bool]]) -> Part:
    """Join attempts in the worker, images as arrays."""
    facts = Facts()
    for _, _, own, _ in attempts:
        facts.add(own)
    images = [got.numpy() for _, got, _, _ in attempts if isinstance(got, Tensor)]
    corrupt = {index: got for index, got, _, _ in attempts if isinstance(got, str)}
    return len(attempts), images, corrupt, facts, all(lasting for *_, lasting in attempts)
