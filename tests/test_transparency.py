"""Images of four channels: colour and opacity."""

import json
from itertools import pairwise
from pathlib import Path

import numpy
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from gan_lightning import inference
from gan_lightning.augment import TRANSFORMS, DiffAugment, Transform, color
from gan_lightning.commands.playground.player import Player, Settings
from gan_lightning.commands.verbs import Verb
from gan_lightning.data import ImageFolder
from gan_lightning.data.image_file import decode
from gan_lightning.data.image_set import read_images
from gan_lightning.data.stored import whole
from gan_lightning.images import on_white, to_float, to_uint8
from gan_lightning.metrics.features import ModuleExtractor
from gan_lightning.networks import (
    DCGANDiscriminator,
    DCGANGenerator,
    DropoutConvDiscriminator,
    FastGANGenerator,
    MLPDiscriminator,
    MLPGenerator,
    R3GANDiscriminator,
    R3GANGenerator,
    ResNetDiscriminator,
    ResNetGenerator,
)
from gan_lightning.networks.base import Discriminator, Generator
from gan_lightning.pictures import grid, write_animation, write_png
from tests.helpers import refusal, refuses

SHAPE = (4, 8, 8)


def rgba(count: int = 1, size: int = 8, seed: int = 0) -> Tensor:
    """Random images uint8 (count, 4, size, size)."""
    random = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 4, size, size), generator=random, dtype=torch.uint8)


def opacity(path: Path) -> Tensor:
    with Image.open(path) as image:
        assert image.mode == "RGBA"
        return torch.from_numpy(numpy.array(image))[..., 3]


# Files


def test_files_keep_their_opacity_or_are_opaque(tmp_path: Path) -> None:
    (image,) = rgba()
    image[3, :2] = 0
    write_png(image, tmp_path / "rgba.png")
    kept = decode(tmp_path / "rgba.png", SHAPE)
    assert torch.equal(kept[3], image[3])
    assert (kept[:3, :2] == 255).all()  # nobody sees their colour
    assert torch.equal(kept[:3, image[3] > 0], image[:3, image[3] > 0])
    for channels in (1, 3):
        write_png(image[:channels], tmp_path / f"{channels}.png")
        opaque = decode(tmp_path / f"{channels}.png", SHAPE)
        assert (opaque[3] == 255).all()
        assert torch.equal(opaque[:3], image[:channels].expand(3, -1, -1))
    palette = Image.fromarray(numpy.full((8, 8), 1, numpy.uint8), "P")
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.save(tmp_path / "palette.png", transparency=1)
    assert (decode(tmp_path / "palette.png", SHAPE)[3] == 0).all()


def test_hidden_colours_do_not_bleed_when_an_image_is_resized(tmp_path: Path) -> None:
    """The left half is opaque red, the right half transparent green."""
    image = torch.zeros(4, 64, 64, dtype=torch.uint8)
    image[0, :, :32], image[3, :, :32], image[1, :, 32:] = 255, 255, 255
    write_png(image, tmp_path / "half.png")
    small = decode(tmp_path / "half.png", SHAPE)
    assert (small[3, :, 0] == 255).all()
    assert (small[3, :, 7] == 0).all()
    seen = small[:, small[3] > 8]
    assert int(seen[1].max()) < 16
    whole = decode(tmp_path / "half.png", (4, 8, 8), crop="random")
    assert torch.equal(whole, small)


def test_on_white_equals_pillow(tmp_path: Path) -> None:
    images = rgba(3, 32)
    for i, image in enumerate(images):
        write_png(image, tmp_path / "one.png")
        assert (on_white(images)[i].int() - decode(tmp_path / "one.png", (3, 32, 32)).int()).abs().max() <= 1
    for colour in (images[:, :3], images[:, :1]):
        assert on_white(colour) is colour
    images[:, 3] = 255
    assert torch.equal(on_white(images), images[:, :3])
    numpy.savez(tmp_path / "images.npz", images=images.numpy())
    assert torch.equal(whole(read_images(tmp_path / "images.npz", (3, 32, 32))), images[:, :3])


# Training


def test_colours_change_and_opacity_does_not() -> None:
    images = to_float(rgba(200))
    changed = color(images)
    assert torch.equal(changed[:, 3], images[:, 3])
    assert not torch.equal(changed[:, :3], images[:, :3])
    torch.manual_seed(1)
    expected = color(images[:, :3])
    torch.manual_seed(1)
    assert torch.equal(color(images)[:, :3], expected)


@pytest.mark.parametrize("name", [name for name in TRANSFORMS if name != "color"])
def test_opacity_moves_with_the_colours(name: Transform) -> None:
    images = to_float(rgba(50)[:, :1]).expand(-1, 4, -1, -1)
    changed = DiffAugment([name])(images)
    assert not torch.equal(changed, images)
    assert all(torch.equal(one, other) for one, other in pairwise(changed.unbind(1)))


@pytest.mark.parametrize("make", [MLPGenerator, DCGANGenerator, ResNetGenerator, R3GANGenerator, FastGANGenerator])
def test_generators_draw_four_channels(make: type[Generator]) -> None:
    generator = make((4, 32, 32))
    images = generator(torch.randn(2, generator.latent_dim), None)
    assert images.shape == (2, 4, 32, 32)


