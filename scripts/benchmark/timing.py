"""Training speed: the loop of a tutorial, the barest loop of the same mathematics, and the real command, by turns.

Each runs in a process of its own, which this file is the program of:
python -m gan_lightning.commands.benchmark_training LOOP RECIPE BATCH_SIZE STEPS ACCELERATOR [FLAG ...]
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.profilers import Profiler
from tqdm import tqdm

from gan_lightning.commands import train
from gan_lightning.commands.arguments import instantiate, run_command
from gan_lightning.commands.benchmark_loops import bare_loop, require_comparable, tutorial_loop
from gan_lightning.commands.cost import now, peak_bytes
from gan_lightning.data import ImageDataModule, Split
from gan_lightning.data.base import Images
from gan_lightning.errors import InputError

MOST_WARM_UP = 20  # steps before the clock starts, or as many as are measured where those are fewer
RESULT = "RESULT"  # begins the line that a process's figures stand in
Loop = Literal["tutorial", "bare", "ours", "two", "variant", "parts"]
NAMES: dict[Loop, str] = {
    "tutorial": "the loop of a tutorial",
    "bare": "the bare loop",
    "ours": "scripts/train.py",
    "two": "two processes of it",
    "variant": "the variant",
}
TRAIN: tuple[Loop, ...] = ("tutorial", "bare", "ours", "parts")
VARY: tuple[Loop, ...] = ("variant", "ours")  # first what may be refused
SCALE: tuple[Loop, ...] = ("tutorial", "bare", "ours", "two")
SIZES = (16, 32, 64, 128, 256)  # images a step, of all processes together
PARTS = {
    # what stands in the profiler's name of an action -> the part that it belongs to, the first that fits; others belong to
    # what they are in
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


class SyntheticImages(ImageDataModule):
    """Noise of the shape and number of MNIST's or CIFAR-10's images: speed does not depend on what is in them.

    Args:
        like: whose shape and number.
        batch_size: images that one update looks at.
        horizontal_flip: as of any data.
        seed: of the order.
    """

    def __init__(
        self,
        like: Literal["mnist", "cifar10"] = "mnist",
        batch_size: int = 64,
        horizontal_flip: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(None, batch_size, horizontal_flip, seed)
        self.image_shape = (1, 28, 28) if like == "mnist" else (3, 32, 32)
        self.class_names = tuple(str(c) for c in range(10))
        count = 60_000 if like == "mnist" else 50_000
        random = torch.Generator().manual_seed(0)
        self._images = torch.randint(0, 256, (count, *self.image_shape), dtype=torch.uint8, generator=random)
        self._labels = torch.arange(count) % 10

    def images(self, split: Split) -> Images:
        return self._images, self._labels


class Parts(Profiler):
    """How long each of :data:`PARTS` takes, without what is nested in it; the rest is Lightning's loops."""

    def __init__(self) -> None:
        super().__init__()
        self.begin()
        self._within = ["Lightning"]

    def begin(self) -> None:
        """Count from now on."""
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
    """Seconds from the end of the warm-up to the last step, with all that is done in between; not what is done at the end.

    Args:
        warm_up: steps before the clock starts.
        steps: after which it stops.
        parts: whether the parts of a step are told apart, which takes time itself.
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


def flags(recipe: str, batch_size: int | None, steps: int) -> list[str]:
    """Of the train command: the recipe on synthetic images, logging as it does, with a grid and a checkpoint an epoch."""
    like = "cifar10" if "cifar10" in recipe else "mnist"
    return [
        *("--config", recipe, "--data", f"{SyntheticImages.__module__}.SyntheticImages", "--data.like", like),
        *("--data.horizontal_flip", "false"),  # which the loops written by hand do without
        *([] if batch_size is None else ["--data.batch_size", str(batch_size)]),
        *("--max_steps", str(steps), "--metrics.extractor", "none", "--enable_model_summary", "false"),
    ]


def run_loop(
    loop: Loop, recipe: str, batch_size: int | None, steps: int, accelerator: str, variant: Sequence[str] = ()
) -> None:
    """Run one loop in this process, and print its figures; ``variant`` are the flags of the one of this name."""
    warm_up = min(MOST_WARM_UP, steps)
    processes = 2 if loop == "two" else 1
    each = batch_size // processes if batch_size else None
    args = [*flags(recipe, each, warm_up + steps), "--accelerator", accelerator, "--devices", str(processes)]
    args += variant if loop == "variant" else []
    if loop in ("ours", "two", "variant", "parts"):
        watch = "--trainer.callbacks+=" + f"{Stopwatch.__module__}.Stopwatch"
        settings = ["--trainer.callbacks.warm_up", str(warm_up), "--trainer.callbacks.steps", str(steps)]
        settings += ["--trainer.callbacks.parts", str(loop == "parts").lower()]
        sys.exit(train.main([*args, watch, *settings]))
    args += ["--model.channels_last", "false"] if loop == "tutorial" else []  # no tutorial has that
    parser = train.make_parser()
    objects = instantiate(parser, train.settings(parser, args)[0])
    require_comparable(objects.model, objects.data)
    device = torch.device("cuda" if accelerator == "gpu" else "cpu")
    torch.manual_seed(0)
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"  # as it is for who does not import Lightning
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
    """Print the line that :func:`benchmark_training` reads; ``first`` is when the first step had been made."""
    figures = {"seconds_per_step": seconds_per_step, "images_per_step": images_per_step}
    figures |= {"first_step_at": first, "peak_bytes": peak_bytes(device)}
    line = json.dumps(figures | ({"parts": parts.seconds} if parts else {}))
    print(f"\n{RESULT} {line}", flush=True)  # the progress bar has not ended its line


def benchmark_training(
    recipes: Sequence[str],
    batch_sizes: Sequence[int | None],
    loops: Sequence[Loop],
    steps: int,
    rounds: int,
    accelerator: str,
    variant: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Steps of each loop, by turns.

    Args:
        recipes: their names.
        batch_sizes: each recipe is trained with each of them; None is the recipe's own.
        loops: which of :data:`NAMES`, and ``parts``, which runs once, to tell the parts of a step.
        steps: of each run.
        rounds: how often each loop runs.
        accelerator: ``cpu`` or ``gpu``.
        variant: further flags of the real command, where ``loops`` has ``variant``.

    Returns:
        For each recipe and batch size {"recipe", "batch_size", "loops": {loop: {"images_per_second": [of each round],
        "first_step_seconds": [from the command on], "peak_bytes": the largest}}, "parts": {part: its share of the time}}.
    """
    found = []
    turns = [loop for _ in range(rounds) for loop in loops if loop != "parts"] + [loop for loop in loops if loop == "parts"]
    with tempfile.TemporaryDirectory() as folder, tqdm(total=len(recipes) * len(batch_sizes) * len(turns)) as bar:
        for recipe in recipes:
            for batch_size in batch_sizes:
                case: dict[str, Any] = {"recipe": recipe, "loops": {}}
                for loop in turns:
                    begun = time.time()
                    figures = _run(folder, loop, recipe, str(batch_size or 0), str(steps), accelerator, *variant)
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


def _run(folder: str, *words: str) -> dict[str, Any]:
    """The figures of one loop, from a process of its own, which is given these words."""
    command = [sys.executable, "-m", __spec__.name, *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith(RESULT)]
    if not lines:
        reason = (done.stderr.strip().splitlines() or ["no reason"])[-1].removeprefix("benchmark: error: ")[:300]
        raise InputError(f"{words[0]} of {words[1]} failed: {reason}")
    figures: dict[str, Any] = json.loads(lines[0].removeprefix(RESULT))
    return figures


def table(cases: Iterable[dict[str, Any]]) -> str:
    """Real images a second, and the ratios within each round: medians, least and most; and the rest, as Markdown."""
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
            head += [f"it against {NAMES[loop]}" for loop in others]
            head += ["from command to first step", "peak memory"]
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
    sys.exit(run_command("benchmark", lambda: run_loop(*_settings)))
