"""Time training loops on noise, each in its own process: a tutorial's, a bare one, and scripts/train.py.

This file is also the program of those processes:
python scripts/benchmark/timing.py LOOP RECIPE BATCH_SIZE STEPS ACCELERATOR [FLAG ...]
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.profilers import Profiler
from tqdm import tqdm

from gan_lightning import data
from gan_lightning.commands.common.arguments import instantiate
from gan_lightning.commands.common.cost import now, peak_bytes
from gan_lightning.commands.common.exit_codes import run_command
from gan_lightning.commands.common.recipes import config_path, read_settings
from gan_lightning.commands.train.settings import settings as train_settings
from gan_lightning.commands.verbs import Verb
from gan_lightning.data import ImageDataModule, Split
from gan_lightning.data.base import Images
from gan_lightning.data.crops import height_and_width
from gan_lightning.errors import InputError
from loops import bare_loop, require_comparable, tutorial_loop

MAX_WARM_UP = 20
"""Steps before the clock starts; as many as are timed if those are fewer."""
RESULT = "RESULT"
"""The first word of the line on which a process prints its figures."""
Loop = Literal["tutorial", "bare", "ours", "two", "variant", "parts"]
NAMES: dict[Loop, str] = {
    "tutorial": "tutorial's loop",
    "bare": "bare loop",
    "ours": "scripts/train.py",
    "two": "two processes",
    "variant": "variant",
}
PARTS = {
    "train_dataloader_next": "data",
    "batch_to_device": "data",
    "batch_transfer": "data",
    "[Callback]": "logging",
    "optimizer_step": "optimizers",
    "discriminator": "D",
    "generator": "G",
    "average": "EMA",
    "save_checkpoint": "logging",
}
"""Part of a profiler's action name -> part of a step; the first match counts, other actions belong to the one around them."""


class SyntheticImages(ImageDataModule):
    """Noise of a data set's shape, classes and size: the speed of training does not depend on the pixels.

    Args:
        image_shape: (C, H, W).
        classes: number of classes; labels go round.
        count: number of images.
        batch_size: images in one update of a network.
        horizontal_flip: flip every image with probability 1/2.
        seed: seed of the order.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (1, 28, 28),
        classes: int = 10,
        count: int = 60_000,
        batch_size: int = 64,
        horizontal_flip: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(None, batch_size, horizontal_flip, seed)
        self.image_shape = image_shape
        self.class_names = tuple(str(c) for c in range(classes))
        random = torch.Generator().manual_seed(0)
        self._images = torch.randint(0, 256, (count, *image_shape), dtype=torch.uint8, generator=random)
        self._labels = torch.arange(count) % classes if classes else None

    def images(self, split: Split) -> Images:
        return self._images, self._labels


class Parts(Profiler):
    """Seconds in each of :data:`PARTS`, without nested parts; the rest belongs to Lightning's loops."""

    def __init__(self) -> None:
        super().__init__()
        self.begin()
        self._within = ["Lightning"]

    def begin(self) -> None:
        """Start counting at zero."""
        self.seconds = dict.fromkeys(["data", "D", "G", "optimizers", "EMA", "logging", "Lightning"], 0.0)
        self._since = now()

    def start(self, action_name: str) -> None:
        self._count()
        self._within.append(next((part for name, part in PARTS.items() if name in action_name), self._within[-1]))

    def stop(self, action_name: str) -> None:
        self._count()
        self._within.pop()

    def _count(self) -> None:
        then, self._since = self._since, now()
        self.seconds[self._within[-1]] += self._since - then

    def summary(self) -> str:
        return ""


class Stopwatch(Callback):
    """Time the steps after the warm-up, with everything between them and nothing after the last one.

    Args:
        warm_up: steps before the clock starts.
        steps: timed steps.
        parts: also time the parts of a step. This slows it down.
    """

    def __init__(self, warm_up: int, steps: int, parts: bool = False) -> None:
        self.warm_up, self.steps, self.parts = warm_up, steps, Parts() if parts else None
        self.begun = self.first = 0.0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self.parts is not None:
            trainer.profiler = self.parts  # type: ignore[attr-defined]

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.global_step == 1:
            self.first = time.time()
        if trainer.global_step == self.warm_up:
            self.begun = now()
            if self.parts is not None:
                self.parts.begin()
        elif trainer.global_step == self.warm_up + self.steps:
            seconds = now() - self.begun
            images = trainer.datamodule.batch_size * trainer.world_size  # type: ignore[attr-defined]
            report(seconds / self.steps, images, self.first, pl_module.device, self.parts)