@pytest.mark.parametrize(
    "make", [MLPDiscriminator, DCGANDiscriminator, DropoutConvDiscriminator, ResNetDiscriminator, R3GANDiscriminator]
)
def test_discriminators_see_all_four_channels(make: type[Discriminator]) -> None:
    discriminator = make((4, 16, 16)).eval()
    images = to_float(rgba(2, 16)).requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(images, None).sum(), images)
    assert gradient.abs().amax(dim=(0, 2, 3)).min() > 0


# Pictures and measurements


def test_grids_are_transparent_and_their_edges_opaque(tmp_path: Path) -> None:
    images = rgba(4, 48)
    picture = grid(images, 2)
    assert picture.shape == (4, 102, 102)
    assert torch.equal(picture[:, 2:50, 52:100], images[1])
    assert (picture[3, :2] == 255).all()
    assert (picture[:3, :2] == 128).all()
    write_animation(images, tmp_path / "walk.gif")
    with Image.open(tmp_path / "walk.gif") as animation:
        assert not animation.has_transparency_data


def test_features_are_those_on_white() -> None:
    extractor = ModuleExtractor(nn.Sequential(nn.Flatten()))
    images = rgba(5)
    assert torch.equal(extractor(images)[0], on_white(images).flatten(1).float())


# The real commands

SMALL = [
    *("--config", "folder_64", "--data.root", "photos", "--accelerator", "cpu", "--data.image_size", "16"),
    *("--data.channels", "4", "--data.batch_size", "4", "--model.generator.width", "4", "--model.discriminator.width", "4"),
    *("--enable_progress_bar", "false"),
]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """40 images of opaque discs on nothing."""
    (tmp_path / "photos").mkdir()
    y, x = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    for i in range(40):
        image = rgba(1, 16, i)[0]
        image[3] = 255 * ((y - 8) ** 2 + (x - 8) ** 2 < 30)
        write_png(image, tmp_path / "photos" / f"{i:02}.png")
    return tmp_path / "photos"


def test_the_commands(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measured = ["--metrics.num_images", "10", "--metrics.num_real", "10", "--max_steps", "4", "--health.every_n_steps", "2"]
    assert Verb.train.main([*SMALL, *measured, "--trainer.logger", "[tensorboard,csv]"]) == 0
    run = Path("lightning_logs/version_0")
    values = opacity(run / "images" / "real.png")
    assert set(values.unique().tolist()) == {0, 255}
    opacity(run / "images" / "step_00000004.png")
    path = run / "checkpoints" / "last.ckpt"
    assert Verb.sample.main([str(path), "--num_images", "3", "--output", "few"]) == 0
    sampler = inference.load(path)
    drawn = sampler.at(torch.arange(3))
    assert drawn.shape == (3, 4, 16, 16)
    assert all(torch.equal(opacity(Path("few", f"{i:06}.png")), drawn[i, 3]) for i in range(3))
    assert Verb.sample.main([str(path), "--num_images", "12", "--output", "drawn.npz"]) == 0
    assert Verb.sample.main([str(path), "--num_images", "4", "--output", "drawn.png"]) == 0
    opacity(Path("drawn.png"))
    assert Player(sampler).grid(Settings()).shape[1:] == (4, 16, 16)
    assert Verb.interpolate.main([str(path), "--seeds", "1,2", "--frames", "2", "--output", "walk.png"]) == 0
    assert Verb.invert.main([str(path), str(photos / "00.png"), "--steps", "2", "--output", "found.png"]) == 0
    opacity(Path("found.png"))

    few = ["--extractor", "imagenet", "--metrics", "fid", "--num_images", "10", "--accelerator", "cpu"]
    assert Verb.evaluate.main([str(path), *few, "--num_real", "10", "--output", "one.json"]) == 0
    protocol = json.loads(Path("one.json").read_text())["protocol"]
    assert (protocol["transparency"], protocol["image_shape"]) == ("put on white", [4, 16, 16])
    assert Verb.evaluate.main(["drawn.npz", *few, "--real", "photos", "--output", "other.json"]) == 0

    assert Verb.export.main([str(path), "--output", "exported"]) == 0
    assert "4 channels" in Path("exported/README.md").read_text()
    opacity(Path("exported/samples.png"))
    session = onnxruntime.InferenceSession("exported/generator.onnx")
    (images,) = session.run(None, {"z": sampler.latents(torch.arange(3)).numpy()})
    assert (to_uint8(torch.from_numpy(images)).int() - drawn.int()).abs().max() <= 1
    assert Verb.sample.main(["exported", "--num_images", "3", "--output", "of_exported"]) == 0
    assert torch.equal(opacity(Path("of_exported/000002.png")), drawn[2, 3])
    assert torch.equal(inference.load("exported").at(torch.arange(3)), drawn)
    assert torch.equal(to_uint8(sampler.generator(sampler.latents(torch.arange(3)), None)), drawn)


def test_refusals_and_suggestions(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with refuses("data.channels is 2"):
        ImageFolder(photos, channels=2)
    projected = [*SMALL[:10], "--model.discriminator", "ProjectedDiscriminator", "--max_steps", "1"]
    refusal(Verb.train.main, projected, capsys, "4 channels", "ProjectedDiscriminator")
    for path in photos.iterdir():
        with Image.open(path) as image:
            image.convert("RGB").save(path)
    assert Verb.train.main([*SMALL, "--dry_run"]) == 0
    assert "use --data.channels 3" in capsys.readouterr().out
