"""Any folder of images: mixed sizes and modes, one subfolder per class or flat."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gan_lightning.data.decoded import DecodedImages
from gan_lightning.data.decoding import DecodedFiles, read_all
from gan_lightning.data.labels import read_labels
from gan_lightning.data.stored import Spool, Stored
from gan_lightning.data.tree import Folder, find_splits, report_corrupt, scan
from gan_lightning.home import expanded


class ImageFolder(DecodedImages):
    """Images below a folder, resized and cropped to one size.

    If all subfolders of ``root`` have names of splits, such as ``train``, ``val`` and ``test``, these are the splits: the first
    in this order is trained on, and the last is held out. Otherwise a tenth of the images is held out for the test split, by a
    hash of the path below ``root``; one image of each class is always trained on. Every subfolder of a split is a class; a
    split that directly contains images has no labels.

    With ``labels``, a file has the labels instead of the subfolders (see :mod:`gan_lightning.data.labels`): one class for each
    image, or several numbers, attributes. Attributes are used as they are: scale them so that each varies by about 1.

    Further arguments as :class:`DecodedImages`.

    Args:
        root: folder of the images.
        labels: file of the labels, a .csv with the columns file,label, or file and a column for each attribute, or StyleGAN's
            dataset.json. A relative path is looked for in ``root`` first. None takes the names of subfolders as classes.

    Raises:
        InputError: the folder or the file of labels is missing, unreadable or empty, they do not fit together, a file is
            corrupt, or a number is out of range.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *arguments: Any,
        labels: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> None:
        self.label_file = None if labels is None else read_labels(labels, expanded(root))
        super().__init__(root, *arguments, **options)

    def _find(self) -> Folder:
        return find_splits(self.root, self.label_file)


def read_folder(
    folder: Path,
    image_shape: tuple[int, int, int],
    white: float | None = None,
    skipped: list[str] | None = None,
    choose: Callable[[int], Tensor] = torch.arange,
    num_workers: int = 2,
) -> Stored:
    """Read images below a folder, uint8 (N, C, H, W), in the order of the paths. Other sizes are resized and cropped.

    Args:
        folder: the folder.
        image_shape: (C, H, W).
        white: value that is white in images of more than 8 bits.
        skipped: list to which the paths of unreadable files are added; None refuses them.
        choose: maps the number of files to the indices of those to read.
        num_workers: number of processes that decode.

    Raises:
        InputError: the folder is missing or empty, or a file cannot be read.
    """
    files = scan(folder)
    files, spool = files.select(choose(len(files.paths)).tolist()), Spool(image_shape)
    result = read_all(DecodedFiles(files, image_shape, white), num_workers, spool.add)
    corrupt = {str(folder / files.paths[index]): why for index, why in result.corrupt.items()}
    report_corrupt(folder, corrupt, len(files.paths), skipped is not None, "--skip_corrupt")
    if skipped is not None:
        skipped.extend(corrupt)
    result.facts.report(folder)
    return spool.images
