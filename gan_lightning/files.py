"""Safe loading and atomic saving of any file that is read or written as a whole."""

import hashlib
import os
import pickle
import secrets
import shutil
import time
import zipfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from gan_lightning.errors import InputError, one_line

MAX_EXPANSION = 100  # times the size of the file; statistics of images shrink to a half at best
MIN_REFUSED = 2**30  # bytes; a file that unpacks to less does no harm
PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6) if os.name == "nt" else ()
"""Seconds to wait between attempts to replace a file that another program has open. Only Windows refuses to replace it."""


@contextmanager
def write_aside(path: str | os.PathLike[str], durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path``, and rename the file to ``path`` when the block ends without an error.

    A reader sees the whole old file or the whole new one. If the block raises, the old file stays and the temporary one is
    removed.

    Args:
        path: the file.
        durable: wait for the disk, so that the file survives a power failure. Too slow for thousands of small files.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = _temporary_path(target, target.suffix)
    try:
        aside.touch(exist_ok=False)
        yield aside
        if durable:
            with aside.open("r+b") as written:
                os.fsync(written.fileno())
        _replace(target, aside)
        if durable:
            _sync_folder(target.parent)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def folder_aside(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary folder next to ``path``, and rename it to ``path`` when the block ends without an error.

    Args:
        path: a folder that does not exist yet or is empty.
    """
    target = Path(path)
    aside = _temporary_path(target)
    try:
        aside.mkdir(parents=True)
        yield aside
        for written in aside.iterdir():
            with written.open("r+b") as file:
                os.fsync(file.fileno())
        _sync_folder(aside)
        if target.is_dir():
            target.rmdir()  # fails if somebody has put a file into it meanwhile
        aside.rename(target)
        _sync_folder(target.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _replace(target: Path, aside: Path) -> None:
    """Rename ``aside`` to ``target``; try again after each of :data:`PAUSES` if the system refuses."""
    for pause in PAUSES:
        try:
            aside.replace(target)
            return
        except PermissionError:
            time.sleep(pause)
    aside.replace(target)


def _temporary_path(target: Path, suffix: str = "") -> Path:
    """A temporary name that nobody else uses, as :func:`remove_temporary_files` finds it."""
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}.part{suffix}")


def _sync_folder(folder: Path) -> None:
    """Make a new name survive a power failure, if the system can synchronize folders (Windows cannot)."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def link(path: Path, name: Path) -> None:
    """Give a file a second name and replace any file of that name. The second name keeps the content if the first is replaced.

    Makes a hard link; copies the file only if the file system has none.
    """
    aside = _temporary_path(name, name.suffix)
    try:
        try:
            aside.hardlink_to(path)
        except OSError:
            shutil.copyfile(path, aside)
        _replace(name, aside)
    finally:
        aside.unlink(missing_ok=True)


def keep_copy(path: Path) -> None:
    """Copy a file that is about to be replaced: ``config.yaml`` to ``config_1.yaml``, or to the next number that is free."""
    number = 1
    while (kept := path.with_stem(f"{path.stem}_{number}")).exists():
        number += 1
    with write_aside(kept) as aside:
        shutil.copyfile(path, aside)


def remove_temporary_files(folder: Path) -> None:
    """Remove the temporary files that killed processes left in a folder. Call it only if nobody else writes there."""
    for part in folder.glob(".*.part*"):
        part.unlink(missing_ok=True)


def save(content: Any, path: str | os.PathLike[str]) -> None:
    """Write ``content`` (tensors and primitives) to ``path`` in torch's zip format by :func:`write_aside`.

    Raises:
        OSError: the system cannot write it.
    """
    with write_aside(path) as aside, aside.open("wb") as file:
        try:
            torch.save(content, file)  # given a name, torch would write it into the file
        except RuntimeError as error:  # torch rewords the system's error
            raise error.__context__ if isinstance(error.__context__, OSError) else OSError(str(error)) from error


def load(path: str | os.PathLike[str], keys: Collection[str] = (), map_location: Any = "cpu", legacy: bool = False) -> Any:
    """Read a file that :func:`save` wrote.

    First verifies the zip's checksums, because torch.load reads over a flipped bit without an error. Then unpickles with
    ``weights_only=True``, so that no code of the file runs.

    Args:
        path: the file.
        keys: entries that it must have. Others are allowed.
        map_location: device of the loaded tensors.
        legacy: also read torch's format before version 1.6. It has no checksums.

    Raises:
        InputError: the file is missing or damaged, holds more than tensors and primitives, or lacks an entry.
    """
    with _open(path) as file:
        if not legacy or file.read(2) == b"PK":
            _verify(file, path, "torch.save", stored=True)
        file.seek(0)
        try:
            content = torch.load(file, map_location=map_location, weights_only=True)
        except pickle.UnpicklingError as error:  # its message recommends to run any code in the file
            raise InputError(f"{path} is damaged, or has more than tensors and primitives: use another file") from error
        except Exception as error:  # a malicious pickle can raise anything
            raise InputError(f"{path} cannot be read as tensors and primitives: use another file") from error
    _require(path, content, keys)
    return content


def load_arrays(path: str | os.PathLike[str], keys: Collection[str], optional: Collection[str] = ()) -> dict[str, NDArray[Any]]:
    """Read arrays of an ``.npz``, verified as by :func:`load`. Unpickles nothing.

    Args:
        path: the file, of numpy.savez or numpy.savez_compressed.
        keys: arrays that it must have.
        optional: arrays to read if the file has them.

    Raises:
        InputError: the file is missing or damaged, unpacks to an absurd size, or lacks an array.
    """
    with _open(path) as file:
        _verify(file, path, "numpy.savez", stored=False)
        file.seek(0)
        try:
            with numpy.load(file, allow_pickle=False) as archive:
                content = {name: numpy.asarray(archive[name]) for name in (*keys, *optional) if name in archive}
        except Exception as error:  # a malicious header can raise anything
            raise InputError(f"{path} has arrays that cannot be read ({one_line(error)[:150]}): use another file") from error
    _require(path, content, keys)
    return content


def _open(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file once, so that the bytes verified are the bytes read. Refuses pipes and devices: they may block."""
    try:
        if Path(path).is_file():
            return Path(path).open("rb")
        wrong = "is not a file" if Path(path).exists() else "does not exist"
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): use another file") from error
    raise InputError(f"{path} {wrong}: use an existing file")


def _verify(file: BinaryIO, path: str | os.PathLike[str], writer: str, stored: bool) -> None:
    """Refuse a file unless it is a complete, undamaged zip as ``writer`` makes it.

    Args:
        file: opened for reading.
        path: its name.
        writer: the function that writes such files.
        stored: ``writer`` never compresses, so that the contents cannot be larger than the file.
    """
    size = file.seek(0, os.SEEK_END)
    most = size if stored else max(MAX_EXPANSION * size, MIN_REFUSED)
    try:
        file.seek(0)
        begins_as_zip = file.read(4) == b"PK\x03\x04"  # torch.load takes anything else for its old format
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            names = {member.filename for member in members}
            unpacked = sum(member.file_size for member in members)
            packed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
            if not begins_as_zip or len(names) < len(members) or (stored and packed):
                raise InputError(f"{path} is damaged, or not a file of {writer}: use another file")
            if unpacked > most:
                raise InputError(
                    f"{path} has {size:,} bytes but unpacks to {unpacked:,}, more than any file of {writer}: use another file"
                )
            damaged = archive.testzip()
    except InputError:
        raise
    except Exception as error:  # a malicious file can raise anything
        reason = one_line(error)[:150]
        raise InputError(f"{path} is damaged, truncated, or not a file of {writer} ({reason}): use another file") from error
    if damaged is not None:
        raise InputError(f"{path} is damaged, because the checksum of its part {damaged} is wrong: use another file")


def _require(path: str | os.PathLike[str], content: Any, keys: Collection[str]) -> None:
    missing = sorted(set(keys) - content.keys()) if isinstance(content, dict) else sorted(keys)
    if missing:
        raise InputError(f"{path} has no {' and no '.join(missing)}: use another file")


def fingerprint(*tensors: Tensor) -> str:
    """SHA-256, in hex, of the shapes, types and values of tensors."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(repr((tuple(tensor.shape), tensor.dtype)).encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def fingerprint_of_parts(shape: tuple[int, ...], parts: Iterable[Tensor]) -> str:
    """Compute the :func:`fingerprint` of a tensor uint8 of this shape, from its parts along the first dimension."""
    digest = hashlib.sha256(repr((shape, torch.uint8)).encode())
    for part in parts:
        digest.update(_bytes(part))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data


def file_sha256(path: Path) -> str:
    """SHA-256, in hex, of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
