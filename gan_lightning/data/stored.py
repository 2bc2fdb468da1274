"""Images in memory, or in a file that is mapped into memory: the system reads its pages when they are used."""

import copy
import io
import math
import mmap
import os
import tempfile
from contextlib import suppress
from typing import Any, BinaryIO, cast

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from gan_lightning.errors import InputError
from gan_lightning.files import fingerprint_of_parts
from gan_lightning.home import default_root

MOST_IN_MEMORY = 2**28
"""Bytes of images that are read once and kept in memory; more of them go to a temporary file."""


HASHED = 256
"""Number of images to hash at once."""


class Mapped:
    """An array uint8 in a file. Indexing copies elements into memory, and nothing else of the file stays in this process.

    Args:
        array: the array, of ``numpy.memmap``. The file may be renamed and removed.
    """

    def __init__(self, array: "numpy.memmap[Any, numpy.dtype[numpy.uint8]]") -> None:
        self._array = array
        self._rows: Tensor | None = None

    def __len__(self) -> int:
        return len(self._array) if self._rows is None else len(self._rows)

    @property
    def device(self) -> torch.device:
        """Device of the elements that are read."""
        return torch.device("cpu")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return (len(self), *self._array.shape[1:])

    @property
    def nbytes(self) -> int:
        """Size of the array, in bytes."""
        return math.prod(self.shape)

    def __getitem__(self, indices: Tensor) -> Tensor:
        """Copy the elements at ``indices``, int64 of any shape, into memory: (*indices.shape, *shape[1:])."""
        places = indices if self._rows is None else self._rows[indices]
        copied = torch.from_numpy(numpy.asarray(self._array[places.numpy()]))
        drop_pages(self._array)
        return copied

    def select(self, rows: Tensor) -> "Mapped":
        """Return the elements at ``rows``, int64 (N,), without reading them."""
        other = copy.copy(self)
        other._rows = rows if self._rows is None else self._rows[rows]
        return other


Stored = Tensor | Mapped
"""Images uint8 (N, C, H, W), read by int64 indices."""


def select(images: Stored, rows: Tensor) -> Stored:
    """Choose images by ``rows``, int64 (N,). Those in a file stay there."""
    return images.select(rows) if isinstance(images, Mapped) else images[rows]


def whole(images: Stored) -> Tensor:
    """Read all images into memory."""
    return images[torch.arange(len(images))]


def sha256(images: Stored) -> str:
    """SHA-256 of all pixels, in hex, as :func:`~gan_lightning.files.fingerprint` computes it of a tensor."""
    parts = torch.split(torch.arange(len(images)), HASHED)
    return fingerprint_of_parts(tuple(images.shape), map(images.__getitem__, parts))


def drop_pages(array: NDArray[Any]) -> None:
    """Remove the pages of a mapped array from this process's memory. The system may still cache them."""
    base: Any = array
    while isinstance(base, numpy.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(base, "madvise"):  # Windows has none
        base.madvise(mmap.MADV_DONTNEED)


class Spool:
    """Arrays of one shape, added one by one. If they take more than :data:`MOST_IN_MEMORY` bytes, they go to a temporary file.

    It is in the default data folder, or else in the system's folder for such files. It vanishes with this process.

    Args:
        shape: shape of an array, such as (C, H, W).
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape
        self._file: BinaryIO = io.BytesIO()

    def add(self, arrays: NDArray[numpy.uint8]) -> None:
        """Add one array or several, uint8 (..., *shape).

        Raises:
            InputError: the disk is full.
        """
        try:
            if isinstance(self._file, io.BytesIO) and self._file.tell() + arrays.nbytes > MOST_IN_MEMORY:
                self._file = _temporary_copy(self._file)
            self._file.write(numpy.ascontiguousarray(arrays).data)
        except OSError as error:
            raise InputError(
                f"{self._file.tell():,} bytes of images were read, but their temporary file cannot be written "
                f"({error.strerror}): free some space in {default_root()}, or name another data folder by GAN_LIGHTNING_DATA"
            ) from error

    @property
    def images(self) -> Stored:
        """All arrays that were added, in their order: uint8 (N, *shape)."""
        shape = (self._file.tell() // math.prod(self._shape), *self._shape)
        if not isinstance(self._file, io.BytesIO):
            self._file.flush()
            file: Any = self._file  # numpy's types want a name
            return Mapped(numpy.memmap(file, numpy.uint8, "r", shape=shape))
        content = bytearray(self._file.getbuffer())
        return torch.frombuffer(content, dtype=torch.uint8).view(shape) if content else torch.empty(shape, dtype=torch.uint8)


def _temporary_copy(content: io.BytesIO) -> BinaryIO:
    """Copy to a temporary file in the default data folder, or in the system's if that cannot be written to."""
    folder = default_root()
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    file: Any = tempfile.TemporaryFile(dir=folder if os.access(folder, os.W_OK) else None)  # noqa: SIM115  (it stays open)
    file.write(content.getbuffer())
    return cast(BinaryIO, file)
