"""The image files below a folder, their classes and their splits."""

import hashlib
import io
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from numpy.typing import NDArray

from gan_lightning.data.base import Split
from gan_lightning.data.image_file import SUFFIXES, is_image
from gan_lightning.errors import InputError, plain

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing from Python 3.11

    from gan_lightning.data.labels import LabelFile

HELD_OUT = 10  # one image in so many is the test split if the folder has none
NAMED = 5  # names in a message
SPLIT_NAMES: dict[str, frozenset[str]] = {
    "train": frozenset({"train", "training"}),
    "val": frozenset({"dev", "eval", "val", "valid", "validation"}),
    "test": frozenset({"test", "testing"}),
}
"""Split -> names of its folder, in lower case."""
SYSTEM_FOLDERS = frozenset(
    {"#recycle", "$recycle.bin", "@eadir", "@recycle", "@tmp", "__macosx", "__pycache__", "lost+found"}
    | {"system volume information"}
)
"""Folders that systems and tools put among images, in lower case, besides hidden ones. Their images are copies or rubbish."""


@dataclass(frozen=True)
class Files:
    """Images of a split.

    Attributes:
        folder: folder that the paths start from.
        paths: path of each image.
        labels: class of each image; or their attributes, float32 (N, K); or None.
    """

    folder: Path
    paths: tuple[str, ...]
    labels: tuple[int, ...] | NDArray[numpy.float32] | None

    @property
    def classes(self) -> tuple[int, ...] | None:
        """Class of each image; None if the images have none, but perhaps attributes."""
        return self.labels if isinstance(self.labels, tuple) else None

    def path(self, index: int) -> Path:
        """Return the path of one file, for messages."""
        return self.folder / self.paths[index]

    def source(self, index: int) -> Path | io.BytesIO:
        """Return one file: its path, or its content.

        Raises:
            OSError: it cannot be read.
        """
        return self.path(index)

    def stamps(self) -> Iterator[object]:
        """Yield something for each file whose ``repr`` changes with its content."""
        for path in self.paths:
            try:
                stat = (self.folder / path).stat()
                yield str(self.folder.resolve()), path, stat.st_size, stat.st_mtime_ns
            except OSError:  # a broken link: reading it will raise the error
                yield path

    def select(self, chosen: Iterable[int]) -> "Self":
        """Return the files at the positions ``chosen``. A subclass with more of each file selects that, too."""
        kept = list(chosen)
        classes = self.labels
        labels = tuple(classes[i] for i in kept) if isinstance(classes, tuple) else None if classes is None else classes[kept]
        return replace(self, paths=tuple(self.paths[i] for i in kept), labels=labels)

    def subset(self, count: int, seed: int) -> "Self":
        """Choose ``count`` files by a hash of the seed and the path. Classes keep their shares, and one file at least.

        A smaller subset is a part of a larger one, to within the rounding of the shares.

        Args:
            count: number of files, from the number of classes to that of all files.
            seed: another one gives an unrelated choice.
        """
        members, classes = defaultdict(list), self.classes
        for i in sorted(range(len(self.paths)), key=lambda i: path_hash(f"{seed}/{self.paths[i]}")):
            members[None if classes is None else classes[i]].append(i)
        shares = _shares([len(own) for own in members.values()], count)
        return self.select(sorted(i for own, share in zip(members.values(), shares, strict=True) for i in own[:share]))


@dataclass(frozen=True)
class Folder:
    """The contents of a folder of images.

    Attributes:
        class_names: name of every label; empty if there are no labels.
        splits: files of both splits.
        others: files that do not count as images.
        condition_names: name of every attribute; empty if there are none.
    """

    class_names: tuple[str, ...]
    splits: dict[Split, Files]
    others: Sequence[Path]
    condition_names: tuple[str, ...] = ()


