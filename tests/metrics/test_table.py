"""The table of metrics: its rows fit their formulas, and the documentation's example adds one."""

import dataclasses
import inspect
import re
from pathlib import Path

import pytest
import torch

from gan_lightning.errors import InputError
from gan_lightning.metrics import functional, table
from gan_lightning.metrics.evaluator import compute
from gan_lightning.metrics.functional import KERNEL_SUBSET_SIZE, kernel_distance
from gan_lightning.metrics.statistics import SPLITS, Statistics, Sums
from gan_lightning.metrics.table import METRICS, Metric, check_request, short_count, split_names
from tests.commands.test_evaluate import TINY, record, refused, write_folder
from tests.metrics.extractors import Tiny

EXTENDING = Path(__file__).parents[2] / "docs" / "extending.md"


@pytest.mark.parametrize(
    ("request_", "parts"),
    [
        ((["fid"], 1, 100, True), ["num_images is 1", "fid"]),
        ((["is"], 9, 100, True), ["num_images is 9", "is"]),
        ((["kid"], 9, 5000, True), ["num_images is 9", "kid", "10"]),
        ((["kid"], 5000, 9, True), ["num_real is 9", "kid", "10"]),
        ((["kid"], None, 9, True), ["num_real is 9"]),
        ((["prdc"], 5, 100, True), ["num_images is 5", "prdc"]),
        ((["prdc"], 100, 5, True), ["num_real is 5", "prdc"]),
        ((["fid"], 0, 100, True), ["num_images is 0"]),
        ((["fid", "kid"], 5000, None, False), ["kid"]),
        ((["class_tv"], 5000, None, False), ["class_tv"]),
        (([], 100, 100, True), list(METRICS)),
        ((["fidd"], 100, 100, True), ["'fidd'", *METRICS]),
        ((["fid", "fidd"], None, None, True), ["'fidd'"]),
    ],
)
def test_what_cannot_be_computed_is_refused(request_: tuple[list[str], int | None, int | None, bool], parts: list[str]) -> None:
    with pytest.raises(InputError) as error:
        check_request(*request_)
    for part in parts:
        assert part in str(error.value)


def test_the_fewest_images_are_enough() -> None:
    check_request(["fid"], 2, 2, True)
    check_request(["prdc"], 6, 6, True)
    check_request(["is", "modes"], 10, 1, False)
    check_request(list(METRICS), 1000, 1000, True)
    check_request(list(METRICS), None, None, True)
    assert (METRICS["is"].fewest, METRICS["kid"].constants["subset_size"]) == (SPLITS, KERNEL_SUBSET_SIZE)


def test_each_metric_is_named_once() -> None:
    assert split_names(" fid, is,,fid") == ["fid", "is"]


@pytest.mark.parametrize("metric", METRICS.values(), ids=list(METRICS))
def test_a_row_fits_its_formula(metric: Metric) -> None:
    """Its arguments, its number of values, and the constants that the record lists."""
    assert set(metric.takes) <= {field.name for field in dataclasses.fields(Statistics)}
    defaults = inspect.signature(getattr(functional, metric.formula)).parameters
    for name, value in metric.constants.items():
        assert name not in defaults or defaults[name].default in (value, None)  # None: it depends on the sets
    sums, features = Sums(1000, 4, 3, torch.device("cpu")), torch.randn(1000, 4, generator=torch.Generator().manual_seed(0))
    sums.update(torch.arange(1000), features, features[:, :3])
    same = sums.statistics(features)
    values = compute(same, same, "mnist_", [metric.name])
    assert list(values) == list(metric.names("mnist_", 1000).values())
    if metric.compares:  # equal sets: distances are 0, shares are 1; KID is unbiased and reads -0.02
        best = {"smaller": 0.0, "larger": 1.0}
        for value, better in metric.values.items():
            if better:
                assert values[metric.names("mnist_", 1000)[value]] == pytest.approx(best[better], abs=0.05)


def test_values_of_all_metrics_have_different_names() -> None:
    for prefix in ("", "mnist_"):
        names = [name for metric in METRICS.values() for name in metric.names(prefix, 5000).values()]
        assert len(names) == len(set(names))
    assert METRICS["is"].protocol(50, None)["splits"] == SPLITS
    assert METRICS["prdc"].protocol(50_000, 9000) == {
        **{"k": 3, "k_density": 5},
        **{"num_images": 10_000, "num_real": 9000, "choice": "random, seed 0"},
    }


def test_names() -> None:
    assert [short_count(count) for count in (5000, 50_000, 1437, 500, 0)] == ["5k", "50k", "1437", "500", "0"]
    assert METRICS["fid"].names("", 50_000) == {"fid": "fid_50k"}
    assert METRICS["is"].names("", 50_000) == {"is": "is_50k", "is_std": "is_50k_std"}
    assert METRICS["prdc"].names("", 50_000)["precision"] == "precision_10k"
    assert METRICS["fid"].names("mnist_", 5000) == {"fid": "mnist_fd_5k"}
    assert METRICS["is"].names("mnist_", 5000) == {"is": "mnist_score_5k", "is_std": "mnist_score_5k_std"}
    assert METRICS["kid"].names("mnist_", 5000) == {"kid": "mnist_kd_5k", "kid_std": "mnist_kd_5k_std"}
    assert METRICS["prdc"].names("mnist_", 5000)["recall"] == "mnist_recall_5k"


def test_the_worked_example_adds_a_metric(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """docs/extending.md: without its formula and its row there is no such metric; with them, evaluate.py computes it."""
    blocks = dict(re.findall(r"```python\n# (functional|table)\.py\n(.*?)```", EXTENDING.read_text(), re.DOTALL))
    for module, indent in ((functional, ""), (table, " " * 8)):
        block = re.sub(r"^(?=.)", indent, blocks[module.__name__.rpartition(".")[2]].rstrip(), flags=re.MULTILINE)
        assert block in inspect.getsource(module)  # the page shows what the package does
    monkeypatch.delattr(functional, "total_variation")
    monkeypatch.delitem(METRICS, "class_tv")
    made, real = write_folder("samples", 50, seed=2), write_folder("real", 60, seed=1)
    args = ["samples", "--real", "real", *TINY, "--metrics", "class_tv"]
    assert "'class_tv'" in refused(args, capsys)
    exec(blocks["functional"], vars(functional))
    row = eval(blocks["table"], vars(table))
    monkeypatch.setitem(METRICS, row.name, row)
    found = record(args)
    shares = [torch.bincount(Tiny()(images)[1].argmax(1), minlength=6) / len(images) for images in (made, real)]
    expected = float((shares[0] - shares[1]).abs().sum() / 2)
    assert found["metrics"] == {"tiny_class_tv_50": pytest.approx(expected, abs=1e-6)}
    assert expected > 0
    assert found["protocol"]["constants"] == {"class_tv": {"class": "the largest logit"}}
    assert "class_tv" in capsys.readouterr().out


def test_the_subsets_of_kid_follow_a_small_set() -> None:
    """The record and the formula agree."""
    sizes = [METRICS["kid"].protocol(*counts)["subset_size"] for counts in ((50_000, 10_000), (450, 2000), (2000, 450))]
    assert sizes == [1000, 450, 450]
    assert METRICS["kid"].protocol(450, None)["subset_size"] == 450
    generated, real = torch.rand(40, 5), torch.rand(30, 5) + 0.1
    assert kernel_distance(generated, real) == kernel_distance(generated, real, subset_size=30)
