"""Quality of translations, measured during training."""

from collections.abc import Callable, Mapping

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn

from gan_lightning.callbacks.measuring import SAMPLES, SAMPLES_OF_IMAGENET, Measuring
from gan_lightning.callbacks.stop_signals import require_no_signal
from gan_lightning.cycle import CycleGAN
from gan_lightning.data.base import Split
from gan_lightning.data.translation import TranslationDataModule
from gan_lightning.errors import InputError
from gan_lightning.images import to_float
from gan_lightning.metrics.measurement import FEW_IMAGES
from gan_lightning.metrics.table import METRICS, PAIR_METRICS, check_translation_request, split_names
from gan_lightning.metrics.translation import TranslationMeasurement, default_metrics, directions_of
from gan_lightning.training.randomness import preserved_random_state
from gan_lightning.translation import PairedTranslation


class TranslationMetrics(Measuring):
    """Measures translations of one split, logs ``metrics/*``, and keeps the best checkpoint as ``checkpoints/best.ckpt``.

    Images come from the moving average of the generator if there is one. CycleGAN is measured in both directions: values of the
    way back begin with ``inverse_``, and ``cycle_l1`` is the error of a source after both. The last measurement is at the end
    of the run. The values of the sources themselves, as baselines, are printed before the first step. Measuring leaves the
    random numbers of the training unchanged. Lightning's callbacks can monitor the values, too.

    Args:
        extractor: features that sets of images are compared in: ``imagenet``, ``inception``, ``classifier`` (of the data set,
            trained on first use), the class path of a custom module, or ``none`` to measure nothing. ``auto`` is ``classifier``
            for digits and the like, and ``imagenet`` for photographs.
        metrics: comma-separated metrics: fid, and the others of samples; and if there are pairs psnr, ssim, l1 (in grey
            levels) or perceptual (distance in features of ImageNet). None is fid if at least two images are held out, and with
            pairs all four of them.
        every_n_steps: generator updates between two measurements; 0 ignores updates.
        every_n_epochs: epochs between two measurements; 0 ignores epochs.
        num_images: number of sources at most; the names of values of sets contain it, as in ``fid_5k``. None is 5,000, with
            imagenet 1,000.
        num_real: number of real images to compare with at most. None is the whole split, with imagenet at most 2,048.
        split: split of the sources, and of the real images.
        inception_weights: file of Inception's weights; None looks in torch's folder for such files, and downloads it if it is
            missing.
        best: value that selects ``best.ckpt``, such as fid, psnr or inverse_fid; None is the first that is measured.
        patience: measurements without an improvement after which the run stops; 0 never stops it.
        batch_size: number of images processed at once.

    Attributes:
        baselines: name of each baseline -> its values, from the beginning of the training.

    Raises:
        InputError: a number is out of range, or a metric does not exist.
    """

    def __init__(
        self,
        extractor: str = "auto",
        metrics: str | None = None,
        every_n_steps: int = 2000,
        every_n_epochs: int = 0,
        num_images: int | None = None,
        num_real: int | None = None,
        split: Split = "test",
        inception_weights: str | None = None,
        best: str | None = None,
        patience: int = 0,
        batch_size: int = 50,
    ) -> None:
        self.metrics = None if metrics is None else split_names(metrics)
        if self.metrics is not None:
            check_translation_request(self.metrics, num_images)
        directions = directions_of([*METRICS, *PAIR_METRICS] if self.metrics is None else self.metrics)
        larger_is_better = {name: is_larger for name, is_larger in directions.items() if is_larger is not None}
        super().__init__(
            larger_is_better,
            next(iter(larger_is_better)) if best is None else best,
            every_n_steps,
            every_n_epochs,
            patience,
            {
                "batch_size": (1, batch_size),
                "num_images": (1, SAMPLES if num_images is None else num_images),
                "num_real": (1, SAMPLES if num_real is None else num_real),
            },
        )
        self.extractor_name, self.inception_weights, self.split = extractor, inception_weights, split
        self.num_images, self.num_real, self.batch_size = num_images, num_real, batch_size
        self._chooses_best = best is None
        self.baselines: Mapping[str, Mapping[str, float]] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prepare all that may be missing, and measure the baselines."""
        assert isinstance(pl_module, PairedTranslation | CycleGAN)
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        if self.extractor_name == "none":
            self._begin(trainer, None)
            return
        data = getattr(trainer, "datamodule", None)
        if not isinstance(data, TranslationDataModule):
            raise InputError("metrics need sources and targets: use a TranslationDataModule")
        metrics = default_metrics(data, self.split) if self.metrics is None else self.metrics
        if not metrics:
            pl_module.print(f"Too few images are held out to measure translations: put some into the {self.split} split")
            self._begin(trainer, None)
            return
        if self._chooses_best:
            self.best = next(name for name, is_larger in directions_of(metrics).items() if is_larger is not None)
        name = data.extractor if self.extractor_name == "auto" else self.extractor_name
        is_slow = name == "imagenet"
        device = trainer.strategy.root_device
        with preserved_random_state(device):
            measurement = TranslationMeasurement(
                data,
                device,
                name,
                metrics,
                self.split,
                self.num_images or (SAMPLES_OF_IMAGENET if is_slow else SAMPLES),
                self.num_real or (FEW_IMAGES if is_slow else None),
                inverse=isinstance(pl_module, CycleGAN),
                inception_weights=self.inception_weights,
                batch_size=self.batch_size,
                progress=trainer.progress_bar_callback is not None,
            )
            measurement.print_estimate("translations, each time (--metrics.num_images)")
            measurement.prepare()
            self._begin(trainer, measurement)
            self.baselines = measurement.baselines()
        for name, values in self.baselines.items():
            shown = ", ".join(f"{value} {number:.4g}" for value, number in values.items() if not value.endswith("_std"))
            pl_module.print(f"baseline {name}: {shown}")

    def _samplers(self, model: PairedTranslation | CycleGAN) -> list[nn.Module]:
        return [model.sampler, model.inverse_sampler] if isinstance(model, CycleGAN) else [model.sampler]

    def _evaluate(self, model: PairedTranslation | CycleGAN, measurement: TranslationMeasurement) -> dict[str, float]:
        def applied(translate: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
            def apply(images: Tensor) -> Tensor:
                require_no_signal(model.trainer)
                return translate(to_float(images))

            return apply

        back = applied(model.translate_back) if isinstance(model, CycleGAN) else None
        return measurement.measure(applied(model.translate), back)
