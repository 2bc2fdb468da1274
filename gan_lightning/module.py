"""Bases of adversarial methods: optimizers, the average, random seeds, contents of a checkpoint; passes of two networks."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any, ClassVar, TypeVar, cast

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Adam, Optimizer

from gan_lightning import checkpoint, ema
from gan_lightning.augment import Augmentation
from gan_lightning.errors import Diverged, InputError, one_line
from gan_lightning.losses import AdversarialLoss
from gan_lightning.networks.base import Discriminator, Network, describe, difference, with_defaults
from gan_lightning.regularizers import Constraint, DiscriminatorBatch, Penalty
from gan_lightning.training.randomness import derived_seed, seed_device

F = TypeVar("F", bound=Callable[..., Any])
M = TypeVar("M", bound=nn.Module)
OptimizerCallable = Callable[[Iterable[nn.Parameter]], Optimizer]
"""Function that makes an optimizer from a network's parameters."""

ADAM: dict[str, Any] = {"lr": 2e-4, "betas": (0.5, 0.999)}
"""Default settings of both optimizers: those of Radford et al. 2016."""


def adam(parameters: Iterable[nn.Parameter]) -> Optimizer:
    """Make Adam (Kingma and Ba 2015) with the settings :data:`ADAM`."""
    return Adam(parameters, **ADAM)


def profiled(name: str) -> Callable[[F], F]:
    """Show the time of a module's method under ``name`` in Lightning's profilers (``--trainer.profiler simple``)."""

    def profiled(method: F) -> F:
        @wraps(method)
        def timed(self: LightningModule, *args: Any) -> Any:
            with self.trainer.profiler.profile(name):  # type: ignore[attr-defined]
                return method(self, *args)

        return cast(F, timed)

    return profiled


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Compute no gradients for the parameters of ``network`` within the block. Gradients still flow through it."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


@contextmanager
def evaluated(network: M) -> Iterator[M]:
    """Put a network into eval mode within the block, and compute no gradients there."""
    training = network.training
    network.eval()
    try:
        with torch.inference_mode():
            yield network
    finally:
        network.train(training)


def require_weight(name: str, weight: float) -> None:
    """Refuse a factor of a loss that is negative or not finite.

    Raises:
        InputError: it is.
    """
    if not 0.0 <= weight < float("inf"):
        raise InputError(f"model.{name} is {weight}: use at least 0")


