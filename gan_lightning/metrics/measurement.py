"""Everything that a measurement needs besides generated images: an extractor, checks, and statistics of real images."""

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gan_lightning.data.base import ImageDataModule, Split
from gan_lightning.data.stored import HASHED, Stored
from gan_lightning.errors import InputError
from gan_lightning.files import file_sha256, fingerprint_of_parts
from gan_lightning.home import default_root, expanded
from gan_lightning.images import on_white
from gan_lightning.metrics.classifier import Classifier, StackedClassifier, load_or_train
from gan_lightning.metrics.evaluator import Read, Sample, choose, collect, collect_batches, compute, evaluate
from gan_lightning.metrics.features import Extractor, import_extractor
from gan_lightning.metrics.imagenet import ImageNet
from gan_lightning.metrics.inception import Inception, find_weights
from gan_lightning.metrics.statistics import SEPARATE, Statistics, read_cache, read_npz, write_cache
from gan_lightning.metrics.table import METRICS, check_request
from gan_lightning.training.devices import float64_device
from gan_lightning.training.distributed import is_first_process, on_first_process

FEW_IMAGES = 2048
"""Real images that training compares with if the extractor is slow. Metrics and health monitor use the same ones."""
TIMED = 16
"""Number of images to time an extractor with."""


class Measurement:
    """A measurement of generated images: its extractor, its metrics, and the statistics that it compares with.

    The constructor checks everything before the work begins. Call :meth:`prepare` before :meth:`compute`.

    Args:
        extractor: the extractor, or its name, as in :func:`make_extractor`.
        data: the data set, for its classifier.
        device: device of the extractor.
        real: real images or a file of their statistics; None if no metric compares with real images.
        image_shape: (C, H, W) of the generated images.
        metrics: names from :data:`~gan_lightning.metrics.table.METRICS`; none if only the real images are measured.
        num_images: number of generated images.
        fields: fields of :class:`Statistics` that are needed of the real images, besides those that the metrics take.
        inception_weights: file of Inception's weights, as in :func:`make_extractor`.
        batch_size: number of images processed at once.
        progress: show progress bars.

    Attributes:
        extractor: the extractor.
        class_counts: number of real images of each class; None if it is unknown.
        reference: statistics of the real images, after :meth:`prepare` and only in the first process.
        about: all that the reference depends on, for the record.

    Raises:
        InputError: a metric cannot be computed, the extractor cannot be made or rejects the images, or the file of statistics
            is of another extractor.
    """

    def __init__(
        self,
        extractor: str | Extractor,
        data: ImageDataModule | None,
        device: torch.device,
        real: "RealImages | ReferenceFile | None",
        image_shape: tuple[int, int, int],
        metrics: Sequence[str] = (),
        num_images: int = 0,
        fields: Collection[str] = (),
        inception_weights: str | None = None,
        batch_size: int = 50,
        progress: bool = True,
    ) -> None:
        self.num_real, self.class_counts = (None, None) if real is None else (real.count, real.class_counts)
        if metrics:
            check_request(metrics, num_images, self.num_real, not isinstance(real, ReferenceFile))
        self.device, self.image_shape = device, image_shape
        self.metrics, self.num_images, self.batch_size, self.progress = metrics, num_images, batch_size, progress
        if isinstance(extractor, str):
            extractor = make_extractor(extractor, data, inception_weights, device, progress)
        self.extractor = extractor
        features, logits = self.extractor(torch.zeros(1, *image_shape, dtype=torch.uint8))
        for name in metrics:
            if METRICS[name].needs_logits and logits is None:
                raise InputError(f"{name} needs logits, but the extractor gives none: remove it from the metrics")
        if isinstance(real, ReferenceFile):
            real.check(self.extractor, image_shape, features.shape[1])
        self.reference: Statistics | None = None
        self.about = {} if real is None else real.about
        compared = (METRICS[name].takes for name in metrics if METRICS[name].compares)
        self._fields = {*fields, *(field for takes in compared for field in takes)}
        self._real = real

    def print_estimate(self, what: str) -> None:
        """Print how long a slow extractor will take for the generated images, ``what`` in the text."""
        print_estimate(self.extractor, self.image_shape, self.num_images, what)

    def prepare(self) -> None:
        """Read or compute the statistics of the real images if they are needed, and release the images.

        Every process must call this, once. The moments move to the device; the features stay in host memory until a metric
        takes them.
        """
        if self._real is not None and self._fields:
            found, self.about = self._real.statistics(self.extractor, self._fields, self.batch_size, self.progress)
            if found is not None:
                device = float64_device(self.extractor.device)
                self.reference = replace(found, mean=found.mean.to(device), covariance=found.covariance.to(device))
        self._real = None

    def collect(self, sample: Sample) -> Statistics | None:
        """Compute the statistics of the generated images; None in all processes except the first."""
        keep = any("features" in METRICS[name].takes for name in self.metrics)
        description = "Measuring samples" if self.progress else None
        return collect(sample, self.extractor, self.num_images, self.batch_size, keep, description)

    def compute(self, generated: Statistics | None) -> dict[str, float]:
        """Compute the metrics from the result of :meth:`collect`; all processes return the same, full name -> value."""
        prefix = self.extractor.prefix
        values: dict[str, float] = on_first_process(lambda: compute(generated, self.reference, prefix, self.metrics))
        return values

    def evaluate(self, sample: Sample, num_images: int) -> dict[str, float]:
        """Compute the metrics of another number of images, except those that need more."""
        metrics = [name for name in self.metrics if num_images >= METRICS[name].fewest]
        if not metrics:
            return {}
        return evaluate(sample, self.reference, self.extractor, metrics, num_images, self.batch_size, self.progress)

    def names(self) -> dict[str, str]:
        """Map the values of all metrics to their full names, such as ``fid`` to ``fid_50k``."""
        rows = (METRICS[name] for name in self.metrics)
        return {name: full for row in rows for name, full in row.names(self.extractor.prefix, self.num_images).items()}

    def protocol(self) -> dict[str, Any]:
        """List all that the values depend on besides the generated images, for the record."""
        return {
            **self.about,
            **self.extractor.protocol(),
            **_transparency(self.image_shape),
            "num_images": self.num_images,
            "image_shape": list(self.image_shape),
            "constants": {name: METRICS[name].protocol(self.num_images, self.num_real) for name in self.metrics},
        }


