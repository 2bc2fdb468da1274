"""Pictures, curves, checkpoints and the progress bar."""

import time
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image, ImageSequence
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gan_lightning import files
from gan_lightning.callbacks import Checkpoints, ImageGrid, ProgressBar, TrainingLog
from gan_lightning.data import Digits
from gan_lightning.gan import GAN
from gan_lightning.latents import latents
from gan_lightning.losses import NonSaturatingLoss
from gan_lightning.networks import MLPDiscriminator, MLPGenerator
from tests.helpers import Batches, Outputs, TensorData, fit, refuses, same_state, small_gan


def events(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return accumulator


def test_the_curves_are_means_over_the_interval(tmp_path: Path) -> None:
    record, log = Outputs(), TrainingLog()
    logger = TensorBoardLogger(tmp_path, name="", version="")
    began = time.perf_counter()
    fit(small_gan(), callbacks=[log, record], max_steps=25, logger=logger, log_every_n_steps=10)
    seconds = time.perf_counter() - began
    scalars = events(tmp_path)
    tags = {tag for tag in scalars.Tags()["scalars"] if tag.startswith("train/")}
    assert tags == {
        "train/discriminator_loss",
        "train/generator_loss",
        "train/real_probability",
        "train/fake_probability",
        "train/images_per_second",
        "train/discriminator_gradient_norm",
        "train/generator_gradient_norm",
        "train/discriminator_learning_rate",
        "train/generator_learning_rate",
    }
    for name in ("discriminator_loss", "generator_loss", "real_probability", "fake_probability"):
        written = scalars.Scalars(f"train/{name}")
        assert [event.step for event in written] == [10, 20, 25]
        for event, part in zip(written, (slice(0, 10), slice(10, 20), slice(20, 25)), strict=True):
            mean = numpy.mean([output[name] for output in record.seen[part]])
            assert event.value == pytest.approx(mean, rel=1e-5)
    assert log.latest["images_per_second"] > 5 * 64 / seconds  # of the last five steps
    assert log.latest["generator_learning_rate"] == 2e-4


def test_gradient_norms_are_of_the_logged_step() -> None:
    norms: list[list[float]] = []

    class Norms(Callback):
        def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
            assert isinstance(pl_module, GAN)
            norms.append(
                [
                    float(torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]).norm())
                    for network in (pl_module.generator, pl_module.discriminator)
                ]
            )

    log = TrainingLog()
    fit(small_gan(), callbacks=[Norms(), log], max_steps=3, log_every_n_steps=3)
    assert [log.latest["generator_gradient_norm"], log.latest["discriminator_gradient_norm"]] == pytest.approx(
        norms[-1], rel=1e-5
    )
    assert min(norms[-1]) > 0


def test_nothing_is_logged_between_intervals() -> None:
    """self.log is never called, and values leave the device only at the end of an interval."""
    calls = []

    class Spy(TrainingLog):
        def _write(self, trainer: Trainer) -> None:
            calls.append(trainer.global_step)
            super()._write(trainer)

    model = small_gan()
    model.log = model.log_dict = lambda *_, **__: pytest.fail("self.log was called")  # type: ignore[assignment, method-assign]
    fit(model, callbacks=[Spy()], max_steps=100, log_every_n_steps=50)
    assert calls == [50, 100]


def test_grids_always_show_the_same_latents(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name="", version="")
    grid = ImageGrid(every_n_steps=10, rows=3, columns=4)
    model = small_gan()
    fit(model, callbacks=[grid], max_steps=25, logger=logger)
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == [
        "real.png",
        "step_00000010.png",
        "step_00000020.png",
        "step_00000025.png",
    ]
    picture = numpy.asarray(Image.open(tmp_path / "images" / "step_00000025.png"))
    assert picture.shape == (3 * 50 + 2, 4 * 50 + 2, 3)  # tiles of 48 pixels, enlarged 6 times, 2 between them
    samples = model.sample(latents(torch.arange(12), 4, seed=0))
    tile = picture[2 + 50 : 50 + 50, 2 + 100 : 50 + 100, 0]  # second row, third column
    assert numpy.array_equal(tile[::6, ::6], samples[6, 0].numpy())
    images = events(tmp_path)
    assert [event.step for event in images.Images("images/samples")] == [10, 20, 25]
    assert [event.step for event in images.Images("images/real")] == [0]


