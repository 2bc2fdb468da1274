"""Measure this project on a GPU, stage by stage, within a budget of time.

python scripts/benchmark/gpu.py correct speed --budget 500 --output gpu
python scripts/benchmark/gpu.py graphs commands metrics memory profile --budget 300 --output gpu --data .data
python scripts/benchmark/gpu.py speed --recipes sngan_cifar10 --output sngan

Stages:
- correct: every recipe takes two steps and waits for nothing, one more in bfloat16; some are compared with the CPU's numbers
- speed: steps of some recipes as they are and in other ways, such as CUDA graphs
- graphs: weights after some steps, bit for bit: eager twice, and by CUDA graphs
- commands: scripts/train.py: a run, an interrupted and resumed run bit for bit, a GPU's checkpoint on a CPU
- metrics: Inception in two memory layouts, eigenproblems, indexing of images on the device
- memory: the largest recipe at several batch sizes
- profile: kernels of a step, and how long they keep the device busy

Each case writes its figures to OUTPUT/campaign.json when it is done. Cases that are there already are skipped, so that the same
command continues a campaign that was stopped.
"""

import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import torch
from jsonargparse import ArgumentParser
from jsonargparse.typing import PositiveFloat, PositiveInt
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.profilers import PassThroughProfiler
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

import command_line
from gan_lightning.commands.common.arguments import arrange, instantiate, parse
from gan_lightning.commands.common.cost import now, peak_bytes
from gan_lightning.commands.common.exit_codes import run_command
from gan_lightning.commands.common.outputs import require_writable
from gan_lightning.commands.common.recipes import config_path, read_settings, recipes_of
from gan_lightning.commands.common.records import write_record
from gan_lightning.commands.train.settings import settings
from gan_lightning.commands.verbs import Verb
from gan_lightning.errors import InputError, one_line
from gan_lightning.gan import GAN
from gan_lightning.metrics.features import full_precision
from gan_lightning.metrics.inception import SIZE, inception_v3
from gan_lightning.training.cuda_graphs import GraphedGradients
from timing import flags

Figures = dict[str, float | str]
Case = tuple[str, Callable[[], Figures]]
"""A name, and the function that measures its figures."""

HERE = Path(__file__).resolve().parent
TRAIN = HERE.parent / "train.py"
COMPARED = [
    *("digits", "dcgan_mnist", "acgan_mnist", "dcgan_cifar10"),
    *("sngan_cifar10_conditional", "r3gan_mnist_slim", "wgan_clip_mnist", "mlp_mnist"),
]
"""Recipes with steps that draw only latents, so that two devices can get the same ones."""
TIMED = [
    *("dcgan_mnist", "digits", "dcgan_cifar10", "sngan_cifar10"),
    *("r3gan_mnist_slim", "r3gan_cifar10_slim", "wgan_gp_cifar10", "folder_64"),
]
REPLAYED = [
    *("dcgan_mnist", "cgan_mnist", "folder_64", "r3gan_mnist_slim"),
    *("sngan_cifar10_conditional", "bottleneck_mnist", "acgan_mnist"),
]
PROFILED = ["dcgan_mnist", "sngan_cifar10", "r3gan_cifar10_slim"]
LARGEST = "r3gan_cifar10"
INDEXING: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "images[chosen]": lambda images, chosen: images[chosen],
    "index_select": lambda images, chosen: images.index_select(0, chosen),
}


@dataclass
class Campaign:
    """Settings of a campaign, and its figures so far.

    Args:
        device: where to measure.
        figures: stage -> case -> figures.
        ends: time, as ``time.monotonic()``, after which no case begins.
        recipes: names; None is each stage's own choice.
        steps: measured steps; None is each stage's own choice.
        data: folder of the data sets for the real command; None is the default folder.
    """

    device: torch.device
    figures: dict[str, dict[str, Figures]]
    ends: float
    recipes: Sequence[str] | None = None
    steps: int | None = None
    data: str | None = None

    def left(self) -> float:
        """Seconds of the budget that are left."""
        return self.ends - time.monotonic()


