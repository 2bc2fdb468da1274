"""Train and measure rows; write a table, a record and a picture."""

import hashlib
import json
import re
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

import torch
from jsonargparse import Namespace

from gan_lightning import inference
from gan_lightning.checkpoint import GAN, load_gan
from gan_lightning.commands.common.devices import find_device
from gan_lightning.commands.common.records import versions, write_record
from gan_lightning.commands.train.run import train
from gan_lightning.commands.train.settings import make_objects, method_of, settings
from gan_lightning.commands.train.trial import timed_trial
from gan_lightning.commands.verbs import Verb
from gan_lightning.data import ImageDataModule
from gan_lightning.errors import Diverged, InputError
from gan_lightning.files import write_aside
from gan_lightning.metrics.evaluator import Sample
from gan_lightning.metrics.measurement import Measurement, RealImages
from gan_lightning.pictures import grid, write_png
from gan_lightning.training.runs import last_checkpoint

SHOWN = 20
"""Number of samples of each row in the picture."""
TIMED = 50
"""Number of timed generator updates, to compute how many fit into ``--max_time``."""
REAL = "real test images"

Flags = dict[str, str]
"""Flags of train.py, without their dashes, and their values."""

LOSSES = (
    "MinimaxLoss",
    "NonSaturatingLoss",
    "LeastSquaresLoss",
    "HingeLoss",
    "WassersteinLoss",
    "RelativisticPairingLoss",
    "RelativisticAverageLoss",
)


def _penalties(*names: str, **arguments: Any) -> Flags:
    return {"model.penalty": json.dumps([{"class_path": name, "init_args": arguments} for name in names])}


PENALTIES: dict[str, Flags] = {
    "no penalty": {"model.penalty": "null"},
    "R1": _penalties("R1"),
    "R1 at every 4th update": _penalties("R1", every=4),
    "R2": _penalties("R2"),
    "R1 and R2": _penalties("R1", "R2"),
    "WGANGP": _penalties("WGANGP"),
    "DRAGAN": _penalties("DRAGAN"),
    "LeCam": _penalties("LeCam"),
    "LeCam and R1": _penalties("LeCam", "R1"),
}
"""No penalty, every penalty with its default weight, and some combinations -> the flags."""


class Row(NamedTuple):
    """One row of the table: a recipe, and the flags that change it."""

    name: str
    recipe: str
    flags: Flags


def compare_runs(config: Namespace) -> None:
    """Train and measure the rows that are not in the folder yet; write the table, the record and the picture."""
    names, seeds, output = config.recipes, config.seeds, Path(config.output)
    data = _data(names, config.data)
    name, device = config.extractor or data.extractor, find_device(config.accelerator)
    real, num_test = RealImages.of(data, "train"), data.num_images("test")
    measurement = Measurement(name, data, device, real, data.image_shape, config.metrics, config.num_images)
    measurement.prepare()
    baselines: dict[str, Sample] = {
        REAL: lambda indices: data.images_at("test", indices % num_test)[0],
        "one test image, repeated": lambda indices: data.images_at("test", torch.zeros_like(indices))[0],
    }
    counts = {REAL: min(num_test, config.num_images)}
    results = {name: [measurement.evaluate(sample, counts.get(name, config.num_images))] for name, sample in baselines.items()}
    pictures = {name: sample(torch.arange(SHOWN)) for name, sample in baselines.items()}
    updates: dict[str, int] = {}
    for row in make_rows(names, config.vary):
        folders = [output / _folder(row.name) / f"seed_{seed}" for seed in seeds]
        runs = [_run(row, seed, config, measurement, folder) for seed, folder in zip(seeds, folders, strict=True)]
        results[row.name] = [run["values"] for run in runs]
        updates[row.name] = runs[0]["max_steps"]
        drawn = (folder / run["checkpoint"] for run, folder in zip(runs, folders, strict=True) if _is_whole(run))
        if path := next(drawn, None):
            pictures[row.name] = _sampler(path, measurement, seeds[0])(torch.arange(SHOWN)).cpu()
    distance = measurement.names()["fid"]
    order = sorted(results, key=lambda name: (name != REAL, _mean_and_deviation(results[name], distance)[0]))
    results = {name: results[name] for name in order}
    described = {"recipes": names, "vary": config.vary, "seeds": seeds, "data": config.data}
    described |= {"max_time": None if config.max_steps else config.max_time, "max_steps": updates}
    write_record(output / "compare.json", {"metrics": results, "protocol": {**_settings(measurement), **described}})
    table = make_table(results)
    with write_aside(output / "compare.md") as aside:
        aside.write_text(table, encoding="utf-8")
    write_png(grid(torch.cat([pictures[name] for name in order if name in pictures]), SHOWN), output / "compare.png")
    print(f"\n{table}\n  table, record and picture: {output}/compare.md, .json, .png (samples of each row, in this order)")