@pytest.mark.parametrize(("given", "columns"), [(None, 10), (20, 20)])
def test_each_column_shows_one_class(given: int | None, columns: int, tmp_path: Path) -> None:
    """Use a conditional generator and data that paint the grey level of the label."""

    class Paint(MLPGenerator):
        def forward(self, z: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
            assert labels is not None
            return super().forward(z, labels) * 0 + (labels.view(-1, 1, 1, 1) / 5.0 - 1)

    images = torch.arange(10, dtype=torch.uint8).repeat(20).view(200, 1, 1, 1).expand(200, 1, 8, 8) * 20
    data = TensorData(images, torch.arange(10).repeat(20), batch_size=16)
    model = GAN(
        Paint((1, 8, 8), 10, hidden=[4], conditioning="concatenation"),
        MLPDiscriminator((1, 8, 8), 10, hidden=[4], conditioning="concatenation"),
        NonSaturatingLoss(),
    )
    fit(model, data, callbacks=[ImageGrid(rows=3, columns=given)], max_steps=1, default_root_dir=tmp_path)
    for name, levels in (("real", [20 * c for c in range(10)]), ("step_00000001", [round(25.5 * c) for c in range(10)])):
        picture = numpy.asarray(Image.open(tmp_path / "images" / f"{name}.png"))
        assert picture.shape[:2] == (3 * 50 + 2, columns * 50 + 2)
        for row in range(3):
            for column in range(columns):
                level = levels[column * 10 // columns]
                assert abs(int(picture[50 * row + 20, 50 * column + 20, 0]) - level) <= 1


def test_a_timelapse_shows_every_grid() -> None:
    """Those of an earlier layout are left out. Without the flag there is none."""
    fit(small_gan(), callbacks=[ImageGrid(2, rows=2, columns=3)], max_steps=1)
    assert not Path("images/timelapse.gif").exists()
    fit(small_gan(), callbacks=[ImageGrid(2, rows=2, columns=2, timelapse="gif")], max_steps=7)
    grids = [Image.open(f"images/step_{step:08d}.png").convert("RGB") for step in (2, 4, 6, 7)]
    with Image.open("images/timelapse.gif") as animation:
        frames = [frame.convert("RGB") for frame in ImageSequence.Iterator(animation)]
        for frame, grid in zip(frames, grids, strict=True):
            shown = frame.resize(grid.size, Image.Resampling.BOX)
            assert numpy.abs(numpy.asarray(shown, float) - numpy.asarray(grid, float)).mean() < 3  # a palette of 256 colours


def test_grids_do_not_change_the_training() -> None:
    models = []
    for callbacks in ([], [ImageGrid(every_n_steps=1)]):
        torch.manual_seed(0)
        model = small_gan()
        fit(model, callbacks=list(callbacks), max_steps=5)
        models.append(model)
    assert same_state(*models)


def test_checkpoints(tmp_path: Path) -> None:
    fit(
        small_gan(),
        callbacks=[Checkpoints(every_n_epochs=2, keep=2)],
        max_epochs=7,
        enable_checkpointing=True,
        default_root_dir=tmp_path,
    )
    folder = tmp_path / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["epoch_004.ckpt", "epoch_006.ckpt", "last.ckpt"]
    assert files.load(folder / "last.ckpt")["global_step"] == 7 * 22
    assert files.load(folder / "epoch_004.ckpt")["global_step"] == 4 * 22


@pytest.mark.parametrize(("every", "found"), [(0, 22), (5, 25)])
def test_last_is_saved_at_each_epochs_end_and_at_intervals(every: int, found: int, tmp_path: Path) -> None:
    steps = []

    class Killed(Callback):
        def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
            if trainer.global_step == 27:
                raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        fit(
            small_gan(),
            callbacks=[Killed(), Checkpoints(every_n_steps=every)],
            max_steps=60,
            enable_checkpointing=True,
            default_root_dir=tmp_path,
        )
    steps.append(files.load(tmp_path / "checkpoints" / "last.ckpt")["global_step"])
    assert steps == [found]


class Stop(Callback):
    """Ends the run as a time limit or early stopping would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        trainer.should_stop = trainer.should_stop or trainer.global_step == self.step


@pytest.mark.parametrize(("step", "by"), [(11, "max_steps"), (22, "max_steps"), (22, "should_stop"), (44, "should_stop")])
def test_a_resumed_run_sees_the_same_images(step: int, by: str, tmp_path: Path) -> None:
    """Stop within an epoch of 22 steps or at its end, in the first and the second epoch."""

    def run(folder: Path, until: int, stop: int | None = None, ckpt: Path | None = None) -> tuple[Trainer, list[float]]:
        seen = Batches()
        callbacks = [seen, *([Stop(stop)] if stop else []), Checkpoints()]
        arguments: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = Trainer(accelerator="cpu", max_steps=until, callbacks=callbacks, default_root_dir=folder, **arguments)
        trainer.fit(small_gan(), datamodule=Digits(), ckpt_path=ckpt, weights_only=True)
        return trainer, [float(images.double().sum()) for images, _ in seen.seen]

    whole, undisturbed = run(tmp_path / "whole", 50)
    _, first = run(tmp_path / "parts", step if by == "max_steps" else 50, step if by == "should_stop" else None)
    resumed, second = run(tmp_path / "parts", 50, ckpt=tmp_path / "parts" / "checkpoints" / "last.ckpt")
    assert len(first) == step
    assert first + second == undisturbed
    assert resumed.global_step == whole.global_step == 50
    assert resumed.current_epoch == whole.current_epoch


def test_the_progress_bar_counts_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    fit(small_gan(), callbacks=[TrainingLog(), ProgressBar()], max_epochs=3, enable_progress_bar=True, log_every_n_steps=10)
    last = capsys.readouterr().out.split("\r")[-1]
    assert "100%" in last
    assert "66/66" in last
    for name in ("D=", "G=", "images/s="):
        assert name in last


def test_the_bar_uses_the_first_limit(capsys: pytest.CaptureFixture[str]) -> None:
    fit(small_gan(), callbacks=[ProgressBar()], max_epochs=3, max_steps=30, enable_progress_bar=True)
    assert "30/30" in capsys.readouterr().out.split("\r")[-1]


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: ImageGrid(every_n_steps=-1), "image_grid.every_n_steps is -1"),
        (lambda: ImageGrid(rows=0), "image_grid.rows is 0"),
        (lambda: ImageGrid(columns=0), "image_grid.columns is 0"),
        (lambda: Checkpoints(every_n_steps=-1), "checkpoints.every_n_steps is -1"),
        (lambda: Checkpoints(keep=-1), "checkpoints.keep is -1"),
        (lambda: Checkpoints(every_n_epochs=-1), "checkpoints.every_n_epochs is -1"),
    ],
)
def test_numbers_out_of_range(make: Any, named: str) -> None:
    with refuses(named):
        make()
