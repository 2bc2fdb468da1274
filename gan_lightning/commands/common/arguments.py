"""What every command does with its arguments: short flags, their order, and errors of one line."""

import errno
import importlib
import inspect
import os
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Collection, Sequence
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace, set_parsing_settings

from gan_lightning.errors import Diverged, InputError, ProcessLost, nearest, one_line

RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
"""Where a process finds its number among several, the first that is there: Lightning's order."""
NO_BUG = (errno.ENAMETOOLONG, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
"""What the system says of a name or a disk, and not of this project."""
set_parsing_settings(import_path_denylist=["os"])  # so that what jsonargparse would only warn of, it refuses


def run_command(name: str, command: Callable[[], None]) -> int:
    """Run a command; bad input becomes one line on the standard error and exit code 2, Ctrl-C exit code 130.

    Of several processes only the first one speaks, but for what another one may be alone to know once they work together.
    """
    message, code = "", 0
    speaks = next((os.environ[rank] for rank in RANKS if rank in os.environ), "0") == "0"
    try:
        command()
    except InputError as error:
        message, code = f"error: {error}", 2
        speaks = speaks or (_work_together() and not isinstance(error, Diverged))  # that, all know at the same time
    except OSError as error:
        if error.errno not in NO_BUG:
            raise
        what = "the output" if error.filename is None else os.fsdecode(error.filename)
        message, code = f"error: {what}: {error.strerror}; give another, or mend this", 2
    except ProcessLost as error:
        _processes().end_process(f"{name}: error: {error}")
    except KeyboardInterrupt:
        message, code = "interrupted", 128 + signal.SIGINT
    if message and speaks:
        print(f"{name}: {message}", file=sys.stderr)
    return code


def _work_together() -> bool:
    """Whether this process works together with others; without torch it cannot."""
    return "torch" in sys.modules and bool(_processes().count() > 1)


def _processes() -> ModuleType:
    from gan_lightning import processes  # torch comes with it, which no refusal of a flag waits for

    return processes


def recipes() -> dict[str, Path]:
    """The recipes that ship: name -> YAML file."""
    return {path.stem: path for path in sorted(Path(str(files("gan_lightning") / "recipes")).glob("*.yaml"))}


def config_path(config: str) -> str:
    """The file that ``--config`` means: a path where it ends in .yaml or .yml, else the name of a recipe.

    Raises:
        InputError: there is no such file or recipe.
    """
    if config.endswith((".yaml", ".yml")):
        read_settings(config)
        return config
    shipped = recipes()
    if config not in shipped:
        near = nearest(config, shipped) or f"; there are {', '.join(shipped)}"
        raise InputError(f"--config {config}: no such recipe{near} (the path of a file ends in .yaml)")
    return str(shipped[config])


def read_settings(config: str) -> dict[str, Any]:
    """The settings in a YAML file.

    Raises:
        InputError: there is no such file, or it holds something else.
    """
    try:
        found = Path(config).is_file()
        content = yaml.safe_load(Path(config).read_text(encoding="utf-8")) if found else None
    except OSError as error:
        raise InputError(f"--config {config}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InputError(f"--config {config}: cannot be read as YAML: {one_line(error)}") from error
    if not found:
        raise InputError(f"--config {config}: no such file")
    if not isinstance(content, dict):
        raise InputError(f"--config {config}: holds no settings (name: value)")
    return content


def add_device(parser: ArgumentParser) -> None:
    """The flag of the device."""
    parser.add_argument("--device", type=str, default="auto", help="cpu, cuda, mps; auto is the GPU where there is one")


def require_writable(path: Path, flag: str = "--output") -> None:
    """Refuse a file that cannot be written, before anything is measured.

    Raises:
        InputError: a folder or device is there, or its folder cannot be made or written to.
    """
    if path.exists() and not path.is_file():
        raise InputError(f"{flag} {path}: not a file that can be replaced; name another")
    if path.is_file() and path.suffix not in (".json", ".npz"):
        raise InputError(f"{flag} {path}: there is such a file, and it is no earlier record; name another")
    _require_writable_folder(path, flag)


def _require_writable_folder(path: Path, flag: str = "--output") -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise InputError(f"{flag} {path}: cannot be written there ({error.strerror}); name another") from error


def require_new(path: Path, flag: str = "--output") -> None:
    """Refuse the name of a picture that is there already, or that cannot be written, before anything is drawn.

    Raises:
        InputError: a file is there, or its folder cannot be made or written to.
    """
    if os.path.lexists(path):  # a link that leads nowhere, too
        raise InputError(f"{flag} {path}: it is there already, and nothing is overwritten; name another, or remove it")
    require_writable(path, flag)


def require_new_folder(path: Path) -> None:
    """Refuse the name of a folder that holds something, or that cannot be made, before there is anything to put into it.

    Raises:
        InputError: something is there, or its own folder cannot be made or written to.
    """
    if path.name in ("", ".."):
        raise InputError(f"--output {path}: give the folder a name of its own, such as exported")
    if os.path.lexists(path) and (path.is_symlink() or not path.is_dir() or any(path.iterdir())):
        raise InputError(
            f"--output {path}: it is there already and no empty folder, and nothing is overwritten; name another, or remove it"
        )
    _require_writable_folder(path)


def arrange(args: Sequence[str], short_for: str = "", short: Collection[str] = ()) -> list[list[str]]:
    """Bring flags, each with its values, into the order in which they can be read.

    ``--X`` becomes ``--short_for.X`` for every X in ``short``. Files come first, so that a flag wins over a file wherever it
    stands; then what names a class of the data or the model before what sets an argument of that class. Otherwise the
    order is kept.
    """
    groups: list[list[str]] = []
    for word in args:
        if word.startswith("--") or word == "-h" or not groups:
            groups.append([word])
        else:
            groups[-1].append(word)
    arranged = []
    for flag, *values in groups:
        name = _name(flag)
        if flag.startswith("--") and name.split(".")[0] in short:
            flag = f"--{short_for}.{flag[2:]}"
        if name == "config" and "=" in flag:
            flag, values = "--config", [flag.partition("=")[2], *values]
        arranged.append([flag, *(map(config_path, values) if name == "config" else values)])
    appended = [_name(flag) for flag, *_ in arranged if flag.partition("=")[0].endswith("+")]
    return sorted(arranged, key=lambda group: _reading_order(_name(group[0]), appended))


def _reading_order(name: str, appended: Collection[str]) -> int:
    """Smaller is read first; what sets an argument of an appended item is read where it stands, after that item."""
    if name == "config":
        return -1
    for item in appended:
        if name.startswith(f"{item}."):
            name = item
    return name.count(".") if name.split(".")[0] in ("data", "model", "schedules") else 0


def _name(flag: str) -> str:
    return flag.removeprefix("--").partition("=")[0].rstrip("+")


def split_section(groups: Sequence[list[str]], section: str) -> tuple[list[str], list[list[str]]]:
    """Split what :func:`arrange` returned: the words of ``--section`` and each ``--section.X``, and the other groups."""
    belongs = [_name(group[0]).split(".")[0] == section for group in groups]
    words = [word for group, inside in zip(groups, belongs, strict=True) if inside for word in group]
    return words, [group for group, inside in zip(groups, belongs, strict=True) if not inside]


def given(groups: Sequence[Sequence[str]], name: str) -> str | None:
    """The value of the flag ``--name`` in what :func:`arrange` returned, or None; the last one counts."""
    for flag, *values in reversed(groups):
        if _name(flag) == name:
            return flag.partition("=")[2] if "=" in flag else " ".join(values)
    return None


def parse(parser: ArgumentParser, groups: Sequence[Sequence[str]], short_for: str = "") -> Namespace:
    """Parse what :func:`arrange` returned.

    Raises:
        InputError: in one line, with the nearest right name where one is misspelt.
    """
    try:
        config = parser.parse_args([word for group in groups for word in group])
    except ArgumentError as error:
        raise InputError(_one_line(str(error), parser, short_for)) from error
    if short_for and not isinstance(config[short_for], Namespace):
        raise InputError(f"{short_for} is {config[short_for]!r} in the file: give its settings (name: value)")
    return config


def instantiate(parser: ArgumentParser, config: Namespace) -> Namespace:
    """Make the objects that the settings describe.

    Raises:
        InputError: one of their arguments is refused or null, or a network is too large. For an argument that may also be
            None, jsonargparse hides the reason in a ValueError with an item for each type that it may have.
    """
    _refuse_nulls("", config)
    try:
        objects: Namespace = parser.instantiate(config)
    except InputError:
        raise
    except (MemoryError, OverflowError, RuntimeError, TypeError) as error:
        if isinstance(error, RuntimeError | TypeError) and not re.search("alloc|overflow", str(error), re.IGNORECASE):
            raise
        raise InputError(f"a network is too large for the memory ({one_line(error)[:150]}); make it smaller") from error
    except ValueError as error:
        items = re.findall(r"^ {0,2}- (.+)$", str(error), re.MULTILINE)
        reasons = [item for item in items if not re.match("Not a valid subclass|Expected a", item)]
        raise InputError(reasons[0] if reasons else one_line(error)) from error
    return objects


def _refuse_nulls(name: str, settings: Any) -> None:
    """Refuse null for a class's argument that may not be None, which jsonargparse hands on as it is."""
    if isinstance(settings, list):
        for item in settings:
            _refuse_nulls(name, item)
    if not isinstance(settings, Namespace):
        return
    arguments = settings.get("init_args")
    if isinstance(arguments, Namespace):
        parameters = _parameters(settings["class_path"])
        for argument, value in vars(arguments).items():
            wanted = parameters.get(argument)  # where there is no default, jsonargparse asks for a value
            optional = wanted is None or wanted.default in (None, wanted.empty) or "None" in str(wanted.annotation)
            if value is None and not optional:
                raise InputError(f"--{name}.{argument}: null is no value of it; give one, or leave it out")
    for part, value in vars(settings).items():
        _refuse_nulls(name if part == "init_args" else f"{name}.{part}".lstrip("."), value)


def _one_line(message: str, parser: ArgumentParser, short_for: str) -> str:
    """jsonargparse's message, which is several lines that end in what matters, as one line that begins with it."""
    key = re.sub(r"(\.\w+)\1$", r"\1", ".".join(re.findall(r'Parser key "([^"]+)"', message)))
    owner = re.search(r"class_path '([\w.]+)'", message)
    dests = [action.dest for action in parser._actions if action.dest not in ("help", "==SUPPRESS==")]

    if found := re.search(r"[Uu]nrecognized arguments: ?(\S*)", message):
        unknown = found[1]
        if not unknown.startswith("--"):
            return f"{unknown!r} is no flag, and no value of the one before it; flags begin with --"
        short = [dest.removeprefix(f"{short_for}.") for dest in dests]
        return f"there is no flag {unknown.partition('=')[0]}{nearest(_name(unknown), short, '--')}"
    if found := re.search(r"[Oo]ption '([^']+)' is not accepted|does not accept option '([^']+)'", message):
        unknown = found[1] or found[2]
        if owner:
            return f"{key}: {owner[1].rpartition('.')[2]} has no argument {unknown!r}{nearest(unknown, _parameters(owner[1]))}"
        group = re.search(r"Group '([^']+)'", message)
        prefix = f"{group[1]}." if group else ""
        near = nearest(unknown, [dest.removeprefix(prefix) for dest in dests if dest.startswith(prefix)])
        return f"there is no setting {prefix}{unknown}{near}"
    if found := re.search(r"following arguments are required: (.+)", message):
        if not owner:
            return f"{found[1]} is missing: name it (--help says more)"
        name = owner[1].rpartition(".")[2]
        return f"{name} needs {found[1]}: give " + ", ".join(f"--{key}.{word.strip()} VALUE" for word in found[1].split(","))
    if found := re.search(r"Importing '(\S+)' is not allowed", message):
        return f"--{key}: {found[1]} runs commands or writes files, and no setting may name it"
    if found := re.search(r"Expected a dot import path string: (\S+)", message):
        return f"--{key} {found[1]}: there is no such class{nearest(found[1], _class_names(key))}"
    if found := re.search(r"Not of type (\w+): (?:invalid literal for int\(\) with base 10: )?(.+)", message):
        kind = {"Seed": f"a whole number from 0 to {2**32 - 1}"}.get(found[1], found[1])
        return f"--{key}: {found[2].split(' does not conform')[0]} is not {kind}"
    value = re.search(r"(?:Got value|Given value): (.*?)(?:\. Got value: .*)?$", message, re.MULTILINE)
    wanted = [_readable(kind) for kind in re.findall(r"Expected an? (.+?)(?:\. Got value.*)?$", message, re.MULTILINE)]
    wanted += re.findall(r"Not a valid subclass of (\w+)", message)
    wanted = [kind for kind in dict.fromkeys(wanted) if kind != "NoneType"]
    if key and value and wanted:
        return f"--{key}: {_given_value(value[1])} is not {' or '.join(wanted)}"
    reason = " ".join(re.sub(r'Parser key "[^"]+":', "", message).split())
    return f"--{key}: {reason}" if key else reason


def _given_value(text: str) -> str:
    nested = re.match(r"NestedArg\(key='([^']*)', val=(.*)\)$", text)
    return f"{nested[1]} {nested[2]}" if nested else repr(text)


def _readable(kind: str) -> str:
    if match := re.match(r"typing\.Literal\[(.*)\]", kind):
        return "one of " + match[1].replace("'", "")
    if match := re.match(r"<class '(?:[\w]+\.)*(\w+)'>", kind):
        return {"int": "a whole number", "float": "a number", "bool": "true or false"}.get(match[1], match[1])
    return kind


def _parameters(class_path: str) -> dict[str, inspect.Parameter]:
    """The arguments of a class, and those that it hands on to its bases."""
    module, _, name = class_path.rpartition(".")
    found: dict[str, inspect.Parameter] = {}
    for base in getattr(getattr(importlib.import_module(module), name), "__mro__", ()):
        if "__init__" in vars(base):
            found = {**inspect.signature(vars(base)["__init__"]).parameters, **found}
    return found


def _class_names(key: str) -> list[str]:
    """The short names of the classes that the setting ``key`` may name."""
    from gan_lightning import augment, data, losses, networks, regularizers, schedules

    bases: dict[str, type[object]] = {
        "data": data.ImageDataModule,
        "generator": networks.Generator,
        "discriminator": networks.Discriminator,
        "loss": losses.AdversarialLoss,
        "penalty": regularizers.Penalty,
        "constraint": regularizers.Constraint,
        "augmentation": augment.Augmentation,
    }
    group, _, name = key.rpartition(".")
    base = schedules.Schedule if group == "schedules" else bases.get(name)
    left, found = [] if base is None else [base], set()
    while left:
        subclasses: list[type[object]] = left.pop().__subclasses__()
        found |= {cls.__name__ for cls in subclasses if not inspect.isabstract(cls)}
        left += subclasses
    return sorted(found)
