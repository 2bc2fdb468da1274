"""The settings of a run, from flags and recipe, and the objects that they describe."""

import os
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.utilities import rank_zero_info

import gan_lightning.networks  # noqa: F401  (registers the short names of networks)
from gan_lightning import checkpoint
from gan_lightning.callbacks import Checkpoints, GenerativeMetrics, HealthMonitor, ImageGrid, Schedules
from gan_lightning.commands.common.arguments import arrange, given, instantiate, parse
from gan_lightning.commands.common.recipes import config_path, read_settings
from gan_lightning.commands.common.trust import check_imports, trusted_modules
from gan_lightning.data import ImageDataModule, TranslationDataModule
from gan_lightning.errors import InputError, one_line, plain
from gan_lightning.gan import GAN
from gan_lightning.home import expand, expanded
from gan_lightning.lookup import bundled
from gan_lightning.module import ADAM
from gan_lightning.networks.base import Network, describe, difference, with_defaults
from gan_lightning.networks.fine_tuning import transfer
from gan_lightning.training.loggers import LoggerName
from gan_lightning.training.runs import last_checkpoint

DEFAULT_RECIPE = "dcgan_mnist"
LINKED = {
    "data.seed": "seed_everything",
    "model.generator.image_shape": "data.image_shape",
    "model.generator.num_classes": "data.num_classes",
    "model.discriminator.image_shape": "data.image_shape",
    "model.discriminator.num_classes": "data.num_classes",
}
"""Settings that take the value of another setting -> that setting."""
RECORDED = {"run_length": "max_steps, max_epochs and the data"}
"""Records in ``config.yaml`` that no run reads -> the settings that determine them."""

UNUSABLE = {
    "gradient_clip_val": "to limit the gradient of each network, use --model.gradient_clip",
    "gradient_clip_algorithm": "to limit the gradient of each network, use --model.gradient_clip",
    "accumulate_grad_batches": "for a larger batch, use --data.batch_size, and --model.micro_batch to split it",
}
"""Settings of the Trainer that Lightning refuses if a model steps its optimizers itself -> what to use in their place."""


def add_sections(parser: ArgumentParser) -> None:
    """Add the flags of the Trainer, the data, the model and the callbacks."""
    parser.add_class_arguments(Trainer, "trainer", skip={"logger", "default_root_dir"}, instantiate=False)
    parser.add_argument(
        "--trainer.logger",
        type=LoggerName | list[LoggerName] | bool,
        default="tensorboard",
        help="logger or loggers of the curves",
    )
    parser.add_argument("--trainer.default_root_dir", default=".", help="parent folder of the runs, lightning_logs/version_N")
    parser.add_argument("--data", type=ImageDataModule, help="class of the training data")
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


def settings(parser: ArgumentParser, args: Sequence[str]) -> tuple[Namespace, Path | None, Path | None]:
    """Read the settings, the checkpoint to resume from, and the folder to continue in (None: a new folder).

    Raises:
        InputError: a flag or file is wrong.
    """
    short = [action.dest.removeprefix("trainer.") for action in parser._actions if action.dest.startswith("trainer.")]
    groups = arrange(args, "trainer", short)
    for name, source in (LINKED | RECORDED).items():
        if given(groups, name) is not None:
            raise InputError(f"--{name} cannot be set, because it follows {source}: remove it")
    ckpt_path, weights = (path and expand(path) for path in (given(groups, "ckpt_path"), given(groups, "init_from")))
    if ckpt_path and weights:
        raise InputError(f"--ckpt_path {ckpt_path} and --init_from {weights} exclude each other: use one of them")
    if given(groups, "config") is None:
        used, _ = _resume_from(ckpt_path, given(groups, "trainer.default_root_dir") or ".")
        used = used or (Path(weights) if weights else None)
        own = used and used.parent.parent / "config.yaml"
        recipe = config_path(DEFAULT_RECIPE)
        if own and own.is_file():
            check_imports(own, read_settings(str(own)), trusted_modules(given(groups, "trust") or ""))
            recipe = config_path(str(own))
        elif used and os.path.isfile(used):  # noqa: PTH113  (os.path accepts names that are too long)
            raise InputError(f"{own} does not exist, so the settings of {used} are unknown: pass its recipe with --config")
        groups = [["--config", recipe], *groups]
    config = parse(parser, groups, "trainer")
    for flag in ("ckpt_path", "init_from"):
        if config[flag] in bundled() and not Path(config[flag]).exists():
            raise InputError(
                f"--{flag} {config[flag]} is a bundled generator without a discriminator: use a checkpoint of train.py"
            )
    for name, advice in UNUSABLE.items():
        if config.trainer[name] not in (None, 1 if name == "accumulate_grad_batches" else None):
            raise InputError(f"--{name} {config.trainer[name]} does not work with two optimizers: remove it; {advice}")
    penalties = config.model.penalty
    one_argument = next((group[0] for group in groups if group[0].startswith("--model.penalty.")), None)
    if one_argument and isinstance(penalties, list) and len(penalties) > 1 and given(groups, "model.penalty") is None:
        raise InputError(
            f"{one_argument} may mean any of {len(penalties)} penalties: pass the whole list, for example "
            "--model.penalty null --model.penalty+=R1 --model.penalty.gamma 0.3 --model.penalty+=R2 --model.penalty.gamma 0.3"
        )
    return config, *_resume_from(config.ckpt_path, config.trainer.default_root_dir)


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
    part, batch = objects.model.micro_batch, objects.data.batch_size
    if part is not None and part > batch:
        raise InputError(f"model.micro_batch is {part}, but a batch has {batch} images: use a smaller one")
    if isinstance(objects.data, TranslationDataModule) and objects.model.generator.conditional:
        raise InputError(
            f"data.{type(objects.data).__name__} has sources instead of classes: remove model.generator.conditioning and "
            "model.discriminator.conditioning, or use images with classes"
        )
    begun_at = 0
    if resume_from is not None:
        content = checkpoint.load_gan(resume_from)
        checkpoint.require_resumable(content, resume_from)
        objects.model.on_load_checkpoint(content)
        _require_classes(content[checkpoint.KEY].get("class_names"), objects, resume_from)
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


def init_from(model: GAN, path: str) -> None:
    """Copy into a new model the layers of a checkpoint that fit, and print which ones are new.

    The average gets those of the checkpoint's average; without one, those of its generator.

    Raises:
        InputError: the checkpoint does not exist, has networks of other classes, or no layer of one of them fits.
    """
    content = checkpoint.load_gan(path)
    about, weights = content[checkpoint.KEY], content["state_dict"]
    sources = {"generator": "generator", "discriminator": "discriminator"}
    if model.ema is not None:
        sources["ema"] = "ema" if about["ema"] else "generator"
    for name, source in sources.items():
        network: Network = getattr(model, name)
        described = about["generator" if name == "ema" else name]
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
        if name != "ema":
            rest = f"; new are {', '.join(new)}" if new else ""
            rank_zero_info(f"--init_from {path}: {len(taken)} of {len(taken) + len(new)} layers of the {name}{rest}")
