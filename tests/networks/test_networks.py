"""What every network promises."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from gan_lightning.errors import InputError
from gan_lightning.networks import (
    DCGANDiscriminator,
    DCGANGenerator,
    Discriminator,
    DropoutConvDiscriminator,
    Generator,
    MLPDiscriminator,
    MLPGenerator,
)
from gan_lightning.networks.base import build, describe

SHAPES = [(1, 28, 28), *((channels, size, size) for channels in (1, 3) for size in (8, 16, 32, 64, 128))]
ANY_SHAPE = [(1, 8, 8), (3, 17, 30)]
PAIRS: list[tuple[type[Generator], type[Discriminator], dict[str, Any], tuple[int, int, int]]] = [
    *[(DCGANGenerator, DCGANDiscriminator, {"width": 4}, shape) for shape in SHAPES],
    *[(MLPGenerator, MLPDiscriminator, {"hidden": [8]}, shape) for shape in ANY_SHAPE],
]


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize(("generator", "discriminator", "size", "shape"), PAIRS)
def test_shapes(
    generator: type[Generator],
    discriminator: type[Discriminator],
    size: dict[str, Any],
    shape: tuple[int, int, int],
    conditional: bool,
) -> None:
    g = generator(shape, 10, latent_dim=7, conditional=conditional, **size)
    d = discriminator(shape, 10, conditional=conditional, **size)
    labels = torch.tensor([0, 9]) if conditional else None
    images = g(torch.randn(2, 7), labels)
    assert images.shape == (2, *shape)
    assert images.abs().max() <= 1
    assert d(images, labels).shape == (2,)


@pytest.mark.parametrize("network", [MLPDiscriminator, DCGANDiscriminator, DropoutConvDiscriminator])
def test_independence_of_samples_is_as_declared(network: type[Discriminator]) -> None:
    """In train mode, without dropout: an image's logit with other company, for those that say it is untouched."""
    d = network((1, 16, 16)).train()
    for module in d.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    nn.init.normal_(next(d.parameters()), std=0.5)
    image, company, others = (torch.randn(n, 1, 16, 16) for n in (1, 3, 3))
    one, other = d(torch.cat([image, company]))[0], d(torch.cat([image, others]))[0]
    assert d.samples_are_independent == bool(torch.allclose(one, other, atol=1e-6))


@pytest.mark.parametrize("network", [MLPDiscriminator, DCGANDiscriminator, DropoutConvDiscriminator])
def test_a_conditional_discriminator_can_tell_which_label_belongs(network: type[Discriminator]) -> None:
    """The difference that a label makes depends on the image: logits are no sum of a term of each."""
    d = network((1, 8, 8), 2, conditional=True).eval()
    for p in d.parameters():
        nn.init.normal_(p, std=0.5)
    images = torch.randn(2, 1, 8, 8)
    gap = d(images, torch.tensor([0, 0])) - d(images, torch.tensor([1, 1]))
    assert abs(float((gap[0] - gap[1]).detach())) > 1e-3


def test_labels_change_what_a_conditional_generator_draws() -> None:
    for g in (
        MLPGenerator((1, 8, 8), 10, hidden=[8], conditional=True),
        DCGANGenerator((1, 8, 8), 10, width=4, conditional=True),
    ):
        z = torch.randn(1, 100)
        g.eval()
        assert not torch.equal(g(z, torch.tensor([0])), g(z, torch.tensor([1])))
        with pytest.raises(ValueError, match="needs labels"):
            g(z)


@pytest.mark.parametrize("size", [7, 27, 30, 48, 256])
def test_dcgan_says_which_sizes_work(size: int) -> None:
    for network in (DCGANGenerator, DCGANDiscriminator):
        with pytest.raises(InputError, match=rf"8, 16, 28, 32, 64, 128 pixels, not {size} x {size}"):
            network((1, size, size))
    with pytest.raises(InputError, match="not 32 x 64"):
        DCGANGenerator((3, 32, 64))


def test_dcgan_is_initialised_as_radford_says() -> None:
    for network in (DCGANGenerator((3, 64, 64)), DCGANDiscriminator((3, 64, 64))):
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.weight.numel() > 10_000:
                assert float(module.weight.detach().std()) == pytest.approx(0.02, rel=0.03)  # usually within 1 %
                assert abs(float(module.weight.detach().mean())) < 1e-3
            if isinstance(module, nn.BatchNorm2d):
                assert float(module.weight.detach().mean()) == pytest.approx(1.0, abs=0.01)
    layers = list(DCGANGenerator((3, 64, 64)).layers)
    assert isinstance(layers[-2], nn.ConvTranspose2d)  # no batch norm at the generator's output
    assert not isinstance(list(DCGANDiscriminator((3, 64, 64)).layers)[1], nn.BatchNorm2d)  # nor at the input


def test_the_textbook_mlp_is_the_printed_one() -> None:
    g = MLPGenerator((1, 28, 28), hidden=[256, 512, 1024], batch_norm=False, negative_slope=0.0)
    shapes = [tuple(m.weight.shape) for m in g.modules() if isinstance(m, nn.Linear)]
    assert shapes == [(256, 100), (512, 256), (1024, 512), (784, 1024)]
    assert not any(isinstance(m, nn.BatchNorm1d) for m in g.modules())
    x = torch.tensor([-2.0, 3.0])
    assert g.layers[1](x.clone()).tolist() == [0.0, 3.0]  # slope 0 is ReLU


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MLPGenerator((1, 8, 8), hidden=[]), "hidden is"),
        (lambda: MLPDiscriminator((1, 8, 8), hidden=[8, 0]), "hidden is"),
        (lambda: MLPGenerator((1, 8, 8), latent_dim=0), "latent_dim is 0"),
        (lambda: DCGANGenerator((1, 8, 8), width=0), "width is 0"),
        (lambda: DropoutConvDiscriminator((1, 8, 8), width=0), "width is 0"),
        (lambda: MLPGenerator((0, 8, 8)), "image_shape is"),
        (lambda: MLPGenerator((1, 8, 8), 1, conditional=True), "at least two classes and the data has 1"),
        (lambda: DCGANDiscriminator((1, 8, 8), 0, conditional=True), "at least two classes and the data has 0"),
    ],
)
def test_bad_arguments(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(InputError, match=message):
        make()


def test_a_network_is_rebuilt_from_its_description() -> None:
    g = MLPGenerator((1, 8, 8), num_classes=10, hidden=[8, 9], conditional=True)
    description = describe(g)
    assert description["arguments"] == {"image_shape": (1, 8, 8), "num_classes": 10, "hidden": [8, 9], "conditional": True}
    again = build(description)
    again.load_state_dict(g.state_dict())
    assert describe(copy.deepcopy(g)) == description


class Keyworded(MLPGenerator):
    """A network that hands its arguments on."""

    def __init__(self, image_shape: tuple[int, int, int], **kwargs: Any) -> None:
        super().__init__(image_shape, **kwargs)


def test_arguments_that_are_handed_on_are_remembered() -> None:
    g = Keyworded((1, 8, 8), hidden=[8])
    assert describe(g)["arguments"] == {"image_shape": (1, 8, 8), "hidden": [8]}
    assert build(describe(g) | {"class_path": "gan_lightning.networks.mlp.MLPGenerator"}).arguments == g.arguments


def test_an_argument_that_a_checkpoint_cannot_hold_is_refused() -> None:
    g = MLPGenerator((1, 8, 8), hidden=torch.tensor([8]))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="its argument hidden is a Tensor"):
        describe(g)