@dataclass(frozen=True)
class RealImages:
    """Real images to compare generated ones with. They are read in batches, and never in memory all at once.

    Attributes:
        read: the images.
        image_shape: (C, H, W).
        labels: int64 (N,), or attributes float32 (N, K), or None.
        about: source of the images, for the record: data set or folder, and split.
        count: number of images.
        size: number of images of that source. If it has more, :func:`choose_real` chose these.
    """

    read: Read
    image_shape: tuple[int, int, int]
    labels: Tensor | None
    about: dict[str, Any]
    count: int
    size: int

    @classmethod
    def of(cls, data: ImageDataModule, split: Split, num_real: int | None = None) -> "RealImages":
        """Choose ``num_real`` images of a split at random with a fixed seed; None chooses all.

        Raises:
            InputError: the split has fewer images.
        """
        size, labels = data.num_images(split), data.labels(split)
        chosen = choose_real(size, num_real)

        def read(batches: Iterable[Tensor]) -> Iterable[Tensor]:
            return data.batches_at(split, [chosen[indices] for indices in batches])

        own = None if labels is None else labels[chosen]
        return cls(read, data.image_shape, own, {"real": data.name, "split": split}, len(chosen), size)

    @property
    def class_counts(self) -> list[int] | None:
        """Number of images of each class; None if there are no classes."""
        return None if self.labels is None or self.labels.is_floating_point() else torch.bincount(self.labels).tolist()

    def statistics(
        self, extractor: Extractor, fields: Collection[str] = (), batch_size: int = 50, progress: bool = True
    ) -> tuple[Statistics | None, dict[str, Any]]:
        """Read the statistics of the images from the cache, or compute and cache them.

        Args:
            extractor: extractor of the features.
            fields: needed fields of :class:`Statistics`; count, mean and covariance are always there.
            batch_size: number of images processed at once.
            progress: print an estimate of the duration, and draw a progress bar.

        Returns:
            the statistics (None in all processes except the first), and everything that they depend on, for the record.
        """
        key = {
            "num_real": self.count,
            "real_subset": "all" if self.count == self.size else "random, seed 0",
            "real_sha256": on_first_process(self._sha256),
            "image_shape": list(self.image_shape),
            "quantisation": "uint8",
            **_transparency(self.image_shape),
            **extractor.protocol(),
        }
        about = {**self.about, **key}
        found: list[Statistics | None] = []

        def look() -> bool:
            found.append(read_cache(cache_folder(), key, set(SEPARATE) & set(fields)))
            return found[0] is not None

        if on_first_process(look):
            return (found[0] if found else None), about
        description = None
        if progress:
            description = f"Measuring {self.about['real']}"
            print_estimate(extractor, self.image_shape, self.count, "real images, once")
        made = collect_batches(self.read, extractor, self.count, batch_size, "features" in fields, description)
        if made is not None:
            made = made.cpu()
            write_cache(cache_folder(), key, made)
        return made, about

    @classmethod
    def of_stored(cls, images: Stored, about: dict[str, Any], size: int) -> "RealImages":
        """Take images that :func:`choose_real` chose of ``size``, and that were read already."""
        _, channels, height, width = images.shape
        return cls(partial(map, images.__getitem__), (channels, height, width), None, about, len(images), size)

    def at(self, indices: Tensor) -> Tensor:
        """Read the images at ``indices``, int64 of any shape: uint8 (*indices.shape, C, H, W)."""
        (images,) = self.read([indices.flatten()])
        return images.view(*indices.shape, *self.image_shape)

    def _sha256(self) -> str:
        """Hash all pixels."""
        return fingerprint_of_parts((self.count, *self.image_shape), self.read(torch.split(torch.arange(self.count), HASHED)))


