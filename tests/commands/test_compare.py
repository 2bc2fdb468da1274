"""The compare command."""

import inspect
import json
from pathlib import Path

import numpy
import pytest
import yaml
from PIL import Image

from gan_lightning import losses, regularizers
from gan_lightning.checkpoint import load_gan
from gan_lightning.commands.compare.run import LOSSES, PENALTIES, make_rows
from gan_lightning.commands.train.run import train
from gan_lightning.commands.verbs import Verb
from gan_lightning.data import ImageFolder
from gan_lightning.errors import Diverged
from gan_lightning.losses import AdversarialLoss
from gan_lightning.metrics import classifier
from gan_lightning.regularizers import Penalty
from gan_lightning.schedules import CosineSchedule
from tests.helpers import fit, small_gan

main = Verb.compare.main

ANNEALED = """
data: Digits
model:
  generator: {class_path: MLPGenerator, init_args: {hidden: [8]}}
  discriminator: {class_path: MLPDiscriminator, init_args: {hidden: [8]}}
schedules: {learning_rate: CosineSchedule}
"""


def test_recipes_beside_real_images(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
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
    ]
    assert main(args) == 0
    said = capsys.readouterr().out
    folder = Path("lightning_logs/compare")
    rows = json.loads((folder / "compare.json").read_text())["metrics"]
    assert list(rows) == ["real test images", "digits", "one test image, repeated"]
    distances = [row["digits_fd_300"] for (row,) in rows.values()]
    assert distances == sorted(distances)
    assert [row["digits_modes_300"] for (row,) in rows.values()][2] == 1
    recalls = {name: row["digits_recall_300"] for name, (row,) in rows.items()}
    assert recalls["real test images"] > 0.8 > recalls["one test image, repeated"]
    table = (folder / "compare.md").read_text()
    assert table in said
    assert table.count("\n") == 5
    assert Image.open(folder / "compare.png").size == (
        20 * 50 + 2,
        3 * 50 + 2,
    )  # 8x8 pixels are enlarged to 48, and 2 lie between
    updates = rows["digits"][0]["updates"]
    monkeypatch.setattr(classifier, "train_classifier", None)
    assert main(args) == 0  # goes on with what is there, and measures nothing twice
    said = capsys.readouterr().out
    assert json.loads((folder / "compare.json").read_text())["metrics"]["digits"][0]["updates"] == updates
    assert "digits, seed 0, is trained" in said
    assert "Measuring digits" not in said
    assert main([*args, "--metrics", "fid"]) == 0  # trains nothing twice, and measures anew
    assert "Measuring digits" in capsys.readouterr().out
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert main([*args, "--output", str(tmp_path / folder)]) == 0  # the folder's records hold wherever one stands
    monkeypatch.chdir(tmp_path)
    assert main([*args, "--max_time", "00:00:00:05"]) == 2  # which those figures would not be of
    assert "seed_0: " in capsys.readouterr().err


def test_a_time_becomes_the_updates_that_fit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """So a schedule without steps ends within it, where the run does. Both are recorded, and timed once for all seeds."""
    Path("mine.yaml").write_text(ANNEALED)
    monkeypatch.setattr(classifier, "FEWEST_IMAGES_SEEN", 1)
    args = ["--recipes", "mine.yaml", "--max_time", "00:00:00:01", "--num_images", "100", "--metrics", "fid"]
    assert main([*args, "--accelerator", "cpu", "--seeds", "0,1"]) == 0
    record = json.loads(Path("lightning_logs/compare/compare.json").read_text())
    (steps,) = record["protocol"]["max_steps"].values()
    assert record["protocol"]["max_time"] == "00:00:00:01"
    assert capsys.readouterr().out.count("Timing 50 updates") == 1
    (path,) = Path("lightning_logs/compare").rglob("timed.json")
    assert steps == pytest.approx(1 / json.loads(path.read_text())["step_seconds"], abs=1)
    runs = sorted(Path("lightning_logs/compare").rglob("last.ckpt"))
    assert len(runs) == 2
    for path in runs:
        content = load_gan(path)
        assert content["global_step"] == steps
        assert content["callbacks"]["Schedules"] == {"length": steps}
        rates = [state["param_groups"][0]["lr"] for state in content["optimizer_states"]]
        assert rates == pytest.approx([2e-4 * CosineSchedule(steps)(steps - 1)] * 2)  # of the last step
        trained = json.loads((path.parents[3] / "trained.json").read_text())
        assert (trained["budget"], trained["max_steps"]) == ({"max_time": "00:00:00:01"}, steps)
    assert main([*args, "--accelerator", "cpu", "--seeds", "5"]) == 0  # not timed again
    assert load_gan(next(Path("lightning_logs/compare").glob("*/seed_5/**/last.ckpt")))["global_step"] == steps