@dataclass(frozen=True)
class Way:
    """A way to make a recipe's training steps; by default as the package makes them."""

    graphs: bool = False  # gradients are replayed as CUDA graphs
    bf16: bool = False
    benchmark: bool = False  # cuDNN tries its algorithms and keeps the fastest
    other_layout: bool = False  # channels last if the recipe has them first, and the other way round


EAGER = Way()
WAYS = {
    "eager": EAGER,
    "graphs": Way(graphs=True),
    "cudnn.benchmark": Way(benchmark=True),
    "other layout": Way(other_layout=True),
    "bf16": Way(bf16=True),
    "bf16, graphs": Way(bf16=True, graphs=True),
}


class Steps:
    """Training steps of a recipe on noise, without a Trainer.

    The weights are always the same. Four batches come in turn.

    Args:
        recipe: its name.
        device: where to train.
        batch_size: real images in one update; None is the recipe's.
        way: how to make the steps.
    """

    def __init__(self, recipe: str, device: torch.device, batch_size: int | None = None, way: Way = EAGER) -> None:
        words = [*flags(recipe, batch_size, 1), "--data.count", "1"]
        if way.other_layout:
            last = read_settings(config_path(recipe))["model"].get("channels_last", False)
            words += ["--model.channels_last", str(not last).lower()]
        torch.manual_seed(0)
        objects = instantiate(_parser(), settings(_parser(), words)[0])
        self.model: GAN = objects.model.to(device).train()
        optimizers = self.model.configure_optimizers()
        optimizers[0].register_step_post_hook(self._count)
        strategy = SimpleNamespace(_lightning_optimizers=optimizers, backward=_backward)
        self.trainer = SimpleNamespace(global_step=0, global_rank=0, world_size=1)
        self.trainer.profiler, self.trainer.strategy = PassThroughProfiler(), strategy
        self.model.trainer = self.trainer
        self.batch_size: int = objects.data.batch_size
        self.images = self.model.real_batches_per_step * self.batch_size  # of one step
        random, classes = torch.Generator().manual_seed(1), objects.data.num_classes
        self.noise = (torch.rand(4 * self.images, *objects.data.image_shape, generator=random) * 2 - 1).to(device)
        self.labels = torch.randint(0, classes, (len(self.noise),), generator=random).to(device) if classes else None
        if way.graphs:
            self.model.run_gradients = GraphedGradients()
        # As in Lightning no cast is cached: a cached weight would belong to another stream than a captured graph
        self.precision = partial(torch.autocast, device.type, torch.bfloat16, way.bf16, cache_enabled=False)

    def __call__(self) -> dict[str, Tensor]:
        """Make the next step and return its losses."""
        begin = self.trainer.global_step % 4 * self.images
        chosen = slice(begin, begin + self.images)
        batch = self.noise[chosen], None if self.labels is None else self.labels[chosen]
        self.model.on_train_batch_start(batch, 0)
        with self.precision():
            outputs: dict[str, Tensor] = self.model.training_step(batch, 0)
        return outputs

    def _count(self, *_: Any) -> None:
        self.trainer.global_step += 1


@cache
def _parser() -> ArgumentParser:
    return Verb.train.make_parser()


def _backward(loss: Tensor, *_: Any, **__: Any) -> None:
    loss.backward()  # type: ignore[no-untyped-call]


def correct(campaign: Campaign) -> Iterator[Case]:
    """Two steps of every recipe without a wait, one in bfloat16; some steps against the CPU's."""
    for recipe in campaign.recipes or recipes_of("GAN"):
        yield recipe, partial(_losses, recipe, campaign.device)
    for recipe in campaign.recipes or COMPARED:
        yield f"{recipe}: against the CPU", partial(_against_cpu, recipe, campaign.device)


