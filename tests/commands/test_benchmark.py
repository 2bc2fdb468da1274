"""The benchmark command: what it compares does the same work, and its table says so."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from gan_lightning.commands import train
from gan_lightning.commands.arguments import instantiate
from gan_lightning.commands.benchmark import main
from gan_lightning.commands.benchmark_training import bare_loop, flags, table, tutorial_loop
from gan_lightning.data import ImageDataModule
from gan_lightning.gan import GAN

Loop = Callable[[GAN, ImageDataModule, torch.device], Iterator[None]]


def made(recipe: str) -> tuple[GAN, ImageDataModule]:
    parser = train.make_parser()
    narrow = ["--model.generator.hidden", "[8]", "--model.discriminator.hidden", "[8]"] if "mlp" in recipe else []
    objects = instantiate(parser, train.settings(parser, [*flags(recipe, 16, 3), *narrow])[0])
    model: GAN = objects.model
    data: ImageDataModule = objects.data
    return model, data


@pytest.mark.parametrize(
    ("loop", "recipe"),
    [
        (tutorial_loop, "mlp_mnist"),
        *((bare_loop, name) for name in ("mlp_mnist", "small_dcgan_mnist", "cgan_mnist", "r3gan_mnist_slim")),
    ],
)
def test_every_weight_moves(loop: Loop, recipe: str) -> None:
    torch.manual_seed(0)
    model, data = made(recipe)
    before = {name: value.clone() for name, value in model.named_parameters() if not name.startswith("ema.")}
    steps = loop(model, data, torch.device("cpu"))
    for _ in range(3):
        next(steps)
    still = [name for name, value in model.named_parameters() if name in before and torch.equal(value, before[name])]
    assert not still
    assert all(bool(value.isfinite().all()) for value in model.parameters())


def test_the_bare_loop_is_the_mathematics_of_the_real_one() -> None:
    """From the same weights and with the same numbers: the losses' gradients of the first update of D, to rounding."""
    model, data = made("mlp_mnist")
    twin, _ = made("mlp_mnist")
    twin.load_state_dict(model.state_dict())
    torch.manual_seed(3)
    chosen = torch.randperm(len(data.images("train")[0]))[:16]  # the bare loop's first batch
    fake = twin.generator(torch.randn(16, twin.generator.latent_dim)).detach()
    real = data.images("train")[0][chosen].float() / 127.5 - 1
    outputs = [logits for logits, _ in twin._judge_both(real, fake, None)]
    twin.loss.discriminator(*outputs).backward()
    expected = [parameter.grad for parameter in twin.discriminator.parameters()]
    torch.manual_seed(3)
    next(bare_loop(model, data, torch.device("cpu")))
    for mine, theirs in zip(model.discriminator.parameters(), expected, strict=True):
        assert mine.grad is not None
        assert theirs is not None
        assert torch.allclose(mine.grad, theirs, atol=1e-7)  # usually within 1e-9


def test_the_table_has_medians_and_their_ratios() -> None:
    row = {"peak_bytes": 2**21}
    loops = {
        "tutorial": {"seconds_per_step": [0.003, 0.009, 0.004], **row},
        "bare": {"seconds_per_step": [0.001, 0.001, 0.001], **row},
        "ours": {"seconds_per_step": [0.002, 0.002, 0.002], **row},
    }
    line = table({"mlp_mnist": loops}).splitlines()[-1]
    assert line == "| mlp_mnist | 4.0 (3.0 to 9.0) | 1.0 (1.0 to 1.0) | 2.0 (2.0 to 2.0) | 2.00 | 0.50 | 2 / 2 / 2 MiB |"


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    args = ["train", "--recipes", "small_mlp_mnist", "--steps", "3", "--rounds", "1", "--batch_size", "8"]
    assert main([*args, "--output", "figures.json"]) == 0
    assert "| small_mlp_mnist | " in capsys.readouterr().out
    figures = json.loads(Path("figures.json").read_text())["small_mlp_mnist"]
    assert set(figures) == {"tutorial", "bare", "ours"}
    assert all(len(row["seconds_per_step"]) == 1 and row["seconds_per_step"][0] > 0 for row in figures.values())


@pytest.mark.parametrize(
    ("args", "part"),
    [
        (["speed"], "there is no benchmark 'speed': there is metrics, and train"),
        (["train", "--recipes", "mlp_mnits"], "did you mean mlp_mnist?"),
        (["train", "--steps", "0"], "--steps 0"),
        (["metrics", "--num_images", "5"], "--num_images 5"),
    ],
)
def test_bad_input_is_one_line(args: list[str], part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(args) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert part in line
