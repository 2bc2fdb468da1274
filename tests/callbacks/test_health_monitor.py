"""The health monitor reports runs that are made to fail, and no healthy ones."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from gan_lightning.callbacks import Checkpoints, HealthMonitor, TrainingLog
from gan_lightning.checkpoint import load_gan
from gan_lightning.commands.verbs import Verb
from gan_lightning.data import Digits, Split
from gan_lightning.errors import InputError
from gan_lightning.gan import GAN
from gan_lightning.losses import NonSaturatingLoss
from gan_lightning.networks import DCGANDiscriminator, DCGANGenerator, MLPDiscriminator, MLPGenerator
from gan_lightning.regularizers import R1
from tests.faults.runs import QUIET
from tests.helpers import TensorData, curves, fit, refuses, same_state, small_gan

main = Verb.train.main


def digits_gan(**arguments: Any) -> GAN:
    """Networks that are large enough for 8x8 digits."""
    torch.manual_seed(0)
    shape = (1, 8, 8)
    return GAN(
        MLPGenerator(shape, latent_dim=16, hidden=[64, 128]),
        MLPDiscriminator(shape, hidden=[128, 64]),
        NonSaturatingLoss(),
        **arguments,
    )


class Freeze(Callback):
    """Make the generator draw one image for every latent from one step to another, then restore it."""

    def __init__(self, start: int, end: int = 10**9) -> None:
        self.start, self.end = start, end
        self._kept: dict[str, Tensor] = {}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        generator = pl_module.generator
        assert isinstance(generator, MLPGenerator)
        if trainer.global_step == self.start:
            self._kept = copy.deepcopy(generator.state_dict())
        if self.start <= trainer.global_step < self.end:
            with torch.no_grad():
                first = next(generator.parameters())  # z is multiplied with it
                first.zero_()
        elif trainer.global_step == self.end:
            generator.load_state_dict(self._kept)


def test_measuring_does_not_change_the_training() -> None:
    def trained(*callbacks: Callback) -> GAN:
        torch.manual_seed(0)
        shape = (1, 8, 8)
        generator, discriminator = DCGANGenerator(shape, latent_dim=4, width=4), DCGANDiscriminator(shape, width=4)
        model = GAN(generator, discriminator, NonSaturatingLoss(), penalty=R1(), ema_halflife=500.0)
        fit(model, Digits(batch_size=16), callbacks=[*callbacks], max_steps=6)
        return model

    monitor = HealthMonitor(every_n_steps=2)
    assert same_state(trained(monitor), trained())  # including batch norm's running moments
    assert monitor.measured == 3


def test_a_generator_frozen_on_one_image_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    monitor = HealthMonitor(every_n_steps=5)
    fit(digits_gan(), callbacks=[Freeze(1), TrainingLog(), monitor], max_steps=40)
    printed = [line for line in capsys.readouterr().out.splitlines() if "step " in line]
    assert monitor.latest["pixel_diversity"] < 1e-3
    assert monitor.latest["feature_diversity"] < 1e-3
    assert len(printed) == 1, printed  # once, and not at each measurement
    assert printed[0].startswith("step 25: mode collapse")  # the second measurement that counts
    assert "healthy.ckpt" not in printed[0]
    assert "--model.penalty R1" in printed[0]


@pytest.mark.parametrize(("end", "steps", "kept"), [(10**9, 320, 242), (400, 430, 418)])
def test_the_healthy_checkpoint_is_kept_and_recovery_is_reported(
    end: int, steps: int, kept: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    callbacks = [Freeze(251, end), TrainingLog(), HealthMonitor(every_n_steps=25), Checkpoints(every_n_steps=40)]
    fit(digits_gan(), callbacks=callbacks, max_steps=steps, enable_checkpointing=True, default_root_dir=tmp_path)
    first, *others = [line for line in capsys.readouterr().out.splitlines() if "step " in line]
    healthy = tmp_path / "checkpoints" / "healthy.ckpt"
    assert first.startswith("step 300: mode collapse")
    assert str(healthy) in first
    assert [line.partition(": ")[0] for line in others] == (["step 425"] if end < steps else [])
    assert all("mode collapse" in line for line in others)
    assert load_gan(healthy)["global_step"] == kept  # at an epoch's end between two healthy measurements
    assert load_gan(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == steps


def test_stop_ends_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    trainer = fit(digits_gan(), callbacks=[Freeze(1), HealthMonitor(every_n_steps=5, stop=True)], max_steps=200)
    assert trainer.global_step == 25
    assert "step 25: mode collapse" in capsys.readouterr().out


def test_a_run_resumed_with_a_symptom_reports_it_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def train(ckpt_path: Path | None = None) -> Trainer:
        callbacks = [Freeze(1), HealthMonitor(every_n_steps=5, stop=True)]
        return fit(digits_gan(), callbacks=callbacks, ckpt_path=ckpt_path, max_steps=200)

    train().save_checkpoint(tmp_path / "ill.ckpt", weights_only=False)
    capsys.readouterr()
    assert train(tmp_path / "ill.ckpt").global_step == 30
    assert "step 30: mode collapse" in capsys.readouterr().out


def test_a_memorised_small_data_set_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    class Few(Digits):
        def images(self, split: Split) -> tuple[Tensor, Tensor | None]:
            images, labels = super().images(split)
            assert labels is not None
            return (images[:64], labels[:64]) if split == "train" else (images, labels)

    monitor = HealthMonitor(every_n_steps=100)
    fit(digits_gan(), Few(batch_size=32), callbacks=[monitor], max_steps=2000)
    assert monitor.latest["overfitting"] > 0.9
    assert "--model.augmentation DiffAugment" in capsys.readouterr().out


def test_all_of_the_digits_are_healthy(capsys: pytest.CaptureFixture[str]) -> None:
    monitor = HealthMonitor(every_n_steps=100)
    fit(digits_gan(), callbacks=[monitor], max_steps=1000)
    assert capsys.readouterr().out == ""
    assert monitor.reported == []
    assert 0.3 < monitor.latest["pixel_diversity"] < 1.5


def test_a_learning_rate_of_one_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--config", "digits", *QUIET, "--max_steps", "400", "--health.every_n_steps", "25"]
    code = main([*flags, "--model.generator_optimizer.lr", "1", "--model.discriminator_optimizer.lr", "1"])
    captured = capsys.readouterr()
    assert code == 2 or re.search(r"\nstep \d+: .*--model", captured.out), captured  # NaN, or a symptom


def test_the_values_are_logged_as_curves() -> None:
    flags = ["--config", "digits", *QUIET, "--max_steps", "40", "--health.every_n_steps", "20"]
    assert main(flags) == 0
    shown = curves(Path("lightning_logs") / "version_0")
    for name in ("pixel_diversity", "feature_diversity", "overfitting", "separation", "saturation", "real_logits"):
        assert sorted(shown[f"health/{name}"]) == [20, 40]
    assert "health/classes" not in shown
    assert main([*flags, "--health.every_n_steps", "0"]) == 0
    assert not any(name.startswith("health/") for name in curves(Path("lightning_logs") / "version_1"))


def test_classes_and_copies_are_measured_with_a_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gan_lightning.metrics.classifier.FEWEST_IMAGES_SEEN", 20_000)

    class Copies(MLPGenerator):
        """Draws training images of class 3 only."""

        def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
            images, own = Digits().images("train")
            assert own is not None
            threes = images[own == 3].float() / 127.5 - 1
            return threes[torch.arange(len(z)) % len(threes)] + 0 * super().forward(z, labels)

    monitor = HealthMonitor(every_n_steps=2, extractor="classifier")
    model = GAN(Copies((1, 8, 8), latent_dim=4, hidden=[8]), MLPDiscriminator((1, 8, 8), hidden=[8]), NonSaturatingLoss())
    fit(model, Digits(), callbacks=[monitor], max_steps=2)
    assert monitor.latest["classes"] == pytest.approx(0.1)
    assert monitor.latest["nearest_training"] < 0.01  # copies
    assert monitor.latest["nearest_training_features"] < 0.01
    fit(small_gan(), Digits(), callbacks=[monitor], max_steps=2)
    assert monitor.latest["nearest_training_features"] > 1  # noise is far from all
    assert monitor.latest["nearest_training"] > 1


@pytest.mark.parametrize("batch_size", [2, 3, 50, 127, 128, 300])
def test_batches_are_no_larger_than_in_training(batch_size: int) -> None:
    class Counting(MLPDiscriminator):
        def features(self, images: Tensor) -> Tensor:
            seen.append(len(images))
            return super().features(images)

    seen: list[int] = []
    monitor = HealthMonitor(every_n_steps=1)
    model = GAN(MLPGenerator((1, 8, 8), latent_dim=4, hidden=[8]), Counting((1, 8, 8), hidden=[8]), NonSaturatingLoss())
    fit(model, Digits(batch_size=batch_size), callbacks=[monitor], max_steps=1)
    of_monitor = seen[2:]  # after one pass over real and generated ones, and the generator's
    assert sum(of_monitor) == 3 * 128
    assert 2 <= min(of_monitor) <= max(of_monitor) <= batch_size


def test_data_without_held_out_images_is_monitored(tmp_path: Path) -> None:
    class NoneHeldOut(TensorData):
        def images(self, split: Split) -> tuple[Tensor, Tensor | None]:
            if split == "test":
                raise InputError("too few images")
            return super().images(split)

    monitor = HealthMonitor(every_n_steps=2)
    fit(small_gan(), NoneHeldOut(Digits().images("train")[0], batch_size=16), callbacks=[monitor], max_steps=2)
    assert "overfitting" not in monitor.latest
    assert monitor.latest["pixel_diversity"] > 0


def test_numbers_out_of_range() -> None:
    with refuses("health.every_n_steps is -1"):
        HealthMonitor(every_n_steps=-1)


def test_an_unknown_extractor_is_refused() -> None:
    with refuses("'foo'", "auto, none, classifier, imagenet, inception"):
        HealthMonitor(extractor="foo")


STRONG = ["--model.discriminator_optimizer.lr", "2e-3", "--model.generator_optimizer.lr", "2e-6"]


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("flags", "symptom"),
    [
        (["--config", "mlp_mnist_textbook", "--max_steps", "2000"], "mode collapse"),
        (["--config", "mlp_mnist", "--max_steps", "1500", *STRONG], "too strong"),
        *((["--config", "mlp_mnist", "--max_steps", "3000", "--seed_everything", str(seed)], "") for seed in range(3)),
        *((["--config", "digits", "--seed_everything", str(seed)], "") for seed in range(3)),
    ],
)
def test_real_runs(flags: list[str], symptom: str, real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*flags, "--accelerator", "cpu", "--enable_progress_bar", "false", "--default_root_dir", str(tmp_path)]) == 0
    reports = [line for line in capsys.readouterr().out.splitlines() if re.match(r"step [\d,]+: .*good checkpoint", line)]
    assert bool(reports) == bool(symptom), reports
    assert any(symptom in line for line in reports) or not symptom