def _transparency(image_shape: tuple[int, int, int]) -> dict[str, str]:
    """Say in the record that transparent images are measured on white."""
    return {"transparency": "put on white"} if image_shape[0] == 4 else {}


def choose_real(size: int, num_real: int | None) -> Tensor:
    """Choose ``num_real`` of ``size`` real images with a fixed seed, None chooses all: indices int64, sorted.

    Raises:
        InputError: there are fewer images.
    """
    if num_real is not None and not 0 < num_real <= size:
        raise InputError(f"num_real is {num_real}: use 1 to {size:,}, the number of real images")
    return choose(size, size if num_real is None else num_real)


class ReferenceFile:
    """Mean and covariance of real images in an ``.npz``, instead of the images.

    Args:
        path: the file.

    Attributes:
        count: number of images; None if the file does not contain it.
        class_counts: number of images of each class; None if the file does not contain it.
        about: contents and hash of the file, for the record.

    Raises:
        InputError: the file is missing or damaged.
    """

    def __init__(self, path: str) -> None:
        self.moments, protocol = read_npz(Path(path))
        self.path, self.count = path, self.moments.count
        self.class_counts: list[int] | None = protocol.pop("class_counts", None)
        digest = file_sha256(Path(path))
        self.about = {**protocol, "reference": path, "reference_sha256": digest, "num_real": self.count}

    def check(self, extractor: Extractor, image_shape: tuple[int, int, int], num_features: int) -> None:
        """Refuse the file if it is of other images or of another extractor.

        Raises:
            InputError: it does not fit.
        """
        theirs = {**self.about, "number of features": len(self.moments.mean)}
        for name, own in {**extractor.protocol(), "image_shape": list(image_shape), "number of features": num_features}.items():
            if theirs.get(name, own) != own:
                raise InputError(
                    f"{self.path} has {name} {theirs[name]}, "
                    f"but this measurement has {own}: use another reference, or real images"
                )

    def statistics(self, *_: Any) -> tuple[Statistics, dict[str, Any]]:
        """Return mean and covariance, and everything that they depend on."""
        return self.moments, self.about


