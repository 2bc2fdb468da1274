"""Degradations against closed forms and Pillow."""

import numpy
import pytest
import torch
from PIL import Image
from torch import Tensor

from gan_lightning.data import Downscale, Edges, Grey, Hole, TurnedNegative
from gan_lightning.data.degradations import Degradation
from gan_lightning.images import with_hole
from tests.helpers import refuses

NONE = torch.empty(4, 0)


def noise(channels: int, height: int, width: int) -> Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (4, channels, height, width), generator=random, dtype=torch.uint8)


def pillow(image: Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).numpy())


@pytest.mark.parametrize(
    ("degradation", "channels"),
    [(Grey(), 3), (Downscale(2), 3), (Hole(), 1), (Hole("0,0,2,3"), 3), (Edges(), 1), (Edges(), 3), (TurnedNegative(), 3)],
)
def test_the_sources_have_the_announced_shape(degradation: Degradation, channels: int) -> None:
    images = noise(channels, 8, 12)
    before = images.clone()
    sources = degradation(images, torch.rand(4, degradation.num_draws))
    assert tuple(sources.shape) == (4, *degradation.source_shape((channels, 8, 12)))
    assert sources.dtype == torch.uint8
    assert torch.equal(images, before)


def test_grey_is_that_of_pillow() -> None:
    images = noise(3, 32, 32)
    for image, grey in zip(images, Grey()(images, NONE), strict=True):
        assert (grey[0].numpy() == numpy.asarray(pillow(image).convert("L"))).all()
    primaries = torch.eye(3).mul(255).to(torch.uint8).reshape(3, 3, 1, 1)
    assert Grey()(primaries, NONE).flatten().tolist() == [round(255 * share) for share in (0.299, 0.587, 0.114)]


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_downscaling_is_that_of_pillow(factor: int) -> None:
    """Pillow rounds between the two axes."""
    images = noise(3, 24, 36)
    for image, small in zip(images, Downscale(factor)(images, NONE), strict=True):
        theirs = pillow(image).resize((36 // factor, 24 // factor), Image.Resampling.BICUBIC)
        assert numpy.abs(small.permute(1, 2, 0).numpy().astype(int) - numpy.asarray(theirs).astype(int)).max() <= 2
    constant = torch.full((1, 1, 12, 12), 77, dtype=torch.uint8)
    assert (Downscale(factor)(constant, NONE) == 77).all()


def test_a_fixed_hole_is_exactly_its_rectangle() -> None:
    images = noise(3, 10, 12)
    sources = Hole("1,2,3,4")(images, NONE)
    inside = torch.zeros(10, 12, dtype=torch.bool)
    inside[1:4, 2:6] = True
    assert torch.equal(sources[:, 3] == 255, inside.expand(4, 10, 12))
    assert torch.equal(sources[:, 3] == 0, ~inside.expand(4, 10, 12))
    assert (sources[:, :3, inside] == 128).all()
    assert torch.equal(sources[:, :3, ~inside], images[:, :, ~inside])
    assert torch.equal(with_hole(images, inside.expand(4, 1, 10, 12)), sources)


def test_random_holes_are_rectangles_of_a_quarter_to_a_half_at_any_place() -> None:
    count = 500
    images = torch.zeros(count, 1, 8, 16, dtype=torch.uint8)
    masks = Hole()(images, torch.rand(count, 4, generator=torch.Generator().manual_seed(0)))[:, 1] == 255
    rows, columns = masks.any(2), masks.any(1)
    assert torch.equal(masks, rows[:, :, None] & columns[:, None, :])
    for inside, side in ((rows, 8), (columns, 16)):
        assert set(inside.sum(1).tolist()) == set(range(side // 4, side // 2 + 1))
        assert (inside.int().diff(dim=1, prepend=torch.zeros(count, 1), append=torch.zeros(count, 1)) == 1).sum(1).eq(1).all()
        assert inside.any(0).all()  # the corners too
    least, most = (Hole()(images[:1], torch.full((1, 4), value))[0, 1] == 255 for value in (0.0, 1 - 2**-24))
    assert least[:2, :4].all()
    assert least.sum() == 8
    assert most[4:, 8:].all()
    assert most.sum() == 32


def test_edges_are_where_the_brightness_changes() -> None:
    assert (Edges()(torch.full((1, 3, 8, 8), 200, dtype=torch.uint8), NONE) == 255).all()
    step = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    step[..., 4:] = 100
    line = torch.full((8, 8), 255, dtype=torch.uint8)
    line[:, 3] = 0  # one pixel wide
    assert torch.equal(Edges()(step, NONE)[0, 0], line)
    assert torch.equal(Edges()(step.mT, NONE)[0, 0], line.T)
    assert torch.equal(Edges(99 / 255)(step, NONE)[0, 0], line)
    assert (Edges(100 / 255)(step, NONE) == 255).all()
    assert torch.equal(Edges()(step.expand(1, 3, 8, 8), NONE), Edges()(step, NONE))


def test_a_turned_negative_can_be_turned_back() -> None:
    images = noise(1, 4, 6)
    sources = TurnedNegative()(images, NONE)
    assert torch.equal(255 - sources.rot90(-1, (2, 3)), images)
    assert sources[0, 0, -1, 0] == 255 - images[0, 0, 0, 0]  # the top left corner is at the bottom


@pytest.mark.parametrize(
    ("degradation", "shape", "named"),
    [
        (Grey(), (1, 8, 8), "Grey"),
        (Downscale(3), (3, 8, 9), "data.degradation.factor is 3"),
        (Hole("5,0,4,4"), (3, 8, 8), "data.degradation.place is 5,0,4,4"),
        (Hole("0,0,0,4"), (3, 8, 8), "data.degradation.place is 0,0,0,4"),
        (Edges(), (4, 8, 8), "Edges"),
    ],
)
def test_images_that_do_not_fit(degradation: Degradation, shape: tuple[int, int, int], named: str) -> None:
    with refuses(named):
        degradation.source_shape(shape)


def test_arguments_out_of_range() -> None:
    with refuses("data.degradation.factor is 1"):
        Downscale(1)
    for place in ("middle", "1,2,3", "1,2,3,-4"):
        with refuses(f"data.degradation.place is {place}"):
            Hole(place)
    for threshold in (0.0, 1.0):
        with refuses("data.degradation.threshold"):
            Edges(threshold)
    assert Hole("[5, 0, 3, 8]").source_shape((3, 8, 8)) == (4, 8, 8)
