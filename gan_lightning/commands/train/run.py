"""Train with the settings, into a run folder."""

import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import LambdaCallback
from lightning.pytorch.callbacks import ModelSummary as LightningModelSummary
from lightning.pytorch.callbacks import ProgressBar as LightningProgressBar
from lightning.pytorch.loggers import TensorBoardLogger

from gan_lightning import checkpoint, files
from gan_lightning.callbacks import GenerativeMetrics, ModelSummary, ProgressBar, StopSignals, TrainingLog
from gan_lightning.commands.common.arguments import dump
from gan_lightning.commands.common.paths import pasted, short_path
from gan_lightning.commands.train.dry_run import dry_run
from gan_lightning.commands.train.fitting import fit
from gan_lightning.commands.train.methods import METHODS
from gan_lightning.commands.train.settings import RECORDED, make_objects, method_of, settings
from gan_lightning.commands.verbs import Verb
from gan_lightning.data import Digits, ImageDataModule
from gan_lightning.errors import Diverged, InputError, one_line
from gan_lightning.home import expanded
from gan_lightning.module import AdversarialModule
from gan_lightning.training.randomness import derived_seed
from gan_lightning.training.runs import run_folder
from gan_lightning.training.strategy import GANStrategy
from gan_lightning.training.trainer import as_list, make_trainer, total_steps

LENGTH = {"max_epochs", "max_steps", "max_time", "roll_back", *RECORDED}
"""Settings that often change when a run is resumed; ``Schedules`` reports it if schedules follow them."""


def train(args: Sequence[str]) -> None:
    """Read the settings, set up, train, and print the paths of the results.

    Raises:
        InputError: a setting, a file or the data is wrong, or the training diverged.
        ProcessLost: one of several processes has died.
        SystemExit: after SIGINT or SIGTERM, with exit code 130 or 143.
    """
    parser = Verb.train.make_parser(method=method_of(args))
    config, resume_from, folder = settings(parser, args)
    if config.dry_run:
        return dry_run(*make_objects(parser, config, resume_from))
    root = expanded(config.trainer.default_root_dir) / "lightning_logs"
    with run_folder(root, folder) as folder:
        advice = "a smaller learning rate, a penalty, or --roll_back true to go back once with other random numbers"
        while True:
            try:
                return _run(parser, config, resume_from, folder)
            except Diverged as error:
                if (resume_from := error.last_checkpoint) is None:
                    raise
                step = checkpoint.load_gan(resume_from)["global_step"]
                if not config.roll_back:
                    earlier = f"{short_path(resume_from)} has the weights of step {step:,}, before the failure"
                    raise Diverged(f"{error}. {earlier}. Try {advice}") from error
                config.seed_everything = derived_seed("roll back", config.seed_everything, step) % 2**32
                config.data.init_args.seed = config.seed_everything
                config.roll_back, advice = False, "a smaller learning rate or a penalty"
                if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
                    print(f"\n{error}\nRolling back to step {step:,}, once, with seed {config.seed_everything}", flush=True)


def _run(parser: ArgumentParser, config: Namespace, resume_from: Path | None, folder: Path) -> None:
    """Train with the settings, into ``folder``."""
    objects, begun_at = make_objects(parser, config, resume_from)
    data: ImageDataModule = objects.data
    model: AdversarialModule = objects.model
    if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
        data.prepare_data()  # report errors early; Lightning calls both again in every process
        data.setup("fit")

    arguments = objects.trainer.as_dict()
    del arguments["default_root_dir"]
    signals = StopSignals()
    own = as_list(arguments.pop("callbacks"))
    has_bar = any(isinstance(callback, LightningProgressBar) for callback in own)
    has_summary = any(isinstance(callback, LightningModelSummary) for callback in own)
    callbacks = [
        *([] if arguments["enable_progress_bar"] is False or has_bar else [ProgressBar()]),
        *([] if arguments["enable_model_summary"] is False or has_summary else [ModelSummary()]),
        signals,
        objects.schedules,
        TrainingLog(),
        LambdaCallback(on_train_start=lambda trainer, _: _write_settings(parser, config, trainer, folder, resume_from)),
        *(objects[section] for section in METHODS[config.method].callbacks),
        *([] if arguments["enable_checkpointing"] is False else [objects.checkpoints]),
        *own,
    ]
    trainer = make_trainer(folder, begun_at=begun_at, callbacks=callbacks, **arguments)
    if trainer.is_global_zero:
        print(f"Training on {trainer.strategy.root_device}, into {short_path(folder)}", flush=True)
        if arguments["strategy"] != "auto" and isinstance(trainer.strategy, GANStrategy):
            print(
                f"--strategy {arguments['strategy']}: using this project's version: it averages each gradient only once",
                flush=True,
            )
    fit(trainer, model, data, resume_from)
    if trainer.is_global_zero:
        _print_summary(trainer, folder, data, objects.get("metrics"), begun_at, interrupted=bool(signals.received))
        if "health" in objects and objects.health.reported:
            print(f"  {'health':<18}{', '.join(objects.health.reported)} (see docs/health.md)")
    if signals.received:
        sys.exit(128 + signals.received)


