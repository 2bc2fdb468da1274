"""scripts/minimal.py: the same mathematics as its recipe."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from gan_lightning.commands.common.arguments import instantiate
from gan_lightning.commands.train.settings import settings
from gan_lightning.commands.verbs import Verb

SCRIPT = Path(__file__).parents[1] / "scripts" / "minimal.py"
STEPS, BATCH = 20, 4
draw_normal = torch.randn


@pytest.fixture
def minimal() -> ModuleType:
    spec = importlib.util.spec_from_file_location("minimal", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def _double_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def fit(model: LightningModule, batches: TensorDataset, max_steps: int, *callbacks: Callback) -> None:
    trainer = Trainer(
        accelerator="cpu",
        max_steps=max_steps,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, DataLoader(batches, BATCH))


@pytest.mark.usefixtures("_double_precision")
def test_twenty_steps_equal_those_of_the_package(minimal: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.rand(STEPS * BATCH, 1, 28, 28) * 2 - 1
    latents = draw_normal(STEPS, BATCH, minimal.LATENT)
    drawn: Iterator[Tensor] = iter(())
    monkeypatch.setattr(torch, "randn", lambda *size, **_: next(drawn))  # both call it once a step

    parser = Verb.train.make_parser()
    config, *_ = settings(parser, ["--config", "dcgan_mnist", "--max_steps", str(STEPS)])
    ours: Any = instantiate(parser, config)
    ours.model.double()
    theirs = minimal.GAN().double()
    monkeypatch.setattr(minimal, "UPDATES", STEPS)
    for name in ("generator", "discriminator"):
        own, copied = (list(getattr(model, name).state_dict().values()) for model in (ours.model, theirs))
        for target, source in zip(copied, own, strict=True):
            target.copy_(source)

    drawn = iter(latents)
    fit(ours.model, TensorDataset(images, torch.zeros(len(images), dtype=torch.long)), STEPS, ours.schedules)
    drawn = iter(latents)
    fit(theirs, TensorDataset(images), 2 * STEPS)  # Lightning counts a step of either optimizer as one

    assert theirs.update == ours.model.global_step == STEPS
    for network, twin in ((ours.model.generator, theirs.generator), (ours.model.ema, theirs.average)):
        for own, other in zip(network.state_dict().values(), twin.state_dict().values(), strict=True):
            torch.testing.assert_close(other, own, rtol=1e-9, atol=1e-12)
    for own, other in zip(ours.model.discriminator.parameters(), theirs.discriminator.parameters(), strict=True):
        torch.testing.assert_close(other, own, rtol=1e-9, atol=1e-12)
    assert any(not torch.equal(a, b) for a, b in zip(theirs.average.parameters(), theirs.generator.parameters(), strict=True))


def test_it_imports_only_torch_torchvision_and_lightning() -> None:
    lines = SCRIPT.read_text(encoding="utf-8").splitlines()
    imported = {line.split()[1].partition(".")[0] for line in lines if line.startswith(("import ", "from "))}
    assert imported == {"copy", "math", "pathlib", "torch", "lightning", "torchvision"}
    assert len(lines) <= 200
