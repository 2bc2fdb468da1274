"""Lightning's callbacks and strategies: each works, or is refused before the run starts."""

import csv
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback, callbacks
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy

from gan_lightning.checkpoint import load_gan
from gan_lightning.commands.verbs import Verb
from gan_lightning.metrics import classifier
from gan_lightning.training.compatibility import REFUSED, STRATEGIES
from gan_lightning.training.trainer import make_trainer
from tests.helpers import error_line, refusal, refuses

main = Verb.train.main
SMALL = [
    *("--config", "digits", "--accelerator", "cpu", "--enable_progress_bar", "false", "--enable_model_summary", "false"),
    *("--model.generator.hidden", "[8]", "--model.discriminator.hidden", "[8]", "--data.batch_size", "256"),
    *("--image_grid.every_n_steps", "0", "--health.every_n_steps", "0"),
]
"""Five steps an epoch."""
MEASURED = [
    *(*SMALL, "--metrics.extractor", "classifier", "--metrics.num_images", "60"),
    *("--logger", "false"),
]
UNMEASURED = [*SMALL, "--metrics.extractor", "none"]
FD = "metrics/digits_fd_60"
SCORE = "metrics/digits_score_60"
RUN = Path("lightning_logs/version_0")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A classifier that is hardly trained."""
    monkeypatch.setattr(classifier, "FEWEST_IMAGES_SEEN", 1)
    monkeypatch.setattr(classifier, "EPOCHS", 1)


def added(name: str, **arguments: object) -> list[str]:
    """Flags that add a callback."""
    return [f"--trainer.callbacks+={name}", *(f"--trainer.callbacks.{key}={value}" for key, value in arguments.items())]


def steps() -> int:
    return int(load_gan(RUN / "checkpoints" / "last.ckpt")["global_step"])


class LateAverage(callbacks.WeightAveraging):
    """A custom average, as in Lightning's documentation."""


@pytest.mark.parametrize(
    "make",
    [
        LateAverage,
        lambda: callbacks.GradientAccumulationScheduler({0: 2}),
        callbacks.LearningRateFinder,
        callbacks.BatchSizeFinder,
        lambda: callbacks.StochasticWeightAveraging(0.1),
        callbacks.WeightAveraging,
        callbacks.EMAWeightAveraging,
        lambda: callbacks.ModelPruning("l1_unstructured"),
        callbacks.SpikeDetection,
        callbacks.BackboneFinetuning,
        lambda: callbacks.ModelCheckpoint(train_time_interval=timedelta(minutes=1)),
    ],
)
def test_refused_callbacks(make: Callable[[], Callback]) -> None:
    callback = make()
    with refuses("--trainer.callbacks", type(callback).__name__):
        make_trainer(Path(), False, callbacks=[callback])


def test_every_callback_of_lightning_was_tried() -> None:
    """A new version's callbacks are neither known to work nor refused."""
    works = {"DeviceStatsMonitor", "EarlyStopping", "LambdaCallback", "LearningRateMonitor", "ModelCheckpoint"} | {
        *("ModelSummary", "OnExceptionCheckpoint", "RichModelSummary", "RichProgressBar", "ThroughputMonitor"),
        *("TQDMProgressBar", "Timer"),
    }
    bases = {"BaseFinetuning", "BasePredictionWriter", "Callback", "Checkpoint", "ProgressBar"}
    assert {cls.__name__ for cls in REFUSED} | works | bases == set(callbacks.__all__)


@pytest.mark.parametrize(
    "strategy",
    ["ddp_spawn", "ddp_fork", "ddp_notebook", "ddp_spawn_find_unused_parameters_true", "fsdp", "deepspeed", "no_such"],
)
def test_refused_strategies(strategy: str) -> None:
    with refuses("--strategy", strategy):
        make_trainer(Path(), False, accelerator="cpu", devices=2, strategy=strategy)


@pytest.mark.parametrize("make", [FSDPStrategy, lambda: DDPStrategy(start_method="spawn")])
def test_refused_strategies_as_objects(make: Callable[[], Any]) -> None:
    with refuses("--strategy"):
        make_trainer(Path(), False, accelerator="cpu", devices=2, strategy=make())


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_accepted_strategies(strategy: str) -> None:
    assert make_trainer(Path(), False, accelerator="cpu", devices=1, strategy=strategy).world_size == 1


def test_a_refusal_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    refusal(main, [*UNMEASURED, *added("LearningRateFinder")], capsys, "--trainer.callbacks", "LearningRateFinder")
    refusal(main, [*UNMEASURED, "--strategy", "ddp_spawn", "--devices", "2"], capsys, "--strategy", "ddp_spawn")


