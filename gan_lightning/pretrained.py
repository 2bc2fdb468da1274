"""A generator as a folder in the Hugging Face Hub's layout: a description in config.json, weights in model.safetensors."""

import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as deserialize
from safetensors.torch import save as serialize
from torch import Tensor

import gan_lightning
from gan_lightning.errors import InputError, one_line
from gan_lightning.files import fingerprint, is_names, write_aside
from gan_lightning.networks.base import Generator, describe, rebuild_generator

CONFIG, WEIGHTS = "config.json", "model.safetensors"
FORMAT_VERSION = 1
LARGEST_CONFIG = 2**20  # bytes; those that this project writes have a few thousand
DTYPES = {"float32": torch.float32, "float16": torch.float16}
"""Types in which weights are stored. All of them are loaded as float32."""


def configuration(generator: Generator, about: dict[str, Any], dtype: str = "float32") -> dict[str, Any]:
    """Content of a generator's config.json, primitives only.

    Args:
        generator: the generator.
        about: further facts about it: global_step, weights (``ema`` or ``raw``), class_names, recipe and metrics.
        dtype: type in which :func:`save` stores the weights, one of :data:`DTYPES`.

    Raises:
        InputError: an argument of the generator is not a primitive, or a weight is too large for ``dtype``.
    """
    return {
        "format_version": FORMAT_VERSION,
        "generator": describe(generator),
        "image_shape": list(generator.image_shape),
        "num_classes": generator.num_classes if generator.conditional else 0,
        "class_names": (about.get("class_names") or []) if generator.conditional else [],
        "latent_dim": generator.latent_dim,
        "parameters": sum(parameter.numel() for parameter in generator.parameters()),
        "dtype": dtype,
        "weights_sha256": _fingerprint(_stored(generator, dtype)),
        **{name: about.get(name) for name in ("global_step", "weights", "recipe", "metrics")},
        "versions": {"gan_lightning": gan_lightning.__version__, "torch": torch.__version__},
    }


def save(generator: Generator, config: dict[str, Any], folder: Path) -> None:
    """Write a generator and its :func:`configuration`, each to a temporary file that is then renamed.

    Raises:
        OSError: the system cannot write them.
    """
    weights = _stored(generator, config["dtype"])
    with write_aside(folder / WEIGHTS) as aside:
        aside.write_bytes(serialize(weights, metadata={"format": "pt"}))  # save_file would make it unreadable for others
    with write_aside(folder / CONFIG) as aside:
        aside.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def load(folder: str | os.PathLike[str], trust: Collection[str] = ()) -> tuple[Generator, dict[str, Any]]:
    """Load the generator of a folder that :func:`save` wrote, and its config.json. Runs no code of the folder.

    Compares the shapes of the network in config.json with those of the weights before it allocates memory.

    Args:
        folder: the folder, possibly of unknown origin.
        trust: custom top-level modules from which networks may be imported. This package is always allowed.

    Raises:
        InputError: a file is missing, damaged or of the wrong kind, or the class is not trusted.
    """
    config = read_config(folder)
    path = Path(folder, WEIGHTS)
    weights = _read_weights(path)
    if config["weights_sha256"] != _fingerprint(weights):
        raise InputError(f"{path} is damaged, or does not belong to its {CONFIG}: use another folder")
    generator = rebuild_generator(config["generator"], weights, trust, folder)
    return generator, config


def read_config(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a folder's config.json and check the type of every entry.

    Raises:
        InputError: the file is missing, is not JSON, has another format, or lacks an entry.
    """
    path = Path(folder, CONFIG)
    if not path.is_file():
        raise InputError(
            f"{folder} is a folder without {CONFIG}: use a checkpoint of train.py, or a folder that export.py wrote"
        )
    try:
        if path.stat().st_size > LARGEST_CONFIG:
            raise InputError(f"{path} is larger than any {CONFIG} of gan_lightning: use another folder")
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read as JSON ({one_line(error)[:150]}): use another folder") from error
    about = config if isinstance(config, dict) else {}
    version = about.get("format_version")
    if type(version) is not int:
        raise InputError(
            f"{path} is not from gan_lightning, because it has no format_version: use a folder that export.py wrote"
        )
    if version != FORMAT_VERSION:
        raise InputError(
            f"{path} has format {version}, but this version of gan_lightning reads format {FORMAT_VERSION}: install the "
            "version that wrote it"
        )
    network = about.get("generator")
    steps, recipe, metrics = (about.get(name) for name in ("global_step", "recipe", "metrics"))
    wrong = {
        "generator": not isinstance(network, dict) or not {"class_path", "arguments"} <= network.keys(),
        "weights_sha256": not isinstance(about.get("weights_sha256"), str),
        "dtype": about.get("dtype", "float32") not in (*DTYPES,),
        "global_step": steps is not None and type(steps) is not int,
        "weights": about.get("weights") not in ("ema", "raw", None),
        "recipe": recipe is not None and not isinstance(recipe, dict),
        "metrics": metrics is not None and not isinstance(metrics, dict),
        "class_names": not is_names(about.get("class_names", [])),
    }
    if found := [name for name, is_wrong in wrong.items() if is_wrong]:
        raise InputError(f"{path} has invalid values for {' and '.join(found)}: use another folder")
    defaults: dict[str, Any] = {
        "dtype": "float32",
        "global_step": None,
        "weights": None,
        "class_names": [],
        "recipe": None,
        "metrics": None,
    }
    return {**defaults, **about}


def _stored(generator: Generator, dtype: str) -> dict[str, Tensor]:
    """Weights of a generator as they are stored: floating-point ones in ``dtype``, counters unchanged.

    Raises:
        InputError: a weight is too large for ``dtype``.
    """
    weights = {name: value.detach().cpu().contiguous() for name, value in generator.state_dict().items()}
    stored = {name: value.to(DTYPES[dtype]) if value.is_floating_point() else value for name, value in weights.items()}
    for name, value in weights.items():
        if bool((value.isfinite() & stored[name].isinf()).any()):
            raise InputError(f"{name} has a value of {value.abs().max():.3g}, too large for {dtype}: use float32")
    return stored


def _read_weights(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError(f"{path} does not exist: use a folder that has it")
    try:
        return deserialize(path.read_bytes())  # load_file refuses paths that are not UTF-8
    except Exception as error:  # a malicious file can raise anything
        raise InputError(f"{path} is damaged, or has no weights ({one_line(error)[:150]}): use another folder") from error


def _fingerprint(weights: dict[str, Tensor]) -> str:
    """SHA-256 of weights in the order of their names, because a file may store them in another order."""
    return fingerprint(*(value for _, value in sorted(weights.items())))
