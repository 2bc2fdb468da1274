"""Labels of images that are in a file next to them: a CSV, or StyleGAN's dataset.json.

A CSV with the columns ``file,label`` has a class for each file, by name. Any other columns after ``file`` are attributes:
numbers, such as ``file,smile,age``. dataset.json has ``{"labels": [["00000/a.png", 3], ...]}``. In it, attributes are a list of
numbers in place of a class, and null in place of the whole list means that there are no labels.
"""

import csv
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy
from numpy.typing import NDArray

from gan_lightning.data.tree import Files, count_text, listed, require_folder
from gan_lightning.errors import InputError, one_line, plain
from gan_lightning.home import expanded

SEPARATORS = "=,;"
"""Characters that no name of an attribute may have, because ``--condition`` joins names and values by them."""
LARGEST = float(numpy.finfo(numpy.float32).max)
READ = frozenset({".csv", ".json"})


@dataclass(frozen=True)
class LabelFile:
    """The content of a file of labels.

    Attributes:
        path: the file.
        root: folder that the paths in it start from.
        class_names: name of every class; empty if there are none.
        condition_names: name of every attribute; empty if there are none.
        values: path of an image below ``root``, with slashes -> its class (), or its attributes (K,).
    """

    path: Path
    root: Path
    class_names: tuple[str, ...]
    condition_names: tuple[str, ...]
    values: Mapping[str, int | NDArray[numpy.float32]]

    def require_match(self, images: Sequence[Path]) -> None:
        """Check that the file and the folder name the same images.

        Args:
            images: all images of the folder, relative to it.

        Raises:
            InputError: labels lack their images, or images their labels.
        """
        if not (self.class_names or self.condition_names):
            return
        there = {image.as_posix() for image in images}
        missing = sorted(self.values.keys() - there)
        unlabelled = sorted(there - self.values.keys())
        parts = []
        if missing:
            parts.append(f"{count_text(len(missing), 'label')} for files that do not exist: {_listed(missing)}")
        if unlabelled:
            parts.append(f"no label for {count_text(len(unlabelled), 'image')}: {_listed(unlabelled)}")
        if parts:
            raise InputError(
                f"data.labels {self.path} and {self.root} do not fit: {'; '.join(parts)}. Use one label for each image"
            )

    def labelled(self, folder: Path, images: Sequence[Path]) -> tuple[tuple[str, ...], Files]:
        """Label images of a folder in ``root``, like :func:`gan_lightning.data.tree.by_folder`."""
        names = tuple(str(path) for path in images)
        if not (self.class_names or self.condition_names):
            return (), Files(folder, names, None)
        values: list[Any] = [self.values[(folder / path).relative_to(self.root).as_posix()] for path in images]
        return self.class_names, Files(folder, names, numpy.stack(values) if self.condition_names else tuple(values))


def read_labels(path: str | os.PathLike[str], root: Path) -> LabelFile:
    """Read a file of labels. A relative path is looked for in ``root`` first.

    Raises:
        InputError: the file is missing, unreadable or of another format, or has values that are no labels.
    """
    require_folder(root)
    given = expanded(path)
    found = next((each for each in (root / given, given) if each.is_file()), None)
    if found is None:
        where = "" if given.is_absolute() else f", neither in {root} nor in {Path.cwd()}"
        raise InputError(f"data.labels {given} does not exist{where}: use a .csv, or a .json such as StyleGAN's dataset.json")
    if found.suffix.lower() not in READ:
        raise InputError(f"data.labels {found} is neither a .csv nor a .json: use one of them")
    try:
        text = found.read_text(encoding="utf-8-sig")
        rows = _rows_of_json(text, found) if found.suffix.lower() == ".json" else _rows_of_csv(text, found)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"data.labels {found} cannot be read ({one_line(error)[:150]}): use another file") from error
    return LabelFile(found, root, *rows)


Rows = tuple[tuple[str, ...], tuple[str, ...], dict[str, int | NDArray[numpy.float32]]]
"""Names of classes, names of attributes, and the value of each path."""