def _losses(recipe: str, device: torch.device) -> Figures:
    step, half = Steps(recipe, device, 4), Steps(recipe, device, 4, Way(bf16=True))
    with full_precision(device.type), _forbid_synchronization(device):
        losses = {name: value.clone() for name, value in step().items()}
        step()
    figures: Figures = {name: float(value) for name, value in losses.items()}
    return figures | {"discriminator_loss in bf16": float(half()["discriminator_loss"])}


@contextmanager
def _forbid_synchronization(device: torch.device) -> Iterator[None]:
    """Raise an error if the host waits for the GPU."""
    if device.type == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")


def _against_cpu(recipe: str, device: torch.device) -> Figures:
    """The largest relative difference of a loss in three steps with the same latents."""
    rows = []
    for place in (device, torch.device("cpu")):
        step = Steps(recipe, place, 8)
        step.model.generator.register_forward_pre_hook(_same_latents)
        with full_precision(place.type):
            rows.append([{name: float(value) for name, value in step().items()} for _ in range(3)])
    differences = [
        (abs(loss - mine[name]) / (abs(loss) + 1e-3), f"{name} of step {i}", mine[name], loss)
        for i, (mine, cpu) in enumerate(zip(*rows, strict=True))
        for name, loss in cpu.items()
    ]
    difference, name, mine, cpu = max(differences)
    return {"relative difference": difference, "of": name, "on the device": mine, "on the CPU": cpu}


