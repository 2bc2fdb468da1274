"""``train --dry_run``: inspect the data, make a few steps, draw what the discriminator sees, and report the cost of a run."""

import warnings

import torch
from jsonargparse import Namespace
from lightning.fabric.utilities.rank_zero import rank_zero_only
from torch import nn

from gan_lightning.commands.common.paths import short_path
from gan_lightning.commands.train.data_report import Rows, report_on
from gan_lightning.commands.train.preview import Preview, write_picture
from gan_lightning.commands.train.trial import Cost, timed_trial
from gan_lightning.data import ImageDataModule
from gan_lightning.errors import InputError
from gan_lightning.home import expanded
from gan_lightning.module import AdversarialModule, TwoNetworks
from gan_lightning.units import bytes_text, duration

LONG_SECONDS = 24 * 3600  # seconds


def dry_run(objects: Namespace, begun_at: int) -> None:
    """Print a report, and write ``lightning_logs/dry_run.png``.

    Args:
        objects: the objects of the settings: ``data``, ``model``, ``schedules``, and the arguments of ``trainer``.
        begun_at: steps that a resumed run has already made.

    Raises:
        InputError: training would fail; the facts found so far are printed first.
    """
    data: ImageDataModule = objects.data
    model: AdversarialModule = objects.model
    arguments = objects.trainer.as_dict()
    path = expanded(arguments.pop("default_root_dir")) / "lightning_logs" / "dry_run.png"
    refused = _read(data)
    report = report_on(data, model)
    _section(f"Data: {type(data).__name__}", report.contents)
    _section("Preprocessing", report.preprocessing)
    _section("Networks", _networks(model, data))
    preview = Preview()
    try:
        cost = timed_trial(model, data, objects.schedules, arguments, callbacks=[preview])
    except InputError as error:  # print the facts found so far
        _section("Suggestions", _numbered([*report.suggestions, *([] if refused is None else [str(refused)])]))
        raise error
    seconds = cost.run_steps(begun_at) * cost.step_seconds
    if seconds > LONG_SECONDS and cost.device.type == "cpu":
        report.suggestions.append(f"{duration(seconds)} is long: use --accelerator gpu, narrower networks, or smaller images")
    end = begun_at + cost.run_steps(begun_at)
    if cost.total is not None and end < cost.total and objects.schedules.without_steps:
        report.suggestions.append(
            f"--max_time ends the run near update {end:,} of {cost.total:,}, before the schedules end: add --max_steps {end}"
        )
    _section("Memory", _memory(model, data, cost))
    _section("Time", _time(cost, begun_at, seconds))
    if preview.picture is not None:
        write_picture(preview.picture, path)
        _section("Picture", [(short_path(path), preview.description)])
    _section("Suggestions", _numbered(report.suggestions))
    if refused is not None:
        raise refused
    objects.schedules.require_length(cost.total, str(end))
    _print(f"Training would take about {duration(seconds)}. Nothing but the picture was saved.")


def _read(data: ImageDataModule) -> InputError | None:
    """Read the images, without corrupt files; return the error that training would raise for the corrupt ones.

    Raises:
        InputError: no image is left.
    """
    try:
        data.prepare_data()
        data.setup("fit")
    except InputError as error:
        corrupt = [folder for folder in data.folders if folder.corrupt("train")]
        if not corrupt:
            raise
        for folder in corrupt:
            folder.skip_corrupt = True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the report lists them
            data.setup("fit")
        return error
    return None


def _networks(model: AdversarialModule, data: ImageDataModule) -> Rows:
    rows: Rows = []
    for name in (*model.generators, *model.discriminators):
        network = getattr(model, name)
        count = sum(parameter.numel() for parameter in network.parameters())
        rows.append((name.replace("_", " "), f"{type(network).__name__}, {count:,} parameters"))
    parts: list[object] = [model, model.loss]
    if isinstance(model, TwoNetworks):
        parts += [*model.penalties, *(part for part in (model.constraint, model.augmentation) if part is not None)]
    rows.append(("method", ", ".join(type(part).__name__ for part in parts)))
    steps = getattr(model, "discriminator_steps", 1)
    return [*rows, ("a step", f"{steps} x D and 1 x G, each on {data.batch_size} images per process")]


def _memory(model: AdversarialModule, data: ImageDataModule, cost: Cost) -> Rows:
    sizes = {
        "weights": sum(_bytes(getattr(model, name)) for name in (*model.generators, *model.discriminators)),
        "average": sum(_bytes(average) for _, average in model.averages()),
        "optimizers": cost.optimizer_bytes,
    }
    parts = ", ".join(f"{name} {bytes_text(size)}" for name, size in sizes.items() if size)
    if cost.device.type == "cuda":
        all_of_it = torch.cuda.get_device_properties(cost.device).total_memory
        peak = f"{bytes_text(cost.peak_bytes)} of the {bytes_text(all_of_it)} of {cost.device}"
    elif not cost.peak_bytes:
        peak = "not counted by this system"
    else:
        peak = f"{bytes_text(cost.peak_bytes)}, for the process with all its libraries"
    return [("networks", parts), ("peak", peak)]


def _bytes(network: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in network.state_dict().values())


def _time(cost: Cost, begun_at: int, seconds: float) -> Rows:
    steps = cost.run_steps(begun_at)
    if not cost.steps:
        return [("the run", f"{steps:,} steps: nothing is left to train. Use a larger --max_steps or --max_epochs")]
    rate = cost.step_images / cost.step_seconds
    of = f"on {cost.device}, the mean of {cost.steps} after {cost.warm_up} of warm-up"
    return [
        ("a step", f"{cost.step_seconds * 1000:,.1f} ms, {rate:,.0f} images a second ({of})"),
        ("an epoch", f"{cost.epoch_steps:,} steps, {duration(cost.epoch_steps * cost.step_seconds)}"),
        ("the run", f"{steps:,} steps, {duration(seconds)}, without the time for metrics, grids and checkpoints"),
    ]


def _numbered(hints: list[str]) -> Rows:
    return [(f"{number}.", hint) for number, hint in enumerate(hints, 1)]


def _section(title: str, rows: Rows) -> None:
    if rows:
        wide = max(len(name) for name, _ in rows) + 2
        _print("\n".join([title, *(f"  {name:<{wide}}{text}" for name, text in rows), ""]))


@rank_zero_only
def _print(text: str) -> None:
    print(text, flush=True)
