"""Errors of jsonargparse as one line: the flag, its value, and the expected value."""

import importlib
import inspect
import os
import re
import shlex
from collections.abc import Collection

from jsonargparse import ArgumentParser

from gan_lightning.commands.common.numbers import RANGES
from gan_lightning.commands.common.suggestions import for_flag, for_word
from gan_lightning.errors import nearest

LIST = "a list such as [1, 2]"
KINDS: dict[str, str] = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "tuple": LIST,
    "Sequence": LIST,
} | {kind.__name__: words for kind, words in RANGES.items()}
"""Types -> their readable names."""


def as_one_line(message: str, parser: ArgumentParser, short_for: str, files: str, others: Collection[str] = ()) -> str:
    """Turn a message of jsonargparse, several lines that end with the reason, into one line that begins with it.

    Args:
        message: the message of an ArgumentError.
        parser: the parser that raised it; the nearest of its names is suggested.
        short_for: the section whose settings are also flags without its name.
        files: the files whose settings were read.
        others: sections of the command that the parser does not know.
    """
    key = re.sub(r"(\.\w+)\1$", r"\1", ".".join(re.findall(r'Parser key "([^"]+)"', message)))
    owner = _owner(message)
    actions = [action for action in parser._actions if action.dest not in ("help", "==SUPPRESS==")]
    dests = [action.dest for action in actions if action.option_strings]
    translates = "method" in dests and parser.get_default("method") != "GAN"
    positional = [action.dest for action in actions if not action.option_strings]

    if found := re.search(r"[Uu]nrecognized arguments: ?(\S*)", message):
        return unknown_flag(found[1], [*(dest.removeprefix(f"{short_for}.") for dest in dests), *others], positional)
    if found := re.search(r"[Oo]ption '([^']+)' is not accepted|does not accept option '([^']+)'", message):
        unknown = found[1] or found[2]
        if owner:
            names = [name for name in parameters_of(owner) if name != "self"]
            outer = key.rpartition(".")[0]
            if unknown in names and outer:
                return f"--{key}.{unknown} cannot be set, because it follows {outer}.{unknown}: use --{outer}.{unknown}"
            names = [name for name in names if name != unknown]  # a base may have it
            near = _of_a_part(key, names, unknown) or for_flag(
                f"{key}.{unknown}", [f"{key}.{name}" for name in names], otherwise=f"; it has {', '.join(names)}"
            )
            return f"{key}: {owner.rpartition('.')[2]} has no argument {unknown!r}{near}"
        group = re.search(r"Group '([^']+)'", message)
        prefix = f"{group[1]}." if group else ""
        names = [dest.removeprefix(prefix) for dest in dests if dest.startswith(prefix)]
        near = for_flag(f"{prefix}{unknown}", dests, otherwise=nearest(unknown, names))
        return f"{files} has an unknown setting, {prefix}{unknown}{near}"
    if key and (found := re.search(r"Unable to load config ['\"]([^'\"]*)['\"]", message)):
        section = key.partition(".")[0]
        alike = f"--{section}.{section} {found[1]}" if f"{section}.{section}" in dests else f"--{section}.NAME VALUE"
        return f"--{section} {found[1]}: {section} is a group of settings; write {alike}, or a recipe with --config"
    if found := re.search(r"following arguments are required: (.+?)(?:\. Got value.*)?$", message, re.MULTILINE):
        if not owner:
            return f"{found[1]} is missing: add it (see --help)"
        name = owner.rpartition(".")[2]
        return f"{name} needs {found[1]}: add " + ", ".join(f"--{key}.{word.strip()} VALUE" for word in found[1].split(","))
    if found := re.search(r"Importing '(\S+)' is not allowed", message):
        return f"--{key} {found[1]} is not allowed, because it runs commands or writes files: use a class of this project"
    if (found := re.search(r"Expected a dot import path string: (.+?)(?:\. Got value: .*)?$", message, re.MULTILINE)) and (
        names := sorted(cls.__name__ for cls in _classes(key, translates))
    ):
        if key == "data" and (found[1] in ("folder", "images") or os.path.isdir(found[1])):  # noqa: PTH112
            root = found[1] if os.path.isdir(found[1]) else "FOLDER"  # noqa: PTH112
            return f"--data {found[1]} is not a known class; did you mean --data ImageFolder --data.root {shlex.quote(root)}?"
        near = nearest(found[1], names) or f"; use one of {', '.join(names)}, or a class path"
        return f"--{key} {found[1]} is not a known class{near}"
    value = re.search(r"(?:Got value|Given value): (.*?)(?:\. Got value: .*)?$", message, re.MULTILINE)
    if found := re.search(
        r"Not of type (\w+): (?:invalid literal for int\(\) with base 10: |could not convert .*: )?(.+)", message
    ):
        refused = value[1] if value else found[2].split(" does not conform")[0].strip("'")
        return f"--{key}: {refused!r} is not {KINDS.get(found[1], found[1])}"
    wanted = [_readable(kind) for kind in re.findall(r"Expected an? (.+?)(?:\. Got value.*)?$", message, re.MULTILINE)]
    wanted += re.findall(r"Not a valid subclass of (\w+)", message)
    wanted = [kind for kind in dict.fromkeys(wanted) if kind != "NoneType" and not kind.startswith("dot import path")]
    if key and value and wanted:
        return f"--{key}: {_given_value(value[1])} is not {' or '.join(wanted)}"
    reason = " ".join(re.sub(r'Parser key "[^"]+":', "", message).split())
    return f"--{key}: {reason}" if key else reason


