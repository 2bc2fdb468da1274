"""The available metrics and their requirements. This imports no torch, so that a command refuses a bad request at once."""

from collections.abc import Sequence

from gan_lightning.errors import InputError

FEWEST = {"fid": 2, "is": 10, "kid": 1000, "prdc": 6, "modes": 1}
"""Metric -> the fewest images that it takes: one for each split of the Inception Score, one subset of KID's."""
NEED_REFERENCE = {"fid", "kid", "prdc"}
NEED_REAL_FEATURES = {"kid", "prdc"}


def split_names(metrics: str) -> list[str]:
    """Split a flag such as ``fid,is`` into the names of metrics, each once."""
    return list(dict.fromkeys(name.strip().lower() for name in metrics.split(",") if name.strip()))


def check_request(metrics: Sequence[str], num_images: int | None, num_real: int | None, real_features: bool) -> None:
    """Refuse metrics that cannot be computed, before the measurement begins.

    Args:
        metrics: names from :data:`FEWEST`.
        num_images: number of generated images; None if it is not known yet.
        num_real: number of real images; None if it is not known yet.
        real_features: True if there are real images, False if there are only their moments.

    Raises:
        InputError: a metric does not exist, needs more images, or needs real features.
    """
    if not metrics:
        raise InputError(f"metrics is empty: name some of {', '.join(FEWEST)}")
    for metric in metrics:
        if metric not in FEWEST:
            raise InputError(f"metrics has {metric!r}: there are {', '.join(FEWEST)}")
        if num_images is not None and num_images < FEWEST[metric]:
            raise InputError(
                f"num_images is {num_images}: {metric} needs at least {FEWEST[metric]:,}; use more, or other metrics"
            )
        if metric in NEED_REFERENCE and num_real is not None and num_real < FEWEST[metric]:
            raise InputError(
                f"num_real is {num_real}: {metric} needs at least {FEWEST[metric]:,} real images; use more, or other metrics"
            )
        if metric in NEED_REAL_FEATURES and not real_features:
            raise InputError(f"{metric} needs the real images, and a reference of mu and sigma has none; leave it out")
