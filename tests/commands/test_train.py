"""The train command, as users type it."""

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy
import pytest
import torch
import yaml
from PIL import Image

import gan_lightning
from gan_lightning import checkpoint, files
from gan_lightning.commands.common.recipes import recipes
from gan_lightning.commands.verbs import Verb
from gan_lightning.schedules import CosineSchedule
from tests.faults.runs import LAST, finish, run, start, wait_for
from tests.helpers import error_line, interrupted, refusal, write_mnist

main = Verb.train.main

SMALL = [
    *("--config", "digits", "--accelerator", "cpu", "--enable_progress_bar", "false", "--enable_model_summary", "false"),
    *("--model.generator.hidden", "[8]", "--model.discriminator.hidden", "[8]", "--metrics.extractor", "none"),
]
SCRIPT = Path(__file__).parents[2] / "scripts" / "train.py"


def config(run: str | Path) -> dict[str, dict[str, object]]:
    loaded = yaml.safe_load((Path(run) / "config.yaml").read_text())
    assert isinstance(loaded, dict)
    return loaded


def steps(run: str | Path) -> int:
    return int(checkpoint.load_gan(Path(run) / "checkpoints" / "last.ckpt")["global_step"])


def test_a_run_writes_its_files_and_prints_their_paths(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--max_steps", "30", "--image_grid.every_n_steps", "20"]) == 0
    printed = capsys.readouterr().out
    run = Path("lightning_logs/version_0")
    for path in ("images/step_00000030.png", "checkpoints/last.ckpt"):
        assert (run / path).is_file()
        assert str(run / path) in printed
    assert "tensorboard --logdir lightning_logs" in printed
    assert "--config dcgan_mnist" in printed
    assert (run / "images" / "real.png").is_file()
    assert (run / "images" / "step_00000020.png").is_file()
    assert list(run.glob("events.out.tfevents.*"))
    assert config(run)["trainer"]["max_steps"] == 30
    assert config(run)["model"]["discriminator_steps"] == 1
    assert gan_lightning.load(run / "checkpoints" / "last.ckpt").sample(2).shape == (2, 1, 8, 8)


def test_a_config_repeats_the_run() -> None:
    assert main([*SMALL, "--max_steps", "25", "--seed_everything", "7"]) == 0
    assert main(["--config", "lightning_logs/version_0/config.yaml"]) == 0
    one, two = (files.load(f"lightning_logs/version_{n}/checkpoints/last.ckpt")["state_dict"] for n in (0, 1))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert (Path("lightning_logs/version_0/config.yaml")).read_text() == Path(
        "lightning_logs/version_1/config.yaml"
    ).read_text()
    assert main([*SMALL, "--max_steps", "25", "--seed_everything", "8"]) == 0
    three = files.load("lightning_logs/version_2/checkpoints/last.ckpt")["state_dict"]
    assert not all(torch.equal(one[name], three[name]) for name in one)


def parsed(args: Sequence[str], capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, object]]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main([*args, "--print_config"])
    assert stopped.value.code == 0
    loaded = yaml.safe_load(capsys.readouterr().out)
    assert isinstance(loaded, dict)
    return loaded


def test_a_short_flag_its_dotted_form_and_the_yaml_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = {
        "max_steps": 17,
        "devices": 2,
        "precision": "bf16-mixed",
        "accelerator": "cpu",
        "logger": "csv",
        "log_every_n_steps": 3,
    }
    file = tmp_path / "own.yaml"
    file.write_text(yaml.safe_dump({"trainer": values}))
    forms = [
        [word for name, value in values.items() for word in (f"--{name}", str(value))],
        [f"--{name}={value}" for name, value in values.items()],
        [word for name, value in values.items() for word in (f"--trainer.{name}", str(value))],
        ["--config", str(file)],
    ]
    results = [parsed(form, capsys)["trainer"] for form in forms]
    for result in results:
        result["devices"] = int(str(result["devices"]))  # Lightning takes it as text too, and so it stays from a flag
        assert {name: result[name] for name in values} == values
        result.pop("max_epochs")  # from the default recipe; the file replaces it
    assert all(result == results[0] for result in results)


