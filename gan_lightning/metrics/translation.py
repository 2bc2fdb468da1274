"""A measurement of translations: each image against its target, all images against real ones, and the way back."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torchmetrics import MeanAbsoluteError, MeanMetric, Metric
from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure

from gan_lightning.data.base import Split
from gan_lightning.data.translation import TranslationDataModule
from gan_lightning.errors import InputError
from gan_lightning.images import on_white, size_text, to_float
from gan_lightning.metrics.evaluator import choose
from gan_lightning.metrics.features import Extractor, NoFeatures, full_precision
from gan_lightning.metrics.measurement import Measurement, RealImages, make_extractor
from gan_lightning.metrics.table import METRICS, PAIR_METRICS, check_translation_request
from gan_lightning.perceptual import PerceptualDistance
from gan_lightning.training.devices import to_device

Translate = Callable[[Tensor], Tensor]
"""Maps sources uint8 (B, C', h, w), on the device of the measurement, to images uint8 (B, C, H, W), on any."""
Shape = tuple[int, int, int]
INVERSE = "inverse_"
"""Beginning of the names of the values of the way back."""
CYCLE = "cycle_l1"
"""Mean absolute difference, in grey levels, of a source from its translation there and back."""
LEAST_OF_SETS = 2  # images of a set with a covariance
LEAST_SIDE_OF_SSIM = 6  # its window is mirrored by 5 pixels


def default_metrics(data: TranslationDataModule, split: Split) -> list[str]:
    """List the metrics that suit a split: the Fréchet distance if it has two images, and the errors of pairs if it has any."""
    held = data.num_both(split)
    unsuited = {"agreement"} | (set() if min(data.image_shape[1:]) >= LEAST_SIDE_OF_SSIM else {"ssim"})
    errors = [name for name in PAIR_METRICS if name not in unsuited]
    return [*(["fid"] if held >= LEAST_OF_SETS else []), *(errors if held and data.has_pairs else [])]


class TranslationMeasurement:
    """A measurement of translations of one split: its data, its extractor, its metrics and their baselines.

    Call :meth:`prepare` before the first :meth:`measure`. Values are the same with any number of processes, within rounding.

    Args:
        data: sources, and targets.
        device: device of the extractor, and of the images that are translated.
        extractor: name of the extractor, as in :func:`~gan_lightning.metrics.measurement.make_extractor`. It is used only if a
            metric compares sets of images.
        metrics: names from :data:`~gan_lightning.metrics.table.METRICS` and
            :data:`~gan_lightning.metrics.table.PAIR_METRICS`; None is :func:`default_metrics`.
        split: split of the data.
        num_images: number of sources, chosen at random with seed 0; None, or more than there are, is all.
        num_real: number of real images that sets are compared with, likewise.
        inverse: also measure the way back, from targets to sources, and the cycle.
        inception_weights: file of Inception's weights, as for the extractor.
        batch_size: number of images processed at once.
        progress: show progress bars.

    Raises:
        InputError: a metric does not exist or cannot be computed, or the extractor cannot be made or rejects the images.
    """

    def __init__(
        self,
        data: TranslationDataModule,
        device: torch.device,
        extractor: str,
        metrics: Sequence[str] | None = None,
        split: Split = "test",
        num_images: int | None = None,
        num_real: int | None = None,
        inverse: bool = False,
        inception_weights: str | None = None,
        batch_size: int = 50,
        progress: bool = True,
    ) -> None:
        self.metrics = default_metrics(data, split) if metrics is None else metrics
        held = data.num_both(split)
        if not held or (metrics is None and not self.metrics):
            raise InputError(
                f"the {split} split of {data.name} has {held} images, too few to measure: use another split, or "
                "put more images into it"
            )
        check_translation_request(self.metrics, None)
        of_pairs = [name for name in self.metrics if name in PAIR_METRICS]
        of_sets = [name for name in self.metrics if name in METRICS]
        if of_pairs and not data.has_pairs:
            raise InputError(
                f"{of_pairs[0]} compares with targets, but {data.name} has no pairs: use one of {', '.join(METRICS)}"
            )
        for side in ("source", "image") if inverse else ("image",):
            shape: Shape = getattr(data, f"{side}_shape")
            if "ssim" in of_pairs and min(shape[1:]) < LEAST_SIDE_OF_SSIM:
                raise InputError(f"ssim needs images of at least {LEAST_SIDE_OF_SSIM} pixels, but these are {size_text(shape)}")
        self.data, self.device, self.split = data, device, split
        uses_extractor = of_sets or "agreement" in of_pairs
        self.extractor: Extractor = (
            make_extractor(extractor, data, inception_weights, device, progress) if uses_extractor else NoFeatures().to(device)
        )
        self._perceptual = PerceptualDistance(3).to(device) if "perceptual" in of_pairs else None

        def direction(forward: bool) -> "_Direction":
            real = _real(data, split, num_real, forward) if of_sets else None
            chosen = choose(*_size_and_count(data, split, num_images, forward))
            shape = data.image_shape if forward else data.source_shape
            measurement = Measurement(
                self.extractor, data, device, real, shape, of_sets, len(chosen), batch_size=batch_size, progress=progress
            )
            errors = [name for name in of_pairs if forward or name != "agreement"]  # sources have no classes of their own
            return _Direction(data, split, forward, chosen, measurement, errors, self._perceptual)

        self._forward = direction(True)
        self._back = direction(False) if inverse else None

    @property
    def num_images(self) -> int:
        """Number of sources that are translated."""
        return self._forward.measurement.num_images

    def prepare(self) -> None:
        """Read or compute the statistics of the real images. Every process must call this, once."""
        for direction in self._directions.values():
            direction.measurement.prepare()

    def print_estimate(self, what: str) -> None:
        """Print how long a slow extractor will take for the translated images, ``what`` in the text."""
        self._forward.measurement.print_estimate(what)

    def measure(self, translate: Translate, translate_back: Translate | None = None) -> dict[str, float]:
        """Measure a function from sources to images; all processes return the same, full name -> value.

        Args:
            translate: the function.
            translate_back: function from targets to sources. Without it there are no values of the way back.

        Raises:
            InputError: one process failed, or the images have another shape than the targets; every process raises it.
        """
        values = self._forward.measure(translate, translate_back if self._back is not None else None)
        if self._back is not None and translate_back is not None:
            back = self._back.measure(translate_back, translate)
            values |= {f"{INVERSE}{name}": value for name, value in back.items()}
        return values

    def baselines(self) -> dict[str, dict[str, float]]:
        """Measure the sources themselves as images: name -> values, as of :meth:`measure`. Empty if the shapes do not allow it.

        The name is ``bicubic`` if the sources are smaller and so are enlarged, else ``identity``. With agreement, there is a
        row of ``targets``: the class that the extractor gives them is not always theirs.
        """
        shape, source_shape = self.data.image_shape, self.data.source_shape
        rows: dict[str, dict[str, float]] = {}
        if (name := baseline_name(source_shape, shape)) is not None:
            can_return = self._back is not None and baseline_name(shape, source_shape) is not None
            back = (lambda images: unchanged(images, source_shape)) if can_return else None
            rows[name] = self.measure(lambda sources: unchanged(sources, shape), back)
        if "agreement" in self._forward.of_pairs:
            rows["targets"] = {PAIR_METRICS["agreement"].value: self._forward.agreement_of_targets()}
        return rows

    def names(self) -> dict[str, str]:
        """Map the values of all metrics to their full names, such as ``fid`` to ``mnist_fd_5k``, and ``psnr`` to ``psnr``."""
        names: dict[str, str] = {}
        for prefix, direction in self._directions.items():
            own = direction.measurement.names() | {name: PAIR_METRICS[name].value for name in direction.of_pairs}
            own |= {CYCLE: CYCLE} if self._back is not None else {}
            names |= {f"{prefix}{name}": f"{prefix}{full}" for name, full in own.items()}
        return names

    def protocol(self) -> dict[str, Any]:
        """List all that the values depend on besides the translations, for the record."""
        forward, *others = (direction.measurement.protocol() for direction in self._directions.values())
        own: dict[str, Any] = {
            "real": self.data.name,
            **forward,
            "split": self.split,
            "source_shape": list(self.data.source_shape),
        }
        own["constants"] = {**own["constants"], **{name: dict(PAIR_METRICS[name].constants) for name in self._forward.of_pairs}}
        if others:
            own["constants"][CYCLE] = dict(PAIR_METRICS["l1"].constants)
            own["inverse"] = {name: value for name, value in others[0].items() if forward.get(name) != value}
        return own

    @property
    def _directions(self) -> "dict[str, _Direction]":
        """Beginning of the names of a direction's values -> the direction."""
        return {"": self._forward} | ({} if self._back is None else {INVERSE: self._back})


def directions_of(names: Sequence[str]) -> Mapping[str, bool | None]:
    """Tell which values of metrics are better if they are larger: value -> True, False, or None for a standard deviation.

    Args:
        names: names of metrics, as in :class:`TranslationMeasurement`.
    """
    better = {value: better for name in names if name in METRICS for value, better in METRICS[name].values.items()}
    better |= {name: PAIR_METRICS[name].better for name in names if name in PAIR_METRICS}
    better |= {CYCLE: "smaller"}
    both = better | {f"{INVERSE}{name}": direction for name, direction in better.items()}
    return {name: None if direction is None else direction == "larger" for name, direction in both.items()}


class _Direction:
    """A measurement of translations in one direction: from sources to images, or back."""

    def __init__(
        self,
        data: TranslationDataModule,
        split: Split,
        forward: bool,
        chosen: Tensor,
        measurement: Measurement,
        of_pairs: Sequence[str],
        perceptual: PerceptualDistance | None,
    ) -> None:
        self.data, self.split, self.forward, self.chosen = data, split, forward, chosen
        self.measurement, self.of_pairs, self._perceptual = measurement, of_pairs, perceptual
        self._labels = data.labels(split) if "agreement" in of_pairs else None

    def measure(self, translate: Translate, translate_back: Translate | None) -> dict[str, float]:
        """Compute all values; those of the cycle only if there is a way back."""
        device = self.measurement.device
        makers: dict[str, Callable[[], Metric]] = {
            "psnr": lambda: PeakSignalNoiseRatio(data_range=255.0),
            "ssim": lambda: StructuralSimilarityIndexMeasure(data_range=255.0),
            "l1": MeanAbsoluteError,
            "perceptual": MeanMetric,
            "agreement": MeanMetric,
        }
        errors = {name: makers[name]().to(device) for name in self.of_pairs}
        cycle = MeanAbsoluteError().to(device)

        @torch.no_grad()
        def sample(numbers: Tensor) -> Tensor:
            sources, targets = (None if images is None else to_device(images, device) for images in self._read(numbers))
            assert sources is not None
            images = to_device(translate(sources), device)
            with full_precision(device.type):
                if targets is not None:
                    self._compare(errors, images, targets, numbers)
                if translate_back is not None:
                    returned = to_device(translate_back(images), device)
                    _require_shape(returned, sources)
                    cycle.update(_plain(returned), _plain(sources))
            return images

        generated = self.measurement.collect(sample)  # raises in every process if one failed
        values = self.measurement.compute(generated)
        values |= {PAIR_METRICS[name].value: float(error.compute()) for name, error in errors.items()}
        return values if translate_back is None else values | {CYCLE: float(cycle.compute())}

    def agreement_of_targets(self) -> float:
        """Compute the share of targets that the extractor puts into their class."""
        agreement = MeanMetric().to(self.measurement.device)

        def sample(numbers: Tensor) -> Tensor:
            targets = to_device(self.data.images_at(self.split, self.chosen[numbers])[0], self.measurement.device)
            agreement.update(self._agreement(targets, numbers))
            return targets

        self.measurement.collect(sample)
        return float(agreement.compute())

    def _compare(self, errors: Mapping[str, Metric], images: Tensor, targets: Tensor, numbers: Tensor) -> None:
        """Add a batch of images and targets, uint8 (B, C, H, W), to the errors."""
        _require_shape(images, targets)
        images, targets = on_white(images), on_white(targets)
        for name, error in errors.items():
            if name == "agreement":
                error.update(self._agreement(images, numbers))
            elif name != "perceptual":
                error.update(_plain(images), _plain(targets))
            elif self._perceptual is not None:
                error.update(self._perceptual(to_float(images), to_float(targets)))

    def _agreement(self, images: Tensor, numbers: Tensor) -> Tensor:
        """Tell which images the extractor puts into the class of their target, float (B,).

        Raises:
            InputError: there are no classes.
        """
        _, logits = self.measurement.extractor(images)
        if logits is None or self._labels is None:
            lacking = "the data" if self._labels is None else "the extractor"
            raise InputError(
                f"agreement needs labels and a classifier of them, but {lacking} has none: use labelled data and --extractor "
                "classifier, or remove it from the metrics"
            )
        agree: Tensor = logits.argmax(1) == to_device(self._labels[self.chosen[numbers]], logits.device)
        return agree.float()

    def _read(self, numbers: Tensor) -> tuple[Tensor, Tensor | None]:
        """Read sources and, if they are needed, their targets, in the sense of this direction."""
        indices = self.chosen[numbers]
        if self.of_pairs:
            targets, sources = self.data.pairs_at(self.split, indices)
            return (sources, targets) if self.forward else (targets, sources)
        if self.forward:
            return self.data.sources_at(self.split, indices), None
        return self.data.images_at(self.split, indices)[0], None


def _plain(images: Tensor) -> Tensor:
    """Convert uint8 images to floats from 0 to 255, in the memory order that torchmetrics expects."""
    return images.float().contiguous()


def _require_shape(images: Tensor, expected: Tensor) -> None:
    """Refuse images of another shape than those that they are compared with.

    Raises:
        InputError: the shapes differ.
    """
    if images.shape != expected.shape:
        own, theirs = size_text(images.shape[1:]), size_text(expected.shape[1:])
        raise InputError(f"the generator makes images of {own}, but those of the data are {theirs}: use the data of its run")


def _size_and_count(data: TranslationDataModule, split: Split, count: int | None, sources: bool) -> tuple[int, int]:
    """Number of sources, or of targets, and how many of them are used if ``count`` is the limit."""
    size = data.num_sources(split) if sources else data.num_images(split)
    return size, size if count is None else min(count, size)


def _real(data: TranslationDataModule, split: Split, num_real: int | None, forward: bool) -> RealImages:
    """Choose real images that translations are compared with: targets, or sources for the way back."""
    size, count = _size_and_count(data, split, num_real, sources=not forward)
    if forward:
        return RealImages.of(data, split, count)
    chosen = choose(size, count)

    def read(batches: Sequence[Tensor]) -> Iterator[Tensor]:
        return (data.sources_at(split, chosen[indices]) for indices in batches)

    return RealImages(read, data.source_shape, None, {"real": f"sources of {data.name}", "split": split}, count, size)


# Baselines


def baseline_name(source_shape: Shape, image_shape: Shape) -> str | None:
    """Name the baseline of :func:`unchanged`: ``identity``, or ``bicubic`` for small sources; None if shapes exclude it."""
    (source_channels, *small), (channels, *large) = source_shape, image_shape
    if source_channels not in (1, channels, channels + 1) or large[0] % small[0]:
        return None
    factor = large[0] // small[0]
    if large != [factor * side for side in small]:
        return None
    return "identity" if factor == 1 else "bicubic"


def unchanged(sources: Tensor, image_shape: Shape) -> Tensor:
    """Make images (B, C, H, W) of sources (B, C', H', W'), both uint8, that only have another shape.

    A mask is left out, a grey source becomes C equal channels, and a small one is enlarged by bicubic interpolation, as Pillow
    does it. :func:`baseline_name` tells if that is possible.
    """
    channels, *size = image_shape
    if sources.shape[1] == channels + 1:
        sources = sources[:, :channels]
    if list(sources.shape[2:]) != size:
        enlarged = interpolate(sources.float(), size, mode="bicubic", antialias=True)  # its a is -0.5, Pillow's
        sources = enlarged.round().clamp(0, 255).to(torch.uint8)
    return sources.expand(-1, channels, -1, -1)
