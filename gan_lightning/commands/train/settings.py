"""The settings of a run, from flags and recipe, and the objects that they describe."""

import importlib
import os
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.utilities import rank_zero_info

import gan_lightning.networks  # noqa: F401  (registers the short names of networks)
from gan_lightning import checkpoint
from gan_lightning.callbacks import Checkpoints, Schedules
from gan_lightning.commands.common.arguments import arrange, given, instantiate, parse
from gan_lightning.commands.common.recipes import YAML, config_path, load_yaml, read_settings
from gan_lightning.commands.common.trust import check_imports, trusted_modules
from gan_lightning.commands.train.cli import require_method, trainer_arguments
from gan_lightning.commands.train.methods import METHODS, Method
from gan_lightning.data import ImageDataModule, TranslationDataModule
from gan_lightning.errors import InputError, one_line, plain
from gan_lightning.home import expand, expanded
from gan_lightning.lookup import bundled
from gan_lightning.module import ADAM, AdversarialModule
from gan_lightning.networks.base import Network, describe, difference, with_defaults
from gan_lightning.networks.fine_tuning import transfer
from gan_lightning.training.loggers import LoggerName
from gan_lightning.training.runs import last_checkpoint

RECORDED = {"run_length": "max_steps, max_epochs and the data"}
"""Records in ``config.yaml`` that no run reads -> the settings that determine them."""

UNUSABLE = {
    "gradient_clip_val": "to limit the gradient of each network, use --model.gradient_clip",
    "gradient_clip_algorithm": "to limit the gradient of each network, use --model.gradient_clip",
    "accumulate_grad_batches": "for a larger batch, use --data.batch_size, and --model.micro_batch to split it",
}
"""Settings of the Trainer that Lightning refuses if a model steps its optimizers itself -> what to use in their place."""


def linked(method: Method) -> dict[str, str]:
    """Return the settings that take the value of another setting -> that setting."""
    shapes = {f"model.{network}.{name}": f"data.{name}" for network, arguments in method.shapes.items() for name in arguments}
    return {"data.seed": "seed_everything", **shapes}


def add_sections(parser: ArgumentParser, name: str) -> None:
    """Add the flags of the Trainer, the data, the model and the callbacks, for the method of this name."""
    method = METHODS[name]
    parser.add_class_arguments(Trainer, "trainer", skip={"logger", "default_root_dir"}, instantiate=False)
    parser.add_argument(
        "--trainer.logger",
        type=LoggerName | list[LoggerName] | bool,
        default="tensorboard",
        help="logger or loggers of the curves",
    )
    parser.add_argument("--trainer.default_root_dir", default=".", help="parent folder of the runs, lightning_logs/version_N")
    parser.add_argument("--data", type=ImageDataModule, help="class of the training data")
    parser.add_class_arguments(method.model, "model")
    for section, callback in (*method.callbacks.items(), ("checkpoints", Checkpoints), ("schedules", Schedules)):
        parser.add_class_arguments(callback, section)
    for setting, source in linked(method).items():
        owner, _, attribute = setting.rpartition(".")
        when = "parse" if source == "seed_everything" else "instantiate"
        parser.link_arguments(source, f"{owner}.init_args.{attribute}", apply_on=when)
    default_optimizer = {"class_path": "torch.optim.Adam", "init_args": ADAM}
    optimizers = dict.fromkeys(("model.generator_optimizer", "model.discriminator_optimizer"), default_optimizer)
    parser.set_defaults({**method.defaults, **optimizers})


def method_of(args: Sequence[str]) -> str:
    """Name of the method that the words of a command line train.

    It is that of the flag, else of the last file of settings that has one, else GAN. Without ``--config``, the file is the
    config.yaml next to the checkpoint to start from.

    Raises:
        InputError: there is no such method, or a file cannot be read.
    """
    groups = _with_files(args)
    if (name := given(groups, "method")) is not None:
        return require_method(name)
    name = checkpoint.GAN
    for flag, *files in groups:
        for file in files if flag == "--config" else ():
            name = (read_settings(file) if file.lower().endswith(YAML) else load_yaml(file)).get("method", name)
    return require_method(str(name))