def test_callbacks_that_work() -> None:
    args = [
        *(*UNMEASURED, "--max_steps", "6", "--log_every_n_steps", "2", "--logger", "csv"),
        *added("LearningRateMonitor"),
        *added("DeviceStatsMonitor", cpu_stats="true"),
        *added("ThroughputMonitor", batch_size_fn="builtins.len", window_size=2),
        *added("Timer", duration="01:00:00:00"),
        *added("OnExceptionCheckpoint", dirpath="failed"),
        *added("ModelCheckpoint", every_n_train_steps=3, save_top_k=-1, dirpath="kept"),
        *added("LambdaCallback"),
        *added("RichModelSummary"),
    ]
    assert main(args) == 0
    assert steps() == 6
    with (RUN / "metrics.csv").open() as file:
        columns = next(csv.reader(file))
    assert {"lr-Adam", "lr-Adam-1"} <= set(columns)
    assert any(column.startswith("DeviceStatsMonitor") for column in columns)
    assert sorted(load_gan(path)["global_step"] for path in Path("kept").iterdir()) == [3, 6]


@pytest.mark.parametrize("name", ["RichProgressBar", "TQDMProgressBar"])
def test_a_progress_bar_replaces_ours(name: str) -> None:
    assert main([*UNMEASURED, "--max_steps", "3", "--logger", "false", "--enable_progress_bar", "true", *added(name)]) == 0


def test_early_stopping_counts_measurements() -> None:
    """A value that is not measured again at the end of an epoch is not one that has not improved."""
    measure = ["--metrics.every_n_steps", "7", "--max_steps", "60"]  # an epoch has 5 steps
    never_better = {"monitor": FD, "min_delta": 1e9, "patience": 2}
    assert main([*MEASURED, *measure, *added("EarlyStopping", **never_better)]) == 0
    assert steps() == 21  # the first measurement counts as better than none


def test_early_stopping_goes_on_while_values_improve() -> None:
    measure = ["--metrics.every_n_steps", "2", "--max_steps", "12"]
    assert main([*MEASURED, *measure, *added("EarlyStopping", monitor=SCORE, mode="max", min_delta=-1e9, patience=1)]) == 0
    assert steps() == 12


@pytest.mark.parametrize(("monitor", "mode"), [(FD, "min"), (SCORE, "max")])
def test_a_checkpoint_by_a_metric_holds_the_weights_that_were_measured(monitor: str, mode: str) -> None:
    best = "fid" if monitor == FD else "is"
    args = [*MEASURED, "--metrics.every_n_steps", "3", "--metrics.best", best, "--max_steps", "14"]
    assert main([*args, *added("ModelCheckpoint", monitor=monitor, mode=mode, dirpath="mine")]) == 0
    (mine,) = Path("mine").glob("*.ckpt")
    ours = load_gan(RUN / "checkpoints" / "best.ckpt")
    assert load_gan(mine)["global_step"] == ours["global_step"]
    assert all(bool((load_gan(mine)["state_dict"][name] == weight).all()) for name, weight in ours["state_dict"].items())


WRONG: list[tuple[Sequence[str], dict[str, object], str]] = [
    (MEASURED, {"monitor": FD, "mode": "max"}, "mode=min"),
    (MEASURED, {"monitor": SCORE}, "mode=max"),
    (MEASURED, {"monitor": "metrics/fid_50k"}, FD),
    (MEASURED, {"monitor": "train/generator_loss"}, FD),
    (MEASURED, {"monitor": "val_loss"}, FD),
    (UNMEASURED, {"monitor": FD}, "--metrics.extractor"),
]


@pytest.mark.parametrize("name", ["EarlyStopping", "ModelCheckpoint"])
@pytest.mark.parametrize(("flags", "arguments", "advice"), WRONG)
def test_wrong_monitors(
    name: str, flags: Sequence[str], arguments: dict[str, object], advice: str, capsys: pytest.CaptureFixture[str]
) -> None:
    args = [*flags, "--max_steps", "3", *added(name, **arguments)]
    refusal(main, args, capsys, name, arguments["monitor"], advice)


def test_a_checkpoint_by_a_metric_and_by_steps(capsys: pytest.CaptureFixture[str]) -> None:
    both = added("ModelCheckpoint", monitor=FD, every_n_train_steps=2)
    refusal(main, [*MEASURED, "--max_steps", "3", *both], capsys, "ModelCheckpoint", "every_n_train_steps")


def test_an_error_within_a_callback_of_lightning(capsys: pytest.CaptureFixture[str]) -> None:
    """A custom callback might log the value, so only Lightning's own check at the end of the epoch finds it."""
    args = [*UNMEASURED, "--max_steps", "6", "--logger", "false", *added("tests.helpers.Batches")]
    assert main([*args, *added("EarlyStopping", monitor="mine")]) == 2
    error_line(capsys.readouterr().err, "--trainer.callbacks", "EarlyStopping", "mine")


def test_a_batch_of_one_with_batch_norm(capsys: pytest.CaptureFixture[str]) -> None:
    one = [*UNMEASURED, "--max_steps", "3", "--logger", "false", "--data.batch_size", "1"]
    for flags in ([], ["--dry_run"]):
        assert main([*one, *flags]) == 2
        error_line(capsys.readouterr().err, "--data.batch_size 1")
    assert main([*one, "--data.batch_size", "2"]) == 0
    assert main([*one, "--model.generator.batch_norm", "false"]) == 0
