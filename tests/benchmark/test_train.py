"""Training speed: the compared loops do the same work, and the table is right."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

import scale
import train as benchmark
from gan_lightning.commands.common.arguments import instantiate
from gan_lightning.commands.common.recipes import recipes_of
from gan_lightning.commands.train.settings import settings
from gan_lightning.commands.verbs import Verb
from gan_lightning.data import ImageDataModule
from gan_lightning.gan import GAN
from gan_lightning.regularizers import DiscriminatorBatch
from loops import bare_loop, require_comparable, tutorial_loop
from tests.helpers import refuses
from timing import Parts, flags, synthetic_data, table

Loop = Callable[[GAN, ImageDataModule, torch.device], Iterator[None]]


def made(recipe: str) -> tuple[GAN, ImageDataModule]:
    parser = Verb.train.make_parser()
    narrow = ["--model.generator.hidden", "[8]", "--model.discriminator.hidden", "[8]"] if "mlp" in recipe else []
    objects = instantiate(parser, settings(parser, [*flags(recipe, 16, 3), *narrow])[0])
    model: GAN = objects.model
    data: ImageDataModule = objects.data
    return model, data


@pytest.mark.parametrize(
    ("loop", "recipe"),
    [
        (loop, name)
        for loop in (tutorial_loop, bare_loop)
        for name in ("mlp_mnist", "small_dcgan_mnist", "cgan_mnist", "r3gan_mnist_slim")
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
    assert set(still) <= ({"discriminator.head.layers.0.bias"} if "r3gan" in recipe else set())  # of differences of logits: 0
    assert all(bool(value.isfinite().all()) for value in model.parameters())


def test_the_bare_loop_computes_the_same_gradients() -> None:
    """Compare the gradients of D's first update, with R1, from the same weights, images and latents: equal to rounding."""
    model, data = made("mlp_mnist")
    twin, _ = made("mlp_mnist")
    twin.load_state_dict(model.state_dict())
    torch.manual_seed(3)
    chosen = torch.randperm(len(data.images("train")[0]))[:16]  # the bare loop's first batch
    fake = twin.generator(torch.randn(16, twin.generator.latent_dim)).detach()
    real = data.images("train")[0][chosen].float() / 127.5 - 1
    (real_logits, _), (fake_logits, _) = twin.discriminate_both(real, fake, None)
    batch = DiscriminatorBatch(real, fake, None, real_logits, fake_logits)
    penalties = [penalty(twin.discriminator, batch) for penalty in twin.penalties]
    (twin.loss.discriminator(real_logits, fake_logits) + torch.stack(penalties).sum()).backward()
    expected = [parameter.grad for parameter in twin.discriminator.parameters()]
    torch.manual_seed(3)
    next(bare_loop(model, data, torch.device("cpu")))
    for mine, theirs in zip(model.discriminator.parameters(), expected, strict=True):
        assert mine.grad is not None
        assert theirs is not None
        assert torch.allclose(mine.grad, theirs, rtol=1e-4, atol=1e-7)


def test_recipes_with_unsupported_parts_are_refused() -> None:
    for recipe in ("wgan_clip_mnist", "acgan_mnist"):
        with refuses("augmentation"):
            require_comparable(*made(recipe))
    model, data = made("mlp_mnist")
    require_comparable(model, data)
    data.batch_size = 60_001
    with refuses(60001, "60,000"):
        require_comparable(model, data)


