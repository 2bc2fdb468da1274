"""Link between data and metrics: the extractor of a data set, and cached statistics of its real images."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from gan_lightning.data.base import ImageDataModule, Split, default_root
from gan_lightning.errors import InputError
from gan_lightning.files import fingerprint
from gan_lightning.home import expanded
from gan_lightning.metrics.classifier import Classifier, StackedClassifier, load_or_train
from gan_lightning.metrics.evaluator import choose, collect, seconds_per_image
from gan_lightning.metrics.features import Extractor, import_extractor
from gan_lightning.metrics.imagenet import ImageNet
from gan_lightning.metrics.inception import Inception, find_weights
from gan_lightning.metrics.statistics import Statistics, read_cache, write_cache
from gan_lightning.training.distributed import on_first_process

FEW = 2048
"""Real images that training compares with if the extractor is slow. Metrics and health monitor use the same ones."""


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
        raise InputError(f"inception_weights {weights}: only extractor inception takes them, and this is {name}")
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
        raise InputError(
            "extractor classifier: there is no labelled data to train it on; name some by --data, or use extractor imagenet"
        )
    source = data.classifier_source
    (train, train_labels), (test, test_labels) = source.images("train"), source.images("test")
    if train_labels is None or test_labels is None:
        raise InputError(f"extractor classifier: the images of {source.name} have no labels; use extractor imagenet")
    labelled = (train, train_labels), (test, test_labels)

    def make(say: bool) -> Classifier:
        return load_or_train(source.name, *labelled, source.num_classes, cache_folder(), device, say)

    first: list[Classifier] = []
    on_first_process(lambda: first.append(make(progress)))
    classifier = first[0] if first else make(False)
    return classifier if source is data else StackedClassifier(classifier, data.name)


@dataclass(frozen=True)
class RealImages:
    """Real images to compare generated ones with.

    Attributes:
        images: uint8 (N, C, H, W).
        labels: int64 (N,) or None.
        about: source of the images, for the record: data set or folder, and split.
        subset: description of the images chosen from that source.
    """

    images: Tensor
    labels: Tensor | None
    about: dict[str, Any]
    subset: Literal["all", "random, seed 0"] = "all"

    @classmethod
    def of(cls, data: ImageDataModule, split: Split, num_real: int | None = None) -> "RealImages":
        """Choose ``num_real`` images of a split at random with a fixed seed; None chooses all.

        Raises:
            InputError: the split has fewer images.
        """
        about = {"real": data.name, "split": split}
        chosen = choose_real(data.num_images(split), num_real)
        if chosen is None:
            return cls(*data.images(split), about)
        return cls(*data.images_at(split, chosen), about, "random, seed 0")

    def class_counts(self) -> list[int] | None:
        """Number of images of each class; None if there are no labels."""
        return None if self.labels is None else torch.bincount(self.labels).tolist()


def choose_real(size: int, num_real: int | None) -> Tensor | None:
    """Choose ``num_real`` of ``size`` real images with a fixed seed: indices int64, sorted, or None for all.

    Raises:
        InputError: there are fewer images.
    """
    if num_real is not None and not 0 < num_real <= size:
        raise InputError(f"num_real is {num_real}: give from 1 to the {size:,} real images that there are")
    return None if num_real in (None, size) else choose(size, num_real)


def reference(
    real: RealImages,
    extractor: Extractor,
    with_features: bool = False,
    batch_size: int = 50,
    progress: bool = True,
) -> tuple[Statistics | None, dict[str, Any]]:
    """Read the statistics of real images from the cache, or compute and cache them. Also return their protocol for the record.

    Args:
        real: the images.
        extractor: extractor of the features.
        with_features: keep the features besides their moments.
        batch_size: number of images processed at once.
        progress: print an estimate of the duration, and draw a progress bar.

    Returns:
        the statistics (None in all processes except the first), and everything that they depend on.
    """
    count = len(real.images)
    shape = (real.images.shape[1], real.images.shape[2], real.images.shape[3])
    key = {
        "num_real": count,
        "real_subset": real.subset,
        "real_sha256": fingerprint(real.images),
        "image_shape": list(shape),
        "quantisation": "uint8",
        **extractor.protocol(),
    }
    found: list[Statistics | None] = []

    def look() -> bool:
        found.append(read_cache(cache_folder(), key, with_features))
        return found[0] is not None

    if on_first_process(look):
        return (found[0] if found else None), {**real.about, **key}
    description = None
    if progress:
        description = f"Measuring {real.about['real']}"
        say_estimate(extractor, shape, count, "real images, once")
    made = collect(lambda indices: real.images[indices], extractor, count, batch_size, with_features, description)
    if made is not None:
        write_cache(cache_folder(), key, made)
    return made, {**real.about, **key}


def say_estimate(extractor: Extractor, image_shape: tuple[int, int, int], count: int, what: str) -> None:
    """Print how long a large network will take on a CPU."""
    if not isinstance(extractor, Inception | ImageNet) or extractor.device.type != "cpu":
        return
    each = seconds_per_image(extractor, image_shape)
    whole = each * count
    duration = f"{whole:.0f} seconds" if whole < 120 else f"{whole / 60:.0f} minutes"
    name = extractor.protocol()["extractor"]
    print(f"Extractor {name} takes about {each:.3f} s an image on this CPU: {duration} for {count:,} {what}", flush=True)