def _settings(measurement: Measurement) -> dict[str, Any]:
    """List all that the values depend on, as JSON gives it back, to compare with records."""
    settings: dict[str, Any] = json.loads(json.dumps({**measurement.protocol(), "versions": versions()}))
    return settings


def _sampler(checkpoint: Path, measurement: Measurement, seed: int) -> Sample:
    """Make the function that maps indices to samples of a checkpoint, with classes as frequent as in the real images."""
    sampler: inference.Sampler = inference.load(checkpoint, device=measurement.device)
    return sampler.by_index(measurement.class_counts, seed)


def make_rows(names: Sequence[str], vary: str) -> list[Row]:
    """List the rows to train: each recipe, as it is or with other losses and penalties."""
    rows = []
    for name in names:
        prefix = "" if len(names) == 1 else f"{name}, "
        losses: dict[str, Flags] = {loss: {"model.loss": loss} for loss in LOSSES}
        variants: dict[str, dict[str, Flags]] = {
            "nothing": {name: {}},
            "losses_and_penalties": losses | PENALTIES,
            "product": {f"{loss}, {text}": own | flags for loss, own in losses.items() for text, flags in PENALTIES.items()},
        }
        rows += [Row(name if vary == "nothing" else prefix + text, name, flags) for text, flags in variants[vary].items()]
    return rows


def make_table(results: dict[str, list[dict[str, Any]]]) -> str:
    """Write the values as a Markdown table: for each source, the mean and standard deviation over its runs.

    A value of fewer images than in the other rows shows its number of images in brackets.
    """
    names = dict.fromkeys(name for runs in reversed(results.values()) for values in runs for name in values)
    columns: dict[str, str] = {}
    for name in ("updates", "seconds", *names):
        if name in names and name != "diverged" and not name.endswith("_std"):
            columns.setdefault(_metric(name), name)
    lines = [f"| | {' | '.join(columns.values())} |", "|---" * (len(columns) + 1) + "|"]
    for source, runs in results.items():
        failed = sum("diverged" in values for values in runs)
        name = source if not failed else f"{source} ({failed} of {len(runs)} diverged)"
        lines.append(f"| {name} | {' | '.join(_cell(runs, column) for column in columns.values())} |")
    return "\n".join(lines) + "\n"


def _metric(name: str) -> str:
    """Remove the number of images from the name of a value."""
    return re.sub(r"_\d+k?$", "", name)


def _cell(runs: list[dict[str, Any]], column: str) -> str:
    name = next((name for run in runs for name in run if _metric(name) == _metric(column)), column)
    average, deviation = _mean_and_deviation(runs, name)
    if average == float("inf"):
        return ""
    text = f"{average:,.0f}" if column in ("updates", "seconds") else f"{average:.4g}"
    of = "" if name == column else f" ({name.rpartition('_')[2]})"
    return (f"{text} ± {deviation:.2g}" if deviation else text) + of


def _mean_and_deviation(runs: list[dict[str, Any]], column: str) -> tuple[float, float]:
    """Compute mean and standard deviation over the runs that have the value; infinite if none has it."""
    values = [run[column] for run in runs if column in run]
    if not values:
        return float("inf"), 0.0
    return mean(values), stdev(values) if len(values) > 1 else 0.0


def _run(row: Row, seed: int, config: Namespace, measurement: Measurement, folder: Path) -> dict[str, Any]:
    """Train and measure what is missing of one run, and return its record.

    Raises:
        InputError: training fails, or the run in the folder was trained with other settings.
    """
    path = folder / "trained.json"
    request = _request(row, config)
    if path.is_file():
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if other := _difference(record, request):
            raise InputError(
                f"{folder}: was trained with other settings ({other}): use another --output, or remove this folder"
            )
        print(f"{row.name}, seed {seed}, is trained already: {folder / str(record['checkpoint'])}")
    else:
        record = {**request, "seed": seed, **_train(row, seed, request, folder)}
        write_record(path, record)
    if _is_whole(record) and record.get("settings") != _settings(measurement):
        print(f"Measuring {row.name}, seed {seed}", flush=True)
        trained = {name: record["values"][name] for name in ("updates", "seconds")}
        try:
            sample = _sampler(folder / record["checkpoint"], measurement, seed)
            record["values"] = {**trained, **measurement.evaluate(sample, config.num_images)}
            record["settings"] = _settings(measurement)
        except Diverged:
            record["values"] = {**trained, "diverged": True}
        write_record(path, record)
    return record


def _is_whole(record: dict[str, Any]) -> bool:
    """Check if a run ended with finite samples."""
    return "diverged" not in record["values"]