def test_a_profile_of_the_command_shows_both_optimizers(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(Parts, "start", lambda self, action_name: seen.append(action_name))
    monkeypatch.setattr(Parts, "stop", lambda self, action_name: None)
    watch = ["--trainer.callbacks+=timing.Stopwatch", "--trainer.callbacks.parts", "true"]
    watch += ["--trainer.callbacks.warm_up", "1", "--trainer.callbacks.steps", "2", "--model.discriminator_steps", "3"]
    assert Verb.train.main([*flags("small_mlp_mnist", 8, 3), "--accelerator", "cpu", *watch]) == 0
    assert seen.count("optimizer_step") == 3 * (1 + 3)


def test_the_table_has_medians_and_their_ratios() -> None:
    row = {"peak_bytes": 2**21, "first_step_seconds": [3.0, 5.0, 4.0]}
    loops = {
        "tutorial": {"images_per_second": [1000.0, 4000.0, 2000.0], **row},
        "bare": {"images_per_second": [8000.0, 8000.0, 8000.0], **row},
        "ours": {"images_per_second": [4000.0, 6000.0, 4000.0], **row},
    }
    case = {"recipe": "mlp_mnist", "batch_size": 64, "loops": loops, "parts": {"data": 0.25, "D": 0.75}}
    lines = table([case]).splitlines()
    assert lines[2] == (
        "| mlp_mnist, batch 64 | 2,000 (1,000 to 4,000) | 8,000 (8,000 to 8,000) | 4,000 (4,000 to 6,000) | 16.0 "
        "| 2.00 (1.50 to 4.00) | 0.50 (0.50 to 0.75) | 4.0 s | 2 / 2 / 2 MiB |"
    )
    assert lines[-1] == "| mlp_mnist, batch 64 | 25.0% | 75.0% |"


def test_a_part_is_timed_without_nested_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("timing.now", lambda: clock[0])
    parts = Parts()

    def spend(seconds: float) -> None:
        clock[0] += seconds

    with parts.profile("run_training_batch"):
        spend(1)
        with parts.profile("discriminator"):
            spend(2)
            with parts.profile("[Strategy]SingleDeviceStrategy.backward"):  # belongs to D
                spend(4)
            with parts.profile("optimizer_step"):
                spend(8)
        with parts.profile("[Callback]ImageGrid.on_train_batch_end"):
            spend(16)
    with parts.profile("nothing"):
        pass
    assert parts.seconds == {"data": 0, "D": 6, "G": 0, "optimizers": 8, "EMA": 0, "logging": 16, "Lightning": 1}


def test_noise_has_the_shape_and_classes_of_the_recipe() -> None:
    """Every bundled recipe of a GAN has images of a known shape."""
    shapes = {}
    for recipe in recipes_of("GAN"):
        found = dict(zip(*[iter(synthetic_data(recipe))] * 2, strict=True))
        shapes[recipe] = found["--data.image_shape"], found["--data.classes"]
    assert shapes["mlp_mnist"] == ("[1,28,28]", "10")
    assert shapes["sngan_cifar10"] == ("[3,32,32]", "10")
    assert shapes["digits"] == ("[1,8,8]", "10")
    assert shapes["dcgan_stacked_mnist"] == ("[3,28,28]", "1000")
    assert shapes["folder_64"] == ("[3,64,64]", "0")


@pytest.mark.slow
def test_train(capsys: pytest.CaptureFixture[str]) -> None:
    args = ["--recipes", "small_dcgan_mnist", "--steps", "3", "--rounds", "1", "--batch_sizes", "8"]
    assert benchmark.main([*args, "--output", "figures.json"]) == 0
    assert "| small_dcgan_mnist, batch 8 | " in capsys.readouterr().out
    (case,) = json.loads(Path("figures.json").read_text())
    assert set(case["loops"]) == {"tutorial", "bare", "ours"}
    assert all(len(row["images_per_second"]) == 1 and row["images_per_second"][0] > 0 for row in case["loops"].values())
    assert sum(case["parts"].values()) == pytest.approx(1)
    assert min(case["parts"][part] for part in ("data", "D", "G", "optimizers", "EMA", "logging", "Lightning")) > 0


SHORT = ["--recipes", "small_mlp_mnist", "--steps", "2", "--rounds", "1", "--batch_sizes", "4"]


@pytest.mark.slow
def test_scale(capsys: pytest.CaptureFixture[str]) -> None:
    assert scale.main(SHORT) == 0
    assert re.findall("batch [0-9]+", capsys.readouterr().out) == ["batch 4"]


def test_a_child_that_refuses_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Flags that the parser refuses are reported with the child's message."""
    assert benchmark.main([*SHORT, "--variant=--model.compil true"]) == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "error" in line)
    assert "--model.compil" in line
    assert "small_mlp_mnist" in line


@pytest.mark.slow
def test_variant(capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main([*SHORT, "--variant=--model.reuse_fakes true --log_every_n_steps 1"]) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith("| images a second | scripts/train.py | variant | ms a step")


@pytest.mark.parametrize(
    ("main", "args", "part"),
    [
        (benchmark.main, "--step 3", "--step; did you mean --steps?"),
        (benchmark.main, "--steps 0", "--steps"),
        (benchmark.main, "--rounds x", "--rounds"),
        (benchmark.main, "--recipes ,", "--recipes"),
        (benchmark.main, "--recipes mlp_mnits", "did you mean mlp_mnist?"),
        (benchmark.main, "--batch_sizes 8,x", "--batch_sizes 8,x"),
        (benchmark.main, "--batch_sizes 0", "--batch_sizes 0"),
        (benchmark.main, "--output nowhere.json/figures.json", "--output nowhere.json/figures.json"),
        (benchmark.main, "--variant='oops", "--variant 'oops"),
        (benchmark.main, "--variant=--max_steps=3", "--max_steps=3"),
        (benchmark.main, "--variant=--data.batch_size=3", "--data.batch_size=3"),
        (scale.main, "--batch_sizes 8,9", "--batch_sizes 8,9"),
        (scale.main, "--variant --precision=bf16-mixed", "--variant"),
    ],
)
def test_bad_flags(main: Callable[[list[str]], int], args: str, part: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("nowhere.json").touch()
    assert main(args.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert part in line
