"""Every bundled recipe, through the real entry point."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import torch
import yaml
from PIL import Image

import gan_lightning
from gan_lightning import checkpoint
from gan_lightning.commands.common.recipes import recipes, recipes_of
from gan_lightning.commands.verbs import Verb
from gan_lightning.pictures import read_png
from tests.helpers import accept_cifar10, assert_same_state, await_next_second, curves, interrupted, write_cifar10, write_mnist

main = Verb.train.main

EVERY_RECIPE = sorted(recipes())
RECIPES = recipes_of("GAN")
TRANSLATIONS = sorted(set(EVERY_RECIPE) - set(RECIPES))
SCRIPT = Path(__file__).parents[1] / "scripts" / "train.py"
TWO_STEPS = [
    *("--max_steps", "2", "--accelerator", "cpu", "--image_grid.rows", "2", "--image_grid.columns", "2"),
    *("--data.batch_size", "8"),
]


def narrow(widths: str) -> list[str]:
    return [word for name in ("generator", "discriminator") for word in (f"--model.{name}.widths", widths)]


SMALL = ["--data.image_size", "32"]
NARROWER = {
    **dict.fromkeys(("sngan_cifar10", "sngan_cifar10_conditional", "wgan_gp_cifar10"), narrow("[8,8,8,8]")),
    **dict.fromkeys(("r3gan_cifar10", "r3gan_cifar10_slim"), narrow("[16,16,16,16]")),
    "folder_128": [*SMALL, *("--model.discriminator.resolution", "32", "--model.discriminator.width", "4")],
    "folder_256": [*SMALL, *("--model.discriminator.resolution", "32", "--model.generator.width", "4")],
    "r3gan_folder_256": [*SMALL, *narrow("[16,16,16,16]"), "--model.micro_batch", "4"],
}
"""The widest networks would take minutes."""
QUICK = {"digits", "wgan_gp_mnist", "sngan_cifar10_conditional", "r3gan_mnist_slim", "folder_64", "folder_256"}
"""A recipe of each family of networks: five updates of D, spectral norm, schedules, and images from files among them."""
EVERY = [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in RECIPES]
NARROW = ["--model.generator.width", "4", "--model.discriminator.width", "4"]
SMALL_TRANSLATIONS = {
    **{name: ["--data.source.image_size", "16"] for name in ("edges_folder", "colour_folder", "inpaint_folder")},
    "pix2pix_folder": ["--data.image_size", "32"],
    "super_resolution_folder": ["--data.source.image_size", "32", "--model.generator.blocks", "1"],
    "cyclegan_folder": ["--data.image_size", "32", "--model.generator.blocks", "1"],
}
QUICK_TRANSLATIONS = {"inpaint_mnist", "pix2pix_folder", "cyclegan_folder"}
"""A recipe of each method, and of each kind of data but the negatives."""
TABLE = Path(__file__).parents[1] / "docs" / "recipes.md"


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The folder of small data sets, with what is cached of them, and the checksums of CIFAR-10."""
    root = tmp_path_factory.mktemp("data")
    write_mnist(root, "MNIST")
    write_mnist(root, "FashionMNIST")
    for i in range(24):
        (root / "photos" / str(i % 2)).mkdir(parents=True, exist_ok=True)
        noise = numpy.random.default_rng(i).integers(0, 256, (70, 64 + i, 3), dtype=numpy.uint8)
        Image.fromarray(noise).save(root / "photos" / str(i % 2) / f"{i}.png")
        for side in "AB":
            (root / "pairs" / side).mkdir(parents=True, exist_ok=True)
            Image.fromarray(noise).save(root / "pairs" / side / f"{i}.png")
    return root, write_cifar10(root, count=30)


