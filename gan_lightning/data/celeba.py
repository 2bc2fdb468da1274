"""CelebA (Liu et al. 2015)."""

import os
from pathlib import Path
from typing import Any

import numpy
from filelock import FileLock
from lightning.pytorch.utilities import rank_zero_info
from torchvision import datasets

from gan_lightning.data.base import Split
from gan_lightning.data.decoded import DecodedImages
from gan_lightning.data.tree import Files, Folder
from gan_lightning.errors import InputError, one_line
from gan_lightning.home import default_root


class CelebA(DecodedImages):
    """202,599 aligned portraits of 178x218 pixels, 19,962 of them the test split, resized and cropped to one size.

    Trains on the authors' train split; their valid split is not used. There are no classes, but 40 attributes, such as Smiling,
    each 0 or 1. If the files are missing,
    torchvision downloads them from Google Drive, which needs the package ``gdown`` and is often refused because of a limit on
    downloads. Then put the six files by hand into ``celeba`` below ``root``, as the error says.

    Args:
        root: folder of the data; None is $GAN_LIGHTNING_DATA, else ~/.cache/gan_lightning/data.
        attributes: use the attributes; otherwise the images have no labels.
        **arguments: arguments of :class:`DecodedImages`.

    Raises:
        InputError: files are missing and cannot be downloaded, a file is corrupt, or a number is out of range.
    """

    def __init__(self, root: str | os.PathLike[str] | None = None, attributes: bool = False, **arguments: Any) -> None:
        self.attributes = attributes
        super().__init__(default_root() if root is None else root, **arguments)
        self.name = "celeba"

    @property
    def held_out(self) -> str:
        return "the authors' test split"

    def _find(self) -> Folder:
        folder = self.root / datasets.CelebA.base_folder
        self._download(folder)
        splits: dict[Split, Files] = {}
        names: tuple[str, ...] = ()
        for split in ("train", "test"):
            found = self._open(split=split)
            names = tuple(filter(None, found.attr_names)) if self.attributes else ()  # the header ends with a space
            values = found.attr.numpy().astype(numpy.float32) if names else None
            splits[split] = Files(folder / "img_align_celeba", tuple(found.filename), values)
        return Folder((), splits, (), names)

    def _download(self, folder: Path) -> None:
        """Download and unpack what is missing, in one process at a time."""
        try:
            self._open()
        except FileNotFoundError:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                with FileLock(folder / ".lock"):
                    rank_zero_info(f"CelebA is not in {folder}: downloading or unpacking it")
                    self._open(download=True)
            except InputError:
                raise
            except Exception as error:  # gdown raises many kinds of exceptions, or is not installed
                files = ", ".join(name for _, _, name in datasets.CelebA.file_list)
                raise InputError(
                    f"CelebA is not in {folder} and cannot be downloaded ({one_line(error)[:200]}): put {files} there by hand, "
                    "as the authors published them, or use another --data.root"
                ) from error

    def _open(self, **arguments: Any) -> Any:
        """Open torchvision's data set.

        Raises:
            FileNotFoundError: its files are missing, or have another checksum.
            InputError: its files are damaged.
        """
        try:
            return datasets.CelebA(str(self.root), **arguments)
        except Exception as error:
            if str(error).startswith("Dataset not found"):
                raise FileNotFoundError(str(error)) from error
            if arguments.get("download"):
                raise
            folder = self.root / datasets.CelebA.base_folder
            raise InputError(
                f"CelebA cannot be read ({one_line(error)[:200]}): delete {folder}, and the next run downloads it again"
            ) from error
