"""From image to image, learnt from pairs: pix2pix, super-resolution, inpainting, colouring."""

from collections.abc import Sequence

from torch import Tensor

from gan_lightning.augment import Augmentation
from gan_lightning.errors import InputError
from gan_lightning.images import to_uint8
from gan_lightning.losses import AdversarialLoss
from gan_lightning.module import (
    OptimizerCallable,
    TwoNetworks,
    adam,
    evaluated,
    frozen,
    probabilities,
    profiled,
    require_weight,
)
from gan_lightning.networks.base import Discriminator, Translator, enlarged
from gan_lightning.perceptual import PerceptualDistance
from gan_lightning.regularizers import Constraint, DiscriminatorBatch, Penalty


class PairedTranslation(TwoNetworks):
    """A generator from sources to images, and a discriminator of both together (Isola et al. 2017, pix2pix).

    With a source x, its target y and the generator's image G(x), the discriminator learns to tell (x, y) from (x, G(x)),
    equation 1. The generator minimises, equation 4,

        adversarial_weight L_adv(D(x, G(x))) + l1_weight E|y - G(x)| + perceptual_weight E|f(y) - f(G(x))|

    with any adversarial loss, and f features of a network that was trained on ImageNet. The paper has the first two terms. It
    also halves the discriminator's loss, but Adam's updates do not depend on such a factor.

    A batch is (targets, sources). One training step is one update of the generator, after one of the discriminator on the same
    images.

    Args:
        generator: network from sources to images.
        discriminator: network from images, and their sources if it has a ``source_shape``, to logits.
        loss: the adversarial losses of both networks.
        generator_optimizer: optimizer of the generator; in Python, a function that makes it from the parameters.
        discriminator_optimizer: optimizer of the discriminator, likewise.
        adversarial_weight: weight of the adversarial loss. At 0 the discriminator is not trained.
        l1_weight: weight of the mean absolute difference from the target.
        perceptual_weight: weight of the distance from the target in features of EfficientNet-Lite0.
        ema_halflife: half-life of the generator's moving average, in images; 0 keeps no average.
        ema_ramp: upper limit of the half-life, as a share of the images seen so far; null sets no limit.
        penalty: one or several terms that are added to the discriminator's loss. They differentiate with respect to the images,
            given their sources.
        constraint: change to the discriminator's weights after each of its updates.
        augmentation: random change to all that the discriminator sees. An image and its source change places together. Colours
            change only in the image.
        channels_last: channels-last order of the convolutions' weights in memory, and so of the features.
        gradient_clip: largest norm of each network's gradient; null sets no limit.

    Raises:
        InputError: a number is out of range, no weight is above 0, or the discriminator uses labels.
    """

    method = "PairedTranslation"
    generator: Translator
    ema: Translator | None

    def __init__(
        self,
        generator: Translator,
        discriminator: Discriminator,
        loss: AdversarialLoss,
        generator_optimizer: OptimizerCallable = adam,
        discriminator_optimizer: OptimizerCallable = adam,
        adversarial_weight: float = 1.0,
        l1_weight: float = 100.0,
        perceptual_weight: float = 0.0,
        ema_halflife: float = 0.0,
        ema_ramp: float | None = 0.05,
        penalty: Penalty | Sequence[Penalty] | None = None,
        constraint: Constraint | None = None,
        augmentation: Augmentation | None = None,
        channels_last: bool = False,
        gradient_clip: float | None = None,
    ) -> None:
        weights = {"adversarial_weight": adversarial_weight, "l1_weight": l1_weight, "perceptual_weight": perceptual_weight}
        for name, weight in weights.items():
            require_weight(name, weight)
        if not any(weights.values()):
            raise InputError(f"model.{', model.'.join(weights)} are all 0: use at least one above 0")
        if discriminator.conditional:
            raise InputError(
                f"conditioning of {type(discriminator).__name__} is {discriminator.conditioning}, but sources have no labels: "
                "use null"
            )
        super().__init__(
            generator,
            discriminator,
            loss,
            penalty,
            constraint,
            augmentation,
            generator_optimizer=generator_optimizer,
            discriminator_optimizer=discriminator_optimizer,
            ema_halflife=ema_halflife,
            ema_ramp=ema_ramp,
            channels_last=channels_last,
            gradient_clip=gradient_clip,
        )
        self.adversarial_weight, self.l1_weight, self.perceptual_weight = adversarial_weight, l1_weight, perceptual_weight
        self.perceptual = PerceptualDistance(generator.image_shape[0]) if perceptual_weight else None

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        targets, sources = batch  # float (B, C, H, W) and (B, C', H', W') in [-1, 1]
        fakes = self._fakes(sources)
        outputs = self._discriminator_step(targets, fakes.detach(), sources) if self.adversarial_weight else {}
        outputs |= self._generator_step(targets, fakes, sources)
        self.update_averages(len(targets))
        return outputs

    @profiled("discriminator")
    def _discriminator_step(self, targets: Tensor, fakes: Tensor, sources: Tensor) -> dict[str, Tensor]:
        self.discriminator.zero_grad()
        (real_logits, _), (fake_logits, _) = self.discriminate_both(targets, fakes, sources)  # D(x, y), D(x, G(x))
        loss = self.loss.discriminator(real_logits, fake_logits)
        outputs = {"discriminator_loss": loss.detach(), **probabilities(real_logits, fake_logits)}
        if self.augmentation is not None:
            self.augmentation.observe(real_logits.detach())
        if self.penalties:
            batch = DiscriminatorBatch(targets, fakes, sources, real_logits, fake_logits)
            due = zip(self.penalties, self.due_penalties(self.global_step), strict=True)
            penalty = sum((self.penalty_term(term, batch) for term, is_due in due if is_due), start=loss.new_zeros(()))
            loss = loss + penalty
            outputs["penalty"] = penalty.detach()
        self.manual_backward(loss)
        self.update_discriminator()
        return outputs

    @profiled("generator")
    def _generator_step(self, targets: Tensor, fakes: Tensor, sources: Tensor) -> dict[str, Tensor]:
        self.generator.zero_grad()
        loss, outputs = self._restoration(targets, fakes)
        with frozen(self.discriminator):
            if self.adversarial_weight:
                adversarial = self._adversarial(targets, fakes, sources)
                loss = loss + self.adversarial_weight * adversarial
                outputs["generator_loss"] = adversarial.detach()
            self.manual_backward(loss)
        optimizer, _ = self.optimizer_pair()
        optimizer.step()
        return outputs

    def _restoration(self, targets: Tensor, fakes: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the sum of the weighted distances from the targets; and each without its weight, to log."""
        l1 = (targets - fakes).abs().mean()
        loss, outputs = self.l1_weight * l1, {"l1": l1.detach()}
        if self.perceptual is not None:
            distance = self.perceptual(fakes, targets).mean()
            loss = loss + self.perceptual_weight * distance
            outputs["perceptual"] = distance.detach()
        return loss, outputs

    def _adversarial(self, targets: Tensor, fakes: Tensor, sources: Tensor) -> Tensor:
        sees_real = self.loss.generator_sees_real
        real_logits = self.discriminate(*self.augmented(targets, sources))[0] if sees_real else None
        fake_logits, _ = self.discriminate(*self.augmented(fakes, sources))
        return self.loss.generator(real_logits, fake_logits)

    # Passes through the networks

    @profiled("generator")
    def _fakes(self, sources: Tensor) -> Tensor:
        images: Tensor = self.generator(sources)
        return images

    def augmented(self, images: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if condition is None or self.discriminator.source_shape is None:
            return super().augmented(images, None)
        sources = enlarged(condition, images)
        return (images, sources) if self.augmentation is None else self.augmentation.pairs(images, sources)

    # For the callbacks

    def translate(self, sources: Tensor) -> Tensor:
        """Translate sources (B, C', h, w) in [-1, 1], of any size, to uint8 images by :attr:`sampler` in eval mode."""
        with evaluated(self.sampler) as generator:
            return to_uint8(generator.translate(sources))

    def losses_at(self, fakes: Tensor, targets: Tensor, sources: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the generator's loss at its images (B, C, H, W): the weighted adversarial term, and the sum of the others."""
        adversarial = self._adversarial(targets, fakes, sources)
        return self.adversarial_weight * adversarial, self._restoration(targets, fakes)[0]
