"""Compare the speed of scripts/train.py over batch sizes: with hand-written loops, and with two processes of itself.

python scripts/benchmark/scale.py --recipes mlp_mnist --batch_sizes 16,64,256
"""

import sys
from collections.abc import Sequence

from jsonargparse import ArgumentParser

import command_line
from gan_lightning.commands.common.arguments import arrange, parse
from gan_lightning.commands.common.exit_codes import run_command
from timing import Loop, table, time_loops

LOOPS: tuple[Loop, ...] = ("tutorial", "bare", "ours", "two")
SIZES = (16, 32, 64, 128, 256)
"""Default batch sizes, in images of all processes together."""


def main(args: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 0, or 2 for bad input."""
    return run_command("benchmark/scale.py", lambda: benchmark(list(sys.argv[1:] if args is None else args)))


def make_parser() -> ArgumentParser:
    """Make the parser of all flags."""
    parser = command_line.make_parser("benchmark/scale.py", "Compare training speed over batch sizes and processes.")
    command_line.add_training(parser)
    return parser


def benchmark(args: Sequence[str]) -> None:
    """Check the flags, time the loops, and print their table."""
    config = parse(make_parser(), arrange(args))
    recipes, sizes = command_line.recipe_names(config), command_line.batch_sizes(config, processes=2) or SIZES
    command_line.check_output(config)
    cases = time_loops(recipes, sizes, LOOPS, config.steps, config.rounds, config.accelerator)
    command_line.finish(config, cases, table(cases))


if __name__ == "__main__":
    sys.exit(main())
