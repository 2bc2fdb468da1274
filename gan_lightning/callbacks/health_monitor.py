"""Monitor of a training's health: reports failures that the losses do not show."""

from collections.abc import Iterator

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from gan_lightning.callbacks.generative_metrics import GenerativeMetrics
from gan_lightning.callbacks.symptom_monitor import SymptomMonitor, ratio, restored_buffers
from gan_lightning.callbacks.training_log import gradient_norm
from gan_lightning.data.base import ImageDataModule, Images
from gan_lightning.errors import InputError
from gan_lightning.gan import GAN
from gan_lightning.health import SYMPTOMS, coarse, overfitting, saturation, separation, spread
from gan_lightning.images import to_float, to_uint8
from gan_lightning.latents import latents
from gan_lightning.metrics.classifier import Classifier
from gan_lightning.metrics.features import Extractor
from gan_lightning.metrics.functional import nearest
from gan_lightning.metrics.imagenet import ImageNet
from gan_lightning.metrics.measurement import FEW_IMAGES, RealImages, make_extractor
from gan_lightning.training import distributed
from gan_lightning.training.devices import float64_device
from gan_lightning.training.randomness import preserved_random_state

ROWS, COLUMNS = 16, 8
"""Grid of the monitored images: 128 of each kind. If there are labels, a row is one class."""
REFERENCES = (32, 64)
"""Rows and columns of the training images searched for the nearest one: all of a small data set."""

EXTRACTORS = ("auto", "none", "classifier", "imagenet", "inception")


