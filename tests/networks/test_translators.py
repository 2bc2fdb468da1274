"""Translators: sizes, parameters as published, padding, dropout, and refusals."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from gan_lightning.networks import MLPGenerator, ResNetTranslator, SRResNet, Translator, UNetGenerator
from gan_lightning.networks.base import Generator, build, describe, rebuild
from tests.helpers import refuses, same_state

Shape = tuple[int, int, int]


def unet(shape: Shape, source: Shape | None = None, **arguments: Any) -> UNetGenerator:
    return UNetGenerator(shape, source or shape, **({"width": 4} | arguments))


def resnet(shape: Shape, source: Shape | None = None, **arguments: Any) -> ResNetTranslator:
    return ResNetTranslator(shape, source or shape, **({"width": 4, "blocks": 2} | arguments))


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_parameters_are_as_many_as_published() -> None:
    """54.4 and 11.4 million, as the authors' programs print; SRResNet has 1.5 million for x4."""
    shape = (3, 256, 256)
    with torch.device("meta"):
        assert parameters(UNetGenerator(shape, shape)) == pytest.approx(54.414e6, abs=1e3)
        assert parameters(ResNetTranslator(shape, shape)) == pytest.approx(11.378e6, abs=6e3)
        assert parameters(ResNetTranslator((3, 128, 128), (3, 128, 128))) == pytest.approx(7.837e6, abs=6e3)
        assert parameters(SRResNet((3, 96, 96), (3, 24, 24))) == pytest.approx(1.547e6, abs=1e3)


@pytest.mark.parametrize("make", [unet, resnet])
@pytest.mark.parametrize("size", [(5, 5), (7, 9), (8, 8), (16, 24), (28, 28), (32, 32), (33, 40)])
@pytest.mark.parametrize("train", [True, False])
def test_any_size_is_trained_and_applied(make: Callable[..., Translator], size: tuple[int, int], train: bool) -> None:
    network = make((3, *size), (1, *size)).train(train)
    images = network(torch.rand(2, 1, *size) * 2 - 1)
    assert images.shape == (2, 3, *size)
    assert images.abs().max() <= 1
    assert images.std() > 0
    for height, width in ((1, 1), (2, 3), (17, 30), (28, 28), (65, 31)):
        assert network.translate(torch.rand(2, 1, height, width)).shape == (2, 3, height, width)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_super_resolution_at_every_factor(factor: int) -> None:
    network = SRResNet((3, 6 * factor, 5 * factor), (3, 6, 5), width=4, blocks=1)
    assert network(torch.rand(2, 3, 6, 5)).shape == (2, 3, 6 * factor, 5 * factor)
    assert network.translate(torch.rand(1, 3, 9, 2)).shape == (1, 3, 9 * factor, 2 * factor)
    assert network.factor == factor


@pytest.mark.parametrize("network", [unet((1, 28, 28)), resnet((1, 28, 28)), SRResNet((1, 56, 56), (1, 28, 28), 4, 1)])
def test_own_size_is_applied_without_padding(network: Translator) -> None:
    sources = torch.rand(2, 1, 28, 28)
    network.eval()
    assert torch.equal(network.translate(sources), network(sources))


class Seen(Translator):
    """Keeps its sources, and returns them."""

    multiple = 8

    def forward(self, source: Tensor) -> Tensor:
        self.seen = source
        return source


@pytest.mark.parametrize(("side", "padded"), [(16, 16), (13, 16), (17, 24), (9, 16)])
def test_padding_mirrors_and_is_cropped(side: int, padded: int) -> None:
    sources = torch.rand(2, 1, side, 16)
    network = Seen((1, 32, 32), (1, 32, 32))
    assert torch.equal(network.translate(sources), sources)
    assert torch.equal(network.seen, pad(sources, (0, 0, 0, padded - side), "reflect"))
    assert network.translate(torch.rand(1, 1, 1, 2)).shape == (1, 1, 1, 2)
    assert network.seen.shape == (1, 1, 8, 8)


def test_padding_leads_to_the_remainder_of_the_own_size() -> None:
    """A network for 28 pixels halves 7 by a 3x3 kernel, so its other sizes are 28 plus multiples of 32."""
    network = unet((1, 28, 28))
    assert (network.multiple, len(network.encoder)) == (32, 5)
    network.decoder[-1].register_forward_hook(lambda module, inputs, output: sizes.append(output.shape[2]))
    sizes: list[int] = []
    for side in (1, 28, 29, 60, 61):
        network.translate(torch.rand(1, 1, side, 28))
    assert sizes == [28, 28, 60, 60, 92]


@pytest.mark.parametrize("make", [unet, resnet])
def test_a_pixel_of_the_source_reaches_the_whole_image(make: Callable[..., Translator]) -> None:
    network = make((1, 28, 28)).eval()
    sources = torch.rand(1, 1, 28, 28, requires_grad=True)
    network(sources)[0, 0, 0, 0].backward()
    assert sources.grad is not None
    assert (sources.grad[0, 0, ::9, ::9] != 0).all()


@pytest.mark.parametrize("make", [unet, resnet])
def test_images_of_a_batch_are_independent_with_instance_norm(make: Callable[..., Translator]) -> None:
    network = make((3, 16, 16), **({"dropout": 0.0} if make is unet else {}))
    sources = torch.rand(3, 3, 16, 16)
    together = network(sources)
    for i in range(3):
        assert torch.allclose(network(sources[i : i + 1]), together[i : i + 1], atol=1e-5)
    other = make((3, 16, 16), norm="batch", **({"dropout": 0.0} if make is unet else {}))
    assert (other(sources[:2])[:1] - other(sources)[:1]).abs().max() > 1e-4


