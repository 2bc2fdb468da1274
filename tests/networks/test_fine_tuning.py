"""Weights of a checkpoint in another network, and layers of the discriminator that keep theirs."""

from typing import Any

import pytest
import torch
from torch import nn

from gan_lightning.errors import InputError
from gan_lightning.gan import GAN
from gan_lightning.losses import HingeLoss
from gan_lightning.networks import (
    DCGANDiscriminator,
    DCGANGenerator,
    Discriminator,
    MLPGenerator,
    R3GANDiscriminator,
    ResNetDiscriminator,
)
from gan_lightning.networks.base import Network
from gan_lightning.networks.fine_tuning import freeze_layers, transfer
from gan_lightning.regularizers import WeightClipping
from tests.helpers import TensorData, fit, same_state
from tests.networks.test_networks import EVERY_NETWORK, make, stirred


@pytest.mark.parametrize(("network", "conditioning"), EVERY_NETWORK)
def test_the_same_network_is_copied_whole(network: type[Network], conditioning: str | None) -> None:
    source, target = make(network, conditioning), stirred(make(network, conditioning))
    taken, new = transfer(target, source.state_dict())
    assert not new
    assert taken
    assert same_state(source, target)


@pytest.mark.parametrize(
    ("network", "there", "here", "new"),
    [
        (DCGANGenerator, {"size": 16}, {"size": 32}, ["layers.0", "layers.2", "layers.4"]),  # a new smallest map
        (DCGANGenerator, {"size": 32}, {"size": 16}, ["layers.0"]),
        (DCGANGenerator, {}, {"conditioning": "concatenation"}, ["label_embedding.embedding", "layers.0"]),
        (DCGANDiscriminator, {"size": 32}, {"size": 64}, ["layers.8", "layers.9", "head.layers.0"]),  # one more convolution
        (DCGANDiscriminator, {}, {"conditioning": "projection"}, ["head.embedding"]),
        (MLPGenerator, {"size": 8}, {"size": 16}, ["layers.3"]),
        (ResNetDiscriminator, {"classes": 3, "conditioning": "projection"}, {"conditioning": "projection"}, ["head.embedding"]),
        (R3GANDiscriminator, {"size": 16}, {"size": 32}, [f"layers.1.layers.{i}" for i in (0, 2, 4)]),  # one more block
    ],
)
def test_layers_that_fit_are_copied(network: type[Network], there: Any, here: Any, new: list[str]) -> None:
    """Each other layer keeps its weights, and is listed."""
    source, target = stirred(of(network, **there)), stirred(of(network, **here))
    before = {name: value.clone() for name, value in target.state_dict().items()}
    taken, left = transfer(target, source.state_dict())
    assert left == new
    assert taken
    for name, value in target.state_dict().items():
        if name.startswith(tuple(f"{layer}." for layer in left)):
            assert torch.equal(value, before[name]), name
        else:
            same = [other for other in source.state_dict().values() if other.shape == value.shape and torch.equal(other, value)]
            assert same, name


def of(network: type[Network], size: int = 16, classes: int = 10, conditioning: str | None = None) -> Any:
    return make(network, conditioning, (1, size, size), num_classes=classes)


def test_what_is_no_tensor_is_left_out() -> None:
    target = make(DCGANDiscriminator)
    assert transfer(target, {"layers.0.weight": "text", "head": 3, "": None})[0] == []


@pytest.mark.parametrize("network", [DCGANDiscriminator, ResNetDiscriminator, R3GANDiscriminator])
@pytest.mark.parametrize("constraint", [None, WeightClipping(1e-3)])
def test_frozen_layers_keep_their_weights(network: type[Discriminator], constraint: WeightClipping | None) -> None:
    """Those of the first two layers, biases too, and no others."""
    discriminator = make(network)
    before = {name: parameter.clone() for name, parameter in discriminator.named_parameters()}
    data = TensorData(torch.randint(0, 256, (32, 1, 16, 16), dtype=torch.uint8), None, batch_size=4)
    model = GAN(make(DCGANGenerator), discriminator, HingeLoss(), freeze_discriminator=2, constraint=constraint)
    still = frozen(discriminator)
    fit(model, data, max_steps=3)
    changed = {name for name, parameter in discriminator.named_parameters() if not torch.equal(parameter, before[name])}
    weights = {name for name, parameter in before.items() if parameter.ndim > 1}
    assert len(still & weights) == 2
    assert not still & changed
    assert weights - still <= changed


def test_layers_are_counted_from_the_image() -> None:
    """A bias of a parametrized layer comes before its weight; norms belong to the layer before them; the head is trained."""
    dcgan = DCGANDiscriminator((1, 32, 32), width=4)
    assert freeze_layers(dcgan, 2) == 3
    assert frozen(dcgan) == {"layers.0.weight", "layers.0.bias", "layers.2.weight", "layers.3.weight", "layers.3.bias"}
    resnet = of(ResNetDiscriminator)
    freeze_layers(resnet, 1)
    first = next(name for name, parameter in resnet.named_parameters() if parameter.ndim > 1).partition(".parametrizations")[0]
    assert frozen(resnet) == {name for name, _ in resnet.named_parameters() if name.startswith(f"{first}.")}


def frozen(network: nn.Module) -> set[str]:
    return {name for name, parameter in network.named_parameters() if not parameter.requires_grad}


@pytest.mark.parametrize("count", [-1, 4])
def test_impossible_numbers_of_layers(count: int) -> None:
    with pytest.raises(InputError, match=f"{count}: use 0 to 3"):
        GAN(
            DCGANGenerator((1, 32, 32), width=4),
            DCGANDiscriminator((1, 32, 32), width=4),
            HingeLoss(),
            freeze_discriminator=count,
        )