def cache_folder() -> Path:
    """Folder of reference statistics and classifiers: ``metrics_cache`` below the data folder."""
    return default_root() / "metrics_cache"


def make_extractor(
    name: str, data: ImageDataModule | None, weights: str | None, device: torch.device, progress: bool = True
) -> Extractor:
    """Make the extractor that a flag names, on ``device``.

    If there are several processes, the first one downloads or trains what is missing, and the others read it.

    Args:
        name: ``imagenet``, ``inception``, ``classifier`` (of the data set, trained on first use), or the class path of a
            module.
        data: the data set, for its classifier.
        weights: file of Inception's weights; None looks in torch's folder for such files, and downloads them if necessary.
        device: device of the extractor.
        progress: show a progress bar of the classifier's training.

    Raises:
        InputError: the weights are missing or of another network, the data set has no labels, or the class does not exist.
    """
    if weights and name != "inception":
        raise InputError(f"inception_weights {weights}: they are for extractor inception, not for {name}")
    makers: dict[str, Callable[[], Extractor]] = {
        "imagenet": ImageNet,
        "inception": lambda: Inception(_inception_weights(weights)),
        "classifier": lambda: _classifier(data, device, progress),
    }
    return makers.get(name, lambda: import_extractor(name))().to(device)


def _inception_weights(weights: str | None) -> Path:
    path = expanded(weights) if weights else None
    found: Path = on_first_process(lambda: find_weights(path))
    return find_weights(path) if path is None else found  # each machine downloads its own copy


def _classifier(data: ImageDataModule | None, device: torch.device, progress: bool) -> Extractor:
    if data is None:
        raise InputError("extractor classifier needs data with labels: add --data, or use extractor imagenet")
    source = data.classifier_source
    (train, train_labels), (test, test_labels) = source.images("train"), source.images("test")
    train, test = on_white(train), on_white(test)
    if train_labels is None or test_labels is None or source.condition_names:
        raise InputError(
            f"extractor classifier needs classes, but the images of {source.name} have none: use extractor imagenet"
        )
    labelled = (train, train_labels), (test, test_labels)

    def make(say: bool) -> Classifier:
        return load_or_train(source.name, *labelled, source.num_classes, cache_folder(), device, say)

    first: list[Classifier] = []
    on_first_process(lambda: first.append(make(progress)))
    classifier = first[0] if first else make(False)
    return classifier if source.image_shape == data.image_shape else StackedClassifier(classifier, data.name)


def print_estimate(extractor: Extractor, image_shape: tuple[int, int, int], count: int, what: str) -> None:
    """Print how long a large network will take on a CPU, in the first process. It times one batch after a warm-up."""
    if not isinstance(extractor, Inception | ImageNet) or extractor.device.type != "cpu" or not is_first_process():
        return
    images = torch.zeros(TIMED, *image_shape, dtype=torch.uint8)
    extractor(images)
    begun = time.perf_counter()
    extractor(images)
    each = (time.perf_counter() - begun) / TIMED
    whole = each * count
    duration = f"{whole:.0f} seconds" if whole < 120 else f"{whole / 60:.0f} minutes"
    name = extractor.protocol()["extractor"]
    print(f"Extractor {name} takes about {each:.3f} s an image on this CPU: {duration} for {count:,} {what}", flush=True)
