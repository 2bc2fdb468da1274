"""The benchmark of the metrics: its flags."""

import pytest

from metrics import main


@pytest.mark.parametrize(
    ("args", "part"),
    [
        ("--num_images 999", "--num_images"),
        ("--rounds 0", "--rounds"),
        ("--weights nowhere.pth", "nowhere.pth"),
        ("--recipes mlp_mnist", "--recipes"),
    ],
)
def test_bad_flags(args: str, part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(args.split()) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("benchmark/metrics.py: error: ")
    assert part in line
