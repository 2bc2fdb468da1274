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
from gan_lightning.exported import CONFIG, FORMAT_VERSION, PRECISIONS, WEIGHTS, read_config
from gan_lightning.files import fingerprint, write_aside
from gan_lightning.networks.base import Generator, describe, rebuild

DTYPES = {name: getattr(torch, name) for name in PRECISIONS}
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
    generator = rebuild(Generator, config["generator"], weights, trust, folder)  # type: ignore[type-abstract]
    return generator, config


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
