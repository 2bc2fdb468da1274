"""From a checkpoint to pictures."""

from pathlib import Path

import pytest
import torch

import gan_lightning
from gan_lightning import files
from gan_lightning.data import Digits
from gan_lightning.gan import GAN
from gan_lightning.losses import NonSaturatingLoss
from gan_lightning.networks import MLPDiscriminator, MLPGenerator
from tests.helpers import fit, refuses


@pytest.fixture
def path(tmp_path: Path, small_checkpoint: bytes) -> Path:
    (tmp_path / "last.ckpt").write_bytes(small_checkpoint)
    return tmp_path / "last.ckpt"


def test_a_checkpoint_alone_rebuilds_the_generator(path: Path) -> None:
    images = gan_lightning.load(path).sample(5, seed=3)
    assert images.shape == (5, 1, 8, 8)
    assert images.dtype == torch.uint8
    assert images.float().std() > 0


def test_the_average_is_loaded_unless_raw(path: Path) -> None:
    weights = files.load(path)["state_dict"]
    for raw, prefix in ((False, "ema."), (True, "generator.")):
        loaded = gan_lightning.load(path, raw=raw).generator.state_dict()
        assert all(torch.equal(value, weights[prefix + name]) for name, value in loaded.items())
    assert not torch.equal(weights["ema.layers.0.weight"], weights["generator.layers.0.weight"])


def test_the_images_depend_on_the_seed_and_not_on_the_batch_size(path: Path) -> None:
    gan = gan_lightning.load(path)
    one = gan.sample(10, seed=1)
    assert torch.equal(one, gan.sample(10, seed=1))
    assert not torch.equal(one, gan.sample(10, seed=2))
    assert (one.int() - gan.sample(10, seed=1, batch_size=3).int()).abs().max() <= 1


def test_labels_of_a_conditional_generator(tmp_path: Path) -> None:
    shape, classes = (1, 8, 8), 10
    gan = GAN(
        MLPGenerator(shape, classes, hidden=[8], conditioning="concatenation"),
        MLPDiscriminator(shape, classes, hidden=[8], conditioning="concatenation"),
        NonSaturatingLoss(),
    )
    fit(gan, Digits(), max_steps=2).save_checkpoint(tmp_path / "c.ckpt", weights_only=False)
    sampler = gan_lightning.load(tmp_path / "c.ckpt")
    threes = sampler.sample(4, labels=3)
    assert torch.equal(threes, sampler.sample(4, labels=[3, 3, 3, 3]))
    assert torch.equal(threes, sampler.sample(4, labels=torch.tensor(3)))
    assert not torch.equal(threes, sampler.sample(4, labels=4))
    assert torch.equal(sampler.sample(4), sampler.sample(4, labels=[0, 1, 2, 3]))
    for labels in (10, -1, [1, 2], 3.5, True, "3", [[1, 2, 3, 4]]):
        with refuses(f"labels is {labels}", "from 0 to 9"):
            sampler.sample(4, labels=labels)


def test_an_unconditional_generator_takes_no_labels(path: Path) -> None:
    with refuses("labels is 3", "unconditional"):
        gan_lightning.load(path).sample(2, labels=3)


def test_no_images_are_refused(path: Path) -> None:
    with refuses("num_images is 0"):
        gan_lightning.load(path).sample(0)


@pytest.mark.parametrize(
    ("class_path", "named"),
    [
        ("os.system", "os.system"),
        ("gan_lightning.networks.mlp.Missing", "Missing"),
        ("gan_lightning.files.load", "gan_lightning.files.load"),
        ("gan_lightning.networks.mlp.MLPDiscriminator", "MLPDiscriminator"),
    ],
)
def test_a_checkpoint_cannot_name_any_class(path: Path, class_path: str, named: str) -> None:
    content = files.load(path)
    content["gan_lightning"]["generator"]["class_path"] = class_path
    files.save(content, path)
    with refuses(named):
        gan_lightning.load(path)


@pytest.mark.parametrize("arguments", [{"image_shape": "wide"}, {1: 2}, {"hidden": [2**70]}, {"hidden": [2**60]}, [1], None])
def test_invented_arguments_are_one_line(path: Path, arguments: object) -> None:
    content = files.load(path)
    right = content["gan_lightning"]["generator"]["arguments"]
    content["gan_lightning"]["generator"]["arguments"] = right | arguments if isinstance(arguments, dict) else arguments
    files.save(content, path)
    with refuses():
        gan_lightning.load(path)


def test_nothing_is_imported_before_the_refusal(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("imported_by_mistake.py").write_text("open('ran', 'w')\nfrom tests.test_inference import OwnGenerator\n")
    monkeypatch.syspath_prepend(tmp_path)
    content = files.load(path)
    for class_path in (
        "imported_by_mistake.OwnGenerator",
        "imported_by_mistake",
        ".imported_by_mistake",
        "gan_lightning_.imported_by_mistake",
        5,
    ):
        content["gan_lightning"]["generator"]["class_path"] = class_path
        files.save(content, path)
        with refuses("trust"):
            gan_lightning.load(path)
    assert not Path("ran").exists()
    content["gan_lightning"]["generator"]["class_path"] = "imported_by_mistake.OwnGenerator"
    files.save(content, path)
    gan_lightning.load(path, trust=["imported_by_mistake"])
    assert Path("ran").exists()  # it would have


def test_a_custom_class_needs_trust(path: Path) -> None:
    content = files.load(path)
    content["gan_lightning"]["generator"]["class_path"] = "tests.test_inference.OwnGenerator"
    files.save(content, path)
    with refuses("trust"):
        gan_lightning.load(path)
    assert isinstance(gan_lightning.load(path, trust=["tests"]).generator, OwnGenerator)


class OwnGenerator(MLPGenerator):
    """A network from outside the package."""


def test_weights_that_do_not_fit_are_one_line(path: Path) -> None:
    content = files.load(path)
    content["gan_lightning"]["generator"]["arguments"]["hidden"] = [9]
    files.save(content, path)
    with refuses(path, "MLPGenerator"):
        gan_lightning.load(path)
