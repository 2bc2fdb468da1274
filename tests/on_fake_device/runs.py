"""Whole commands on the fake device: training with every callback, resuming, sampling, measuring and inversion."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from gan_lightning import checkpoint, inference
from gan_lightning.commands.verbs import Verb
from gan_lightning.metrics.table import METRICS
from gan_lightning.pictures import write_png
from gan_lightning.training import trainer as trainers
from tests.fake_device import DEVICE, Watch, strategy, watching
from tests.helpers import assert_same_state, curves, interrupted

MAKE_TRAINER = trainers.make_trainer
STEPS = 8
RUN = [
    *("--config", "digits", "--max_steps", str(STEPS), "--enable_progress_bar", "false", "--data.horizontal_flip", "true"),
    *("--data.batch_size", "16", "--log_every_n_steps", "4", "--model.augmentation", "AdaptiveAugment"),
    *("--model.augmentation.images", "200", "--schedules.penalty", "LinearSchedule", "--schedules.penalty.steps", "9"),
    *("--image_grid.every_n_steps", "4", "--checkpoints.every_n_steps", "4", "--logger", "[csv,tensorboard]"),
]
MEASURED = [
    *("--metrics.every_n_steps", "4", "--metrics.num_images", "64", "--metrics.metrics", ",".join(METRICS)),
    *("--health.every_n_steps", "4"),
]
UNMEASURED = ["--metrics.extractor", "none", "--health.every_n_steps", "0"]


class StepWaits(Callback):
    """Collects what the host waits for in each step, by step, from the end of all callbacks of the step before."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.seen: dict[int, list[str]] = {}

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == 0:
            self.watch.waits.clear()

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self.seen[trainer.global_step] = list(self.watch.waits)
        self.watch.waits.clear()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Iterator[StepWaits]:
    """Let the commands find the fake device, and record their waits."""
    with watching() as watch:
        recorded = StepWaits(watch)

        def make_trainer(folder: Path, *args: Any, **arguments: Any) -> Trainer:
            arguments |= {"strategy": strategy(), "callbacks": [*arguments["callbacks"], recorded]}
            return MAKE_TRAINER(folder, *args, **arguments)

        monkeypatch.setattr("gan_lightning.commands.train.run.make_trainer", make_trainer)
        monkeypatch.setattr("tests.helpers.make_trainer", make_trainer)
        for command in ("common.devices", "sample.run", "interpolate.run", "invert.run"):
            monkeypatch.setattr(f"gan_lightning.commands.{command}.find_device", lambda accelerator: DEVICE)
        monkeypatch.setattr("gan_lightning.metrics.classifier.FEWEST_IMAGES_SEEN", 1)  # a poor classifier, but fast
        yield recorded


def test_a_run_with_every_callback(waits: StepWaits) -> None:
    """Steps that measure or save wait; others do not. The weights are those of a run on the CPU that measures nothing."""
    assert Verb.train.main([*RUN, *MEASURED, "--default_root_dir", "device"]) == 0
    assert {step for step, seen in waits.seen.items() if seen} <= {4, 5, 8}  # checkpoints are saved last, between two steps
    assert waits.seen[4]
    device, cpu = (Path(root) / "lightning_logs" / "version_0" for root in ("device", "cpu"))
    shown = curves(device)
    assert any(tag.startswith("health/") for tag in shown)
    assert any("fd_64" in tag for tag in shown)
    assert (device / "images" / f"step_{STEPS:08d}.png").is_file()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gan_lightning.commands.train.run.make_trainer", MAKE_TRAINER)
        assert Verb.train.main([*RUN, *UNMEASURED, "--accelerator", "cpu", "--default_root_dir", "cpu"]) == 0
    states = [checkpoint.load_gan(run / "checkpoints" / "last.ckpt")["state_dict"] for run in (device, cpu)]
    assert [name for name in states[0] if not torch.equal(states[0][name], states[1][name])] == []


def test_a_resumed_run_is_bitwise_the_same(waits: StepWaits, monkeypatch: pytest.MonkeyPatch) -> None:
    run = [*RUN, *UNMEASURED, "--model.discriminator.dropout", "0.3"]
    assert Verb.train.main([*run, "--default_root_dir", "straight"]) == 0
    interrupted([*run, "--default_root_dir", "stopped"], 5, monkeypatch)
    torch.manual_seed(3)
    assert Verb.train.main(["--ckpt_path", "last", "--default_root_dir", "stopped"]) == 0
    straight, stopped = (Path(root) / "lightning_logs" / "version_0" for root in ("straight", "stopped"))
    assert_same_state(straight, stopped)


def test_images_from_the_disk(waits: StepWaits) -> None:
    """A step copies its batch, and waits for nothing."""
    for i in range(48):
        path = Path("photos") / str(i % 2) / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_png(torch.randint(0, 256, (1, 8, 8), dtype=torch.uint8), path)
    photos = ["--data", "ImageFolder", "--data.root", "photos", "--data.image_size", "8", "--data.channels", "1"]
    from_disk = ["--data.max_bytes_on_device", "0", "--data.pack", "false", "--data.num_workers", "0", "--data.batch_size", "4"]
    assert Verb.train.main([*RUN, *UNMEASURED, *photos, *from_disk]) == 0
    assert [wait for step in (2, 3, 6, 7) for wait in waits.seen[step]] == []
    assert waits.watch.copies >= 2 * STEPS  # images and labels


COMMANDS: dict[str, Callable[[], int]] = {
    "sample": lambda: Verb.sample.main(["digits", "--num_images", "20", "--output", "out.png"]),
    "interpolate": lambda: Verb.interpolate.main(["digits", "--frames", "4", "--output", "out.png"]),
    "neighbours": lambda: Verb.interpolate.main(["digits", "--frames", "4", "--neighbours", "2", "--output", "out.png"]),
    "invert": lambda: Verb.invert.main(["digits", "digit.png", "--steps", "3", "--restarts", "10", "--output", "out.png"]),
    "inpaint": lambda: Verb.invert.main(
        ["digits", "digit.png", "--steps", "3", "--restarts", "2", "--class", "3", "--hole", "2,2,3,3", "--output", "out.png"]
    ),
    "evaluate": lambda: Verb.evaluate.main(
        ["digits", "--num_images", "64", "--metrics", ",".join(METRICS), "--output", "out.json"]
    ),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands(command: str, waits: StepWaits) -> None:
    write_png(inference.load("digits").sample(1)[0], Path("digit.png"))
    assert COMMANDS[command]() == 0
    assert list(Path().glob("out.*"))
    assert waits.watch.launches


def test_samples_are_the_cpus() -> None:
    sampler = inference.load("digits")
    images = sampler.sample(20, seed=1)
    with watching() as watch:
        sampler.generator.to(DEVICE)
        assert torch.equal(sampler.sample(20, seed=1), images)
    assert watch.launches
