"""The benchmark of the ways to read images."""

import json
from pathlib import Path

import pytest

import data

WAYS = ("device", "pack", "workers", "workers, JPEGs decoded whole")


def test_every_way_is_timed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAN_LIGHTNING_DATA", "data")  # the benchmark sets another one
    flags = ["--num_images", "12", "--side", "200", "--image_size", "16", "--batch_size", "4", "--num_workers", "0"]
    assert data.main([*flags, "--rounds", "2", "--output", "figures.json"]) == 0
    printed, figures = capsys.readouterr().out, json.loads(Path("figures.json").read_text())
    for way in (*WAYS, "torchvision's decode_jpeg, DataLoader", "torchvision's ImageFolder, DataLoader"):
        assert f"| {way} | " in printed
        assert all(len(figures[way][name]) == 2 for name in ("seconds", "cpu_seconds"))
    assert not Path("data").exists()


def test_the_ways_of_this_package_read_the_same_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Except for JPEGs that are decoded whole: they differ by less than a grey level."""
    monkeypatch.setenv("GAN_LIGHTNING_DATA", str(tmp_path / "data"))
    data.write_photos(tmp_path / "photos", 8, 300)
    ways = data.make_ways(tmp_path / "photos", 32, 4, 0)
    device, pack, workers, whole = ([*ways[way]()] for way in WAYS)
    assert len(device) == len(pack) == len(workers) == len(whole) > 0
    for one, two, three, four in zip(device, pack, workers, whole, strict=True):
        assert one.equal(two)
        assert one.equal(three)
        assert 0 < (one.float() - four.float()).abs().mean() < 1


@pytest.mark.parametrize("flag", ["--num_images", "--side", "--rounds"])
def test_bad_flags(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert data.main([flag, "0"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("benchmark/data.py: error: ")
    assert flag in line
