"""The translators that a flag names, loaded and described."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gan_lightning import checkpoint
from gan_lightning.images import to_float, to_uint8
from gan_lightning.lookup import find
from gan_lightning.networks.base import Translator, rebuild


@dataclass(frozen=True)
class LoadedTranslation:
    """The networks of a checkpoint that translate images.

    Attributes:
        generator: network from sources to images.
        inverse_generator: network from images back to sources; None if the method has none.
        origin: their source, for records: checkpoint, global_step, weights (``ema`` or ``raw``), and method.
    """

    generator: Translator
    inverse_generator: Translator | None
    origin: dict[str, Any]

    def translate(self, sources: Tensor) -> Tensor:
        """Translate sources uint8 (B, C', h, w) to images uint8 (B, C, H, W)."""
        return _translated(self.generator, sources)

    def translate_back(self, images: Tensor) -> Tensor:
        """Translate images uint8 (B, C, H, W) back to sources uint8 (B, C', h, w)."""
        assert self.inverse_generator is not None
        return _translated(self.inverse_generator, images)


@torch.inference_mode()
def _translated(generator: Translator, images: Tensor) -> Tensor:
    return to_uint8(generator.translate(to_float(images)))


def method_of(name: str) -> str:
    """Name the method that trained a generator; that of anything but a checkpoint is GAN.

    Raises:
        InputError: the name does not exist, or the checkpoint is damaged.
    """
    path = find(name)
    return checkpoint.method(checkpoint.load_gan(path)) if path is not None and path.is_file() else checkpoint.GAN


def load_translation(path: str, raw: bool, trust: Collection[str], device: torch.device) -> LoadedTranslation:
    """Rebuild the translators of a checkpoint.

    Args:
        path: the checkpoint.
        raw: use the networks' own weights, even if there is a moving average of them.
        trust: custom top-level modules from which networks may be imported.
        device: device of the networks.

    Raises:
        InputError: the checkpoint is damaged, foreign or untrusted, or its networks are no translators.
    """
    content = checkpoint.load_gan(path)
    about, weights = content[checkpoint.KEY], content["state_dict"]
    averaged = about["ema"] and not raw

    def made(name: str, average: str) -> Translator:
        prefix = f"{average if averaged else name}."
        own = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
        network = rebuild(Translator, about[name], own, trust, path)  # type: ignore[type-abstract]
        return network.to(device).eval().requires_grad_(False)

    return LoadedTranslation(
        made("generator", "ema"),
        made("inverse_generator", "inverse_ema") if "inverse_generator" in about else None,
        {
            "checkpoint": path,
            "global_step": content["global_step"],
            "weights": "ema" if averaged else "raw",
            "method": checkpoint.method(content),
        },
    )
