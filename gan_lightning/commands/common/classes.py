"""The classes that ``--class`` names, by name or by number."""

from gan_lightning.errors import InputError, nearest, plain
from gan_lightning.inference import Sampler

SHOWN = 10  # classes in a message


def class_numbers(sampler: Sampler, text: str, most: int | None = None) -> list[int]:
    """Find the classes of a comma-separated list, each a name or a number, and print both.

    A word that is a name of one class and the number of another is the name, and the printed line says so.

    Args:
        sampler: the generator. An old checkpoint has no names.
        text: value of ``--class``; a single name may have commas.
        most: largest number of classes.

    Raises:
        InputError: the generator has no such class, or there are too many.
    """
    generator, names = sampler.generator, sampler.class_names
    if not generator.conditional:
        raise InputError(f"--class {text}: this generator is unconditional, so it has no classes; remove the flag")
    words = [text] if text in names else [word.strip() for word in text.split(",")]
    if most is not None and len(words) > most:
        raise InputError(f"--class {text} names {len(words)} classes: use at most {most}")
    numbers = [_number(word, names, generator.num_classes) for word in words]
    described = dict.fromkeys(_described(word, number, sampler) for word, number in zip(words, numbers, strict=True))
    print(f"  {'class' if len(described) == 1 else 'classes'}: {', '.join(described)}", flush=True)
    return numbers


def class_text(number: int, sampler: Sampler) -> str:
    """Format a class for messages: its name, if it has one, and its number."""
    names = sampler.class_names
    if not names or names[number] == str(number):
        return str(number)
    return f"{plain(names[number])} (number {number})"


def _number(word: str, names: tuple[str, ...], count: int) -> int:
    if word in names:
        return names.index(word)
    if word.isdecimal() and int(word) < count:
        return int(word)
    few = ", ".join(map(plain, names[:SHOWN])) + (", ..." if len(names) > SHOWN else "")
    by_name = f", or by name: {few}" if names else ""
    raise InputError(f"--class {word} is not a class of this generator{nearest(word, names)} (use 0 to {count - 1}{by_name})")


def _described(word: str, number: int, sampler: Sampler) -> str:
    names = sampler.class_names
    meant = class_text(number, sampler)
    if word in names and word.isdecimal() and int(word) != number and int(word) < len(names):
        return f"{meant}; the name {word} wins over the number {word}, which is {class_text(int(word), sampler)}"
    return meant
