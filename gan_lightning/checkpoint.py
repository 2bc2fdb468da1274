"""Safe loading and atomic saving: every file that we read or write as a whole goes through here."""

import hashlib
import os
import pickle
import secrets
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gan_lightning.errors import InputError

FORMAT_VERSION = 2
KEY = "gan_lightning"
"""The entry of a checkpoint that says what it is of: format_version, generator, discriminator, ema, optimizers, and
the names of what penalties and augmentation remember (state)."""


@contextmanager
def write_aside(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; when the block ends well, the file there takes the place of ``path``.

    A reader sees the old file or the new one, whole, never a part of either; when the block raises, the old one stays
    and the part that was written is removed.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part{target.suffix}")
    try:
        aside.touch(exist_ok=False)
        yield aside
        with aside.open("r+b") as written:
            os.fsync(written.fileno())
        aside.replace(target)
        _sync_folder(target.parent)
    finally:
        aside.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Let the new name outlast a power failure, where folders can be synchronized (not on Windows)."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


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


def load(path: str | os.PathLike[str], map_location: Any = "cpu", legacy: bool = False) -> Any:
    """Read a file that :func:`save` wrote.

    The zip's checksums are verified first, because torch.load reads over a flipped bit without a word; then it is
    unpickled with ``weights_only=True``, which runs no code of the file.

    Args:
        path: the file.
        map_location: where its tensors go.
        legacy: also read the format that torch wrote before version 1.6, which has no checksums.

    Raises:
        InputError: there is no such file, it is damaged, or it holds more than tensors and primitives.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"{file}: no such file")
    try:
        damaged = None
        if not legacy or _begins_as_zip(file):
            with zipfile.ZipFile(file) as archive:
                damaged = archive.testzip()
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, NotImplementedError) as error:
        raise InputError(f"{file}: damaged or cut short, or not a file of torch.save ({error}); use another") from error
    if damaged is not None:
        raise InputError(f"{file}: damaged, the checksum of its part {damaged} is wrong; use another")
    try:
        return torch.load(file, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:  # whose own words advise to run whatever code is in it
        raise InputError(f"{file}: damaged, or it holds more than tensors and primitives; use another") from error
    except (RuntimeError, EOFError, KeyError, ValueError) as error:
        raise InputError(f"{file}: cannot be read as tensors and primitives; use another") from error


def _begins_as_zip(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(2) == b"PK"


def load_gan(path: str | os.PathLike[str], map_location: Any = "cpu") -> dict[str, Any]:
    """Read a checkpoint of a training run; what :func:`load` checks, and that it is one of ours.

    Raises:
        InputError: as :func:`load`, or the file is no gan_lightning checkpoint, or of another format.
    """
    content: dict[str, Any] = load(path, map_location)
    about = content.get(KEY) if isinstance(content, dict) else None
    if not isinstance(about, dict) or not {"format_version", "generator", "discriminator", "ema"} <= about.keys():
        raise InputError(f"{path}: not a gan_lightning checkpoint (it has no entry {KEY!r}); use one that train.py wrote")
    if about["format_version"] != FORMAT_VERSION:
        raise InputError(
            f"{path}: checkpoint format {about['format_version']}, and this version of gan_lightning reads "
            f"{FORMAT_VERSION}; install the version that wrote it"
        )
    networks = [about["generator"], about["discriminator"]]
    if not all(isinstance(network, dict) and {"class_path", "arguments"} <= network.keys() for network in networks):
        raise InputError(f"{path}: a gan_lightning checkpoint that does not say what its networks are; use another")
    missing = {"state_dict", "global_step", "pytorch-lightning_version"} - content.keys()
    if missing:
        raise InputError(f"{path}: a gan_lightning checkpoint without {', '.join(sorted(missing))}; use another")
    return content


def fingerprint(*tensors: Tensor) -> str:
    """A SHA-256, in hex, of the shapes, types and values of tensors."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(repr((tuple(tensor.shape), tensor.dtype)).encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
