"""A pack: images that were decoded and resized once, as one .npy file that is mapped into memory, and a .json of their origin.

The pack NAME is NAME.npy, NAME.json and NAME.lock. While it is made, its images are in NAME.part, and NAME.part.json tells how
many of them are on the disk: a process that was killed is continued there by the next one. A reader sees NAME.npy and NAME.json
only. They are renamed when they are whole.
"""

import json
import math
import os
import shutil
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy
from filelock import FileLock, Timeout
from lightning.pytorch.utilities import rank_zero_info
from numpy.typing import NDArray

from gan_lightning.data.crops import uncropped_size
from gan_lightning.data.decoding import DecodedFiles, Decoding, arranged, element_shape, read_all
from gan_lightning.data.image_file import Facts, open_image, upright_size
from gan_lightning.data.stored import Mapped, drop_pages
from gan_lightning.files import write_aside

SECONDS = 10.0
"""Seconds between two notes of how many images are on the disk."""
HEADER = 128  # bytes of the .npy before its images
BLOCK = 2**24  # bytes to check at once
TRIED = 64  # files to guess a size or a duration from


class CannotPack(Exception):
    """The disk does not take the pack."""


def read_pack(path: Path, most_checked: int) -> Decoding | None:
    """Open a pack; None if it is missing or damaged.

    Args:
        path: the pack, without a suffix.
        most_checked: check the content by its checksum if it has no more bytes. Otherwise only its length is checked.
    """
    try:
        about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        result = _result(about)
        if about["shape"] is None:
            return result
        array = numpy.load(path.with_suffix(".npy"), mmap_mode="r")
        if array.dtype != numpy.uint8 or list(array.shape) != about["shape"]:
            return None
        if array.nbytes <= most_checked and _checksum(array) != about["crc32"]:
            return None
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None
    result.images = arranged(Mapped(array), about["sizes"])
    return result


def make_pack(
    dataset: DecodedFiles, path: Path, num_workers: int, settings: dict[str, Any], size: int, most_checked: int
) -> Decoding:
    """Decode every file into a pack, or continue what another process has begun. One process at a time does this.

    Args:
        dataset: the files.
        path: the pack, without a suffix. Its name depends on all that the pixels depend on.
        num_workers: number of processes that decode.
        settings: all that the pixels depend on besides the files, for the record.
        size: expected size of the images, in bytes.
        most_checked: as for :func:`read_pack`.

    Raises:
        CannotPack: the disk has no room, or the folder cannot be written to.
    """
    with _locked(path):
        if (result := read_pack(path, most_checked)) is not None and result.lasting:  # another process has made it meanwhile
            return result
        require_space(path, size)
        part = _Part(path, element_shape(dataset))
        result = part.begun()
        try:
            read_all(dataset, num_workers, part.add, lambda: part.note(result), result)
            part.finish(result, {"source": str(dataset.files.folder), "settings": settings})
        except CannotPack:
            part.remove()
            raise
        finally:
            part.close()  # if this process is stopped, the next one continues after the last note
    made = read_pack(path, most_checked)
    if made is None:
        raise CannotPack(f"{path}.npy was removed or damaged")
    return made


def write_reasons(result: Decoding, path: Path, settings: dict[str, Any]) -> None:
    """Write a pack without images, of files that are decoded at each use: which of them cannot be read.

    Raises:
        CannotPack: the disk is full, or the folder cannot be written to.
    """
    with _naming_the_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_json({**_content(result), "shape": None, "settings": settings}, path.with_suffix(".json"))


