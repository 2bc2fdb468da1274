"""Training on rectangles of a folder, and every command that uses the checkpoint or the folder."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy
import pytest
import torch
import yaml
from PIL import Image

from gan_lightning import inference
from gan_lightning.commands.playground.player import Player, Settings
from gan_lightning.commands.verbs import Verb
from tests.helpers import assert_same_state, interrupted, refusal

FOLDER = ["--config", "folder_64", "--data.root", "photos", "--accelerator", "cpu", "--data.batch_size", "4"]
QUIET = ["--enable_progress_bar", "false", "--image_grid.rows", "2", "--image_grid.columns", "3"]
TINY = ["--extractor", "tests.metrics.extractors.Tiny"]
UNMEASURED = ["--metrics.extractor", "none"]
NARROW = ["--model.generator.width", "4", "--model.discriminator.width", "4"]


def networks(generator: str, discriminator: str, *arguments: str) -> list[str]:
    return ["--model.generator", generator, "--model.discriminator", discriminator, *arguments]


FAMILIES = {
    "dcgan": NARROW,
    "mlp": networks(
        "MLPGenerator", "MLPDiscriminator", "--model.generator.hidden", "[8]", "--model.discriminator.hidden", "[8]"
    ),
    "resnet": networks(
        *("ResNetGenerator", "ResNetDiscriminator", "--model.generator.widths", "[4,4,4,4]"),
        *("--model.discriminator.widths", "[4,4,4,4]"),
    ),
    "r3gan": networks(
        *("R3GANGenerator", "R3GANDiscriminator", "--model.generator.widths", "[16,16,16,16]"),
        *("--model.discriminator.widths", "[16,16,16,16]"),
    ),
    "fastgan": networks("FastGANGenerator", "ProjectedDiscriminator", "--model.generator.width", "2"),
}


@pytest.fixture(autouse=True)
def photos(tmp_path: Path) -> Path:
    """24 images of many shapes, in two classes; some are smaller than the crops."""
    for i in range(24):
        path = tmp_path / "photos" / "ab"[i % 2] / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = numpy.random.default_rng(i).integers(0, 256, (20 + 3 * i, 80 - 2 * i, 3), dtype=numpy.uint8)
        Image.fromarray(noise).save(path)
    return tmp_path / "photos"


def train(size: str, *more: str) -> Path:
    """Train for two steps and return the last checkpoint."""
    args = [*FOLDER, *QUIET, "--data.image_size", size, "--max_steps", "2", *more]
    assert Verb.train.main(args) == 0
    return Path("lightning_logs/version_0/checkpoints/last.ckpt")


def png_size(path: str | Path) -> tuple[int, int]:
    """Height and width of a picture."""
    with Image.open(path) as image:
        return image.height, image.width


def grid_size(height: int, width: int, rows: int, columns: int) -> tuple[int, int]:
    """Height and width of a grid with gaps of 2 pixels, whose images are not enlarged."""
    return rows * (height + 2) + 2, columns * (width + 2) + 2


@pytest.mark.parametrize(
    ("size", "height", "width"), [("48x32", 48, 32), pytest.param("32x64", 32, 64, marks=pytest.mark.slow)]
)
def test_every_command(size: str, height: int, width: int, capsys: pytest.CaptureFixture[str]) -> None:
    shape = (3, height, width)
    path = train(size, *NARROW, "--metrics.extractor", TINY[1], "--metrics.num_images", "10", "--metrics.num_real", "10")
    run = path.parents[1]
    assert yaml.safe_load((run / "config.yaml").read_text())["data"]["init_args"]["image_size"] == size
    for picture in ("real.png", "step_00000002.png"):
        assert png_size(run / "images" / picture) == grid_size(height, width, 2, 3)
    sampler = inference.load(path)
    drawn = sampler.at(torch.arange(3))
    assert drawn.shape[1:] == shape

    assert Verb.sample.main([str(path), "--num_images", "3", "--output", "few"]) == 0
    with Image.open("few/000002.png") as image:
        assert numpy.array_equal(numpy.asarray(image), drawn[2].permute(1, 2, 0))
    assert Verb.sample.main([str(path), "--num_images", "6", "--columns", "3", "--output", "grid.png"]) == 0
    assert png_size("grid.png") == grid_size(height, width, 2, 3)
    assert Verb.sample.main([str(path), "--num_images", "10", "--output", "drawn.npz"]) == 0

    cpu = [*TINY, "--metrics", "fid", "--accelerator", "cpu"]
    shapes = {
        "run": [str(path), "--num_images", "8", "--num_real", "8"],  # with the data of its config.yaml
        "real": ["drawn.npz", "--real", "photos"],
        "both": ["photos", "--real", "photos", "--image_size", size],
    }
    for name, args in shapes.items():
        assert Verb.evaluate.main([*args, *cpu, "--output", f"{name}.json"]) == 0
        assert json.loads(Path(f"{name}.json").read_text())["protocol"]["image_shape"] == list(shape)
    assert Verb.compute_reference.main(["--real", "photos", "--image_size", size, *cpu[:2], "--output", "real.npz"]) == 0
    assert Verb.evaluate.main([str(path), "--num_images", "8", "--reference", "real.npz", *cpu, "--output", "4.json"]) == 0
    other = ["--data", "ImageFolder", "--data.root", "photos", "--data.image_size", f"{width}x{height}"]
    refusal(Verb.evaluate.main, [str(path), *other, *cpu, "--num_images", "8"], capsys, f"--data.image_size {size}")

    walk = [str(path), "--seeds", "1,2", "--frames", "3"]
    assert Verb.interpolate.main([*walk, "--output", "walk.gif"]) == 0
    assert Verb.interpolate.main([*walk, "--output", "walk.png", "--neighbours", "2", *TINY]) == 0
    inverted = [str(path), "photos/a/00.png", "--steps", "2", "--restarts", "2"]
    assert Verb.invert.main([*inverted, "--hole", f"{height - 4},{width - 4},4,4", "--output", "hole.png"]) == 0
    assert Verb.invert.main([*inverted, "--super_resolution", "4", "--output", "large.png"]) == 0
    refusal(Verb.invert.main, [*inverted, "--super_resolution", "5", "--output", "5.png"], capsys, f"{height}x{width}")
    assert Player(sampler).grid(Settings()).shape[1:] == shape

    assert Verb.export.main([str(path), "--formats", "safetensors,torch", "--output", "exported"]) == 0
    assert f"{height} x {width} pixels" in Path("exported/README.md").read_text()
    assert torch.equal(inference.load("exported").at(torch.arange(3)), drawn)


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "dcgan"])
def test_every_family_of_networks(family: str) -> None:
    path = train("48x32", *FAMILIES[family], *UNMEASURED)
    assert inference.load(path).at(torch.arange(2)).shape == (2, 3, 48, 32)


def test_an_mlp_takes_any_rectangle() -> None:
    path = train("9x21", *FAMILIES["mlp"], *UNMEASURED)
    assert inference.load(path).at(torch.arange(2)).shape == (2, 3, 9, 21)


@pytest.mark.parametrize("crop", ["center", "random"])
def test_a_resumed_run_is_bitwise_equal(crop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With classes drawn equally; the size comes from config.yaml."""
    more = ["--data.crop", crop, "--data.balance", "true", "--data.subset", "16", *NARROW, *UNMEASURED]
    args = [*FOLDER, *QUIET, "--data.image_size", "48x32", "--max_steps", "9", *more]
    assert Verb.train.main([*args, "--default_root_dir", "straight"]) == 0
    interrupted([*args, "--default_root_dir", "stopped"], 6, monkeypatch)
    assert Verb.train.main(["--ckpt_path", "last", "--default_root_dir", "stopped"]) == 0
    assert_same_state(*(Path(name, "lightning_logs", "version_0") for name in ("straight", "stopped")))


