"""Receptive field of discriminators, and their slope at the start of training."""

from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.nn.functional import interpolate

import gan_lightning
from gan_lightning.commands.common.recipes import recipes, recipes_of
from gan_lightning.data import Digits
from gan_lightning.networks import (
    DCGANDiscriminator,
    Discriminator,
    DropoutConvDiscriminator,
    MLPDiscriminator,
    ProjectedDiscriminator,
    R3GANDiscriminator,
    ResNetDiscriminator,
)
from tests.networks.test_networks import DISCRIMINATORS, HEADS, make, per_image, stirred, without_dropout

COUNT = 12
RESNETS = "sngan_cifar10", "sngan_cifar10_conditional", "wgan_gp_cifar10", "r3gan_cifar10", "r3gan_cifar10_slim"
NARROW: dict[str, dict[str, Any]] = {
    **{name: {"widths": [32] * 4} for name in RESNETS},
    **{name: {"resolution": 64} for name in ("folder_128", "folder_256")},
    "r3gan_folder_256": {"widths": [32] * 5},
}
"""The widest networks would take minutes."""
UNLIKE_HE: dict[type[Discriminator], str] = {
    MLPDiscriminator: "the textbook's has torch's own initialisation: it is the failure that mlp_mnist_textbook shows",
    ResNetDiscriminator: "SNGAN's and WGAN-GP's authors publish Glorot's initialisation, and SNGAN divides by spectral norms",
    R3GANDiscriminator: "its authors publish a gain for each layer, and blocks that begin as the identity",
    ProjectedDiscriminator: "divided by spectral norms, and the frozen network sets the slope",
}
"""Discriminators that keep the constants of their source, and so begin with small gradients."""

EVERY_CLASS = [
    (network, conditioning, size)
    for network in DISCRIMINATORS
    for conditioning in HEADS
    for size in (8, 16, 28, 32, 64)
    if size > 8 or network not in (ResNetDiscriminator, R3GANDiscriminator)
]


def digits(shape: tuple[int, int, int]) -> Tensor:
    """Real digits (COUNT, C, H, W), black and white like MNIST's (-1 and 1), in float64; each channel has another digit."""
    channels, height, width = shape
    images = Digits().images("train")[0][: COUNT * channels].view(COUNT, channels, 8, 8)
    return (interpolate(images.double(), (height, width), mode="bilinear") > 127.5).double() * 2 - 1


def labels() -> Tensor:
    return torch.arange(COUNT) % 10


def of_recipe(name: str) -> Discriminator:
    recipe = yaml.safe_load(recipes()[name].read_text())
    settings = recipe["model"]["discriminator"]
    data = getattr(gan_lightning.data, recipe["data"]["class_path"])
    shape = getattr(data, "image_shape", (3, 64, 64))  # of a folder, whatever its size
    arguments = settings.get("init_args", {}) | NARROW.get(name, {})
    network = getattr(gan_lightning.networks, settings["class_path"])(image_shape=shape, num_classes=10, **arguments)
    assert isinstance(network, Discriminator)
    return network


def of_class(network: type[Discriminator], conditioning: str | None, size: int, **arguments: Any) -> Discriminator:
    shape = (1 if size in (8, 28) else 3, size, size)
    wide: dict[str, Any] = {"width": 8} if network in (DCGANDiscriminator, DropoutConvDiscriminator) else {}
    made: Discriminator = make(network, conditioning, shape, **(wide | arguments))
    return made


def interaction(d: Discriminator) -> float:
    """Interaction of the top and the bottom third of an image in a discriminator's logit.

    Of an image x and another one y, let D(t, b) be the logit of x with the rows of the top third from y if t = 1 and those of
    the bottom third from y if b = 1. The interaction is D(1, 1) - D(1, 0) - D(0, 1) + D(0, 0), the main effects are
    D(1, 0) - D(0, 0) and D(0, 1) - D(0, 0). Returned is the root mean square of the first over that of the others, in
    float64. It is 0 if the logit is a sum of a function of the top and one of the bottom, given the middle.
    """
    d = without_dropout(d).double()
    shape: Any = d.image_shape
    images, third = digits(shape), shape[1] // 3
    others = images.roll(1, 0)
    for module in d.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        d.train()(images, labels())  # gives batch norm the moments of these images
        d.eval()
        logits = {}
        for top in (0, 1):
            for bottom in (0, 1):
                mixed = images.clone()
                mixed[:, :, : third * top] = others[:, :, : third * top]
                mixed[:, :, shape[1] - third * bottom :] = others[:, :, shape[1] - third * bottom :]
                logits[top, bottom] = per_image(d(mixed, labels()))
    both = logits[1, 1] - logits[1, 0] - logits[0, 1] + logits[0, 0]
    main = torch.stack([logits[1, 0], logits[0, 1]]) - logits[0, 0]
    return float(both.square().mean().sqrt() / main.square().mean().sqrt())