def _with_files(args: Sequence[str]) -> list[list[str]]:
    """Arrange the words of a command line. If no file of settings is among them, add that of a checkpoint, or a recipe.

    Raises:
        InputError: a file does not exist, or a checkpoint to start from has no file of settings.
    """
    groups = arrange(args, "trainer", trainer_arguments())
    ckpt_path, weights = (path and expand(path) for path in (given(groups, "ckpt_path"), given(groups, "init_from")))
    if ckpt_path and weights:
        raise InputError(f"--ckpt_path {ckpt_path} and --init_from {weights} exclude each other: use one of them")
    if given(groups, "config") is not None:
        return groups
    used, _ = _resume_from(ckpt_path, given(groups, "trainer.default_root_dir") or ".")
    used = used or (Path(weights) if weights else None)
    own = used and used.parent.parent / "config.yaml"
    if own and own.is_file():
        check_imports(own, read_settings(str(own)), trusted_modules(given(groups, "trust") or ""))
        return [["--config", config_path(str(own))], *groups]
    if used and os.path.isfile(used):  # noqa: PTH113  (os.path accepts names that are too long)
        raise InputError(f"{own} does not exist, so the settings of {used} are unknown: pass its recipe with --config")
    return [["--config", config_path(METHODS[require_method(given(groups, "method") or checkpoint.GAN)].recipe)], *groups]


def settings(parser: ArgumentParser, args: Sequence[str]) -> tuple[Namespace, Path | None, Path | None]:
    """Read the settings, the checkpoint to resume from, and the folder to continue in (None: a new folder).

    Args:
        parser: the parser of the method that :func:`method_of` finds.
        args: the words of the command line.

    Raises:
        InputError: a flag or file is wrong.
    """
    method = METHODS[parser.get_default("method")]
    groups = _with_files(args)
    for name, source in (linked(method) | RECORDED).items():
        if given(groups, name) is not None:
            raise InputError(f"--{name} cannot be set, because it follows {source}: remove it")
    config = parse(parser, groups, "trainer")
    _require_data(method, config.data.class_path)
    for flag in ("ckpt_path", "init_from"):
        if config[flag] in bundled() and not Path(config[flag]).exists():
            raise InputError(
                f"--{flag} {config[flag]} is a bundled generator without a discriminator: use a checkpoint of train.py"
            )
    for name, advice in UNUSABLE.items():
        if config.trainer[name] not in (None, 1 if name == "accumulate_grad_batches" else None):
            raise InputError(f"--{name} {config.trainer[name]} does not work with two optimizers: remove it; {advice}")
    penalties = config.model.get("penalty")
    one_argument = next((group[0] for group in groups if group[0].startswith("--model.penalty.")), None)
    if one_argument and isinstance(penalties, list) and len(penalties) > 1 and given(groups, "model.penalty") is None:
        raise InputError(
            f"{one_argument} may mean any of {len(penalties)} penalties: pass the whole list, for example "
            "--model.penalty null --model.penalty+=R1 --model.penalty.gamma 0.3 --model.penalty+=R2 --model.penalty.gamma 0.3"
        )
    return config, *_resume_from(config.ckpt_path, config.trainer.default_root_dir)


def _require_data(method: Method, class_path: str) -> None:
    """Refuse images for a method that translates, and data for translation for one that does not.

    Raises:
        InputError: the class of the data is of the other kind.
    """
    module, _, name = class_path.rpartition(".")
    translates = issubclass(getattr(importlib.import_module(module), name), TranslationDataModule)
    if translates and not method.translates:
        raise InputError(
            f"--data {name} has sources and targets, but {method.model.method} draws images without sources: add --method "
            "PairedTranslation or --method CycleGAN, or use images such as ImageFolder"
        )
    if method.translates and not translates:
        raise InputError(
            f"--data {name} has images alone, but {method.model.method} translates sources: use Derived, PairedFolders or "
            "UnpairedFolders"
        )


def _resume_from(ckpt_path: str | None, root: str) -> tuple[Path | None, Path | None]:
    """Find the checkpoint of ``--ckpt_path``, and for 'last' the folder of its run, to continue there."""
    if not ckpt_path:
        return None, None
    if ckpt_path == "last":
        path = last_checkpoint(expanded(root) / "lightning_logs")
        return path, path.parent.parent
    return Path(ckpt_path), None