class HealthMonitor(SymptomMonitor):
    """Measures the health of a training, logs it as ``health/*``, and prints one line when something has gone wrong.

    Each measurement looks at the same 128 training images, 128 held-out images and 128 latents. It uses the networks as they
    train: the present discriminator, its augmentation, and the generator's own weights instead of their average. It leaves
    the training's random numbers and running moments unchanged.

    - ``pixel_diversity``, ``feature_diversity``: the spread of the samples divided by that of real images, in pixels and in
      the discriminator's last features; within classes if the generator is conditional. 1 is as diverse as the data, 0 is one
      image for every latent.
    - ``real_logits``, ``held_out_logits``, ``fake_logits``: mean logits.
    - ``separation``: standard deviations between the logits of real and of generated images.
    - ``overfitting``: 0 if the discriminator rates held-out images like training images, 1 if like generated ones (Karras et
      al. 2020, equation 1).
    - ``saturation``: the share of the grey in real images that is black or white in the samples, 0 to 1.
    - ``nearest_training``: the median distance, in pixels, of a sample to the nearest of 2,048 training images, divided by
      that of held-out images. It is near 0 if samples are copies of a small data set.
    - ``classes``: the share of the data's classes that the samples cover; needs the data's classifier.
    - ``nearest_training_features``: ``nearest_training`` in the features of an extractor.

    The first measurements are ignored, because training has only begun. A symptom counts if two measurements in a row show
    it. The last checkpoint before a symptom is kept as ``checkpoints/healthy.ckpt``.

    Args:
        every_n_steps: generator updates between two measurements; 0 measures nothing. A measurement costs about as much as
            two updates.
        stop: end the run when a symptom is found.
        extractor: features for ``classes`` and ``nearest_training_features``: ``classifier`` of the data set (trained on
            first use), ``imagenet``, ``inception``, or ``none``. ``auto`` is the extractor of the metrics if that is a
            classifier or imagenet.

    Raises:
        InputError: a number is below 0, or the extractor does not exist.
    """

    symptoms = SYMPTOMS

    def __init__(self, every_n_steps: int = 250, stop: bool = False, extractor: str = "auto") -> None:
        super().__init__(every_n_steps, stop)
        if extractor not in EXTRACTORS:
            raise InputError(f"health.extractor is {extractor!r}: use one of {', '.join(EXTRACTORS)}")
        self.extractor_name = extractor
        self._batch_size = 0
        self._train: Images | None = None
        self._held_out: Images | None = None
        self._extractor: Extractor | None = None
        self._latents = torch.empty(0)
        self._references = torch.empty(0)  # coarse pixels (N, D) of training images
        self._reference_features = torch.empty(0)  # (N, F)
        self._held_out_distance = self._held_out_feature_distance = torch.empty(())  # median of held-out images' to them

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose the images to monitor."""
        data = getattr(trainer, "datamodule", None)
        if not self.every_n_steps or trainer.fast_dev_run or not isinstance(data, ImageDataModule):  # type: ignore[attr-defined]
            return
        assert isinstance(pl_module, GAN)
        device = pl_module.device
        exact = float64_device(device)
        with preserved_random_state(device):
            self._batch_size = data.batch_size
            self._latents = latents(torch.arange(ROWS * COLUMNS), pl_module.generator.latent_dim, seed=0).to(device)
            self._train = _shuffled(data.examples(ROWS, COLUMNS), device)
            try:
                self._held_out = _shuffled(data.examples(ROWS, COLUMNS, "test"), device)
            except InputError:  # too few images to hold any out
                self._held_out = None
            self._extractor = self._choose(trainer, data, device)
            references, _ = data.examples(*REFERENCES)
            self._references = coarse(references).to(exact)
            if self._extractor is not None:
                real = RealImages.of(data, "train", min(FEW_IMAGES, data.num_images("train")))
                shows_progress = trainer.progress_bar_callback is not None
                statistics, _ = real.statistics(self._extractor, ["features"], progress=shows_progress)
                features = None if statistics is None else statistics.features  # None in later processes
                self._reference_features = distributed.on_first_process(lambda: features).to(exact)
            if self._held_out is not None:
                held_out, _ = self._held_out
                self._held_out_distance = _distance(coarse(held_out).to(exact), self._references)
                if self._extractor is not None:
                    features, _ = self._extractor(held_out)
                    self._held_out_feature_distance = _distance(features.to(exact), self._reference_features)
        self.is_ready = True

    def _choose(self, trainer: Trainer, data: ImageDataModule, device: torch.device) -> Extractor | None:
        """Make the extractor that the settings name."""
        if self.extractor_name == "auto":
            metrics = (callback for callback in trainer.callbacks if isinstance(callback, GenerativeMetrics))  # type: ignore[attr-defined]
            extractors = (callback.measurement.extractor for callback in metrics if callback.measurement is not None)
            return next((found for found in extractors if isinstance(found, Classifier | ImageNet)), None)
        if self.extractor_name == "none":
            return None
        return make_extractor(self.extractor_name, data, None, device, trainer.progress_bar_callback is not None)

    @torch.no_grad()
    def _measure(self, model: GAN) -> dict[str, Tensor]:
        """Measure every value, each (). The host waits once, for the samples."""
        assert self._train is not None
        real, labels = self._train
        labels = labels if model.generator.conditional else None
        exact, held_out = float64_device(model.device), None
        with preserved_random_state(model.device), restored_buffers(model):
            parts = -(-len(real) // max(2, self._batch_size))
            fake = torch.cat([model.generator(*part) for part in _parts(self._latents, labels, parts)])
            real_features, real_logits = _features_and_logits(model, to_float(real), labels, parts)
            fake_features, fake_logits = _features_and_logits(model, fake, labels, parts)
            if self._held_out is not None:
                held_out, own = self._held_out
                own = own if model.generator.conditional else None
                _, held_out_logits = _features_and_logits(model, to_float(held_out), own, parts)
        drawn = to_uint8(fake)
        fake, real = fake.float().to(exact), to_float(real).to(exact)
        groups = None if labels is None or labels.is_floating_point() else labels.to(exact)  # attributes make no groups
        values = {
            "real_logits": real_logits.mean(),
            "fake_logits": fake_logits.mean(),
            "separation": separation(real_logits, fake_logits),
            "pixel_diversity": ratio(spread(fake, groups), spread(real, groups)),
            "feature_diversity": ratio(spread(fake_features, groups), spread(real_features, groups)),
            "saturation": saturation(fake, real),
            "generator_gradient_norm": gradient_norm(model.trainer.optimizers[0]).to(exact),
        }
        if held_out is not None:
            values["held_out_logits"] = held_out_logits.mean()
            values["overfitting"] = overfitting(real_logits, held_out_logits, fake_logits)
            distance = _distance(coarse(drawn).to(exact), self._references)
            values["nearest_training"] = ratio(distance, self._held_out_distance)
        if self._extractor is not None:
            values |= self._compare(self._extractor, drawn, exact)
        return values

    def _compare(self, extractor: Extractor, fake: Tensor, exact: torch.device) -> dict[str, Tensor]:
        """Compute the values that need an extractor, for uint8 samples."""
        values = {}
        features, logits = extractor(fake)
        if logits is not None and 4 * logits.shape[1] <= len(fake):  # with fewer samples, chance alone misses classes
            is_class = logits.argmax(1, keepdim=True) == torch.arange(logits.shape[1], device=logits.device)  # (N, K)
            values["classes"] = (is_class.sum(0) >= 2).float().mean().to(exact)
        if self._held_out is not None:
            distance = _distance(features.to(exact), self._reference_features)
            values["nearest_training_features"] = ratio(distance, self._held_out_feature_distance)
        return values


def _shuffled(images: Images, device: torch.device) -> Images:
    """Move images and labels to the device, in an order that mixes the classes like batches of the training."""
    order = torch.randperm(len(images[0]), generator=torch.Generator().manual_seed(0))
    return images[0][order].to(device), None if images[1] is None else images[1][order].to(device)


def _parts(tensor: Tensor, labels: Tensor | None, count: int) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Split (N, ...) and labels (N, ...) into ``count`` batches, the sizes of which differ by at most one."""
    own = [None] * count if labels is None else labels.tensor_split(count)
    return zip(tensor.tensor_split(count), own, strict=True)


def _features_and_logits(model: GAN, images: Tensor, labels: Tensor | None, count: int) -> tuple[Tensor, Tensor]:
    """Compute the discriminator's features (N, F) and logits (N,), in batches no larger than the training's."""
    features, logits = zip(*(model.features_and_logits(*part) for part in _parts(images, labels, count)), strict=True)
    exact = float64_device(model.device)
    return torch.cat(features).float().to(exact), torch.cat(logits).float().to(exact)


def _distance(vectors: Tensor, references: Tensor) -> Tensor:
    """Median distance, (), of vectors (N, D) to the nearest of the references (M, D)."""
    return nearest(vectors, references, 1)[0].median()
