"""Penalties on the discriminator: what is added to its loss to keep its gradients small.

A penalty is called as ``penalty(discriminator, real, fake, labels)`` in the discriminator's step and returns a scalar. It is
computed in float32 whatever the precision of the run, because loss scaling does not cover ``torch.autograd.grad``.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from gan_lightning.errors import InputError

Critic = Callable[[Tensor, Tensor | None], Tensor]
"""A discriminator: images (B, C, H, W) and labels (B,) or None to logits (B,)."""


class Penalty(ABC):
    """What is added to the discriminator's loss."""

    @abstractmethod
    def __call__(self, discriminator: Critic, real: Tensor, fake: Tensor, labels: Tensor | None) -> Tensor:
        """The penalty, a scalar, for real and generated images (B, C, H, W) in [-1, 1] that share labels (B,) or None."""


class R1(Penalty):
    """gamma / 2 E |grad_x D(x)|^2 over real images x (Mescheder et al. 2018, equation 9), at every step.

    It is a pass of its own through the discriminator, which counts in the running moments of one with batch norm.

    Args:
        gamma: the weight, above 0. It grows with the area of the images.

    Raises:
        InputError: ``gamma`` is not above 0.
    """

    def __init__(self, gamma: float = 1.0) -> None:
        if not 0 < gamma < float("inf"):
            raise InputError(f"R1's gamma is {gamma}: it must be above 0")
        self.gamma = gamma

    def __call__(self, discriminator: Critic, real: Tensor, fake: Tensor, labels: Tensor | None) -> Tensor:
        with torch.autocast(real.device.type, enabled=False):
            images = real.detach().float().requires_grad_(True)
            logits = discriminator(images, labels)
            (gradients,) = torch.autograd.grad(logits.sum(), images, create_graph=True)  # (B, C, H, W)
            return self.gamma / 2 * gradients.square().sum(dim=(1, 2, 3)).mean()
