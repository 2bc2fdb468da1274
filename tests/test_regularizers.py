"""Penalties against their closed forms."""

import pytest
import torch
from torch import Tensor

from gan_lightning.data import Digits
from gan_lightning.errors import InputError
from gan_lightning.gan import GAN
from gan_lightning.images import to_float
from gan_lightning.losses import NonSaturatingLoss
from gan_lightning.networks import DCGANDiscriminator, DCGANGenerator, MLPDiscriminator
from gan_lightning.regularizers import R1
from tests.helpers import fit, small_gan

IMAGES = torch.randn(5, 2, 3, 4, generator=torch.Generator().manual_seed(0))


def test_r1_of_a_linear_discriminator_is_its_weights_norm() -> None:
    weights = torch.randn(2, 3, 4)
    penalty = R1(gamma=3.0)(lambda images, _: (images * weights).sum(dim=(1, 2, 3)) + 7, IMAGES, IMAGES, None)
    assert float(penalty) == pytest.approx(1.5 * float(weights.square().sum()), rel=1e-5)


def test_r1_of_a_quadratic_discriminator() -> None:
    """D(x) = |x|^2 / 2 has the gradient x."""
    penalty = R1(gamma=1.0)(lambda images, _: images.square().sum(dim=(1, 2, 3)) / 2, IMAGES, IMAGES, None)
    assert float(penalty) == pytest.approx(float(IMAGES.square().sum()) / 2 / 5, rel=1e-5)


def test_r1_looks_at_real_images_and_their_labels_alone() -> None:
    seen: list[tuple[Tensor, Tensor | None]] = []

    def critic(images: Tensor, labels: Tensor | None) -> Tensor:
        seen.append((images, labels))
        return images.sum(dim=(1, 2, 3))

    labels = torch.arange(5)
    R1()(critic, IMAGES, torch.full_like(IMAGES, torch.nan), labels)
    ((images, got),) = seen
    assert torch.equal(images, IMAGES)
    assert got is labels


def test_r1_reaches_the_discriminators_parameters() -> None:
    """Its gradient against finite differences."""
    torch.manual_seed(0)
    d = MLPDiscriminator((2, 3, 4), hidden=[8]).double()
    images = IMAGES.double()

    def penalty() -> Tensor:
        # R1 takes images to float32; here the same formula in float64 stands beside it for the differences
        x = images.clone().requires_grad_(True)
        (gradients,) = torch.autograd.grad(d(x).sum(), x, create_graph=True)
        return gradients.square().sum(dim=(1, 2, 3)).mean() / 2

    value = R1(1.0)(d.float(), IMAGES, IMAGES, None)
    value.backward()
    ours = d.get_parameter("layers.0.weight").grad
    assert ours is not None
    d.double()
    weight = d.get_parameter("layers.0.weight")
    for index in ((0, 0), (3, 7)):
        values = []
        for step in (1e-6, -2e-6, 1e-6):
            with torch.no_grad():
                weight[index] += step
            values.append(float(penalty().detach()))
        assert float(ours[index]) == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-3, abs=1e-6)


def test_r1_is_float32_under_autocast() -> None:
    d = DCGANDiscriminator((1, 8, 8), width=8)
    images = torch.randn(4, 1, 8, 8)
    expected = R1()(d, images, images, None)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert d(images).dtype == torch.bfloat16
        penalty = R1()(d, images, images, None)
    assert penalty.dtype == torch.float32
    assert float(penalty.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_r1_trains_and_is_returned(precision: str) -> None:
    fit(
        GAN(DCGANGenerator((1, 8, 8), width=4), DCGANDiscriminator((1, 8, 8), width=4), NonSaturatingLoss(), penalty=R1(0.1)),
        max_steps=2,
        precision=precision,
    )


def test_r1_lowers_the_gradients() -> None:
    """The same run with and without: the penalty on real images at its end, 0.042 and 0.015 when this was written."""
    sizes = []
    for penalty in (None, R1(gamma=10.0)):
        torch.manual_seed(0)
        model = small_gan(penalty=penalty)
        fit(model, max_steps=100)
        real = to_float(Digits().images("test")[0])
        sizes.append(float(R1()(model.discriminator, real, real, None).detach()))
    assert sizes[1] < sizes[0] / 2


@pytest.mark.parametrize("gamma", [0.0, -1.0, float("nan"), float("inf")])
def test_a_gamma_out_of_range(gamma: float) -> None:
    with pytest.raises(InputError, match="gamma"):
        R1(gamma)
