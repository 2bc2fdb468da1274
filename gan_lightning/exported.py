"""The description of an exported generator, its config.json, read without torch."""

import json
import os
from pathlib import Path
from typing import Any

from gan_lightning.errors import InputError, one_line

CONFIG, WEIGHTS = "config.json", "model.safetensors"
"""Files of an exported generator."""
FORMAT_VERSION = 1
LARGEST_CONFIG = 2**20  # bytes; those that this project writes have a few thousand, or below 800,000 with attributes
LARGEST = 3.4e38  # of an attribute, in float32
NO_SOURCES: dict[str, Any] = {"mask": False, "degradation": None}
"""Origin of the sources of a translation if nothing is known of it."""
PRECISIONS = ("float32", "float16")
"""Names of the types in which weights are stored."""


def read_config(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a folder's config.json and check the type of every entry.

    Raises:
        InputError: the file is missing, is not JSON, has another format, or lacks an entry.
    """
    path = Path(folder, CONFIG)
    if not path.is_file():
        raise InputError(
            f"{folder} is a folder without {CONFIG}: use a checkpoint of train.py, or a folder that export.py wrote"
        )
    try:
        if path.stat().st_size > LARGEST_CONFIG:
            raise InputError(f"{path} is larger than any {CONFIG} of gan_lightning: use another folder")
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read as JSON ({one_line(error)[:150]}): use another folder") from error
    about = config if isinstance(config, dict) else {}
    version = about.get("format_version")
    if type(version) is not int:
        raise InputError(
            f"{path} is not from gan_lightning, because it has no format_version: use a folder that export.py wrote"
        )
    if version != FORMAT_VERSION:
        raise InputError(
            f"{path} has format {version}, but this version of gan_lightning reads format {FORMAT_VERSION}: install the "
            "version that wrote it"
        )
    inverse = about.get("inverse_generator")
    steps, recipe, metrics = (about.get(name) for name in ("global_step", "recipe", "metrics"))
    wrong = {
        "generator": not is_description(about.get("generator")),
        "inverse_generator": inverse is not None and not is_description(inverse),
        "sources": not is_sources(about.get("sources", NO_SOURCES)),
        "weights_sha256": not isinstance(about.get("weights_sha256"), str),
        "dtype": about.get("dtype", "float32") not in PRECISIONS,
        "global_step": steps is not None and type(steps) is not int,
        "weights": about.get("weights") not in ("ema", "raw", None),
        "recipe": recipe is not None and not isinstance(recipe, dict),
        "metrics": metrics is not None and not isinstance(metrics, dict),
        "class_names": not is_names(about.get("class_names", [])),
        "num_classes": type(about.get("num_classes", 0)) is not int,
        "condition_names and conditions": not is_conditions(about),
    }
    if found := [name for name, is_wrong in wrong.items() if is_wrong]:
        raise InputError(f"{path} has invalid values for {' and '.join(found)}: use another folder")
    defaults: dict[str, Any] = {
        "dtype": "float32",
        "sources": NO_SOURCES,
        "global_step": None,
        "weights": None,
        "class_names": [],
        "num_classes": None,
        "condition_names": [],
        "conditions": [],
        "recipe": None,
        "metrics": None,
    }
    return {**defaults, **about}


def is_names(value: Any) -> bool:
    """Check that a value of unknown origin is a list of texts."""
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def is_conditions(about: dict[str, Any]) -> bool:
    """Check the entries of unknown origin for attributes: condition_names, and conditions, finite numbers for each name."""
    names, rows = about.get("condition_names", []), about.get("conditions", [])
    if not is_names(names) or not isinstance(rows, list):
        return False
    return all(
        isinstance(row, list)
        and len(row) == len(names)
        and all(type(value) in (int, float) and abs(value) < LARGEST for value in row)
        for row in rows
    )


def is_description(value: Any) -> bool:
    """Check that a value of unknown origin describes an object by class path and arguments."""
    return isinstance(value, dict) and {"class_path", "arguments"} <= value.keys()


def is_sources(value: Any) -> bool:
    """Check that a value of unknown origin describes the origin of a translation's sources."""
    if not isinstance(value, dict) or type(value.get("mask")) is not bool:
        return False
    degradation = value.get("degradation")
    return degradation is None or is_description(degradation)
