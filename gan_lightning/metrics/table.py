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
class Value:
    """A value of a metric.

    Attributes:
        name: name with Inception's features, such as ``fid``.
        better: direction of improvement.
        other_name: name with the features of any other extractor, if it differs: only Inception's distance is called FID.
        deviation: True if the formula returns the standard deviation after the value; its name ends in ``_std``.
    """

    name: str
    better: Literal["smaller", "larger"]
    other_name: str | None = None
    deviation: bool = False


@dataclass(frozen=True)
class Metric:
    """A row of the table.

    Attributes:
        name: name in the flag ``--metrics``.
        formula: name of a function in ``functional.py``. It returns a number, or a tuple with one for each value.
        takes: arguments of the formula: fields of :class:`~gan_lightning.metrics.statistics.Statistics`.
        values: the values, in the order in which the formula returns them.
        compares: True if the formula takes the fields of the generated images, then those of the real ones; False if it takes
            only the former.
        fewest: smallest number of images of each set.
        most: largest number of images of each set, chosen at random; None uses all.
        constants: constants of the formula, for the record.
    """

    name: str
    formula: str
    takes: tuple[str, ...]
    values: tuple[Value, ...]
    compares: bool = False
    fewest: int = 1
    most: int | None = None
    constants: Mapping[str, Any] = field(default_factory=dict)

    @property
    def needs_features(self) -> bool:
        """True if the formula takes the features of each image."""
        return "features" in self.takes

    @property
    def needs_logits(self) -> bool:
        """True if the extractor must have logits."""
        return bool(set(OF_LOGITS) & set(self.takes))

    @property
    def needs_real_images(self) -> bool:
        """True if mean and covariance of the real images' features are not enough."""
        return self.compares and not {"mean", "covariance"} >= set(self.takes)

    def names(self, prefix: str, num_images: int) -> dict[str, str]:
        """Map the values to their full names: ``fid`` to ``fid_50k`` with Inception (no prefix), else to ``mnist_fd_50k``.

        The number is the number of generated images used, because most values depend on it.
        """
        count = short_count(min(num_images, self.most or num_images))
        names = {}
        for value in self.values:
            own = value.other_name if prefix and value.other_name else value.name
            for ending in ("", "_std") if value.deviation else ("",):
                names[f"{value.name}{ending}"] = f"{prefix}{own}_{count}{ending}"
        return names


METRICS = {
    metric.name: metric
    for metric in (
        Metric(
            name="fid",
            formula="frechet_distance",
            takes=("mean", "covariance"),
            values=(Value("fid", "smaller", other_name="fd"),),
            compares=True,
            fewest=2,
            constants={"covariance": "unbiased", "root": "two symmetric eigenproblems, float64"},
        ),
        Metric(
            name="is",
            formula="inception_score",
            takes=("split_counts", "probabilities", "log_likelihoods"),
            values=(Value("is", "larger", other_name="score", deviation=True),),
            fewest=10,  # one for each split
            constants={"splits": 10, "order": "permuted by RandomState(2020)", "std": "population, over splits"},
        ),
        Metric(
            name="kid",
            formula="kernel_distance",
            takes=("features",),
            values=(Value("kid", "smaller", other_name="kd", deviation=True),),
            compares=True,
            fewest=1000,  # one subset
            constants={"kernel": "(x.y / D + 1)^3", "subsets": 100, "subset_size": 1000},
        ),
        Metric(
            name="prdc",
            formula="prdc",
            takes=("features",),
            values=(
                Value("precision", "larger"),
                Value("recall", "larger"),
                Value("density", "larger"),
                Value("coverage", "larger"),
            ),
            compares=True,
            fewest=6,  # more than the neighbours
            most=10_000,  # as in the papers
            constants={"k": 3, "k_density": 5},
        ),
        Metric(
            name="modes",
            formula="mode_coverage",
            takes=("class_counts",),
            values=(Value("modes", "larger"), Value("kl", "smaller")),
            constants={"class": "the largest logit"},
        ),
        Metric(
            name="class_tv",
            formula="total_variation",
            takes=("class_counts",),
            values=(Value("class_tv", "smaller"),),
            compares=True,
            constants={"class": "the largest logit"},
        ),
    )
}
"""Name of a metric -> its row."""


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
        raise InputError(f"metrics is empty: name some of {', '.join(METRICS)}")
    for name in metrics:
        if name not in METRICS:
            raise InputError(f"metrics has {name!r}: there are {', '.join(METRICS)}")
        row = METRICS[name]
        if num_images is not None and num_images < row.fewest:
            raise InputError(f"num_images is {num_images}: {name} needs at least {row.fewest:,}; use more, or other metrics")
        if row.compares and num_real is not None and num_real < row.fewest:
            raise InputError(
                f"num_real is {num_real}: {name} needs at least {row.fewest:,} real images; use more, or other metrics"
            )
        if row.needs_real_images and not real_features:
            raise InputError(f"{name} needs the real images, and a reference of mu and sigma has none; leave it out")


def constants(metrics: Sequence[str], num_images: int, num_real: int | None) -> dict[str, dict[str, Any]]:
    """List the constants that the values of these metrics depend on, for the record."""
    found = {}
    for name in metrics:
        row = METRICS[name]
        found[name] = dict(row.constants)
        if row.most is not None:
            used = [None if count is None else min(count, row.most) for count in (num_images, num_real)]
            found[name] |= {"num_images": used[0], "num_real": used[1], "choice": "random, seed 0"}
    return found


def short_count(count: int) -> str:
    """Write 50000 as 50k, and a number that is no multiple of 1000 in full."""
    return f"{count // 1000}k" if count and count % 1000 == 0 else str(count)
