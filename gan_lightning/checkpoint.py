"""Contents of a checkpoint of training, and the checks before anything in it is used."""

import os
from typing import Any

from gan_lightning import files
from gan_lightning.errors import InputError
from gan_lightning.exported import NO_SOURCES, is_conditions, is_description, is_names, is_sources

FORMAT_VERSION = 3
KEY = "gan_lightning"
"""Entry that describes a checkpoint: format_version, method, each network by its name (generator, discriminator and maybe
others), ema, optimizers, the names of the buffers of penalties and augmentation (state), those of the data's classes
(class_names; older checkpoints have none) or attributes (condition_names), attributes of training images to draw samples with
(conditions: a list of lists of numbers), and the origin of a translation's sources (sources: mask, degradation)."""
GAN = "GAN"
"""Method of checkpoints that do not name theirs, because they are older than the other methods."""
HYPER_PARAMETERS = frozenset(
    {"hparams", "module_arguments", "hyper_parameters", "hparams_name", "hparams_type"}
    | {"datamodule_hyper_parameters", "datamodule_hparams_name", "datamodule_hparams_type"}
)
"""Entries from which Lightning's ``load_from_checkpoint`` makes objects. They may name any function."""


def load_gan(path: str | os.PathLike[str], map_location: Any = "cpu") -> dict[str, Any]:
    """Read a checkpoint of a training run by :func:`gan_lightning.files.load`, and check that it is one of this project.

    Raises:
        InputError: the file cannot be loaded, is not a gan_lightning checkpoint, has another format, or has entries from which
            Lightning would make objects.
    """
    content: dict[str, Any] = files.load(path, map_location=map_location)
    about = content.get(KEY) if isinstance(content, dict) else None
    if not isinstance(about, dict) or not {"format_version", "generator", "discriminator", "ema"} <= about.keys():
        raise InputError(
            f"{path} is not a gan_lightning checkpoint, because it has no entry {KEY!r}: use a checkpoint of train.py"
        )
    version = about["format_version"] if type(about["format_version"]) is int else "unknown"
    if version != FORMAT_VERSION:
        raise InputError(
            f"{path} has checkpoint format {version}, but this version of gan_lightning reads format {FORMAT_VERSION}: install "
            "the version that wrote it"
        )
    networks = [value for name, value in about.items() if str(name).endswith(("generator", "discriminator"))]
    if not all(is_description(network) for network in networks):
        raise InputError(f"{path} does not describe its networks: use another checkpoint")
    if not is_names(about.get("class_names", [])):
        raise InputError(f"{path} has class_names that are not a list of names: use another checkpoint")
    if not is_conditions(about):
        raise InputError(f"{path} has conditions that are not numbers for its condition_names: use another checkpoint")
    if not is_sources(about.get("sources", NO_SOURCES)):
        raise InputError(f"{path} has an invalid description of its sources: use another checkpoint")
    if type(about.get("method", GAN)) is not str:
        raise InputError(f"{path} has a method that is not a name: use another checkpoint")
    if objects := sorted(HYPER_PARAMETERS & content.keys()):
        raise InputError(
            f"{path} has {' and '.join(objects)}, and Lightning would make objects of it: use a checkpoint of train.py"
        )
    missing = {"state_dict", "global_step", "pytorch-lightning_version"} - content.keys()
    if missing:
        raise InputError(f"{path} has no {' and no '.join(sorted(missing))}: use another checkpoint")
    weights = content["state_dict"]
    if not isinstance(weights, dict) or not all(isinstance(name, str) for name in weights):
        raise InputError(f"{path} has no weights in its state_dict: use another checkpoint")
    if type(content["global_step"]) is not int:
        raise InputError(f"{path} has a global_step that is not an integer: use another checkpoint")
    return content


def method(content: dict[str, Any]) -> str:
    """Name of the method that trained a checkpoint, as :func:`load_gan` returns it: GAN, PairedTranslation or CycleGAN."""
    name: str = content[KEY].get("method", GAN)
    return name


def require_resumable(content: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Check that a checkpoint, as :func:`load_gan` returns it, holds all that a resumed run needs besides weights.

    Raises:
        InputError: an entry is missing or wrong; the message names it.
    """
    optimizers, loops, callbacks = (content.get(name) for name in ("optimizer_states", "loops", "callbacks"))
    epoch, step = content.get("epoch"), content["global_step"]
    wrong = {
        "epoch": type(epoch) is not int or epoch < 0,
        "global_step": step < 0,
        "optimizer_states": not isinstance(optimizers, list)
        or len(optimizers) != 2
        or not all(isinstance(state, dict) and {"state", "param_groups"} <= state.keys() for state in optimizers),
        "loops": not isinstance(loops, dict) or not isinstance(loops.get("fit_loop"), dict),
        "callbacks": not isinstance(callbacks, dict) or not all(isinstance(state, dict) for state in callbacks.values()),
    }
    if found := [name for name, is_wrong in wrong.items() if is_wrong]:
        raise InputError(f"{path} cannot be resumed, because {' and '.join(found)} is missing or wrong: use another checkpoint")