def synthetic_data(recipe: str, count: int | None = None) -> list[str]:
    """Flags that replace a recipe's images by noise of their shape and classes, without horizontal flips.

    Args:
        recipe: name of the recipe.
        count: number of images; None is as many as MNIST or CIFAR-10 has, the size of the other data sets' noise too.
    """
    settings = read_settings(config_path(recipe))["data"]
    source = getattr(data, settings["class_path"])
    size = settings.get("init_args", {}).get("image_size")  # a folder does not define a shape
    channels, height, width = (3, *height_and_width(size, "data.image_size")) if size else source.image_shape
    return [
        *("--data", f"{SyntheticImages.__module__}.SyntheticImages", "--data.image_shape", f"[{channels},{height},{width}]"),
        *("--data.classes", str(len(getattr(source, "class_names", ()))), "--data.horizontal_flip", "false"),
        *("--data.count", str(count or (50_000 if source is data.CIFAR10 else 60_000))),
    ]


def flags(recipe: str, batch_size: int | None, steps: int) -> list[str]:
    """Flags of scripts/train.py for a recipe on noise, with its usual logs, grids and checkpoints but without metrics."""
    return [
        *("--config", recipe, *synthetic_data(recipe)),
        *([] if batch_size is None else ["--data.batch_size", str(batch_size)]),
        *("--max_steps", str(steps), "--metrics.extractor", "none", "--enable_model_summary", "false"),
    ]


def run_loop(
    loop: Loop, recipe: str, batch_size: int | None, steps: int, accelerator: str, variant: Sequence[str] = ()
) -> None:
    """Run one loop in this process and print its figures; ``variant`` are further flags of the loop ``variant``."""
    warm_up = min(MAX_WARM_UP, steps)
    processes = 2 if loop == "two" else 1
    each = batch_size // processes if batch_size else None
    args = [*flags(recipe, each, warm_up + steps), "--accelerator", accelerator, "--devices", str(processes)]
    args += variant if loop == "variant" else []
    if loop in ("ours", "two", "variant", "parts"):
        watch = "--trainer.callbacks+=" + f"{Stopwatch.__module__}.Stopwatch"
        settings = ["--trainer.callbacks.warm_up", str(warm_up), "--trainer.callbacks.steps", str(steps)]
        settings += ["--trainer.callbacks.parts", str(loop == "parts").lower()]
        sys.exit(Verb.train.main([*args, watch, *settings]))
    args += ["--model.channels_last", "false"] if loop == "tutorial" else []  # no tutorial sets it
    parser = Verb.train.make_parser()
    objects = instantiate(parser, train_settings(parser, args)[0])
    require_comparable(objects.model, objects.data)
    device = torch.device("cuda" if accelerator == "gpu" else "cpu")
    torch.manual_seed(0)
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"  # Lightning sets it; a hand-written loop would not
    loops = {"tutorial": tutorial_loop, "bare": bare_loop}
    steps_of = loops[loop](objects.model, objects.data, device)
    next(steps_of)
    first = time.time()
    for _ in range(warm_up - 1):
        next(steps_of)
    begun = now()
    for _ in range(steps):
        next(steps_of)
    report((now() - begun) / steps, objects.data.batch_size, first, device)


def report(
    seconds_per_step: float, images_per_step: int, first: float, device: torch.device, parts: Parts | None = None
) -> None:
    """Print the line that :func:`time_loops` reads; ``first`` is the time after the first step."""
    figures = {"seconds_per_step": seconds_per_step, "images_per_step": images_per_step}
    figures |= {"first_step_at": first, "peak_bytes": peak_bytes(device)}
    line = json.dumps(figures | ({"parts": parts.seconds} if parts else {}))
    print(f"\n{RESULT} {line}", flush=True)  # the progress bar has not ended its line