def _request(row: Row, config: Namespace) -> dict[str, Any]:
    """Describe the shared settings of a row's runs: the flags of train.py, the budget, and a hash of the recipe.

    Raises:
        InputError: a flag is wrong.
    """
    flags = {
        "config": row.recipe,
        "max_epochs": "-1",
        "accelerator": config.accelerator,
        "devices": "1",
        "metrics.extractor": "none",
        **row.flags,
    }
    words = [*(word for flag, value in flags.items() for word in (f"--{flag}", value)), *config.data]
    parser = Verb.train.make_parser(method=method_of(words))
    resolved = parser.dump(settings(parser, words)[0], skip_unset=False)
    budget = {"max_steps": str(config.max_steps)} if config.max_steps else {"max_time": config.max_time}
    return {"flags": words, "budget": budget, "training_sha256": hashlib.sha256(resolved.encode()).hexdigest()}


def _difference(record: dict[str, Any], request: dict[str, Any]) -> str:
    """Describe the training of a record's run if it differs from the request; otherwise return an empty text."""
    theirs = {name: record.get(name) for name in request}
    if theirs == request:
        return ""
    if theirs | {"training_sha256": None} == request | {"training_sha256": None}:
        return "its recipe, or a default, has changed"
    budget = (f"--{flag} {value}" for flag, value in (theirs["budget"] or {}).items())
    return " ".join([*(theirs["flags"] or []), *budget])


def _train(row: Row, seed: int, request: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Train and return the result.

    Raises:
        InputError: training was refused.
    """
    words, budget = [*request["flags"], "--seed_everything", str(seed)], request["budget"]
    begun, steps = time.perf_counter(), None
    try:
        steps = int(budget["max_steps"]) if "max_steps" in budget else _steps_that_fit(row, request, folder.parent)
        print(f"Training {row.name}, seed {seed}, for {steps:,} updates", flush=True)
        begun = time.perf_counter()
        train([*words, "--max_steps", str(steps), "--default_root_dir", str(folder)])
    except Diverged:
        values = {"seconds": round(time.perf_counter() - begun, 1), "diverged": True}
        return {"checkpoint": None, "max_steps": steps, "values": values}
    except InputError as error:
        raise InputError(f"{row.name} was not trained into {folder} ({' '.join(words)}): {error}") from error
    seconds = round(time.perf_counter() - begun, 1)
    path = last_checkpoint(folder / "lightning_logs")
    values = {"updates": load_gan(path)["global_step"], "seconds": seconds}
    return {"checkpoint": str(path.relative_to(folder)), "max_steps": steps, "values": values}


def _steps_that_fit(row: Row, request: dict[str, Any], folder: Path) -> int:
    """Time :data:`TIMED` updates, once for all seeds, and compute how many fit into ``--max_time``.

    The folder keeps the result. With a number of steps instead of a time, schedules that end with the run finish.

    Raises:
        InputError: training would fail.
    """
    path = folder / "timed.json"
    if path.is_file() and not _difference(record := json.loads(path.read_text(encoding="utf-8")), request):
        return int(record["max_steps"])
    print(f"Timing {TIMED} updates of {row.name}", flush=True)
    words = [*request["flags"], "--max_steps", "-1", "--max_time", request["budget"]["max_time"]]
    parser = Verb.train.make_parser(method=method_of(words))
    objects, _ = make_objects(parser, settings(parser, words)[0])
    arguments = objects.trainer.as_dict()
    del arguments["default_root_dir"]
    cost = timed_trial(objects.model, objects.data, objects.schedules, arguments, TIMED)
    steps = max(1, cost.run_steps(0))
    write_record(path, {**request, "step_seconds": cost.step_seconds, "max_steps": steps})
    return steps


def _folder(name: str) -> str:
    """Turn the name of a row into the name of a folder."""
    return name.replace(", ", "+").replace(" ", "_")


def _data(names: Sequence[str], flags: Sequence[str]) -> ImageDataModule:
    """Make the data set of all the recipes, with the changes of the flags ``--data.X``.

    Raises:
        InputError: the recipes have different data sets, or one of them is for translation.
    """
    for name in names:
        if (method := method_of(["--config", name])) != GAN:
            raise InputError(f"--recipes {name} trains {method}, but compare.py compares GANs: use recipes for a GAN")
    parser = Verb.train.make_parser()
    configs = [settings(parser, ["--config", name, *flags])[0] for name in names]
    if len({config.data.class_path for config in configs}) != 1:
        raise InputError(f"--recipes {','.join(names)}: they are for different data sets. Use recipes for one")
    data: ImageDataModule = parser.instantiate(configs[0]).data
    data.prepare_data()
    return data