@pytest.mark.parametrize("network", [unet((3, 16, 16)), resnet((3, 16, 16)), SRResNet((3, 64, 64), (3, 16, 16), 4, 2)])
def test_gradients_reach_every_parameter(network: Translator) -> None:
    network.train()
    weights = torch.randn(4, *network.image_shape)
    (network(torch.rand(4, 3, 16, 16)) * weights).sum().backward()
    for name, p in network.named_parameters():
        assert p.grad is not None, name
        assert p.grad.abs().max() > 0, name


@pytest.mark.parametrize("network", [unet((3, 16, 16)), resnet((3, 16, 16)), SRResNet((3, 64, 64), (3, 16, 16), 4, 2)])
def test_it_runs_in_mixed_precision(network: Translator) -> None:
    network.eval()
    sources = torch.rand(2, 3, 16, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        images = network(sources)
    assert (images - network(sources)).abs().max() < 0.1


def test_dropout_at_test_is_an_option() -> None:
    sources = torch.rand(2, 1, 16, 16)
    for at_test in (False, True):
        network = unet((1, 16, 16), dropout_at_test=at_test).eval()
        assert torch.equal(network(sources), network(sources)) == (not at_test)
        torch.manual_seed(1)
        first = network(sources)
        torch.manual_seed(1)
        assert torch.equal(first, network(sources))


def test_dropout_is_in_the_first_three_maps_of_the_decoder() -> None:
    network = UNetGenerator((1, 64, 64), (1, 64, 64), width=2, dropout=0.5)
    dropped = [any(isinstance(layer, nn.Dropout) and layer.p for layer in up.modules()) for up in network.decoder]
    assert dropped == [True, True, True, False, False, False]


@pytest.mark.parametrize("network", [unet((3, 16, 16)), resnet((3, 16, 16)), SRResNet((3, 32, 32), (3, 16, 16), 4, 2)])
def test_a_checkpoint_rebuilds_it(network: Translator) -> None:
    twin = rebuild(Translator, describe(network), network.state_dict(), (), "a.ckpt")  # type: ignore[type-abstract]
    assert type(twin) is type(network)
    assert same_state(twin, network)
    with refuses("a.ckpt", type(network).__name__, "generator"):
        rebuild(Generator, describe(network), network.state_dict(), (), "a.ckpt")  # type: ignore[type-abstract]
    generator = MLPGenerator((1, 8, 8))
    with refuses("a.ckpt", "MLPGenerator", "translator"):
        rebuild(Translator, describe(generator), generator.state_dict(), (), "a.ckpt")  # type: ignore[type-abstract]


SMALL: dict[str, Any] = {"image_shape": (1, 8, 8), "source_shape": (1, 8, 8)}


@pytest.mark.parametrize(
    ("make", "arguments", "named"),
    [
        (UNetGenerator, SMALL | {"width": 0}, "width is 0"),
        (UNetGenerator, SMALL | {"depth": 0}, "depth is 0"),
        (UNetGenerator, SMALL | {"depth": 4}, "depth is 4"),
        (UNetGenerator, SMALL | {"dropout": 1.0}, "dropout is 1"),
        (UNetGenerator, SMALL | {"norm": "layer"}, "norm is 'layer'"),
        (UNetGenerator, {"image_shape": (1, 1, 4), "source_shape": (1, 1, 4)}, "1x4"),
        (UNetGenerator, SMALL | {"image_shape": (1, 16, 16)}, "2 times"),
        (UNetGenerator, SMALL | {"image_shape": (1, 4, 4)}, "images 4x4"),
        (UNetGenerator, SMALL | {"image_shape": (1, 16, 8)}, "images 16x8"),
        (UNetGenerator, SMALL | {"source_shape": (0, 8, 8)}, "source_shape is (0, 8, 8)"),
        (ResNetTranslator, SMALL | {"blocks": 0}, "blocks is 0"),
        (ResNetTranslator, SMALL | {"width": 0}, "width is 0"),
        (ResNetTranslator, SMALL | {"image_shape": (1, 16, 16)}, "2 times"),
        (ResNetTranslator, {"image_shape": (1, 4, 8), "source_shape": (1, 4, 8)}, "4x8"),
        (SRResNet, SMALL, "1 times"),
        (SRResNet, SMALL | {"image_shape": (1, 24, 24)}, "3 times"),
        (SRResNet, SMALL | {"image_shape": (1, 128, 128)}, "16 times"),
        (SRResNet, SMALL | {"image_shape": (1, 16, 16), "blocks": 0}, "blocks is 0"),
    ],
)
def test_refusals(make: type[Translator], arguments: dict[str, Any], named: str) -> None:
    with refuses(named):
        make(**arguments)
    with refuses(named):
        build({"class_path": f"{make.__module__}.{make.__name__}", "arguments": arguments})


def test_a_depth_that_is_given() -> None:
    network = unet((1, 32, 32), depth=2)
    assert (len(network.encoder), network.multiple) == (2, 4)
    assert network.translate(torch.rand(1, 1, 30, 33)).shape == (1, 1, 30, 33)
