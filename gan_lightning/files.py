"""Safe loading and atomic saving: every file that we read or write as a whole goes through here."""

import hashlib
import os
import pickle
import secrets
import shutil
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from gan_lightning.errors import InputError, one_line

FORMAT_VERSION = 3
KEY = "gan_lightning"
"""The entry of a checkpoint that says what it is of: format_version, generator, discriminator, ema, optimizers, and
the names of what penalties and augmentation remember (state)."""
HYPER_PARAMETERS = frozenset(
    {"hparams", "module_arguments", "hyper_parameters", "hparams_name", "hparams_type"}
    | {"datamodule_hyper_parameters", "datamodule_hparams_name", "datamodule_hparams_type"}
)
"""Entries of which Lightning's ``load_from_checkpoint`` makes objects, by functions that they may name."""
LARGEST_EXPANSION = 100  # times its own size; statistics of images shrink to a half at best
FEWEST_BYTES_REFUSED = 2**30  # what unpacks to less harms nobody


@contextmanager
def write_aside(path: str | os.PathLike[str], durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; when the block ends well, the file there takes the place of ``path``.

    A reader sees the old file or the new one, whole, never a part of either; when the block raises, the old one stays
    and the part that was written is removed.

    Args:
        path: the file.
        durable: whether it is to outlast a power failure, for which the disk is waited for; not for thousands of small files.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part{target.suffix}")
    try:
        aside.touch(exist_ok=False)
        yield aside
        if durable:
            with aside.open("r+b") as written:
                os.fsync(written.fileno())
        aside.replace(target)
        if durable:
            _sync_folder(target.parent)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def folder_aside(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a new folder beside ``path``; when the block ends well, it is renamed to ``path``, else removed.

    Args:
        path: of a folder that is not there yet, or empty.
    """
    target = Path(path)
    aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        aside.mkdir(parents=True)
        yield aside
        for written in aside.iterdir():
            with written.open("r+b") as file:
                os.fsync(file.fileno())
        _sync_folder(aside)
        if target.is_dir():
            target.rmdir()  # refused where something has come into it meanwhile
        aside.rename(target)
        _sync_folder(target.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _sync_folder(folder: Path) -> None:
    """Let the new name outlast a power failure, where folders can be synchronized (not on Windows)."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def link(path: Path, name: Path) -> None:
    """Give a whole file a second name, in the place of what is there; it stays when another takes the first one's place.

    No byte is copied, but where the file system has one name a file.
    """
    aside = name.with_name(f".{name.name}.{secrets.token_hex(4)}.part{name.suffix}")
    try:
        try:
            aside.hardlink_to(path)
        except OSError:
            shutil.copyfile(path, aside)
        aside.replace(name)
    finally:
        aside.unlink(missing_ok=True)


def remove_parts(folder: Path) -> None:
    """Remove what :func:`write_aside` left in a folder when its process was killed. Nobody else may be writing there."""
    for part in folder.glob(".*.part*"):
        part.unlink(missing_ok=True)


def save(content: Any, path: str | os.PathLike[str]) -> None:
    """Write ``content`` (tensors and primitives) to ``path`` in torch's zip format, aside and renamed.

    Raises:
        OSError: it cannot be written.
    """
    with write_aside(path) as aside, aside.open("wb") as file:
        try:
            torch.save(content, file)  # a file, not its name, which would be written into it
        except RuntimeError as error:  # torch's own words for what the system says
            raise error.__context__ if isinstance(error.__context__, OSError) else OSError(str(error)) from error


def load(path: str | os.PathLike[str], keys: Collection[str] = (), map_location: Any = "cpu", legacy: bool = False) -> Any:
    """Read a file that :func:`save` wrote.

    The zip's checksums are verified first, because torch.load reads over a flipped bit without a word; then it is
    unpickled with ``weights_only=True``, which runs no code of the file.

    Args:
        path: the file.
        keys: entries that it must have, besides which it may have others.
        map_location: where its tensors go.
        legacy: also read the format that torch wrote before version 1.6, which has no checksums.

    Raises:
        InputError: there is no such file, it is damaged, holds more than tensors and primitives, or lacks an entry.
    """
    with _open(path) as file:
        if not legacy or file.read(2) == b"PK":
            _verify(file, path, "torch.save", stored=True)
        file.seek(0)
        try:
            content = torch.load(file, map_location=map_location, weights_only=True)
        except pickle.UnpicklingError as error:  # whose own words advise to run whatever code is in it
            raise InputError(f"{path}: damaged, or it holds more than tensors and primitives; use another") from error
        except Exception as error:  # of a pickle that was made to fail, anything
            raise InputError(f"{path}: cannot be read as tensors and primitives; use another") from error
    _require(path, content, keys)
    return content


def load_arrays(path: str | os.PathLike[str], keys: Collection[str], optional: Collection[str] = ()) -> dict[str, NDArray[Any]]:
    """Read arrays of an ``.npz``, verified as :func:`load` does; nothing in it is unpickled.

    Args:
        path: the file, of numpy.savez or numpy.savez_compressed.
        keys: the arrays that it must have.
        optional: those that are read where they are there.

    Raises:
        InputError: there is no such file, it is damaged, unpacks to an absurd size, or lacks an array.
    """
    with _open(path) as file:
        _verify(file, path, "numpy.savez", stored=False)
        file.seek(0)
        try:
            with numpy.load(file, allow_pickle=False) as archive:
                content = {name: numpy.asarray(archive[name]) for name in (*keys, *optional) if name in archive}
        except Exception as error:  # of a header that was made to fail, anything
            raise InputError(f"{path}: its arrays cannot be read ({one_line(error)[:150]}); use another") from error
    _require(path, content, keys)
    return content


def _open(path: str | os.PathLike[str]) -> BinaryIO:
    """A file, opened once, so that what was verified is what is read; a pipe or a device is not waited for."""
    try:
        if Path(path).is_file():
            return Path(path).open("rb")
        wrong = "not a file; name a file" if Path(path).exists() else "no such file"
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); use another") from error
    raise InputError(f"{path}: {wrong}")


def _verify(file: BinaryIO, path: str | os.PathLike[str], writer: str, stored: bool) -> None:
    """Refuse a file that is not the zip that ``writer`` makes, whole to the last bit.

    Args:
        file: opened for reading.
        path: its name.
        writer: the function that writes such files.
        stored: whether that function never compresses, so that what is in the file takes no more room than the file.
    """
    size = file.seek(0, os.SEEK_END)
    most = size if stored else max(LARGEST_EXPANSION * size, FEWEST_BYTES_REFUSED)
    try:
        file.seek(0)
        begins_as_zip = file.read(4) == b"PK\x03\x04"  # elsewhere torch.load would look no further for a zip
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            names = {member.filename for member in members}
            unpacked = sum(member.file_size for member in members)
            packed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
            if not begins_as_zip or len(names) < len(members) or (stored and packed):
                raise InputError(f"{path}: damaged, or not a file of {writer}; use another")
            if unpacked > most:
                raise InputError(
                    f"{path}: {size:,} bytes that unpack to {unpacked:,}, which no file of {writer} does; use another"
                )
            damaged = archive.testzip()
    except InputError:
        raise
    except Exception as error:  # of a file that was made to fail, anything
        reason = one_line(error)[:150]
        raise InputError(f"{path}: damaged or cut short, or not a file of {writer} ({reason}); use another") from error
    if damaged is not None:
        raise InputError(f"{path}: damaged, the checksum of its part {damaged} is wrong; use another")


def _require(path: str | os.PathLike[str], content: Any, keys: Collection[str]) -> None:
    missing = sorted(set(keys) - content.keys()) if isinstance(content, dict) else sorted(keys)
    if missing:
        raise InputError(f"{path}: it has no {' and no '.join(missing)}; use another")


def load_gan(path: str | os.PathLike[str], map_location: Any = "cpu") -> dict[str, Any]:
    """Read a checkpoint of a training run; what :func:`load` checks, and that it is one of ours.

    Raises:
        InputError: as :func:`load`, or the file is no gan_lightning checkpoint, of another format, or has entries of which
            Lightning would make objects.
    """
    content: dict[str, Any] = load(path, map_location=map_location)
    about = content.get(KEY) if isinstance(content, dict) else None
    if not isinstance(about, dict) or not {"format_version", "generator", "discriminator", "ema"} <= about.keys():
        raise InputError(f"{path}: not a gan_lightning checkpoint (it has no entry {KEY!r}); use one that train.py wrote")
    version = about["format_version"] if type(about["format_version"]) is int else "unknown"
    if version != FORMAT_VERSION:
        raise InputError(
            f"{path}: checkpoint format {version}, and this version of gan_lightning reads {FORMAT_VERSION}; install the "
            "version that wrote it"
        )
    networks = [about["generator"], about["discriminator"]]
    if not all(isinstance(network, dict) and {"class_path", "arguments"} <= network.keys() for network in networks):
        raise InputError(f"{path}: a gan_lightning checkpoint that does not say what its networks are; use another")
    if objects := sorted(HYPER_PARAMETERS & content.keys()):
        raise InputError(
            f"{path}: it has {' and '.join(objects)}, of which Lightning makes objects, and no checkpoint of gan_lightning "
            "has; use one that train.py wrote"
        )
    missing = {"state_dict", "global_step", "pytorch-lightning_version"} - content.keys()
    if missing:
        raise InputError(f"{path}: a gan_lightning checkpoint without {', '.join(sorted(missing))}; use another")
    weights = content["state_dict"]
    if not isinstance(weights, dict) or not all(isinstance(name, str) for name in weights):
        raise InputError(f"{path}: a gan_lightning checkpoint whose state_dict holds no weights; use another")
    if type(content["global_step"]) is not int:
        raise InputError(f"{path}: a gan_lightning checkpoint whose global_step is no whole number; use another")
    return content


def require_resumable(content: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Refuse a checkpoint, as :func:`load_gan` returns it, that lacks what a run goes on from, beside weights.

    Raises:
        InputError: it names the entry.
    """
    optimizers, loops, callbacks = (content.get(name) for name in ("optimizer_states", "loops", "callbacks"))
    epoch, step = content.get("epoch"), content["global_step"]
    wrong = {
        "epoch": type(epoch) is not int or epoch < 0,
        "global_step": step < 0,
        "optimizer_states": not isinstance(optimizers, list)
        or len(optimizers) != 2
        or not all(isinstance(state, dict) and {"state", "param_groups"} <= state.keys() for state in optimizers),
        "loops": not isinstance(loops, dict) or not isinstance(loops.get("fit_loop"), dict),
        "callbacks": not isinstance(callbacks, dict) or not all(isinstance(state, dict) for state in callbacks.values()),
    }
    if found := [name for name, is_wrong in wrong.items() if is_wrong]:
        raise InputError(f"{path}: cannot be resumed from, its {' and '.join(found)} are not what they should be; use another")


def fingerprint(*tensors: Tensor) -> str:
    """A SHA-256, in hex, of the shapes, types and values of tensors."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(repr((tuple(tensor.shape), tensor.dtype)).encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
