"""``train --dry_run``: its report is right, and it writes nothing but a picture."""

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image
from torch import Tensor

from gan_lightning.callbacks import Schedules
from gan_lightning.commands.train import trial
from gan_lightning.commands.train.trial import Cost, timed_trial
from gan_lightning.commands.verbs import Verb
from gan_lightning.data import Digits, ImageFolder
from gan_lightning.errors import plain
from gan_lightning.losses import NonSaturatingLoss
from gan_lightning.networks import DCGANGenerator
from gan_lightning.units import duration
from tests.helpers import error_line, refusal, small_gan

main = Verb.train.main

SCRIPT = Path(__file__).parents[2] / "scripts" / "train.py"
DIGITS = [
    *("--config", "digits", "--accelerator", "cpu", "--model.generator.hidden", "[8]"),
    *("--model.discriminator.hidden", "[8]", "--dry_run"),
]
FOLDER = [
    *("--config", "folder_64", "--data.root", "photos", "--accelerator", "cpu", "--data.image_size", "16"),
    *("--data.batch_size", "8", "--model.generator.width", "4", "--model.discriminator.width", "4", "--dry_run"),
]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """35 images of cats, grey or transparent too, and 3 of dogs; one is small, one a copy, one cut off."""
    random = numpy.random.default_rng(0)
    for number in range(38):
        path = tmp_path / "photos" / ("cats" if number < 35 else "dogs") / f"{number:02}.{'jpg' if number else 'png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        size = (10, 12, 3) if number == 1 else (20 + number, 30, 3)
        image = Image.fromarray(random.integers(0, 256, size, dtype=numpy.uint8))
        image.convert("RGBA" if number == 0 else "L" if number < 5 else "RGB").save(path)
    path.with_name("copy.jpg").write_bytes(path.read_bytes())
    (tmp_path / "photos" / "cats" / "cut.jpg").write_bytes(path.read_bytes()[:-300])
    for name in ("a.psd", "b.PSD", "notes.txt", ".hidden.psd"):
        (tmp_path / "photos" / "cats" / name).write_bytes(b"no image")
    return tmp_path / "photos"


def sections(printed: str) -> dict[str, dict[str, str]]:
    """Split a report: title of a section -> its lines by name."""
    found: dict[str, dict[str, str]] = {}
    title = name = ""
    for line in printed.splitlines():
        if match := re.match(r"  (\S.*?)?  +(\S.*)", line):
            name = match[1] or f"{name}+"
            found[title][name] = match[2]
        elif line:
            title = line.partition(":")[0]
            found[title] = {}
    return found


def number(text: str) -> float:
    """The first number in a text."""
    match = re.search(r"[\d.,]+", text)
    assert match
    return float(match[0].replace(",", ""))