def _rows_of_csv(text: str, source: Path) -> Rows:
    lines = csv.reader(text.splitlines(keepends=True), strict=True)
    header = next(lines, [])
    if len(header) < 2 or header[0] != "file":
        columns = ", ".join(map(plain, header[:20])) or "none"
        raise InputError(
            f"data.labels {source} has the columns {columns}: use file,label for classes, or file and a column of numbers for "
            "each attribute"
        )
    names = header[1:]
    _require_names(names, source)
    rows: dict[str, list[str]] = {}
    for row in lines:
        if not row:
            continue
        where = f"data.labels {source}, line {lines.line_num}"
        if len(row) != len(header):
            raise InputError(f"{where}: {count_text(len(row), 'value')} for {len(header)} columns: use one for each")
        _add(rows, row[0], row[1:], source)
    if names == ["label"]:
        if empty := [path for path, (name,) in rows.items() if not name]:
            raise InputError(f"data.labels {source} has no label for {_listed(empty)}: write one, or remove these images")
        classes = sorted({name for (name,) in rows.values()})
        numbers = {name: number for number, name in enumerate(classes)}
        return tuple(classes), (), {path: numbers[name] for path, (name,) in rows.items()}
    return (), tuple(names), {path: _attributes(row, names, path, source) for path, row in rows.items()}


def _rows_of_json(text: str, source: Path) -> Rows:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"data.labels {source} is no JSON ({one_line(error)[:150]}): use another file") from error
    if not isinstance(content, dict) or "labels" not in content:
        raise InputError(f"data.labels {source} has no entry labels: use a dataset.json of StyleGAN, or a .csv")
    labels = content["labels"]
    if labels is None:
        return (), (), {}
    rows: dict[str, Any] = {}
    for entry in labels if isinstance(labels, list) else [labels]:
        if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[0], str):
            raise InputError(
                f"data.labels {source} has an entry {plain(repr(entry)[:80])}: use [path, number of the class], or "
                "[path, [numbers]]"
            )
        _add(rows, entry[0], entry[1], source)
    vectors = [path for path, value in rows.items() if isinstance(value, list)]
    if not vectors:
        if wrong := [path for path, value in rows.items() if type(value) is not int or value < 0]:
            raise InputError(
                f"data.labels {source} has the label {plain(repr(rows[wrong[0]])[:80])} for {plain(wrong[0])}: use a whole "
                "number from 0, or a list of numbers"
            )
        found = sorted(set(rows.values()))
        numbers = {number: label for label, number in enumerate(found)}
        return tuple(map(str, found)), (), {path: numbers[number] for path, number in rows.items()}
    size = len(rows[vectors[0]])
    if wrong := [path for path, value in rows.items() if not isinstance(value, list) or len(value) != size or not value]:
        raise InputError(
            f"data.labels {source} has {size} numbers for {plain(vectors[0])}, but {plain(repr(rows[wrong[0]])[:80])} for "
            f"{plain(wrong[0])}: use equally many for all, at least one"
        )
    names = [str(number) for number in range(size)]
    return (), tuple(names), {path: _attributes(row, names, path, source) for path, row in rows.items()}


def _add(rows: dict[str, Any], path: str, value: Any, source: Path) -> None:
    name = PurePosixPath(path).as_posix()
    if name in rows:
        raise InputError(f"data.labels {source} has two labels for {plain(name)}: keep one of them")
    rows[name] = value


def _require_names(names: Sequence[str], source: Path) -> None:
    for name in names:
        if not name.strip() or name != name.strip() or set(name) & set(SEPARATORS) or names.count(name) > 1:
            raise InputError(
                f"data.labels {source} has a column '{plain(name)}': use names that differ, without {' '.join(SEPARATORS)} and "
                "without spaces around them"
            )


def _attributes(row: Sequence[Any], names: Sequence[str], path: str, source: Path) -> NDArray[numpy.float32]:
    """Read the attributes of an image, (K,).

    Raises:
        InputError: one is no number, or NaN, or too large for float32.
    """
    values = []
    for name, text in zip(names, row, strict=True):
        try:
            value = math.nan if isinstance(text, bool) else float(text)
        except (TypeError, ValueError, OverflowError):
            value = math.nan
        if not abs(value) <= LARGEST:
            raise InputError(
                f"data.labels {source} has {plain(repr(text)[:80])} as {plain(name)} of {plain(path)}: use a number, or for "
                "classes the columns file,label"
            )
        values.append(value)
    return numpy.array(values, numpy.float32)


def _listed(paths: Sequence[str]) -> str:
    return listed([plain(path) for path in paths])
