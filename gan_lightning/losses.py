"""Adversarial losses on logits.

A loss says what the discriminator and the generator minimise, given the discriminator's logits for real and for
generated images. With the logit l, the probability that the discriminator gives to "real" is D = sigmoid(l), so

    log D = -softplus(-l)        log(1 - D) = -softplus(l)

which is exact and finite for any finite logit: no log of a probability that was rounded to 0 is ever taken. Logits are
taken to float32 first, whatever the precision of the networks.
"""

from abc import ABC, abstractmethod

from torch import Tensor
from torch.nn.functional import softplus


class AdversarialLoss(ABC):
    """What the two players minimise. Both methods take logits of shape (B,) and return a scalar.

    Attributes:
        generator_sees_real: whether :meth:`generator` looks at the logits of real images; where it does, the
            generator's step is handed fresh real images of its own.
    """

    generator_sees_real: bool = False

    @abstractmethod
    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """The discriminator's loss."""

    @abstractmethod
    def generator(self, real_logits: Tensor | None, fake_logits: Tensor) -> Tensor:
        """The generator's loss. ``real_logits`` is None unless :attr:`generator_sees_real`."""


class MinimaxLoss(AdversarialLoss):
    """The two-player game as it was first stated (Goodfellow et al. 2014, equation 1).

    The discriminator minimises -(E log D(x) + E log(1 - D(G(z)))), the generator E log(1 - D(G(z))). The generator's
    gradient vanishes where the discriminator is sure, which it soon is: see :class:`NonSaturatingLoss`.
    """

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return softplus(-real_logits.float()).mean() + softplus(fake_logits.float()).mean()

    def generator(self, real_logits: Tensor | None, fake_logits: Tensor) -> Tensor:
        return -softplus(fake_logits.float()).mean()


class NonSaturatingLoss(MinimaxLoss):
    """The form that trains (Goodfellow et al. 2014, section 3): the generator minimises -E log D(G(z)).

    The same discriminator and the same fixed point as :class:`MinimaxLoss`, with a strong gradient early on.
    """

    def generator(self, real_logits: Tensor | None, fake_logits: Tensor) -> Tensor:
        return softplus(-fake_logits.float()).mean()
