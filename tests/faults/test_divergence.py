"""NaN or infinite losses, gradients and weights: the run ends, names the first step, and keeps the good checkpoint."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor

from gan_lightning import checkpoint
from gan_lightning.callbacks import Checkpoints, TrainingLog
from gan_lightning.commands.verbs import Verb
from gan_lightning.errors import Diverged
from gan_lightning.gan import GAN
from gan_lightning.losses import NonSaturatingLoss
from gan_lightning.regularizers import R1
from tests.faults.runs import DIGITS, LAST, RUN, Record, is_finite, made, run, tally
from tests.helpers import error_line, fit, small_gan

main = Verb.train.main

BAD = 23  # the step that goes wrong, of 40, in intervals of 10


TEN: dict[str, Any] = {"log_every_n_steps": 10, "logger": True, "enable_checkpointing": True}


def spoil_loss(model: GAN, name: str, value: float) -> None:
    """Make a loss ``value`` at the step BAD."""
    original = getattr(model.loss, name)

    def spoilt(*logits: Tensor) -> Tensor:
        loss: Tensor = original(*logits)
        return loss * value if model.global_step == BAD - 1 else loss

    setattr(model.loss, name, spoilt)


def spoil_gradient(model: GAN, name: str, value: float) -> None:
    """Make one number of one gradient ``value`` at the step BAD."""

    def spoilt(gradient: Tensor) -> Tensor:
        if model.global_step == BAD - 1:
            gradient = gradient.clone()
            gradient.flatten()[0] = value
        return gradient

    next(iter(getattr(model, name).parameters())).register_hook(spoilt)


def spoil_penalty(model: GAN, _: str, value: float) -> None:
    (penalty,) = model.penalties
    original = penalty.forward
    penalty.forward = lambda *args: original(*args) * (value if model.global_step == BAD - 1 else 1.0)  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("value", "adam"),
    [
        (float("nan"), True),
        (float("inf"), False),
        pytest.param(float("nan"), False, marks=pytest.mark.slow),
        pytest.param(float("inf"), True, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(
    ("spoil", "name", "message"),
    [
        (spoil_loss, "discriminator", f"step {BAD}: discriminator_loss is "),
        (spoil_loss, "generator", f"step {BAD}: .*generator_loss, is not finite "),
        (spoil_penalty, "penalty", f"step {BAD}: penalty is "),
        (spoil_gradient, "discriminator", f"step {BAD}: the discriminator's gradient or update"),
        (spoil_gradient, "generator", f"step {BAD}: the generator's gradient or update is not finite"),
    ],
)
def test_the_step_and_the_term_are_named(
    spoil: Any, name: str, message: str, value: float, adam: bool, record_property: Record
) -> None:
    optimizers: dict[str, Any] = {}
    if not adam:
        optimizers = {f"{which}_optimizer": lambda p: torch.optim.SGD(p, 0.01) for which in ("generator", "discriminator")}
    model = small_gan(penalty=R1(), **optimizers)
    spoil(model, name, value)
    last: list[int] = []

    class Count(Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            last.append(model.global_step)

    with pytest.raises(Diverged, match=message):
        fit(model, callbacks=[Count(), TrainingLog(), Checkpoints(7)], max_steps=40, **TEN)
    assert last[-1] <= 30  # the end of the interval
    (path,) = Path().rglob("last.ckpt")
    assert made(path) == 22  # the last checkpoint before: one at each epoch's end and at every seventh step
    assert is_finite(path)
    term = {"penalty": "a penalty"}.get(name, f"the {name}'s {'loss' if spoil is spoil_loss else 'gradient'}")
    tally(record_property, f"NaN or infinity in {term}", 1, 1, "nothing before that step")


def test_weights_that_are_not_finite_are_not_saved() -> None:
    model = small_gan()

    class Spoil(Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            if model.global_step == 7:
                with torch.no_grad():
                    next(iter(model.generator.parameters())).fill_(float("nan"))

    with pytest.raises(Diverged, match="step 7: the generator's weights"):
        fit(model, callbacks=[Spoil(), TrainingLog(), Checkpoints(7)], max_steps=40, **TEN)
    (path,) = Path().rglob("last.ckpt")
    assert made(path) == 0


def test_healthy_runs_are_left_alone() -> None:
    fit(small_gan(), callbacks=[TrainingLog(), Checkpoints(7)], max_steps=60, **TEN)


def test_a_learning_rate_that_blows_up_is_one_line(record_property: Record) -> None:
    code, _, error = run(*DIGITS, "--max_steps", "60", "--model.generator_optimizer.lr", "1e38")
    assert code == 2, error
    error_line(error, "step 1: the generator's", LAST, "--roll_back true")
    assert is_finite(LAST)
    tally(record_property, "a learning rate of 1e38", 1, 1, "nothing before that step")


@pytest.fixture
def spoilt_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The discriminator's loss is NaN at its 30th evaluation, and never again."""
    calls: list[int] = []
    original = NonSaturatingLoss.discriminator

    def spoilt(self: NonSaturatingLoss, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        calls.append(len(calls) + 1)
        return original(self, real_logits, fake_logits) * (float("nan") if calls[-1] == 30 else 1.0)

    monkeypatch.setattr(NonSaturatingLoss, "discriminator", spoilt)


@pytest.mark.usefixtures("spoilt_once")
def test_a_run_rolls_back_once_with_other_random_numbers(capsys: pytest.CaptureFixture[str], record_property: Record) -> None:
    args = [*DIGITS, "--max_steps", "60", "--checkpoints.every_n_steps", "7", "--roll_back", "true"]
    assert main(args) == 0
    printed = capsys.readouterr().out
    assert re.search(r"step 30: discriminator_loss is nan\n.* step 28, once, with seed \d+", printed)
    assert made() == 60
    assert [path.name for path in Path("lightning_logs").iterdir()] == ["version_0"]
    first, second = (checkpoint_seed(RUN / name) for name in ("config_1.yaml", "config.yaml"))
    assert first == 0 != second
    tally(record_property, "a NaN with --roll_back true", 1, 1, "the steps since the last checkpoint")


def checkpoint_seed(path: Path) -> int:
    found = re.search(r"seed_everything: (\d+)", path.read_text())
    assert found is not None
    return int(found[1])


def test_a_run_rolls_back_only_once(capsys: pytest.CaptureFixture[str]) -> None:
    args = [*DIGITS, "--max_steps", "60", "--model.generator_optimizer.lr", "1e38", "--roll_back", "true"]
    assert main(args) == 2
    out, error = capsys.readouterr()
    assert out.count(", once, with seed ") == 1
    assert "--roll_back" not in error_line(error, "train: error: step ", "last.ckpt")


@pytest.mark.usefixtures("spoilt_once")
def test_without_the_flag_a_run_does_not_roll_back(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*DIGITS, "--max_steps", "60", "--checkpoints.every_n_steps", "7"]) == 2
    error_line(capsys.readouterr().err, "train: error: step 30: discriminator_loss is nan", "step 28")
    assert made() == 28
    assert checkpoint.load_gan(LAST)["global_step"] == 28
