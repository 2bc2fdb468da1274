"""Columns of a table of the package ``datasets``: which one has the images, and labels or attributes from the others."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
from numpy.typing import NDArray

from gan_lightning.data.labels import SEPARATORS
from gan_lightning.data.tree import count_text, listed
from gan_lightning.errors import InputError, one_line


def image_column(path: str, features: Mapping[str, Any], named: str | None) -> str:
    """Find the column of the images: files in the table, or their paths.

    Raises:
        InputError: it does not exist or has no images, or there is not exactly one.
    """
    images = [name for name, feature in features.items() if type(feature).__name__ == "Image"]
    images = images or [name for name, feature in features.items() if _has_files(feature)]
    if named is None and len(images) == 1:
        return images[0]
    have = f"its columns are {_described(features)}"
    if named is None:
        several = "several columns have images" if images else "no column has images"
        raise InputError(f"{path}: {several}; {have}. Name one by --data.image_column")
    if named not in features:
        raise InputError(f"data.image_column is {named}, but {path} has no such column; {have}")
    if named in images or _has_files(features[named]) or getattr(features[named], "dtype", "") in ("string", "large_string"):
        return named
    raise InputError(f"data.image_column is {named}, but that column of {path} has no images; {have}")


def _has_files(feature: Any) -> bool:
    """Check if a column has the content of files, alone or with their names."""
    is_struct = isinstance(feature, dict) and {"bytes", "path"} == set(feature)
    return is_struct or getattr(feature, "dtype", "") in ("binary", "large_binary")


def label_column(path: str, features: Mapping[str, Any], named: str | None) -> str | None:
    """Find the column of the labels; None if none is named, and not exactly one has names of classes.

    Raises:
        InputError: it does not exist, or its values are no labels.
    """
    if named is None:
        found = [name for name, feature in features.items() if type(feature).__name__ == "ClassLabel"]
        return found[0] if len(found) == 1 else None
    have = f"its columns are {_described(features)}"
    if named not in features:
        raise InputError(f"data.label_column is {named}, but {path} has no such column; {have}")
    kind = str(getattr(features[named], "dtype", ""))
    if kind not in ("bool", "string", "large_string") and "int" not in kind:
        raise InputError(
            f"data.label_column is {named}, but its values are neither names nor whole numbers; {have}: use another column"
        )
    return named


def _described(features: Mapping[str, Any]) -> str:
    """List the columns and their kinds."""
    kinds = {
        name: getattr(feature, "dtype", "") if type(feature).__name__ == "Value" else type(feature).__name__
        for name, feature in features.items()
    }
    return ", ".join(f"{name} ({kind})" for name, kind in kinds.items())


def split_columns(text: str) -> list[str]:
    """Split names of columns at commas, each once.

    Raises:
        InputError: one has a character that ``--condition`` needs.
    """
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if wrong := [name for name in names if set(name) & set(SEPARATORS)]:
        raise InputError(
            f"data.attribute_columns has {wrong[0]}: rename the column, because {' '.join(SEPARATORS)} separate the attributes "
            "in --condition"
        )
    return names


def require_numbers(path: str, features: Mapping[str, Any], names: Sequence[str]) -> None:
    """Check that columns exist and have numbers.

    Raises:
        InputError: one does not.
    """
    for name in names:
        kind = str(getattr(features.get(name), "dtype", ""))
        if not kind.startswith(("bool", "int", "uint", "float", "double")):
            wrong = "has no such column" if name not in features else "has no numbers there"
            raise InputError(
                f"data.attribute_columns has {name}, but {path} {wrong}; its columns are {_described(features)}: use columns "
                "of numbers"
            )


def attributes_of(folder: Path, table: Any, names: Sequence[str]) -> NDArray[numpy.float32]:
    """Read columns of numbers, (N, K).

    Raises:
        InputError: they cannot be read, or a number is missing or not finite.
    """
    try:
        columns = table.select_columns(list(names))[:]
    except Exception as error:  # pyarrow raises many kinds of exceptions
        raise InputError(f"{folder}: the columns {listed(names)} cannot be read ({why(error)}): repair them") from error
    values = numpy.array([columns[name] for name in names], numpy.float32).T  # None becomes NaN
    if wrong := numpy.argwhere(~numpy.isfinite(values)).tolist():
        row, column = wrong[0]
        raise InputError(
            f"{folder}: {count_text(len(wrong), 'number')} of {listed(names)} are missing or not finite, the first one "
            f"{names[column]} of row {row}: complete them, or use other --data.attribute_columns"
        )
    return numpy.ascontiguousarray(values)


def label_values(table: Any, column: str, feature: Any, path: str) -> list[Any]:
    """Read the labels of a table: names or numbers, and None for a missing one.

    Raises:
        InputError: the table cannot be read.
    """
    try:
        values: list[Any] = table.select_columns([column])[:][column]
    except Exception as error:  # pyarrow raises many kinds of exceptions
        raise InputError(f"{path}: its column {column} cannot be read ({why(error)}): repair it") from error
    names = getattr(feature, "names", None)
    if names is None:
        return values
    return [None if value is None or not 0 <= value < len(names) else names[value] for value in values]


def class_names_of(values: Sequence[Any], feature: Any) -> tuple[str, ...]:
    """Name the classes of the labels in their order: that of the set's names, else that of the values."""
    present = {value for value in values if value is not None}
    names = getattr(feature, "names", None)
    return tuple(map(str, [name for name in names if name in present] if names is not None else sorted(present)))


def numbered(folder: Path, values: Sequence[Any], class_names: tuple[str, ...], required: bool) -> tuple[int, ...] | None:
    """Number the labels of a split; None if some are missing and none are required.

    Raises:
        InputError: labels are missing, or of a class that the train split lacks.
    """
    missing = sum(value is None for value in values)
    if missing and required:
        raise InputError(
            f"{folder}: {missing:,} of {count_text(len(values), 'image')} have no label: use another --data.label_column"
        )
    if missing or not class_names:
        return None
    numbers = {name: number for number, name in enumerate(class_names)}
    texts = [str(value) for value in values]
    if unknown := Counter(text for text in texts if text not in numbers):
        raise InputError(f"{folder} has classes that the train split lacks ({listed(sorted(unknown))}): use the same in both")
    return tuple(numbers[text] for text in texts)


def where(path: str) -> str:
    """Name the damaged Parquet file of a local set, for a message: ": FILE", or nothing if there is none."""
    import pyarrow.parquet  # slow, and only for a message

    for file in sorted(Path(path).rglob("*.parquet")):
        try:
            pyarrow.parquet.read_metadata(file)
        except Exception:  # pyarrow raises many kinds of exceptions
            return f": {file.relative_to(path)}"
    return ""


def why(error: BaseException) -> str:
    """Shorten the reason of an error of the library. The library wraps some errors in general ones."""
    if type(error).__name__ == "DatasetGenerationError" and error.__cause__ is not None:
        error = error.__cause__
    return one_line(error)[:200]
