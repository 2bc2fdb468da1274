"""Number types with ranges and sizes of images, for flags, and lists of numbers."""

from jsonargparse.typing import NonNegativeInt, PositiveFloat, PositiveInt, restricted_number_type, restricted_string_type

from gan_lightning.errors import InputError

LARGEST_SEED = 2**32 - 1  # the limit of torch and numpy
LARGEST_PORT = 2**16 - 1

SIDE = "[1-9][0-9]{0,8}"  # a number of pixels

AtLeastTwo = restricted_number_type("AtLeastTwo", int, (">=", 2))
ImageSize = restricted_string_type("ImageSize", f"{SIDE}(x{SIDE})?$")
Port = restricted_number_type("Port", int, [(">=", 0), ("<=", LARGEST_PORT)])
Seed = restricted_number_type("Seed", int, [(">=", 0), ("<=", LARGEST_SEED)])

RANGES = {
    AtLeastTwo: "a whole number of at least 2",
    ImageSize: "a number of pixels of at least 1 such as 64, or HEIGHTxWIDTH such as 96x64",
    NonNegativeInt: "a whole number of at least 0",
    Port: f"a whole number from 0 to {LARGEST_PORT}",
    PositiveFloat: "a number above 0",
    PositiveInt: "a whole number of at least 1",
    Seed: f"a whole number from 0 to {LARGEST_SEED}",
}
"""Descriptions of the types, for errors."""


def whole_numbers(flag: str, text: str, least: int = 0) -> list[int]:
    """Read the numbers that a flag lists, separated by commas.

    Raises:
        InputError: a word is not a whole number of at least ``least``.
    """
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and int(word) >= least for word in words):
        example = f"--{flag} {least + 3} or --{flag} {least},{least + 1},{least + 2}"
        raise InputError(f"--{flag} {text} is not a list of whole numbers of at least {least}: use, for example, {example}")
    return [int(word) for word in words]
