"""From a checkpoint to pictures."""

import os
from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from gan_lightning import checkpoint
from gan_lightning.errors import InputError
from gan_lightning.images import to_uint8
from gan_lightning.networks.base import Generator, build


class Sampler:
    """A trained generator, ready to draw.

    Args:
        generator: the generator; it is put in eval mode and takes no gradient.
    """

    def __init__(self, generator: Generator) -> None:
        self.generator = generator.eval().requires_grad_(False)

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
        random = torch.Generator().manual_seed(seed)
        z = torch.randn(num_images, self.generator.latent_dim, generator=random)  # (N, latent_dim)
        chosen = self._labels(num_images, labels)
        device = next(self.generator.parameters()).device
        batches = [
            to_uint8(self.generator(z[part].to(device), None if chosen is None else chosen[part].to(device))).cpu()
            for part in (slice(start, start + batch_size) for start in range(0, num_images, batch_size))
        ]
        return torch.cat(batches)

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
    load_weights(generator, weights, "ema." if about["ema"] and not raw else "generator.", path)
    return Sampler(generator.to(device))


def load_weights(network: torch.nn.Module, weights: dict[str, Tensor], prefix: str, path: str | os.PathLike[str]) -> None:
    """Copy the entries of ``weights`` under ``prefix`` into ``network``, all of them and nothing else.

    Raises:
        InputError: names or shapes differ.
    """
    own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    try:
        network.load_state_dict(own)
    except RuntimeError as error:
        first = [*str(error).splitlines(), ""][1].strip()  # after a line of introduction, one for each that differs
        raise InputError(f"{path}: its weights {prefix}* do not fit {type(network).__name__}: {first[:150]}") from error