def time_loops(
    recipes: Sequence[str],
    batch_sizes: Sequence[int | None],
    loops: Sequence[Loop],
    steps: int,
    rounds: int,
    accelerator: str,
    variant: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Time each loop, alternately.

    Args:
        recipes: names of recipes.
        batch_sizes: sizes to train each recipe with; None is the recipe's own.
        loops: one or more of :data:`NAMES`, and ``parts`` to time the parts of a step in one run.
        steps: timed steps of each run.
        rounds: runs of each loop.
        accelerator: ``cpu`` or ``gpu``.
        variant: further flags of the real command for the loop ``variant``.

    Returns:
        For each recipe and batch size {"recipe", "batch_size", "loops": {loop: {"images_per_second": [of each round],
        "first_step_seconds": [since the command], "peak_bytes": the largest}}, "parts": {part: share of the time}}.
    """
    found = []
    turns = [loop for _ in range(rounds) for loop in loops if loop != "parts"] + [loop for loop in loops if loop == "parts"]
    with tempfile.TemporaryDirectory() as folder, tqdm(total=len(recipes) * len(batch_sizes) * len(turns)) as bar:
        for recipe in recipes:
            for batch_size in batch_sizes:
                case: dict[str, Any] = {"recipe": recipe, "loops": {}}
                for loop in turns:
                    begun = time.time()
                    figures = run_process(
                        __file__, folder, loop, recipe, str(batch_size or 0), str(steps), accelerator, *variant
                    )
                    if loop == "parts":
                        total = sum(figures["parts"].values())
                        case["parts"] = {part: seconds / total for part, seconds in figures["parts"].items()}
                    else:
                        case["batch_size"] = figures["images_per_step"]
                        row = case["loops"].setdefault(
                            loop, {"images_per_second": [], "first_step_seconds": [], "peak_bytes": 0}
                        )
                        row["first_step_seconds"].append(figures["first_step_at"] - begun)
                        row["images_per_second"].append(figures["images_per_step"] / figures["seconds_per_step"])
                        row["peak_bytes"] = max(row["peak_bytes"], figures["peak_bytes"])
                    bar.update()
                found.append(case)
    return found


def run_process(script: str, folder: str, *words: str) -> dict[str, Any]:
    """Run a script with these arguments in its own process, and return the figures that it prints."""
    command = [sys.executable, str(Path(script).resolve()), *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith(RESULT)]
    if not lines:
        reason = (done.stderr.strip().splitlines() or ["no reason"])[-1].partition(": error: ")
        raise InputError(f"{words[0]} of {words[1]} failed: {(reason[2] or reason[0])[:300]}")
    figures: dict[str, Any] = json.loads(lines[0].removeprefix(RESULT))
    return figures


def table(cases: Iterable[dict[str, Any]]) -> str:
    """Two Markdown tables: speeds, ratios and memory of each loop; shares of the parts of a step.

    A speed is in real images a second. Speeds and ratios are medians over the rounds, with minimum and maximum; a ratio is of
    two speeds of the same round.
    """
    lines: list[str] = []
    parts: list[str] = []
    for case in cases:
        loops: dict[Loop, Any] = {loop: case["loops"][loop] for loop in NAMES if loop in case["loops"]}
        name = f"{case['recipe']}, batch {case['batch_size']}"
        rates = {loop: row["images_per_second"] for loop, row in loops.items()}
        medians = {loop: statistics.median(values) for loop, values in rates.items()}
        cells = [f"{medians[loop]:,.0f} ({min(values):,.0f} to {max(values):,.0f})" for loop, values in rates.items()]
        cells += [f"{1000 * case['batch_size'] / medians['ours']:,.1f}"]
        others = [loop for loop in loops if loop != "ours"]
        for loop in others:
            ratios = [ours / other for ours, other in zip(rates["ours"], rates[loop], strict=True)]
            cells.append(f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
        cells += [f"{statistics.median(loops['ours']['first_step_seconds']):.1f} s"]
        cells += [" / ".join(f"{row['peak_bytes'] / 2**20:,.0f}" for row in loops.values()) + " MiB"]
        if not lines:
            head = ["images a second", *(NAMES[loop] for loop in loops), "ms a step of scripts/train.py"]
            head += [f"against {NAMES[loop]}" for loop in others]
            head += ["command to first step", "peak memory"]
            lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
        lines.append("| " + " | ".join([name, *cells]) + " |")
        if "parts" in case:
            if not parts:
                parts = [
                    "",
                    "| share of the time | " + " | ".join(case["parts"]) + " |",
                    "|---" * (len(case["parts"]) + 1) + "|",
                ]
            parts.append("| " + " | ".join([name, *(f"{share:.1%}" for share in case["parts"].values())]) + " |")
    return "\n".join(lines + parts)


if __name__ == "__main__":
    _, _loop, _recipe, _batch_size, _steps, _accelerator, *_variant = sys.argv
    _settings: Any = (_loop, _recipe, int(_batch_size) or None, int(_steps), _accelerator, _variant)
    sys.exit(run_command("timing", lambda: run_loop(*_settings)))
