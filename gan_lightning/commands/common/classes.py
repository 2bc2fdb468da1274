"""The classes that ``--class`` names, by name or by number."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gan_lightning.errors import InputError, nearest, plain
from gan_lightning.exported import CONFIG, read_config
from gan_lightning.lookup import find

if TYPE_CHECKING:
    from gan_lightning.inference import Sampler

SHOWN = 10  # classes in a message


def refuse_unknown_classes(source: str, text: str | None) -> None:
    """Refuse classes that an exported or bundled generator lacks, by its config.json and without torch.

    The description of a checkpoint needs torch; :func:`class_numbers` refuses them later.

    Args:
        source: name of the generator.
        text: value of ``--class``; None if it is not given.

    Raises:
        InputError: the generator has no such class.
    """
    found = find(source)
    if text is not None and found is not None and (found / CONFIG).is_file():
        about = read_config(found)
        names, count = tuple(about["class_names"]), about["num_classes"]
        if count is not None:
            _refuse_attributes(text, about["condition_names"])
            _numbers(text, names if len(names) == count else (), count)


def class_numbers(sampler: "Sampler", text: str, most: int | None = None) -> list[int]:
    """Find the classes of a comma-separated list, each a name or a number, and print both.

    A word that is a name of one class and the number of another is the name, and the printed line says so.

    Args:
        sampler: the generator. An old checkpoint has no names.
        text: value of ``--class``; a single name may have commas.
        most: largest number of classes.

    Raises:
        InputError: the generator has no such class, or there are too many.
    """
    generator = sampler.generator
    _refuse_attributes(text, sampler.condition_names)
    chosen = _numbers(text, sampler.class_names, generator.num_classes if generator.conditional else 0)
    if most is not None and len(chosen) > most:
        raise InputError(f"--class {text} names {len(chosen)} classes: use at most {most}")
    described = dict.fromkeys(_described(word, number, sampler) for word, number in chosen)
    print(f"  {'class' if len(described) == 1 else 'classes'}: {', '.join(described)}", flush=True)
    return [number for _, number in chosen]


def class_text(number: int, sampler: "Sampler") -> str:
    """Format a class for messages: its name, if it has one, and its number."""
    names = sampler.class_names
    if not names or names[number] == str(number):
        return str(number)
    return f"{plain(names[number])} (number {number})"


def _refuse_attributes(text: str, names: Sequence[str]) -> None:
    if names:
        raise InputError(
            f"--class {text}: this generator has attributes instead of classes: use --condition, such as {plain(names[0])}=1"
        )


def _numbers(text: str, names: tuple[str, ...], count: int) -> list[tuple[str, int]]:
    """Find the words of ``--class`` and their numbers. There are ``count`` classes; 0 if the generator is unconditional.

    Raises:
        InputError: there is no such class.
    """
    if not count:
        raise InputError(f"--class {text}: this generator is unconditional, so it has no classes; remove the flag")
    words = [text] if text in names else [word.strip() for word in text.split(",")]
    return [(word, _number(word, names, count)) for word in words]


def _number(word: str, names: tuple[str, ...], count: int) -> int:
    if word in names:
        return names.index(word)
    if word.isdecimal() and int(word) < count:
        return int(word)
    few = ", ".join(map(plain, names[:SHOWN])) + (", ..." if len(names) > SHOWN else "")
    by_name = f", or by name: {few}" if names else ""
    raise InputError(f"--class {word} is not a class of this generator{nearest(word, names)} (use 0 to {count - 1}{by_name})")


def _described(word: str, number: int, sampler: "Sampler") -> str:
    names = sampler.class_names
    meant = class_text(number, sampler)
    if word in names and word.isdecimal() and int(word) != number and int(word) < len(names):
        return f"{meant}; the name {word} wins over the number {word}, which is {class_text(int(word), sampler)}"
    return meant
