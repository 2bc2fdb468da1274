"""The adversarial step: the file to read first."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any, TypeVar, cast

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Adam, Optimizer

from gan_lightning import checkpoint, ema
from gan_lightning.augment import Augmentation
from gan_lightning.errors import Diverged, InputError, one_line
from gan_lightning.images import to_uint8
from gan_lightning.losses import AdversarialLoss
from gan_lightning.networks.base import Discriminator, Generator, describe
from gan_lightning.randomness import derived_seed, seed_device
from gan_lightning.regularizers import Constraint, Judged, Penalty

F = TypeVar("F", bound=Callable[..., Any])
OptimizerCallable = Callable[[Iterable[nn.Parameter]], Optimizer]
"""Makes an optimizer of a network's parameters."""

ADAM: dict[str, Any] = {"lr": 2e-4, "betas": (0.5, 0.999)}
"""The default settings of both optimizers, those of Radford et al. 2016."""


def adam(parameters: Iterable[nn.Parameter]) -> Optimizer:
    """Adam (Kingma and Ba 2015) with the settings :data:`ADAM`."""
    return Adam(parameters, **ADAM)


def _profiled(name: str) -> Callable[[F], F]:
    """Lets Lightning's profilers (``--trainer.profiler simple``) show the time of a method under ``name``."""

    def profiled(method: F) -> F:
        @wraps(method)
        def timed(self: LightningModule, *args: Any) -> Any:
            with self.trainer.profiler.profile(name):  # type: ignore[attr-defined]
                return method(self, *args)

        return cast(F, timed)

    return profiled


