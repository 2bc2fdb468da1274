"""A generator as a folder, as the Hugging Face Hub has them: what it is in config.json, its weights in model.safetensors."""

import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from torch import Tensor

import gan_lightning
from gan_lightning.errors import InputError, one_line
from gan_lightning.files import fingerprint, write_aside
from gan_lightning.networks.base import Generator, build, describe

CONFIG, WEIGHTS = "config.json", "model.safetensors"
FORMAT_VERSION = 1
LARGEST_CONFIG = 2**20  # bytes; what is written here has some thousand
DTYPES = {"float32": torch.float32, "float16": torch.float16}
"""Types in which weights are stored; whatever the type, they are loaded as float32."""


def configuration(generator: Generator, about: dict[str, Any], dtype: str = "float32") -> dict[str, Any]:
    """All that config.json says of a generator; primitives only.

    Args:
        generator: the generator.
        about: what is known of it beside: global_step, weights (``ema`` or ``raw``), recipe and metrics.
        dtype: the type in which :func:`save` stores the weights, one of :data:`DTYPES`.

    Raises:
        InputError: an argument of the generator is no primitive, or a weight is too large for ``dtype``.
    """
    return {
        "format_version": FORMAT_VERSION,
        "generator": describe(generator),
        "image_shape": list(generator.image_shape),
        "num_classes": generator.num_classes if generator.conditional else 0,
        "latent_dim": generator.latent_dim,
        "parameters": sum(parameter.numel() for parameter in generator.parameters()),
        "dtype": dtype,
        "weights_sha256": _fingerprint(_stored(generator, dtype)),
        **{name: about.get(name) for name in ("global_step", "weights", "recipe", "metrics")},
        "versions": {"gan_lightning": gan_lightning.__version__, "torch": torch.__version__},
    }


def save(generator: Generator, config: dict[str, Any], folder: Path) -> None:
    """Write a generator and its :func:`configuration`, each file aside and renamed.

    Raises:
        OSError: they cannot be written.
    """
    weights = _stored(generator, config["dtype"])
    with write_aside(folder / WEIGHTS) as aside:
        aside.write_bytes(serialize(weights, metadata={"format": "pt"}))  # save_file would let nobody else read it
    with write_aside(folder / CONFIG) as aside:
        aside.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def load(folder: str | os.PathLike[str], trust: Collection[str] = ()) -> tuple[Generator, dict[str, Any]]:
    """The generator of a folder that :func:`save` wrote, and its config.json. No code of the folder is run.

    Before memory is asked for, the shapes of the network that config.json describes are compared with those of the weights.

    Args:
        folder: the folder, possibly of unknown origin.
        trust: top-level modules of your own whose networks may be imported; this package's always are.

    Raises:
        InputError: a file is not there, damaged, or not what it should be, or the class is not trusted.
    """
    config = read_config(folder)
    path = Path(folder, WEIGHTS)
    weights = _read_weights(path)
    if config["weights_sha256"] != _fingerprint(weights):
        raise InputError(f"{path}: damaged, or not the weights that its {CONFIG} was written with; use another")
    with torch.device("meta"):
        blank = build(config["generator"], trust)
    if not isinstance(blank, Generator):
        raise InputError(f"{Path(folder, CONFIG)}: {config['generator']['class_path']} is no generator")
    expected, found = _shapes(blank.state_dict()), _shapes(weights)
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise InputError(
                f"{path}: its weights do not fit {type(blank).__name__}: {name} is {found.get(name, 'not there')}, and "
                f"should be {expected.get(name, 'not there')}; use another"
            )
    generator = build(config["generator"], trust)
    assert isinstance(generator, Generator)
    generator.load_state_dict(weights)
    return generator, config


def read_config(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """What a folder's config.json says, of which every entry is of the right kind.

    Raises:
        InputError: it is not there, no JSON, of another format, or lacks an entry.
    """
    path = Path(folder, CONFIG)
    if not path.is_file():
        raise InputError(
            f"{folder}: a folder without {CONFIG}; give a checkpoint of train.py, or a folder that export.py wrote"
        )
    try:
        if path.stat().st_size > LARGEST_CONFIG:
            raise InputError(f"{path}: larger than any {CONFIG} of gan_lightning; use another")
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: cannot be read as JSON ({one_line(error)[:150]}); use another") from error
    about = config if isinstance(config, dict) else {}
    version = about.get("format_version")
    if type(version) is not int:
        raise InputError(f"{path}: not of gan_lightning (it has no format_version); use one that export.py wrote")
    if version != FORMAT_VERSION:
        raise InputError(
            f"{path}: format {version}, and this version of gan_lightning reads {FORMAT_VERSION}; install the one that wrote it"
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
    }
    if found := [name for name, is_wrong in wrong.items() if is_wrong]:
        raise InputError(f"{path}: its {' and '.join(found)} are not what they should be; use another")
    return {"dtype": "float32", "global_step": None, "weights": None, "recipe": None, "metrics": None, **about}


def _stored(generator: Generator, dtype: str) -> dict[str, Tensor]:
    """The weights of a generator as they are written: floating-point ones in ``dtype``, counters as they are.

    Raises:
        InputError: ``dtype`` cannot hold one of them.
    """
    weights = {name: value.detach().cpu().contiguous() for name, value in generator.state_dict().items()}
    stored = {name: value.to(DTYPES[dtype]) if value.is_floating_point() else value for name, value in weights.items()}
    for name, value in weights.items():
        if bool((value.isfinite() & stored[name].isinf()).any()):
            raise InputError(f"{name} has a value of {value.abs().max():.3g}, which {dtype} cannot hold; use float32")
    return stored


def _read_weights(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError(f"{path}: no such file; give a folder that has it")
    try:
        return load_file(path)
    except Exception as error:  # of a file that was made to fail, anything
        raise InputError(f"{path}: damaged, or no weights ({one_line(error)[:150]}); use another") from error


def _shapes(weights: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in weights.items()}


def _fingerprint(weights: dict[str, Tensor]) -> str:
    """The SHA-256 of weights in the order of their names: files keep them in one of their own."""
    return fingerprint(*(value for _, value in sorted(weights.items())))
