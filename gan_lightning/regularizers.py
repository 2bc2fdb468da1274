"""Regularizers of the discriminator: penalties are added to its loss, constraints are applied after its update.

The discriminator's update calls a penalty with the discriminator and the images that it has just seen. Gradients are taken
with respect to the images before any augmentation. They are float32 at any precision of the run, because loss scaling does not
cover ``torch.autograd.grad``.

Penalties do not go well with batch norm in the discriminator. A penalty's own pass changes the running moments, and "the
gradient at an image" depends on the rest of its batch, contrary to the papers.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from gan_lightning.errors import InputError
from gan_lightning.training import distributed
from gan_lightning.training.randomness import draw

Critic = Callable[[Tensor, Tensor | None], Tensor]
"""A discriminator, with the augmentation before it: images (B, C, H, W), and labels (B,), sources (B, C', H', W') or None, to
one logit per image (B,)."""


class DiscriminatorBatch(NamedTuple):
    """Images that the discriminator sees in one of its updates, and its logits for them."""

    real: Tensor  # (B, C, H, W) in [-1, 1], before any augmentation
    fake: Tensor  # (B, C, H, W), likewise; without a gradient
    condition: Tensor | None  # labels (B,) or sources (B, C', H', W'), of both, or None
    real_logits: Tensor  # (B, ...)
    fake_logits: Tensor  # (B, ...)


class Penalty(nn.Module, ABC):
    """A term added to the discriminator's loss. A module, so that checkpoints save its state.

    Attributes:
        has_own_graph: True if the term does not depend on the logits of the batch, but only on its own passes through the
            discriminator. Its gradients are then computed separately and its memory is freed, before the next penalty.
        is_mean: True if the term is a mean over images or pairs of images, so that micro-batches can compute it.
    """

    has_own_graph: ClassVar[bool] = False
    is_mean: ClassVar[bool] = True

    @abstractmethod
    def forward(self, critic: Critic, batch: DiscriminatorBatch) -> Tensor:
        """Compute the penalty, a scalar in float32."""

    def is_due(self, update: int) -> bool:
        """Tell if an update of the discriminator includes the penalty; ``update`` is the number of updates before it."""
        return True


class GradientPenalty(Penalty):
    """A penalty on |grad_x D(x)|, at points that a subclass chooses.

    Args:
        weight: factor on the penalty, above 0.
        every: discriminator updates from one penalty to the next. Each is multiplied by this number, so that the mean stays
            the same at a lower cost (lazy regularization; Karras et al. 2020, StyleGAN2).

    Attributes:
        symbol: name of the weight in a subclass.

    Raises:
        InputError: a number is out of range.
    """

    has_own_graph = True
    symbol = "weight"

    def __init__(self, weight: float, every: int = 1) -> None:
        super().__init__()
        if not 0 < weight < float("inf"):
            raise InputError(f"{type(self).__name__}'s {self.symbol} is {weight}: use a number above 0")
        if every < 1:
            raise InputError(f"{type(self).__name__}'s every is {every}: use at least 1")
        self.weight, self.every = weight, every

    def is_due(self, update: int) -> bool:
        return update % self.every == 0

    def forward(self, critic: Critic, batch: DiscriminatorBatch) -> Tensor:
        with torch.autocast(batch.real.device.type, enabled=False):
            points = self.points(_to_float32(batch.real.detach()), _to_float32(batch.fake.detach())).requires_grad_(True)
            logits = critic(points, batch.condition)
            (gradients,) = torch.autograd.grad(logits.sum(), points, create_graph=True)  # (B, C, H, W)
            return self.every * self.weight * self.penalty(gradients.flatten(1)).mean()

    @abstractmethod
    def points(self, real: Tensor, fake: Tensor) -> Tensor:
        """Choose the points (B, C, H, W) of the gradient, given real and generated images of that shape."""

    @abstractmethod
    def penalty(self, gradients: Tensor) -> Tensor:
        """Compute the penalty (B,) on gradients (B, D)."""


class R1(GradientPenalty):
    """gamma / 2 E |grad_x D(x)|^2 over real images x (Mescheder et al. 2018, equation 9).

    Args:
        gamma: weight, above 0. A suitable value grows with the area of the images.
        every: discriminator updates from one penalty to the next, each with so many times the weight.
    """

    symbol = "gamma"

    def __init__(self, gamma: float = 1.0, every: int = 1) -> None:
        super().__init__(gamma, every)

    def points(self, real: Tensor, fake: Tensor) -> Tensor:
        return real

    def penalty(self, gradients: Tensor) -> Tensor:
        return gradients.square().sum(dim=1) / 2


class R2(R1):
    """gamma / 2 E |grad_x D(x)|^2 over generated images x (Mescheder et al. 2018, equation 10)."""

    def points(self, real: Tensor, fake: Tensor) -> Tensor:
        return fake


class WGANGP(GradientPenalty):
    """lambda E (|grad_x D(x)| - 1)^2 at points between real and generated images (Gulrajani et al. 2017, equation 3).

    Each point is uniform on the line between one real and one generated image.

    Args:
        weight: the paper's lambda, above 0.
        every: discriminator updates from one penalty to the next, each with so many times the weight.
    """

    def __init__(self, weight: float = 10.0, every: int = 1) -> None:
        super().__init__(weight, every)

    def points(self, real: Tensor, fake: Tensor) -> Tensor:
        return torch.lerp(fake, real, _uniform_per_image(real))

    def penalty(self, gradients: Tensor) -> Tensor:
        norms: Tensor = torch.linalg.vector_norm(gradients, dim=1)  # its own gradient at 0 is 0, not NaN
        return (norms - 1).square()


class DRAGAN(WGANGP):
    """lambda E (|grad_x D(x + d)| - 1)^2 around real images (Kodali et al. 2017), with noise d.

    The noise is that of the paper's experiments, not the normal noise of its formula: uniform in [0, 1) times half the standard
    deviation of the batch. Each point is uniform on the line from the image to the noisy one.
    """

    is_mean = False

    def points(self, real: Tensor, fake: Tensor) -> Tensor:
        return real + _uniform_per_image(real) * 0.5 * _deviation(real) * torch.rand_like(real)


class LeCam(Penalty):
    """lambda (E (D(x) - a_F)^2 + E (D(G(z)) - a_R)^2), Tseng et al. 2021; for training on few images.

    a_R and a_F are moving averages, over all processes, of the logits of real and of generated images. They start at the means
    of the first batch. This is the paper's formula: the authors' code also clips the differences, and on BigGAN starts late.

    Args:
        weight: the paper's lambda, above 0.
        decay: decay of the averages, from 0 to below 1.

    Raises:
        InputError: a number is out of range.
    """

    is_mean = False
    real_average: Tensor
    fake_average: Tensor

    def __init__(self, weight: float = 0.3, decay: float = 0.99) -> None:
        super().__init__()
        if not 0 < weight < float("inf"):
            raise InputError(f"LeCam's weight is {weight}: use a number above 0")
        if not 0 <= decay < 1:
            raise InputError(f"LeCam's decay is {decay}: use at least 0 and below 1")
        self.weight, self.decay = weight, decay
        self.register_buffer("real_average", torch.tensor(torch.nan))  # NaN before the first batch
        self.register_buffer("fake_average", torch.tensor(torch.nan))

    def forward(self, critic: Critic, batch: DiscriminatorBatch) -> Tensor:
        real, fake = _to_float32(batch.real_logits), _to_float32(batch.fake_logits)
        self._move(self.real_average, real)
        self._move(self.fake_average, fake)
        return self.weight * ((real - self.fake_average).square().mean() + (fake - self.real_average).square().mean())

    @torch.no_grad()
    def _move(self, average: Tensor, logits: Tensor) -> None:
        mean = distributed.mean(logits.mean())
        average.copy_(torch.where(average.isnan(), mean, torch.lerp(mean, average, self.decay)))


class Constraint(ABC):
    """A change to the discriminator's weights after each of its updates."""

    @abstractmethod
    def __call__(self, discriminator: nn.Module) -> None:
        """Change the weights in place."""


class WeightClipping(Constraint):
    """Clamps every trained weight to [-limit, limit] to bound the discriminator's slope (Arjovsky et al. 2017, algorithm 1).

    Args:
        limit: the paper's c, above 0.

    Raises:
        InputError: the limit is not above 0.
    """

    def __init__(self, limit: float = 0.01) -> None:
        if not 0 < limit < float("inf"):
            raise InputError(f"WeightClipping's limit is {limit}: use a number above 0")
        self.limit = limit

    @torch.no_grad()
    def __call__(self, discriminator: nn.Module) -> None:
        parameters: list[Tensor] = [parameter for parameter in discriminator.parameters() if parameter.requires_grad]
        torch._foreach_clamp_min_(parameters, -self.limit)
        torch._foreach_clamp_max_(parameters, self.limit)


def _to_float32(values: Tensor) -> Tensor:
    """Convert half precision to float32; leave float32 and float64 as they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _deviation(images: Tensor) -> Tensor:
    """Standard deviation of all pixels of the batch, over all processes."""
    centred = images - distributed.mean(images.mean())
    pixels = images.numel() * distributed.world_size()
    return (distributed.mean(centred.square().mean()) * pixels / (pixels - 1)).sqrt()


def _uniform_per_image(images: Tensor) -> Tensor:
    return draw(torch.rand, len(images), *[1] * (images.dim() - 1), device=images.device)  # (B, 1, 1, 1)
