"""Metrics as the run goes on."""

import json
import math
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, Timer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from gan_lightning import checkpoint
from gan_lightning.callbacks import Checkpoints, GenerativeMetrics, StopSignals
from gan_lightning.commands.verbs import Verb
from gan_lightning.data import CIFAR10, MNIST, Digits, ImageDataModule, ImageFolder, StackedMNIST
from gan_lightning.errors import InputError
from gan_lightning.gan import GAN
from gan_lightning.losses import NonSaturatingLoss
from gan_lightning.metrics.statistics import Statistics, write_cache
from gan_lightning.networks import MLPDiscriminator, MLPGenerator
from random_inception import write_random_weights
from tests.helpers import TensorData, fit, same_state, small_gan
from tests.metrics.extractors import images

evaluate_main = Verb.evaluate.main
main = Verb.train.main

TINY = "tests.metrics.extractors.Tiny"
SMALL = [
    *("--config", "digits", "--accelerator", "cpu", "--enable_progress_bar", "false", "--enable_model_summary", "false"),
    *("--model.generator.hidden", "[8]", "--model.discriminator.hidden", "[8]"),
]


def tiny_metrics(**arguments: Any) -> GenerativeMetrics:
    settings: dict[str, Any] = {"extractor": TINY, "num_images": 60, "every_n_steps": 2}
    return GenerativeMetrics(**(settings | arguments))


