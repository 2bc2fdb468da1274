"""The table of metrics, one row each. A new metric is a formula in ``functional.py`` and a row here.

A row names its formula instead of importing it, because this file imports no torch: commands refuse a bad request at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from gan_lightning.errors import InputError

OF_LOGITS = ("split_counts", "probabilities", "log_likelihoods", "class_counts")
"""Fields of :class:`~gan_lightning.metrics.statistics.Statistics` that need logits."""


@dataclass(frozen=True)
class Metric:
    """A row of the table.

    Attributes:
        name: name in the flag ``--metrics``.
        formula: name of a function in ``functional.py``. It returns a number, or a tuple with one for each value.
        takes: arguments of the formula: fields of :class:`~gan_lightning.metrics.statistics.Statistics`.
        values: value -> direction of improvement, in the order in which the formula returns them. A standard deviation is named
            ``..._std`` and has no direction.
        other_name: name of the value if the features are not Inception's: only Inception's distance is called FID.
        compares: True if the formula takes the fields of the generated images, then those of the real ones; False if it takes
            only the former.
        takes_of_real: last arguments of the formula: what :class:`~gan_lightning.metrics.statistics.Statistics` computes once,
            for the real images only.
        fewest: smallest number of images of each set.
        most: largest number of images of each set, chosen at random; None uses all.
        constants: constants of the formula, for the record.
    """

    name: str
    formula: str
    takes: tuple[str, ...]
    values: Mapping[str, Literal["smaller", "larger"] | None]
    other_name: str | None = None
    compares: bool = False
    takes_of_real: tuple[str, ...] = ()
    fewest: int = 1
    most: int | None = None
    constants: Mapping[str, Any] = field(default_factory=dict)

    @property
    def needs_logits(self) -> bool:
        """True if the extractor must have logits."""
        return bool(set(OF_LOGITS) & set(self.takes))

    def names(self, prefix: str, num_images: int) -> dict[str, str]:
        """Map the values to their full names: ``fid`` to ``fid_50k`` with Inception (no prefix), else to ``mnist_fd_50k``.

        The number is the number of generated images used, because most values depend on it.
        """
        count, names = short_count(min(num_images, self.most or num_images)), {}
        for value in self.values:
            stem, ending, _ = value.partition("_std")
            names[value] = f"{prefix}{self.other_name if prefix and self.other_name else stem}_{count}{ending}"
        return names

    def protocol(self, num_images: int, num_real: int | None) -> dict[str, Any]:
        """List the constants that the values depend on, for the record."""
        if "subset_size" in self.constants:
            counts = [count for count in (num_images, num_real) if count is not None]
            return {**self.constants, "subset_size": min(self.constants["subset_size"], *counts)}
        if self.most is None:
            return dict(self.constants)
        used = [None if count is None else min(count, self.most) for count in (num_images, num_real)]
        return {**self.constants, "num_images": used[0], "num_real": used[1], "choice": "random, seed 0"}


METRICS = {
    metric.name: metric
    for metric in (
        Metric(
            name="fid",
            formula="frechet_distance",
            takes=("mean", "covariance"),
            values={"fid": "smaller"},
            other_name="fd",
            compares=True,
            takes_of_real=("root",),
            fewest=2,
            constants={"covariance": "unbiased", "root": "two symmetric eigenproblems, float64"},
        ),
        Metric(
            name="is",
            formula="inception_score",
            takes=("split_counts", "probabilities", "log_likelihoods"),
            values={"is": "larger", "is_std": None},
            other_name="score",
            fewest=10,  # one for each split
            constants={"splits": 10, "order": "permuted by RandomState(2020)", "std": "population, over splits"},
        ),
        Metric(
            name="kid",
            formula="kernel_distance",
            takes=("features",),
            values={"kid": "smaller", "kid_std": None},
            other_name="kd",
            compares=True,
            fewest=10,
            constants={"kernel": "(x.y / D + 1)^3", "subsets": 100, "subset_size": 1000},
        ),
        Metric(
            name="prdc",
            formula="prdc",
            takes=("features",),
            values={"precision": "larger", "recall": "larger", "density": "larger", "coverage": "larger"},
            compares=True,
            fewest=6,  # more than the neighbours
            most=10_000,  # as in the papers
            constants={"k": 3, "k_density": 5},
        ),
        Metric(
            name="modes",
            formula="mode_coverage",
            takes=("class_counts",),
            values={"modes": "larger", "kl": "smaller"},
            constants={"class": "the largest logit"},
        ),
        Metric(
            name="class_tv",
            formula="total_variation",
            takes=("class_counts",),
            values={"class_tv": "smaller"},
            compares=True,
            constants={"class": "the largest logit"},
        ),
    )
}
"""Name of a metric -> its row."""


@dataclass(frozen=True)
class PairMetric:
    """A row of the table of metrics that compare each image with its own target.

    Attributes:
        name: name in the flag ``--metrics``.
        value: name of the value.
        better: direction of improvement.
        constants: all that the value depends on, for the record.
    """

    name: str
    value: str
    better: Literal["smaller", "larger"]
    constants: Mapping[str, Any]


PAIR_METRICS = {
    row.name: row
    for row in (
        PairMetric(
            name="psnr",
            value="psnr",
            better="larger",
            constants={"data_range": 255, "unit": "decibels", "error": "mean square over all pixels of all images"},
        ),
        PairMetric(
            name="ssim",
            value="ssim",
            better="larger",
            constants={
                "data_range": 255,
                "window": "Gaussian of 11x11 pixels, sigma 1.5, mirrored at the edges",
                "k1": 0.01,
                "k2": 0.03,
                "channels": "each by itself, then the mean",
            },
        ),
        PairMetric(
            name="l1", value="l1", better="smaller", constants={"unit": "grey levels, 0 to 255", "error": "mean absolute"}
        ),
        PairMetric(
            name="perceptual",
            value="imagenet_perceptual",
            better="smaller",
            constants={
                "network": "EfficientNet-Lite0",
                "layers": "four maps, each divided by its standard deviation on photographs",
                "error": "mean absolute",
                "resize": "none",
            },
        ),
        PairMetric(
            name="agreement",
            value="agreement",
            better="larger",
            constants={"class": "the largest logit", "share": "of images in the class of their target"},
        ),
    )
}
"""Name of a metric of pairs -> its row."""


def split_names(names: str) -> list[str]:
    """Split a flag such as ``fid,is`` into names, each once."""
    return list(dict.fromkeys(name.strip().lower() for name in names.split(",") if name.strip()))


def check_request(metrics: Sequence[str], num_images: int | None, num_real: int | None, real_features: bool) -> None:
    """Refuse metrics that cannot be computed, before the measurement begins.

    Args:
        metrics: names from :data:`METRICS`.
        num_images: number of generated images; None if it is not known yet.
        num_real: number of real images; None if it is not known yet.
        real_features: True if there are real images, False if there are only their mean and covariance.

    Raises:
        InputError: a metric does not exist, needs more images, or needs the real images.
    """
    if not metrics:
        raise InputError(f"metrics is empty: use one or more of {', '.join(METRICS)}")
    for name in metrics:
        if name not in METRICS:
            raise InputError(f"metrics has {name!r}: use only {', '.join(METRICS)}")
        row = METRICS[name]
        if num_images is not None and num_images < row.fewest:
            raise InputError(f"num_images is {num_images}: {name} needs at least {row.fewest:,}. Use more, or other metrics")
        if row.compares and num_real is not None and num_real < row.fewest:
            raise InputError(
                f"num_real is {num_real}: {name} needs at least {row.fewest:,} real images. Use more, or other metrics"
            )
        if row.compares and not real_features and not {"mean", "covariance"} >= set(row.takes):
            raise InputError(f"{name} needs the real images, but a reference has only mu and sigma: remove it from the metrics")


def check_translation_request(metrics: Sequence[str], num_images: int | None) -> None:
    """Refuse metrics of translations that cannot be computed, as :func:`check_request` does for generated images.

    Args:
        metrics: names from :data:`METRICS` and :data:`PAIR_METRICS`.
        num_images: number of translated images, and of targets to compare with; None if it is not known yet.

    Raises:
        InputError: a metric does not exist, or needs more images.
    """
    both = ", ".join([*PAIR_METRICS, *METRICS])
    if not metrics:
        raise InputError(f"metrics is empty: use one or more of {both}")
    for name in metrics:
        if name not in METRICS and name not in PAIR_METRICS:
            raise InputError(f"metrics has {name!r}: use only {both}")
    if of_sets := [name for name in metrics if name in METRICS]:
        check_request(of_sets, num_images, num_images, real_features=True)


def short_count(count: int) -> str:
    """Write 50000 as 50k, and other numbers in full."""
    return f"{count // 1000}k" if count and count % 1000 == 0 else str(count)