def _same_latents(module: torch.nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Draw the latents on the CPU, because its numbers do not depend on the device: a forward hook."""
    z, *labels = inputs
    return torch.randn(z.shape, generator=torch.Generator().manual_seed(len(z))).to(z.device), *labels


def speed(campaign: Campaign) -> Iterator[Case]:
    """Steps of each recipe in every way that it has; ratios are against its eager steps."""
    for recipe in campaign.recipes or TIMED:
        for name, way in _ways(campaign.device):
            yield f"{recipe}: {name}", partial(_speed, campaign, recipe, way)


def _ways(device: torch.device) -> list[tuple[str, Way]]:
    return [(name, way) for name, way in WAYS.items() if device.type == "cuda" or not (way.graphs or way.benchmark)]


def _speed(campaign: Campaign, recipe: str, way: Way) -> Figures:
    figures = _cost(campaign, recipe, way)
    eager = campaign.figures["speed"].get(f"{recipe}: eager", figures)
    if "ms" in eager:
        figures["times eager"] = float(eager["ms"]) / float(figures["ms"])
    return figures


def _cost(campaign: Campaign, recipe: str, way: Way, batch_size: int | None = None, steps: int = 24) -> Figures:
    """Milliseconds of a step, those of the host alone, and the most memory that was taken."""
    device, steps = campaign.device, campaign.steps or steps
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    step = Steps(recipe, device, batch_size, way)
    with _cudnn_benchmark(way.benchmark):
        for _ in range((steps + 1) // 2):
            step()
        begun, host = now(), time.process_time()
        for _ in range(steps):
            step()
        host = time.process_time() - host  # without the wait at the end
        seconds = (now() - begun) / steps
    return {
        "ms": 1e3 * seconds,
        "host ms": 1e3 * host / steps,
        "images/s": step.batch_size / seconds,
        "peak MiB": peak_bytes(device) / 2**20,
    }


@contextmanager
def _cudnn_benchmark(enabled: bool) -> Iterator[None]:
    before, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, enabled
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def graphs(campaign: Campaign) -> Iterator[Case]:
    """Weights after some steps with deterministic kernels: how many tensors differ."""
    for recipe in campaign.recipes or REPLAYED:
        yield recipe, partial(_differences, recipe, campaign)


def _differences(recipe: str, campaign: Campaign) -> Figures:
    ways = {"eager again": EAGER}
    if campaign.device.type == "cuda":
        ways |= {"graphs": Way(graphs=True)}
    torch.use_deterministic_algorithms(True)
    try:
        eager, *others = (_weights(recipe, campaign, way) for way in (EAGER, *ways.values()))
    finally:
        torch.use_deterministic_algorithms(False)
    figures: Figures = {"tensors": len(eager)}
    for name, other in zip(ways, others, strict=True):
        figures[f"differ: {name}"] = sum(not torch.equal(tensor, other[key]) for key, tensor in eager.items())
    return figures


def _weights(recipe: str, campaign: Campaign, way: Way) -> dict[str, Tensor]:
    step = Steps(recipe, campaign.device, 16, way)
    for _ in range(campaign.steps or 14):
        step()
    return step.model.state_dict()


class Interruption(Callback):
    """Interrupts a run during step ``step``, as Ctrl-C does. A run that ended there would have other schedules."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step - 1:
            signal.raise_signal(signal.SIGINT)


def commands(campaign: Campaign) -> Iterator[Case]:
    """scripts/train.py with all callbacks: a run, an interrupted one, a checkpoint on a CPU. Only digits needs no data."""
    for recipe in campaign.recipes or ["digits", *(["dcgan_mnist"] if campaign.data else [])]:
        yield recipe, partial(_commands, recipe, campaign)


def _commands(recipe: str, campaign: Campaign) -> Figures:
    steps = campaign.steps or 300
    accelerator = "gpu" if campaign.device.type == "cuda" else "cpu"
    words = ["--config", recipe, "--accelerator", accelerator, "--trainer.deterministic", "true"]
    words += ["--metrics.every_n_steps", "100", "--metrics.num_images", "1000", "--health.every_n_steps", "50"]
    with tempfile.TemporaryDirectory() as folder:

        def run(name: str, *further: str, code: int = 0) -> float:
            """Run a command that must end with this exit code, and return its seconds."""
            command = [sys.executable, str(TRAIN), *further, "--default_root_dir", f"{folder}/{name}"]
            command += ["--enable_progress_bar", "false"]
            environment = os.environ | ({"GAN_LIGHTNING_DATA": campaign.data} if campaign.data else {})
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
            begun = time.monotonic()
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=max(1.0, campaign.left()), check=False
            )
            if done.returncode != code:
                raise RuntimeError((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
            return time.monotonic() - begun

        def weights(name: str) -> dict[str, Tensor]:
            path = Path(folder, name, "lightning_logs", "version_0", "checkpoints", "last.ckpt")
            state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
            return state

        figures: Figures = {"steps": steps, "seconds": run("whole", *words, "--max_steps", str(steps))}
        interruption = [f"--trainer.callbacks+={Path(__file__).stem}.{Interruption.__name__}"]
        interruption += ["--trainer.callbacks.step", str((steps + 1) // 2)]
        run("parts", *words, "--max_steps", str(steps), *interruption, code=128 + signal.SIGINT)
        figures["seconds to resume"] = run("parts", "--ckpt_path", "last", "--trust", Path(__file__).stem)
        whole, parts = weights("whole"), weights("parts")
        figures["differ: resumed"] = sum(not torch.equal(whole[name], parts[name]) for name in whole)
        figures["tensors"] = len(whole)
        cpu = ["--ckpt_path", "last", "--max_steps", str(steps + 10), "--accelerator", "cpu"]
        figures["seconds of 10 more steps on the CPU"] = run("whole", *cpu)
        return figures


def metrics(campaign: Campaign) -> Iterator[Case]:
    """Cost of the metrics on the device."""
    for batch in (50, 200):
        for layout in (torch.contiguous_format, torch.channels_last):
            name = f"Inception, {batch} images, {str(layout).removeprefix('torch.')}"
            yield name, partial(_inception, campaign, batch, layout)
    for device in dict.fromkeys((campaign.device, torch.device("cpu"))):
        for function in (torch.linalg.eigh, torch.linalg.eigvalsh):
            yield f"{function.__name__}, 2048 x 2048, float64, {device}", partial(_eigenproblem, function, device)
    for name, index in INDEXING.items():
        yield f"{name}, 1,024 of 50,000 images", partial(_indexing, campaign, index)


def _milliseconds(work: Callable[[], Any], times: int) -> Figures:
    work()
    begun = now()
    for _ in range(times):
        work()
    return {"ms": 1e3 * (now() - begun) / times}


def _inception(campaign: Campaign, batch: int, layout: torch.memory_format) -> Figures:
    body = inception_v3()[:-1].eval().to(campaign.device).to(memory_format=layout)
    images = torch.randn(batch, 3, SIZE, SIZE, device=campaign.device).contiguous(memory_format=layout)
    with torch.no_grad(), full_precision(campaign.device.type):
        return _milliseconds(lambda: body(images), campaign.steps or 5)


def _eigenproblem(function: Callable[[Tensor], Any], device: torch.device) -> Figures:
    factor = torch.randn(2048, 2048, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).to(device)
    matrix = factor @ factor.T
    return _milliseconds(lambda: function(matrix), 1)


def _indexing(campaign: Campaign, index: Callable[[Tensor, Tensor], Tensor]) -> Figures:
    images = torch.zeros(50_000, 3, 32, 32, dtype=torch.uint8, device=campaign.device)
    chosen = torch.randint(0, len(images), (1024,), device=campaign.device)
    return _milliseconds(lambda: index(images, chosen), campaign.steps or 50)


def memory(campaign: Campaign) -> Iterator[Case]:
    """The largest recipe at several batch sizes."""
    for recipe in campaign.recipes or [LARGEST]:
        for batch in (64, 256, 512):
            yield f"{recipe}, batch {batch}", partial(_cost, campaign, recipe, EAGER, batch, 3)


def profiles(campaign: Campaign) -> Iterator[Case]:
    """Busy time of the device during a step, by kernel."""
    for recipe in campaign.recipes or PROFILED:
        yield recipe, partial(_profile, recipe, campaign)


def _profile(recipe: str, campaign: Campaign) -> Figures:
    step, steps = Steps(recipe, campaign.device), campaign.steps or 4
    for _ in range(steps):
        step()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if campaign.device.type == "cuda" else [])]
    begun = now()
    with profile(activities=activities) as profiler:
        for _ in range(steps):
            step()
        seconds = now() - begun
    kernels = [event for event in profiler.key_averages() if event.device_type.name == "CUDA" and not event.is_user_annotation]
    kernels.sort(key=lambda kernel: kernel.self_device_time_total, reverse=True)
    figures: Figures = {
        "ms with the profiler": 1e3 * seconds / steps,
        "ms busy": sum(kernel.self_device_time_total for kernel in kernels) / 1e3 / steps,
        "kernels": sum(kernel.count for kernel in kernels) / steps,
    }
    most = [f"{kernel.key[:50]} {kernel.self_device_time_total / 1e3 / steps:.2f} ms" for kernel in kernels[:5]]
    return figures | {"longest": "; ".join(most)}


STAGES: dict[str, Callable[[Campaign], Iterator[Case]]] = {
    "correct": correct,
    "speed": speed,
    "graphs": graphs,
    "commands": commands,
    "metrics": metrics,
    "memory": memory,
    "profile": profiles,
}


def main(args: Sequence[str] | None = None) -> int:
    """Run the campaign; return 0, or 2 for bad input."""
    return run_command("benchmark/gpu.py", lambda: measure(list(sys.argv[1:] if args is None else args)))


def make_parser() -> ArgumentParser:
    """Make the parser of all flags."""
    parser = command_line.make_parser("benchmark/gpu.py", "Measure this project on a GPU, stage by stage, within a budget.")
    parser.add_argument("stages", nargs="*", type=str, help=f"one or more of {', '.join(STAGES)}; all by default")
    parser.add_argument("--budget", type=PositiveFloat, default=600.0, help="seconds after which no new case starts")
    parser.add_argument("--output", default="gpu", help="folder of campaign.json; cases that it already has are skipped")
    parser.add_argument("--recipes", default="", help="comma-separated recipes; each stage's own by default")
    parser.add_argument("--steps", type=PositiveInt | None, help="measured steps; each stage's own number by default")
    parser.add_argument("--data", type=str | None, help="folder of the data sets, for the stage commands")
    parser.add_argument("--accelerator", type=Literal["cpu", "gpu"], default="gpu", help="device to measure")
    return parser


def measure(args: Sequence[str]) -> None:
    """Check the flags, run the stages, and print their tables."""
    config = parse(make_parser(), arrange(args))
    stages = config.stages or list(STAGES)
    for name in stages:
        if name not in STAGES:
            raise InputError(f"{name} is not a stage: use one or more of {', '.join(STAGES)}")
    if config.accelerator == "gpu" and not torch.cuda.is_available():
        raise InputError("--accelerator gpu is not available on this machine: use --accelerator cpu")
    if config.data is not None and not Path(config.data).is_dir():
        raise InputError(f"--data {config.data} does not exist: use the folder of the data sets")
    path = Path(config.output, "campaign.json")
    require_writable(path)
    record = _record(path, _machine(config.accelerator))
    campaign = Campaign(
        torch.device("cuda" if config.accelerator == "gpu" else "cpu"),
        record["figures"],
        time.monotonic() + config.budget,
        command_line.recipe_names(config) if config.recipes else None,
        config.steps,
        config.data and str(Path(config.data).absolute()),
    )
    if "graphs" in stages:  # read at the first matrix product: time the stage speed without this one
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    for stage in stages:
        figures = campaign.figures.setdefault(stage, {})
        for case, work in STAGES[stage](campaign):
            if case in figures and "error" not in figures[case]:
                continue
            if campaign.left() <= 0:
                break
            try:
                figures[case] = work()
            except Exception as error:  # one failure must not cost the rest of the budget
                figures[case] = {"error": f"{type(error).__name__}: {one_line(error)[:300]}"}
            print(f"{stage} | {case} | {_text(figures[case])}", flush=True)
            write_record(path, record)
    print(f"\n{record['machine']}")
    for stage, figures in campaign.figures.items():
        print(f"\n{table(stage, figures)}")
    if campaign.left() <= 0:
        print("\nThe budget ended. Run the same command again to measure the rest.")


def _machine(accelerator: str) -> str:
    if accelerator == "cpu":
        return f"CPU, torch {torch.__version__}"
    return f"{torch.cuda.get_device_name()}, torch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}"  # type: ignore[no-untyped-call]


def _record(path: Path, machine: str) -> dict[str, Any]:
    """The record of an earlier campaign, to add to, or a new one.

    Raises:
        InputError: the record is damaged, or of another machine.
    """
    if not path.exists():
        return {"machine": machine, "figures": {}}
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        earlier = record["machine"]
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"--output {path.parent} has a campaign.json that is not a record of a campaign: use another folder"
        ) from error
    if earlier != machine:
        raise InputError(f"--output {path.parent} was measured on {earlier}, but this is {machine}: use another folder")
    return record


def _text(figures: Figures) -> str:
    return ", ".join(f"{name} {_number(value)}" for name, value in figures.items())


def _number(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if abs(value) >= 1000 or float(value).is_integer() else f"{value:.4g}"


def table(stage: str, cases: dict[str, Figures]) -> str:
    """Markdown tables: a row for each case, a column for each figure. Cases without a common figure get separate tables."""
    groups: list[dict[str, Figures]] = []
    for case, figures in cases.items():
        near = (group for group in groups if any(figures.keys() & other.keys() for other in group.values()))
        if (group := next(near, None)) is None:
            groups.append(group := {})
        group[case] = figures
    return "\n\n".join(_rows(stage, group) for group in groups)


def _rows(stage: str, cases: dict[str, Figures]) -> str:
    columns = list(dict.fromkeys(name for figures in cases.values() for name in figures))
    rows = [[stage, *columns], ["---"] * (len(columns) + 1)]
    rows += [[case, *(_number(figures.get(name, "")) for name in columns)] for case, figures in cases.items()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    sys.exit(main())
