"""Train a GAN.

python scripts/train.py --accelerator gpu
python scripts/train.py --config digits
python scripts/train.py --config dcgan_cifar10 --max_epochs 5 --data.batch_size 128
python scripts/train.py --ckpt_path last --max_epochs 40
python scripts/train.py --config folder_64 --data.root my_photos --dry_run
"""

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import restricted_number_type
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import LambdaCallback
from lightning.pytorch.loggers import TensorBoardLogger

import gan_lightning.networks  # noqa: F401  (so that their short names are known)
from gan_lightning import checkpoint
from gan_lightning.callbacks import (
    Checkpoints,
    GenerativeMetrics,
    HealthMonitor,
    ImageGrid,
    ProgressBar,
    Schedules,
    StopSignals,
    TrainingLog,
)
from gan_lightning.commands.arguments import (
    arrange,
    config_path,
    given,
    instantiate,
    parse,
    read_settings,
    run_command,
)
from gan_lightning.commands.dry_run import dry_run
from gan_lightning.commands.fitting import fit
from gan_lightning.commands.trust import check_imports, trusted_modules
from gan_lightning.data import Digits, ImageDataModule
from gan_lightning.errors import Diverged, InputError, one_line
from gan_lightning.gan import ADAM, GAN
from gan_lightning.lookup import bundled
from gan_lightning.networks.base import load_weights
from gan_lightning.randomness import derived_seed
from gan_lightning.trainer import LoggerName, as_list, keep_copy, last_checkpoint, make_trainer, run_folder, total_steps

DEFAULT_RECIPE = "dcgan_mnist"
LINKED = {
    "data.seed": "seed_everything",
    "model.generator.image_shape": "data.image_shape",
    "model.generator.num_classes": "data.num_classes",
    "model.discriminator.image_shape": "data.image_shape",
    "model.discriminator.num_classes": "data.num_classes",
}
"""What follows another setting -> that setting."""
RECORDED = {"run_length": "max_steps, max_epochs and the data"}
"""What only ``config.yaml`` says, and no run reads -> what it follows."""
LENGTH = {"max_epochs", "max_steps", "max_time", "roll_back", *RECORDED}
"""Settings that a resumed run often has others of; if schedules follow them, ``Schedules`` reports it."""
Seed = restricted_number_type("Seed", int, [(">=", 0), ("<=", 2**32 - 1)])


