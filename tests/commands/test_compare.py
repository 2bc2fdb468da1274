"""The compare and benchmark commands."""

import json
from pathlib import Path

import pytest
from PIL import Image

from gan_lightning.commands.benchmark import main as benchmark_main
from gan_lightning.commands.compare import main
from gan_lightning.metrics import classifier


def test_recipes_beside_real_images(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Three seconds of training are enough for the order: real images, the generator, one image."""
    args = [
        "--recipes",
        "digits",
        "--max_time",
        "00:00:00:03",
        "--num_images",
        "300",
        "--accelerator",
        "cpu",
        "--device",
        "cpu",
    ]
    assert main(args) == 0
    said = capsys.readouterr().out
    folder = Path("lightning_logs/compare")
    rows = json.loads((folder / "compare.json").read_text())["metrics"]
    assert list(rows) == ["real test images", "digits", "one test image, repeated"]
    assert [row["digits_fd_300"] for row in rows.values()] == sorted(row["digits_fd_300"] for row in rows.values())
    assert [row["digits_modes_300"] for row in rows.values()][2] == 1
    assert rows["real test images"]["digits_recall_300"] > 0.8 > rows["one test image, repeated"]["digits_recall_300"]
    table = (folder / "compare.md").read_text()
    assert table in said
    assert table.count("\n") == 5
    assert Image.open(folder / "compare.png").size == (20 * 10 + 2, 3 * 10 + 2)
    step = rows["digits"]["global_step"]
    monkeypatch.setattr(classifier, "train_classifier", None)
    assert main(args) == 0  # goes on with what is there
    assert json.loads((folder / "compare.json").read_text())["metrics"]["digits"]["global_step"] == step
    assert "digits is trained" in capsys.readouterr().out
    assert main([*args, "--max_time", "00:00:00:05"]) == 2  # which those figures would not be of
    assert "digits: was trained otherwise" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "part"),
    [
        (["--recipes", "digit"], "--config digit: no such recipe"),
        (["--recipes", "digits,mlp_mnist"], "they are for several data sets"),
        (["--recipes", "digits", "--max_time", "soon", "--num_images", "100"], "the Trainer refuses its settings"),
        (["--recipes", "digits", "--num_images", "361"], "--num_images 361: there are 360 real test images"),
        (["--recipes", ","], "--recipes is empty"),
    ],
)
def test_bad_input_gets_one_line(
    args: list[str], part: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classifier, "FEWEST_IMAGES_SEEN", 1)
    assert main(args) == 2
    error = capsys.readouterr().err
    assert part in error
    assert error.count("error:") == 1
    assert not Path("lightning_logs/compare/digits/trained.json").exists()


@pytest.mark.parametrize(
    ("args", "part"),
    [
        (["training"], "there is no benchmark 'training'"),
        (["metrics", "--num_images", "10"], "--num_images 10"),
        (["metrics", "--rounds", "0"], "--rounds 0"),
    ],
)
def test_a_bad_benchmark(args: list[str], part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark_main(args) == 2
    assert part in capsys.readouterr().err
