"""Translation by a trained generator: channels, sizes, masks, directions and tiles."""

from pathlib import Path

import pytest
import torch

import gan_lightning
from gan_lightning import ImageTranslator, files
from gan_lightning.data import Edges, Hole
from gan_lightning.image_translator import in_tiles
from gan_lightning.images import luma, to_float, to_uint8, with_channels, with_hole
from gan_lightning.networks import SRResNet, UNetGenerator
from tests.commands.translations import derived, photographs, write_all
from tests.helpers import refuses, same_state
from tests.translators import Affine


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_all(tmp_path_factory.mktemp("translations"))


def test_a_checkpoint_gives_a_translator(paths: dict[str, Path]) -> None:
    """It translates images of any size in any batches, by the average or the raw weights."""
    images = photographs(5, (1, 13, 22))
    for name, factor in (("colour", 1), ("enlarge", 2), ("draw", 1)):
        translator = gan_lightning.load(paths[name])
        assert isinstance(translator, ImageTranslator)
        outputs = translator.translate(images, batch_size=2)
        assert (outputs.dtype, outputs.shape) == (torch.uint8, (5, 3, 13 * factor, 22 * factor))
        sources = to_float(with_channels(images, translator.generator.source_shape[0]))
        whole = to_uint8(translator.generator.translate(sources))
        assert (outputs.int() - whole.int()).abs().max() <= 1
        raw = gan_lightning.load(paths[name], raw=True)
        assert not torch.equal(raw.translate(images), outputs)
        assert (raw.origin["weights"], translator.origin["weights"]) == ("raw", "ema")


def test_a_checkpoint_knows_the_origin_of_its_sources(paths: dict[str, Path]) -> None:
    loaded = {name: gan_lightning.load(path) for name, path in paths.items()}
    assert [name for name, translator in loaded.items() if translator.needs_mask] == ["fill"]
    assert loaded["draw"].degradation == Edges().describe()
    assert loaded["draw"].degradation["arguments"] == {"threshold": 0.1}
    assert loaded["cycle"].degradation is None


def test_channels_are_converted(paths: dict[str, Path]) -> None:
    """A model that colours grey images takes colour ones, and transparent ones on white."""
    translator = gan_lightning.load(paths["colour"])
    images = photographs(2)
    grey = translator.translate(luma(images))
    assert torch.equal(translator.translate(images), grey)
    opaque = torch.cat([images, torch.full_like(images[:, :1], 255)], dim=1)
    assert torch.equal(translator.translate(opaque), grey)
    clear = torch.cat([images, torch.zeros_like(images[:, :1])], dim=1)
    assert torch.equal(translator.translate(clear), translator.translate(torch.full_like(images, 255)))
    enlarge = gan_lightning.load(paths["enlarge"])
    assert torch.equal(enlarge.translate(luma(images)), enlarge.translate(luma(images).expand(-1, 3, -1, -1)))


def test_holes_are_filled_and_the_rest_is_kept(paths: dict[str, Path]) -> None:
    translator = gan_lightning.load(paths["fill"])
    images = photographs(3, (3, 12, 20))
    mask = torch.zeros(3, 1, 12, 20, dtype=torch.bool)
    mask[:, :, 3:8, 5:15] = True
    filled = translator.translate(images, mask)
    generated = translator.translate(with_hole(images, mask))  # as in training, all pixels are the generator's
    assert torch.equal(filled, torch.where(mask, generated, images))
    assert not torch.equal(filled, images)
    assert not torch.equal(generated, filled)
    other = images.where(~mask, torch.tensor(7, dtype=torch.uint8))  # what was in the hole is not used
    assert torch.equal(translator.translate(other, mask), filled)
    assert torch.equal(translator.translate(images, mask[:1].to(torch.uint8) * 255), filled)
    data = derived(Hole("4,4,8,8"))
    sources = data.degraded(photographs(2), torch.arange(2))
    assert translator.translate(sources).shape == (2, 3, 16, 16)


def test_both_directions(paths: dict[str, Path]) -> None:
    translator = gan_lightning.load(paths["cycle"])
    images = photographs(2, (1, 8, 8))
    there, back = translator.translate(images, direction="AtoB"), translator.translate(images, direction="BtoA")
    assert torch.equal(translator.translate(images), there)
    assert not torch.equal(there, back)
    weights = files.load(paths["cycle"])["state_dict"]
    assert torch.equal(weights["inverse_ema.encoder.0.0.weight"], translator.inverse_generator.encoder[0][0].weight)


