"""From image to image and back, learnt without pairs: CycleGAN (Zhu et al. 2017)."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gan_lightning.errors import InputError
from gan_lightning.images import to_uint8
from gan_lightning.losses import AdversarialLoss, LeastSquaresLoss
from gan_lightning.module import (
    AdversarialModule,
    OptimizerCallable,
    adam,
    evaluated,
    frozen,
    mean_per_image,
    probabilities,
    profiled,
    require_weight,
)
from gan_lightning.networks.base import Discriminator, Translator
from gan_lightning.training import distributed


class CycleGAN(AdversarialModule):
    """Two generators that undo each other, and a discriminator of the images of each (Zhu et al. 2017).

    The paper's G maps sources x to images, and F (``inverse_generator``) maps targets y back. Its D_Y tells targets from G(x),
    and D_X (``inverse_discriminator``) sources from F(y). The generators minimise, equation 3,

        adversarial_weight (L_adv(D_Y(G(x))) + L_adv(D_X(F(y))))
        + cycle_weight (E|F(G(x)) - x| + E|G(F(y)) - y|)
        + identity_weight (E|G(y) - y| + E|F(x) - x|)

    A batch is (targets, sources); a source does not belong to a target. One training step is one update of both generators,
    after one of both discriminators on the same images and on earlier ones.

    Args:
        generator: network from sources to images. The inverse one is of the same class and has the same other arguments.
        discriminator: network from images to logits; likewise.
        loss: the adversarial losses; null is the paper's, least squares.
        generator_optimizer: optimizer of both generators; in Python, a function that makes it from the parameters.
        discriminator_optimizer: optimizer of both discriminators, likewise.
        adversarial_weight: weight of the adversarial loss. The default is the paper's, because its generators' loss lacks the
            factor 1/2 of ``LeastSquaresLoss``.
        cycle_weight: weight of the cycle's mean absolute difference, the paper's lambda.
        identity_weight: weight of the change that generators make to images that are already theirs, to keep their colours. The
            paper has 5 for paintings and 0 otherwise.
        pool_size: earlier generated images of which each discriminator sees some; 0 is none. Each process has its own pools.
        ema_halflife: half-life of the generators' moving averages, in images; 0 keeps no averages.
        ema_ramp: upper limit of the half-life, as a share of the images seen so far; null sets no limit.
        channels_last: channels-last order of the convolutions' weights in memory, and so of the features.
        gradient_clip: largest norm of the gradient of both generators, and of that of both discriminators; null sets no limit.

    Raises:
        InputError: a number is out of range, the discriminator looks at sources or labels, sources and targets differ in size,
            or there is an identity_weight and they differ in channels.
    """

    method = "CycleGAN"
    generators: ClassVar[Mapping[str, str]] = {"generator": "ema", "inverse_generator": "inverse_ema"}
    discriminators = ("discriminator", "inverse_discriminator")
    generator: Translator
    inverse_generator: Translator
    discriminator: Discriminator
    inverse_discriminator: Discriminator
    ema: Translator | None
    inverse_ema: Translator | None
    pool_size: int = 0

    def __init__(
        self,
        generator: Translator,
        discriminator: Discriminator,
        loss: AdversarialLoss | None = None,
        generator_optimizer: OptimizerCallable = adam,
        discriminator_optimizer: OptimizerCallable = adam,
        adversarial_weight: float = 2.0,
        cycle_weight: float = 10.0,
        identity_weight: float = 0.0,
        pool_size: int = 50,
        ema_halflife: float = 0.0,
        ema_ramp: float | None = 0.05,
        channels_last: bool = False,
        gradient_clip: float | None = None,
    ) -> None:
        weights = {"adversarial_weight": adversarial_weight, "cycle_weight": cycle_weight, "identity_weight": identity_weight}
        for name, weight in weights.items():
            require_weight(name, weight)
        if pool_size < 0:
            raise InputError(f"model.pool_size is {pool_size}: use a number of images, or 0 for no pool")
        shape, source_shape = generator.image_shape, generator.source_shape
        if identity_weight and shape != source_shape:
            raise InputError(
                f"model.identity_weight is {identity_weight}, but generators cannot take their own images, because sources are "
                f"{source_shape} and targets {shape}: use 0"
            )
        if discriminator.source_shape is not None or discriminator.conditional:
            raise InputError(
                f"{type(discriminator).__name__} looks at sources or labels, but CycleGAN has no pairs and no labels: set its "
                "source_shape and conditioning to null"
            )
        networks = {
            "generator": generator,
            "inverse_generator": _like(generator, image_shape=source_shape, source_shape=shape),
            "discriminator": discriminator,
            "inverse_discriminator": _like(discriminator, image_shape=source_shape),
        }
        optimizers = generator_optimizer, discriminator_optimizer
        super().__init__(networks, *optimizers, ema_halflife, ema_ramp, channels_last, gradient_clip)
        self.loss = loss or LeastSquaresLoss()
        self.adversarial_weight, self.cycle_weight, self.identity_weight = adversarial_weight, cycle_weight, identity_weight
        self.pool_size = pool_size
        self.pool, self.inverse_pool = ImagePool(pool_size, shape), ImagePool(pool_size, source_shape)
        self._restored_pools: dict[str, Tensor] = {}

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        y, x = batch  # float (B, C, H, W) and (B, C', H, W) in [-1, 1]
        fake_y, fake_x = self._fakes(x, y)  # G(x), F(y)
        outputs = self._discriminator_step(x, y, fake_x.detach(), fake_y.detach())
        outputs |= self._generator_step(x, y, fake_x, fake_y)
        self.update_averages(len(y))
        return outputs

    @profiled("discriminator")
    def _discriminator_step(self, x: Tensor, y: Tensor, fake_x: Tensor, fake_y: Tensor) -> dict[str, Tensor]:
        _, optimizer = self.optimizer_pair()
        optimizer.zero_grad()
        real_logits, fake_logits = self.discriminator(y), self.discriminator(self.pool(fake_y))
        inverse_real, inverse_fake = self.inverse_discriminator(x), self.inverse_discriminator(self.inverse_pool(fake_x))
        loss = self.loss.discriminator(real_logits, fake_logits)
        inverse_loss = self.loss.discriminator(inverse_real, inverse_fake)
        self.manual_backward(loss + inverse_loss)
        optimizer.step()
        outputs = {"discriminator_loss": loss.detach(), **probabilities(real_logits, fake_logits)}
        inverse = {"discriminator_loss": inverse_loss.detach(), **probabilities(inverse_real, inverse_fake)}
        return outputs | {f"inverse_{name}": value for name, value in inverse.items()}

    @profiled("generator")
    def _generator_step(self, x: Tensor, y: Tensor, fake_x: Tensor, fake_y: Tensor) -> dict[str, Tensor]:
        optimizer, _ = self.optimizer_pair()
        optimizer.zero_grad()
        with frozen(self.discriminator), frozen(self.inverse_discriminator):
            adversarial = self._adversarial(self.discriminator, y, fake_y)  # equation 1
            inverse_adversarial = self._adversarial(self.inverse_discriminator, x, fake_x)
            cycle = _l1(self.inverse_generator(fake_y), x) + _l1(self.generator(fake_x), y)  # equation 2
            loss = self.adversarial_weight * (adversarial + inverse_adversarial) + self.cycle_weight * cycle
            outputs = {"generator_loss": adversarial, "inverse_generator_loss": inverse_adversarial, "cycle_loss": cycle}
            if self.identity_weight:
                identity = _l1(self.generator(y), y) + _l1(self.inverse_generator(x), x)  # section 5.2
                loss = loss + self.identity_weight * identity
                outputs["identity_loss"] = identity
            self.manual_backward(loss)
        optimizer.step()
        return {name: value.detach() for name, value in outputs.items()}

    def _adversarial(self, discriminator: Discriminator, real: Tensor, fake: Tensor) -> Tensor:
        real_logits = discriminator(real) if self.loss.generator_sees_real else None
        return self.loss.generator(real_logits, discriminator(fake))

    @profiled("generator")
    def _fakes(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return self.generator(x), self.inverse_generator(y)

    # For the callbacks

    @property
    def sampler(self) -> Translator:
        """The generator of pictures and metrics, from sources: the average if there is one."""
        return self.generator if self.ema is None else self.ema

    @property
    def inverse_sampler(self) -> Translator:
        """The generator from targets back to sources: the average if there is one."""
        return self.inverse_generator if self.inverse_ema is None else self.inverse_ema

    def translate(self, sources: Tensor) -> Tensor:
        """Translate sources (B, C', h, w) in [-1, 1], of any size, to uint8 images by :attr:`sampler` in eval mode."""
        with evaluated(self.sampler) as generator:
            return to_uint8(generator.translate(sources))

    def translate_back(self, targets: Tensor) -> Tensor:
        """Translate targets (B, C, h, w) in [-1, 1] to uint8 images of the sources' kind, by :attr:`inverse_sampler`."""
        with evaluated(self.inverse_sampler) as generator:
            return to_uint8(generator.translate(targets))

    def losses_at(self, fakes: Tensor, targets: Tensor, sources: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the loss of G at its images (B, C, H, W): the weighted adversarial term, and that of the cycle back to x."""
        cycle = _l1(self.inverse_generator(fakes), sources)
        return self.adversarial_weight * self._adversarial(self.discriminator, targets, fakes), self.cycle_weight * cycle

    def features_and_logits(self, images: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the last features (B, ...) and mean logits (B,) of the discriminator of targets, to monitor a run."""
        features, logits = self.discriminator.features_and_logits(images)
        return features, mean_per_image(logits)

    # Checkpoints: a pool is not one of the states that all processes share

    def _pools(self) -> dict[str, Tensor]:
        """Return the states of this process's pools by name."""
        pools = {"pool": self.pool, "inverse_pool": self.inverse_pool}
        return {f"{name}.{part}": state for name, pool in pools.items() for part, state in pool.named_buffers()}

    def on_save_checkpoint(self, content: dict[str, Any]) -> None:
        """Store the pools of all processes."""
        super().on_save_checkpoint(content)
        content["pools"] = {name: distributed.gather(state) for name, state in self._pools().items()}  # (processes, ...)

    def on_load_checkpoint(self, content: dict[str, Any]) -> None:
        super().on_load_checkpoint(content)
        stored = content.get("pools")
        expected = {name: state.shape for name, state in self._pools().items()}
        if not isinstance(stored, dict) or expected != {
            name: state.shape[1:] for name, state in stored.items() if isinstance(state, Tensor) and state.dim() and len(state)
        }:
            raise InputError("the pools of the checkpoint are missing or damaged: use another checkpoint")
        self._restored_pools = stored

    def on_train_start(self) -> None:
        """Restore the pools of this process: only now, because all processes start from the buffers of the first.

        If there are more processes than before, some begin with the same pools.
        """
        super().on_train_start()
        for name, stored in self._restored_pools.items():
            self._pools()[name].copy_(stored[self.global_rank % len(stored)])
        self._restored_pools = {}

    def _description(self) -> dict[str, Any]:
        return {**super()._description(), "pool_size": self.pool_size}


class ImagePool(nn.Module):
    """Earlier generated images, some of which a discriminator sees again (Shrivastava et al. 2017; Zhu et al. 2017, section 4).

    While it fills, images pass as they are. Then each image passes with probability 1/2, and otherwise takes the place of an
    earlier one, which is shown instead.

    Args:
        size: number of images; 0 is no pool.
        image_shape: (C, H, W).
    """

    images: Tensor  # (size, C, H, W)
    count: Tensor  # int64 (1,): images in the pool

    def __init__(self, size: int, image_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.size = size
        if size:
            self.register_buffer("images", torch.zeros(size, *image_shape), persistent=False)
            self.register_buffer("count", torch.zeros(1, dtype=torch.int64), persistent=False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Exchange some of the images (B, C, H, W) for earlier ones. One after another, on the device: nothing waits for it."""
        if not self.size:
            return images
        places = torch.randint(0, self.size, (len(images),), device=images.device)
        exchanges = torch.rand(len(images), device=images.device) < 0.5
        shown = []
        for image, place, exchange in zip(*(torch.split(each, 1) for each in (images, places, exchanges)), strict=True):
            fills = self.count < self.size  # (1,)
            place = torch.where(fills, self.count, place)
            earlier = self.images.index_select(0, place)
            image = image.to(earlier.dtype)
            self.images.index_copy_(0, place, torch.where(fills | exchange, image, earlier))
            self.count += fills
            shown.append(torch.where(exchange & ~fills, earlier, image))
        return torch.cat(shown)


def _l1(images: Tensor, targets: Tensor) -> Tensor:
    return (images - targets).abs().mean()


def _like(network: Any, **shapes: tuple[int, ...]) -> Any:
    """Make another network of the same class, with other shapes and fresh weights."""
    return type(network)(**(network.arguments | shapes))