def unknown_flag(word: str, known: Collection[str], positional: Collection[str] = ()) -> str:
    """Describe a word that is not a flag, and suggest another one: see :func:`gan_lightning.commands.common.suggestions`."""
    if not re.match("--|-[a-zA-Z]", word):
        return f"{word!r} is neither a flag nor the value of a flag{for_word(word, known)}"
    flag = word.partition("=")[0]
    return f"there is no flag {flag}{for_flag(flag, known, positional)}"


def _owner(message: str) -> str:
    """Find the class whose arguments are wrong: the innermost one; empty if there is none."""
    made_later = re.search(r"expects a function or a callable class: .*?class_path='([\w.]+)'", message, re.DOTALL)
    if made_later:
        return made_later[1]
    owners: list[str] = re.findall(r"class_path '([\w.]+)'", message)
    return owners[-1] if owners else ""


def _given_value(text: str) -> str:
    nested = re.match(r"NestedArg\(key='([^']*)', val=(.*)\)$", text)
    return f"{nested[1]} {nested[2]}" if nested else repr(text)


def _readable(kind: str) -> str:
    if match := re.match(r"typing\.Literal\[(.*)\]", kind):
        return "one of " + match[1].replace("'", "")
    if match := re.match(r"<class '(?:[\w]+\.)*(\w+)'>", kind):
        return KINDS.get(match[1], match[1])
    return kind


def parameters_of(class_path: str) -> dict[str, inspect.Parameter]:
    """Collect the arguments of a class and of its bases, by the path of the class."""
    module, _, name = class_path.rpartition(".")
    return _parameters(getattr(importlib.import_module(module), name))


def _parameters(cls: object) -> dict[str, inspect.Parameter]:
    found: dict[str, inspect.Parameter] = {}
    for base in getattr(cls, "__mro__", ()):
        if "__init__" in vars(base):
            found = {**inspect.signature(vars(base)["__init__"]).parameters, **found}
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {name: parameter for name, parameter in found.items() if parameter.kind not in several}


def _of_a_part(key: str, arguments: Collection[str], unknown: str) -> str:
    """Suggest the argument ``unknown`` of a class that one of the ``arguments`` of ``key`` may name; empty if none has it."""
    for argument in arguments:
        for cls in _classes(f"{key}.{argument}"):
            if unknown in _parameters(cls):
                return f"; did you mean --{key}.{argument}.{unknown}?"
    return ""


def _classes(key: str, translates: bool = False) -> list[type[object]]:
    """List the classes that the setting ``key`` may name; ``translates`` if the generator takes sources."""
    from torch.optim import Optimizer

    from gan_lightning import augment, data, losses, networks, regularizers, schedules

    bases: dict[str, type[object]] = {
        "data": data.ImageDataModule,
        "source": data.ImageDataModule,
        "degradation": data.Degradation,
        "generator": networks.Translator if translates else networks.Generator,
        "discriminator": networks.Discriminator,
        "generator_optimizer": Optimizer,
        "discriminator_optimizer": Optimizer,
        "loss": losses.AdversarialLoss,
        "penalty": regularizers.Penalty,
        "constraint": regularizers.Constraint,
        "augmentation": augment.Augmentation,
    }
    group, _, name = key.rpartition(".")
    base = schedules.Schedule if group == "schedules" else bases.get(name)
    left, found = [] if base is None else [base], list[type[object]]()
    while left:
        subclasses: list[type[object]] = left.pop().__subclasses__()
        found += [cls for cls in subclasses if not inspect.isabstract(cls) and not cls.__name__.startswith("_")]
        left += subclasses
    return found
