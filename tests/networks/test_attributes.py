"""Attributes, float vectors, in place of classes: the layers that take them, and their losses."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import one_hot

from gan_lightning.errors import InputError
from gan_lightning.gan import GAN
from gan_lightning.losses import NonSaturatingLoss
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
    VisionAidedDiscriminator,
)
from gan_lightning.networks.base import build, describe
from gan_lightning.networks.layers import (
    HEADS,
    AttributeEmbedding,
    ConditionalBatchNorm,
    LabelEmbedding,
    as_is,
    spectrally_normalized,
)
from tests.helpers import Outputs, TensorData, fit

SHAPE = (1, 16, 16)
R3: dict[str, Any] = {"widths": [8, 8, 8], "blocks": 1, "group_width": 4}
GENERATORS: list[tuple[type, dict[str, Any], tuple[str, ...]]] = [
    (DCGANGenerator, {"width": 4, "hidden": 8}, ("concatenation", "batch_norm")),
    (MLPGenerator, {"hidden": [8]}, ("concatenation", "batch_norm")),
    (ResNetGenerator, {"widths": [8, 8, 8]}, ("concatenation", "batch_norm")),
    (FastGANGenerator, {"width": 4}, ("concatenation", "batch_norm")),
    (R3GANGenerator, R3, ("concatenation",)),
]
DISCRIMINATORS: list[tuple[type, dict[str, Any]]] = [
    (DCGANDiscriminator, {"width": 4}),
    (MLPDiscriminator, {"hidden": [8]}),
    (ResNetDiscriminator, {"widths": [8, 8]}),
    (R3GANDiscriminator, R3),
    (DropoutConvDiscriminator, {"width": 4}),
]


def as_attributes(classes: nn.Module, attributes: nn.Module) -> None:
    """Give a layer of attributes the weights of one of classes. A bias of attributes becomes 0."""
    weights = {name: value.clone() for name, value in classes.state_dict().items()}
    for name, value in attributes.state_dict().items():
        if name not in weights:
            assert name.endswith("bias")
            weights[name] = torch.zeros_like(value)
    attributes.load_state_dict(weights)


@pytest.mark.parametrize("features", [torch.randn(12, 6), torch.randn(12, 6, 3, 3)])
def test_one_hot_attributes_equal_classes_in_a_generator(features: torch.Tensor) -> None:
    """A linear layer of one-hot vectors is an embedding with the same weights."""
    features, labels = features.double(), torch.arange(12) % 5
    make = nn.BatchNorm1d if features.dim() == 2 else nn.BatchNorm2d
    pairs: list[tuple[nn.Module, nn.Module]] = [
        (ConditionalBatchNorm(make(6, affine=False), 5), ConditionalBatchNorm(make(6, affine=False), 5, 5))
    ]
    if features.dim() == 2:
        pairs.append((LabelEmbedding(5, 4), LabelEmbedding(0, 4, condition_dim=5)))
    for classes, attributes in pairs:
        classes.double()
        attributes.double()
        for weight in classes.parameters():
            nn.init.normal_(weight)
        as_attributes(classes, attributes)
        expected, found = classes(features, labels), attributes(features, one_hot(labels, 5).double())
        assert torch.allclose(found, expected, rtol=1e-12, atol=1e-14)
        other = attributes(features, one_hot((labels + 1) % 5, 5).double())
        assert not torch.allclose(other, expected, rtol=1e-2)


@pytest.mark.parametrize("wrap", [as_is, spectrally_normalized])
@pytest.mark.parametrize("conditioning", ["concatenation", "projection", "classifier"])
def test_one_hot_attributes_equal_classes_in_a_discriminator(conditioning: Any, wrap: Any) -> None:
    classes, attributes = (HEADS[conditioning](6, *arguments).double() for arguments in ((5, wrap), (0, wrap, 5)))
    as_attributes(classes, attributes)
    classes.eval()  # spectral norm: no power iteration
    attributes.eval()
    features, labels = torch.randn(12, 6).double(), torch.arange(12) % 5
    expected, found = classes(features, labels), attributes(features, one_hot(labels, 5).double())
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-14)
    if conditioning == "classifier":
        assert attributes.classify(features).shape == (12, 5)  # type: ignore[operator]


def test_embedded_attributes_start_as_large_as_classes() -> None:
    """Attributes with a mean square of 1 are mapped to vectors with a mean square of 1, whatever their number."""
    for count in (1, 4, 64):
        mapped = AttributeEmbedding(count, 500)(torch.randn(500, count))
        assert abs(float(mapped.square().mean()) - 1) < 0.3


@pytest.mark.parametrize("conditioning", ["concatenation", "batch_norm"])
@pytest.mark.parametrize(("cls", "arguments", "ways"), GENERATORS)
def test_every_generator_takes_attributes(
    cls: Any, arguments: dict[str, Any], ways: tuple[str, ...], conditioning: str
) -> None:
    if conditioning not in ways:
        pytest.skip("it has no such conditioning")
    generator = cls(SHAPE, latent_dim=4, conditioning=conditioning, condition_dim=3, **arguments)
    for layer in generator.modules():  # scales and shifts begin without an effect of the attributes
        if isinstance(layer, AttributeEmbedding):
            nn.init.normal_(layer.weight)
    z, attributes = torch.randn(4, 4), torch.randn(4, 3)
    assert not torch.equal(generator(z, attributes), generator(z, attributes + 1))
    again = build(describe(generator))
    again.load_state_dict(generator.state_dict())
    assert torch.equal(generator.eval()(z, attributes), again.eval()(z, attributes))


@pytest.mark.parametrize("conditioning", ["concatenation", "projection", "classifier"])
@pytest.mark.parametrize(("cls", "arguments"), DISCRIMINATORS)
def test_every_discriminator_takes_attributes(cls: Any, arguments: dict[str, Any], conditioning: str) -> None:
    discriminator = cls(SHAPE, conditioning=conditioning, condition_dim=3, **arguments).eval()
    images, attributes = torch.randn(4, *SHAPE), torch.randn(4, 3)
    logits, estimates = discriminator.judge(images, attributes)
    assert logits.shape == (4,)
    others = discriminator(images, attributes + 1)
    assert torch.equal(logits, others) == (conditioning == "classifier")
    assert (estimates is None) == (conditioning != "classifier")
    if estimates is not None:
        assert estimates.shape == attributes.shape


def test_the_projected_discriminator_takes_attributes_at_each_position() -> None:
    for conditioning in ("concatenation", "projection", "classifier"):
        discriminator = VisionAidedDiscriminator(
            (3, 16, 16), resolution=32, width=4, pixel_width=4, hidden=8, conditioning=conditioning, condition_dim=2
        )
        images, attributes = torch.randn(3, 3, 16, 16), torch.randn(3, 2)
        logits, estimates = discriminator.eval().judge(images, attributes)
        for i in range(3):  # each image has its own attributes
            alone, _ = discriminator.judge(images[i : i + 1], attributes[i : i + 1])
            assert torch.allclose(alone, logits[i : i + 1], atol=1e-4)
        assert (estimates is not None) == (conditioning == "classifier")


def test_conditioning_needs_classes_or_attributes() -> None:
    with pytest.raises(InputError, match="0 classes"):
        MLPGenerator(SHAPE, conditioning="concatenation")
    MLPGenerator(SHAPE, conditioning="concatenation", condition_dim=1)


@pytest.mark.parametrize("micro_batch", [None, 6])
def test_an_auxiliary_classifier_has_the_mean_squared_error(micro_batch: int | None) -> None:
    """An estimate that is the same for all images has the loss 2 * mean((estimate - attribute)^2), of real and of fake."""
    attributes = torch.rand(16, 2)
    gan = GAN(
        MLPGenerator((1, 4, 4), latent_dim=2, hidden=[8], conditioning="concatenation", condition_dim=2),
        MLPDiscriminator((1, 4, 4), hidden=[8], conditioning="classifier", condition_dim=2),
        NonSaturatingLoss(),
        micro_batch=micro_batch,
    )
    linear = gan.discriminator.head.classes
    assert isinstance(linear, nn.Linear)
    nn.init.zeros_(linear.weight)
    with torch.no_grad():
        linear.bias.copy_(torch.tensor([0.3, -1.0]))
    expected = 2 * (linear.bias - attributes).square().mean().item()
    outputs = Outputs()
    images = torch.zeros(16, 1, 4, 4, dtype=torch.uint8)
    fit(gan, TensorData(images, attributes, batch_size=16), max_steps=1, callbacks=[outputs])
    assert outputs.seen[0]["classification_loss"] == pytest.approx(expected, rel=1e-5)
    assert float((linear.bias - torch.tensor([0.3, -1.0])).abs().min()) > 1e-5  # it has been updated
