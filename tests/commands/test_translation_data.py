"""Data for translation on the command line of training: flags, recipes, refusals, and the report of a dry run."""

from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from gan_lightning.commands.verbs import Verb
from gan_lightning.pictures import read_png
from tests.commands.test_dry_run import sections
from tests.helpers import refusal

SMALL = [
    *("--method", "PairedTranslation", "--accelerator", "cpu", "--data.batch_size", "4", "--max_steps", "1"),
    *("--model.generator.width", "4", "--model.discriminator.width", "4", "--model.discriminator.layers", "1"),
    *("--enable_progress_bar", "false", "--image_grid.rows", "1"),
]
DERIVED = ["--data", "Derived", "--data.source", "ImageFolder", "--data.root", "photos", "--data.source.image_size", "8"]


@pytest.fixture(autouse=True)
def photos() -> None:
    """20 images in ``photos``, 20 in ``drawings`` of the same names, and both next to each other in ``pairs``."""
    for i in range(20):
        for folder in ("photos", "drawings", "pairs/photos", "pairs/drawings"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 12), (10 * i, 255 - i, 50 if "photos" in folder else 0)).save(Path(folder, f"{i}.png"))


def test_pairs_of_any_source(capsys: pytest.CaptureFixture[str]) -> None:
    args = [*SMALL, *DERIVED, "--data.degradation", "Downscale", "--data.degradation.factor", "4"]
    args += ["--model.generator", "SRResNet", "--model.generator.width", "4", "--model.generator.blocks", "1"]
    assert Verb.train.main([*args, "--dry_run"]) == 0
    report = sections(capsys.readouterr().out)
    assert "sources 3x2x2, targets 3x8x8" in report["Data"]["pairs"]
    assert "Downscale" in report["Preprocessing"]["sources"]
    picture = read_png(Path("lightning_logs/dry_run.png"))
    assert picture.shape == (3, 2 + 50, 2 + 8 * 50)  # four pairs of images of 8 pixels, enlarged to 48
    assert Verb.train.main([*args, "--metrics.extractor", "none"]) == 0  # one image is held out
    (settings,) = Path("lightning_logs").rglob("config.yaml")
    data = yaml.safe_load(settings.read_text())["data"]["init_args"]
    assert data["root"] == str(Path("photos"))
    assert "root" not in data["source"]["init_args"]
    assert Verb.train.main(["--ckpt_path", "last", "--max_steps", "2"]) == 0


def test_a_recipe_that_needs_a_root_only(capsys: pytest.CaptureFixture[str]) -> None:
    source = {"class_path": "ImageFolder", "init_args": {"image_size": 8}}
    data = {"source": source, "degradation": "Grey", "batch_size": 4, "horizontal_flip": True}
    Path("colour.yaml").write_text(yaml.safe_dump({"data": {"class_path": "Derived", "init_args": data}}))
    args = [*SMALL, "--config", "colour.yaml"]
    refusal(Verb.train.main, args, capsys, "--data.root")
    assert Verb.train.main([*args, "--data.root", "photos", "--dry_run"]) == 0
    assert "sources 1x8x8" in capsys.readouterr().out


def test_pairs_of_files(capsys: pytest.CaptureFixture[str]) -> None:
    args = [*SMALL, "--data", "PairedFolders", "--data.root", "pairs", "--data.image_size", "8x12", "--dry_run"]
    assert Verb.train.main(args) == 0
    report = sections(capsys.readouterr().out)
    assert report["Data"]["files"].startswith("20: ")
    assert "sources 3x8x12, targets 3x8x12" in report["Data"]["pairs"]
    assert report["Data"]["width x height"].startswith("smallest 16x12, median 16x12")
    Image.new("RGB", (9, 12)).save("pairs/photos/0.png")
    capsys.readouterr()
    assert Verb.train.main(args) == 2
    assert "9x12" in capsys.readouterr().out  # in the report
    refusal(Verb.train.main, [*args, "--data.direction", "BtoC"], capsys, "data.direction", "BtoC")
    Path("pairs/photos/0.png").unlink()
    refusal(Verb.train.main, args, capsys, "drawings/0.png")


def test_two_folders(capsys: pytest.CaptureFixture[str]) -> None:
    args = [*SMALL, "--method", "CycleGAN", "--data", "UnpairedFolders", "--data.image_size", "8", "--data.a", "photos"]
    assert Verb.train.main([*args, "--data.b", "drawings", "--dry_run"]) == 0
    report = sections(capsys.readouterr().out)
    assert {"sources", "targets"} < set(report["Data"])
    refusal(Verb.train.main, args, capsys, "data.a is photos", "--data.b")


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["Downscale"], ["Downscale needs factor", "--data.degradation.factor"]),
        (["Downscale", "--data.degradation.factor", "3"], ["data.degradation.factor is 3"]),
        (["Downscale", "--data.degradation.factor", "two"], ["degradation.factor", "two"]),
        (["Hole", "--data.degradation.place", "5,5,4,4"], ["data.degradation.place is 5,5,4,4"]),
        (["grey"], ["--data.degradation grey", "Grey"]),
        (["Blur"], ["--data.degradation Blur", "Grey"]),
        (["Grey", "--data.source.batch_size", "3"], ["--data.source.batch_size", "use --data.batch_size"]),
        (["Grey", "--data.factor", "3"], ["--data.degradation.factor"]),
        (["Grey", "--data.image_size", "16"], ["--data.source.image_size"]),
        (["Grey", "--data.source", "ImagFolder"], ["--data.source ImagFolder", "ImageFolder"]),
    ],
)
def test_refused_flags(flags: list[str], named: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    refusal(Verb.train.main, [*SMALL, *DERIVED, "--data.degradation", *flags], capsys, *named)


def test_a_hole_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    hole = ["--data.degradation", "Hole", "--data.degradation.place"]
    for place in ("random", "1,2,3,4"):
        assert Verb.train.main([*SMALL, *DERIVED, *hole, place, "--dry_run"]) == 0
        assert "sources 4x8x8" in capsys.readouterr().out
    picture = read_png(Path("lightning_logs/dry_run.png")).int()
    assert torch.equal(picture[:, 2 + 6 * 1, 2 + 6 * 2], torch.tensor([128, 128, 128]))  # the hole begins
    assert not torch.equal(picture[:, 1 + 6 * 1, 2 + 6 * 2], torch.tensor([128, 128, 128]))
