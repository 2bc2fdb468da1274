"""Monitor of a training's health: reports failures that the losses do not show."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from gan_lightning.callbacks.checkpoints import Checkpoints
from gan_lightning.callbacks.generative_metrics import GenerativeMetrics
from gan_lightning.callbacks.training_log import gradient_norm
from gan_lightning.data.base import ImageDataModule, Images
from gan_lightning.errors import InputError
from gan_lightning.files import link
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

BEGINNING = 3
"""Measurements at the start that are ignored: an untrained generator draws one grey image."""
CONFIRMED = 2
"""Consecutive measurements needed to report or to clear a symptom."""


class HealthMonitor(Callback):
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

    def __init__(self, every_n_steps: int = 250, stop: bool = False, extractor: str = "auto") -> None:
        if every_n_steps < 0:
            raise InputError(f"health.every_n_steps is {every_n_steps}: use at least 0")
        if extractor not in EXTRACTORS:
            raise InputError(f"health.extractor is {extractor!r}: use one of {', '.join(EXTRACTORS)}")
        self.every_n_steps, self.stop, self.extractor_name = every_n_steps, stop, extractor
        self.latest: dict[str, float] = {}
        """Values of the last measurement, by name."""
        self.found: dict[str, int] = {}
        """Symptom -> a count from 0 to CONFIRMED: a measurement with the symptom adds one, any other subtracts one."""
        self.reported: list[str] = []
        """Symptoms that were reported, since the run began or was resumed, and are not cleared yet."""
        self.last_symptom_step = 0
        """Step of the last measurement with a symptom; 0 if there was none."""
        self.measured = 0
        """Number of measurements so far."""
        self._batch_size = 0
        self._train: Images | None = None
        self._held_out: Images | None = None
        self._extractor: Extractor | None = None
        self._latents = torch.empty(0)
        self._references = torch.empty(0)  # coarse pixels (N, D) of training images
        self._reference_features = torch.empty(0)  # (N, F)
        self._held_out_distance = self._held_out_feature_distance = torch.empty(())  # median of held-out images' to them
        self._healthy_step = -1  # the step of healthy.ckpt
        self._folder = Path()

    def state_dict(self) -> dict[str, Any]:
        return {"found": self.found, "ill_step": self.last_symptom_step, "measured": self.measured}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.found, self.last_symptom_step = dict(state_dict["found"]), state_dict["ill_step"]
        self.measured = state_dict["measured"]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._folder = Path(trainer.log_dir or trainer.default_root_dir) / "checkpoints"

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

    def _choose(self, trainer: Trainer, data: ImageDataModule, device: torch.device) -> Extractor | None:
        """Make the extractor that the settings name."""
        if self.extractor_name == "auto":
            metrics = (callback for callback in trainer.callbacks if isinstance(callback, GenerativeMetrics))  # type: ignore[attr-defined]
            extractors = (callback.measurement.extractor for callback in metrics if callback.measurement is not None)
            return next((found for found in extractors if isinstance(found, Classifier | ImageNet)), None)
        if self.extractor_name == "none":
            return None
        return make_extractor(self.extractor_name, data, None, device, trainer.progress_bar_callback is not None)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, GAN)
        if self._train is None or trainer.global_step % self.every_n_steps:
            return
        pl_module.require_finite()
        values = self._measure(pl_module, *self._train)
        own = torch.stack([value.float() for value in values.values()]).to(pl_module.device)
        averaged = distributed.mean(own).tolist()  # so that all processes reach the same conclusion
        self.latest = dict(zip(values, averaged, strict=True))
        for logger in trainer.loggers:
            logger.log_metrics({f"health/{name}": value for name, value in self.latest.items()}, step=trainer.global_step)
        self.measured += 1
        if self.measured > BEGINNING:
            self._update_symptoms(trainer)

    @torch.no_grad()
    def _measure(self, model: GAN, real: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
        """Measure every value, each (). The host waits once, for the samples."""
        labels = labels if model.generator.conditional else None
        exact, held_out = float64_device(model.device), None
        with preserved_random_state(model.device), _restored_buffers(model):
            parts = -(-len(real) // max(2, self._batch_size))
            fake = torch.cat([model.generator(*part) for part in _parts(self._latents, labels, parts)])
            real_features, real_logits = _features_and_logits(model, to_float(real), labels, parts)
            fake_features, fake_logits = _features_and_logits(model, fake, labels, parts)
            if self._held_out is not None:
                held_out, own = self._held_out
                own = own if model.generator.conditional else None
                _, held_out_logits = _features_and_logits(model, to_float(held_out), own, parts)
        drawn = to_uint8(fake)
        fake, real, labels = fake.float().to(exact), to_float(real).to(exact), None if labels is None else labels.to(exact)
        values = {
            "real_logits": real_logits.mean(),
            "fake_logits": fake_logits.mean(),
            "separation": separation(real_logits, fake_logits),
            "pixel_diversity": _ratio(spread(fake, labels), spread(real, labels)),
            "feature_diversity": _ratio(spread(fake_features, labels), spread(real_features, labels)),
            "saturation": saturation(fake, real),
            "generator_gradient_norm": gradient_norm(model.trainer.optimizers[0]).to(exact),
        }
        if held_out is not None:
            values["held_out_logits"] = held_out_logits.mean()
            values["overfitting"] = overfitting(real_logits, held_out_logits, fake_logits)
            distance = _distance(coarse(drawn).to(exact), self._references)
            values["nearest_training"] = _ratio(distance, self._held_out_distance)
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
            values["nearest_training_features"] = _ratio(distance, self._held_out_feature_distance)
        return values

    def _update_symptoms(self, trainer: Trainer) -> None:
        """Report the symptoms that have appeared and those that have cleared."""
        step = trainer.global_step
        now = {symptom.name for symptom in SYMPTOMS if symptom.is_present(self.latest)}
        for symptom in SYMPTOMS:
            change = 1 if symptom.name in now else -1
            self.found[symptom.name] = min(CONFIRMED, max(0, self.found.get(symptom.name, 0) + change))
            if self.found[symptom.name] == CONFIRMED and symptom.name not in self.reported:
                self.reported.append(symptom.name)
                end = " The run stops here." if self.stop else ""
                model = trainer.lightning_module
                remedies = " or ".join(remedy.text for remedy in symptom.remedies if not remedy.is_taken(model))
                self._print(trainer, f"{symptom.text(self.latest)}. {self._last_good()}. Try {remedies}.{end}")
                trainer.should_stop = trainer.should_stop or self.stop
            if self.found[symptom.name] == 0 and symptom.name in self.reported:
                self.reported.remove(symptom.name)
                self._print(trainer, f"the {symptom.name} is over")
        if now:
            self.last_symptom_step = step
        else:
            self._keep_healthy(trainer)

    def _print(self, trainer: Trainer, text: str) -> None:
        if trainer.is_global_zero:
            print(f"\nstep {trainer.global_step:,}: {text}", flush=True)

    def _keep_healthy(self, trainer: Trainer) -> None:
        """Keep the last checkpoint under a second name if it was saved between two measurements without a symptom."""
        checkpoints = (callback for callback in trainer.callbacks if isinstance(callback, Checkpoints))  # type: ignore[attr-defined]
        saved_at = next((callback.saved_at for callback in checkpoints), -1)
        if trainer.is_global_zero and saved_at >= max(self.last_symptom_step + self.every_n_steps, self._healthy_step + 1):
            link(self._folder / "last.ckpt", self._folder / "healthy.ckpt")
            self._healthy_step = saved_at

    def _last_good(self) -> str:
        healthy = self._folder / "healthy.ckpt"
        return f"Last good checkpoint: {healthy}" if healthy.is_file() else "There is no good checkpoint"


def _shuffled(images: Images, device: torch.device) -> Images:
    """Move images and labels to the device, in an order that mixes the classes like batches of the training."""
    order = torch.randperm(len(images[0]), generator=torch.Generator().manual_seed(0))
    return images[0][order].to(device), None if images[1] is None else images[1][order].to(device)


def _parts(tensor: Tensor, labels: Tensor | None, count: int) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Split (N, ...) and labels (N,) into ``count`` batches, the sizes of which differ by at most one."""
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


def _ratio(one: Tensor, other: Tensor) -> Tensor:
    return torch.where(other > 0, one / other, float("nan"))


@contextmanager
def _restored_buffers(model: nn.Module) -> Iterator[None]:
    """Restore running moments and other buffers after the block."""
    before = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        for buffer, value in before:
            buffer.copy_(value)
