"""Walks through the latents of a generator: inference.py's interpolate and walk."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from gan_lightning.inference import Sampler
from gan_lightning.latents import latents, spherical
from gan_lightning.networks import MLPGenerator
from gan_lightning.networks.base import Generator
from tests.helpers import refuses

SHAPE = (1, 8, 8)


def sampler(num_classes: int = 0, conditioning: str | None = None) -> Sampler:
    """Make an untrained generator with different pictures for different latents."""
    torch.manual_seed(0)
    generator = MLPGenerator(SHAPE, num_classes, latent_dim=16, hidden=[32], conditioning=conditioning)  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return Sampler(generator)


def first_of(gan: Sampler, seeds: Sequence[int], labels: Sequence[int] | None = None) -> Tensor:
    """Draw the first picture of each seed, with its label."""
    return torch.cat([gan.sample(1, None if labels is None else labels[i], seed) for i, seed in enumerate(seeds)])


def difference(one: Tensor, other: Tensor) -> int:
    """Largest difference in grey levels."""
    return int((one.int() - other.int()).abs().max())


def test_each_part_of_a_walk_starts_with_the_image_of_its_seed() -> None:
    gan, seeds = sampler(), [3, 1, 4]
    walked = gan.interpolate(seeds, frames=5)
    assert walked.dtype == torch.uint8
    assert walked.shape == (11, *SHAPE)
    assert difference(walked[[0, 5, 10]], first_of(gan, seeds)) <= 1
    z = torch.cat([latents(torch.tensor([0]), 16, seed) for seed in seeds])
    between = torch.cat([spherical(z[i], z[i + 1], torch.arange(5) / 5) for i in range(2)])
    assert difference(walked[:10], gan.draw(between)) <= 1
    assert difference(walked[2], walked[0]) > 20  # 171


def test_a_closed_walk_returns_to_its_start() -> None:
    gan, seeds = sampler(), [3, 1, 4]
    there = gan.interpolate(seeds, frames=5)
    walked = gan.interpolate(seeds, frames=5, closed=True)
    assert walked.shape == (15, *SHAPE)
    assert difference(walked[:11], there) <= 1
    assert difference(walked[10:], gan.interpolate([4, 3], frames=5)[:5]) <= 1
    pair = gan.interpolate([3, 1], frames=4, closed=True)
    assert difference(pair[5:], pair[1:4].flip(0)) <= 1  # back along the same way
    assert len(gan.interpolate([3, 1], frames=1)) == 2


def test_the_batch_size_does_not_matter() -> None:
    for gan in (sampler(), sampler(5, "concatenation"), sampler(5, "batch_norm")):
        whole = gan.interpolate([3, 1, 4], frames=5)
        for batch_size in (1, 4, 7):
            assert difference(gan.interpolate([3, 1, 4], frames=5, batch_size=batch_size), whole) <= 1


@pytest.mark.parametrize("conditioning", ["concatenation", "batch_norm"])
def test_a_walk_across_classes_ends_at_the_images_of_the_classes(conditioning: str) -> None:
    gan = sampler(5, conditioning)
    walked = gan.interpolate([7], labels=[1, 4], frames=4)
    own = first_of(gan, [7, 7], [1, 4])
    assert difference(walked[[0, 4]], own) <= 1
    for middle in walked[1:4]:
        assert min(difference(middle, own[0]), difference(middle, own[1])) > 5  # 31 to 140
    (halfway,) = gan.interpolate([7], labels=[4, 1], frames=4)[2:3]
    assert difference(halfway, walked[2]) <= 1
    both = gan.interpolate([7, 8], labels=[1, 4], frames=4)  # latent and class at once
    assert difference(both[[0, 4]], first_of(gan, [7, 8], [1, 4])) <= 1
    assert difference(both[2], walked[2]) > 5


def test_without_labels_the_points_cycle_through_the_classes() -> None:
    gan = sampler(2, "concatenation")
    walked = gan.interpolate([3, 1, 4], frames=2)
    assert torch.equal(walked, gan.interpolate([3, 1, 4], labels=[0, 1, 0], frames=2))
    within = gan.interpolate([3, 1, 4], labels=1, frames=2)
    assert difference(within[::2], first_of(gan, [3, 1, 4], [1, 1, 1])) <= 1


def test_walking_does_not_change_the_generator() -> None:
    gan = sampler(5, "concatenation")
    before = gan.sample(5)
    gan.interpolate([7], labels=[1, 4], frames=4)
    assert torch.equal(gan.sample(5), before)
    assert not any(module._forward_hooks for module in gan.generator.modules())


def test_truncation_shortens_the_walk() -> None:
    gan = sampler()
    typical = gan.interpolate([3, 1], frames=2, truncation=0.5)
    assert difference(typical[[0]], gan.sample(1, seed=3, truncation=0.5)) <= 1
    assert difference(typical, gan.interpolate([3, 1], frames=2)) > 5


class OneHotGenerator(Generator):
    """Uses labels without an embedding."""

    def __init__(self, image_shape: tuple[int, int, int] = SHAPE, num_classes: int = 5) -> None:
        super().__init__(image_shape, num_classes, latent_dim=4, conditioning="concatenation")
        self.layer = torch.nn.Linear(4 + num_classes, 64)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        assert labels is not None
        hot = torch.nn.functional.one_hot(labels, self.num_classes)
        images: Tensor = self.layer(torch.cat([z, hot], 1)).view(-1, *SHAPE)
        return images


def test_a_generator_without_an_embedding_walks_only_within_a_class() -> None:
    gan = Sampler(OneHotGenerator())
    assert len(gan.interpolate([1, 2], labels=3, frames=2)) == 3
    with refuses("OneHotGenerator", "class"):
        gan.interpolate([1, 2], labels=[3, 4], frames=2)


def test_invalid_walks_are_refused() -> None:
    plain, labelled = sampler(), sampler(5, "concatenation")
    for seeds, labels in (([], None), ([1], None), ([1], [2]), ([], [1, 2])):
        with refuses(f"seeds are {seeds}", "two seeds"):
            labelled.interpolate(seeds, labels=labels)
    with refuses("labels is 1", "unconditional"):
        plain.interpolate([1, 2], labels=1)
    with refuses("labels is [1, 2]", "3", "from 0 to 4"):
        labelled.interpolate([1, 2, 3], labels=[1, 2])
    with refuses("labels is [1, 5]", "from 0 to 4"):
        labelled.interpolate([1], labels=[1, 5])
    with refuses("frames is 0"):
        plain.interpolate([1, 2], frames=0)
    with refuses("seed is -1"):
        plain.interpolate([-1, 2])
