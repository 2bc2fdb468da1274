"""From a checkpoint to pictures."""

import os
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from gan_lightning import checkpoint
from gan_lightning.errors import InputError
from gan_lightning.images import to_uint8
from gan_lightning.latents import class_frequencies, class_labels, latents
from gan_lightning.networks.base import Generator, build


class Sampler:
    """A trained generator, ready to draw.

    Args:
        generator: the generator; it is put in eval mode and takes no gradient.
        origin: where it is from, for records: checkpoint, global_step, and weights, ``ema`` or ``raw``.
    """

    def __init__(self, generator: Generator, origin: dict[str, Any] | None = None) -> None:
        self.generator = generator.eval().requires_grad_(False)
        self.origin = origin or {}

    @torch.inference_mode()
    def sample(
        self, num_images: int, labels: int | Sequence[int] | Tensor | None = None, seed: int = 0, batch_size: int = 64
    ) -> Tensor:
        """Draw images, uint8 (num_images, C, H, W), on the CPU.

        Args:
            num_images: how many.
            labels: the class of all, or one class an image; only for a conditional generator, which without them draws
                every class in turn.
            seed: the same seed draws the same images, whatever the batch size (within rounding).
            batch_size: how many are made at a time.

        Raises:
            InputError: a count below 1, or labels that the generator has not.
        """
        if num_images < 1 or batch_size < 1:
            raise InputError(f"num_images is {num_images} and batch_size {batch_size}: both must be at least 1")
        if seed < 0:
            raise InputError(f"seed is {seed}: it must be at least 0")
        chosen = self._labels(num_images, labels)
        parts = torch.split(torch.arange(num_images), batch_size)
        return torch.cat([self.at(part, None if chosen is None else chosen[part], seed).cpu() for part in parts])

    @torch.inference_mode()
    def at(self, indices: Tensor, labels: Tensor | None = None, seed: int = 0) -> Tensor:
        """The images of global indices int64 (B,), uint8 (B, C, H, W), on the generator's device.

        Image i is the i-th that :meth:`sample` draws, whatever the batch it is drawn in.

        Args:
            indices: which images, each at least 0.
            labels: int64 (B,), where the generator is conditional.
            seed: of the latents.
        """
        device = next(self.generator.parameters()).device
        z = latents(indices, self.generator.latent_dim, seed).to(device)
        return to_uint8(self.generator(z, None if labels is None else labels.to(device)))

    def by_index(self, class_counts: Sequence[int] | None = None, seed: int = 0) -> Callable[[Tensor], Tensor]:
        """What maps global indices int64 (B,) to images, as :meth:`at`; for metrics.

        Args:
            class_counts: how many images each class of the data has, in proportion to which a conditional generator is
                asked for its classes; None asks for all alike.
            seed: of the latents.
        """
        frequencies = class_frequencies(class_counts, self.generator.num_classes) if self.generator.conditional else None
        return lambda indices: self.at(indices, None if frequencies is None else class_labels(indices, frequencies), seed)

    def _labels(self, num_images: int, labels: int | Sequence[int] | Tensor | None) -> Tensor | None:
        if not self.generator.conditional:
            if labels is not None:
                raise InputError(f"labels is {labels}: this generator is unconditional and takes none")
            return None
        classes = self.generator.num_classes
        if labels is None:
            return torch.arange(num_images) % classes
        chosen = torch.as_tensor(labels).long()
        if chosen.dim() == 0:
            chosen = chosen.expand(num_images)
        if len(chosen) != num_images or int(chosen.min()) < 0 or int(chosen.max()) >= classes:
            raise InputError(f"labels is {labels}: give one class, or {num_images} of them, each from 0 to {classes - 1}")
        return chosen


def load(
    path: str | os.PathLike[str], *, raw: bool = False, device: str | torch.device = "cpu", trust: Collection[str] = ()
) -> Sampler:
    """Rebuild the generator of a training checkpoint, ready to sample.

        images = gan_lightning.load("lightning_logs/version_0/checkpoints/last.ckpt").sample(16)

    Args:
        path: a checkpoint that training wrote; nothing else is needed.
        raw: the generator's own weights, instead of their moving average where there is one.
        device: where to put it.
        trust: top-level modules of your own whose networks may be imported; this package's always are.

    Raises:
        InputError: no such file, or a damaged, foreign or untrusted one.
    """
    content = checkpoint.load_gan(path)
    about, weights = content[checkpoint.KEY], content["state_dict"]
    generator = build(about["generator"], trust)
    if not isinstance(generator, Generator):
        raise InputError(f"{path}: {about['generator']['class_path']} is no generator")
    averaged = about["ema"] and not raw
    load_weights(generator, weights, "ema." if averaged else "generator.", path)
    origin = {"checkpoint": str(path), "global_step": content["global_step"], "weights": "ema" if averaged else "raw"}
    return Sampler(generator.to(device), origin)


def load_weights(network: torch.nn.Module, weights: dict[str, Tensor], prefix: str, path: str | os.PathLike[str]) -> None:
    """Copy the entries of ``weights`` under ``prefix`` into ``network``, all of them and nothing else.

    Raises:
        InputError: names or shapes differ.
    """
    own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    try:
        network.load_state_dict(own)
    except (RuntimeError, TypeError, AttributeError) as error:
        first = [*str(error).splitlines(), ""][1].strip()  # after a line of introduction, one for each that differs
        raise InputError(f"{path}: its weights {prefix}* do not fit {type(network).__name__}: {first[:150]}") from error