class GAN(LightningModule):
    """A generator and a discriminator that train against each other.

    One training step is one update of the generator, after ``discriminator_steps`` updates of the discriminator, each on
    fresh real images. ``trainer.global_step``, ``max_steps``, logs, checkpoints and the average all count these steps.

    Args:
        generator: maps latents to images.
        discriminator: maps images to logits.
        loss: what the two minimise.
        generator_optimizer: makes the generator's optimizer of its parameters.
        discriminator_optimizer: makes the discriminator's optimizer of its parameters.
        discriminator_steps: updates of the discriminator to one of the generator, at least 1.
        ema_halflife: half-life of the generator's moving average, in images (generator updates times the global batch
            size); 0 keeps no average. Where there is one, pictures and metrics are made with it.
        ema_ramp: the half-life is at most this share of the images seen so far (Karras et al. 2020, StyleGAN2-ADA), so that a
            young average follows the generator closely; null does not limit it.
        penalty: what is added to the discriminator's loss, one or several; logged beside it.
        constraint: what is done to the discriminator's weights after each of its updates.
        augmentation: what is done to all images that the discriminator sees, real and generated.
        classification_weight: of the cross-entropy that both networks minimise beside their losses where the
            discriminator's conditioning is an auxiliary ``classifier``; nothing otherwise.
        reuse_fakes: whether the generator's update looks at the fakes that the discriminator's last update has just seen,
            instead of at images of fresh latents: one pass of the generator less. Both are samples of the same generator, but
            the discriminator has meanwhile made one update on these. A loss that looks at real images then, too, sees those
            of the same update.
        channels_last: whether the weights of convolutions, and with them the features, lie in memory with their channels
            last. The same numbers but for rounding; faster or slower by the network and the machine (docs/benchmarks.md).
        compile: whether both networks' passes are compiled by ``torch.compile``, which takes a minute or more at the first
            steps; penalties, which differentiate twice, pictures and metrics run eagerly. The same numbers but for rounding.

    Attributes:
        penalty_factor: what the penalties are multiplied with; moved by ``Schedules``.
        ema_factor: what the half-life is multiplied with; moved by ``Schedules``.
        seed: of the run, torch's own as it begins. All that a step draws is a function of (seed, step, process).

    Raises:
        InputError: a number out of range, or only one of the two networks is conditional.
    """

    penalty_factor: float = 1.0
    ema_factor: float = 1.0
    seed: int = 0

    def __init__(
        self,
        generator: Generator,
        discriminator: Discriminator,
        loss: AdversarialLoss,
        generator_optimizer: OptimizerCallable = adam,
        discriminator_optimizer: OptimizerCallable = adam,
        discriminator_steps: int = 1,
        ema_halflife: float = 0.0,
        ema_ramp: float | None = 0.05,
        penalty: Penalty | Sequence[Penalty] | None = None,
        constraint: Constraint | None = None,
        augmentation: Augmentation | None = None,
        classification_weight: float = 1.0,
        reuse_fakes: bool = False,
        channels_last: bool = False,
        compile: bool = False,
    ) -> None:
        super().__init__()
        if discriminator_steps < 1:
            raise InputError(f"model.discriminator_steps is {discriminator_steps}: it must be at least 1")
        if not 0.0 <= ema_halflife < float("inf"):
            raise InputError(f"model.ema_halflife is {ema_halflife}: give a number of images, 0 for no average")
        if ema_ramp is not None and not 0.0 < ema_ramp < float("inf"):
            raise InputError(f"model.ema_ramp is {ema_ramp}: give a share above 0 of the images seen, or null for no ramp")
        if generator.conditional != discriminator.conditional:
            raise InputError(
                f"conditioning is {generator.conditioning} for the generator and {discriminator.conditioning} for the "
                "discriminator: give both one, or neither"
            )
        if not 0.0 <= classification_weight < float("inf"):
            raise InputError(f"model.classification_weight is {classification_weight}: it must be at least 0")
        self.automatic_optimization = False
        if channels_last:
            for network in (generator, discriminator):
                network.to(memory_format=torch.channels_last)
                for module in network.modules():
                    if isinstance(module, nn.Unflatten):  # whose map, and its gradient, would be turned at every layer
                        module.register_forward_hook(_turned)
        self.generator = generator
        self.discriminator = discriminator
        self.loss = loss
        self.penalties = nn.ModuleList([] if penalty is None else [penalty] if isinstance(penalty, Penalty) else penalty)
        self.constraint = constraint
        self.augmentation = augmentation
        self.classification_weight = classification_weight
        self.generator_optimizer = generator_optimizer
        self.discriminator_optimizer = discriminator_optimizer
        self.discriminator_steps = discriminator_steps
        self.reuse_fakes = reuse_fakes
        self.ema_halflife, self.ema_ramp = ema_halflife, ema_ramp
        self.ema = ema.averaged_copy(generator) if ema_halflife else None
        if compile:  # methods, not modules: the keys of a checkpoint stay as they are
            self._generate = torch.compile(self._generate, dynamic=False)  # type: ignore[method-assign]
            self._judge = torch.compile(self._judge, dynamic=False)  # type: ignore[method-assign]
        self._description()  # raises now what a checkpoint or an optimizer would refuse later

    # The method

    def training_step(self, batch: tuple[Tensor, Tensor | None], batch_idx: int) -> dict[str, Tensor]:
        seed_device(derived_seed(self.seed, self.global_step, self.global_rank), self.device)
        images, labels = batch  # float (real_batches_per_step * B, C, H, W) in [-1, 1]; (real_batches_per_step * B,) or None
        real_batches = list(_chunks(images, labels if self.generator.conditional else None, self.real_batches_per_step))
        outputs: dict[str, Tensor] = {}
        fake = images  # until there are some
        for i, (real, real_labels) in enumerate(real_batches[: self.discriminator_steps]):
            with torch.set_grad_enabled(self.reuse_fakes and i + 1 == self.discriminator_steps):
                fake = self._fakes(len(real), real_labels)
            update = self.global_step * self.discriminator_steps + i
            outputs = self._discriminator_step(real, fake.detach(), real_labels, update)
        real, real_labels = real_batches[-1]  # fresh where the generator's loss looks at real images, and fakes are fresh
        if not self.reuse_fakes:
            fake = self._fakes(len(real), real_labels)
        outputs |= self._generator_step(real, fake, real_labels)
        if self.ema is not None:
            self._average(self.ema, len(real) * self.trainer.world_size)
        return outputs

    @_profiled("generator")
    def _fakes(self, count: int, labels: Tensor | None) -> Tensor:
        """Images (count, C, H, W) of fresh latents."""
        return self._generate(torch.randn(count, self.generator.latent_dim, device=self.device), labels)

    @_profiled("discriminator")
    def _discriminator_step(self, real: Tensor, fake: Tensor, labels: Tensor | None, update: int) -> dict[str, Tensor]:
        optimizer = self._optimizers()[1]
        (real_logits, real_classes), (fake_logits, fake_classes) = self._judge_both(real, fake, labels)
        loss = self.loss.discriminator(real_logits, fake_logits)
        outputs = {
            "discriminator_loss": loss.detach(),
            "real_probability": real_logits.detach().float().sigmoid().mean(),  # D(x)
            "fake_probability": fake_logits.detach().float().sigmoid().mean(),  # D(G(z))
        }
        if self.augmentation is not None:
            self.augmentation.observe(real_logits.detach())
        if real_classes is not None and fake_classes is not None:  # AC-GAN, Odena et al. 2017, equation 3
            classification = _cross_entropy(real_classes, labels) + _cross_entropy(fake_classes, labels)
            loss = loss + self.classification_weight * classification
            outputs["classification_loss"] = classification.detach()
        if self.penalties:
            judged = Judged(real, fake, labels, real_logits, fake_logits, update)
            penalty = self.penalty_factor * torch.stack([p(self._critic, judged) for p in self.penalties]).sum()
            loss = loss + penalty
            outputs["penalty"] = penalty.detach()
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        if self.constraint is not None:
            self.constraint(self.discriminator)
        return outputs

    @_profiled("generator")
    def _generator_step(self, real: Tensor, fake: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
        optimizer = self._optimizers()[0]
        with _frozen(self.discriminator):
            real_logits = self._judge(self._augmented(real), labels)[0] if self.loss.generator_sees_real else None
            fake_logits, classes = self._judge(self._augmented(fake), labels)
            loss = self.loss.generator(real_logits, fake_logits)
            outputs = {"generator_loss": loss.detach()}
            if classes is not None:
                loss = loss + self.classification_weight * _cross_entropy(classes, labels)
            optimizer.zero_grad()
            self.manual_backward(loss)
        optimizer.step()
        return outputs

    @_profiled("average")
    def _average(self, average: nn.Module, images: int) -> None:
        """Average after an update on ``images`` images of all processes together, which ``global_step`` counts already."""
        halflife = self.ema_halflife * self.ema_factor
        if self.ema_ramp is not None:
            halflife = min(halflife, self.ema_ramp * (self.global_step - 1) * images)
        ema.update(average, self.generator, ema.decay(images, halflife))

    def _generate(self, z: Tensor, labels: Tensor | None) -> Tensor:
        images: Tensor = self.generator(z, labels)
        return images

    def _judge(self, images: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Logits (B,), and class logits (B, num_classes) of an auxiliary classifier."""
        return self.discriminator.judge(images, labels)

    def examine(self, images: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """The discriminator's last features (B, F) and logits (B,) for images as they are augmented: to watch a run by."""
        features = self.discriminator.features(self._augmented(images))
        return features, self.discriminator.head(features, labels)

    def _critic(self, images: Tensor, labels: Tensor | None) -> Tensor:
        """Logits (B,) for images as they are augmented, by a pass that can be differentiated twice: for penalties."""
        logits: Tensor = self.discriminator(self._augmented(images), labels)
        return logits

    def _augmented(self, images: Tensor) -> Tensor:
        return images if self.augmentation is None else self.augmentation(images)

    def _judge_both(self, real: Tensor, fake: Tensor, labels: Tensor | None) -> list[tuple[Tensor, Tensor | None]]:
        """What :meth:`_judge` says of real and of generated images, in one pass where samples do not touch one another."""
        if not self.discriminator.samples_are_independent:
            return [self._judge(self._augmented(images), labels) for images in (real, fake)]
        images = self._augmented(torch.cat([real, fake]))
        logits, classes = self._judge(images, None if labels is None else labels.repeat(2))
        return list(zip(logits.chunk(2), (None, None) if classes is None else classes.chunk(2), strict=True))

    # What the method stands on

    @property
    def real_batches_per_step(self) -> int:
        """How many batches of fresh real images one training step takes; the data module's loader hands them over as one."""
        return self.discriminator_steps + int(self.loss.generator_sees_real and not self.reuse_fakes)

    @property
    def sampler(self) -> Generator:
        """The generator that pictures and metrics are made with: the average where there is one."""
        return self.generator if self.ema is None else self.ema

    @torch.inference_mode()
    def sample(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (B, C, H, W), uint8, for latents (B, latent_dim) and labels (B,), by :attr:`sampler` in eval mode."""
        training = self.sampler.training
        self.sampler.eval()
        try:
            return to_uint8(self.sampler(z, labels))
        finally:
            self.sampler.train(training)

    def train(self, mode: bool = True) -> "GAN":
        super().train(mode)
        if self.ema is not None:
            self.ema.eval()
        return self

    def configure_optimizers(self) -> list[Optimizer]:
        """The generator's optimizer, then the discriminator's.

        Raises:
            InputError: one of them refuses its settings.
        """
        try:
            optimizers = [
                self.generator_optimizer(self.generator.parameters()),
                self.discriminator_optimizer(self.discriminator.parameters()),
            ]
        except (ValueError, TypeError) as error:
            raise InputError(f"an optimizer refuses its settings: {one_line(error)}") from error
        for group in (group for optimizer in optimizers if isinstance(optimizer, Adam) for group in optimizer.param_groups):
            if group["fused"] is None and not (group["foreach"] or group["differentiable"]):
                group["fused"] = True  # one pass over each weight instead of ten, on the CPU too
        return optimizers

    def on_fit_start(self) -> None:
        self.seed = torch.initial_seed()

    def on_train_start(self) -> None:
        """Let the optimizers' settings be those that were given now, also where a checkpoint has restored earlier ones.

        Likewise the order in memory of what they keep for a weight: the fused ones take it to be the weight's.
        """
        for optimizer, fresh in zip(self.trainer.optimizers, self.configure_optimizers(), strict=True):
            for parameter, state in optimizer.state.items():
                for name, value in state.items():
                    if isinstance(value, Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
                        state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
            for group, settings in zip(optimizer.param_groups, fresh.param_groups, strict=True):
                group.update({name: value for name, value in settings.items() if name != "params"})
                if "initial_lr" in group:  # which a schedule multiplies
                    group["initial_lr"] = settings["lr"]

    def require_finite(self) -> None:
        """Look at every weight of both networks.

        Raises:
            Diverged: one is NaN or infinite.
        """
        for name in ("generator", "discriminator"):
            if not all(bool(p.isfinite().all()) for p in getattr(self, name).parameters()):
                raise Diverged(f"step {self.global_step:,}: the {name}'s weights are NaN or infinite")

    def on_save_checkpoint(self, content: dict[str, Any]) -> None:
        self.require_finite()
        content[checkpoint.KEY] = {"format_version": checkpoint.FORMAT_VERSION, **self._description()}

    def on_load_checkpoint(self, content: dict[str, Any]) -> None:
        about = content.get(checkpoint.KEY, {})
        for name, mine in self._description().items():
            if about.get(name) != mine:
                raise InputError(f"the checkpoint's {name} differs: {_difference(about.get(name), mine)}; make them alike")

    def _description(self) -> dict[str, Any]:
        return {
            "generator": describe(self.generator),
            "discriminator": describe(self.discriminator),
            "ema": self.ema is not None,
            "optimizers": [type(optimizer).__name__ for optimizer in self.configure_optimizers()],
            "state": [name for name in self.state_dict() if name.startswith(("penalties.", "augmentation."))],
        }

    def _optimizers(self) -> tuple[LightningOptimizer, LightningOptimizer]:
        """The generator's optimizer, which every counter of Lightning counts, and the discriminator's, which none does.

        Lightning counts each step of each optimizer (its issue 17958); its loop sets this pair of hooks on all of them
        before every batch, so the discriminator's is taken off again here.
        """
        generator, discriminator = self.optimizers()  # type: ignore[attr-defined]
        profiler = self.trainer.profiler  # type: ignore[attr-defined]
        discriminator._on_before_step = partial(profiler.start, "optimizer_step")  # as the hooks of the generator's do
        discriminator._on_after_step = partial(profiler.stop, "optimizer_step")
        return generator, discriminator


def _turned(module: nn.Module, inputs: Any, features: Tensor) -> Tensor:
    """A forward hook: features (B, C, H, W) with their channels last in memory."""
    return features.contiguous(memory_format=torch.channels_last)


def _cross_entropy(class_logits: Tensor, labels: Tensor | None) -> Tensor:
    assert labels is not None  # a discriminator that names classes is conditional
    return cross_entropy(class_logits.float(), labels)


def _difference(theirs: Any, mine: Any) -> str:
    """What differs between two descriptions of a network, or two values, in a few words."""
    if isinstance(theirs, dict) and isinstance(mine, dict):
        return ", ".join(
            f"{name} {_difference(theirs.get(name), mine.get(name))}"
            for name in sorted(theirs.keys() | mine.keys())
            if theirs.get(name) != mine.get(name)
        )
    return f"{theirs} there and {mine} here"


def _chunks(images: Tensor, labels: Tensor | None, count: int) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Split (count * B, ...) images and labels into ``count`` batches."""
    return zip(images.chunk(count), [None] * count if labels is None else labels.chunk(count), strict=True)


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    """Within the block the parameters of ``network`` take no gradient; what flows through it still does."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
