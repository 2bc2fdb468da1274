"""Adversarial losses on logits.

A loss defines what the discriminator and the generator minimise, given the discriminator's logits for real and for generated
images. With the logit l, the probability that the discriminator gives to "real" is D = sigmoid(l), so

    log D = -softplus(-l)        log(1 - D) = -softplus(l)

Both are exact and finite for any finite logit, because no probability is rounded to 0 before the logarithm. Logits in half
precision are converted to float32 first. The losses after Goodfellow's use the logit itself as a score.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

from gan_lightning.training import distributed


class AdversarialLoss(ABC):
    """Loss functions of the two players. Both methods take logits of shape (B, ...) and return a scalar.

    If an image has several logits, losses are means over all of them, and a comparison is between logits of the same part.

    Attributes:
        generator_sees_real: True if :meth:`generator` uses the logits of real images. The generator's update then gets its
            own fresh real images.
        is_mean: True if the losses are means over images or pairs of images, so that micro-batches can compute them.
    """

    generator_sees_real: bool = False
    is_mean: bool = True

    @abstractmethod
    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Compute the discriminator's loss."""

    @abstractmethod
    def generator(self, real_logits: Tensor | None, fake_logits: Tensor) -> Tensor:
        """Compute the generator's loss. ``real_logits`` is None unless :attr:`generator_sees_real`."""


class MinimaxLoss(AdversarialLoss):
    """The original two-player game (Goodfellow et al. 2014, equation 1).

    The discriminator minimises -(E log D(x) + E log(1 - D(G(z)))), the generator E log(1 - D(G(z))). The generator's
    gradient vanishes when the discriminator is sure, and it soon is: see :class:`NonSaturatingLoss`.
    """

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return softplus(-_to_float32(real_logits)).mean() + softplus(_to_float32(fake_logits)).mean()

    def generator(self, real_logits: Tensor | None, fake_logits: Tensor) -> Tensor:
        return -softplus(_to_float32(fake_logits)).mean()


class NonSaturatingLoss(MinimaxLoss):
    """The form that trains well (Goodfellow et al. 2014, section 3): the generator minimises -E log D(G(z)).

    The discriminator's loss and the fixed point are those of :class:`MinimaxLoss`, but the gradient is strong early on.
    """

    def generator(self, real_logits: Tensor | None, fake_logits: Tensor) -> Tensor:
        return softplus(-_to_float32(fake_logits)).mean()


class LeastSquaresLoss(AdversarialLoss):
    """LSGAN (Mao et al. 2017, equation 9): pulls the logits to 1 for real images and to 0 for generated ones.

    The discriminator minimises 1/2 E (D(x) - 1)^2 + 1/2 E D(G(z))^2, the generator 1/2 E (D(G(z)) - 1)^2.
    """

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return ((_to_float32(real_logits) - 1).square().mean() + _to_float32(fake_logits).square().mean()) / 2

    def generator(self, real_logits: Tensor | None, fake_logits: Tensor) -> Tensor:
        return (_to_float32(fake_logits) - 1).square().mean() / 2


class WassersteinLoss(AdversarialLoss):
    """The difference of mean scores, an estimate of the earth mover's distance (Arjovsky et al. 2017, equations 2 and 3).

    The discriminator minimises E D(G(z)) - E D(x), the generator -E D(G(z)). The loss is meaningful only if the
    discriminator's slope is bounded: by ``WeightClipping``, ``WGANGP`` or spectral norm. The loss itself does not bound it.
    """

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return _to_float32(fake_logits).mean() - _to_float32(real_logits).mean()

    def generator(self, real_logits: Tensor | None, fake_logits: Tensor) -> Tensor:
        return -_to_float32(fake_logits).mean()


class HingeLoss(WassersteinLoss):
    """The hinge of a support vector machine (Lim and Ye 2017; Miyato et al. 2018, equations 16 and 17).

    The discriminator minimises E max(0, 1 - D(x)) + E max(0, 1 + D(G(z))), the generator -E D(G(z)).
    """

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return relu(1 - _to_float32(real_logits)).mean() + relu(1 + _to_float32(fake_logits)).mean()


class RelativisticPairingLoss(AdversarialLoss):
    """Comparison of each real image with one generated image (RSGAN, Jolicoeur-Martineau 2019; Huang et al. 2024).

    The discriminator minimises E log(1 + exp(-(D(x) - D(G(z))))), the generator the same with the two exchanged. Each real
    image is paired with one generated image of its batch. With R1 and R2 this is the loss of R3GAN.
    """

    generator_sees_real = True

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return softplus(_to_float32(fake_logits) - _to_float32(real_logits)).mean()

    def generator(self, real_logits: Tensor | None, fake_logits: Tensor) -> Tensor:
        return self.discriminator(fake_logits, _require_logits(real_logits))


class RelativisticAverageLoss(AdversarialLoss):
    """Comparison of each image with the mean of the other kind (RaSGAN, Jolicoeur-Martineau 2019).

    The discriminator minimises E softplus(-(D(x) - E D(G(z)))) + E softplus(D(G(z)) - E D(x)), the generator the same with
    real and generated exchanged. The inner means are over the images of all processes, one for each logit of an image.
    """

    generator_sees_real = True
    is_mean = False

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        real, fake = _to_float32(real_logits), _to_float32(fake_logits)
        real_mean, fake_mean = distributed.mean(torch.stack([real.mean(dim=0), fake.mean(dim=0)])).unbind()
        return softplus(fake_mean - real).mean() + softplus(fake - real_mean).mean()

    def generator(self, real_logits: Tensor | None, fake_logits: Tensor) -> Tensor:
        return self.discriminator(fake_logits, _require_logits(real_logits))


def _to_float32(logits: Tensor) -> Tensor:
    """Convert logits to at least float32."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _require_logits(real_logits: Tensor | None) -> Tensor:
    if real_logits is None:
        raise ValueError("a relativistic loss needs the logits of real images in the generator's step, but got None")
    return real_logits