def main(args: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 0, or 2 for bad input."""
    sys.path.append(str(Path.cwd()))  # classes of one's own are named by module and class
    return run_command("train", lambda: train(list(sys.argv[1:] if args is None else args)))


def make_parser() -> ArgumentParser:
    """All that can be said on the command line or in a recipe."""
    parser = ArgumentParser(
        prog="train",
        description="Train a GAN. Every --trainer.X is also --X; flags win over files, files over defaults.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument("--config", action="config", help="a recipe that ships, by name, or the path of a YAML file")
    parser.add_argument("--seed_everything", type=Seed, default=0, help="the seed of all random numbers of the run")
    parser.add_argument("--ckpt_path", type=str | None, help="resume from a checkpoint, or from 'last', the newest run's")
    parser.add_argument(
        "--roll_back", type=bool, default=False, help="where the training diverges, go back once, with other random numbers"
    )
    parser.add_argument("--init_from", type=str | None, help="begin with the weights of a checkpoint, and nothing else of it")
    parser.add_argument("--dry_run", action="store_true", help="say what would be done, and how long it takes; then end")
    parser.add_argument("--trust", default="", help="modules of one's own, a,b, that the config.yaml of a checkpoint may name")
    parser.add_argument(
        "--run_length",
        type=int | None,
        help="a record in config.yaml: generator updates of the whole run, over which schedules without steps run",
    )
    parser.add_class_arguments(Trainer, "trainer", skip={"logger", "default_root_dir"}, instantiate=False)
    parser.add_argument("--trainer.logger", type=LoggerName | list[LoggerName] | bool, default="tensorboard", help="what logs")
    parser.add_argument("--trainer.default_root_dir", default=".", help="runs lie in lightning_logs/version_N below it")
    parser.add_argument("--data", type=ImageDataModule, help="where the images come from")
    parser.add_class_arguments(GAN, "model")
    parser.add_class_arguments(ImageGrid, "image_grid")
    parser.add_class_arguments(Checkpoints, "checkpoints")
    parser.add_class_arguments(GenerativeMetrics, "metrics")
    parser.add_class_arguments(HealthMonitor, "health")
    parser.add_class_arguments(Schedules, "schedules")
    for name, source in LINKED.items():
        owner, _, attribute = name.rpartition(".")
        when = "parse" if source == "seed_everything" else "instantiate"
        parser.link_arguments(source, f"{owner}.init_args.{attribute}", apply_on=when)
    default_optimizer = {"class_path": "torch.optim.Adam", "init_args": ADAM}
    parser.set_defaults(
        {
            "data": "MNIST",
            "model.generator": "DCGANGenerator",
            "model.discriminator": "DCGANDiscriminator",
            "model.loss": "NonSaturatingLoss",
            "model.generator_optimizer": default_optimizer,
            "model.discriminator_optimizer": default_optimizer,
        }
    )
    return parser


def train(args: Sequence[str]) -> None:
    """Read the settings, set up, train, and say where everything lies.

    Raises:
        InputError: a setting, a file or the data is not what it should be; or the training diverged.
        ProcessLost: one of several processes has died.
        SystemExit: after SIGINT or SIGTERM, with exit code 130 or 143.
    """
    parser = make_parser()
    config, resume_from, folder = settings(parser, args)
    if config.dry_run:
        return dry_run(*make_objects(parser, config, resume_from))
    root = Path(config.trainer.default_root_dir).expanduser() / "lightning_logs"
    with run_folder(root, folder) as folder:
        ways = "a smaller learning rate, a penalty, or --roll_back true, which goes back once with other random numbers"
        while True:
            try:
                return _run(parser, config, resume_from, folder)
            except Diverged as error:
                if (resume_from := error.last_checkpoint) is None:
                    raise
                step = checkpoint.load_gan(resume_from)["global_step"]
                if not config.roll_back:
                    raise Diverged(f"{error}; {_shown(resume_from)} is of step {step:,}, before that: try {ways}") from error
                config.seed_everything = derived_seed(config.seed_everything, step) % 2**32
                config.data.init_args.seed = config.seed_everything
                config.roll_back, ways = False, "a smaller learning rate or a penalty"
                if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
                    print(f"\n{error}\nGoing back to step {step:,}, once, with seed {config.seed_everything}", flush=True)


def make_objects(parser: ArgumentParser, config: Namespace, resume_from: Path | None = None) -> tuple[Namespace, int]:
    """The objects that the settings describe, and how many steps they have behind them; a misfit is said before all else."""
    seed_everything(config.seed_everything, verbose=False)
    objects = instantiate(parser, config)
    begun_at = 0
    if resume_from is not None:
        content = checkpoint.load_gan(resume_from)
        checkpoint.require_resumable(content, resume_from)
        objects.model.on_load_checkpoint(content)
        begun_at = content["global_step"]
    elif config.init_from:
        init_from(objects.model, config.init_from)
    return objects, begun_at


def _run(parser: ArgumentParser, config: Namespace, resume_from: Path | None, folder: Path) -> None:
    """Train into ``folder`` as the settings say."""
    objects, begun_at = make_objects(parser, config, resume_from)
    data: ImageDataModule = objects.data
    model: GAN = objects.model
    if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
        data.prepare_data()  # what is wrong is said at once; Lightning calls both again, in every process and in their order
        data.setup("fit")

    arguments = objects.trainer.as_dict()
    del arguments["default_root_dir"]
    signals = StopSignals()
    callbacks = [
        *([] if arguments["enable_progress_bar"] is False else [ProgressBar()]),
        signals,
        objects.schedules,
        TrainingLog(),
        LambdaCallback(on_train_start=lambda trainer, _: _begin(parser, config, trainer, folder, resume_from)),
        objects.image_grid,
        objects.metrics,
        objects.health,
        *([] if arguments["enable_checkpointing"] is False else [objects.checkpoints]),
        *as_list(arguments.pop("callbacks")),
    ]
    trainer = make_trainer(folder, begun_at=begun_at, callbacks=callbacks, **arguments)
    if trainer.is_global_zero:
        print(f"Training on {trainer.strategy.root_device}; everything of this run goes to {_shown(folder)}", flush=True)
    fit(trainer, model, data, resume_from)
    if trainer.is_global_zero:
        _say_where(trainer, folder, data, objects.metrics, begun_at, interrupted=bool(signals.received))
        if objects.health.told:
            print(f"  {'not well':<18}{', '.join(objects.health.told)}: docs/health.md says what these mean")
    if signals.received:
        sys.exit(128 + signals.received)


def settings(parser: ArgumentParser, args: Sequence[str]) -> tuple[Namespace, Path | None, Path | None]:
    """The settings, the checkpoint to resume from, and the folder to go on in (None is a new one)."""
    short = [action.dest.removeprefix("trainer.") for action in parser._actions if action.dest.startswith("trainer.")]
    groups = arrange(args, "trainer", short)
    for name, source in (LINKED | RECORDED).items():
        if given(groups, name) is not None:
            raise InputError(f"--{name}: follows {source} and is not set by hand")
    ckpt_path, weights = given(groups, "ckpt_path"), given(groups, "init_from")
    if ckpt_path and weights:
        raise InputError(f"--ckpt_path {ckpt_path} and --init_from {weights}: give one of the two")
    if given(groups, "config") is None:
        used, _ = _resume_from(ckpt_path, given(groups, "trainer.default_root_dir") or ".")
        used = used or (Path(weights) if weights else None)
        own = used and used.parent.parent / "config.yaml"
        recipe = config_path(DEFAULT_RECIPE)
        if own and own.is_file():
            check_imports(own, read_settings(str(own)), trusted_modules(given(groups, "trust") or ""))
            recipe = str(own)
        elif used and os.path.isfile(used):  # noqa: PTH113  (which also stands names that are too long)
            raise InputError(f"{own}: no such file, so it is not known how {used} was trained; name its recipe by --config")
        groups = [["--config", recipe], *groups]
    config = parse(parser, groups, "trainer")
    for flag in ("ckpt_path", "init_from"):
        if config[flag] in bundled() and not Path(config[flag]).exists():
            raise InputError(
                f"--{flag} {config[flag]}: a bundled generator has no discriminator; give a checkpoint of train.py"
            )
    penalties = config.model.penalty
    one_argument = next((group[0] for group in groups if group[0].startswith("--model.penalty.")), None)
    if one_argument and isinstance(penalties, list) and len(penalties) > 1 and given(groups, "model.penalty") is None:
        raise InputError(
            f"{one_argument}: there are {len(penalties)} penalties, and it is not said which; write the list anew, such as "
            "--model.penalty null --model.penalty+=R1 --model.penalty.gamma 0.3 --model.penalty+=R2 --model.penalty.gamma 0.3"
        )
    return config, *_resume_from(config.ckpt_path, config.trainer.default_root_dir)


def _resume_from(ckpt_path: str | None, root: str) -> tuple[Path | None, Path | None]:
    """The checkpoint that ``--ckpt_path`` means, and for 'last' the folder of its run, which goes on there."""
    if not ckpt_path:
        return None, None
    if ckpt_path == "last":
        path = last_checkpoint(Path(root).expanduser() / "lightning_logs")
        return path, path.parent.parent
    return Path(ckpt_path), None


def init_from(model: GAN, path: str) -> None:
    """Copy the weights of a checkpoint into a new model, and into its average those of the checkpoint's sampler.

    Raises:
        InputError: there is no such checkpoint, or its networks are of other classes or shapes.
    """
    content = checkpoint.load_gan(path)
    weights = content["state_dict"]
    load_weights(model.generator, weights, "generator.", path)
    load_weights(model.discriminator, weights, "discriminator.", path)
    if model.ema is not None:
        load_weights(model.ema, weights, "ema." if content[checkpoint.KEY]["ema"] else "generator.", path)


def _begin(parser: ArgumentParser, config: Namespace, trainer: Trainer, folder: Path, resume_from: Path | None) -> None:
    """Put into the folder what any checkpoint in it needs, before the first one is written.

    That is config.yaml, which repeats the run; one that differs is kept as config_1.yaml and so on. And, where a run goes on in
    a new folder, the checkpoint that it goes on from.
    """
    if not trainer.is_global_zero:
        return
    last = folder / "checkpoints" / "last.ckpt"
    if resume_from is not None and trainer.checkpoint_callback is not None and not last.exists():
        with checkpoint.write_aside(last) as aside:
            shutil.copyfile(resume_from, aside)
    content = config.clone()
    content.ckpt_path = None
    content.run_length = total_steps(trainer)
    content.pop("config", None)
    for said_anew in ("trust", "dry_run"):
        content.pop(said_anew)
    try:
        text = parser.dump(content, skip_unset=False)
    except yaml.YAMLError as error:
        raise InputError(f"config.yaml cannot be written: {one_line(error)}") from error
    path = folder / "config.yaml"
    if path.is_file() and (earlier := path.read_text(encoding="utf-8")) != text:
        changed = sorted(_differences(yaml.safe_load(earlier), yaml.safe_load(text)) - LENGTH)
        if changed:
            print(f"Resumed with other settings than before: {', '.join(changed)}", flush=True)
        keep_copy(path)
    with checkpoint.write_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def _differences(one: Any, other: Any, name: str = "") -> set[str]:
    """The dotted names of the settings that differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        parts = (_differences(one.get(key), other.get(key), f"{name}.{key}".lstrip(".")) for key in one.keys() | other.keys())
        return set().union(*parts)
    return set() if one == other else {name.replace(".init_args", "").removeprefix("trainer.")}


def _say_where(
    trainer: Trainer, folder: Path, data: ImageDataModule, metrics: GenerativeMetrics, begun_at: int, interrupted: bool
) -> None:
    """What was done, where its pictures, checkpoint and curves lie, and how to go on."""
    state = "Interrupted" if interrupted else "Done"
    print(f"\n{state}: {trainer.global_step - begun_at:,} generator updates, {trainer.global_step:,} in all")
    if begun_at == trainer.global_step:
        print(
            "  nothing was left to train: give a larger --max_epochs or --max_steps (or --max_time, which counts the whole run)"
        )
    lines = {
        "image grid": folder / "images" / f"step_{trainer.global_step:08d}.png",
        "checkpoint": folder / "checkpoints" / "last.ckpt",
    }
    if any(isinstance(logger, TensorBoardLogger) for logger in trainer.loggers):
        lines["TensorBoard logs"] = folder
    for name, path in lines.items():
        if path.exists():
            print(f"  {name:<18}{_shown(path)}")
    best = folder / "checkpoints" / "best.ckpt"
    if metrics.best_step >= 0 and best.exists():
        how_good = f"{metrics.best_name} {metrics.best_value:.4g} at step {metrics.best_step:,}"
        print(f"  {'best checkpoint':<18}{_shown(best)} ({how_good})")
    python = Path(sys.executable)
    script = f"{_shown(python)} {sys.argv[0]}" if sys.argv[0].endswith(".py") else sys.argv[0]
    if "TensorBoard logs" in lines:
        print(f"  {'see the curves':<18}{_shown(python.with_name('tensorboard'))} --logdir {_shown(folder.parent)}")
    if Path(script).stem in ("compare", "gan-lightning-compare"):
        return  # it goes on in its own way
    if interrupted:
        root = folder.parent.parent
        where = "" if root.absolute() == Path.cwd() else f" --default_root_dir {shlex.quote(_shown(root))}"
        print(f"  {'go on':<18}{script} --ckpt_path last{where}{_trust(data, trainer.lightning_module)}")
    elif isinstance(data, Digits):
        print(f"  {'train on MNIST':<18}{script} --config {DEFAULT_RECIPE}")


def _trust(data: ImageDataModule, model: Any) -> str:
    """The flag without which classes of one's own are not imported again."""
    modules = {type(part).__module__.partition(".")[0] for part in (data, model.loss, *model.modules())} - {
        "gan_lightning",
        "torch",
    }
    return f" --trust {','.join(sorted(modules))}" if modules else ""


def _shown(path: Path) -> str:
    """A path as a person would type it here."""
    return str(path.relative_to(Path.cwd()) if path.is_absolute() and path.is_relative_to(Path.cwd()) else path)
