"""Many images as output: an array that is written batch by batch, and a folder that an interrupted command resumes."""

import json
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from numpy.lib import format as npy
from PIL import Image
from torch import Tensor

from gan_lightning.commands.common.records import write_record
from gan_lightning.errors import InputError
from gan_lightning.files import remove_temporary_files, write_aside


def write_array(path: Path, shape: tuple[int, ...], batches: Iterable[Tensor]) -> None:
    """Write an .npz of one array, ``images``, batch by batch; numpy.savez would need the whole array in memory.

    Args:
        path: the file.
        shape: (N, C, H, W).
        batches: uint8 (B, C, H, W) each, N images together.
    """
    with (
        write_aside(path) as aside,
        zipfile.ZipFile(aside, "w") as archive,
        archive.open("images.npy", "w", force_zip64=True) as file,
    ):
        npy.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for images in batches:
            file.write(images.numpy().tobytes())


def is_complete(path: Path) -> bool:
    """Check if a PNG is complete and its checksums are right; a power failure may leave part of a file."""
    try:
        with Image.open(path) as image:
            image.verify()
    except Exception:  # Pillow raises many kinds of exceptions for damaged files
        return False
    return True


def prepare_folder(folder: Path, record: str, description: Mapping[str, Any], overwrite: bool | None = None) -> None:
    """Make a folder of images, or check that those in it were made with the same settings.

    Args:
        folder: the folder.
        record: name of the file in it with the settings.
        description: all settings that an image depends on.
        overwrite: replace images with other settings instead of refusing them; None if the command has no flag for it.

    Raises:
        InputError: the folder holds something else, or cannot be made.
    """
    path = folder / record
    command = Path(record).stem
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.is_file():
            if any(not entry.name.startswith(".") for entry in folder.iterdir()):
                raise InputError(f"--output {folder} has files that {command}.py did not write: use another folder")
            write_record(path, dict(description))
            return
        text = path.read_bytes()
    except OSError as error:
        raise InputError(f"--output {folder} cannot be written ({error.strerror}): use another folder") from error
    try:
        earlier = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"--output {folder} has a damaged {record}: use another folder") from error
    if not isinstance(earlier, dict) or earlier != description:
        other = [name for name in description if not isinstance(earlier, dict) or earlier.get(name) != description[name]]
        if not overwrite:
            named = " and ".join("weights" if name == "weights_sha256" else name for name in other)
            advice = "use another folder" if overwrite is None else "use another folder, or replace them with --overwrite"
            raise InputError(f"--output {folder} has images that were made with other {named}: {advice}")
        write_record(path, dict(description))
    remove_temporary_files(folder)