def test_a_folder_is_reported_and_only_a_picture_is_written(photos: Path, tmp_path: Path) -> None:
    """A truncated file ends the real command with exit code 2, after the full report."""
    files = {path: path.read_bytes() for path in photos.rglob("*.*")}
    command = [sys.executable, str(SCRIPT), *FOLDER]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 2, done.stderr
    error_line(done.stderr, "train: error: 1 of 3", "cut.jpg", "--data.skip_corrupt true")

    report = sections(done.stdout)
    data = report["Data"]
    train, held_out = map(int, re.findall(r"(\d+) (?:to train on|held out)", data["files"]))
    assert data["folder"] == "photos"
    assert data["files"].startswith("40: ")
    assert train + held_out == 40
    assert data["classes"] == "cats 36, dogs 4"
    assert data["width x height"] == "smallest 12x10, median 30x40, largest 30x57 pixels"
    assert data["formats"] == "JPEG 39, PNG 1"
    assert data["modes"] == "RGB 35, L 4, RGBA 1"
    assert data["ignored"] == "3 files without an image: .psd 2, .txt 1"
    assert data["copies"].startswith("1 file ")
    assert data["unreadable"] == "1 file:"
    assert re.match(r"photos/cats/cut\.jpg \(.*truncated.*\)", data["unreadable+"])

    done_with = report["Preprocessing"]
    assert done_with["size"].startswith("3x16x16: ")
    assert "% of an image is cut off" in done_with["size"]
    assert done_with["enlarged"] == "1 file with a lower height or width"
    assert done_with["colour"] == "grey as three equal channels in 4 files"
    assert done_with["transparent"].startswith("1 file, ")
    assert done_with["flips"] == "each image left to right, with probability 0.5"
    assert done_with["classes"] == "the networks do not see them"
    assert done_with["loading"].endswith("stay on the device")
    assert number(done_with["loading"]) == pytest.approx((train - 1) * 3 * 16 * 16 / 1e6, abs=0.05)

    count = sum(p.numel() for p in DCGANGenerator((3, 16, 16), width=4, hidden=512, latent_dim=64).parameters())
    assert report["Networks"]["generator"] == f"DCGANGenerator, {count:,} parameters"
    assert report["Networks"]["method"] == "GAN, NonSaturatingLoss, R1, DiffAugment"
    peak = number(report["Memory"]["peak"]) * (1000 if " GB, " in report["Memory"]["peak"] else 1)
    assert 100 < peak < 5000  # MB; usually about 600
    steps = train // 8
    assert report["Time"]["an epoch"].startswith(f"{steps:,} steps, ")
    assert report["Time"]["the run"].startswith("7,000 steps, ")
    milliseconds, rate = number(report["Time"]["a step"]), number(report["Time"]["a step"].partition(" ms, ")[2])
    assert rate == pytest.approx(8 / milliseconds * 1000, rel=0.05, abs=1)
    assert "the mean of 16 after 3 of warm-up" in report["Time"]["a step"]
    hints = " ".join(report["Suggestions"].values())
    for part in ("--model.generator.conditioning", "1 file will be blurred"):
        assert part in hints
    assert "uneven" not in hints  # 36 of cats and 4 of dogs: a ninth
    assert "--model.augmentation" not in hints  # it is set

    assert {path: path.read_bytes() for path in photos.rglob("*.*")} == files
    left = {path.relative_to(tmp_path).parts[0] for path in tmp_path.iterdir()}
    assert left == {"photos", "data", "lightning_logs"}
    assert [path.name for path in (tmp_path / "lightning_logs").iterdir()] == ["dry_run.png"]
    assert "as the discriminator sees them" in report["Picture"]["lightning_logs/dry_run.png"]
    assert {path.parent.name for path in (tmp_path / "data").rglob("*.*")} == {"image_folder_cache"}  # the decoded images