def test_flags_override_yaml_in_any_position(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("trainer: {max_steps: 7}\ndata: {class_path: Digits, init_args: {batch_size: 32}}\n")
    for flags in (
        ["--max_steps", "3", "--data.batch_size", "16", "--config", str(file)],
        ["--config", str(file), "--data.batch_size", "16", "--max_steps", "3"],
        ["--data.batch_size=16", f"--config={file}", "--trainer.max_steps=3"],
    ):
        result = parsed(flags, capsys)
        assert result["trainer"]["max_steps"] == 3
        assert result["data"]["class_path"] == "gan_lightning.data.Digits"
        assert result["data"]["init_args"]["batch_size"] == 16  # type: ignore[index]
    assert parsed(["--config", str(file)], capsys)["trainer"]["max_steps"] == 7
    assert parsed([], capsys)["trainer"]["max_steps"] not in (3, 7)


def test_arguments_may_come_before_their_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = parsed(
        ["--data.image_size", "32", "--data.root", str(tmp_path), "--model.generator.hidden", "[5]", "--data", "ImageFolder"]
        + ["--model.generator", "MLPGenerator"],
        capsys,
    )
    assert result["data"]["init_args"]["image_size"] == 32  # type: ignore[index]
    assert result["model"]["generator"]["init_args"]["hidden"] == [5]  # type: ignore[index]


def test_the_default_is_a_dcgan_on_mnist(capsys: pytest.CaptureFixture[str]) -> None:
    result = parsed([], capsys)
    assert result == parsed(["--config", "dcgan_mnist"], capsys)
    assert result["data"]["class_path"] == "gan_lightning.data.MNIST"
    assert result["model"]["generator"]["class_path"] == "gan_lightning.networks.DCGANGenerator"  # type: ignore[index]


@pytest.mark.parametrize("source", ["MNIST", "FashionMNIST", "CIFAR10", "Digits"])
def test_any_data_set_by_a_flag(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert parsed(["--data", source], capsys)["data"]["class_path"] == f"gan_lightning.data.{source}"


def test_networks_optimizers_and_losses_by_class_path(capsys: pytest.CaptureFixture[str]) -> None:
    result = parsed(
        ["--model.loss", "MinimaxLoss", "--model.generator_optimizer", "torch.optim.RMSprop"]
        + ["--model.generator_optimizer.lr", "0.01", "--model.discriminator_optimizer.lr", "0.002"],
        capsys,
    )["model"]
    assert result["loss"] == {"class_path": "gan_lightning.losses.MinimaxLoss"}
    assert result["generator_optimizer"]["class_path"] == "torch.optim.RMSprop"  # type: ignore[index]
    assert result["generator_optimizer"]["init_args"]["lr"] == 0.01  # type: ignore[index]
    adam = result["discriminator_optimizer"]["init_args"]  # type: ignore[index]
    recipe = yaml.safe_load(recipes()["dcgan_mnist"].read_text())["model"]["discriminator_optimizer"]["init_args"]
    assert (adam["lr"], adam["betas"]) == (0.002, recipe["betas"])


def test_last_continues_in_the_same_folder() -> None:
    assert main([*SMALL, "--max_steps", "10"]) == 0
    before = Path("lightning_logs/version_0/config.yaml").read_text()
    assert main(["--ckpt_path", "last", "--max_steps", "30"]) == 0
    assert [path.name for path in Path("lightning_logs").iterdir()] == ["version_0"]
    assert steps("lightning_logs/version_0") == 30
    assert config("lightning_logs/version_0")["trainer"]["max_steps"] == 30
    assert Path("lightning_logs/version_0/config_1.yaml").read_text() == before
    assert Path("lightning_logs/version_0/images/step_00000010.png").is_file()  # nothing is lost
    assert Path("lightning_logs/version_0/images/step_00000030.png").is_file()


COSINE = ["--schedules.learning_rate", "CosineSchedule", "--schedules.learning_rate.end", "0.25"]


def annealed_over(run: str | Path) -> int:
    """Length of a run with the schedule :data:`COSINE`; settings, checkpoint and last step must agree on it."""
    settings, content = config(run), checkpoint.load_gan(Path(run) / "checkpoints" / "last.ckpt")
    assert settings["schedules"]["learning_rate"]["init_args"]["steps"] is None  # type: ignore[index]
    length = content["callbacks"]["Schedules"]["length"]
    assert settings["run_length"] == length
    for state in content["optimizer_states"]:
        group = state["param_groups"][0]
        assert group["lr"] / group["initial_lr"] == pytest.approx(CosineSchedule(length, end=0.25)(steps(run) - 1))
    return int(length)


def other_lengths(capsys: pytest.CaptureFixture[str]) -> list[list[int]]:
    """Numbers in each line that reports another length of the schedules."""
    lines = [line for line in capsys.readouterr().out.splitlines() if "instead of" in line]
    return [[int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*", line)] for line in lines]


@pytest.mark.parametrize(
    ("limits", "length"),
    [(["--max_steps", "20"], 20), (["--max_steps", "-1", "--max_epochs", "1"], 22), (["--max_time", "01:00:00:00"], 20)],
)
def test_schedules_without_steps_end_with_the_run(limits: list[str], length: int, capsys: pytest.CaptureFixture[str]) -> None:
    """They end after --max_steps or epochs x batches, even with a time limit. A repeated run may be longer."""
    assert main([*SMALL, *COSINE, "--max_steps", "20", *limits]) == 0
    assert annealed_over("lightning_logs/version_0") == steps("lightning_logs/version_0") == length
    assert main(["--config", "lightning_logs/version_0/config.yaml", "--max_steps", "25", "--max_epochs", "-1"]) == 0
    assert annealed_over("lightning_logs/version_1") == steps("lightning_logs/version_1") == 25
    assert other_lengths(capsys) == []


def test_resuming_with_another_length_is_reported(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One line has the update, the new length and the old one. Nothing is printed if the length is the same or unused."""
    run = Path("lightning_logs/version_0")
    interrupted([*SMALL, *COSINE, "--max_steps", "1200"], 6, monkeypatch)
    assert (steps(run), annealed_over(run)) == (6, 1200)
    interrupted(["--ckpt_path", "last"], 8, monkeypatch)
    assert other_lengths(capsys) == []
    assert main(["--ckpt_path", "last", "--max_steps", "12"]) == 0
    assert (steps(run), annealed_over(run)) == (12, 12)
    assert other_lengths(capsys) == [[8, 12, 1200]]
    assert main(["--ckpt_path", str(run / "checkpoints" / "last.ckpt"), "--max_epochs", "1", "--max_steps", "-1"]) == 0
    assert (steps("lightning_logs/version_1"), annealed_over("lightning_logs/version_1")) == (22, 22)
    assert other_lengths(capsys) == [[12, 22, 12]]
    assert main(["--ckpt_path", "last", "--max_epochs", "2", "--schedules.learning_rate.steps", "50"]) == 0
    assert other_lengths(capsys) == []


def test_a_time_limit_alone_is_no_length_for_schedules(capsys: pytest.CaptureFixture[str]) -> None:
    """It is allowed for a run without such a schedule. The dry run reports how many updates fit."""
    time_alone = ["--max_time", "00:00:00:01", "--max_steps", "-1", "--max_epochs", "-1"]
    refusal(main, [*SMALL, *COSINE, *time_alone], capsys, "schedules.learning_rate", "--max_steps", "--dry_run")
    line = refusal(main, [*SMALL, *COSINE, *time_alone, "--dry_run"], capsys)
    (fit,) = re.findall(r"--max_steps (\d+)$", line)
    assert int(fit) > 10
    for one_that_fits in (["--max_steps", "3"], ["--schedules.learning_rate.steps", "3"]):
        assert main([*SMALL, *COSINE, *time_alone, *one_that_fits]) == 0


def test_last_is_the_newest_run() -> None:
    for n in (5, 9):
        assert main([*SMALL, "--max_steps", str(n)]) == 0
    for version in range(3, 12):  # version_10 is newer than version_9
        shutil.copytree("lightning_logs/version_1", f"lightning_logs/version_{version}")
    assert main(["--ckpt_path", "last", "--max_steps", "12"]) == 0
    assert [steps(f"lightning_logs/version_{n}") for n in (0, 1, 9, 11)] == [5, 9, 9, 12]


def test_a_given_checkpoint_continues_in_a_new_folder() -> None:
    assert main([*SMALL, "--max_steps", "10"]) == 0
    assert main([*SMALL, "--ckpt_path", "lightning_logs/version_0/checkpoints/last.ckpt", "--max_steps", "15"]) == 0
    assert [steps(f"lightning_logs/version_{n}") for n in (0, 1)] == [10, 15]
    assert config("lightning_logs/version_1")["ckpt_path"] is None


def test_init_from_loads_only_the_weights() -> None:
    assert main([*SMALL, "--max_steps", "30"]) == 0
    source = files.load("lightning_logs/version_0/checkpoints/last.ckpt")["state_dict"]
    still = ["--model.generator_optimizer.lr", "0", "--model.discriminator_optimizer.lr", "0", "--max_steps", "4"]
    path = "lightning_logs/version_0/checkpoints/last.ckpt"
    assert main([*SMALL, *still, "--init_from", path]) == 0
    content = files.load("lightning_logs/version_1/checkpoints/last.ckpt")
    assert content["global_step"] == 4
    learned = [name for name in source if not name.startswith("ema.") and "running" not in name and "batches" not in name]
    assert all(torch.equal(content["state_dict"][name], source[name]) for name in learned)


@pytest.mark.parametrize("logger", ["csv", "[csv,tensorboard]", "false"])
def test_loggers(logger: str) -> None:
    assert main([*SMALL, "--max_steps", "4", "--logger", logger]) == 0
    run = Path("lightning_logs/version_0")
    assert (run / "metrics.csv").is_file() == ("csv" in logger)
    assert bool(list(run.glob("events*"))) == ("tensorboard" in logger)
    assert (run / "images" / "step_00000004.png").is_file()
    assert (run / "checkpoints" / "last.ckpt").is_file()


def test_wandb_is_an_extra(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        import wandb  # type: ignore[import-not-found, unused-ignore]  # noqa: F401
    except ModuleNotFoundError:
        refusal(main, [*SMALL, "--logger", "wandb"], capsys, "wandb")
    else:
        monkeypatch.setenv("WANDB_MODE", "offline")
        assert main([*SMALL, "--max_steps", "2", "--logger", "wandb"]) == 0


def test_a_fast_dev_run_and_a_run_without_checkpoints() -> None:
    assert main([*SMALL, "--fast_dev_run", "true"]) == 0
    assert main([*SMALL, "--max_steps", "2", "--enable_checkpointing", "false"]) == 0
    assert not list(Path("lightning_logs").rglob("*.ckpt"))


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["--max_epoch", "3"], ["--max_epoch", "--max_epochs"]),
        (["--data.batch_siz", "3"], ["MNIST", "batch_siz", "batch_size?"]),
        (["--model.generator.widht", "3"], ["DCGANGenerator", "widht", "width?"]),
        (["--image_grid.row", "3"], ["--image_grid.row", "--image_grid.rows?"]),
        (["--data", "MNST"], ["--data MNST", "MNIST?"]),
        (["--model.generator", "DCGenerator"], ["DCGenerator", "DCGANGenerator?"]),
        (["--max_epochs", "many"], ["--trainer.max_epochs", "'many'", "whole number"]),
        (["--max_steps", "1.5"], ["--trainer.max_steps", "'1.5'", "whole number"]),
        (["--data.batch_size", "many"], ["--data", "batch_size", "many", "whole number"]),
        (["--model.ema_halflife", "long"], ["--model.ema_halflife", "'long'"]),
        (["--seed_everything", "x"], ["--seed_everything", "'x'", "whole number"]),
        (["--seed_everything", "-1"], ["--seed_everything", "'-1'"]),
        (["--logger", "cvs"], ["--trainer.logger", "'cvs'", "tensorboard, csv, wandb"]),
        (["--config", "digit"], ["--config digit", "digits?", ".yaml"]),
        (["--config", "nowhere.yaml"], ["--config nowhere.yaml"]),
        (["--data", "ImageFolder"], ["ImageFolder", "--data.root"]),
        (["--data", "ImageFolder", "--data.root", "nowhere"], ["nowhere"]),
        (["--data.batch_size", "0"], ["data.batch_size is 0"]),
        (
            ["--config", "digits", "--data.batch_size", "5000"],
            ["data.batch_size is 5000", "--data.batch_size 1437"],
        ),
        (["--accelerator", "gpuu"], ["accelerator='gpuu'", "cpu"]),
        (["--config", "digits", "--precision", "12"], ["12"]),
        (["--config", "digits", "--devices", "0", "--accelerator", "cpu"], ["devices='0'"]),
        (["--config", "digits", "--gradient_clip_val", "1", "--accelerator", "cpu"], ["clip"]),
        (["--ckpt_path", "last"], ["--ckpt_path last", "lightning_logs"]),
        (["--ckpt_path", "nowhere.ckpt"], ["nowhere.ckpt"]),
        (["--config", "digits", "--init_from", "nowhere.ckpt"], ["nowhere.ckpt"]),
        (["--config", "digits", "--init_from", "digits"], ["--init_from digits", "discriminator"]),
        (["--ckpt_path", "digits"], ["--ckpt_path digits", "discriminator"]),
        (["digits"], ["'digits'"]),
        (["--config", "digits", "--max_steps", "3", ""], ["''"]),
        (["--data.batch_size", "null"], ["--data.batch_size", "null"]),
        (
            ["--model.penalty+=R1", "--model.penalty+=R2", "--model.penalty.gamma", "null"],
            ["--model.penalty.gamma", "null"],
        ),
        (
            ["--config", "digits", "--model.generator.latent_dim", str(2**58)],
            ["memory", "smaller"],
        ),
        (
            ["--config", "digits", "--model.generator.latent_dim", str(2**99)],
            ["memory", "smaller"],
        ),
        (["--schedules.beta2", "[48]"], ["--schedules.beta2", "'[48]'", "Schedule"]),
        (["--model.loss", "null"], ["--model.loss", "'None'", "AdversarialLoss"]),
        (
            ["--config", "mlp_mnist", "--model.penalty", "R1", "--model.penalty.gamma", "x"],
            ["--model.penalty.gamma", "'x'"],
        ),
        (["--config", "x" * 300 + ".yaml"], ["x.yaml", "name too long"]),
        (["--data", "ImageFolder", "--data.root", "x" * 300], ["xxx", "name too long"]),
        (["--init_from", "x" * 300], ["xxx", "name too long"]),
        (["--init_from", "x" * 300 + "/checkpoints/last.ckpt"], ["config.yaml", "name too long"]),
        (["--seed_everything", "5000000000"], ["--seed_everything", "from 0 to 4294967295"]),
        (["--config", "mlp_mnist", "--model.penalty", "R1", "--model.penalty.gamma", "-1"], ["gamma is -1", "above 0"]),
        (
            ["--config", "mlp_mnist", "--model.penalty+=R1", "--model.penalty+=R2", "--model.penalty.gamma", "-3"],
            ["R2", "gamma is -3"],
        ),
        (
            ["--config", "r3gan_mnist_slim", "--model.penalty.gamma", "1"],
            ["--model.penalty.gamma", "2 penalties", "--model.penalty+=R1"],
        ),
        (
            ["--config", "mlp_mnist", "--schedules.penalty", "LinearSchedule", "--schedules.penalty.steps", "0"],
            ["steps", "0", "at least 1"],
        ),
        (["--config", "mlp_mnist", "--model.augmentation", "DifAugment"], ["DifAugment", "DiffAugment?"]),
        (["--config", "mlp_mnist", "--model.discriminator.dropout", "1"], ["dropout is 1", "below 1"]),
        (["--config", "digits", "--model.generator_optimizer.lr", "-1"], ["optimizer", "-1"]),
        (["--config", "digits", "--precision", "bf16-true"], ["--precision bf16-true", "16-mixed", "bf16-mixed"]),
        (["--config", "digits", "--precision", "64-true"], ["--precision 64-true", "16-mixed", "bf16-mixed"]),
        (["--config", "digits", "--overfit_batches", "1"], ["--overfit_batches 1", "--data.root"]),
        (["--config", "digits", "--precision", "64"], ["--precision 64", "16-mixed", "bf16-mixed"]),
        (["--model.generator", "MLPDiscriminator"], ["--model.generator"]),
        (["--model.generator", "os.system"], ["--model.generator", "os.system"]),
        (["--data.seed", "1"], ["--data.seed", "seed_everything"]),
        (["--run_length", "5"], ["--run_length", "max_steps"]),
        (["--model.generator.num_classes", "3"], ["--model.generator.num_classes", "data.num_classes"]),
        (["--config", "digits", "--default_root_dir", "/dev/null/x"], ["/dev/null/x", "--default_root_dir"]),
        (["--config", "mlp_mnist", "--model.generator.conditioning", "batch_norm"], ["conditioning is batch_norm", "None"]),
    ],
)
def test_bad_input_gets_one_line(args: list[str], parts: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    write_mnist(tmp_path / "data")
    line = refusal(main, args, capsys, *parts)
    assert len(line) < 400 + len(" ".join(args))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    refusal(main, [*SMALL, "--accelerator", "gpu"], capsys, "--accelerator gpu", "--accelerator cpu")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("trainer: {max_epoch: 3}", ["own.yaml", "trainer.max_epoch", "max_epochs?"]),
        ("dat: MNIST", ["own.yaml", "dat", "data?"]),
        ("data: {class_path: MNIST, init_args: {batchsize: 3}}", ["MNIST", "batchsize", "batch_size?"]),
        ("trainer: {max_epochs: many}", ["trainer.max_epochs", "'many'", "whole number"]),
        ("data: [unclosed", ["own.yaml"]),
        ("trainer: 5", ["trainer is 5"]),
        ("trainer:", ["trainer"]),
        ("just a word", ["own.yaml"]),
    ],
)
def test_a_bad_config(text: str, parts: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("own.yaml").write_text(text)
    refusal(main, ["--config", "own.yaml"], capsys, *parts)


def test_a_damaged_checkpoint_is_refused_before_anything_is_made(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main([*SMALL, "--max_steps", "2"]) == 0
    whole = Path("lightning_logs/version_0/checkpoints/last.ckpt").read_bytes()
    shutil.rmtree("lightning_logs")
    flipped = bytearray(whole)
    flipped[whole.index(b"running_mean")] ^= 1
    for name, content in {"cut": whole[: len(whole) // 2], "flipped": bytes(flipped), "foreign": b"no checkpoint"}.items():
        Path(f"{name}.ckpt").write_bytes(content)
        for flag in ("--ckpt_path", "--init_from"):
            refusal(main, [*SMALL, flag, f"{name}.ckpt"], capsys, f"{name}.ckpt")
    torch.save({"state_dict": {}}, "other.ckpt")
    refusal(main, [*SMALL, "--ckpt_path", "other.ckpt"], capsys, "other.ckpt", "train.py")


def test_a_checkpoint_of_another_model_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main([*SMALL, "--max_steps", "2"]) == 0
    Path("lightning_logs/version_0/checkpoints/last.ckpt").rename("one.ckpt")
    shutil.rmtree("lightning_logs")
    other = [*SMALL, "--model.generator.hidden", "[9]"]
    refusal(main, [*other, "--ckpt_path", "one.ckpt"], capsys, "generator", "hidden [8]", "[9]")


def test_no_network_and_no_files(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("torchvision.datasets.MNIST.mirrors", ["http://127.0.0.1:9/"])
    refusal(main, ["--accelerator", "cpu"], capsys, tmp_path / "data", "MNIST/raw", "--config digits")


def test_help_lists_the_flags_of_all_parts(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    for flag in ("--config", "--ckpt_path", "--init_from", "--trainer.max_epochs", "--model.ema_halflife", "--image_grid.rows"):
        assert flag in printed


def test_a_finished_run_reports_that_nothing_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--max_steps", "10"]) == 0
    assert main(["--ckpt_path", "last"]) == 0
    assert "--max_epochs" in capsys.readouterr().out
    assert steps("lightning_logs/version_0") == 10


def test_ckpt_path_and_init_from_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--max_steps", "2"]) == 0
    shutil.move("lightning_logs/version_0/checkpoints/last.ckpt", "one.ckpt")
    shutil.rmtree("lightning_logs")
    both = ["--ckpt_path", "one.ckpt", "--init_from", "one.ckpt"]
    refusal(main, [*SMALL, *both], capsys, "--ckpt_path one.ckpt", "--init_from one.ckpt")


def test_a_run_started_from_weights_is_resumed() -> None:
    assert main([*SMALL, "--max_steps", "3"]) == 0
    assert main(["--init_from", "lightning_logs/version_0/checkpoints/last.ckpt"]) == 0  # with the config next to it
    assert steps("lightning_logs/version_1") == 3
    assert main(["--ckpt_path", "last", "--max_steps", "5"]) == 0
    assert steps("lightning_logs/version_1") == 5
    assert str(config("lightning_logs/version_1")["init_from"]) == "lightning_logs/version_0/checkpoints/last.ckpt"


def test_a_refused_resume_keeps_the_config(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--max_epochs", "3"]) == 0
    before = Path("lightning_logs/version_0/config.yaml").read_text()
    refusal(main, ["--ckpt_path", "last", "--max_epochs", "1"], capsys, "max_epochs=1")
    assert Path("lightning_logs/version_0/config.yaml").read_text() == before
    assert main(["--ckpt_path", "last", "--max_epochs", "4"]) == 0
    assert steps("lightning_logs/version_0") == 4 * 22


OWN_NETWORK = """
from gan_lightning.networks import MLPGenerator
class OwnGenerator(MLPGenerator):
    def __init__(self, image_shape: tuple[int, int, int], num_classes: int = 0, width: int = 8):
        super().__init__(image_shape, num_classes, hidden=[width])
"""


def test_a_custom_network_in_the_current_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the script."""
    Path("own_module.py").write_text(OWN_NETWORK)
    args = [*SMALL[:8], "--metrics.extractor", "none", "--max_steps", "2", "--model.discriminator.conditioning", "null"]
    args += ["--model.generator", "own_module.OwnGenerator", "--model.generator.width", "5"]
    done = subprocess.run([sys.executable, SCRIPT, *args], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert checkpoint.load_gan(LAST)["gan_lightning"]["generator"]["arguments"]["width"] == 5
    monkeypatch.syspath_prepend(Path.cwd())
    assert gan_lightning.load(LAST, trust=["own_module"]).sample(2).shape == (2, 1, 8, 8)


def test_strategy_ddp_works_with_two_optimizers() -> None:
    code, said, error = run(*SMALL, "--max_steps", "2", "--devices", "2", "--strategy", "ddp")
    assert code == 0, error
    assert sum("--strategy ddp" in line for line in said.splitlines()) == 1


def test_the_grid_equals_the_images_of_sample(capsys: pytest.CaptureFixture[str]) -> None:
    """With a conditional generator, each column is one class. The summary names both networks."""
    assert main([*SMALL, "--enable_model_summary", "true", "--max_steps", "2", "--image_grid.rows", "3"]) == 0
    printed = capsys.readouterr().out
    assert "MLPGenerator, " in printed
    assert "FLOPs" not in printed
    assert Verb.sample.main([str(LAST), "--num_images", "30", "--output", "drawn.png", "--accelerator", "cpu"]) == 0
    drawn, grid = (
        numpy.asarray(Image.open(path)).astype(int)
        for path in ("drawn.png", "lightning_logs/version_0/images/step_00000002.png")
    )
    assert drawn.shape == grid.shape
    assert abs(drawn - grid).max() <= 1


def test_ctrl_c_ends_the_run_after_its_step_and_saves() -> None:
    running = start(*SMALL, "--max_epochs", "100000")
    assert wait_for(LAST.is_file, running), finish(running)
    running.send_signal(signal.SIGINT)
    code, out, err = finish(running, 60)
    assert code == 130, err
    assert "Traceback" not in err
    assert "Interrupted: " in out
    made = steps("lightning_logs/version_0")
    assert f" {made:,} in total" in out
    assert Path(f"lightning_logs/version_0/images/step_{made:08d}.png").is_file()
    assert main(["--ckpt_path", "last", "--max_steps", str(made + 2), "--max_epochs", "-1"]) == 0
    assert steps("lightning_logs/version_0") == made + 2


def test_arguments_belong_to_the_penalty_before_them() -> None:
    penalties = ["--model.penalty", "null", "--model.penalty+=R1", "--model.penalty.gamma", "0.3"]
    penalties += ["--model.penalty+=R2", "--model.penalty.every", "4"]
    assert main([*SMALL, "--max_steps", "1", *penalties]) == 0
    config = yaml.safe_load(Path("lightning_logs/version_0/config.yaml").read_text())
    found = [(penalty["class_path"].rpartition(".")[2], penalty["init_args"]) for penalty in config["model"]["penalty"]]
    assert found == [("R1", {"gamma": 0.3, "every": 1}), ("R2", {"gamma": 1.0, "every": 4})]


def test_settings_changed_on_resuming_apply_and_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    """A diverging run needs a smaller learning rate; the checkpoint's must not silently override it."""
    assert main([*SMALL, "--max_steps", "4"]) == 0
    printed = capsys.readouterr().out
    linear = ["--schedules.learning_rate", "LinearSchedule", "--schedules.learning_rate.end", "0"]
    more = ["--model.generator_optimizer.lr", "1e-5", *linear, "--schedules.learning_rate.steps", "12"]
    assert main(["--ckpt_path", "last", "--max_steps", "6", *more]) == 0
    printed = capsys.readouterr().out
    (line,) = [line for line in printed.splitlines() if "differ from the earlier run" in line]
    assert "model.generator_optimizer.lr" in line
    assert "schedules.learning_rate" in line
    assert "max_steps" not in line
    content = checkpoint.load_gan("lightning_logs/version_0/checkpoints/last.ckpt")
    generator, discriminator = (state["param_groups"][0] for state in content["optimizer_states"])
    assert generator["lr"] == pytest.approx(1e-5 * (1 - 5 / 12))  # of the sixth step
    assert discriminator["lr"] > 1e-5
    assert main(["--ckpt_path", "last", "--max_steps", "8"]) == 0
    assert "earlier run" not in capsys.readouterr().out
    content = checkpoint.load_gan("lightning_logs/version_0/checkpoints/last.ckpt")
    assert content["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(1e-5 * (1 - 7 / 12))


def test_a_run_with_custom_classes_prints_how_to_resume() -> None:
    Path("own_module.py").write_text(OWN_NETWORK)
    own = ["--model.generator", "own_module.OwnGenerator", "--model.discriminator.conditioning", "null"]
    args = ["--config", "digits", "--accelerator", "cpu", "--metrics.extractor", "none", *own]
    running = start(*args, "--max_steps", "100000")
    assert wait_for(LAST.is_file, running), finish(running)
    running.send_signal(signal.SIGINT)
    _, out, _ = finish(running, 60)
    assert "--ckpt_path last --trust own_module" in out
    end = str(steps("lightning_logs/version_0") + 2)
    code, _, error = run("--ckpt_path", "last", "--max_steps", end)
    assert code == 2
    error_line(error, "--trust own_module")
    code, _, error = run("--ckpt_path", "last", "--max_steps", end, "--trust", "own_module")
    assert code == 0, error


def test_a_checkpoint_without_its_settings_is_not_resumed_with_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--max_steps", "2"]) == 0
    Path("lightning_logs/version_0/config.yaml").rename("own.yaml")
    for flag in ("--ckpt_path", "--init_from"):
        path = "lightning_logs/version_0/checkpoints/last.ckpt"
        refusal(main, [flag, path], capsys, "lightning_logs/version_0/config.yaml", path, "--config")
    assert main(["--ckpt_path", "last", "--config", "own.yaml", "--max_steps", "3"]) == 0


def test_a_run_continued_in_a_new_folder_has_a_checkpoint_at_once() -> None:
    assert main([*SMALL, "--max_steps", "2"]) == 0
    path = Path("lightning_logs/version_0/checkpoints/last.ckpt")
    more = ["--ckpt_path", str(path), "--max_steps", "4"]
    assert main([*more, "--model.generator_optimizer.lr", "1e38", "--log_every_n_steps", "1"]) == 2  # before it has saved
    assert Path("lightning_logs/version_1/checkpoints/last.ckpt").read_bytes() == path.read_bytes()
    assert main(["--ckpt_path", "last", "--max_steps", "4", "--model.generator_optimizer.lr", "1e-4"]) == 0
    assert steps("lightning_logs/version_1") == 4


@pytest.mark.parametrize(
    ("entry", "value"),
    [("optimizer_states", 5), ("optimizer_states", []), ("loops", {}), ("callbacks", {"TrainingLog": 5}), ("epoch", "x")]
    + [("global_step", -5)],
)
def test_a_checkpoint_with_a_wrong_entry_is_refused(entry: str, value: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--max_steps", "2"]) == 0
    path = Path("lightning_logs/version_0/checkpoints/last.ckpt")
    content = files.load(path)
    files.save({**content, entry: value}, path)
    refusal(main, ["--ckpt_path", "last", "--max_steps", "4"], capsys, path, entry)


def test_a_run_in_another_folder_prints_how_to_resume() -> None:
    running = start(*SMALL, "--max_steps", "1000000", "--default_root_dir", "my runs")
    assert wait_for((Path("my runs") / LAST).is_file, running), finish(running)
    running.send_signal(signal.SIGTERM)
    code, out, _ = finish(running, 60)
    assert code == 143
    assert "--ckpt_path last --default_root_dir 'my runs'\n" in out
