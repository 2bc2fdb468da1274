"""The generator that a flag names, loaded and described."""

from pathlib import Path
from typing import TypeVar

import torch
from jsonargparse import Namespace

from gan_lightning import checkpoint, inference
from gan_lightning.cycle import CycleGAN
from gan_lightning.errors import InputError
from gan_lightning.exported import read_config
from gan_lightning.image_translator import ImageTranslator
from gan_lightning.inference import Sampler
from gan_lightning.trained import TrainedModel, locate
from gan_lightning.training.distributed import is_first_process
from gan_lightning.translation import PairedTranslation

M = TypeVar("M", bound=TrainedModel)


def load_sampler(name: str, config: Namespace, device: str | torch.device = "cpu") -> Sampler:
    """Load a generator that draws images, as :func:`load_model` does.

    Raises:
        InputError: it translates images instead.
    """
    return _of_kind(Sampler, load_model(name, config, device), name)


def load_translator(name: str, config: Namespace, device: str | torch.device = "cpu") -> ImageTranslator:
    """Load a translation from image to image, as :func:`load_model` does.

    Raises:
        InputError: it is a generator that draws images instead.
    """
    return _of_kind(ImageTranslator, load_model(name, config, device), name)


def load_model(name: str, config: Namespace, device: str | torch.device = "cpu") -> TrainedModel:
    """Load what a flag names; unless the name is its path, print its class, step and path.

    Args:
        name: a name for :func:`gan_lightning.inference.load`.
        config: the flags; ``raw`` and ``trust`` are used.
        device: device of the generator.
    """
    model: TrainedModel = inference.load(name, raw=config.raw, device=device, trust=config.trust)
    found = Path(model.origin["checkpoint"])
    if found != Path(name) and is_first_process():
        print(f"  {name}: {', '.join(facts(model))}, from {found}", flush=True)
    return model


def _of_kind(cls: type[M], model: TrainedModel, name: str) -> M:
    if isinstance(model, cls):
        return model
    does, command = model.work
    raise InputError(f"{name} has a {type(model.networks['generator']).__name__}, which {does}: use {command} for it")


def method_of(name: str) -> str:
    """Name the method that trained a generator; that of what cannot be read is GAN.

    A repository of the Hub is downloaded.
    """
    try:
        path = locate(name)
        if path.is_dir():
            about = read_config(path)
            translator = CycleGAN if about.get("inverse_generator") else PairedTranslation
            return translator.method if "source_shape" in about else checkpoint.GAN
        return checkpoint.method(checkpoint.load_gan(path))
    except InputError:  # reported when the generator is loaded
        return checkpoint.GAN


def facts(model: TrainedModel) -> list[str]:
    """Describe a generator: its class and, if known, its step and the kind of its weights."""
    step, weights = model.origin["global_step"], model.origin["weights"]
    named = [] if step is None else [f"step {step:,}"]
    return [type(model.networks["generator"]).__name__, *named, *([] if weights is None else [f"{weights} weights"])]
