"""Compare the speed of the large networks that metrics take their features from.

python scripts/benchmark/extractors.py --rounds 9
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser
from tqdm import tqdm

import command_line
from gan_lightning.commands.common.arguments import arrange, parse
from gan_lightning.commands.common.exit_codes import run_command
from gan_lightning.metrics.imagenet import ImageNet
from gan_lightning.metrics.inception import Inception
from random_inception import varied_images, write_random_weights

BATCH = 50
"""Images of 32x32 pixels in one pass."""


def main(args: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 0, or 2 for bad input."""
    return run_command("benchmark/extractors.py", lambda: benchmark(list(sys.argv[1:] if args is None else args)))


def make_parser() -> ArgumentParser:
    """Make the parser of all flags."""
    parser = command_line.make_parser("benchmark/extractors.py", "Compare the speed of Inception and imagenet on the CPU.")
    command_line.add_inception(parser)
    command_line.add_rounds(parser)
    return parser


def benchmark(args: Sequence[str]) -> None:
    """Check the flags, time both networks, and print their table."""
    config = parse(make_parser(), arrange(args))
    command_line.check_output(config)
    with tempfile.TemporaryDirectory() as folder:
        seconds = compare(Path(folder), config.rounds, config.inception_weights)
    command_line.finish(config, seconds, table(seconds))


def compare(folder: Path, rounds: int, weights: str | None) -> dict[str, list[float]]:
    """Time both networks alternately, in seconds of a core, so that other programs on the machine matter little.

    Returns:
        {name of the extractor: [seconds an image of each round]}
    """
    path = Path(weights) if weights else folder / "weights.pth"
    if not weights:
        write_random_weights(path)
    extractors = {"inception": Inception(path), "imagenet": ImageNet()}
    images = varied_images(BATCH, seed=1)
    seconds: dict[str, list[float]] = {name: [] for name in extractors}
    for number in tqdm(range(rounds + 1), desc="Rounds, the first untimed"):
        for name, extractor in extractors.items():
            begun = time.process_time()
            extractor(images)
            if number:
                seconds[name].append((time.process_time() - begun) / BATCH)
    return seconds


def table(seconds: dict[str, list[float]]) -> str:
    """A Markdown table: medians with minimum and maximum; and the ratio of the medians."""
    ratio = statistics.median(seconds["imagenet"]) / statistics.median(seconds["inception"])
    lines = ["| seconds of a core, an image | median (minimum to maximum) |", "|---|---|"]
    lines += [f"| {name} | {statistics.median(t):.4f} ({min(t):.4f} to {max(t):.4f}) |" for name, t in seconds.items()]
    return "\n".join([*lines, "", f"imagenet takes {ratio:.2f} times the time of inception"])


if __name__ == "__main__":
    sys.exit(main())
