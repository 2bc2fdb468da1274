"""Images to measure, without labels: a folder, an array (.npy, .npz), or an archive of image files (.zip, .tar)."""

import io
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

import numpy
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from gan_lightning.data.folder import read_folder
from gan_lightning.data.image_file import HEAD, MODES, Facts, decode, fitted, is_image_name
from gan_lightning.data.stored import Spool, Stored, drop_pages, select
from gan_lightning.data.survey import Headers, Survey, survey_folder
from gan_lightning.data.tree import is_ignored, report_corrupt, report_others
from gan_lightning.errors import InputError, one_line
from gan_lightning.files import load_arrays

ARRAYS = (".npy", ".npz")
USUAL_NAMES = ("images", "arr_0", "samples")
"""Names of the array of an .npz: of sample.py, of numpy.savez, and of other programs."""
LARGEST = 2**28  # bytes of an image in an archive
PAGES_KEPT = 1000  # images of an array to read before their pages leave the memory


def survey_images(source: Path) -> Survey:
    """Read the header of each image.

    Raises:
        InputError: the source cannot be read, or has no image.
    """
    if source.suffix.lower() in ARRAYS:
        count, height, width, channels = read_array(source).shape
        mode = MODES[channels]
        return Survey([(width, height)] * count, Counter({mode: count}), Counter({source.suffix.lower(): count}), 0)
    if not source.is_file():
        return survey_folder(source)
    headers = Headers()
    for _, content in _members(source):
        with suppress(Exception):  # it is named when it is read
            headers.add(io.BytesIO(content))
    found = headers.survey()
    if not found.sizes:
        raise InputError(f"{source} has no image whose header can be read: use another file")
    return found


def read_images(
    source: Path,
    image_shape: tuple[int, int, int],
    white: float | None = None,
    skipped: list[str] | None = None,
    choose: Callable[[int], Tensor] = torch.arange,
) -> Stored:
    """Read images, uint8 (N, C, H, W), in the order of their names. Other sizes are resized and cropped.

    If they take more than :data:`~gan_lightning.data.stored.MOST_IN_MEMORY` bytes, they are in a temporary file in the default
    data folder.

    Args:
        source: the folder or file.
        image_shape: (C, H, W).
        white: value that is white in images of more than 8 bits.
        skipped: list to which the names of unreadable images are added; None refuses them.
        choose: maps the number of images to the ascending indices of those to read, int64. Unreadable images do not count if
            they are skipped. All images are decoded then.

    Raises:
        InputError: the source cannot be read, or has no image; an image cannot be read; or the disk is full.
    """
    if source.suffix.lower() in ARRAYS:
        array, spool = read_array(source), Spool(image_shape)
        for number, i in enumerate(choose(len(array)).tolist()):
            pixels = array[i]
            spool.add(fitted(Image.fromarray(pixels if pixels.shape[2] > 1 else pixels[..., 0]), image_shape).numpy())
            if number % PAGES_KEPT == 0:
                drop_pages(array)
        return spool.images
    read = _read_archive if source.is_file() else read_folder
    if skipped is None:
        return read(source, image_shape, white, skipped, choose)
    images = read(source, image_shape, white, skipped)
    return select(images, choose(len(images)))


def _read_archive(
    source: Path,
    image_shape: tuple[int, int, int],
    white: float | None,
    skipped: list[str] | None,
    choose: Callable[[int], Tensor] = torch.arange,
) -> Stored:
    """Read the images of an archive in its own order, and return them in the order of their names."""
    all_names = [name for name, _ in _members(source)]
    in_order = sorted(range(len(all_names)), key=all_names.__getitem__)
    chosen = {in_order[rank] for rank in choose(len(all_names)).tolist()}
    names, spool = list[str](), Spool(image_shape)
    corrupt: dict[str, str] = {}
    facts = Facts()
    members = enumerate(_members(source, report=True))
    for i, (name, content) in tqdm(members, f"Reading {source}", len(all_names), unit=" images", delay=1):
        if i not in chosen:
            continue
        try:
            image = decode(io.BytesIO(content), image_shape, white, facts)
        except Exception as error:  # Pillow raises many kinds of exceptions for damaged files
            corrupt[name] = one_line(error)[:200]
            continue
        spool.add(image.numpy())
        names.append(name)
    report_corrupt(source, corrupt, len(names) + len(corrupt), skipped is not None, "--skip_corrupt")
    if skipped is not None:
        skipped.extend(corrupt)
    facts.report(source)
    return select(spool.images, torch.tensor(sorted(range(len(names)), key=names.__getitem__)))