def expected_bytes(dataset: DecodedFiles) -> int:
    """Size of the images of a pack: of all files if each can be read. For random crops, it is a guess from some headers."""
    if dataset.crop == "center":
        return len(dataset) * math.prod(dataset.image_shape)
    sizes = []
    for i in _spread(len(dataset)):
        with suppress(Exception), open_image(dataset.files.source(i)) as image:  # a damaged file is named later
            width, height = upright_size(image)
            sizes.append(math.prod(uncropped_size((height, width), dataset.image_shape[1:])))
    return len(dataset) * dataset.image_shape[0] * (sum(sizes) // max(1, len(sizes)))


def expected_seconds(dataset: DecodedFiles, num_workers: int) -> float:
    """Guess how long it takes to decode all files, from some of them."""
    begun, read = time.perf_counter(), 0
    for i in _spread(len(dataset)):
        with suppress(Exception):  # a damaged file is named later
            dataset.read(i, Facts())
        read += 1
        if time.perf_counter() - begun > 1:
            break
    cores = min(max(1, num_workers), os.cpu_count() or 1)
    return (time.perf_counter() - begun) / read * len(dataset) / cores


def require_space(path: Path, size: int) -> None:
    """Check that the disk has room for a pack.

    Args:
        path: the pack, without a suffix.
        size: size of its images, in bytes.

    Raises:
        CannotPack: it has not.
    """
    if (free := free_bytes(path)) < size:
        raise CannotPack(f"{path.parent} has {free:,} bytes free")


def free_bytes(path: Path) -> int:
    """Room for a pack on its disk: what is free, and what was begun."""
    begun = 0
    with suppress(OSError):
        begun = _part_of(path).stat().st_size
    existing = next(place for place in path.parents if place.exists())
    return shutil.disk_usage(existing).free + begun


class _Part:
    """A pack that is being made."""

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self.path, self.shape = path, shape
        self._part, self._journal = _part_of(path), path.with_suffix(".part.json")
        self._bytes, self._crc32, self._noted = 0, 0, time.monotonic()
        self._file: BinaryIO

    def begun(self) -> Decoding:
        """Open the file, and return the result of the files that are in it already."""
        with _naming_the_disk(self.path):
            result = self._continued()
            if result is None:
                result = Decoding()
                self._bytes = self._crc32 = 0
                self._file = self._part.open("wb")
                self._file.write(_header((0, *self.shape)))
            return result

    def _continued(self) -> Decoding | None:
        """Continue where the journal ends; None if there is none."""
        try:
            about = json.loads(self._journal.read_text(encoding="utf-8"))
            result, size, crc32 = _result(about), int(about["bytes"]), int(about["crc32"])
            if self._part.stat().st_size < HEADER + size:
                return None
        except (OSError, ValueError, KeyError, TypeError):
            return None
        self._file, self._bytes, self._crc32 = self._part.open("r+b"), size, crc32
        self._file.truncate(HEADER + size)
        self._file.seek(HEADER + size)
        return result

    def add(self, pixels: NDArray[numpy.uint8]) -> None:
        """Add the pixels of an image."""
        content = numpy.ascontiguousarray(pixels).data.cast("B")
        with _naming_the_disk(self.path):
            self._file.write(content)
        self._bytes += content.nbytes
        self._crc32 = zlib.crc32(content, self._crc32)

    def note(self, result: Decoding) -> None:
        """Note how many images are on the disk, if the last note is old."""
        if time.monotonic() - self._noted > SECONDS:
            with _naming_the_disk(self.path):
                self._sync()
                _write_json({**_content(result), "bytes": self._bytes, "crc32": self._crc32}, self._journal)
            self._noted = time.monotonic()

    def finish(self, result: Decoding, about: dict[str, Any]) -> None:
        """Make the pack of it."""
        shape = (self._bytes // math.prod(self.shape), *self.shape)
        with _naming_the_disk(self.path):
            self._file.seek(0)
            self._file.write(_header(shape))
            self._sync()
            self._file.close()
            self._part.replace(self.path.with_suffix(".npy"))
            content = {**_content(result), "shape": shape, "crc32": self._crc32, **about}
            _write_json(content, self.path.with_suffix(".json"))
            self._journal.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove what was written."""
        self.close()
        self._part.unlink(missing_ok=True)
        self._journal.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):  # what is in its buffer may not fit on the disk
            self._file.close()

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())


def _part_of(path: Path) -> Path:
    return path.with_suffix(".part")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Wait until no other process makes this pack."""
    with _naming_the_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_suffix(".lock"))
        try:
            lock.acquire(timeout=0)
        except NotImplementedError as error:
            raise CannotPack(f"{path.parent} is on a disk without file locks") from error
        except Timeout:
            rank_zero_info(f"Another process decodes the same images into {path.parent}: waiting for it")
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _naming_the_disk(path: Path) -> Iterator[None]:
    """Tell errors of writing from those of reading images.

    Raises:
        CannotPack: an OSError within the block.
    """
    try:
        yield
    except OSError as error:
        raise CannotPack(f"{path.parent} cannot be written to ({error.strerror or error})") from error


def _write_json(content: dict[str, Any], path: Path) -> None:
    with write_aside(path) as aside:
        aside.write_text(json.dumps(content), encoding="utf-8")


def _content(result: Decoding) -> dict[str, Any]:
    """Turn all of a result except the images into JSON."""
    facts = {**asdict(result.facts), "depths": dict(result.facts.depths)}
    names = {"files": result.files, "sizes": result.sizes, "lasting": result.lasting}
    return {"corrupt": result.corrupt, "facts": facts, **names}


def _result(content: dict[str, Any]) -> Decoding:
    """Read what :func:`_content` made.

    Raises:
        KeyError, TypeError, ValueError: it is damaged.
    """
    facts = Facts(**{**content["facts"], "depths": Counter(content["facts"]["depths"])})
    corrupt = {int(index): str(why) for index, why in content["corrupt"].items()}
    return Decoding(None, corrupt, facts, bool(content["lasting"]), int(content["files"]), content["sizes"])


def _header(shape: tuple[int, ...]) -> bytes:
    """Beginning of an .npy of this shape, always of the same length."""
    about = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + (HEADER - 10).to_bytes(2, "little") + about.ljust(HEADER - 11) + b"\n"


def _checksum(array: NDArray[numpy.uint8]) -> int:
    crc32, content = 0, array.reshape(-1)
    for begin in range(0, len(content), BLOCK):
        crc32 = zlib.crc32(content[begin : begin + BLOCK].data, crc32)
        drop_pages(array)
    return crc32


def _spread(count: int) -> Iterator[int]:
    """Choose positions at equal distances."""
    return (i * count // TRIED for i in range(TRIED)) if count > TRIED else iter(range(count))