class AdversarialModule(LightningModule):
    """Base of a method that trains generators against discriminators.

    A subclass writes the method as its ``training_step``. This class makes one optimizer for all generators and one for all
    discriminators, and has the trainer count the generators' updates only: one training step is one of them. It seeds each
    step, keeps the generators' averages, and describes the networks in checkpoints.

    A method with more networks than one of each sets ``generators`` and ``discriminators`` and passes its networks by these
    names.

    Args:
        networks: the networks by the names of their attributes.
        generator_optimizer: function that makes the generators' optimizer from their parameters.
        discriminator_optimizer: function that makes the discriminators' optimizer from their parameters.
        ema_halflife: half-life of the averages in images; 0 keeps no average.
        ema_ramp: upper limit of the half-life as a share of the images seen so far; None sets no limit.
        channels_last: channels-last order of the convolutions' weights in memory, and so of the features.
        gradient_clip: largest norm of the gradient of the generators, and of that of the discriminators; None sets no limit.

    Attributes:
        method: name of the method in checkpoints. Checkpoints without one are from ``GAN``.
        generators: name of each generator -> name of its average. The average is None if there is none.
        discriminators: names of the discriminators.
        stateful: names of the other modules that may have a state; a checkpoint lists its tensors by name.
        ema_factor: factor on the half-life; ``Schedules`` sets it.
        seed: seed of the run: torch's own as it begins. All that a step draws is a function of (seed, step, process).

    Raises:
        InputError: a number is out of range, a checkpoint cannot describe a network, or an optimizer refuses its settings.
    """

    method: ClassVar[str] = checkpoint.GAN
    generators: ClassVar[Mapping[str, str]] = {"generator": "ema"}
    discriminators: ClassVar[tuple[str, ...]] = ("discriminator",)
    stateful: ClassVar[tuple[str, ...]] = ()
    generator: Network
    ema_factor: float = 1.0
    seed: int = 0

    def __init__(
        self,
        networks: Mapping[str, Network],
        generator_optimizer: OptimizerCallable = adam,
        discriminator_optimizer: OptimizerCallable = adam,
        ema_halflife: float = 0.0,
        ema_ramp: float | None = 0.05,
        channels_last: bool = False,
        gradient_clip: float | None = None,
    ) -> None:
        super().__init__()
        if not 0.0 <= ema_halflife < float("inf"):
            raise InputError(f"model.ema_halflife is {ema_halflife}: use a number of images, or 0 for no average")
        if ema_ramp is not None and not 0.0 < ema_ramp < float("inf"):
            raise InputError(f"model.ema_ramp is {ema_ramp}: use a number above 0, or null for no limit")
        if gradient_clip is not None and not 0.0 < gradient_clip < float("inf"):
            raise InputError(f"model.gradient_clip is {gradient_clip}: use a number above 0, or null for no limit")
        self.automatic_optimization = False
        self.gradient_clip = gradient_clip
        self.generator_optimizer = generator_optimizer
        self.discriminator_optimizer = discriminator_optimizer
        self.ema_halflife, self.ema_ramp = ema_halflife, ema_ramp
        for name, network in networks.items():
            if channels_last:
                _store_channels_last(network)
            setattr(self, name, network)
        for name, average in self.generators.items():
            setattr(self, average, ema.averaged_copy(getattr(self, name)) if ema_halflife else None)
        self._description()  # raises now what a checkpoint or an optimizer would refuse later

    @property
    def real_batches_per_step(self) -> int:
        """Batches of fresh real images that one training step takes. The data module's loader joins them into one."""
        return 1

    # A step

    def on_fit_start(self) -> None:
        self.seed = torch.initial_seed()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        seed_device(derived_seed("step", self.seed, self.global_step, self.global_rank), self.device)

    def optimizer_pair(self) -> tuple[LightningOptimizer, LightningOptimizer]:
        """Return the generators' and the discriminators' optimizer. Lightning counts only the steps of the first.

        By default Lightning counts each step of each optimizer (its issue 17958). Before every batch its loop sets a pair of
        hooks on all of them. This method removes the counting hooks from the discriminators' optimizer.
        """
        generator, discriminator = self.optimizers()  # type: ignore[attr-defined]
        profiler = self.trainer.profiler  # type: ignore[attr-defined]
        discriminator._on_before_step = partial(profiler.start, "optimizer_step")  # as the hooks of the generator's do
        discriminator._on_after_step = partial(profiler.stop, "optimizer_step")
        return generator, discriminator

    @profiled("average")
    def update_averages(self, images: int) -> None:
        """Move the averages towards their generators, after an update on ``images`` images in each process.

        Call it after the generators' optimizer: ``global_step`` includes that update.
        """
        images *= self.trainer.world_size
        halflife = self.ema_halflife * self.ema_factor
        if self.ema_ramp is not None:
            halflife = min(halflife, self.ema_ramp * (self.global_step - 1) * images)
        for generator, average in self.averages():
            ema.update(average, generator, ema.decay(images, halflife))

    def averages(self) -> list[tuple[nn.Module, nn.Module]]:
        """Return each generator that has an average, with that average."""
        pairs = [(getattr(self, name), getattr(self, average)) for name, average in self.generators.items()]
        return [(generator, average) for generator, average in pairs if average is not None]

    def train(self, mode: bool = True) -> "AdversarialModule":
        super().train(mode)
        for _, average in self.averages():
            average.eval()
        return self

    def compile_methods(self, *names: str) -> None:
        """Compile methods by ``torch.compile``. Methods, not networks: the keys of a checkpoint stay as they are."""
        for name in names:
            setattr(self, name, torch.compile(getattr(self, name), dynamic=False))

    # Optimizers

    def configure_optimizers(self) -> list[Optimizer]:
        """Make the generators' optimizer, then the discriminators'.

        Raises:
            InputError: one of them refuses its settings.
        """
        try:
            optimizers = [
                self.generator_optimizer(self._parameters_of(self.generators)),
                self.discriminator_optimizer(self._parameters_of(self.discriminators)),
            ]
        except (ValueError, TypeError) as error:
            raise InputError(f"an optimizer does not accept its settings: {one_line(error)}") from error
        for optimizer in optimizers:
            for group in optimizer.param_groups if isinstance(optimizer, Adam) else ():
                if group["fused"] is None and not (group["foreach"] or group["differentiable"]):
                    group["fused"] = True  # one pass over each weight instead of ten, on the CPU too
                    optimizer._step_supports_amp_scaling = True  # type: ignore[attr-defined]  # in fp16, no wait; see Adam
            if self.gradient_clip is not None:
                optimizer.register_step_pre_hook(self._clip_gradients)
                # in fp16, clipping needs gradients already divided by their scale; a fused optimizer divides them after it
                optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
        return optimizers

    def _clip_gradients(self, optimizer: Optimizer, *_: Any) -> None:
        """Clip the norm of the gradients, which all processes have averaged: a hook before an optimizer's step."""
        assert self.gradient_clip is not None
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        clip_grad_norm_(parameters, self.gradient_clip)

    def _parameters_of(self, names: Iterable[str]) -> Iterator[nn.Parameter]:
        for name in names:
            yield from getattr(self, name).parameters()

    def on_train_start(self) -> None:
        """Use this run's settings of the optimizers, even if a checkpoint restored earlier ones.

        Also copy the moments into the memory format of their weights, because fused optimizers assume that they share it.
        """
        for optimizer, fresh in zip(self.trainer.optimizers, self.configure_optimizers(), strict=True):
            for parameter, state in optimizer.state.items():
                for name, value in state.items():
                    if isinstance(value, Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
                        state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
            for group, settings in zip(optimizer.param_groups, fresh.param_groups, strict=True):
                group.update({name: value for name, value in settings.items() if name != "params"})
                if "initial_lr" in group:  # a schedule multiplies it
                    group["initial_lr"] = settings["lr"]

    # Checkpoints

    def require_finite(self) -> None:
        """Check every weight of all networks, and wait for the device once.

        Raises:
            Diverged: a weight is NaN or infinite.
        """
        names = [*self.generators, *self.discriminators]
        largest = torch.stack([_largest(getattr(self, name)) for name in names])
        for name, is_finite in zip(names, largest.isfinite().tolist(), strict=True):
            if not is_finite:
                raise Diverged(f"step {self.global_step:,}: the {name}'s weights are NaN or infinite")

    def on_save_checkpoint(self, content: dict[str, Any]) -> None:
        self.require_finite()
        data = getattr(self.trainer, "datamodule", None)
        about = {"format_version": checkpoint.FORMAT_VERSION, **self._description()}
        about["class_names"] = list(getattr(data, "class_names", ()))
        about |= getattr(data, "condition_description", {})
        if (sources := getattr(data, "source_description", None)) is not None:
            about["sources"] = dict(sources)
        content[checkpoint.KEY] = about

    def on_load_checkpoint(self, content: dict[str, Any]) -> None:
        about = {"method": checkpoint.GAN} | content.get(checkpoint.KEY, {})
        for name, mine in self._description().items():
            theirs = about.get(name)
            if name in (*self.generators, *self.discriminators):
                theirs, mine = (with_defaults(description, getattr(self, name)) for description in (theirs, mine))
            if theirs != mine:
                raise InputError(
                    f"{name} differs between the checkpoint and this run ({difference(theirs, mine)}): use the same settings"
                )
        theirs, mine = (_shapes(weights) for weights in (content["state_dict"], self.state_dict()))
        if differing := sorted(name for name in theirs.keys() | mine.keys() if theirs.get(name) != mine.get(name)):
            first = differing[0]
            raise InputError(
                f"the checkpoint's networks have other layers than this version: {len(differing)} weights differ, such as "
                f"{first} ({theirs.get(first)} there, {mine.get(first)} here). Sample from the checkpoint, or train a new model"
            )

    def _description(self) -> dict[str, Any]:
        return {
            "method": self.method,
            **{name: describe(getattr(self, name)) for name in (*self.generators, *self.discriminators)},
            "ema": bool(self.averages()),
            "optimizers": [type(optimizer).__name__ for optimizer in self.configure_optimizers()],
            "state": [name for name in self.state_dict() if name.startswith(tuple(f"{part}." for part in self.stateful))],
        }


class TwoNetworks(AdversarialModule):
    """Base of a method with one generator and one discriminator: loss, penalties, augmentation, and passes through the latter.

    A condition is what the discriminator gets together with images: labels (B,), sources (B, C', H', W'), or None.

    Args:
        generator: network that draws images.
        discriminator: network from images to logits.
        loss: the losses of both networks.
        penalty: one or several terms that are added to the discriminator's loss.
        constraint: change to the discriminator's weights after each of its updates.
        augmentation: random change to all images that the discriminator sees, real and generated.
        arguments: those of :class:`AdversarialModule`.

    Attributes:
        penalty_factor: factor on the penalties, a scalar tensor; ``Schedules`` sets it.
    """

    stateful = ("penalties", "augmentation")
    generator: Network
    discriminator: Discriminator
    ema: Network | None
    penalties: Sequence[Penalty]  # an nn.ModuleList
    penalty_factor: Tensor

    def __init__(
        self,
        generator: Network,
        discriminator: Discriminator,
        loss: AdversarialLoss,
        penalty: Penalty | Sequence[Penalty] | None,
        constraint: Constraint | None,
        augmentation: Augmentation | None,
        **arguments: Any,
    ) -> None:
        super().__init__({"generator": generator, "discriminator": discriminator}, **arguments)
        self.loss = loss
        penalties = [] if penalty is None else [penalty] if isinstance(penalty, Penalty) else penalty
        self.penalties = nn.ModuleList(penalties)  # type: ignore[assignment]
        self.constraint = constraint
        self.augmentation = augmentation
        self.register_buffer("penalty_factor", torch.ones(()), persistent=False)

    def update_discriminator(self) -> None:
        """Step the discriminator's optimizer, and apply the constraint."""
        _, optimizer = self.optimizer_pair()
        optimizer.step()
        if self.constraint is not None:
            self.constraint(self.discriminator)

    def due_penalties(self, update: int) -> tuple[bool, ...]:
        """For each penalty, tell if an update of the discriminator includes it; ``update`` is the number of those before it."""
        return tuple(penalty.is_due(update) for penalty in self.penalties)

    def penalty_term(self, penalty: Penalty, batch: DiscriminatorBatch) -> Tensor:
        """Compute a penalty times the factor, a scalar."""
        term: Tensor = self.penalty_factor * penalty(self._logits_for_penalties, batch)
        return term

    def augmented(self, images: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Augment images (B, C, H, W) for the discriminator. Returns them with their condition."""
        return images if self.augmentation is None else self.augmentation(images), condition

    def discriminate(self, images: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return logits (B, ...), and class logits (B, num_classes) of an auxiliary classifier, for augmented images."""
        return self.discriminator.judge(images, condition)

    def discriminate_both(self, real: Tensor, fake: Tensor, condition: Tensor | None) -> list[tuple[Tensor, Tensor | None]]:
        """Augment and discriminate real and generated images, in one pass if the samples of a batch are independent."""
        if not self.discriminator.samples_are_independent:
            return [self.discriminate(*self.augmented(images, condition)) for images in (real, fake)]
        both = None if condition is None else torch.cat([condition, condition])
        logits, classes = self.discriminate(*self.augmented(torch.cat([real, fake]), both))
        return list(zip(logits.chunk(2), (None, None) if classes is None else classes.chunk(2), strict=True))

    def _logits_for_penalties(self, images: Tensor, condition: Tensor | None) -> Tensor:
        """Augment images and return the mean of the logits that penalties look at (B,). Never compiled."""
        return mean_per_image(self.discriminator.penalized_logits(*self.augmented(images, condition)))

    def features_and_logits(self, images: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        """Augment images and return the discriminator's last features (B, ...) and mean logits (B,), to monitor a run."""
        features, logits = self.discriminator.features_and_logits(*self.augmented(images, condition))
        return features, mean_per_image(logits)

    @property
    def sampler(self) -> Any:
        """The generator of pictures and metrics: the average if there is one."""
        return self.generator if self.ema is None else self.ema


def mean_per_image(logits: Tensor) -> Tensor:
    """Map logits (B, ...) to the mean of each image (B,)."""
    return logits if logits.dim() == 1 else logits.flatten(1).mean(dim=1)


def probabilities(real_logits: Tensor, fake_logits: Tensor) -> dict[str, Tensor]:
    """Mean probabilities of "real" that the discriminator gives to real and to generated images, to log."""
    return {
        "real_probability": real_logits.detach().float().sigmoid().mean(),  # D(x)
        "fake_probability": fake_logits.detach().float().sigmoid().mean(),  # D(G(z))
    }


def _store_channels_last(network: nn.Module) -> None:
    network.to(memory_format=torch.channels_last)
    for module in network.modules():
        if isinstance(module, nn.Unflatten):  # else every later layer would reorder the map and its gradient
            module.register_forward_hook(_to_channels_last)


def _to_channels_last(module: nn.Module, inputs: Any, features: Tensor) -> Tensor:
    """Reorder features (B, C, H, W) in memory, channels last: a forward hook."""
    return features.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def _largest(network: nn.Module) -> Tensor:
    """Largest absolute value of all weights, (); NaN if one of them is NaN."""
    weights = [weight for weight in network.parameters() if weight.numel()]
    return torch.nn.utils.get_total_norm(weights, float("inf"))


def _shapes(weights: Mapping[str, Any]) -> dict[str, tuple[int, ...] | None]:
    """Return the shape of each weight by name, None for entries that are not tensors."""
    return {name: tuple(value.shape) if isinstance(value, Tensor) else None for name, value in weights.items()}
