"""Compare the speed of scripts/train.py with a tutorial's loop and a bare one, or with itself under other settings.

python scripts/benchmark/train.py
python scripts/benchmark/train.py --recipes sngan_cifar10,r3gan_cifar10_slim --batch_sizes 8 --steps 3 --output benchmark.json
python scripts/benchmark/train.py --recipes dcgan_mnist --variant="--model.compile true"
"""

import shlex
import sys
from collections.abc import Sequence

from jsonargparse import ArgumentParser

import command_line
from gan_lightning.commands.common.arguments import arrange, parse
from gan_lightning.commands.common.exit_codes import run_command
from gan_lightning.errors import InputError
from timing import Loop, table, time_loops

LOOPS: tuple[Loop, ...] = ("tutorial", "bare", "ours", "parts")
WITH_VARIANT: tuple[Loop, ...] = ("variant", "ours")  # first the one whose flags may be refused
OWN = ("max_steps", "data.batch_size", "callbacks")
"""Settings of scripts/train.py that the benchmark sets itself."""


def main(args: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 0, or 2 for bad input."""
    return run_command("benchmark/train.py", lambda: benchmark(list(sys.argv[1:] if args is None else args)))


def make_parser() -> ArgumentParser:
    """Make the parser of all flags."""
    parser = command_line.make_parser("benchmark/train.py", "Compare the speed of scripts/train.py with hand-written loops.")
    command_line.add_training(parser)
    parser.add_argument(
        "--variant", default="", help='compare with these flags of scripts/train.py instead, such as "--model.compile true"'
    )
    return parser


def benchmark(args: Sequence[str]) -> None:
    """Check the flags, time the loops, and print their table."""
    config = parse(make_parser(), arrange(args))
    recipes, sizes, variant = command_line.recipe_names(config), command_line.batch_sizes(config), _words(config.variant)
    command_line.check_output(config)
    loops = WITH_VARIANT if variant else LOOPS
    cases = time_loops(recipes, sizes or [None], loops, config.steps, config.rounds, config.accelerator, variant)
    command_line.finish(config, cases, table(cases))


def _words(variant: str) -> list[str]:
    """Split ``--variant``, and refuse flags that the benchmark sets."""
    try:
        words = shlex.split(variant)
    except ValueError as error:
        raise InputError(f"--variant {variant} cannot be read ({error}): close every quotation mark") from error
    for word in words:
        if word.lstrip("-").removeprefix("trainer.").startswith(OWN):
            raise InputError(f"--variant {variant} has {word}, but the benchmark sets this: use --steps and --batch_sizes")
    return words


if __name__ == "__main__":
    sys.exit(main())
