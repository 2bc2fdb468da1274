"""Sample quality, measured during training."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch import Tensor

from gan_lightning.callbacks.monitors import followers
from gan_lightning.callbacks.stop_signals import ends_run, is_interrupted, require_no_signal
from gan_lightning.data.base import ImageDataModule, Split
from gan_lightning.errors import InputError
from gan_lightning.gan import GAN
from gan_lightning.latents import class_frequencies, class_labels, latents
from gan_lightning.metrics.measurement import FEW_IMAGES, Measurement, RealImages
from gan_lightning.metrics.table import METRICS, check_request, split_names
from gan_lightning.training import distributed
from gan_lightning.training.devices import to_device
from gan_lightning.training.randomness import preserved_random_state
from gan_lightning.training.trainer import is_out_of_time

SAMPLES, SAMPLES_OF_IMAGENET = 5000, 1000
"""Default number of samples of a measurement: fewer for imagenet, because it is slower than a classifier."""


class GenerativeMetrics(Callback):
    """Measures the samples, logs the metrics as ``metrics/*``, and keeps the best checkpoint as ``checkpoints/best.ckpt``.

    Samples come from the moving average of the generator if there is one. The last measurement is at the end of the run.
    Latents and labels depend only on the seed and the image's number, so that measurements of one run are comparable.
    Measuring leaves the random numbers of the training unchanged. Lightning's callbacks can monitor the values, too.

    Args:
        extractor: features to measure with: ``imagenet`` (``imagenet_fd``, ``imagenet_score``), ``inception`` (FID, IS),
            ``classifier`` (of the data set, trained on first use: ``mnist_fd``, ``mnist_score``), the class path of a custom
            module, or ``none``. ``auto`` is ``classifier`` for digits and the like, and ``imagenet`` for photographs.
        metrics: comma-separated metrics: fid, is, kid, prdc (precision, recall, density, coverage), modes (classes covered) or
            class_tv (class frequencies).
        every_n_steps: generator updates between two measurements; 0 ignores updates.
        every_n_epochs: epochs between two measurements; 0 ignores epochs.
        num_images: number of samples; the metrics' names contain it, as in ``fid_5k``. None is 5,000, with imagenet 1,000.
        num_real: number of real images to compare with. None is the whole split, with imagenet at most 2,048.
        split: split of the real images.
        inception_weights: file of Inception's weights; None looks in torch's folder for such files, and downloads it if it is
            missing.
        best: value that selects ``best.ckpt``, such as fid, is, precision or kl; None is the first value of the first metric.
        patience: measurements without an improvement after which the run stops; 0 never stops it.
        batch_size: number of images processed at once.
        seed: seed of the latents.

    Raises:
        InputError: a number is out of range, or a metric does not exist.
    """

    def __init__(
        self,
        extractor: str = "auto",
        metrics: str = "fid,is",
        every_n_steps: int = 2000,
        every_n_epochs: int = 0,
        num_images: int | None = None,
        num_real: int | None = None,
        split: Split = "train",
        inception_weights: str | None = None,
        best: str | None = None,
        patience: int = 0,
        batch_size: int = 50,
        seed: int = 0,
    ) -> None:
        least = {"every_n_steps": 0, "every_n_epochs": 0, "patience": 0, "seed": 0, "batch_size": 1, "num_images": 1}
        given = (every_n_steps, every_n_epochs, patience, seed, batch_size, SAMPLES if num_images is None else num_images)
        for (name, smallest), value in zip(least.items(), given, strict=True):
            if value < smallest:
                raise InputError(f"metrics.{name} is {value}: use at least {smallest}")
        self.extractor_name, self.metrics, self.inception_weights = extractor, split_names(metrics), inception_weights
        self.every_n_steps, self.every_n_epochs = every_n_steps, every_n_epochs
        self.num_images, self.num_real, self.split = num_images, num_real, split
        self.patience, self.batch_size, self.seed = patience, batch_size, seed
        check_request(self.metrics, num_images, num_real, real_features=True)
        values = {value: better for name in self.metrics for value, better in METRICS[name].values.items() if better}
        if best is not None and best not in values:
            raise InputError(f"metrics.best is {best!r}, which is not a value of the metrics: use one of {', '.join(values)}")
        self.best = best or next(iter(values))
        self._larger_is_better = {value: better == "larger" for value, better in values.items()}
        self.best_name, self.best_value, self.best_step, self.misses = "", float("nan"), -1, 0
        self.measurement: Measurement | None = None
        self._frequencies = torch.empty(0)
        self._folder = Path()
        self._followers: list[EarlyStopping | ModelCheckpoint] = []

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("best_name", "best_value", "best_step", "misses")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name, value in state_dict.items():
            setattr(self, name, value)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._folder = Path(trainer.log_dir or trainer.default_root_dir) / "checkpoints"

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prepare all that may be missing: weights, a classifier, statistics of the real images."""
        assert isinstance(pl_module, GAN)
        data = getattr(trainer, "datamodule", None)
        device = trainer.strategy.root_device
        name = self._chosen(data)
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        if name == "none":
            self._followers = followers(trainer, {})
            return
        assert isinstance(data, ImageDataModule)
        is_slow = name == "imagenet"
        if self.num_images is None:
            self.num_images = SAMPLES_OF_IMAGENET if is_slow else SAMPLES
        few = min(FEW_IMAGES, data.num_images(self.split)) if is_slow else None
        compares = any(METRICS[metric].compares for metric in self.metrics)
        with preserved_random_state(device):
            measurement = Measurement(
                name,
                data,
                device,
                RealImages.of(data, self.split, few if self.num_real is None else self.num_real),
                data.image_shape,
                self.metrics,
                self.num_images,
                fields=("features",) if is_slow and compares else (),  # the health monitor needs them
                inception_weights=self.inception_weights,
                batch_size=self.batch_size,
                progress=trainer.progress_bar_callback is not None,
            )
            measurement.print_estimate("samples, each time (--metrics.num_images)")
            measurement.prepare()
        self.measurement = measurement
        self._frequencies = class_frequencies(measurement.class_counts, pl_module.generator.num_classes)
        names = measurement.names()
        self._followers = followers(trainer, {f"metrics/{names[kind]}": up for kind, up in self._larger_is_better.items()})
        name = names[self.best]
        if self.best_name != name:  # also if a resumed run measures something else now
            self.best_name, self.best_value, self.best_step, self.misses = name, float("nan"), -1, 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measure at the end of a step, for the reason in ``Checkpoints``, and before checkpoints are saved."""
        if self.measurement is not None and self._is_due(trainer):
            self._measure(trainer, pl_module, self.measurement)

    def _is_due(self, trainer: Trainer) -> bool:
        step, epochs = trainer.global_step, trainer.current_epoch + 1
        out_of_time = is_out_of_time(trainer) and not is_interrupted(trainer)
        if step == trainer.max_steps or out_of_time or (self.every_n_steps and step % self.every_n_steps == 0):
            return True
        ends_epoch = self.every_n_epochs and epochs % self.every_n_epochs == 0
        return bool(trainer.is_last_batch and (ends_epoch or epochs == trainer.max_epochs))

    def _measure(self, trainer: Trainer, pl_module: LightningModule, measurement: Measurement) -> None:
        assert isinstance(pl_module, GAN)
        distributed.broadcast_(list(pl_module.sampler.buffers()))  # each process has its own running moments
        try:
            with preserved_random_state(pl_module.device):  # a generator may draw noise
                values = self._evaluate(pl_module, measurement)
        except InputError:  # in all processes
            if not ends_run(trainer):
                raise
            pl_module.print(f"step {trainer.global_step:,}: a signal ended the measurement")
            return
        grouped = {f"metrics/{name}": value for name, value in values.items()}
        pl_module.log_dict(grouped, logger=False, on_step=True, on_epoch=False)  # for callbacks that monitor
        for logger in trainer.loggers:
            logger.log_metrics(grouped, step=trainer.global_step)
        value = values[self.best_name]
        larger = self._larger_is_better[self.best]
        better = self.best_step < 0 or (value > self.best_value if larger else value < self.best_value)
        self.misses = 0 if better else self.misses + 1
        if better:
            self.best_value, self.best_step = value, trainer.global_step
            if trainer.checkpoint_callback is not None:
                trainer.save_checkpoint(self._folder / "best.ckpt", weights_only=False)
        pl_module.print(
            f"step {trainer.global_step:,}: "
            + ", ".join(f"{name} {value:.4g}" for name, value in values.items() if not name.endswith("_std"))
            + (" (the best so far)" if better else "")
        )
        for callback in self._followers:
            callback.on_validation_end(trainer, pl_module)
        if self.patience and self.misses >= self.patience:
            pl_module.print(
                f"the run stops, because {self.best_name} has not improved in {self.misses} measurements. The best was "
                f"{self.best_value:.4g} at step {self.best_step:,}"
            )
            trainer.should_stop = True

    def _evaluate(self, model: GAN, measurement: Measurement) -> dict[str, float]:
        """Compute the metrics of the generator in its present state.

        Raises:
            InputError: a process fails, or has received a signal.
        """

        def sample(indices: Tensor) -> Tensor:
            require_no_signal(model.trainer)
            labels = class_labels(indices, self._frequencies) if model.generator.conditional else None
            z = latents(indices, model.generator.latent_dim, self.seed)
            return model.sample(to_device(z, model.device), None if labels is None else to_device(labels, model.device))

        return measurement.compute(measurement.collect(sample))

    def _chosen(self, data: Any) -> str:
        """Name of the extractor; ``auto`` is resolved for this data set."""
        if self.extractor_name != "auto":
            if not isinstance(data, ImageDataModule) and self.extractor_name != "none":
                raise InputError("metrics need real images to compare with: use an ImageDataModule")
            return self.extractor_name
        if not isinstance(data, ImageDataModule) or data.image_shape[0] not in (1, 3, 4):
            return "none"  # neither grey nor colour
        return data.extractor
