"""Generators as a folder in the Hugging Face Hub's layout: a description in config.json, weights in model.safetensors."""

import json
import os
from collections.abc import Collection, Mapping
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
from gan_lightning.networks.base import Network, describe, rebuild

GENERATORS = ("generator", "inverse_generator")
"""Names of the generators in a checkpoint and in config.json. Only CycleGAN has the second."""
DTYPES = {name: getattr(torch, name) for name in PRECISIONS}
"""Types in which weights are stored. All of them are loaded as float32."""


def configuration(
    networks: Mapping[str, Network], about: dict[str, Any], facts: dict[str, Any], dtype: str = "float32"
) -> dict[str, Any]:
    """Content of config.json, primitives only.

    Args:
        networks: name -> generator, one of them called ``generator``.
        about: origin of the weights: global_step, weights (``ema`` or ``raw``), recipe and metrics.
        facts: further entries.
        dtype: type in which :func:`save` stores the weights, one of :data:`DTYPES`.

    Raises:
        InputError: an argument of a generator is not a primitive, or a weight is too large for ``dtype``.
    """
    return {
        "format_version": FORMAT_VERSION,
        **{name: describe(network) for name, network in networks.items()},
        "image_shape": list(networks["generator"].image_shape),
        **facts,
        "parameters": sum(parameter.numel() for network in networks.values() for parameter in network.parameters()),
        "dtype": dtype,
        "weights_sha256": _fingerprint(_stored(networks, dtype)),
        **{name: about.get(name) for name in ("global_step", "weights", "recipe", "metrics")},
        "versions": {"gan_lightning": gan_lightning.__version__, "torch": torch.__version__},
    }


def save(networks: Mapping[str, Network], config: dict[str, Any], folder: Path) -> None:
    """Write generators and their :func:`configuration`, each file to a temporary one that is then renamed.

    Raises:
        OSError: the system cannot write them.
    """
    weights = _stored(networks, config["dtype"])
    with write_aside(folder / WEIGHTS) as aside:
        aside.write_bytes(serialize(weights, metadata={"format": "pt"}))  # save_file would make it unreadable for others
    with write_aside(folder / CONFIG) as aside:
        aside.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def load(folder: str | os.PathLike[str], trust: Collection[str] = ()) -> tuple[dict[str, Network], dict[str, Any]]:
    """Load the generators of a folder that :func:`save` wrote, and its config.json. Runs no code of the folder.

    Compares the shapes of the networks in config.json with those of the weights before it allocates memory.

    Args:
        folder: the folder, possibly of unknown origin.
        trust: custom top-level modules from which networks may be imported. This package is always allowed.

    Raises:
        InputError: a file is missing, damaged or of the wrong kind, or a class is not trusted.
    """
    config = read_config(folder)
    path = Path(folder, WEIGHTS)
    weights = _read_weights(path)
    if config["weights_sha256"] != _fingerprint(weights):
        raise InputError(f"{path} is damaged, or does not belong to its {CONFIG}: use another folder")
    prefixes = _prefixes([name for name in GENERATORS if config.get(name) is not None])
    networks: dict[str, Network] = {}
    for name, prefix in prefixes.items():
        own = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
        networks[name] = rebuild(Network, config[name], own, trust, folder)
    return networks, config


def _prefixes(names: Collection[str]) -> dict[str, str]:
    """Prefix of the names of each generator's weights in the file. A single generator has none."""
    return {name: f"{name}." if len(names) > 1 else "" for name in names}


def _stored(networks: Mapping[str, Network], dtype: str) -> dict[str, Tensor]:
    """Weights of generators as they are stored: floating-point ones in ``dtype``, counters unchanged.

    Raises:
        InputError: a weight is too large for ``dtype``.
    """
    weights = {
        f"{prefix}{key}": value.detach().cpu().contiguous()
        for name, prefix in _prefixes(networks).items()
        for key, value in networks[name].state_dict().items()
    }
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
