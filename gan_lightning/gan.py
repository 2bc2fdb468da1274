"""The adversarial step: the file to read first."""

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

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
from gan_lightning.networks.base import Discriminator, Generator
from gan_lightning.networks.fine_tuning import freeze_layers
from gan_lightning.regularizers import Constraint, DiscriminatorBatch, Penalty
from gan_lightning.training.cuda_graphs import Gradients, GraphedGradients, Outputs, compute_eagerly
from gan_lightning.training.randomness import micro_batches

PIXELS_AT_ONCE = 2**19
"""Pixels that :meth:`GAN.sample` draws in one pass: 128 images of 64x64, 8 of 256x256."""
Due = tuple[bool, ...]
"""For each penalty, if an update includes it."""


class GAN(TwoNetworks):
    """A generator and a discriminator that train against each other.

    One training step is one update of the generator, after ``discriminator_steps`` updates of the discriminator, each on
    fresh real images. ``trainer.global_step``, ``max_steps``, logs, checkpoints and the average all count these steps.

    Args:
        generator: network from latents to images.
        discriminator: network from images to logits.
        loss: the losses of both networks.
        generator_optimizer: optimizer of the generator; in Python, a function that makes it from the parameters.
        discriminator_optimizer: optimizer of the discriminator, likewise.
        discriminator_steps: updates of the discriminator per update of the generator, at least 1.
        ema_halflife: half-life of the generator's moving average, in images (generator updates times the global batch size);
            0 keeps no average. Pictures and metrics use the average if there is one.
        ema_ramp: upper limit of the half-life, as a share of the images seen so far (Karras et al. 2020, StyleGAN2-ADA), so
            that a young average follows the generator closely; null sets no limit.
        penalty: one or several terms that are added to the discriminator's loss. Their sum is logged separately.
        constraint: change to the discriminator's weights after each of its updates.
        augmentation: random change to all images that the discriminator sees, real and generated.
        classification_weight: weight of the cross-entropy that both networks add to their losses if the discriminator's
            conditioning is an auxiliary ``classifier``; unused otherwise.
        reuse_fakes: reuse of the discriminator's last fakes in the generator's update, instead of images of fresh latents.
            This saves one pass of the generator. Both are samples of the same generator, but the discriminator has made one
            update on the reused ones. A loss that looks at real images then sees those of the same update, too.
        channels_last: channels-last order of the convolutions' weights in memory, and so of the features. Results agree to
            rounding. The speed depends on the network and the machine (docs/benchmarks.md).
        compile: compilation of both networks' passes by ``torch.compile``. The first steps take a minute or more. Penalties
            run eagerly, because they differentiate twice; pictures and metrics do, too. Results agree to rounding.
        micro_batch: images of a part of each update's batch, to save memory. The parts are computed one after another, and
            their gradients add up to those of the whole batch. Batch norm uses the images of a part. Null computes the whole
            batch at once.
        gradient_clip: largest norm of each network's gradient; null sets no limit.
        freeze_discriminator: number of the discriminator's layers, from the image on, that keep their weights (Mo et al. 2020,
            FreezeD). To fine-tune on few images, with the weights of a checkpoint (``--init_from``).
        cuda_graph: replay of the gradients of each update as a CUDA graph, for networks whose kernels are shorter than their
            launches. For one process on a GPU, without ``compile``; otherwise a line says why it does not apply. Results are
            equal to the last bit with ``--trainer.deterministic true``.

    Attributes:
        run_gradients: how the gradients of an update are computed.

    Raises:
        InputError: a number is out of range, or only one of the two networks is conditional.
    """

    generator: Generator
    ema: Generator | None

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
        micro_batch: int | None = None,
        gradient_clip: float | None = None,
        freeze_discriminator: int = 0,
        compile: bool = False,
        cuda_graph: bool = False,
    ) -> None:
        if discriminator_steps < 1:
            raise InputError(f"model.discriminator_steps is {discriminator_steps}: use at least 1")
        if generator.conditional != discriminator.conditional:
            raise InputError(
                f"conditioning is {generator.conditioning} for the generator and {discriminator.conditioning} for the "
                "discriminator: set it for both or for neither"
            )
        require_weight("classification_weight", classification_weight)
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
        layers = freeze_layers(discriminator, freeze_discriminator)
        if not 0 <= freeze_discriminator <= layers:
            raise InputError(
                f"model.freeze_discriminator is {freeze_discriminator}: use 0 to {layers}, the layers of "
                f"{type(discriminator).__name__} before its head"
            )
        if micro_batch is not None:
            if micro_batch < 1:
                raise InputError(f"model.micro_batch is {micro_batch}: use at least 1, or null for whole batches")
            means = {type(loss).__name__: loss.is_mean} | {
                type(penalty).__name__: penalty.is_mean for penalty in self.penalties
            }
            if whole := next((name for name, is_mean in means.items() if not is_mean), ""):
                raise InputError(f"model.micro_batch does not work with {whole}, which needs the whole batch: use null")
        self.micro_batch = micro_batch
        self.classification_weight = classification_weight
        self.discriminator_steps = discriminator_steps
        self.reuse_fakes = reuse_fakes
        self.compiled, self.cuda_graph = compile, cuda_graph
        self.run_gradients: Gradients = compute_eagerly
        self._kept_fakes: Tensor | None = None
        self._kept_latents: Tensor | None = None
        if compile:
            self.compile_methods("_generate", "discriminate")

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self.run_gradients = compute_eagerly
        if self.cuda_graph:
            reasons = {
                "it needs a GPU": self.device.type != "cuda",
                "it works in one process": self.trainer.world_size > 1,
                "the model is compiled": self.compiled,
                "batches are split": self.micro_batch is not None,
            }
            if reason := next((reason for reason, applies in reasons.items() if applies), ""):
                rank_zero_warn(f"--model.cuda_graph true does not apply, because {reason}: the gradients are computed eagerly")
            else:
                self.run_gradients = GraphedGradients()

        if self.micro_batch and any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in self.modules()):
            rank_zero_info(f"Batch norm computes its moments over micro-batches of {self.micro_batch} images")

    def training_step(self, batch: tuple[Tensor, Tensor | None], batch_idx: int) -> Outputs:
        images, labels = batch  # float (real_batches_per_step * B, C, H, W) in [-1, 1]; labels of as many, or None
        real_batches = list(_chunks(images, labels if self.generator.conditional else None, self.real_batches_per_step))
        outputs: Outputs = {}
        for i, (real, real_labels) in enumerate(real_batches[: self.discriminator_steps]):
            due = self.due_penalties(self.global_step * self.discriminator_steps + i)
            outputs = self._discriminator_step(real, real_labels, due, self.reuse_fakes and i + 1 == self.discriminator_steps)
        real, real_labels = real_batches[-1]  # fresh if the generator's loss looks at real images, and fakes are fresh
        # kept fakes belong to the graph of a kind of discriminator's update, so the graph of the generator does, too
        outputs |= self._generator_step(real, real_labels, due if self.reuse_fakes else ())
        self._kept_fakes = self._kept_latents = None
        self.update_averages(len(real))
        return outputs

    @profiled("discriminator")
    def _discriminator_step(self, real: Tensor, labels: Tensor | None, due: Due, keep_fakes: bool) -> Outputs:
        compute = partial(self._discriminator_gradients, due=due, keep_fakes=keep_fakes)
        outputs = self.run_gradients(("discriminator", keep_fakes, *due), compute, (real, labels), self.discriminator)
        self.update_discriminator()
        return outputs

    def _discriminator_gradients(self, real: Tensor, labels: Tensor | None, due: Due, keep_fakes: bool) -> Outputs:
        """Compute the gradients of an update of the discriminator, and what is logged; ``keep_fakes`` for the generator's."""
        z = self._latents(len(real))
        self._kept_latents = z if keep_fakes else None
        now = [penalty for penalty, is_due in zip(self.penalties, due, strict=True) if is_due]
        self.discriminator.zero_grad()
        batches, outputs = [], Mean()
        for chosen, share in self._micro_batches(len(real)):
            batch, values = self._judge(real[chosen], _chosen(labels, chosen), z[chosen], now, keep_fakes and share == 1, share)
            batches.append(batch)
            outputs.add(values, share)
        if self.augmentation is not None:
            self.augmentation.observe(torch.cat([batch.real_logits.detach() for batch in batches]))
        for penalty in now:
            if penalty.has_own_graph:
                for batch, (_, share) in zip(batches, self._micro_batches(len(real)), strict=True):
                    term = self.penalty_term(penalty, batch)
                    self.manual_backward(_scaled(term, share))  # frees its graph before the next one is made
                    outputs.add({"penalty": term.detach()}, share)
        return outputs.values

    def _judge(
        self, real: Tensor, labels: Tensor | None, z: Tensor, penalties: Sequence[Penalty], keep_fakes: bool, share: float
    ) -> tuple[DiscriminatorBatch, Outputs]:
        """Compute the gradients of the loss of a micro-batch, with the penalties on its logits, and what is logged."""
        with torch.set_grad_enabled(keep_fakes):
            drawn = self._fakes(z, labels)
        self._kept_fakes = drawn if keep_fakes else None
        fake = drawn.detach()
        (real_logits, real_classes), (fake_logits, fake_classes) = self.discriminate_both(real, fake, labels)
        loss = self.loss.discriminator(real_logits, fake_logits)
        outputs = {"discriminator_loss": loss.detach(), **probabilities(real_logits, fake_logits)}
        if real_classes is not None and fake_classes is not None:  # AC-GAN, Odena et al. 2017, equation 3
            classification = _label_loss(real_classes, labels) + _label_loss(fake_classes, labels)
            loss = loss + self.classification_weight * classification
            outputs["classification_loss"] = classification.detach()
        batch = DiscriminatorBatch(real, fake, labels, real_logits, fake_logits)
        terms = [self.penalty_term(penalty, batch) for penalty in penalties if not penalty.has_own_graph]
        self.manual_backward(_scaled(sum(terms, start=loss), share))
        if self.penalties:
            outputs["penalty"] = sum((term.detach() for term in terms), start=torch.zeros_like(loss, dtype=torch.float32))
        return batch._replace(real_logits=real_logits.detach(), fake_logits=fake_logits.detach()), outputs

    @profiled("generator")
    def _generator_step(self, real: Tensor, labels: Tensor | None, key: Due) -> Outputs:
        outputs = self.run_gradients(("generator", *key), self._generator_gradients, (real, labels), self.generator)
        optimizer, _ = self.optimizer_pair()
        optimizer.step()
        return outputs

    def _generator_gradients(self, real: Tensor, labels: Tensor | None) -> Outputs:
        """Compute the gradients of an update of the generator, and what is logged; draw new fakes if none were kept."""
        z = self._latents(len(real)) if self._kept_latents is None else self._kept_latents
        self.generator.zero_grad()
        outputs = Mean()
        for chosen, share in self._micro_batches(len(real)):
            outputs.add(self._deceive(real[chosen], _chosen(labels, chosen), z[chosen], share), share)
        return outputs.values

    def _deceive(self, real: Tensor, labels: Tensor | None, z: Tensor, share: float) -> Outputs:
        """Compute the generator's gradients of a micro-batch, and what is logged."""
        fake = self._fakes(z, labels) if self._kept_fakes is None else self._kept_fakes
        with frozen(self.discriminator):
            real_logits = self.discriminate(*self.augmented(real, labels))[0] if self.loss.generator_sees_real else None
            fake_logits, classes = self.discriminate(*self.augmented(fake, labels))
            loss = self.loss.generator(real_logits, fake_logits)
            outputs = {"generator_loss": loss.detach()}
            if classes is not None:
                loss = loss + self.classification_weight * _label_loss(classes, labels)
            self.manual_backward(_scaled(loss, share))
        return outputs

    # Passes through the generator

    def _latents(self, count: int) -> Tensor:
        return torch.randn(count, self.generator.latent_dim, device=self.device)

    def _micro_batches(self, count: int) -> Iterator[tuple[slice, float]]:
        """Split a batch: the slice and the share of each micro-batch. Together they draw the random numbers of the batch."""
        return micro_batches(count, self.micro_batch or count, self.device)

    @profiled("generator")
    def _fakes(self, z: Tensor, labels: Tensor | None) -> Tensor:
        return self._generate(z, labels)

    def _generate(self, z: Tensor, labels: Tensor | None) -> Tensor:
        images: Tensor = self.generator(z, labels)
        return images

    # For the data module and the callbacks

    @property
    def real_batches_per_step(self) -> int:
        """Batches of fresh real images that one training step takes. The data module's loader joins them into one."""
        return self.discriminator_steps + int(self.loss.generator_sees_real and not self.reuse_fakes)

    def sample(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Draw uint8 images (B, C, H, W) for latents (B, latent_dim) and labels (B, ...), by :attr:`sampler` in eval mode.

        Large images are drawn a few at a time, so that a grid of them needs no more memory than a step.
        """
        _, height, width = self.generator.image_shape
        size = max(1, PIXELS_AT_ONCE // (height * width))
        parts = [slice(start, start + size) for start in range(0, len(z), size)]
        batches = [(z[part], _chosen(labels, part)) for part in parts]
        with evaluated(self.sampler) as generator:
            return to_uint8(torch.cat([generator(*batch) for batch in batches]))


class Mean:
    """The mean of logged values over micro-batches, weighted by their shares."""

    def __init__(self) -> None:
        self.values: Outputs = {}

    def add(self, values: Outputs, share: float) -> None:
        """Add the values of a micro-batch."""
        for name, value in values.items():
            scaled = _scaled(value, share)
            self.values[name] = self.values[name] + scaled if name in self.values else scaled


def _scaled(value: Tensor, share: float) -> Tensor:
    return value if share == 1 else value * share


def _chosen(labels: Tensor | None, chosen: slice) -> Tensor | None:
    return None if labels is None else labels[chosen]


def _label_loss(outputs: Tensor, labels: Tensor | None) -> Tensor:
    """Cross-entropy of class logits (B, num_classes), or the mean squared error of estimates of attributes (B, K)."""
    assert labels is not None  # a discriminator with a classifier is conditional
    return mse_loss(outputs.float(), labels.float()) if labels.is_floating_point() else cross_entropy(outputs.float(), labels)


def _chunks(images: Tensor, labels: Tensor | None, count: int) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Split (count * B, ...) images and labels into ``count`` batches."""
    return zip(images.chunk(count), [None] * count if labels is None else labels.chunk(count), strict=True)