def test_data_flags_reach_the_training_and_the_real_row(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A folder that a flag names. Of its test images there are fewer than samples: the real row is of those, and says so."""
    monkeypatch.setattr(ImageFolder, "extractor", "tests.metrics.extractors.Tiny")
    (tmp_path / "photos").mkdir()
    for i in range(120):
        noise = numpy.random.default_rng(i).integers(0, 256, (20, 20, 3), dtype=numpy.uint8)
        Image.fromarray(noise).save(tmp_path / "photos" / f"{i}.png")
    Path("mine.yaml").write_text("data: ImageFolder\nmodel:\n  generator: MLPGenerator\n  discriminator: MLPDiscriminator\n")
    args = ["--recipes", "mine.yaml", "--max_steps", "2", "--num_images", "100", "--metrics", "fid,prdc,modes"]
    data = ["--data.root=photos", "--data.image_size", "16", "--data.batch_size", "8"]
    assert main([*args, *data, "--accelerator", "cpu"]) == 0
    said = capsys.readouterr().out
    (run,) = Path("lightning_logs/compare").rglob("config.yaml")
    settings = yaml.safe_load(run.read_text())["data"]["init_args"]
    assert (settings["root"], settings["image_size"], settings["batch_size"]) == ("photos", 16, 8)
    record = json.loads(Path("lightning_logs/compare/compare.json").read_text())
    assert record["protocol"]["data"] == [word for flag in data for word in flag.split()]
    real, *others = record["metrics"].items()
    ((name, (values,)), there_are) = real, len(ImageFolder("photos", image_size=16).images("test")[0])
    assert name == "real test images"
    assert 6 <= there_are < 100
    assert f"tiny_fd_{there_are}" in values
    assert all("tiny_fd_100" in values for _, (values,) in others)
    (row,) = [line for line in said.splitlines() if line.startswith("| real test images")]
    (header,) = [line for line in said.splitlines() if line.startswith("| | updates")]
    assert row.count(f"({there_are})") == header.count("_100") == len(values)


def test_another_extractor(capsys: pytest.CaptureFixture[str]) -> None:
    args = ["--recipes", "digits", "--max_steps", "2", "--num_images", "20", "--metrics", "fid", "--accelerator", "cpu"]
    assert main([*args, "--extractor", "tests.metrics.test_evaluator.FeaturesAlone"]) == 0
    assert "| featuresalone_fd_20 |" in capsys.readouterr().out
    assert main([*args, "--extractor", "inceptio"]) == 2
    assert "extractor inceptio" in capsys.readouterr().err


def test_a_recipe_that_was_edited_is_not_taken_for_the_one_that_was_trained(capsys: pytest.CaptureFixture[str]) -> None:
    recipe = Path("mine.yaml")
    recipe.write_text("data: Digits\nmodel:\n  generator: MLPGenerator\n  discriminator: MLPDiscriminator\n")
    args = ["--recipes", "mine.yaml", "--max_steps", "2", "--num_images", "100", "--metrics", "fid", "--accelerator", "cpu"]
    assert main(args) == 0
    recipe.write_text(recipe.read_text() + "  loss: HingeLoss\n")
    assert main(args) == 2
    assert "mine.yaml" in capsys.readouterr().err


def test_several_seeds_and_a_run_that_diverges(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Of three runs one ends in NaN: mean and deviation are of the other two, and the row says so."""
    monkeypatch.setattr(classifier, "FEWEST_IMAGES_SEEN", 1)

    def train_but_one(args: list[str]) -> None:
        if args[args.index("--seed_everything") + 1] == "1":
            raise Diverged("NaN")
        train(args)

    monkeypatch.setattr("gan_lightning.commands.compare.run.train", train_but_one)
    args = ["--recipes", "digits", "--max_steps", "2", "--num_images", "100", "--metrics", "fid", "--seeds", "0,1,2"]
    assert main([*args, "--accelerator", "cpu"]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("| digits"))
    assert row.startswith("| digits (1 of 3 diverged) | 2 |")
    runs = json.loads(Path("lightning_logs/compare/compare.json").read_text())["metrics"]["digits"]
    assert runs[1]["diverged"]
    first, last = runs[0]["digits_fd_100"], runs[2]["digits_fd_100"]
    assert f"| {(first + last) / 2:.4g} ± {abs(first - last) / 2**0.5:.2g} |" in row


def test_samples_of_nan_are_a_run_that_diverged(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(classifier, "FEWEST_IMAGES_SEEN", 1)
    monkeypatch.setattr("gan_lightning.commands.compare.run.train", _train_to_nan)
    args = ["--recipes", "digits", "--max_steps", "2", "--num_images", "100", "--metrics", "fid", "--accelerator", "cpu"]
    assert main(args) == 0
    assert "| digits (1 of 1 diverged) |" in capsys.readouterr().out
    assert Image.open("lightning_logs/compare/compare.png").size[1] == 2 * 50 + 2  # two rows of real images


def _train_to_nan(args: list[str]) -> None:
    model = small_gan()
    trainer = fit(model, max_steps=1)
    for p in model.generator.parameters():
        p.data.fill_(float("nan"))
    folder = Path(args[args.index("--default_root_dir") + 1]) / "lightning_logs" / "version_0" / "checkpoints"
    trainer.save_checkpoint(folder / "last.ckpt", weights_only=False)


def test_every_loss_and_every_penalty_has_its_row() -> None:
    rows = make_rows(["small_dcgan_mnist"], "losses_and_penalties")
    names = " ".join(row.name for row in rows)
    for base, module in ((AdversarialLoss, losses), (Penalty, regularizers)):
        kinds = [kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, base)]
        for kind in kinds:
            assert inspect.isabstract(kind) or kind.__name__ in names
    assert len(rows) == len({row.name for row in rows}) == len(LOSSES) + len(PENALTIES)
    assert len(make_rows(["small_dcgan_mnist"], "product")) == len(LOSSES) * len(PENALTIES)


@pytest.mark.parametrize("loss", LOSSES)
def test_any_loss_trains_with_any_penalty(loss: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The flags of every row of the product, two updates each."""
    rows = [row for row in make_rows(["digits"], "product") if row.flags["model.loss"] == loss]
    for row in rows:
        flags = [word for name, value in row.flags.items() for word in (f"--{name}", value)]
        quiet = ["--metrics.extractor", "none", "--logger", "false", "--enable_progress_bar", "false"]
        assert Verb.train.main(["--config", "digits", "--accelerator", "cpu", "--max_steps", "2", *quiet, *flags]) == 0
    assert len(rows) == len(PENALTIES)


@pytest.mark.parametrize(
    ("args", "part"),
    [
        (["--recipes", "digit"], "digit"),
        (["--recipes", "digits,mlp_mnist"], "digits,mlp_mnist"),
        (["--recipes", "digits", "--max_time", "soon", "--num_images", "100"], "soon"),
        (["--recipes", "digits", "--data.rot", "x"], "root?"),
        (["--recipes", "digits", "--data.seed", "1"], "seed_everything"),
        (["--recipes", ","], "--recipes"),
        (["--recipes", "digits", "--seeds", "one"], "one"),
        (["--recipes", "digits", "--metrics", "is", "--num_images", "100"], "fid"),
        (["--recipes", "digits", "--vary", "all"], "'all'"),
        (["--recipes", "folder_64"], "ImageFolder"),
        (["--recipes", "digits", "--max_steps", "-5"], "-5"),
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
    assert not list(Path().rglob("trained.json"))
