"""The benchmarks of the metrics and of the networks behind them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import extractors
import metrics


@pytest.mark.parametrize(
    ("main", "args", "part"),
    [
        (metrics.main, "--num_images 9", "num_images is 9"),
        (metrics.main, "--rounds 0", "--rounds"),
        (metrics.main, "--inception_weights nowhere.pth", "nowhere.pth"),
        (metrics.main, "--recipes mlp_mnist", "--recipes"),
        (extractors.main, "--inception_weights nowhere.pth", "nowhere.pth"),
    ],
)
def test_bad_flags(main: Callable[[list[str]], int], args: str, part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(args.split()) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"benchmark/{main.__module__}.py: error: ")
    assert part in line


@pytest.mark.slow
def test_extractors(capsys: pytest.CaptureFixture[str]) -> None:
    assert extractors.main(["--rounds", "2", "--output", "figures.json"]) == 0
    assert "| imagenet | " in capsys.readouterr().out
    seconds = json.loads(Path("figures.json").read_text())
    assert [len(seconds[name]) for name in ("inception", "imagenet")] == [2, 2]
    assert 2 * min(seconds["imagenet"]) < min(seconds["inception"])
