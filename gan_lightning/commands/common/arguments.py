"""The words of a command line: short flags, their reading order, and their values as objects."""

import json
import re
from collections.abc import Collection, Sequence
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, Namespace, set_parsing_settings

from gan_lightning.commands.common.numbers import RANGES, ImageSize
from gan_lightning.commands.common.parser_errors import as_one_line, parameters_of
from gan_lightning.commands.common.paths import hide, hide_in_settings, show
from gan_lightning.commands.common.recipes import YAML, config_path, dump_yaml, load_yaml, read_settings
from gan_lightning.errors import InputError, one_line

set_parsing_settings(import_path_denylist=["os"])  # refuse it; by default jsonargparse only warns


def arrange(args: Sequence[str], short_for: str = "", short: Collection[str] = ()) -> list[list[str]]:
    """Group each flag with its values, in reading order.

    ``--X`` becomes ``--short_for.X`` for every X in ``short``. Files come first, so that flags override them in any position.
    A flag that names a class of the data or the model comes before the flags of its arguments. Otherwise the order is kept.
    """
    groups: list[list[str]] = []
    for word in args:
        if word.startswith("--") or word == "-h" or not groups:
            groups.append([word])
        else:
            groups[-1].append(word)
    arranged = []
    for flag, *values in groups:
        name = name_of(flag)
        if flag.startswith("--") and name.split(".")[0] in short:
            flag = f"--{short_for}.{flag[2:]}"
        if name == "config" and "=" in flag:
            flag, values = "--config", [flag.partition("=")[2], *values]
        arranged.append([flag, *(map(config_path, values) if name == "config" else values)])
    appended = [name_of(flag) for flag, *_ in arranged if flag.partition("=")[0].endswith("+")]
    return sorted(arranged, key=lambda group: _reading_order(name_of(group[0]), appended))


def _reading_order(name: str, appended: Collection[str]) -> int:
    """Rank a flag, the smallest first; an argument of an appended item keeps its place after that item."""
    if name == "config":
        return -1
    for item in appended:
        if name.startswith(f"{item}."):
            name = item
    return name.count(".") if name.split(".")[0] in ("data", "model", "schedules") else 0


def name_of(flag: str) -> str:
    """Return the name of a flag, without dashes, value and the plus of an appended item."""
    return flag.removeprefix("--").partition("=")[0].rstrip("+")


def split_section(groups: Sequence[list[str]], section: str) -> tuple[list[str], list[list[str]]]:
    """Split the groups of :func:`arrange` into the words of ``--section`` and ``--section.X``, and the other groups."""
    belongs = [name_of(group[0]).split(".")[0] == section for group in groups]
    words = [word for group, inside in zip(groups, belongs, strict=True) if inside for word in group]
    return words, [group for group, inside in zip(groups, belongs, strict=True) if not inside]


def given(groups: Sequence[Sequence[str]], name: str) -> str | None:
    """Return the value of the flag ``--name`` in the groups of :func:`arrange`, or None; the last one counts."""
    for flag, *values in reversed(groups):
        if name_of(flag) == name:
            return flag.partition("=")[2] if "=" in flag else " ".join(values)
    return None


def parse(
    parser: ArgumentParser, groups: Sequence[Sequence[str]], short_for: str = "", others: Collection[str] = ()
) -> Namespace:
    """Parse the groups of :func:`arrange`.

    Args:
        parser: the parser.
        groups: the words of the command line.
        short_for: the section whose settings are also flags without its name.
        others: sections that the command also has, but that this parser does not know; they are suggested.

    Raises:
        InputError: a flag or a value is wrong; the message is one line and suggests the nearest name for a misspelt one.
    """
    groups, hidden = hide(groups)
    _refuse_hexadecimal_sizes(groups)
    groups = [_with_hidden_paths(group, hidden) for group in groups]
    try:
        config = parser.parse_args([word for group in groups for word in group])
    except ArgumentError as error:
        files = ", ".join(word for flag, *values in groups if name_of(flag) == "config" for word in values)
        raise InputError(as_one_line(str(error), parser, short_for, files, others)) from error
    show(config, hidden)
    if short_for and not isinstance(config[short_for], Namespace):
        raise InputError(f"{short_for} is {config[short_for]!r} in the file: write its settings as name: value")
    return config


