"""Metrics of translations as the run goes on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn

from gan_lightning import checkpoint
from gan_lightning.callbacks import Checkpoints, TranslationMetrics
from gan_lightning.data import Derived, Digits
from gan_lightning.data.base import Split
from gan_lightning.data.degradations import TurnedNegative
from gan_lightning.metrics.table import PAIR_METRICS
from gan_lightning.metrics.translation import TranslationMeasurement
from gan_lightning.module import AdversarialModule
from tests.helpers import TensorData, curves, fit, refuses, same_state
from tests.metrics.extractors import images
from tests.translators import small_cycle, small_translation

MAKERS: dict[str, Callable[..., AdversarialModule]] = {"pairs": small_translation, "cycle": small_cycle}


class Pooled(nn.Module):
    """The grey level of each quarter of an image as 4 features."""

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(images.float() / 255, 2).mean(1).flatten(1)


POOLED = f"{__name__}.Pooled"


def data() -> Derived:
    return Derived(Digits, TurnedNegative(), batch_size=16)


def metrics(**arguments: Any) -> TranslationMetrics:
    settings: dict[str, Any] = {"extractor": POOLED, "num_images": 50, "every_n_steps": 2, "metrics": "fid,psnr,l1"}
    return TranslationMetrics(**(settings | arguments))


@pytest.mark.parametrize("kind", MAKERS)
def test_the_training_goes_on_as_if_nothing_was_measured(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    def trained(*callbacks: TranslationMetrics) -> AdversarialModule:
        torch.manual_seed(0)
        model = MAKERS[kind](ema_halflife=64.0)
        fit(model, data(), [*callbacks], max_steps=4)
        return model

    measuring = metrics()
    assert same_state(trained(measuring), trained())
    printed = capsys.readouterr().out
    assert printed.count("baseline identity: ") == 1  # once, before the first step
    assert measuring.best_name == "pooled_fd_50"
    assert measuring.baselines["identity"]["psnr"] < 15
    assert ("cycle_l1" in printed) == (kind == "cycle")
    assert ("inverse_psnr" in printed) == (kind == "cycle")


def test_the_average_is_measured_and_the_curves_are_logged() -> None:
    model = small_translation(ema_halflife=1e6, ema_ramp=None)  # the average stays where it began
    trainer = fit(model, data(), [metrics()], max_steps=4, logger=TensorBoardLogger("."))
    found = curves(Path(trainer.log_dir or ""))
    assert {name for name in found if name.startswith("metrics/")} == {f"metrics/{n}" for n in ("pooled_fd_50", "psnr", "l1")}
    assert list(found["metrics/psnr"]) == [2, 4]
    assert found["metrics/psnr"][2] == pytest.approx(found["metrics/psnr"][4], rel=1e-3)


@pytest.mark.parametrize(("held", "names"), [(0, []), (1, ["psnr", "l1"]), (2, ["pooled_fd_2", "psnr", "l1"])])
def test_few_held_out_images_are_measured_as_far_as_that_is_possible(
    held: int, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Few(Derived):
        def num_images(self, split: Split) -> int:
            return held if split == "test" else super().num_images(split)

    monkeypatch.setattr("gan_lightning.metrics.translation.PAIR_METRICS", {n: PAIR_METRICS[n] for n in ("psnr", "l1")})
    few = Few(Digits, TurnedNegative(), batch_size=16)
    trainer = fit(small_translation(), few, [metrics(metrics=None)], max_steps=2, logger=TensorBoardLogger("."))
    found = curves(Path(trainer.log_dir or ""))
    assert sorted(name for name in found if name.startswith("metrics/")) == sorted(f"metrics/{name}" for name in names)
    if held < 2:
        with refuses(held):
            TranslationMeasurement(few, torch.device("cpu"), POOLED, None if not held else ["fid"])


class Scripted(TranslationMetrics):
    """Measures what a test says, in turn."""

    def __init__(self, values: list[float], **arguments: Any) -> None:
        super().__init__(extractor=POOLED, num_images=20, every_n_steps=1, metrics="fid,psnr", **arguments)
        self.values = values

    def _evaluate(self, model: Any, measurement: TranslationMeasurement) -> dict[str, float]:
        return {self.best_name: self.values.pop(0)}


@pytest.mark.parametrize(("best", "step"), [("fid", 2), ("psnr", 4)])
def test_best_ckpt_is_that_of_the_chosen_value(best: str, step: int) -> None:
    measuring = Scripted([5.0, 3.0, 4.0, 6.0, 5.0], best=best)
    fit(small_translation(), data(), [measuring, Checkpoints()], enable_checkpointing=True, max_steps=5)
    assert measuring.best_step == step
    content = checkpoint.load_gan("checkpoints/best.ckpt")
    assert content["global_step"] == step
    assert content["callbacks"]["Scripted"]["best_step"] == step


def test_patience_stops_the_run() -> None:
    trainer = fit(small_translation(), data(), [Scripted([3.0, 4.0, 5.0, 1.0], patience=2)], max_steps=9)
    assert trainer.global_step == 3


def test_lightning_monitors_the_values() -> None:
    stopping = EarlyStopping("metrics/inverse_l1", mode="min", patience=1)
    fit(small_cycle(), data(), [metrics(), stopping], max_steps=2)
    with refuses("metrics/psnr", "max"):
        fit(small_translation(), data(), [metrics(), EarlyStopping("metrics/psnr", mode="min")], max_steps=2)
    with refuses("metrics/inverse_l1"):  # there is no way back
        fit(small_translation(), data(), [metrics(), EarlyStopping("metrics/inverse_l1", mode="min")], max_steps=2)


def test_bad_arguments() -> None:
    for wrong in ({"num_images": 0}, {"every_n_steps": -1}, {"batch_size": 0}, {"num_real": 0}):
        ((name, value),) = wrong.items()
        with refuses(name, value):
            TranslationMetrics(**wrong)  # type: ignore[arg-type]
    with refuses("foo"):
        TranslationMetrics(metrics="psnr,foo")
    with refuses("metrics.best", "ssim"):
        TranslationMetrics(metrics="psnr", best="ssim")
    with refuses("metrics.best", "inverse_l1"):  # a value of CycleGAN only
        fit(small_translation(), data(), [metrics(best="inverse_l1")], max_steps=1)
    with refuses("sources and targets"):
        fit(small_translation(), TensorData(images(32, seed=0)), [metrics()], max_steps=1)
    measured = metrics(extractor="none")
    fit(small_translation(), data(), [measured], max_steps=2)
    assert measured.measurement is None
