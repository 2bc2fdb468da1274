"""Lookup of generators by name, and the trained generators that ship with the package."""

import os
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

import gan_lightning
from gan_lightning import Sampler
from gan_lightning.commands.common.real_images import data_of_the_run, make_data
from gan_lightning.data import Digits
from gan_lightning.exported import CONFIG, WEIGHTS, read_config
from gan_lightning.lookup import bundled, find
from gan_lightning.networks import MLPGenerator
from gan_lightning.trained import locate
from tests.helpers import refuses, same_state

SHIPPED = pytest.mark.parametrize("name", bundled())


def test_an_existing_path_then_a_bundled_generator_then_the_hub() -> None:
    assert find("digits") == bundled()["digits"]
    assert find("me/my-gan") is None
    mine = Sampler(MLPGenerator((1, 8, 8), latent_dim=4, hidden=[8]))
    mine.save_pretrained("digits")
    assert (find("digits"), find("./digits")) == (Path("digits"), Path("digits"))
    assert same_state(gan_lightning.load("digits").generator, mine.generator)
    mine.save_pretrained("me/my-gan")
    assert find("me/my-gan") == Path("me/my-gan")


@pytest.mark.parametrize(
    ("name", "suggested"),
    [
        ("digit", True),
        ("./digits", True),
        ("elsewhere", False),
        ("run/last.ckpt", False),
        ("a/b/c", False),
        ("here/gan", False),
    ],
)
def test_an_unknown_name_is_one_line(name: str, suggested: bool) -> None:
    """The Hub is not asked for paths of checkpoints or below existing folders."""
    Path("here").mkdir()
    with refuses(name, *bundled(), *(["did you mean digits?"] if suggested else [])):
        gan_lightning.load(name)


def test_the_hub_is_asked_last(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(name: str, **options: object) -> str:
        asked.append(name)
        return str(bundled()["digits"])

    monkeypatch.setattr("gan_lightning.trained.snapshot_download", download)
    assert locate("me/my-gan") == bundled()["digits"]
    assert same_state(gan_lightning.load("me/my-gan").generator, gan_lightning.load("digits").generator)
    assert asked == ["me/my-gan"] * 2


# What ships


def test_the_bundled_generators_are_small() -> None:
    assert sum(path.stat().st_size for folder in bundled().values() for path in folder.iterdir()) < 16e6


@SHIPPED
def test_a_bundled_generator_draws_and_has_an_origin(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    folder = bundled()[name]
    assert {path.name for path in folder.iterdir()} == {CONFIG, WEIGHTS, "README.md"}
    sampler = gan_lightning.load(name)
    assert sampler.origin["checkpoint"] == str(folder)
    assert sampler.origin["metrics"]
    assert sampler.sample(16).float().std(dim=0).mean() > 10  # grey levels, from image to image
    assert not any(value.dtype == torch.float16 for value in sampler.generator.state_dict().values())
    assert capfd.readouterr() == ("", "")
    for path in folder.iterdir():
        assert not any(os.fsencode(place) in path.read_bytes() for place in (folder.parents[2], sys.prefix, Path.cwd())), path


@SHIPPED
def test_a_bundled_generator_describes_its_data(name: str) -> None:
    """Its config has the class and arguments of the data."""
    data, config = make_data([], data_of_the_run(bundled()[name], ())), read_config(bundled()[name])
    assert data is not None
    assert list(data.image_shape) == config["image_shape"]
    assert config["num_classes"] in (0, len(data.class_names))
    assert data.extractor == "classifier"


@SHIPPED
def test_half_precision_changes_pixels_by_at_most_one_grey_level(name: str) -> None:
    """Weights that round to the stored ones are within half a unit in the last place: draw such weights at random."""
    if read_config(bundled()[name])["dtype"] != "float16":
        pytest.skip("its weights are stored as they were trained")
    stored, other = gan_lightning.load(name), gan_lightning.load(name)
    for value in other.generator.state_dict().values():
        if value.is_floating_point():
            assert torch.equal(value, value.half().float())
            value += half_unit(value) * (2 * torch.rand(value.shape) - 1)
            assert not torch.equal(value, value.half().float())
    difference = (stored.sample(200).int() - other.sample(200).int()).abs()
    assert difference.max() == 1


def half_unit(value: Tensor) -> Tensor:
    """Half a unit in the last place of float16: its significand has 11 bits, and its smallest exponent is -14."""
    return torch.exp2(torch.frexp(value.abs().clamp(min=2.0**-14)).exponent - 12.0)


def test_half_a_unit_in_the_last_place() -> None:
    for value, unit in ((1.0, 2.0**-10), (1.5, 2.0**-10), (-3.0, 2.0**-9), (0.0, 2.0**-24), (6e-5, 2.0**-24)):
        exact = torch.tensor(value).half().float()
        assert half_unit(exact) == unit / 2
        assert (exact + 0.49 * unit * exact.sign()).half() == exact.half()
        assert (exact.abs() + 0.51 * unit).half() != exact.abs().half()


def test_the_bundled_digits_have_the_requested_class() -> None:
    """Classify by the nearest class mean of the real digits; this is right for nine in ten real ones."""
    real, of_real = Digits().images("train")
    assert of_real is not None
    means = torch.stack([real[of_real == c].float().mean(0).flatten() for c in range(10)])
    labels = torch.arange(500) % 10
    right = []
    for images, wanted in ((real, of_real), (gan_lightning.load("digits").sample(500, labels), labels)):
        right.append((torch.cdist(images.flatten(1).float(), means).argmin(1) == wanted).float().mean())
    assert min(right) > 0.85
    assert right[1] > right[0] - 0.05