def find_splits(root: Path, labels: "LabelFile | None" = None) -> Folder:
    """Find classes and splits, and report what a user may not expect.

    If every subfolder with images has the name of a split, and no image is outside of them, the first of train, val and test is
    trained on, and the last is held out. Otherwise one image in :data:`HELD_OUT` is held out.

    Args:
        root: the folder.
        labels: labels of its images; None takes the names of subfolders as classes.

    Raises:
        InputError: the folder is missing, unreadable or empty, or its splits or labels do not fit together.
    """
    images, others = _walk(root)
    if labels is not None:
        others = [path for path in others if path.name != labels.path.name or not labels.path.samefile(root / path)]
    report_others(root, len(images), others)
    if labels is not None:
        labels.require_match(images)
    labelled = _labelled if labels is None else labels.labelled
    condition_names = () if labels is None else labels.condition_names
    folders = split_folders(root, images)
    if folders is None:
        return Folder(*with_held_out(*labelled(root, images)), others, condition_names)
    trained, held_out = next(iter(folders.values())), [*folders.values()][-1]
    if empty := next((folder for folder in (trained, held_out) if not _below(images, folder.name)), None):
        raise InputError(f"{empty} has no images: put some into it, or remove it")
    class_names, train = labelled(trained, _below(images, trained.name))
    if trained == held_out:
        rank_zero_info(f"{root}: training on {trained.name}, and holding out one image in {HELD_OUT} of it")
        return Folder(*with_held_out(class_names, train), others, condition_names)
    unused = [folder.name for folder in folders.values() if folder not in (trained, held_out)]
    without = f"; not using {', '.join(unused)}" if unused else ""
    rank_zero_info(f"{root}: training on {trained.name}, and holding out {held_out.name}{without}")
    test_names, test = labelled(held_out, _below(images, held_out.name))
    if test.classes is not None:
        if class_names and (unknown := sorted(set(test_names) - set(class_names))):
            raise InputError(f"{held_out} has classes that {trained} lacks ({listed(unknown)}): use the same classes in both")
        own = tuple(class_names.index(test_names[label]) for label in test.classes) if class_names else None
        test = Files(held_out, test.paths, own)
    return Folder(class_names, {"train": train, "test": test}, others, condition_names)


def scan(folder: Path, report: bool = True) -> Files:
    """Find the images of one folder without splits, sorted by path, and report the other files if ``report`` is set.

    Raises:
        InputError: the folder is missing, unreadable or empty.
    """
    images, others = _walk(folder)
    report_others(folder, len(images), others if report or not images else ())
    return Files(folder, tuple(map(str, images)), None)


def report_others(source: Path, images: int, others: Sequence[Path]) -> None:
    """Report the files without an image by kind.

    Args:
        source: the folder or archive.
        images: number of images in it.
        others: the other files.

    Raises:
        InputError: there are no images.
    """
    kinds = Counter(plain(path.suffix.lower()) or "no suffix" for path in others)
    found = ", ".join(f"{kind} {count:,}" for kind, count in kinds.most_common(NAMED))
    found += f" and {len(kinds) - NAMED} more kinds" if len(kinds) > NAMED else ""
    if not images:
        there = f"has no images, but other files ({found})" if others else "has no images"
        raise InputError(f"{source} {there}: use {', '.join(sorted(SUFFIXES))}")
    if others:
        rank_zero_info(f"{source}: leaving out {count_text(len(others), 'file')} without an image ({found})")


def report_corrupt(source: Path, corrupt: Mapping[str, str], count: int, skip: bool, flag: str) -> None:
    """Refuse images that cannot be read, or report that they are skipped.

    Args:
        source: folder or file of the images.
        corrupt: name of an image -> why it cannot be read.
        count: number of all images.
        skip: skip them.
        flag: the flag that skips them.

    Raises:
        InputError: unless ``skip`` is set, or if no image can be read.
    """
    if not corrupt:
        return
    named = listed([f"{name} ({why})" for name, why in corrupt.items()], "; ")
    message = f"{len(corrupt):,} of {count_text(count, 'file')} of {source} cannot be read: {named}"
    if not skip:
        raise InputError(f"{message}. Repair or remove them, or skip them with {flag}")
    if len(corrupt) == count:
        raise InputError(f"{message}. None is left: use another one")
    rank_zero_warn(f"{message}. Skipping them")


