"""Between data and metrics: which extractor a data set is measured with, and the cached statistics of its real images."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gan_lightning.data.base import ImageDataModule, Split, default_root
from gan_lightning.errors import InputError
from gan_lightning.files import fingerprint
from gan_lightning.metrics.classifier import Classifier, StackedClassifier, load_or_train
from gan_lightning.metrics.evaluator import choose, collect, seconds_per_image
from gan_lightning.metrics.features import Extractor, import_extractor
from gan_lightning.metrics.inception import Inception, find_weights
from gan_lightning.metrics.statistics import Statistics, read_cache, write_cache
from gan_lightning.training.distributed import on_first_process


def cache_folder() -> Path:
    """Where reference statistics and classifiers are kept: ``metrics_cache`` below the data folder."""
    return default_root() / "metrics_cache"


def make_extractor(
    name: str, data: ImageDataModule | None, weights: str | None, device: torch.device, progress: bool = True
) -> Extractor:
    """The extractor that a flag names, on ``device``.

    In several processes the first one downloads or trains what is missing, and the others read it.

    Args:
        name: ``inception``, ``classifier`` (of the data set, trained on first use), or the class path of a module.
        data: the data set, for its classifier.
        weights: of Inception; None looks where torch keeps such files, and downloads them.
        device: where it is to work.
        progress: whether to say what is trained.

    Raises:
        InputError: weights that are not there or of something else, a data set without labels, no such class.
    """
    if weights and name != "inception":
        raise InputError(f"weights {weights}: only extractor inception takes a file of weights, and this is {name}")
    makers: dict[str, Callable[[], Extractor]] = {
        "inception": lambda: Inception(_inception_weights(weights)),
        "classifier": lambda: _classifier(data, device, progress),
    }
    return makers.get(name, lambda: import_extractor(name))().to(device)


def _inception_weights(weights: str | None) -> Path:
    path = Path(weights).expanduser() if weights else None
    found: Path = on_first_process(lambda: find_weights(path))
    return find_weights(path) if path is None else found  # on another machine it is downloaded there


def _classifier(data: ImageDataModule | None, device: torch.device, progress: bool) -> Extractor:
    if data is None:
        raise InputError(
            "extractor classifier: there is no labelled data to train it on; name some by --data, or use extractor inception"
        )
    source = data.classifier_source
    (train, train_labels), (test, test_labels) = source.images("train"), source.images("test")
    if train_labels is None or test_labels is None:
        raise InputError(f"extractor classifier: the images of {source.name} have no labels; use extractor inception")
    labelled = (train, train_labels), (test, test_labels)

    def make(say: bool) -> Classifier:
        return load_or_train(source.name, *labelled, source.num_classes, cache_folder(), device, say)

    first: list[Classifier] = []
    on_first_process(lambda: first.append(make(progress)))
    classifier = first[0] if first else make(False)
    return classifier if source is data else StackedClassifier(classifier, data.name)


@dataclass(frozen=True)
class RealImages:
    """The real images that generated ones are compared with.

    Attributes:
        images: uint8 (N, C, H, W).
        labels: int64 (N,) or None.
        about: where they are from, for the record: data set or folder, and split.
    """

    images: Tensor
    labels: Tensor | None
    about: dict[str, Any]

    @classmethod
    def of(cls, data: ImageDataModule, split: Split) -> "RealImages":
        """All images of a split."""
        images, labels = data.images(split)
        return cls(images, labels, {"real": data.name, "split": split})

    def class_counts(self) -> list[int] | None:
        """How many images each class has; None where there are no labels."""
        return None if self.labels is None else torch.bincount(self.labels).tolist()


def reference(
    real: RealImages,
    extractor: Extractor,
    num_real: int | None = None,
    with_features: bool = False,
    batch_size: int = 50,
    progress: bool = True,
) -> tuple[Statistics | None, dict[str, Any]]:
    """The statistics of real images, from the cache where they are there, and all that they depend on, for the record.

    Args:
        real: the images.
        extractor: of the features.
        num_real: how many of them are looked at, a random choice with a fixed seed; None is all.
        with_features: whether to keep the features, not their moments alone.
        batch_size: images at a time.
        progress: whether to say how long it takes, and to draw a progress bar.

    Returns:
        the statistics, None in all processes but the first; and what they depend on.

    Raises:
        InputError: more real images are asked for than there are.
    """
    count = len(real.images) if num_real is None else num_real
    if not 0 < count <= len(real.images):
        raise InputError(f"num_real is {count}: give from 1 to the {len(real.images):,} real images that there are")
    chosen = choose(len(real.images), count)
    shape = (real.images.shape[1], real.images.shape[2], real.images.shape[3])
    key = {
        "num_real": count,
        "real_subset": "all" if count == len(real.images) else "random, seed 0",
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
    made = collect(lambda indices: real.images[chosen[indices]], extractor, count, batch_size, with_features, description)
    if made is not None:
        write_cache(cache_folder(), key, made)
    return made, {**real.about, **key}


def say_estimate(extractor: Extractor, image_shape: tuple[int, int, int], count: int, what: str) -> None:
    """Before Inception is run on a CPU, say how long it will take there."""
    if not isinstance(extractor, Inception) or extractor.device.type != "cpu":
        return
    each = seconds_per_image(extractor, image_shape)
    whole = each * count
    duration = f"{whole:.0f} seconds" if whole < 120 else f"{whole / 60:.0f} minutes"
    print(f"Inception takes about {each:.2f} s an image on this CPU: {duration} for {count:,} {what}", flush=True)
