"""Monitor of the health of a training from image to image: reports failures that the losses do not show."""

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from gan_lightning.callbacks.symptom_monitor import SymptomMonitor, ratio, restored_buffers
from gan_lightning.callbacks.training_log import gradient_norm
from gan_lightning.cycle import CycleGAN
from gan_lightning.data.base import Split
from gan_lightning.data.translation import Pairs, TranslationDataModule
from gan_lightning.health import SYMPTOMS_OF_TRANSLATION, gradient_ratio, overfitting, saturation, separation, spread
from gan_lightning.images import to_float
from gan_lightning.training.devices import float64_device
from gan_lightning.training.randomness import preserved_random_state
from gan_lightning.translation import PairedTranslation

IMAGES = 64
"""Largest number of monitored sources and targets of each split."""


class TranslationHealth(SymptomMonitor):
    """Measures the health of a translation, logs it as ``health/*``, and prints one line when something has gone wrong.

    Each measurement looks at the same 64 sources and targets of the train split, and at as many held-out ones. It uses the
    networks as they train: the present discriminator, its augmentation, and the generator's own weights instead of their
    average. It leaves the training's random numbers and running moments unchanged. Of CycleGAN it measures the generator and
    the discriminator of targets.

    - ``source_diversity``: the spread of the generated images divided by that of targets, in pixels. 1 is as diverse as the
      targets, 0 is one image for every source.
    - ``adversarial_share``: norm of the gradient of the weighted adversarial loss with respect to the generated images, divided
      by that of the other losses: of the L1 and perceptual terms, or of CycleGAN's cycle. Near 0 the discriminator has no
      influence. Missing if its weight is 0, NaN if theirs is.
    - ``real_logits``, ``held_out_logits``, ``fake_logits``: mean logits.
    - ``separation``: standard deviations between the logits of real and of generated images.
    - ``overfitting``: 0 if the discriminator rates held-out pairs like training pairs, 1 if like generated ones (Karras et al.
      2020, equation 1).
    - ``saturation``: the share of the grey in real images that is black or white in the generated ones, 0 to 1.

    The first measurements are ignored, because training has only begun. A symptom counts if two measurements in a row show
    it. The last checkpoint before a symptom is kept as ``checkpoints/healthy.ckpt``.

    Args:
        every_n_steps: generator updates between two measurements; 0 measures nothing.
        stop: end the run when a symptom is found.

    Raises:
        InputError: a number is below 0.
    """

    symptoms = SYMPTOMS_OF_TRANSLATION

    def __init__(self, every_n_steps: int = 250, stop: bool = False) -> None:
        super().__init__(every_n_steps, stop)
        self._batch_size = 0
        self._train: Pairs | None = None
        self._held_out: Pairs | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose the images to monitor."""
        data = getattr(trainer, "datamodule", None)
        if not self.every_n_steps or trainer.fast_dev_run or not isinstance(data, TranslationDataModule):  # type: ignore[attr-defined]
            return
        self._batch_size = data.batch_size
        self._train, self._held_out = (_chosen(data, split, pl_module.device) for split in ("train", "test"))
        self.is_ready = True

    def _measure(self, model: PairedTranslation | CycleGAN) -> dict[str, Tensor]:
        """Measure every value, each (). The host waits for nothing."""
        assert self._train is not None
        exact = float64_device(model.device)
        targets, sources = map(to_float, self._train)
        parts = -(-len(targets) // max(2, self._batch_size))
        with preserved_random_state(model.device), restored_buffers(model):
            fakes, gradients, others = _outputs(model, targets, sources, parts)
            real_logits, fake_logits = (_logits(model, images, sources, parts).to(exact) for images in (targets, fakes))
            if self._held_out is not None:
                held_out, held_out_sources = map(to_float, self._held_out)
                held_out_logits = _logits(model, held_out, held_out_sources, parts).to(exact)
        fakes, targets = fakes.to(exact), targets.to(exact)
        values = {
            "real_logits": real_logits.mean(),
            "fake_logits": fake_logits.mean(),
            "separation": separation(real_logits, fake_logits),
            "source_diversity": ratio(spread(fakes), spread(targets)),
            "saturation": saturation(fakes, targets),
            "generator_gradient_norm": gradient_norm(model.trainer.optimizers[0]).to(exact),
        }
        if model.adversarial_weight:
            values["adversarial_share"] = gradient_ratio(gradients.to(exact), others.to(exact))
        if self._held_out is not None:
            values["held_out_logits"] = held_out_logits.mean()
            values["overfitting"] = overfitting(real_logits, held_out_logits, fake_logits)
        return values


def _chosen(data: TranslationDataModule, split: Split, device: torch.device) -> Pairs | None:
    """Choose targets and sources of a split; None if it has fewer than two."""
    if data.num_both(split) < 2:
        return None
    targets, sources = data.example_pairs(split, IMAGES)
    return targets.to(device), sources.to(device)


def _outputs(
    model: PairedTranslation | CycleGAN, targets: Tensor, sources: Tensor, parts: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Generate images (N, C, H, W), in ``parts`` batches.

    Returns:
        the images, and the gradients at them of the adversarial loss and of the other losses, likewise.
    """
    images: list[Tensor] = []
    adversarial: list[Tensor] = []
    others: list[Tensor] = []
    for real, source in zip(targets.tensor_split(parts), sources.tensor_split(parts), strict=True):
        with torch.no_grad():
            fakes = model.generator(source).float()
        images.append(fakes)
        with torch.enable_grad():
            leaf = fakes.detach().requires_grad_()
            for kept, loss in zip((adversarial, others), model.losses_at(leaf, real, source), strict=True):
                kept += torch.autograd.grad(loss, leaf)
    return torch.cat(images), torch.cat(adversarial), torch.cat(others)


@torch.no_grad()
def _logits(model: PairedTranslation | CycleGAN, images: Tensor, sources: Tensor, parts: int) -> Tensor:
    """Compute the discriminator's mean logits (N,) of images given their sources, in ``parts`` batches."""
    split = zip(images.tensor_split(parts), sources.tensor_split(parts), strict=True)
    return torch.cat([model.features_and_logits(*part)[1] for part in split]).float()
