"""The flag --method: where it comes from, what it decides, and refusals."""

from pathlib import Path

import pytest
import yaml

from gan_lightning.commands.train.cli import METHODS
from gan_lightning.commands.train.methods import METHODS as RECORDS
from gan_lightning.commands.train.settings import linked, method_of, settings
from gan_lightning.commands.verbs import Verb
from tests.helpers import refusal

main = Verb.train.main


def test_every_method_has_its_flags() -> None:
    assert set(METHODS) == set(RECORDS)
    for name, record in RECORDS.items():
        dests = {action.dest for action in Verb.train.make_parser(method=name)._actions}
        assert {"method", "model.generator", "model.discriminator", "image_grid.every_n_steps"} <= dests
        assert {dest.partition(".")[0] for dest in dests} > set(record.callbacks)
        config, *_ = settings(Verb.train.make_parser(method=name), ["--method", name])  # the method's own recipe
        assert config.method == name
    assert "model.discriminator.source_shape" in linked(RECORDS["PairedTranslation"])
    assert "model.discriminator.source_shape" not in linked(RECORDS["CycleGAN"])


def test_flags_win_over_files_and_later_files_over_earlier_ones() -> None:
    assert method_of([]) == "GAN"
    assert method_of(["--config", "digits"]) == "GAN"
    assert method_of(["--config", "cyclegan_mnist"]) == "CycleGAN"
    Path("own.yaml").write_text("method: PairedTranslation")
    Path("none.yaml").write_text("model: {l1_weight: 1}")
    assert method_of(["--config", "cyclegan_mnist", "--config", "own.yaml", "--config", "none.yaml"]) == "PairedTranslation"
    assert method_of(["--method", "CycleGAN", "--config=own.yaml"]) == "CycleGAN"


def test_the_settings_next_to_a_checkpoint_name_the_method() -> None:
    path = Path("run/checkpoints/last.ckpt")
    path.parent.mkdir(parents=True)
    path.touch()
    path.parents[1].joinpath("config.yaml").write_text("method: CycleGAN")
    for flag in ("--ckpt_path", "--init_from"):
        assert method_of([flag, str(path)]) == "CycleGAN"
    path.parents[1].joinpath("config.yaml").write_text("data: Digits")  # of an earlier version
    assert method_of(["--ckpt_path", str(path)]) == "GAN"


def test_an_unknown_method(capsys: pytest.CaptureFixture[str]) -> None:
    refusal(main, ["--method", "pix2pix"], capsys, "--method pix2pix", *METHODS)
    Path("own.yaml").write_text("method: [pix2pix]")
    refusal(main, ["--config", "own.yaml"], capsys, "pix2pix", *METHODS)


DERIVED = ["--data", "Derived", "--data.source", "Digits", "--data.degradation", "Hole"]


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["--config", "digits", *DERIVED], ["Derived", "--method"]),
        (["--config", "inpaint_mnist", "--data", "Digits"], ["Digits", "PairedTranslation"]),
        (["--config", "cyclegan_mnist", "--data", "Digits"], ["Digits", "CycleGAN"]),
        (["--config", "inpaint_mnist", "--data.paired", "false"], ["Derived", "--method CycleGAN"]),
        (["--config", "inpaint_mnist", "--model.generator", "DCGANGenerator"], ["--model.generator DCGANGenerator", "UNet"]),
        (["--config", "inpaint_mnist", "--model.generator.source_shape", "[1,8,8]"], ["source_shape", "data.source_shape"]),
        (["--config", "cyclegan_mnist", "--model.cycle_wieght", "3"], ["--model.cycle_weight"]),
        (["--config", "cyclegan_mnist", "--model.penalty", "R1"], ["--model.penalty"]),
    ],
)
def test_refused(args: list[str], named: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    refusal(main, args, capsys, *named)


SMALL = [
    *("--config", "inpaint_mnist", "--data.source", "Digits", "--data.batch_size", "4", "--accelerator", "cpu"),
    *("--model.generator.width", "4", "--model.discriminator.width", "4", "--model.discriminator.layers", "1"),
    *("--max_steps", "1", "--enable_progress_bar", "false", "--image_grid.rows", "1"),
]
CYCLE = ["--config", "cyclegan_mnist", *SMALL[2:]]


@pytest.mark.parametrize("args", [SMALL, CYCLE])
def test_weights_of_another_run(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Every layer of every network is taken, and another method's checkpoint is refused."""
    assert main(args) == 0
    path = "lightning_logs/version_0/checkpoints/last.ckpt"
    capsys.readouterr()
    assert main([*args, "--init_from", path]) == 0
    written = yaml.safe_load(Path("lightning_logs/version_1/config.yaml").read_text())
    assert written["init_from"] == path
    other = CYCLE if args is SMALL else SMALL
    refusal(main, [*other, "--init_from", path], capsys, path, written["method"])


@pytest.mark.parametrize("args", [SMALL, CYCLE])
def test_dry_run(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*args, "--dry_run"]) == 0
    printed = capsys.readouterr().out
    assert ("inverse generator" in printed) == (args is CYCLE)
    assert "UNetGenerator" in printed
    assert Path("lightning_logs/dry_run.png").is_file()


def test_compare_refuses_a_translation(capsys: pytest.CaptureFixture[str]) -> None:
    refusal(Verb.compare.main, ["--recipes", "inpaint_mnist"], capsys, "inpaint_mnist", "PairedTranslation")
