"""Whether a training goes well, told as it goes on: what fails quietly is said aloud."""

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
from gan_lightning.measure import FEW, RealImages, make_extractor, reference
from gan_lightning.metrics.classifier import Classifier
from gan_lightning.metrics.features import Extractor
from gan_lightning.metrics.functional import nearest
from gan_lightning.metrics.imagenet import ImageNet
from gan_lightning.training import distributed
from gan_lightning.training.randomness import preserved_random_state

ROWS, COLUMNS = 16, 8
"""Of the images that are looked at: 128 of each kind, in rows of one class where there are labels."""
REFERENCES = (32, 64)
"""Rows and columns of the training images among which the nearest is looked for: all of a small data set."""

EXTRACTORS = ("auto", "none", "classifier", "imagenet", "inception")

BEGINNING = 3
"""Measurements that are not judged: a generator begins with one grey image."""
CONFIRMED = 2
"""Measurements in a row that must have a symptom before it is told, and be without it before it is over."""


class HealthMonitor(Callback):
    """Measures how the training goes, as ``health/*`` in the logs, and says in one line when something has gone wrong.

    The same 128 training images, 128 held-out ones and 128 latents are looked at each time, as the training looks at them:
    by the discriminator as it is, through its augmentation, with the generator's own weights. Neither its random numbers nor
    its running moments are touched.

    - ``pixel_diversity``, ``feature_diversity``: the spread of the samples over that of real images, in pixels and in the
      discriminator's last features, within classes where the generator is conditional: 1 is as diverse as the data,
      0 one image for every latent.
    - ``real_logits``, ``held_out_logits``, ``fake_logits``: means. ``separation``: standard deviations between real and
      generated ones. ``overfitting``: 0 where held-out images are judged as training images, 1 where as generated ones
      (Karras et al. 2020, equation 1).
    - ``saturation``: how much of what is grey in real images is black or white in the samples, 0 to 1.
    - ``nearest_training``: the median distance of a sample to the nearest of 2,048 training images, over that of held-out
      images, in pixels: near 0 where samples are copies of a small data set.
    - ``classes``, ``nearest_training_features``, where there is an extractor: the share of the data's classes that the
      samples cover (of the data's classifier), and the same distance in its features.

    The first measurements, which see a beginning, are not judged. A symptom counts when two in a row have it. The last
    checkpoint of before a symptom is kept as ``checkpoints/healthy.ckpt``.

    Args:
        every_n_steps: how often, in generator updates; 0 measures nothing. Each time costs about as much as two updates.
        stop: whether to end the run where a symptom is found.
        extractor: what ``classes`` and ``nearest_training_features`` are measured with: ``classifier`` of the data set
            (trained on first use), ``imagenet``, ``inception``, or ``none``. ``auto`` is what metrics are measured with, if
            that is a classifier or imagenet.

    Raises:
        InputError: a number below 0, or no such extractor.
    """

    def __init__(self, every_n_steps: int = 250, stop: bool = False, extractor: str = "auto") -> None:
        if every_n_steps < 0:
            raise InputError(f"health.every_n_steps is {every_n_steps}: use at least 0")
        if extractor not in EXTRACTORS:
            raise InputError(f"health.extractor is {extractor!r}: there is {', '.join(EXTRACTORS)}")
        self.every_n_steps, self.stop, self.extractor_name = every_n_steps, stop, extractor
        self.latest: dict[str, float] = {}
        """The values that were measured last, by name."""
        self.found: dict[str, int] = {}
        """Symptom -> how sure it is, from 0 to CONFIRMED: each measurement that has it adds one, each other takes one."""
        self.told: list[str] = []
        """Symptoms that were told, in this run or since it was resumed, and are not over."""
        self.ill_step = 0
        """The step of the last measurement with a symptom; 0 where there was none."""
        self.measured = 0
        """How many measurements there were."""
        self._batch_size = 0
        self._train: Images | None = None
        self._held_out: Images | None = None
        self._extractor: Extractor | None = None
        self._references = torch.empty(0)  # coarse pixels (N, D) of training images
        self._reference_features = torch.empty(0)  # (N, F)
        self._usual = self._usual_features = float("nan")  # the distance of held-out images to them
        self._kept_at = -1  # the step of healthy.ckpt
        self._folder = Path()

    def state_dict(self) -> dict[str, Any]:
        return {"found": self.found, "ill_step": self.ill_step, "measured": self.measured}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.found, self.ill_step = dict(state_dict["found"]), state_dict["ill_step"]
        self.measured = state_dict["measured"]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._folder = Path(trainer.log_dir or trainer.default_root_dir) / "checkpoints"

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose the images to look at."""
        data = getattr(trainer, "datamodule", None)
        if not self.every_n_steps or trainer.fast_dev_run or not isinstance(data, ImageDataModule):  # type: ignore[attr-defined]
            return
        device = pl_module.device
        with preserved_random_state(device):
            self._batch_size = data.batch_size
            self._train = _mixed(data.examples(ROWS, COLUMNS), device)
            try:
                self._held_out = _mixed(data.examples(ROWS, COLUMNS, "test"), device)
            except InputError:  # there are too few images to hold any out
                self._held_out = None
            self._extractor = self._choose(trainer, data, device)
            references, _ = data.examples(*REFERENCES)
            self._references = coarse(references)
            if self._extractor is not None:
                real = RealImages.of(data, "train", min(FEW, data.num_images("train")))
                statistics, _ = reference(real, self._extractor, True, progress=trainer.progress_bar_callback is not None)
                features = None if statistics is None else statistics.features  # of the first process alone
                self._reference_features = distributed.on_first_process(lambda: features)
            if self._held_out is not None:
                self._usual = _distance(coarse(self._held_out[0].cpu()), self._references)
                if self._extractor is not None:
                    self._usual_features = _distance(self._extractor(self._held_out[0])[0].cpu(), self._reference_features)

    def _choose(self, trainer: Trainer, data: ImageDataModule, device: torch.device) -> Extractor | None:
        """The extractor that the settings mean."""
        if self.extractor_name == "auto":
            metrics = (callback for callback in trainer.callbacks if isinstance(callback, GenerativeMetrics))  # type: ignore[attr-defined]
            extractors = (callback.extractor for callback in metrics)
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
        names, values = zip(*self._measure(pl_module, *self._train).items(), strict=True)
        averaged = distributed.mean(
            torch.tensor(values, device=pl_module.device)
        ).tolist()  # so that all come to one conclusion
        self.latest = dict(zip(names, averaged, strict=True))
        for logger in trainer.loggers:
            logger.log_metrics({f"health/{name}": value for name, value in self.latest.items()}, step=trainer.global_step)
        self.measured += 1
        if self.measured > BEGINNING:
            self._conclude(trainer)

    @torch.no_grad()
    def _measure(self, model: GAN, real: Tensor, labels: Tensor | None) -> dict[str, float]:
        """Every value that can be had of the model as it is now."""
        labels = labels if model.generator.conditional else None
        z = latents(torch.arange(len(real)), model.generator.latent_dim, seed=0).to(model.device)
        held_out = None
        with preserved_random_state(model.device), _untouched_buffers(model):
            parts = -(-len(z) // max(2, self._batch_size))
            fake = torch.cat([model.generator(*part) for part in _parts(z, labels, parts)])
            real_features, real_logits = _judged(model, to_float(real), labels, parts)
            fake_features, fake_logits = _judged(model, fake, labels, parts)
            if self._held_out is not None:
                held_out, own = self._held_out
                own = own if model.generator.conditional else None
                _, held_out_logits = _judged(model, to_float(held_out), own, parts)
        drawn = to_uint8(fake.cpu())
        fake, real, labels = fake.float().cpu(), real.cpu(), None if labels is None else labels.cpu()
        values = {
            "real_logits": float(real_logits.mean()),
            "fake_logits": float(fake_logits.mean()),
            "separation": separation(real_logits, fake_logits),
            "pixel_diversity": _ratio(spread(fake, labels), spread(to_float(real), labels)),
            "feature_diversity": _ratio(spread(fake_features, labels), spread(real_features, labels)),
            "saturation": saturation(fake, to_float(real)),
            "generator_gradient_norm": float(gradient_norm(model.trainer.optimizers[0])),
        }
        if held_out is not None:
            values["held_out_logits"] = float(held_out_logits.mean())
            values["overfitting"] = overfitting(real_logits, held_out_logits, fake_logits)
            values["nearest_training"] = _ratio(_distance(coarse(drawn), self._references), self._usual)
        if self._extractor is not None:
            values |= self._compare(self._extractor, drawn)
        return values

    def _compare(self, extractor: Extractor, fake: Tensor) -> dict[str, float]:
        """What the extractor says of samples uint8."""
        values = {}
        features, logits = extractor(fake)
        if logits is not None and 4 * logits.shape[1] <= len(fake):  # else chance alone leaves classes out
            values["classes"] = float((logits.argmax(1).bincount(minlength=logits.shape[1]) >= 2).double().mean())
        if self._held_out is not None:
            distance = _distance(features.cpu(), self._reference_features)
            values["nearest_training_features"] = _ratio(distance, self._usual_features)
        return values

    def _conclude(self, trainer: Trainer) -> None:
        """Say what has come and what has gone."""
        step = trainer.global_step
        now = {symptom.name for symptom in SYMPTOMS if symptom.is_there(self.latest)}
        for symptom in SYMPTOMS:
            change = 1 if symptom.name in now else -1
            self.found[symptom.name] = min(CONFIRMED, max(0, self.found.get(symptom.name, 0) + change))
            if self.found[symptom.name] == CONFIRMED and symptom.name not in self.told:
                self.told.append(symptom.name)
                end = " (stopping here)" if self.stop else ""
                model = trainer.lightning_module
                ways = " or ".join(remedy.text for remedy in symptom.remedies if not remedy.is_taken(model))
                self._say(trainer, f"{symptom.text(self.latest)}; {self._last_good()}; try {ways}{end}")
                trainer.should_stop = trainer.should_stop or self.stop
            if self.found[symptom.name] == 0 and symptom.name in self.told:
                self.told.remove(symptom.name)
                self._say(trainer, f"the {symptom.name} is over")
        if now:
            self.ill_step = step
        else:
            self._keep_healthy(trainer)

    def _say(self, trainer: Trainer, text: str) -> None:
        if trainer.is_global_zero:
            print(f"\nstep {trainer.global_step:,}: {text}", flush=True)

    def _keep_healthy(self, trainer: Trainer) -> None:
        """Keep the last checkpoint under a second name, where it was saved between two measurements without a symptom."""
        checkpoints = (callback for callback in trainer.callbacks if isinstance(callback, Checkpoints))  # type: ignore[attr-defined]
        saved_at = next((callback.saved_at for callback in checkpoints), -1)
        if trainer.is_global_zero and saved_at >= max(self.ill_step + self.every_n_steps, self._kept_at + 1):
            link(self._folder / "last.ckpt", self._folder / "healthy.ckpt")
            self._kept_at = saved_at

    def _last_good(self) -> str:
        healthy = self._folder / "healthy.ckpt"
        return f"last good checkpoint: {healthy}" if healthy.is_file() else "there is no good checkpoint"


def _mixed(images: Images, device: torch.device) -> Images:
    """Images and labels on the device, in an order that mixes classes as batches of the training do."""
    order = torch.randperm(len(images[0]), generator=torch.Generator().manual_seed(0))
    return images[0][order].to(device), None if images[1] is None else images[1][order].to(device)


def _parts(tensor: Tensor, labels: Tensor | None, count: int) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Split (N, ...) and labels (N,) into ``count`` batches that differ by one at most."""
    own = [None] * count if labels is None else labels.tensor_split(count)
    return zip(tensor.tensor_split(count), own, strict=True)


def _judged(model: GAN, images: Tensor, labels: Tensor | None, count: int) -> tuple[Tensor, Tensor]:
    """The discriminator's features (N, F) and logits (N,), on the CPU; in batches no larger than the training's."""
    features, logits = zip(*(model.features_and_logits(*part) for part in _parts(images, labels, count)), strict=True)
    return torch.cat(features).float().cpu(), torch.cat(logits).float().cpu()


def _distance(vectors: Tensor, references: Tensor) -> float:
    """The median distance of vectors (N, D) to the nearest of the references (M, D)."""
    return float(nearest(vectors, references, 1)[0].median())


def _ratio(one: float, other: float) -> float:
    return one / other if other else float("nan")


@contextmanager
def _untouched_buffers(model: nn.Module) -> Iterator[None]:
    """Within the block running moments and the like may move; after it they are as before."""
    before = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        for buffer, value in before:
            buffer.copy_(value)