def count_text(count: int, what: str) -> str:
    """Format a number of things: 1 file, 2 files."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _shares(sizes: Sequence[int], count: int) -> list[int]:
    """Divide ``count`` in proportion to ``sizes`` (largest remainders), but into shares of at least 1."""
    total = sum(sizes)
    shares = [size * count // total for size in sizes]
    by_remainder = sorted(range(len(sizes)), key=lambda i: sizes[i] * count % total, reverse=True)
    for i in by_remainder[: count - sum(shares)]:
        shares[i] += 1
    for i, share in enumerate(shares):
        if not share:
            shares[shares.index(max(shares))] -= 1
            shares[i] = 1
    return shares


def _below(paths: Sequence[Path], top: str) -> list[Path]:
    """The paths in the subfolder ``top``, relative to it."""
    return [Path(*path.parts[1:]) for path in paths if path.parts[0] == top]


def _labelled(folder: Path, images: Sequence[Path]) -> tuple[tuple[str, ...], Files]:
    """Label the images of a folder by its subfolders."""
    names = tuple(str(path) for path in images)
    flat = [path for path in images if len(path.parts) == 1]
    if flat:
        if len(flat) < len(images):
            rank_zero_warn(f"{folder}: the images have no labels, because some, such as {flat[0]}, are outside its subfolders")
        return (), Files(folder, names, None)
    class_names = tuple(sorted({path.parts[0] for path in images}))
    if len(class_names) == 1 and all(len(path.parts) > 2 for path in images):
        only = folder / class_names[0]
        rank_zero_warn(f"{folder} has one class, {class_names[0]}. If its subfolders are classes or splits, use {only} instead")
    numbers = {name: number for number, name in enumerate(class_names)}
    return class_names, Files(folder, names, tuple(numbers[path.parts[0]] for path in images))


def split_folders(root: Path, images: Sequence[Path]) -> dict[str, Path] | None:
    """Find the folder of each split, in the order train, val, test; None if the subfolders are not splits.

    Raises:
        InputError: two folders are the same split.
    """
    tops = {path.parts[0] for path in images}
    split_of = {name: split for split, names in SPLIT_NAMES.items() for name in names}
    if not tops or not all(top.lower() in split_of for top in tops) or any(len(path.parts) == 1 for path in images):
        return None
    folders: dict[str, Path] = {}
    for entry in sorted(root.iterdir()):  # also those without images, to name them
        split = split_of.get(entry.name.lower())
        if split is None or not entry.is_dir():
            continue
        if split in folders:
            raise InputError(
                f"{root} has two folders of the {split} split, {folders[split].name} and {entry.name}: keep one of them"
            )
        folders[split] = entry
    return {split: folders[split] for split in SPLIT_NAMES if split in folders}


def with_held_out(class_names: tuple[str, ...], files: Files) -> tuple[tuple[str, ...], dict[Split, Files]]:
    """Hold out a tenth of the images, but keep one of each class to train on."""
    held_out = [is_held_out(path) for path in files.paths]
    members = defaultdict(list)
    for i, label in enumerate(files.classes or [0] * len(files.paths)):
        members[label].append(i)
    kept = {label: own[0] for label, own in members.items() if all(held_out[i] for i in own)}
    for i in kept.values():
        held_out[i] = False
    if kept and class_names:
        small = listed([class_names[label] for label in sorted(kept)])
        rank_zero_warn(
            f"{files.folder}: these classes have too few images to hold one out, and one of each is trained on: {small}"
        )
    positions = range(len(files.paths))
    test = files.select(i for i in positions if held_out[i])
    return class_names, {"train": files.select(i for i in positions if not held_out[i]), "test": test}


def is_held_out(path: str) -> bool:
    """Choose if an image is held out, by a hash of its path below the folder."""
    return path_hash(path) % HELD_OUT == 0


def path_hash(path: str) -> int:
    """Hash the path of an image below the folder: a number from 0 to 2^64 - 1."""
    digest = hashlib.sha256(path.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big")


def listed(names: Sequence[str], separator: str = ", ") -> str:
    """Join the first :data:`NAMED` names, and count the others."""
    return separator.join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def is_ignored(names: Sequence[str]) -> bool:
    """Check if one of the parts of a path is hidden, or a folder of a system."""
    return any((name.startswith(".") and name != "..") or name.lower() in SYSTEM_FOLDERS for name in names)


def require_folder(folder: Path) -> None:
    """Check that a folder can be read.

    Raises:
        InputError: it is missing, no folder, or forbidden.
    """
    try:
        exists, is_folder = folder.exists(), folder.is_dir()
    except OSError as error:  # such as a name that is too long
        raise InputError(f"{folder} cannot be opened ({error.strerror}): use a folder of images") from error
    if not exists:
        raise InputError(f"{folder} does not exist: use a folder of images")
    if not is_folder:
        raise InputError(f"{folder} is not a folder: use a folder of images")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise InputError(f"{folder} cannot be read (no permission): change its permissions, or use another --data.root")


def _walk(root: Path) -> tuple[list[Path], list[Path]]:
    """Images and other files below a folder, relative to it and sorted. Follows links and visits each real folder once.

    Leaves out hidden files, and the folders of systems and tools.

    Raises:
        InputError: the folder, or one below it, is missing or unreadable.
    """
    require_folder(root)
    images: list[Path] = []
    others: list[Path] = []
    seen = set()
    for here, folders, files in os.walk(root, followlinks=True, onerror=_refuse_unreadable):
        real = os.path.realpath(here)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not is_ignored([name]))
        below = Path(here).relative_to(root)
        for name in files:
            if not name.startswith("."):
                (images if is_image(Path(here, name)) else others).append(below / name)
    return sorted(images), sorted(others)


def _refuse_unreadable(error: OSError) -> None:
    raise InputError(
        f"{error.filename} cannot be read ({error.strerror}), and its images would be missing: change its permissions, or "
        "remove it"
    ) from error