def _refuse_hexadecimal_sizes(groups: Sequence[Sequence[str]]) -> None:
    """Refuse a size of images such as 0x64: YAML reads it as 100.

    Raises:
        InputError: there is one.
    """
    for name in (name_of(group[0]) for group in groups):
        if name.rpartition(".")[2] == "image_size" and (size := given(groups, name) or "").startswith("0x"):
            raise InputError(f"--{name}: {size!r} is not {RANGES[ImageSize]}")


def _with_hidden_paths(group: list[str], hidden: dict[str, str]) -> list[str]:
    """Replace the files of ``--config`` whose paths mean something in YAML by their text without these paths."""
    flag, *files = group
    if flag != "--config":
        return group
    changed = []
    for file in files:
        settings = read_settings(file) if file.lower().endswith(YAML) else load_yaml(file)  # config_path may return text
        changed.append(dump_yaml(settings) if hide_in_settings(settings, hidden) else file)
    return [flag, *changed]


def dump(parser: ArgumentParser, config: Namespace) -> str:
    """Write settings as YAML that :func:`parse` reads back as they are."""
    hidden: dict[str, str] = {}
    content = config.clone()
    hide_in_settings(content, hidden)
    text = str(parser.dump(content, skip_unset=False))
    return re.sub(r"\bpath_\d+\b", lambda found: json.dumps(hidden[found[0]]) if found[0] in hidden else found[0], text)


def instantiate(parser: ArgumentParser, config: Namespace) -> Namespace:
    """Make the objects that the settings describe.

    Raises:
        InputError: one of their arguments is invalid or null, or a network is too large. If the argument may also be None,
            jsonargparse hides the reason in a ValueError with an item for each possible type.
    """
    from gan_lightning.networks.base import at_most_layers  # imports torch, as the objects do

    _refuse_nulls("", config)
    try:
        with at_most_layers():
            objects: Namespace = parser.instantiate(config)
    except InputError:
        raise
    except (MemoryError, OverflowError, RuntimeError, TypeError) as error:
        if isinstance(error, RuntimeError | TypeError) and not re.search("alloc|overflow", str(error), re.IGNORECASE):
            raise
        raise InputError(f"a network is too large for the memory ({one_line(error)[:150]}): use a smaller one") from error
    except ValueError as error:
        items = re.findall(r"^ {0,2}- (.+)$", str(error), re.MULTILINE)
        reasons = [item for item in items if not re.match("Not a valid subclass|Expected a", item)]
        raise InputError(reasons[0] if reasons else one_line(error)) from error
    return objects


def _refuse_nulls(name: str, settings: Any) -> None:
    """Refuse null for an argument that may not be None; jsonargparse would pass it on to the class."""
    if isinstance(settings, list):
        for item in settings:
            _refuse_nulls(name, item)
    if not isinstance(settings, Namespace):
        return
    arguments = settings.get("init_args")
    if isinstance(arguments, Namespace):
        parameters = parameters_of(settings["class_path"])
        for argument, value in vars(arguments).items():
            wanted = parameters.get(argument)  # if there is no default, jsonargparse asks for a value
            optional = wanted is None or wanted.default in (None, wanted.empty) or "None" in str(wanted.annotation)
            if value is None and not optional:
                raise InputError(
                    f"--{name}.{argument} is null, but it needs a value: set one, or remove the flag to use the default"
                )
    for part, value in vars(settings).items():
        _refuse_nulls(name if part == "init_args" else f"{name}.{part}".lstrip("."), value)