@pytest.fixture(autouse=True)
def _data(sources: tuple[Path, dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    root, sums = sources
    monkeypatch.setenv("GAN_LIGHTNING_DATA", str(root))
    monkeypatch.setattr("gan_lightning.metrics.classifier.FEWEST_IMAGES_SEEN", 1)  # a poor classifier, but fast
    accept_cifar10(monkeypatch, sums)


def check(capture: str) -> None:
    run = Path("lightning_logs/version_0")
    content = checkpoint.load_gan(run / "checkpoints" / "last.ckpt")
    assert content["global_step"] == 2
    assert (run / "images" / "step_00000002.png").is_file()
    images = gan_lightning.load(run / "checkpoints" / "last.ckpt").sample(3)
    assert images.shape[0] == 3
    assert "image grid" in capture


def flags_of(name: str) -> list[str]:
    """Flags that make a recipe small and provide its images."""
    photos = str(Path(os.environ["GAN_LIGHTNING_DATA"]) / "photos")
    return [*NARROWER.get(name, []), *(["--data.root", photos] if "folder" in name else [])]


@pytest.mark.parametrize("name", RECIPES)
def test_two_steps(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--metrics.num_images", "20", *flags_of(name)]
    colour = "cifar10" in name or "folder" in name
    if "stacked" in name:
        flags += ["--metrics.num_real", "100"]  # all 128,000 would take minutes
    elif colour:
        extractor = "auto" if name in QUICK else "none"  # takes a hundredth of a second an image
        flags += ["--metrics.num_real", "20", "--health.extractor", "none", "--metrics.extractor", extractor]
    assert main(["--config", name, *TWO_STEPS, *flags]) == 0
    printed = capsys.readouterr().out
    check(printed)
    if "none" not in flags[-1:]:
        assert ("imagenet_fd_20" if colour else "_fd_20") in printed


def translation(name: str) -> list[str]:
    """Flags that train a recipe of a translation for two steps, on small images with narrow networks."""
    data = Path(os.environ["GAN_LIGHTNING_DATA"])
    roots = {"pix2pix_folder": ["--data.root", str(data / "pairs")]}
    roots["cyclegan_folder"] = ["--data.a", str(data / "photos" / "0"), "--data.b", str(data / "photos" / "1")]
    root = roots.get(name, ["--data.root", str(data / "photos")] if "folder" in name else [])
    small = [*NARROW, *SMALL_TRANSLATIONS.get(name, []), "--data.batch_size", "4"]
    small += ["--metrics.extractor", "none"] * ("folder" in name)  # one image is held out
    return ["--config", name, *TWO_STEPS, *small, *root, "--image_grid.rows", "1", "--image_grid.columns", "1"]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK_TRANSLATIONS else pytest.mark.slow) for name in TRANSLATIONS]
)
def test_two_steps_of_a_translation(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(translation(name)) == 0
    run = Path("lightning_logs/version_0")
    content = checkpoint.load_gan(run / "checkpoints" / "last.ckpt")
    method = yaml.safe_load(recipes()[name].read_text())["method"]
    assert content["global_step"] == 2
    assert checkpoint.method(content) == yaml.safe_load((run / "config.yaml").read_text())["method"] == method
    picture = read_png(run / "images" / "step_00000002.png")
    (height, width), rows = picture.shape[1:], 2 if method == "CycleGAN" else 1
    assert (width - 2) % 3 == 0  # three square images, and below them those of the other direction
    assert height == rows * (2 + (width - 2) // 3)
    assert "image grid" in capsys.readouterr().out


@pytest.mark.parametrize("name", EVERY)
def test_two_steps_in_mixed_precision(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    mixed = ["--precision", "bf16-mixed", "--metrics.extractor", "none", "--health.extractor", "none"]
    assert main(["--config", name, *TWO_STEPS, *mixed, *flags_of(name)]) == 0
    check(capsys.readouterr().out)


ADAPTING = [
    *("--model.penalty", "LeCam", "--model.augmentation", "AdaptiveAugment", "--model.augmentation.images", "100"),
    *("--schedules.learning_rate", "CosineSchedule"),  # ends with the run
    *("--schedules.penalty", "LinearSchedule", "--schedules.penalty.steps", "9"),
]


FROM_DISK = [
    "--data.max_bytes_on_device",
    "0",
    "--data.pack",
    "false",
    "--data.num_workers",
    "2",
    "--data.horizontal_flip",
    "true",
]


@pytest.mark.parametrize(
    ("name", "more"),
    [
        *(pytest.param(name, [], marks=[] if name in QUICK else pytest.mark.slow) for name in RECIPES),
        ("small_dcgan_mnist", ADAPTING),
        ("folder_64", FROM_DISK),
    ],
)
def test_a_resumed_run_ends_like_an_uninterrupted_one(
    name: str, more: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Four steps are bitwise equal to four that are interrupted after two, within the epoch, or after three, at its end."""
    batch_size = {"digits": "400"}.get(name, "8")  # digits: three batches an epoch
    run = ["--config", name, *TWO_STEPS, "--data.batch_size", batch_size, *flags_of(name), *more]
    run += ["--metrics.extractor", "none", "--log_every_n_steps", "3", "--logger", "[csv,tensorboard]"]
    run += ["--max_steps", "4"]
    assert main([*run, "--default_root_dir", "straight"]) == 0
    random = torch.get_rng_state()
    straight, stopped = (Path(root) / "lightning_logs" / "version_0" for root in ("straight", "stopped"))
    interrupted([*run, "--default_root_dir", "stopped"], 2, monkeypatch)
    assert checkpoint.load_gan(stopped / "checkpoints" / "last.ckpt")["global_step"] == 2
    await_next_second(stopped)
    capsys.readouterr()
    assert main(["--ckpt_path", "last", "--default_root_dir", "stopped"]) == 0
    assert "instead of" not in capsys.readouterr().out  # no schedule has another length
    assert_same_state(straight, stopped)
    assert torch.equal(torch.get_rng_state(), random)
    shown, expected = curves(stopped), curves(straight)
    for tag, points in expected.items():
        assert {step: shown[tag][step] for step in points} == points, tag  # the interrupted run has one more point


@pytest.mark.parametrize("name", ["inpaint_mnist", "cyclegan_mnist"])
def test_a_resumed_translation_ends_like_an_uninterrupted_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As above: the method, the holes, both orders and the pools of earlier images go on as if nothing had happened."""
    run = [*translation(name), "--max_steps", "4", "--log_every_n_steps", "3", "--logger", "csv"]
    assert main([*run, "--default_root_dir", "straight"]) == 0
    random = torch.get_rng_state()
    straight, stopped = (Path(root) / "lightning_logs" / "version_0" for root in ("straight", "stopped"))
    interrupted([*run, "--default_root_dir", "stopped"], 2, monkeypatch)
    assert main(["--ckpt_path", "last", "--default_root_dir", "stopped"]) == 0
    assert torch.equal(torch.get_rng_state(), random)
    assert_same_state(straight, stopped)
    expected, pools = (checkpoint.load_gan(each / "checkpoints" / "last.ckpt").get("pools", {}) for each in (straight, stopped))
    assert len(pools) == len(expected) == (4 if name == "cyclegan_mnist" else 0)
    assert all(torch.equal(pools[part], expected[part]) for part in expected)
    assert torch.equal(*(read_png(each / "images" / "step_00000004.png") for each in (straight, stopped)))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")
@pytest.mark.parametrize("name", RECIPES)
def test_compiled_is_the_same(name: str) -> None:
    """Compare the curves of two compiled and eager steps, and the keys of a checkpoint. Takes half a minute each."""
    torch._dynamo.reset()  # after eight versions of one method it would run eagerly
    run = ["--config", name, *TWO_STEPS, *flags_of(name), "--metrics.extractor", "none", "--log_every_n_steps", "1"]
    assert main([*run, "--default_root_dir", "eager"]) == 0
    assert main([*run, "--default_root_dir", "compiled", "--model.compile", "true"]) == 0
    eager, compiled = (Path(root) / "lightning_logs" / "version_0" for root in ("eager", "compiled"))
    states = [checkpoint.load_gan(folder / "checkpoints" / "last.ckpt")["state_dict"] for folder in (eager, compiled)]
    assert list(states[0]) == list(states[1])
    shown = curves(compiled)
    for tag, points in curves(eager).items():
        if not re.search("per_second|norm", tag):
            assert shown[tag] == pytest.approx(points, rel=1e-3, abs=1e-4), tag  # usually within 1e-5


def test_two_steps_as_typed() -> None:
    command = [sys.executable, str(SCRIPT), *TWO_STEPS, "--metrics.extractor", "none"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    check(done.stdout)


@pytest.mark.parametrize("name", EVERY_RECIPE)
def test_a_recipe_begins_with_its_budget(name: str) -> None:
    text = recipes()[name].read_text()
    updates = re.match(r"# ([\d,]+) updates", text)
    assert updates is not None
    recipe = yaml.safe_load(text)
    trainer, images = recipe["trainer"], {"CIFAR10": 50_000}.get(recipe["data"]["class_path"], 60_000)
    assert int(updates[1].replace(",", "")) == trainer.get("max_steps", images // 64 * trainer["max_epochs"])


def parsed(name: str) -> dict[str, object]:
    """All settings of a recipe by dotted name, including defaults."""
    settings: dict[str, object] = {}

    def collect(value: object, name: str) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                collect(item, f"{name}.{key}".lstrip("."))
        else:
            settings[name] = value

    parser = Verb.train.make_parser()
    config = parser.parse_args(["--config", str(recipes()[name])])
    collect(yaml.safe_load(parser.dump(config, skip_unset=False)), "")
    assert len(settings) > 80
    return settings | {"config": None}


@pytest.mark.parametrize(
    ("name", "twin", "difference"),
    [
        ("minimax_mnist", "mlp_mnist", "model.loss.class_path"),
        ("lsgan_mnist", "dcgan_mnist", "model.loss.class_path"),
        ("dcgan_fashion_mnist", "dcgan_mnist", "data.class_path"),
    ],
)
def test_twin_recipes_differ_in_one_setting(name: str, twin: str, difference: str) -> None:
    one, other = parsed(name), parsed(twin)
    assert {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)} == {difference}


def test_the_docs_list_every_recipe() -> None:
    assert set(re.findall(r"^\| `(\w+)` \|", TABLE.read_text(), re.MULTILINE)) == set(EVERY_RECIPE)


@pytest.mark.slow
def test_digits_in_full() -> None:
    """The whole recipe: every conditional sample is closer to the mean of its class than to that of another, mostly.

    Nearest class mean names 90 % of the real test images; of the samples of a trained generator it named 96 %.
    """
    from gan_lightning.data import Digits

    assert main(["--config", "digits", "--accelerator", "cpu"]) == 0
    train, labels = Digits().images("train")
    assert labels is not None
    means = torch.stack([train[labels == c].float().mean(0).flatten() for c in range(10)])
    wanted = torch.arange(500) % 10
    samples = gan_lightning.load("lightning_logs/version_0/checkpoints/last.ckpt").sample(500, labels=wanted)
    named = torch.cdist(samples.float().flatten(1), means).argmin(1)
    assert float((named == wanted).float().mean()) > 0.85
    spread = torch.stack([samples[wanted == c].float().std(0).mean() for c in range(10)])
    assert float(spread.min()) > 15  # no class is one picture; 28 to 41, and of the real images 32 to 49


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ["cgan_mnist", "acgan_mnist"])
def test_samples_have_the_requested_class(name: str, real_data: Path) -> None:
    """After 4,000 updates (about five minutes on one core) MNIST's classifier agrees with 95 %, and samples differ."""
    from gan_lightning.data import MNIST
    from gan_lightning.metrics.measurement import make_extractor

    args = ["--config", name, "--accelerator", "cpu", "--max_steps", "4000", "--metrics.extractor", "none"]
    assert main(args) == 0
    wanted = torch.arange(2000) % 10
    samples = gan_lightning.load("lightning_logs/version_0/checkpoints/last.ckpt").sample(2000, labels=wanted)
    extractor = make_extractor("classifier", MNIST(), None, torch.device("cpu"))
    named = torch.cat([extractor(part)[1].argmax(1) for part in samples.split(100)])
    agreement = float((named == wanted).float().mean())
    print(f"{name}: {agreement:.4f}")
    assert agreement > 0.95
    spread = torch.stack([samples[wanted == c].float().std(0).mean() for c in range(10)])
    assert float(spread.min()) > 10  # no class is a single picture (2 to 5); 16 (ones) to 39 after 1,600 updates
