"""The pairs of image files below a folder: two parallel subfolders, or files that hold both images side by side."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from PIL import Image

from gan_lightning.data.base import Split
from gan_lightning.data.tree import Files, Folder, count_text, find_splits, is_ignored, listed, scan, split_folders
from gan_lightning.errors import InputError

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing from Python 3.11


@dataclass(frozen=True)
class PairFiles(Files):
    """Images of a split, and the partner of each: paths relative to ``partner_folder``."""

    partner_folder: Path
    partners: tuple[str, ...]

    def select(self, chosen: Iterable[int]) -> "Self":
        kept = list(chosen)
        return replace(super().select(kept), partners=tuple(self.partners[i] for i in kept))


def only_one(a: object, b: object) -> str:
    """Say that only one of ``data.a`` and ``data.b`` is given, for an error; empty if both are, or neither."""
    if (a is None) == (b is None):
        return ""
    named, other = ("a", "b") if b is None else ("b", "a")
    return f"data.{named} is {a or b}, but data.{other} is missing"


def find_pairs(root: Path, a: str | None, b: str | None) -> Folder:
    """Find the pairs of both splits: files that hold images side by side, or :class:`PairFiles` of images A with partners B.

    The layouts are ``root/A root/B``, with or without splits below each; ``root/train/A root/train/B`` and so on; and, if no
    subfolders are named, images directly in ``root`` or in ``root/train`` and so on. See :func:`find_splits` for the splits.

    Args:
        root: the folder.
        a: name of the subfolder of images A; None is the first of the only two.
        b: name of the subfolder of images B; None is the second of the only two.

    Raises:
        InputError: the folder is missing, unreadable or empty, the subfolders are not two, or they do not pair.
    """
    if alone := only_one(a, b):
        raise InputError(f"{alone}: name both subfolders, or none")
    images = [Path(path) for path in scan(root, report=False).paths]
    depth = 0 if split_folders(root, images) is None else 1
    subfolders = sorted({path.parts[depth] for path in images if len(path.parts) > depth + 1})
    if a is None or b is None:
        if any(len(path.parts) == depth + 1 for path in images):
            return replace(find_splits(root), class_names=())
        if len(subfolders) == 1 and not depth and (empty := _empty_subfolders(root, subfolders)):
            raise InputError(f"{root / empty[0]} has no images: put the partners of those in {root / subfolders[0]} into it")
        if len(subfolders) != 2:
            raise InputError(
                f"{root} has the subfolders {listed(subfolders)} instead of two with the images of each pair: name two by "
                "--data.a and --data.b, or put images that lie side by side directly into it"
            )
        a, b = subfolders
    if missing := [name for name in (a, b) if name not in subfolders]:
        raise InputError(f"{root} has no images in {listed(missing)}: its subfolders are {listed(subfolders) or 'none'}")
    found = find_splits(root if depth else root / a)
    here = {
        split: _below(files, a, b) if depth else _beside(files, root / a, root / b) for split, files in found.splits.items()
    }
    return Folder((), _paired(here), found.others)


def _empty_subfolders(root: Path, others: Sequence[str]) -> list[str]:
    """Name the subfolders without images."""
    return sorted(e.name for e in root.iterdir() if e.is_dir() and e.name not in others and not is_ignored([e.name]))


def _below(files: Files, a: str, b: str) -> tuple[Files, Path]:
    """Choose the images A of a split, and find the folder of their partners, if both are subfolders of the split."""
    own = (i for i, path in enumerate(files.paths) if PurePath(path).parts[0] == a)
    below = tuple(str(PurePath(path).relative_to(a)) for path in files.select(own).paths)
    return Files(files.folder / a, below, None), files.folder / b


def _beside(files: Files, a: Path, b: Path) -> tuple[Files, Path]:
    """Find the folder of the partners of a split, if the split is below the folder of the images A."""
    return replace(files, labels=None), b / files.folder.relative_to(a)


def _paired(splits: Mapping[Split, tuple[Files, Path]]) -> dict[Split, Files]:
    """Find the partner of each image by its path without the suffix.

    Raises:
        InputError: images have no partner, or two have the same.
    """
    partners: dict[Path, dict[str, str]] = {}
    for folder in dict.fromkeys(files.folder for files, _ in splits.values()):
        paths = [path for files, _ in splits.values() if files.folder == folder for path in files.paths]
        other = next(partner for files, partner in splits.values() if files.folder == folder)
        theirs = _by_name(other, scan(other, report=False).paths)
        if alone := _alone(folder, other, _by_name(folder, paths), theirs):
            raise InputError(
                f"{folder} and {other} do not pair: {count_text(len(alone), 'image')} without a partner of the same name "
                f"({listed(alone)}). Add the partners, or remove these images"
            )
        partners[folder] = theirs
    return {
        split: PairFiles(
            files.folder, files.paths, None, other, tuple(partners[files.folder][_name(path)] for path in files.paths)
        )
        for split, (files, other) in splits.items()
    }


def _alone(folder: Path, other: Path, ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    """List the images without a partner."""
    mine = [f"{folder.name}/{path}" for name, path in ours.items() if name not in theirs]
    return mine + [f"{other.name}/{path}" for name, path in theirs.items() if name not in ours]


def _name(path: str) -> str:
    return str(PurePath(path).with_suffix(""))


def _by_name(folder: Path, paths: Sequence[str]) -> dict[str, str]:
    """Path without suffix -> path.

    Raises:
        InputError: two paths differ in their suffix only.
    """
    found: dict[str, str] = {}
    for path in paths:
        if (first := found.setdefault(_name(path), path)) != path:
            raise InputError(f"{folder} has both {first} and {path}, and so two images of one pair: keep one of them")
    return found


def halves(image: Image.Image) -> tuple[Image.Image, Image.Image]:
    """Cut an image into its left and its right half, A and B.

    Raises:
        ValueError: the width is odd.
    """
    width, height = image.size
    if width % 2:
        raise ValueError(f"not two images side by side: its width of {width} pixels is odd")
    return image.crop((0, 0, width // 2, height)), image.crop((width // 2, 0, width, height))
