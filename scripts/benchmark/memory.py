"""Measure the peak memory and the time of a training step over micro-batches, each in its own process, on noise.

python scripts/benchmark/memory.py --config folder_64 --micro_batch 1 4 16
python scripts/benchmark/memory.py --config my.yaml --micro_batch 1 4 16 -- --data.image_size 256 --model.generator.width 32

Flags after -- are those of scripts/train.py.
"""

import ctypes
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy
import torch
from jsonargparse import ArgumentParser
from jsonargparse.typing import PositiveInt
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image

import command_line
from gan_lightning.commands.common.arguments import arrange, given, parse
from gan_lightning.commands.common.cost import now, peak_bytes
from gan_lightning.commands.common.exit_codes import run_command
from gan_lightning.commands.common.recipes import config_path, read_settings
from gan_lightning.commands.verbs import Verb
from gan_lightning.data.crops import height_and_width
from gan_lightning.errors import InputError
from timing import RESULT, run_process, synthetic_data

NUM_IMAGES = 8  # times the batch: a step may take five batches
QUIET = ["--metrics.extractor", "none", "--trainer.logger", "false", "--enable_model_summary", "false"]


class Peak(Callback):
    """Time the steps after the first one, and print the peak of the memory and its size before the first step, in bytes."""

    def __init__(self, steps: int) -> None:
        self.steps, self.before, self.begun = steps, 0, 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.global_step == 0:
            self.before = memory_now(pl_module.device)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.global_step == 1:
            self.begun = now()
        elif trainer.global_step == 1 + self.steps:
            seconds = (now() - self.begun) / self.steps
            figures = {"seconds": seconds, "before": self.before, "peak": peak_bytes(pl_module.device)}
            print(f"\n{RESULT} {json.dumps(figures)}", flush=True)


def memory_now(device: torch.device) -> int:
    """Memory of the device, or resident memory of the process on the CPU; there it is the peak if the system has no /proc.

    glibc first returns what it keeps of freed memory.
    """
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)
    pages = Path("/proc/self/statm")
    return int(pages.read_text().split()[1]) * 4096 if pages.is_file() else peak_bytes(device)


def main(args: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 0, or 2 for bad input."""
    return run_command("benchmark/memory.py", lambda: benchmark(list(sys.argv[1:] if args is None else args)))


def make_parser() -> ArgumentParser:
    """Make the parser of all flags."""
    parser = command_line.make_parser("benchmark/memory.py", "Measure the memory of a training step over micro-batches.")
    parser.add_argument("--config", type=str, required=True, help="a recipe, or a YAML file")
    parser.add_argument("--micro_batch", type=PositiveInt, nargs="+", default=[1, 4, 16], help="sizes of micro-batches")
    parser.add_argument("--batch_size", type=PositiveInt, default=16, help="images per update")
    parser.add_argument("--steps", type=PositiveInt, default=2, help="timed steps, after one of warm-up")
    parser.add_argument("--accelerator", type=Literal["cpu", "gpu"], default="cpu", help="device to train on")
    return parser


def benchmark(args: Sequence[str]) -> None:
    """Check the flags, measure each micro-batch, and print the table."""
    end = args.index("--") if "--" in args else len(args)
    config, more = parse(make_parser(), arrange(args[:end])), list(args[end + 1 :])
    rows, refused = [], []
    with tempfile.TemporaryDirectory() as folder:
        words = ["--config", config.config, *data_flags(config.config, more, config.batch_size, Path(folder, "images"))]
        words += [*QUIET, "--data.batch_size", str(config.batch_size), "--accelerator", config.accelerator]
        words += ["--max_steps", str(config.steps + 1), "--trainer.callbacks+=memory.Peak"]
        words += ["--trainer.callbacks.steps", str(config.steps), *more]
        for size in config.micro_batch:
            try:
                figures = run_process(__file__, folder, "train", *words, "--model.micro_batch", str(size))
                rows.append({"config": Path(config.config).stem, "micro_batch": size, **figures})
            except InputError as error:  # such as batch norm of one image; others may work
                refused.append(f"micro-batch {size}: {error}")
    if not rows:
        raise InputError(refused[0])
    print("\n".join([table(rows), *refused]))


def data_flags(recipe: str, more: Sequence[str], batch_size: int, folder: Path) -> list[str]:
    """Write noise of the recipe's size to ``folder`` if it trains on a folder; otherwise replace its data by noise."""
    groups = arrange(more)
    if given(groups, "data.root") is not None:
        return []
    settings = read_settings(config_path(recipe))["data"]
    if (given(groups, "data") or settings["class_path"]).rpartition(".")[2] != "ImageFolder":
        return synthetic_data(recipe, NUM_IMAGES * batch_size)
    size = given(groups, "data.image_size") or settings["init_args"].get("image_size", 64)
    random, sides = numpy.random.default_rng(0), height_and_width(size, "--data.image_size")
    folder.mkdir()
    for i in range(NUM_IMAGES * batch_size):
        Image.fromarray(random.integers(0, 256, (*sides, 3), dtype=numpy.uint8)).save(folder / f"{i}.png")
    return ["--data.root", str(folder)]


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: time of a step, memory before the first step, peak, and their difference."""
    lines = ["| training | micro-batch | s a step | MiB before the first step | peak | difference |", "|---" * 6 + "|"]
    for row in rows:
        before, peak = (row[name] / 2**20 for name in ("before", "peak"))
        cells = [row["config"], row["micro_batch"], f"{row['seconds']:.2f}", f"{before:,.0f}", f"{peak:,.0f}"]
        lines.append("| " + " | ".join(map(str, [*cells, f"{peak - before:,.0f}"])) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(Verb.train.main(sys.argv[2:]) if sys.argv[1:2] == ["train"] else main())
