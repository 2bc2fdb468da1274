"""The bundled recipes, and the YAML files that ``--config`` names."""

import re
from enum import Enum
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import set_dumper

from gan_lightning.errors import InputError, nearest, normalised, one_line
from gan_lightning.home import expand

REPLACED = {
    "device": "accelerator",
    "weights": "inception_weights",
    "metrics.weights": "metrics.inception_weights",
    "image_grid.seed": "",
    "health.seed": "",
}
"""Old names of flags and settings -> their new names, or an empty text if they were removed."""

YAML = (".yaml", ".yml")
"""Endings, in upper or lower case, of a file with settings."""

MAX_BYTES, MAX_DEPTH = 2**20, 40
"""Limits of a YAML file: those that runs write have a few thousand bytes, and a depth below 10."""


class TooNested(yaml.YAMLError):
    """The YAML text is deeper than :data:`MAX_DEPTH`, or longer than :data:`MAX_BYTES`."""


class _Loader(yaml.SafeLoader):
    """SafeLoader with a limit of the depth: the time that PyYAML takes grows with the square of the depth."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise TooNested(f"it is nested more than {MAX_DEPTH} deep")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def load_yaml(text: str) -> Any:
    """Read YAML that may come from another person.

    Raises:
        yaml.YAMLError: it is not valid, too long or too deep.
    """
    if len(text) > MAX_BYTES:
        raise TooNested(f"it has more than {MAX_BYTES:,} characters")
    return yaml.load(text, _Loader)


class _Dumper(yaml.SafeDumper):
    """SafeDumper that also quotes text such as ``1e3``: jsonargparse reads it as a number, PyYAML does not."""


_Dumper.add_multi_representer(Enum, lambda dumper, member: dumper.represent_data(member.value))  # of Lightning's Timer
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+$"), list("-+0123456789"))


def dump_yaml(settings: Any) -> str:
    """Write settings as YAML that jsonargparse reads back as they are."""
    return str(yaml.dump(settings, Dumper=_Dumper, sort_keys=False, allow_unicode=True))


set_dumper("yaml", dump_yaml)


def recipes() -> dict[str, Path]:
    """List the bundled recipes: name -> YAML file."""
    return {path.stem: path for path in sorted(Path(str(files("gan_lightning") / "recipes")).glob("*.yaml"))}


def recipes_of(method: str) -> list[str]:
    """List the names of the bundled recipes that train a method. Those without one train a GAN."""
    return [name for name, path in recipes().items() if read_settings(str(path)).get("method", "GAN") == method]


def config_path(config: str, flag: str = "--config") -> str:
    """Find the file of ``--config``: a path if it ends in .yaml or .yml, else the name of a recipe.

    A file of an earlier version is returned as YAML text with today's names: jsonargparse takes either.

    Args:
        config: the path or name.
        flag: the flag that names it, for the message.

    Raises:
        InputError: the file or recipe does not exist.
    """
    config = expand(config)
    if config.lower().endswith(YAML):
        settings = read_settings(config)
        renamed = with_new_names(settings)
        return config if renamed == settings else dump_yaml(renamed)
    shipped = recipes()
    if config not in shipped:
        near = _suggest(config) or f"; the recipes are {', '.join(shipped)}"
        raise InputError(f"{flag} {config} is not a bundled recipe{near} (the path of a file must end in .yaml)")
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
        content = load_yaml(Path(config).read_text(encoding="utf-8")) if found else None
    except OSError as error:
        raise InputError(f"--config {config} cannot be read ({error.strerror}): use another file") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InputError(f"--config {config} is not valid YAML: {one_line(error)}") from error
    if not found:
        near = _suggest(config) or ": use an existing YAML file, or the name of a recipe"
        raise InputError(f"--config {config} does not exist{near}")
    if not isinstance(content, dict):
        raise InputError(f"--config {config} has no settings: write them as name: value")
    return content


def _suggest(config: str) -> str:
    """Suggest a file or recipe instead of a ``--config`` that does not exist; empty if none is near."""
    path, shipped = Path(config), recipes()
    name = path.name[: -len(path.suffix)] if path.name.lower().endswith(YAML) else path.name
    try:
        if (path / "config.yaml").is_file():
            return f"; did you mean {path / 'config.yaml'}?"
        if path.is_file():
            return "; rename this file so that it ends in .yaml"
        neighbours = [*path.parent.iterdir()] if path.parent.is_dir() else []
    except OSError:
        return ""
    for other in sorted(neighbours):
        if other.name.lower() in (path.name.lower(), *(f"{path.name.lower()}{ending}" for ending in YAML)) and other.is_file():
            return f"; did you mean {other}?"
    if recipe := next((recipe for recipe in shipped if normalised(recipe) == normalised(name)), None):
        return f"; did you mean the bundled recipe {recipe}?"
    if not path.is_absolute() and (above := next((up / path for up in Path.cwd().parents if (up / path).is_file()), None)):
        return f"; did you mean {above}?"
    return nearest(name, shipped)
