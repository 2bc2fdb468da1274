"""The perceptual distance."""

import pytest
import torch
from torch.nn.functional import avg_pool2d, interpolate

from gan_lightning.perceptual import PerceptualDistance
from tests.helpers import refuses


@pytest.fixture(scope="module")
def distance() -> PerceptualDistance:
    return PerceptualDistance(3)


def test_it_is_zero_for_equal_images_and_symmetric(distance: PerceptualDistance) -> None:
    torch.manual_seed(0)
    one, other = torch.rand(2, 2, 3, 40, 40) * 2 - 1
    assert torch.equal(distance(one, one), torch.zeros(2))
    assert (distance(one, other) > 0.1).all()
    assert torch.allclose(distance(one, other), distance(other, one))


def test_it_prefers_structure_to_brightness(distance: PerceptualDistance) -> None:
    """A blurred pattern and a brighter one are as far away in pixels; the blurred one is farther in features."""
    torch.manual_seed(0)
    sharp = interpolate((torch.rand(4, 3, 16, 16) > 0.5).float(), scale_factor=4) - 0.5
    blurred = interpolate(avg_pool2d(sharp, 8), scale_factor=8)
    brighter = sharp + (blurred - sharp).abs().mean()
    assert (distance(blurred, sharp) > 1.5 * distance(brighter, sharp)).all()


def test_gradients_reach_the_images_alone(distance: PerceptualDistance) -> None:
    images, targets = (torch.rand(2, 1, 32, 32, requires_grad=True) for _ in range(2))
    distance(images, targets).sum().backward()
    assert images.grad is not None
    assert images.grad.abs().max() > 0
    assert targets.grad is None
    assert not list(distance.parameters())
    assert not distance.state_dict()


def test_other_channels_are_refused() -> None:
    with refuses("4 channels"):
        PerceptualDistance(4)