def slope(d: Discriminator) -> float:
    """Mean |grad_x D(x)| over real images, in float64, without dropout."""
    shape: Any = d.image_shape
    images = digits(shape).requires_grad_(True)
    logits = per_image(without_dropout(d).double()(images, labels()))
    (gradients,) = torch.autograd.grad(logits.sum(), images)
    return float(gradients.flatten(1).norm(dim=1).mean())


# A discriminator sees a whole image


@pytest.mark.parametrize("name", recipes_of("GAN"))
def test_the_discriminator_of_each_recipe_relates_top_and_bottom(name: str) -> None:
    """Use random weights instead of the initial ones, because R3GAN is linear at first. Usually 0.03 to 0.7."""
    torch.manual_seed(0)
    assert interaction(stirred(of_recipe(name))) > 1e-3


@pytest.mark.parametrize(("network", "conditioning", "size"), EVERY_CLASS)
def test_a_discriminator_relates_top_and_bottom(network: type[Discriminator], conditioning: str | None, size: int) -> None:
    torch.manual_seed(0)
    assert interaction(stirred(of_class(network, conditioning, size))) > 1e-3


@pytest.mark.parametrize("conditioning", [None, "projection", "classifier"])
def test_a_sum_over_windows_does_not_relate_them(conditioning: str | None) -> None:
    """Three convolutions see 18 of 28 rows, and a linear layer adds their features."""
    torch.manual_seed(0)
    for batch_norm in (False, True):
        d = of_class(DCGANDiscriminator, conditioning, 28, hidden=0, batch_norm=batch_norm)
        assert interaction(stirred(d)) < 1e-12


# It is steep enough to learn from, when training begins


@pytest.mark.parametrize("name", recipes_of("GAN"))
def test_the_discriminator_of_each_recipe_starts_with_a_slope_near_one(name: str) -> None:
    torch.manual_seed(0)
    d = of_recipe(name)
    if not d.samples_are_independent:
        pytest.skip("batch norm sets the scale")
    if type(d) in UNLIKE_HE:
        pytest.skip(UNLIKE_HE[type(d)])
    assert 0.3 < slope(d) < 3  # usually 0.8 to 1.7


@pytest.mark.parametrize(("network", "conditioning", "size"), [case for case in EVERY_CLASS if case[0] not in UNLIKE_HE])
def test_a_discriminator_starts_with_a_slope_near_one(
    network: type[Discriminator], conditioning: str | None, size: int
) -> None:
    torch.manual_seed(0)
    without: dict[str, Any] = {"batch_norm": False} if network is DCGANDiscriminator else {}
    assert 0.3 < slope(of_class(network, conditioning, size, **without)) < 3


@pytest.mark.parametrize("network", UNLIKE_HE, ids=lambda network: network.__name__)
def test_exceptions_are_needed(network: type[Discriminator]) -> None:
    torch.manual_seed(0)
    slopes = [slope(of_class(network, conditioning, 32)) for conditioning in HEADS]
    assert min(slopes) < 0.3, UNLIKE_HE[network]


# Labels


@pytest.mark.parametrize("size", [8, 28, 64])
@pytest.mark.parametrize(
    ("network", "arguments"),
    [
        (DCGANDiscriminator, {"batch_norm": True}),
        (DCGANDiscriminator, {"batch_norm": False}),
        (DCGANDiscriminator, {"batch_norm": False, "hidden": 256}),
        (DropoutConvDiscriminator, {"width": 16}),
    ],
)
def test_a_concatenated_label_weighs_as_much_as_an_image(
    network: type[Discriminator], arguments: dict[str, Any], size: int
) -> None:
    """Ratio of the deviation of initial logits over labels to that over images: within a factor of 3."""
    over_labels, over_images = 0.0, 0.0
    for seed in range(6):
        torch.manual_seed(seed)
        d = without_dropout(of_class(network, "concatenation", size, **arguments)).double()
        shape: Any = d.image_shape
        images = digits(shape)
        with torch.no_grad():
            logits = torch.stack([d(images, torch.full((COUNT,), label)) for label in range(10)], dim=1)  # (COUNT, 10)
        over_labels += float(logits.std(dim=1).mean())
        over_images += float(logits.std(dim=0).mean())
    assert 1 / 3 < over_labels / over_images < 3  # usually 1 to 2.5