def data() -> TensorData:
    return TensorData(images(128, seed=0), batch_size=32)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A classifier that is hardly trained."""
    monkeypatch.setattr("gan_lightning.metrics.classifier.FEWEST_IMAGES_SEEN", 1)


def gan(**arguments: Any) -> GAN:
    torch.manual_seed(0)
    return small_gan(image_shape=(3, 16, 16), **arguments)


def test_the_training_goes_on_as_if_nothing_was_measured() -> None:
    class Noisy(GAN):
        def sample(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
            torch.rand(7)  # as a generator may that adds noise of its own
            return super().sample(z, labels)

    plain, measured = gan(ema_halflife=64.0), gan(ema_halflife=64.0)
    measured.__class__ = Noisy
    torch.manual_seed(1)
    fit(plain, data(), max_steps=9)
    torch.manual_seed(1)
    fit(measured, data(), [tiny_metrics(metrics="fid,is,prdc,modes")], max_steps=9)
    assert same_state(plain, measured)


def test_curves_lie_at_generator_updates_under_metrics() -> None:
    args = [*SMALL, "--max_steps", "7", "--metrics.extractor", "classifier", "--metrics.every_n_steps", "3"]
    assert main([*args, "--metrics.num_images", "1000", "--metrics.metrics", "fid,is,modes"]) == 0
    events = EventAccumulator("lightning_logs/version_0").Reload()
    tags = {tag for tag in events.Tags()["scalars"] if tag.startswith("metrics/")}
    assert tags == {
        f"metrics/digits_{name}" for name in ("fd_1k", "score_1k", "score_1k_std", "modes_1k", "kl_1k")
    }  # never fid or is
    assert [event.step for event in events.Scalars("metrics/digits_fd_1k")] == [3, 6, 7]  # and at the run's end
    content = checkpoint.load_gan("lightning_logs/version_0/checkpoints/last.ckpt")
    assert all(name.startswith(("generator.", "discriminator.", "ema.")) for name in content["state_dict"])
    # the script measures the last checkpoint as the callback did
    last = [event.value for event in events.Scalars("metrics/digits_fd_1k")][-1]
    flags = ["--extractor", "classifier", "--num_images", "1000", "--output", "record.json"]
    assert evaluate_main(["lightning_logs/version_0/checkpoints/last.ckpt", *flags]) == 0
    assert json.loads(Path("record.json").read_text())["metrics"]["digits_fd_1k"] == pytest.approx(last, rel=1e-5)


class Scripted(GenerativeMetrics):
    """Measures what a test says, in turn."""

    def __init__(self, values: list[float], **arguments: Any) -> None:
        super().__init__(extractor=TINY, num_images=60, every_n_steps=1, **arguments)
        self.values = values

    def _evaluate(self, model: GAN, measurement: Any) -> dict[str, float]:
        return {self.best_name: self.values.pop(0)}


def test_best_ckpt_is_that_of_the_best_value() -> None:
    metrics = Scripted([5.0, 3.0, 4.0, 3.5, 6.0])
    fit(gan(), data(), [metrics, Checkpoints()], enable_checkpointing=True, max_steps=5)
    assert (metrics.best_value, metrics.best_step, metrics.best_name) == (3.0, 2, "tiny_fd_60")
    content = checkpoint.load_gan("checkpoints/best.ckpt")
    assert content["global_step"] == 2
    assert checkpoint.load_gan("checkpoints/last.ckpt")["global_step"] == 5


@pytest.mark.parametrize(("best", "step"), [("is", 3), ("fid", 1)])
def test_a_score_is_better_when_it_is_larger(best: str, step: int) -> None:
    metrics = Scripted([1.0, 2.0, 3.0, 2.5], best=best)
    fit(gan(), data(), [metrics], max_steps=4)
    assert metrics.best_step == step


def test_patience_stops_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = Scripted([5.0, 3.0, 4.0, 3.0, 6.0, 1.0, 1.0], patience=3)
    trainer = fit(gan(), data(), [metrics, Checkpoints()], enable_checkpointing=True, max_steps=7)
    assert trainer.global_step == 5
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "in 3 measurements" in line)
    assert "tiny_fd_60" in line
    assert "was 3 at step 2" in line
    assert checkpoint.load_gan("checkpoints/last.ckpt")["global_step"] == 5


def test_a_resumed_run_remembers_the_best() -> None:
    fit(gan(), data(), [Scripted([5.0, 3.0]), Checkpoints()], enable_checkpointing=True, max_steps=2)
    before = Path("checkpoints/best.ckpt").read_bytes()
    again = Scripted([4.0, 3.5], patience=2)
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        max_steps=5,
        callbacks=[again, Checkpoints()],
    )
    trainer.fit(gan(), datamodule=data(), ckpt_path="checkpoints/last.ckpt", weights_only=True)
    assert (again.best_value, again.best_step, trainer.global_step) == (3.0, 2, 4)
    assert Path("checkpoints/best.ckpt").read_bytes() == before
    other = Scripted([9.0], best="is")  # another value: there is no best of it yet
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False, max_steps=5, callbacks=[other]
    )
    trainer.fit(gan(), datamodule=data(), ckpt_path="checkpoints/last.ckpt", weights_only=True)
    assert (other.best_name, other.best_value) == ("tiny_score_60", 9.0)


def test_callbacks_of_lightning_can_monitor_a_metric() -> None:
    class Watch(Callback):
        seen: float = math.nan

        def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            self.seen = float(trainer.callback_metrics["metrics/tiny_fd_60"])

    watch = Watch()
    metrics = tiny_metrics()
    fit(gan(), data(), [metrics, watch, EarlyStopping("metrics/tiny_fd_60", check_on_train_epoch_end=True)], max_epochs=1)
    assert watch.seen > 0


def test_epochs_are_counted_too() -> None:
    steps = []

    class Noted(Scripted):
        def _evaluate(self, model: GAN, measurement: Any) -> dict[str, float]:
            steps.append(model.trainer.global_step)
            return {self.best_name: 1.0}

    metrics = Noted([])
    metrics.every_n_steps, metrics.every_n_epochs = 0, 2
    fit(gan(), data(), [metrics], max_epochs=5)  # of 4 steps
    assert steps == [8, 16, 20]


def test_missing_weights_fail_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("torch_fidelity.feature_extractor_inceptionv3.URL_INCEPTION_V3", "http://127.0.0.1:9/weights.pth")
    assert main([*SMALL, "--metrics.extractor", "inception"]) == 2
    error = capsys.readouterr().err
    (line,) = [line for line in error.splitlines() if line.startswith("train: error: ")]
    for way in ("--metrics.inception_weights", "--extractor imagenet"):
        assert way in line
    assert not list(Path().glob("lightning_logs/version_*"))
    assert main([*SMALL, "--metrics.extractor", "inception", "--metrics.inception_weights", "nowhere.pth"]) == 2
    assert "nowhere.pth" in capsys.readouterr().err


def test_inception_on_the_cpu_says_how_long_it_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gan_lightning.metrics.measurement.TIMED", 1)
    write_random_weights(tmp_path / "weights.pth", count=2)
    flags = ["--metrics.extractor", "inception", "--metrics.inception_weights", str(tmp_path / "weights.pth")]
    few = ["--metrics.metrics", "fid", "--metrics.num_images", "3", "--metrics.num_real", "2", "--max_steps", "1"]
    assert main([*SMALL, *flags, *few]) == 0
    said = capsys.readouterr().out
    assert said.index("s an image on this CPU") < said.index("step 1: fid_3")


@pytest.mark.parametrize(
    ("source", "chosen"),
    [(MNIST, "classifier"), (Digits, "classifier"), (StackedMNIST, "classifier"), (CIFAR10, "imagenet")],
)
def test_what_auto_means(source: type[ImageDataModule], chosen: str) -> None:
    assert GenerativeMetrics()._chosen(source()) == chosen
    assert GenerativeMetrics(extractor="inception")._chosen(source()) == "inception"
    assert ImageFolder.extractor == "imagenet"


def test_images_of_neither_one_nor_three_channels_are_not_measured_by_themselves() -> None:
    fit(
        small_gan(image_shape=(2, 8, 8)),
        TensorData(images(64, 0)[:, :2, :8, :8], batch_size=32),
        [GenerativeMetrics()],
        max_steps=1,
    )


def test_colour_images_are_measured_with_imagenet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """By default, on few images: metrics and health monitor look at the same real ones, once, and the next run at none."""
    passes: list[int] = []

    def counted(folder: Path, key: dict[str, Any], statistics: Statistics) -> None:
        passes.append(key["num_real"])
        write_cache(folder, key, statistics)

    monkeypatch.setattr("gan_lightning.metrics.measurement.write_cache", counted)
    monkeypatch.setattr("gan_lightning.callbacks.generative_metrics.FEW_IMAGES", 24)
    monkeypatch.setattr("gan_lightning.callbacks.health_monitor.FEW_IMAGES", 24)
    monkeypatch.setattr("gan_lightning.callbacks.generative_metrics.SAMPLES_OF_IMAGENET", 12)
    monkeypatch.setattr("gan_lightning.callbacks.symptom_monitor.BEGINNING", 0)
    few = {"ROWS": 2, "COLUMNS": 4, "REFERENCES": (4, 4)}
    for name, value in few.items():
        monkeypatch.setattr(f"gan_lightning.callbacks.health_monitor.{name}", value)
    for number, image in enumerate(images(60, seed=1)):
        path = Path("photographs", f"{number:02d}.png")
        path.parent.mkdir(exist_ok=True)
        to_pil_image(image).save(path)
    args = [
        *("--data", "ImageFolder", "--data.root", "photographs", "--data.image_size", "16", "--data.batch_size", "8"),
        *("--model.generator.width", "4", "--model.discriminator.width", "4", "--max_steps", "2", "--max_epochs", "-1"),
        *("--health.every_n_steps", "1", "--accelerator", "cpu", "--enable_progress_bar", "false"),
        *("--enable_model_summary", "false"),
    ]
    assert main(["--config", "folder_64", *args]) == 0
    assert passes == [24]
    assert "12 samples, each time (--metrics.num_images)" in capsys.readouterr().out
    tags = EventAccumulator("lightning_logs/version_0").Reload().Tags()["scalars"]
    assert {tag for tag in tags if tag.startswith("metrics/")} == {
        f"metrics/imagenet_{name}" for name in ("fd_12", "score_12", "score_12_std")
    }
    assert "health/nearest_training_features" in tags
    assert "health/classes" not in tags  # ImageNet's are not the data's
    assert main(["--config", "folder_64", *args]) == 0
    assert passes == [24]
    flags = ["--extractor", "imagenet", "--num_images", "12", "--num_real", "24", "--output", "record.json"]
    assert evaluate_main(["lightning_logs/version_0/checkpoints/last.ckpt", *flags]) == 0
    assert passes == [24]
    (event,) = EventAccumulator("lightning_logs/version_0").Reload().Scalars("metrics/imagenet_fd_12")
    assert json.loads(Path("record.json").read_text())["metrics"]["imagenet_fd_12"] == pytest.approx(event.value, rel=1e-3)


def test_labels_follow_the_data() -> None:
    """A conditional generator is asked for classes as often as they occur."""
    asked: list[Tensor] = []

    class Asked(GAN):
        def sample(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
            assert labels is not None
            asked.append(labels)
            return super().sample(z, labels)

    labels = torch.cat([torch.zeros(96), torch.ones(32)]).long()
    shape: dict[str, Any] = {"image_shape": (3, 16, 16), "num_classes": 2, "hidden": [8], "conditioning": "concatenation"}
    model = Asked(MLPGenerator(**shape), MLPDiscriminator(**shape), NonSaturatingLoss())
    fit(model, TensorData(images(128, seed=0), labels, batch_size=32), [tiny_metrics(num_images=200)], max_steps=2)
    assert float(torch.cat(asked).double().mean()) == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"every_n_steps": -1}, "metrics.every_n_steps is -1"),
        ({"batch_size": 0}, "metrics.batch_size is 0"),
        ({"metrics": "fid,ist"}, "metrics has 'ist'"),
        ({"num_images": 5, "metrics": "fid,is"}, "num_images is 5: is .* 10"),
        ({"best": "kid"}, "metrics.best is 'kid'"),
        ({"best": "loss"}, "metrics.best is 'loss'"),
        ({"best": "is_std"}, "metrics.best is 'is_std'"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        GenerativeMetrics(**arguments)
    GenerativeMetrics(metrics="fid,kid,prdc", best="recall")
    assert GenerativeMetrics(metrics="prdc,fid").best == "precision"


def test_samples_of_nan_stop_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--max_steps", "4", "--metrics.every_n_steps", "2", "--model.generator_optimizer.lr", "1e38"]) == 2
    assert "NaN" in capsys.readouterr().err


def test_two_processes_measure_what_one_does() -> None:
    """101 samples do not divide; the script, in one process, gives the last value again."""
    args = [*SMALL, "--max_steps", "4", "--devices", "2", "--metrics.extractor", "classifier", "--metrics.num_images", "101"]
    script = Path(__file__).parents[2] / "scripts" / "train.py"
    done = subprocess.run([sys.executable, script, *args], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("step 4: digits_fd_101") == 1
    best = "lightning_logs/version_0/checkpoints/best.ckpt"
    assert evaluate_main([best, "--num_images", "101", "--output", "record.json"]) == 0
    found = json.loads(Path("record.json").read_text())["metrics"]["digits_fd_101"]
    events = EventAccumulator("lightning_logs/version_0").Reload()
    (event,) = events.Scalars("metrics/digits_fd_101")
    assert found == pytest.approx(event.value, rel=1e-3)


def test_a_run_that_ends_by_its_time_is_measured_at_its_end() -> None:
    args = [*SMALL, "--max_time", "00:00:00:02", "--max_epochs", "-1", "--metrics.every_n_steps", "0"]
    assert main([*args, "--metrics.extractor", "classifier", "--metrics.num_images", "20"]) == 0
    (event,) = EventAccumulator("lightning_logs/version_0").Reload().Scalars("metrics/digits_fd_20")
    content = checkpoint.load_gan("lightning_logs/version_0/checkpoints/best.ckpt")
    assert event.step == content["global_step"]
    assert event.step == checkpoint.load_gan("lightning_logs/version_0/checkpoints/last.ckpt")["global_step"]


def test_an_extractor_that_does_not_serve_is_refused_before_the_first_step(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--max_steps", "3", "--metrics.extractor", "torch.nn.Flatten"]) == 2
    assert "logits" in capsys.readouterr().err
    assert not list(Path().glob("lightning_logs/version_*"))


def test_a_signal_is_not_the_end_of_the_time() -> None:
    """At which a run is measured once more; one that was told to stop goes on later, and is measured when it is due."""
    signals, metrics = StopSignals(), GenerativeMetrics("none")
    stopping = SimpleNamespace(
        global_step=7, current_epoch=0, max_steps=-1, max_epochs=9, is_last_batch=False, should_stop=True, world_size=2
    )
    stopping.callbacks = [Timer("00:01:00:00"), signals]
    trainer = cast(Trainer, stopping)
    assert metrics._is_due(trainer)
    signals.received = signal.SIGTERM
    assert not metrics._is_due(trainer)