def make_objects(parser: ArgumentParser, config: Namespace, resume_from: Path | None = None) -> tuple[Namespace, int]:
    """Make the objects of the settings, and count the steps already made; refuse a checkpoint that does not fit."""
    seed_everything(config.seed_everything, verbose=False)
    objects = instantiate(parser, config)
    part, batch = getattr(objects.model, "micro_batch", None), objects.data.batch_size
    if part is not None and part > batch:
        raise InputError(f"model.micro_batch is {part}, but a batch has {batch} images: use a smaller one")
    if METHODS[config.method].needs_pairs and not objects.data.paired:
        raise InputError(
            f"data.{type(objects.data).__name__} has no pairs to train on, but {config.method} learns from pairs: use --method "
            "CycleGAN, or data with pairs"
        )
    begun_at = 0
    if resume_from is not None:
        content = checkpoint.load_gan(resume_from)
        checkpoint.require_resumable(content, resume_from)
        objects.model.on_load_checkpoint(content)
        _require_classes(content[checkpoint.KEY].get("class_names"), objects, resume_from)
        _require_attributes(content[checkpoint.KEY].get("condition_names", []), objects, resume_from)
        begun_at = content["global_step"]
    elif config.init_from:
        init_from(objects.model, config.init_from)
    return objects, begun_at


def _require_classes(names: list[str] | None, objects: Namespace, path: Path) -> None:
    """Check that each label still means the same class, if the networks see labels.

    Raises:
        InputError: the names of the classes differ from those of the checkpoint.
    """
    mine = list(objects.data.class_names)
    if not names or names == mine or not objects.model.generator.conditional:
        return
    number = next(number for number, name in enumerate(names) if number >= len(mine) or mine[number] != name)
    here = plain(mine[number]) if number < len(mine) else "missing"
    raise InputError(
        f"{path} was trained with other classes: number {number} is {plain(names[number])} there and {here} here. Use the same "
        "folders of classes, or start a new run with --init_from"
    )


def _require_attributes(names: list[str], objects: Namespace, path: Path) -> None:
    """Check that each attribute still means the same, if the networks see attributes.

    Raises:
        InputError: their names differ from those of the checkpoint.
    """
    mine = list(objects.data.condition_names)
    if names != mine and objects.model.generator.conditional:
        there, here = (", ".join(map(plain, each)) or "none" for each in (names, mine))
        raise InputError(
            f"{path} was trained with other attributes ({there} there, {here} here): use the same labels, or start a new run "
            "with --init_from"
        )


def init_from(model: AdversarialModule, path: str) -> None:
    """Copy into a new model the layers of a checkpoint that fit, and print which ones are new.

    An average gets those of the checkpoint's average; without one, those of its generator.

    Raises:
        InputError: the checkpoint does not exist, is of another method, has networks of other classes, or no layer of one of
            them fits.
    """
    content = checkpoint.load_gan(path)
    about, weights = content[checkpoint.KEY], content["state_dict"]
    if (theirs := checkpoint.method(content)) != model.method:
        raise InputError(
            f"--init_from {path} was trained by another method ({plain(theirs)} there, {model.method} here): use another one"
        )
    averages = {average: name for name, average in model.generators.items() if getattr(model, average) is not None}
    sources = {name: name for name in (*model.generators, *model.discriminators)}
    sources |= {average: average if about["ema"] else name for average, name in averages.items()}
    for name, source in sources.items():
        network: Network = getattr(model, name)
        described = about[averages.get(name, name)]
        theirs, mine = described["class_path"], describe(network)["class_path"]
        if theirs != mine:
            raise InputError(
                f"--init_from {path} has a {name} of another class ({plain(theirs)} there, {mine} here): use its recipe, or "
                "another checkpoint"
            )
        own = {key.removeprefix(f"{source}."): value for key, value in weights.items() if key.startswith(f"{source}.")}
        try:
            taken, new = transfer(network, own)
        except RuntimeError as error:  # tensors of a kind that cannot be copied
            raise InputError(f"--init_from {path} has weights that cannot be read: {one_line(error)[:150]}") from error
        if not taken:
            reason = difference(with_defaults(described, network), describe(network))
            raise InputError(
                f"--init_from {path}: no layer of its {name} fits {type(network).__name__} ({reason}): use the same widths"
            )
        if name not in averages:
            rest = f"; new are {', '.join(new)}" if new else ""
            rank_zero_info(f"--init_from {path}: {len(taken)} of {len(taken) + len(new)} layers of the {name}{rest}")