def test_a_successful_dry_run_exits_with_0(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = [
        "--data.skip_corrupt",
        "true",
        "--model.augmentation",
        "null",
        "--data.max_bytes_on_device",
        "10",
        "--data.pack",
        "false",
    ]
    for path in list((photos / "dogs").iterdir())[1:]:
        path.unlink()
    with pytest.warns(UserWarning, match="cut.jpg"):
        assert main([*FOLDER, *settings, "--data.num_workers", "0", "--max_steps", "2"]) == 0
    printed = capsys.readouterr().out
    report = sections(printed)
    assert report["Preprocessing"]["loading"].endswith("by 0 processes")
    assert report["Time"]["the run"].startswith("2 steps, ")
    hints = " ".join(report["Suggestions"].values())
    assert "--model.augmentation DiffAugment" in hints
    assert re.search(r"uneven.*dogs has 1 images, cats 36", hints)
    assert "Training would take about " in printed
    assert [path.name for path in Path("lightning_logs").iterdir()] == ["dry_run.png"]
    assert "discriminator" not in report["Picture"]["lightning_logs/dry_run.png"]  # there is no augmentation


def test_a_batch_larger_than_the_data_is_refused_after_the_report(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (photos / "cats" / "cut.jpg").unlink()
    assert main([*FOLDER, "--data.batch_size", "100"]) == 2
    printed, error = capsys.readouterr()
    train = int(re.findall(r"(\d+) to train on", sections(printed)["Data"]["files"])[0])
    error_line(error, f"--data.batch_size {train}")


def test_grey_images_in_colour_are_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(30):
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.new("L", (16, 40), 8 * i).save(tmp_path / "photos" / f"{i}.png")
    assert main(FOLDER) == 0
    hints = " ".join(sections(capsys.readouterr().out)["Suggestions"].values())
    assert "--data.channels 1" in hints
    assert "60% of an image is cut off" in hints
    assert main([*FOLDER, "--data.channels", "1"]) == 0
    report = sections(capsys.readouterr().out)
    assert report["Preprocessing"]["size"].startswith("1x16x16")
    assert "grey" not in " ".join(report["Suggestions"].values())


@pytest.mark.parametrize("limit", [["--max_steps", "500"], ["--max_epochs", "10"], ["--max_time", "00:00:00:04"]])
def test_the_run_is_estimated_for_any_data(limit: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*DIGITS, *limit]) == 0
    report = sections(capsys.readouterr().out)
    assert report["Data"]["images"] == "1,437 to train on, each 1x8x8"
    assert report["Data"]["classes"].startswith("0 142, 1 146, ")
    assert report["Preprocessing"]["classes"] == "both networks see them"
    steps, seconds = number(report["Time"]["the run"]), number(report["Time"]["a step"]) / 1000
    assert steps == pytest.approx({"500": 500, "10": 10 * (1437 // 64)}.get(limit[1], 4 / seconds), rel=0.1)
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*.*")] == [Path("lightning_logs/dry_run.png")]


def test_a_time_limit_before_the_end_of_schedules_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    cosine = ["--schedules.learning_rate", "CosineSchedule", "--max_steps", "1000000"]
    for limits, noticed in (([], False), (["--max_time", "00:00:00:10"], True), (["--max_time", "99:00:00:00"], False)):
        assert main([*DIGITS, *cosine, *limits]) == 0
        report = sections(capsys.readouterr().out)
        hints = re.findall(r"--max_steps (\d+)", " ".join(report.get("Suggestions", {}).values()))
        assert hints == ([report["Time"]["the run"].split()[0].replace(",", "")] if noticed else [])


def test_a_resumed_run_has_fewer_steps_left(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*DIGITS[:-1], "--max_steps", "30", "--metrics.extractor", "none"]) == 0
    files = sorted(Path("lightning_logs").rglob("*"))
    capsys.readouterr()
    for most, left in (("100", "70 steps, "), ("30", "0 steps, ")):
        assert main(["--ckpt_path", "last", "--max_steps", most, "--dry_run"]) == 0
        assert sections(capsys.readouterr().out)["Time"]["the run"].startswith(left)
    other = ["--ckpt_path", "last", "--model.generator.hidden", "[9]", "--dry_run"]
    refusal(main, other, capsys, "generator", "hidden", "[9]")
    assert sorted(Path("lightning_logs").rglob("*")) == sorted([*files, Path("lightning_logs/dry_run.png")])


def test_the_memory_of_the_optimizers() -> None:
    """Adam keeps two moments of each weight, and for each tensor of weights the number of its steps."""
    model = small_gan()
    cost = timed_trial(model, Digits(), Schedules(), {"accelerator": "cpu", "devices": 1})
    weights = list(model.parameters())
    assert cost.optimizer_bytes == sum(2 * 4 * weight.numel() + 4 for weight in weights)
    assert (cost.steps, cost.epoch_steps, cost.step_images) == (16, 1437 // 64, 64)


def test_a_run_without_steps_has_no_estimate(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*DIGITS, "--max_steps", "0"]) == 0
    assert "nothing is left to train" in sections(capsys.readouterr().out)["Time"]["the run"]


def test_slow_steps_end_the_trial_sooner(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Steps of 0.1 s with a limit of 0.5 s: the report has the measured time."""

    def slow(self: NonSaturatingLoss, real_logits: Tensor | None, fake_logits: Tensor) -> Tensor:
        time.sleep(0.1)
        return fake_logits.mean()

    monkeypatch.setattr(NonSaturatingLoss, "generator", slow)
    monkeypatch.setattr(trial, "SECONDS", 0.5)
    assert main(DIGITS) == 0
    step = sections(capsys.readouterr().out)["Time"]["a step"]
    assert 100 < number(step) < 150
    assert re.search(r"the mean of [1-3] after [12] of warm-up", step)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory: 9 bytes")]
)
def test_too_little_memory_is_one_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> Tensor:
        raise error

    monkeypatch.setattr(NonSaturatingLoss, "generator", full)
    refusal(main, DIGITS, capsys, "step 1", "memory", "cpu", "--model.micro_batch 32")


def test_the_estimate_uses_the_remaining_steps_or_the_time_limit() -> None:
    cost = Cost(torch.device("cpu"), total=1000, step_seconds=0.5)
    assert [cost.run_steps(begun_at) for begun_at in (0, 900, 1000, 2000)] == [1000, 100, 0, 0]
    cost.most_seconds = 60.0
    assert [cost.run_steps(begun_at) for begun_at in (0, 900, 1000)] == [120, 100, 0]
    cost.total = None
    assert cost.run_steps(0) == 120


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.44, "0.4 seconds"),
        (119, "119 seconds"),
        (120, "2.0 minutes"),
        (7199, "120 minutes"),
        (7200, "2.0 hours"),
        (100_000, "28 hours"),
        (200_000, "2.3 days"),
    ],
)
def test_durations_have_readable_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_any_name_can_be_printed() -> None:
    assert plain("wölfe 文字") == "wölfe 文字"
    assert plain("a\nb\x1b[31m\udce9") == r"a\nb\x1b[31m\udce9"


def test_the_report_is_printed_before_a_batch_size_is_refused(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*FOLDER, "--data.batch_size", "500"]) == 2
    captured = capsys.readouterr()
    error_line(captured.err, "data.batch_size is 500")
    report = sections(captured.out)
    assert report["Data"]["files"].startswith("40: ")
    assert any("--data.skip_corrupt true" in line for line in report["Suggestions"].values())


def tiles(path: Path, size: int, enlarged: int) -> Tensor:
    """Images of a grid of squares, (rows, columns, size, size, 3), before they were enlarged."""
    with Image.open(path) as picture:
        pixels = torch.from_numpy(numpy.array(picture))
    step = size * enlarged + 2
    tiled = pixels[2:, 2:].unfold(0, step - 2, step).unfold(1, step - 2, step)  # (rows, columns, 3, height, width)
    return tiled[..., ::enlarged, ::enlarged].permute(0, 1, 3, 4, 2)


def test_the_picture_shows_the_first_batch_and_its_augmentation(photos: Path) -> None:
    """A cutout sets a part of each image to grey, and leaves the rest."""
    args = [*FOLDER, "--data.skip_corrupt", "true", "--model.augmentation", "DiffAugment"]
    with pytest.warns(UserWarning, match="cut.jpg"):
        assert main([*args, "--model.augmentation.transforms", "[cutout]", "--data.batch_size", "16"]) == 0
    shown = tiles(Path("lightning_logs/dry_run.png"), 16, 3)
    assert shown.shape == (4, 8, 16, 16, 3)
    real, augmented = shown[::2].flatten(0, 1).int(), shown[1::2].flatten(0, 1).int()
    changed = (real != augmented).any(dim=-1)
    assert ((augmented[changed] - 127.5).abs() < 1).all()
    shares = changed.flatten(1).float().mean(dim=1)  # a square of half the size, part of which may be outside
    assert 0.05 < shares.min() <= shares.max() <= 0.25
    (photos / "cats" / "cut.jpg").unlink()
    known = ImageFolder(photos, 16).images("train")[0].permute(0, 2, 3, 1).int()
    for image in real:
        assert min(int((known - each).abs().flatten(1).amax(1).min()) for each in (image, image.flip(1))) == 0


def test_adaptive_augmentation_is_shown_at_work(capsys: pytest.CaptureFixture[str]) -> None:
    """Its probability is 0 when a run begins, and the picture would show nothing."""
    assert main([*DIGITS, "--model.augmentation", "AdaptiveAugment", "--max_steps", "5"]) == 0
    assert "at probability 0.5" in sections(capsys.readouterr().out)["Picture"]["lightning_logs/dry_run.png"]
    shown = tiles(Path("lightning_logs/dry_run.png"), 8, 6)
    assert shown.shape[:2] == (8, 8)
    share = float((shown[::2] != shown[1::2]).flatten(2).any(dim=2).float().mean())
    assert share > 0.7


def test_a_folder_that_cannot_be_written_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    Path("lightning_logs").touch()
    assert main(DIGITS) == 2
    error_line(capsys.readouterr().err, "lightning_logs/dry_run.png", "--default_root_dir")
