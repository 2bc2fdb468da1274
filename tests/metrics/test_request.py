"""What can be asked of a measurement."""

import pytest

from gan_lightning.errors import InputError
from gan_lightning.metrics.functional import KERNEL_SUBSET_SIZE
from gan_lightning.metrics.request import FEWEST, check_request, split_names
from gan_lightning.metrics.statistics import SPLITS


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ((["fid"], 1, 100, True), "num_images is 1: fid needs at least 2"),
        ((["is"], 9, 100, True), "num_images is 9: is needs at least 10"),
        ((["kid"], 999, 5000, True), "num_images is 999: kid needs at least 1,000"),
        ((["kid"], 5000, 999, True), "num_real is 999: kid needs at least 1,000 real images"),
        ((["prdc"], 5, 100, True), "num_images is 5: prdc needs at least 6"),
        ((["prdc"], 100, 5, True), "num_real is 5: prdc needs at least 6 real images"),
        ((["fid"], 0, 100, True), "num_images is 0"),
        ((["fid", "kid"], 5000, None, False), "kid needs the real images, and a reference of mu and sigma has none"),
        ((["fidd"], 100, 100, True), "metrics has 'fidd': there are fid, is, kid, prdc, modes"),
        (([], 100, 100, True), "metrics is empty"),
        ((["fid", "fidd"], None, None, True), "metrics has 'fidd'"),
        ((["kid"], None, 999, True), "num_real is 999"),
    ],
)
def test_what_cannot_be_computed_is_refused(request_: tuple[list[str], int | None, int | None, bool], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_request(*request_)


def test_the_fewest_images_are_enough() -> None:
    check_request(["fid"], 2, 2, True)
    check_request(["fid", "is", "kid", "prdc", "modes"], 1000, 1000, True)
    check_request(["prdc"], 6, 6, True)
    check_request(["is", "modes"], 10, 1, True)
    check_request(list(FEWEST), None, None, True)
    assert (FEWEST["is"], FEWEST["kid"]) == (SPLITS, KERNEL_SUBSET_SIZE)


def test_each_metric_is_named_once() -> None:
    assert split_names(" fid, is,,fid") == ["fid", "is"]