def read_array(source: Path) -> NDArray[numpy.uint8]:
    """Read the images of an .npy or .npz, uint8 (N, H, W, C). Those of an .npy stay in the file until they are used.

    Raises:
        InputError: there is no array of images, or its values are not grey levels.
    """
    array = _load_array(source)
    if array.dtype.kind in "fiub" and array.size and array.dtype != numpy.uint8:
        low, high = float(array.min()), float(array.max())
        raise InputError(f"{source} has {array.dtype} from {low:g} to {high:g} instead of uint8: save {_advice(low, high)}")
    if array.ndim == 3 and array.shape[2] > 4:  # (N, H, W); otherwise it is a single image
        array = array[..., None]
    first, last = (array.shape[1] in MODES, array.shape[3] in MODES) if array.ndim == 4 and array.size else (False, False)
    if first == last:
        both = "both {} and {}" if first else "neither {} nor {}"
        raise InputError(
            f"{source} has an array of shape {array.shape}. It is {both.format('(N, H, W, C)', '(N, C, H, W)')} with 1, 3 or 4 "
            "channels: save another one"
        )
    if array.dtype != numpy.uint8:
        raise InputError(f"{source} has an array of {array.dtype} instead of uint8: save the images as uint8, 0 to 255")
    if all(image.max() <= 1 for image in array):
        raise InputError(f"{source} has no value above {array.max()}, so its images are black: save {_advice(0, 1)}")
    return array.transpose(0, 2, 3, 1) if first else array


def _advice(low: float, high: float) -> str:
    if low >= 0 and high <= 1:
        formula = "x * 255"
    elif low >= -1.5 and high <= 1.5:
        formula = "(x + 1) * 127.5"
    else:
        return "x.round().clip(0, 255).astype('uint8')"
    return f"({formula}).round().clip(0, 255).astype('uint8')"


def _load_array(source: Path) -> NDArray[Any]:
    if not source.is_file():
        raise InputError(f"{source} is not a file: use an .npy or .npz")
    if source.suffix.lower() == ".npy":
        try:
            array: NDArray[Any] = numpy.load(source, "c", allow_pickle=False)
        except Exception as error:  # a malicious header can raise anything
            raise InputError(f"{source} cannot be read as an array ({one_line(error)[:150]}): use another file") from error
        return array
    try:
        with zipfile.ZipFile(source) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{source} cannot be read ({one_line(error)[:150]}): use another file") from error
    if {"mu", "sigma"} <= set(names):
        raise InputError(f"{source} has statistics (mu and sigma) instead of images: compare with it by --reference {source}")
    usual = [name for name in USUAL_NAMES if name in names] or names
    if len(usual) > 1 and usual == names:
        raise InputError(f"{source} has several arrays ({', '.join(names[:5])}): name that of the images 'images'")
    if not usual:
        raise InputError(f"{source} has no array: use another file")
    return load_arrays(source, usual[:1])[usual[0]]


def _members(source: Path, report: bool = False) -> Iterator[tuple[str, bytes]]:
    """Read the image files in an archive: name and content.

    Raises:
        InputError: the archive is damaged or encrypted, or has no image.
    """
    others, count = [], 0
    try:
        for name, size, file in _zipped(source) if source.suffix.lower() == ".zip" else _tarred(source):
            if is_ignored(PurePosixPath(name).parts):
                continue
            head = file.read(HEAD)
            if not is_image_name(name, head):
                others.append(Path(name))
                continue
            if size > LARGEST:
                raise InputError(f"{source}: {name} has {size:,} bytes, more than any image: remove it")
            count += 1
            yield name, head + file.read()
    except InputError:
        raise
    except Exception as error:  # a malicious archive can raise anything
        raise InputError(f"{source} is damaged or encrypted ({one_line(error)[:150]}): use another file") from error
    if report or not count:
        report_others(source, count, others)


def _zipped(source: Path) -> Iterator[tuple[str, int, Any]]:
    with zipfile.ZipFile(source) as archive:
        for member in archive.infolist():
            if not member.is_dir():
                with archive.open(member) as file:
                    yield member.filename, member.file_size, file


def _tarred(source: Path) -> Iterator[tuple[str, int, Any]]:
    with tarfile.open(source) as archive:
        for member in archive:
            if member.isfile():
                yield member.name, member.size, archive.extractfile(member)
