"""Train a GAN.

python scripts/train.py --accelerator gpu
python scripts/train.py --config digits
python scripts/train.py --config dcgan_cifar10 --max_epochs 5 --data.batch_size 128
python scripts/train.py --ckpt_path last --max_epochs 40
python scripts/train.py --config folder_64 --data.root my_photos --dry_run
"""

import ast
from collections.abc import Collection, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from jsonargparse import ArgumentParser

from gan_lightning.commands.common.arguments import arrange, given, name_of
from gan_lightning.commands.common.flags import add_trust
from gan_lightning.commands.common.numbers import Seed
from gan_lightning.commands.common.parser_errors import unknown_flag
from gan_lightning.errors import InputError

METHODS = ("GAN", "PairedTranslation", "CycleGAN")
"""Names of the methods; ``methods.py`` has what belongs to each."""
SECTIONS = ("trainer", "data", "model", "image_grid", "checkpoints", "metrics", "health", "schedules")
"""Settings whose flags are the arguments of a class, ``--SECTION.X``."""


def add_flags(parser: ArgumentParser, method: str = METHODS[0]) -> None:
    """Add all flags of the command for a method. This imports torch: flags of the sections are the arguments of classes."""
    from gan_lightning.commands.train.settings import add_sections

    _add_own_flags(parser, method)
    add_sections(parser, method)


def _add_own_flags(parser: ArgumentParser, method: str = METHODS[0]) -> None:
    """Add the flags that belong to no section."""
    parser.add_argument("--config", action="config", help="name of a bundled recipe, or path of a YAML file")
    parser.add_argument(
        "--method",
        type=str,
        default=method,
        help=f"{', '.join(METHODS)}: what is trained; it decides which flags --model.X there are. Recipes set it",
    )
    parser.add_argument("--seed_everything", type=Seed, default=0, help="seed of all random numbers of the run")
    parser.add_argument("--ckpt_path", type=str | None, help="checkpoint to resume from; 'last' is that of the newest run")
    parser.add_argument(
        "--roll_back",
        type=bool,
        default=False,
        help="if training diverges, go back once and continue with other random numbers",
    )
    parser.add_argument(
        "--init_from", type=str | None, help="checkpoint whose weights, and nothing else, a new run starts from"
    )
    parser.add_argument(
        "--dry_run", action="store_true", help="report on data, memory and time, draw augmented images, then exit"
    )
    add_trust(parser)
    parser.add_argument(
        "--run_length",
        type=int | None,
        help="length of the run in generator updates, as recorded in config.yaml for schedules without steps",
    )


def run(args: Sequence[str]) -> None:
    """Refuse invalid flags; then import torch and train."""
    refuse_unknown(args)
    from gan_lightning.commands.train.run import train

    train(args)


def refuse_unknown(args: Sequence[str]) -> None:
    """Refuse a recipe or method that does not exist, and a flag that is none of ours, of a section or of the Trainer.

    The arguments within the other sections are checked later, because their classes import torch.

    Raises:
        InputError: the recipe, file, method or flag does not exist.
    """
    trainer = trainer_arguments()
    own = ArgumentParser()
    _add_own_flags(own)
    options = (option for action in own._actions for option in action.option_strings if option.startswith("--"))
    known = {*map(name_of, options), *trainer, *SECTIONS}
    groups = arrange(args, "trainer", trainer)
    if (method := given(groups, "method")) is not None:
        require_method(method)
    for flag, *_ in groups:
        section, *names = name_of(flag).split(".")
        unknown = section == "trainer" and names and names[0] not in trainer
        if unknown or not flag.startswith("--") or section not in known:
            raise InputError(unknown_flag(flag, {*known, *(f"trainer.{name}" for name in trainer)} if unknown else known))


def require_method(name: str) -> str:
    """Return the name of a method.

    Raises:
        InputError: there is no such method.
    """
    if name not in METHODS:
        raise InputError(f"--method {name} does not exist: use {', '.join(METHODS[:-1])} or {METHODS[-1]}")
    return name


@cache
def trainer_arguments() -> Collection[str]:
    """List the arguments of Lightning's Trainer, read from its source, because importing it takes seconds."""
    package = find_spec("lightning")
    assert package is not None
    assert package.submodule_search_locations is not None
    source = Path(package.submodule_search_locations[0]) / "pytorch" / "trainer" / "trainer.py"
    (trainer,) = (node for node in ast.parse(source.read_bytes()).body if getattr(node, "name", "") == "Trainer")
    assert isinstance(trainer, ast.ClassDef)
    (init,) = (node for node in trainer.body if isinstance(node, ast.FunctionDef) and node.name == "__init__")
    return [argument.arg for argument in (*init.args.args, *init.args.kwonlyargs) if argument.arg != "self"]