def _write_settings(
    parser: ArgumentParser, config: Namespace, trainer: Trainer, folder: Path, resume_from: Path | None
) -> None:
    """Write the files that a resumed run needs, before the first checkpoint.

    The files are config.yaml, with all settings of the run, and, if a run continues in a new folder, the checkpoint that it
    resumes from. An older, different config.yaml is kept as config_1.yaml and so on.
    """
    if not trainer.is_global_zero:
        return
    last = folder / "checkpoints" / "last.ckpt"
    if resume_from is not None and trainer.checkpoint_callback is not None and not last.exists():
        with files.write_aside(last) as aside:
            shutil.copyfile(resume_from, aside)
    content = config.clone()
    content.ckpt_path = None
    content.run_length = total_steps(trainer)
    content.pop("config", None)
    for omitted in ("trust", "dry_run"):
        content.pop(omitted)
    try:
        text = dump(parser, content)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: an argument that is no text, number or list
        raise InputError(f"the settings cannot be written as config.yaml: {one_line(error)}") from error
    path = folder / "config.yaml"
    if path.is_file() and (earlier := path.read_text(encoding="utf-8")) != text:
        changed = sorted(_differences(yaml.safe_load(earlier), yaml.safe_load(text)) - LENGTH)
        if changed:
            print(f"Settings that differ from the earlier run: {', '.join(changed)}", flush=True)
        files.keep_copy(path)
    with files.write_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def _differences(one: Any, other: Any, name: str = "") -> set[str]:
    """Collect the dotted names of the settings that differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        parts = (_differences(one.get(key), other.get(key), f"{name}.{key}".lstrip(".")) for key in one.keys() | other.keys())
        return set().union(*parts)
    return set() if one == other else {name.replace(".init_args", "").removeprefix("trainer.")}


def _print_summary(
    trainer: Trainer, folder: Path, data: ImageDataModule, metrics: GenerativeMetrics | None, begun_at: int, interrupted: bool
) -> None:
    """Print the number of steps, the paths of pictures, checkpoint and curves, and how to continue."""
    state = "Interrupted" if interrupted else "Done"
    print(f"\n{state}: {trainer.global_step - begun_at:,} generator updates, {trainer.global_step:,} in total")
    if begun_at == trainer.global_step:
        print("  nothing was left to train: use a larger --max_epochs or --max_steps (or --max_time; it includes earlier runs)")
    lines = {
        "image grid": folder / "images" / f"step_{trainer.global_step:08d}.png",
        "checkpoint": folder / "checkpoints" / "last.ckpt",
    }
    if any(isinstance(logger, TensorBoardLogger) for logger in trainer.loggers):
        lines["TensorBoard logs"] = folder
    for name, path in lines.items():
        if path.exists():
            print(f"  {name:<18}{short_path(path)}")
    best = folder / "checkpoints" / "best.ckpt"
    if metrics is not None and metrics.best_step >= 0 and best.exists():
        quality = f"{metrics.best_name} {metrics.best_value:.4g} at step {metrics.best_step:,}"
        print(f"  {'best checkpoint':<18}{short_path(best)} ({quality})")
    python = Path(sys.executable)
    called = Path(sys.argv[0])
    script = f"{pasted(python)} {pasted(called)}" if called.suffix == ".py" else shlex.quote(sys.argv[0])
    if "TensorBoard logs" in lines:
        print(f"  {'see the curves':<18}{pasted(python.with_name('tensorboard'))} --logdir {pasted(folder.parent)}")
    if called.stem in ("compare", "gan-lightning-compare"):
        return  # the run continues automatically
    if interrupted:
        root = folder.parent.parent
        where = "" if root.absolute() == Path.cwd() else f" --default_root_dir {pasted(root)}"
        print(f"  {'resume':<18}{script} --ckpt_path last{where}{_trust(data, trainer.lightning_module)}")
    elif isinstance(data, Digits):
        print(f"  {'train on MNIST':<18}{script} --config {METHODS[checkpoint.GAN].recipe}")


def _trust(data: ImageDataModule, model: Any) -> str:
    """Write the flag ``--trust`` with which the custom classes can be imported again."""
    modules = {type(part).__module__.partition(".")[0] for part in (data, model.loss, *model.modules())} - {
        "gan_lightning",
        "torch",
    }
    return f" --trust {','.join(sorted(modules))}" if modules else ""