def test_a_folder_translates_what_the_checkpoint_does(paths: dict[str, Path]) -> None:
    for name, path in paths.items():
        translator = gan_lightning.load(path)
        translator.save_pretrained(f"saved {name}")
        again = gan_lightning.load(f"saved {name}")
        assert isinstance(again, ImageTranslator)
        assert again.networks.keys() == translator.networks.keys()
        assert all(same_state(again.networks[part], network) for part, network in translator.networks.items())
        assert (again.needs_mask, again.degradation) == (translator.needs_mask, translator.degradation)
        assert {file.name for file in Path(f"saved {name}").iterdir()} == {"config.json", "model.safetensors", "README.md"}
        card = Path(f"saved {name}", "README.md").read_text()
        assert "pipeline_tag: image-to-image" in card
        assert ("mask" in card) == (name == "fill")
        assert ("BtoA" in card) == (name == "cycle")
    assert ImageTranslator.from_pretrained("saved fill").needs_mask
    with refuses("UNetGenerator", "Sampler"):
        gan_lightning.Sampler.from_pretrained("saved fill")


@pytest.mark.parametrize(("size", "tile"), [((70, 97), 48), ((48, 131), 48), ((20, 200), 64), ((49, 50), 48)])
def test_tiles_equal_the_whole_image(size: tuple[int, int], tile: int) -> None:
    """A network whose receptive field reaches 10 pixels far, at most a quarter of the overlap, away from the edges of tiles."""
    torch.manual_seed(0)
    network = SRResNet((3, 32, 32), (3, 16, 16), width=4, blocks=1).eval().requires_grad_(False)
    sources = photographs(2, (3, *size))
    whole = to_uint8(network.translate(to_float(sources)))
    assert torch.equal(in_tiles(network, sources, None, 0, torch.device("cpu")), whole)
    tiled = in_tiles(network, sources, tile, 40, torch.device("cpu"))
    assert tiled.shape == whole.shape
    assert (tiled.int() - whole.int()).abs().max() <= 1
    coarse = in_tiles(network, sources, tile, 8, torch.device("cpu"))
    assert (coarse.int() - whole.int()).abs().max() > 1  # a smaller overlap shows


def test_tiles_of_a_pointwise_network_need_no_overlap() -> None:
    network = Affine((1, 8, 8), (1, 8, 8))
    sources = photographs(1, (1, 30, 41))
    whole = to_uint8(network.translate(to_float(sources)))
    for tile, overlap in ((7, 0), (10, 3), (16, 9), (64, 8)):
        tiled = in_tiles(network, sources, tile, overlap, torch.device("cpu"))
        assert (tiled.int() - whole.int()).abs().max() <= 1


def test_tiles_begin_at_multiples_of_the_network() -> None:
    """The phase of the halvings is that of the whole image. The norm sees each tile alone, so it must be off."""
    torch.manual_seed(0)
    network = UNetGenerator((1, 16, 16), (1, 16, 16), width=4, depth=2, norm="batch").eval().requires_grad_(False)
    sources = photographs(1, (1, 61, 90))
    whole = to_uint8(network.translate(to_float(sources)))
    tiled = in_tiles(network, sources, 60, 44, torch.device("cpu"))
    assert (tiled.int() - whole.int()).abs().max() <= 1


def test_bad_input(paths: dict[str, Path]) -> None:
    images = photographs(2)
    colour, fill, cycle = (gan_lightning.load(paths[name]) for name in ("colour", "fill", "cycle"))
    mask = torch.zeros(2, 1, 16, 16, dtype=torch.bool)
    with refuses("float32"):
        colour.translate(images.float())
    with refuses("(3, 16, 16)"):
        colour.translate(images[0])
    with refuses("2 channels"):
        colour.translate(images[:, :2])
    with refuses("batch_size is 0"):
        colour.translate(images, batch_size=0)
    with refuses("mask"):
        colour.translate(images, mask)
    with refuses("mask"):
        fill.translate(images)
    with refuses("16x15", "16x16"):
        fill.translate(images, mask[..., 1:])
    with refuses("mask", "float32"):
        fill.translate(images, mask.float())
    with refuses("direction is BtoA"):
        colour.translate(images, direction="BtoA")
    with refuses("direction is back"):
        cycle.translate(images[:, :1], direction="back")
    with refuses("tile is 32", "overlap 32"):
        colour.translate(images, tile=32)
    with refuses("overlap is -1"):
        colour.translate(images, overlap=-1)
