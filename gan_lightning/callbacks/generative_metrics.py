"""Sample quality, measured during training."""

from collections.abc import Callable
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn

from gan_lightning.callbacks.measuring import SAMPLES, SAMPLES_OF_IMAGENET, Measuring
from gan_lightning.callbacks.stop_signals import require_no_signal
from gan_lightning.data.base import ImageDataModule, Split
from gan_lightning.errors import InputError
from gan_lightning.gan import GAN
from gan_lightning.latents import labels_by_index, latents
from gan_lightning.metrics.measurement import FEW_IMAGES, Measurement, RealImages
from gan_lightning.metrics.table import METRICS, check_request, split_names
from gan_lightning.training.devices import to_device
from gan_lightning.training.randomness import preserved_random_state


class GenerativeMetrics(Measuring):
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
        self.extractor_name, self.metrics, self.inception_weights = extractor, split_names(metrics), inception_weights
        self.num_images, self.num_real, self.split = num_images, num_real, split
        self.batch_size, self.seed = batch_size, seed
        check_request(self.metrics, num_images, num_real, real_features=True)
        values = {value: better for name in self.metrics for value, better in METRICS[name].values.items() if better}
        least = {
            "seed": (0, seed),
            "batch_size": (1, batch_size),
            "num_images": (1, SAMPLES if num_images is None else num_images),
        }
        super().__init__(
            {value: better == "larger" for value, better in values.items()},
            next(iter(values)) if best is None else best,
            every_n_steps,
            every_n_epochs,
            patience,
            least,
        )
        self._label: Callable[[Tensor], Tensor] | None = None

    def _samplers(self, model: GAN) -> list[nn.Module]:
        return [model.sampler]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prepare all that may be missing: weights, a classifier, statistics of the real images."""
        assert isinstance(pl_module, GAN)
        data = getattr(trainer, "datamodule", None)
        device = trainer.strategy.root_device
        name = self._chosen(data)
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        if name == "none":
            self._begin(trainer, None)
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
        if pl_module.generator.conditional:
            num_classes = pl_module.generator.num_classes
            self._label = labels_by_index(measurement.class_counts, num_classes, data.conditions())
        self._begin(trainer, measurement)

    def _evaluate(self, model: GAN, measurement: Measurement) -> dict[str, float]:
        """Compute the metrics of the generator in its present state.

        Raises:
            InputError: a process fails, or has received a signal.
        """

        def sample(indices: Tensor) -> Tensor:
            require_no_signal(model.trainer)
            labels = None if self._label is None else self._label(indices)
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