@pytest.mark.parametrize(("size", "height", "width"), [("48x32", 48, 32), ("32x64", 32, 64), ("[32, 64]", 32, 64)])
def test_a_dry_run_shows_the_crops(size: str, height: int, width: int, capsys: pytest.CaptureFixture[str]) -> None:
    Path("own.yaml").write_text(f"data: {{class_path: ImageFolder, init_args: {{root: photos, image_size: {size}}}}}")
    assert Verb.train.main([*FOLDER, "--config", "own.yaml", "--data.batch_size", "8", *NARROW, "--dry_run"]) == 0
    report = capsys.readouterr().out
    assert f"3x{height}x{width}: " in report
    smaller = sum(20 + 3 * i < height or 80 - 2 * i < width for i in range(24))
    assert re.search(rf"enlarged +{smaller} files ", report)
    assert png_size("lightning_logs/dry_run.png") == grid_size(height, width, 2, 8)


@pytest.mark.parametrize(
    ("args", "named"),
    [
        *((["--data.image_size", size], ["data.image_size", size]) for size in ("64x", "0x64", "axb", "0", "64.5", "1x2x3")),
        (["--data.image_size=-1x4"], ["data.image_size", "-1x4"]),
        (["--data.image_size", "50x34"], ["50x34", "--data.image_size 48x32"]),
        (["--data.image_size", "40x8", *FAMILIES["r3gan"]], ["40x8", "--data.image_size 80x16"]),
        (["--data", "MNIST", "--data.image_size", "32x28"], ["MNIST", "image_size"]),
    ],
)
def test_bad_sizes(args: Sequence[str], named: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    refusal(Verb.train.main, [*FOLDER, *args], capsys, *named)


@pytest.mark.parametrize("size", ["64x", "0x64", "axb", "-1x4", "0", "64.5", "1x2x3"])
def test_bad_sizes_to_measure(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    refusal(Verb.evaluate.main, ["photos", "--real", "photos", f"--image_size={size}"], capsys, "--image_size", size)
    folder = ["--data", "ImageFolder", "--data.root", "photos", f"--data.image_size={size}"]
    refusal(Verb.evaluate.main, ["photos", *folder, "--extractor", "imagenet"], capsys, "data.image_size", size)
