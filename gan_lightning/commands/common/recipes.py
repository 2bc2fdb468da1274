"""The bundled recipes, and the YAML files that ``--config`` names."""

from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from gan_lightning.errors import InputError, nearest, one_line

REPLACED = {
    "device": "accelerator",
    "weights": "inception_weights",
    "metrics.weights": "metrics.inception_weights",
    "image_grid.seed": "",
    "health.seed": "",
}
"""Old names of flags and settings -> their new names, or an empty text if they were removed."""


def recipes() -> dict[str, Path]:
    """List the bundled recipes: name -> YAML file."""
    return {path.stem: path for path in sorted(Path(str(files("gan_lightning") / "recipes")).glob("*.yaml"))}


def config_path(config: str) -> str:
    """Find the file of ``--config``: a path if it ends in .yaml or .yml, else the name of a recipe.

    A file of an earlier version is returned as YAML text with today's names: jsonargparse takes either.

    Raises:
        InputError: the file or recipe does not exist.
    """
    if config.endswith((".yaml", ".yml")):
        settings = read_settings(config)
        renamed = with_new_names(settings)
        return config if renamed == settings else yaml.safe_dump(renamed)
    shipped = recipes()
    if config not in shipped:
        near = nearest(config, shipped) or f"; the recipes are {', '.join(shipped)}"
        raise InputError(f"--config {config} is not a bundled recipe{near} (the path of a file must end in .yaml)")
    return str(shipped[config])


def with_new_names(settings: dict[str, Any]) -> dict[str, Any]:
    """Rename the settings of a file that have other names today, and leave out those that were removed."""
    renamed = {name: dict(value) if isinstance(value, dict) else value for name, value in settings.items()}
    for old, new in REPLACED.items():
        section, _, name = old.rpartition(".")
        if isinstance(part := renamed.get(section), dict) and name in part:
            value = part.pop(name)
            if new:
                part[new.rpartition(".")[2]] = value
    return renamed


def read_settings(config: str) -> dict[str, Any]:
    """Read the settings in a YAML file.

    Raises:
        InputError: the file does not exist, or holds no settings.
    """
    try:
        found = Path(config).is_file()
        content = yaml.safe_load(Path(config).read_text(encoding="utf-8")) if found else None
    except OSError as error:
        raise InputError(f"--config {config} cannot be read ({error.strerror}): use another file") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InputError(f"--config {config} is not valid YAML: {one_line(error)}") from error
    if not found:
        raise InputError(f"--config {config} does not exist: use an existing YAML file, or the name of a recipe")
    if not isinstance(content, dict):
        raise InputError(f"--config {config} has no settings: write them as name: value")
    return content
