"""Contracts of all networks."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.nn.utils.parametrize import is_parametrized

from gan_lightning.networks import (
    DCGANDiscriminator,
    DCGANGenerator,
    Discriminator,
    DropoutConvDiscriminator,
    FastGANGenerator,
    Generator,
    MLPDiscriminator,
    MLPGenerator,
    ProjectedDiscriminator,
    R3GANDiscriminator,
    R3GANGenerator,
    ResNetDiscriminator,
    ResNetGenerator,
    resnet,
)
from gan_lightning.networks.base import Network, build, describe
from tests.helpers import refuses

Shape = tuple[int, int, int]

SIZES = [*((channels, size, size) for size in (16, 28, 32, 64, 128) for channels in (1, 3)), (1, 48, 32), (3, 64, 96)]
SHAPES: dict[type[Network], list[Shape]] = {
    DCGANGenerator: [(1, 8, 8), (3, 8, 8), *SIZES],
    DCGANDiscriminator: [(1, 8, 8), (3, 8, 8), *SIZES],
    MLPGenerator: [(1, 8, 8), (3, 17, 30), *SIZES],
    MLPDiscriminator: [(1, 8, 8), (3, 17, 30), *SIZES],
    DropoutConvDiscriminator: [(1, 8, 8), (3, 17, 30), *SIZES],
    ProjectedDiscriminator: [(1, 8, 8), (3, 17, 30), *SIZES],
}
GENERATORS: dict[type[Generator], list[str | None]] = {
    MLPGenerator: [None, "concatenation", "batch_norm"],
    DCGANGenerator: [None, "concatenation", "batch_norm"],
    ResNetGenerator: [None, "concatenation", "batch_norm"],
    R3GANGenerator: [None, "concatenation"],
    FastGANGenerator: [None, "concatenation", "batch_norm"],
}
DISCRIMINATORS: list[type[Discriminator]] = [
    MLPDiscriminator,
    DCGANDiscriminator,
    DropoutConvDiscriminator,
    ResNetDiscriminator,
    R3GANDiscriminator,
    ProjectedDiscriminator,
]
SCALED: list[type[Network]] = [
    *(DCGANGenerator, DCGANDiscriminator, ResNetGenerator, ResNetDiscriminator, R3GANGenerator, R3GANDiscriminator),
    FastGANGenerator,
]
"""Networks that halve or double maps."""
HEADS = [None, "concatenation", "projection", "classifier"]

EVERY_GENERATOR = [(network, conditioning) for network, offered in GENERATORS.items() for conditioning in offered]
CONDITIONAL_GENERATORS = [(network, conditioning) for network, conditioning in EVERY_GENERATOR if conditioning is not None]
EVERY_DISCRIMINATOR = [(network, conditioning) for network in DISCRIMINATORS for conditioning in HEADS]
EVERY_NETWORK: list[tuple[type[Network], str | None]] = [*EVERY_GENERATOR, *EVERY_DISCRIMINATOR]


def make(network: type[Network], conditioning: str | None = None, shape: Shape = (1, 16, 16), **arguments: Any) -> Any:
    """Make a narrow network of a family, for ten classes; generators have 7 latent dimensions."""
    scales = max(1, min(shape[1:]) // 4).bit_length()
    narrow: dict[type[Network], dict[str, Any]] = {
        MLPGenerator: {"hidden": [8]},
        MLPDiscriminator: {"hidden": [8]},
        ProjectedDiscriminator: {"width": 4, "resolution": 32},
        ResNetGenerator: {"widths": [8] * scales},
        ResNetDiscriminator: {"widths": [8] * len(resnet.DISCRIMINATOR_WIDTHS.get(scales - 1, ()))},
        R3GANGenerator: {"widths": [8] * scales, "group_width": 4, "blocks": 1},
        R3GANDiscriminator: {"widths": [8] * scales, "group_width": 4, "blocks": 1},
    }
    latent = {"latent_dim": 7} if issubclass(network, Generator) else {}
    cheap = narrow.get(network, {"width": 4})
    given: dict[str, Any] = {"image_shape": shape, "num_classes": 10, "conditioning": conditioning}
    return network(**(given | latent | cheap | arguments))


def stirred(network: nn.Module) -> Any:
    """Randomise the weights as if trained: none is zero, and signals keep about their size."""
    for p in network.parameters():
        nn.init.normal_(p, 0.0, (2 / p[0].numel()) ** 0.5 if p.dim() > 1 else 0.3)
    network.train()
    for module in network.modules():
        if is_parametrized(module, "weight"):
            for _ in range(20):
                _ = module.weight  # in train mode each access is a power iteration of spectral norm
    return network


def without_dropout(network: nn.Module) -> Any:
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return network


def per_image(logits: Tensor) -> Tensor:
    """Mean logit of each image (B,), for logits (B, ...)."""
    return logits.reshape(len(logits), -1).mean(dim=1)


# Shapes and gradients


@pytest.mark.parametrize(
    ("network", "conditioning", "shape"),
    [(network, conditioning, s) for network, conditioning in EVERY_GENERATOR for s in SHAPES.get(network, SIZES)],
)
def test_a_generator_makes_images(network: type[Generator], conditioning: str | None, shape: Shape) -> None:
    g = make(network, conditioning, shape)
    images = g(torch.randn(2, 7), torch.tensor([0, 9]) if conditioning else None)
    assert images.shape == (2, *shape)
    assert images.isfinite().all()
    assert images.std() > 0
    if network is not R3GANGenerator:  # it has no tanh
        assert images.abs().max() <= 1
    assert g.conditional == (conditioning is not None)


@pytest.mark.parametrize(
    ("network", "conditioning", "shape"),
    [(network, conditioning, s) for network, conditioning in EVERY_DISCRIMINATOR for s in SHAPES.get(network, SIZES)],
)
def test_a_discriminator_makes_logits(network: type[Discriminator], conditioning: str | None, shape: Shape) -> None:
    d = without_dropout(make(network, conditioning, shape)).eval()
    images, labels = torch.rand(2, *shape) * 2 - 1, torch.tensor([0, 9]) if conditioning else None
    logits, classes = d.judge(images, labels)
    assert logits.shape == ((2, 37) if network is ProjectedDiscriminator else (2,))  # 4x4, 4x4, 2x2 and 1 position
    assert logits.isfinite().all()
    assert torch.equal(d(images, labels), logits)
    assert d.features(images).shape[:1] == (2,)
    assert d.features(images).dim() == 2
    assert d.conditional == (conditioning is not None)
    if conditioning == "classifier":
        assert classes.shape == (2, 10)
        assert classes.isfinite().all()
    else:
        assert classes is None


def test_an_auxiliary_classifier_reads_the_features_linearly() -> None:
    d = make(MLPDiscriminator, "classifier")
    images = torch.randn(3, 1, 16, 16)
    _, classes = d.judge(images)
    assert torch.allclose(classes, d.features(images) @ d.head.classes.weight.T + d.head.classes.bias, atol=1e-6)


def test_a_projection_is_an_inner_product_of_the_features() -> None:
    """Miyato and Koyama 2018, equation 4."""
    d = make(MLPDiscriminator, "projection")
    images, labels = torch.randn(3, 1, 16, 16), torch.tensor([7, 0, 7])
    features, linear, embedding = d.features(images), d.head.layers[0], d.head.embedding.weight
    by_hand = [f @ linear.weight[0] + linear.bias[0] + f @ embedding[y] for f, y in zip(features, labels, strict=True)]
    assert torch.allclose(d(images, labels), torch.stack(by_hand), atol=1e-6)


@pytest.mark.parametrize(("network", "conditioning"), EVERY_NETWORK)
def test_gradients_reach_every_parameter(network: type[Network], conditioning: str | None) -> None:
    """Use eval mode, because in training batch norm cancels the gradient of a bias before it."""
    attention: dict[str, Any] = {"attention_at": 8} if network in (ResNetGenerator, ResNetDiscriminator) else {}
    module = stirred(make(network, conditioning, (3, 16, 16), **attention)).eval()
    labels = torch.arange(8) if conditioning else None
    if isinstance(module, Generator):
        module(torch.randn(8, 7), labels).square().sum().backward()
    else:
        logits, classes = module.judge(torch.randn(8, 3, 16, 16), labels)
        (logits.square().sum() + (0 if classes is None else classes.square().sum())).backward()
    for name, p in module.named_parameters():
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
        assert p.grad.abs().max() > 0, name


@pytest.mark.parametrize(("network", "conditioning"), EVERY_DISCRIMINATOR)
def test_gradients_reach_the_images(network: type[Discriminator], conditioning: str | None) -> None:
    d = stirred(make(network, conditioning))
    images = torch.randn(4, 1, 16, 16, requires_grad=True)
    d(images, torch.arange(4)).sum().backward()
    assert images.grad is not None
    assert (images.grad.flatten(1).abs().amax(dim=1) > 0).all()


@pytest.mark.parametrize(("network", "conditioning"), EVERY_NETWORK)
def test_it_runs_in_mixed_precision(network: type[Network], conditioning: str | None) -> None:
    attention: dict[str, Any] = {"attention_at": 8} if network in (ResNetGenerator, ResNetDiscriminator) else {}
    module = stirred(make(network, conditioning, **attention)).eval()
    inputs = torch.randn(4, 7) if isinstance(module, Generator) else torch.randn(4, 1, 16, 16)
    labels = torch.tensor([0, 3, 5, 9])
    expected = without_dropout(module)(inputs, labels).detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = module(inputs, labels)
    assert (outputs.detach() - expected).abs().max() < 0.2 * expected.abs().max()  # usually 0.01
    outputs.float().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in module.parameters())


# Labels


@pytest.mark.parametrize(("network", "conditioning"), CONDITIONAL_GENERATORS)
def test_labels_change_what_a_conditional_generator_draws(network: type[Generator], conditioning: str) -> None:
    g = stirred(make(network, conditioning)).eval()
    z = torch.randn(1, 7)
    pictures = torch.cat([g(z, torch.tensor([label])) for label in range(10)])
    assert (torch.pdist(pictures.flatten(1)) > 1e-4).all()  # two labels' pictures are usually 0.01 to 7 apart
    with pytest.raises(ValueError, match="needs labels"):
        g(z)


@pytest.mark.parametrize(("network", "conditioning"), CONDITIONAL_GENERATORS)
def test_the_label_of_one_image_does_not_affect_the_others(network: type[Generator], conditioning: str) -> None:
    g = stirred(make(network, conditioning)).eval()
    z = torch.randn(3, 7)
    one, other = g(z, torch.tensor([1, 2, 3])), g(z, torch.tensor([1, 9, 3]))
    assert (one - other).abs().amax(dim=(1, 2, 3))[1] > 1e-4
    assert torch.allclose(one[[0, 2]], other[[0, 2]], atol=1e-5)


@pytest.mark.parametrize("network", GENERATORS)
def test_an_unconditional_generator_ignores_labels(network: type[Generator]) -> None:
    g = stirred(make(network)).eval()
    z = torch.randn(3, 7)
    assert torch.equal(g(z), g(z, torch.tensor([3, 1, 4])))


@pytest.mark.parametrize("conditioning", HEADS)
def test_logits_are_float32_under_autocast(conditioning: Any) -> None:
    """They equal float64's on the same features to 1e-6 of their size; in bfloat16 they would differ by 4e-3."""
    torch.manual_seed(0)
    d = make(MLPDiscriminator, conditioning)
    images, labels = torch.randn(64, *d.image_shape) * 10, torch.arange(64) % 10
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = d.features(images)
        logits, (judged, classes) = d(images, labels), d.judge(images, labels)
    assert features.dtype == torch.bfloat16
    d.double()
    expected, expected_classes = (
        d.head(features.double(), labels),
        getattr(d.head, "classify", lambda _: None)(features.double()),
    )
    for mine, exact in ((logits, expected), (judged, expected), (classes, expected_classes)):
        if mine is not None and exact is not None:
            assert mine.dtype == torch.float32
            assert float((mine - exact).abs().max()) < 1e-6 * float(exact.abs().max())


@pytest.mark.parametrize("conditioning", [None, "classifier"])
@pytest.mark.parametrize("network", DISCRIMINATORS)
def test_a_logit_does_not_depend_on_labels_without_conditioning_and_with_a_classifier(
    network: type[Discriminator], conditioning: str | None
) -> None:
    d = stirred(make(network, conditioning)).eval()
    images = torch.randn(3, 1, 16, 16)
    assert torch.equal(d(images), d(images, torch.tensor([3, 1, 4])))


@pytest.mark.parametrize("conditioning", ["concatenation", "projection"])
@pytest.mark.parametrize("network", DISCRIMINATORS)
def test_a_conditional_discriminator_needs_labels(network: type[Discriminator], conditioning: str) -> None:
    with pytest.raises(ValueError, match="needs labels"):
        make(network, conditioning)(torch.randn(2, 1, 16, 16))


@pytest.mark.parametrize("conditioning", ["concatenation", "projection"])
@pytest.mark.parametrize("network", DISCRIMINATORS)
def test_a_conditional_discriminator_can_match_labels_to_images(network: type[Discriminator], conditioning: str) -> None:
    """The effect of a label depends on the image: logits are not a sum of a term for each."""
    d = stirred(make(network, conditioning)).eval()
    images = torch.randn(8, 1, 16, 16)
    logits = torch.stack([per_image(d(images, torch.full((8,), label))) for label in range(10)], dim=1).detach()  # (8, 10)
    rest = logits - logits.mean(dim=0) - logits.mean(dim=1, keepdim=True) + logits.mean()
    assert rest.std() > 0.002 * logits.std()  # usually above 0.01, of rounding 1e-6


@pytest.mark.parametrize("conditioning", ["concatenation", "projection"])
@pytest.mark.parametrize("network", DISCRIMINATORS)
def test_a_conditional_discriminator_learns_to_match_labels_to_images(network: type[Discriminator], conditioning: str) -> None:
    """Each of two images belongs to one of two labels (XOR): a sum of separate terms cannot get below log 2 = 0.69."""
    wider: dict[type[Network], dict[str, Any]] = {
        ResNetDiscriminator: {"widths": [16] * 4},
        ProjectedDiscriminator: {"width": 16},
    }
    d = without_dropout(make(network, conditioning, **wider.get(network, {}))).train()
    images, labels = torch.randn(2, 1, 16, 16).clamp(-1, 1)[[0, 0, 1, 1]], torch.tensor([0, 1, 0, 1])
    belongs = torch.tensor([1.0, 0.0, 0.0, 1.0])
    optimizer = torch.optim.Adam(d.parameters(), lr=0.003)
    loss = torch.tensor(1.0)
    for _ in range(300):  # usually 1 to 30 do, with spectral norm 30 to 160
        loss = binary_cross_entropy_with_logits(per_image(d(images, labels)), belongs)
        if loss < 0.3:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.3


# Batches


def _with_other_company(d: Discriminator) -> tuple[Tensor, Tensor]:
    """Logits of one image in two batches, in train mode. Uses copies, because spectral norm iterates in each pass."""
    d = without_dropout(stirred(d)).train()
    image, company, others = (torch.randn(n, 1, 16, 16) for n in (1, 3, 3))
    return copy.deepcopy(d)(torch.cat([image, company]))[0], copy.deepcopy(d)(torch.cat([image, others]))[0]


@pytest.mark.parametrize(
    ("network", "arguments", "independent"),
    [
        (MLPDiscriminator, {}, True),
        (DropoutConvDiscriminator, {}, True),
        (DCGANDiscriminator, {"batch_norm": True}, False),
        (DCGANDiscriminator, {"batch_norm": False}, True),
        (ResNetDiscriminator, {"spectral_norm": True, "attention_at": 8}, True),
        (ResNetDiscriminator, {"spectral_norm": False, "pool": "mean"}, True),
        (R3GANDiscriminator, {}, True),
        (ProjectedDiscriminator, {"batch_norm": True}, False),
        (ProjectedDiscriminator, {"batch_norm": False}, True),
    ],
)
def test_independence_of_samples_is_as_declared(
    network: type[Discriminator], arguments: dict[str, Any], independent: bool
) -> None:
    """In train mode without dropout, an image's logit is independent of its batch if the class declares it."""
    d = make(network, **arguments)
    assert d.samples_are_independent == independent
    one, other = _with_other_company(d)
    size = 1e-4 * max(1.0, float(one.detach().abs().max()))  # with batch norm the two are usually 0.01 apart and more
    assert bool(((one - other).abs() < size).all()) == independent


@pytest.mark.parametrize("network", DISCRIMINATORS)
def test_real_and_generated_images_may_share_a_pass(network: type[Discriminator]) -> None:
    """If samples are independent, one pass over two halves gives the logits of separate passes, conditional or not."""
    with_norm = (DCGANDiscriminator, ProjectedDiscriminator)
    without_norm: dict[str, Any] = {"batch_norm": False} if network in with_norm else {}
    d = without_dropout(stirred(make(network, "projection", **without_norm)))
    real, fake, labels = torch.randn(3, 1, 16, 16), torch.randn(3, 1, 16, 16), torch.tensor([0, 5, 9])
    together = copy.deepcopy(d)(torch.cat([real, fake]), labels.repeat(2))
    apart = torch.cat([copy.deepcopy(d)(real, labels), copy.deepcopy(d)(fake, labels)])
    assert torch.allclose(together, apart, rtol=1e-4, atol=1e-4)


# Single families


@pytest.mark.parametrize(
    ("height", "width", "multiple"),
    [(7, 7, 1), (27, 27, 4), (30, 30, 4), (100, 100, 16), (64, 100, 16), (130, 128, 32), (4, 256, 1)],
)
@pytest.mark.parametrize("network", SCALED)
def test_sizes_that_cannot_be_halved_are_refused(network: type[Network], height: int, width: int, multiple: int) -> None:
    with refuses(f"{height}x{width}", f"multiple of {multiple}:"):
        network((1, height, width))


@pytest.mark.parametrize(
    ("height", "width", "suggested"),
    [(7, 7, "16x16"), (27, 27, "24x24"), (50, 50, "48x48"), (1000, 1000, "896x896"), (50, 34, "48x32"), (34, 50, "32x48")]
    + [(10, 40, "16x64"), (64, 100, "64x96"), (2048, 1024, "1024x512")],
)
def test_a_suggested_size_fits(height: int, width: int, suggested: str) -> None:
    """It has nearly the same shape, and is named with its flag."""
    with refuses(f"{height}x{width}", f"--data.image_size {suggested}"):
        ResNetDiscriminator((1, height, width))
    sides = [int(side) for side in suggested.split("x")]
    assert ResNetDiscriminator((1, sides[0], sides[1]), widths=[1] * 8)


def test_residual_networks_begin_at_16_pixels() -> None:
    for network in (ResNetGenerator, ResNetDiscriminator, R3GANGenerator, R3GANDiscriminator):
        with refuses("8x8", "16 pixels"):
            network((1, 8, 8))


@pytest.mark.parametrize("shape", [(1, 20, 24), (3, 256, 256), (1, 512, 512), (1, 256, 384)])
@pytest.mark.parametrize("network", SCALED)
def test_large_and_uneven_sizes(network: type[Network], shape: Shape) -> None:
    """One pass and its gradient; every weight counts."""
    made = stirred(make(network, None, shape))
    result = made(torch.randn(2, 7)) if isinstance(made, Generator) else made(torch.randn(2, *shape))
    assert result.shape == ((2, *shape) if isinstance(made, Generator) else (2,))
    result.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in made.parameters())


@pytest.mark.parametrize(("size", "widest"), [(128, 1024), (512, 1024)])
def test_the_widest_maps_of_dcgan(size: int, widest: int) -> None:
    """16 times the width at most, as many as at 128 pixels."""
    for network in (DCGANGenerator((3, size, size)), DCGANDiscriminator((3, size, size))):
        maps = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)]
        assert max(max(module.in_channels, module.out_channels) for module in maps) == widest


def test_dcgan_is_initialised_as_in_the_paper() -> None:
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


def test_conditional_batch_norm_is_initialised_as_in_the_paper() -> None:
    g = DCGANGenerator((3, 32, 32), 10, conditioning="batch_norm")
    scales = torch.cat([p.detach().flatten() for name, p in g.named_parameters() if name.endswith("scale.weight")])
    shifts = torch.cat([p.detach().flatten() for name, p in g.named_parameters() if name.endswith("shift.weight")])
    assert len(scales) == len(shifts) == 10 * (256 + 128 + 64)
    assert float(scales.mean()) == pytest.approx(1.0, abs=0.002)  # usually within 0.0003
    assert float(scales.std()) == pytest.approx(0.02, rel=0.1)  # usually within 2 %
    assert not shifts.any()


def test_dcgan_without_batch_norm_has_none() -> None:
    d = DCGANDiscriminator((3, 32, 32), width=4, batch_norm=False)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in d.modules())
    assert all(module.bias is not None for module in d.modules() if isinstance(module, nn.Conv2d))


def test_the_textbook_mlp_is_as_printed() -> None:
    g = MLPGenerator((1, 28, 28), hidden=[256, 512, 1024], batch_norm=False, negative_slope=0.0)
    shapes = [tuple(m.weight.shape) for m in g.modules() if isinstance(m, nn.Linear)]
    assert shapes == [(256, 100), (512, 256), (1024, 512), (784, 1024)]
    assert not any(isinstance(m, nn.BatchNorm1d) for m in g.modules())
    x = torch.tensor([-2.0, 3.0])
    assert g.layers[1](x.clone()).tolist() == [0.0, 3.0]  # slope 0 is ReLU


# Arguments


@pytest.mark.parametrize(
    ("network", "arguments", "named"),
    [
        (MLPGenerator, {"hidden": []}, ["hidden is []"]),
        (MLPDiscriminator, {"hidden": [8, 0]}, ["hidden is [8, 0]"]),
        (MLPDiscriminator, {"dropout": 1.0}, ["dropout is 1.0"]),
        (DropoutConvDiscriminator, {"dropout": -0.1}, ["dropout is -0.1"]),
        (DropoutConvDiscriminator, {"width": 0}, ["width is 0"]),
        (DCGANGenerator, {"width": 0}, ["width is 0"]),
        (DCGANDiscriminator, {"width": -1}, ["width is -1"]),
        (ResNetGenerator, {"widths": [8, 8]}, ["widths is [8, 8]", "3 widths"]),
        (ResNetGenerator, {"widths": [8, 8, 8, 8]}, ["widths is [8, 8, 8, 8]", "3 widths"]),
        (ResNetGenerator, {"widths": [8, 0, 8]}, ["widths is [8, 0, 8]", "at least 1"]),
        (ResNetGenerator, {"widths": []}, ["widths is []"]),
        (ResNetGenerator, {"attention_at": 4}, ["attention_at is 4", "8, 16"]),
        (ResNetGenerator, {"attention_at": -1}, ["attention_at is -1"]),
        (ResNetDiscriminator, {"widths": [8]}, ["widths is [8]", "2 or more"]),
        (ResNetDiscriminator, {"widths": [8, 8, -1]}, ["widths is [8, 8, -1]", "at least 1"]),
        (ResNetDiscriminator, {"widths": []}, ["widths is []"]),
        (ResNetDiscriminator, {"attention_at": 16}, ["attention_at is 16", "8, 4"]),
        (ProjectedDiscriminator, {"resolution": 31}, ["resolution is 31", "32 to 1024"]),
        (ProjectedDiscriminator, {"resolution": 1025}, ["resolution is 1025", "32 to 1024"]),
        (ProjectedDiscriminator, {"width": 0}, ["width is 0"]),
        (ProjectedDiscriminator, {"seed": -1}, ["seed is -1"]),
        (ProjectedDiscriminator, {"seed": 2**63}, [f"seed is {2**63}"]),
        (ProjectedDiscriminator, {"image_shape": (4, 16, 16)}, ["4 channels", "1 (grey) or 3 (colour)"]),
        (R3GANGenerator, {"widths": [8, 8]}, ["widths is [8, 8]", "3 widths"]),
        (R3GANDiscriminator, {"widths": [8, 8, 8, 8]}, ["widths is [8, 8, 8, 8]", "3 widths"]),
        (R3GANGenerator, {"widths": [8, 8, 0]}, ["widths is [8, 8, 0]", "at least 1"]),
        (R3GANDiscriminator, {"widths": []}, ["widths is []"]),
        (R3GANGenerator, {"blocks": 0}, ["blocks is 0"]),
        (R3GANDiscriminator, {"blocks": -2}, ["blocks is -2"]),
        (R3GANGenerator, {"group_width": 0}, ["group_width is 0"]),
        (R3GANDiscriminator, {"group_width": 5}, ["group_width is 5", "[8, 8, 8]"]),
        (R3GANGenerator, {"widths": [8, 8, 9], "group_width": 16}, ["group_width is 16", "[8, 8, 9]"]),
    ],
)
def test_bad_arguments(network: type[Network], arguments: dict[str, Any], named: list[str]) -> None:
    with refuses(*named):
        make(network, **arguments)


@pytest.mark.parametrize("network", GENERATORS)
def test_a_latent_needs_a_dimension(network: type[Generator]) -> None:
    with refuses("latent_dim is 0"):
        make(network, latent_dim=0)


@pytest.mark.parametrize("network", [*GENERATORS, *DISCRIMINATORS])
@pytest.mark.parametrize("shape", [(0, 16, 16), (1, 16), (1, -16, -16)])
def test_impossible_shapes_are_refused(network: type[Network], shape: Any) -> None:
    with refuses(f"image_shape is {shape}"):
        network(shape)


@pytest.mark.parametrize("classes", [0, 1])
@pytest.mark.parametrize(("network", "conditioning"), [pair for pair in EVERY_NETWORK if pair[1] is not None])
def test_conditioning_needs_two_classes(network: type[Network], conditioning: str, classes: int) -> None:
    with refuses(network.__name__, conditioning, f"{classes} classes"):
        make(network, conditioning, num_classes=classes)


@pytest.mark.parametrize("classes", [0, 1, 2])
@pytest.mark.parametrize("network", [*GENERATORS, *DISCRIMINATORS])
def test_a_network_without_conditioning_accepts_any_number_of_classes(network: type[Network], classes: int) -> None:
    assert not make(network, num_classes=classes).conditional


def test_conditional_batch_norm_needs_batch_norm() -> None:
    with refuses("conditioning=batch_norm", "batch_norm=true"):
        make(MLPGenerator, "batch_norm", batch_norm=False)


# Written down and built again


@pytest.mark.parametrize(("network", "conditioning"), EVERY_NETWORK)
def test_a_network_is_rebuilt_from_its_description(network: type[Network], conditioning: str | None) -> None:
    module = stirred(make(network, conditioning))
    inputs = torch.randn(4, 7) if isinstance(module, Generator) else torch.randn(4, 1, 16, 16)
    labels = torch.tensor([0, 3, 5, 9])
    module(inputs, labels)  # moves running moments and singular vectors
    description = describe(module)
    assert description["class_path"] == f"{network.__module__}.{network.__name__}"
    again = build(description)
    assert type(again) is network
    assert describe(again) == description
    again.load_state_dict(module.state_dict())
    assert torch.equal(again.eval()(inputs, labels), module.eval()(inputs, labels))


def test_a_description_holds_the_arguments_as_given() -> None:
    g = MLPGenerator((1, 8, 8), num_classes=10, hidden=[8, 9], conditioning="concatenation")
    description = describe(g)
    assert description["arguments"] == {
        "image_shape": (1, 8, 8),
        "num_classes": 10,
        "hidden": [8, 9],
        "conditioning": "concatenation",
    }
    assert describe(copy.deepcopy(g)) == description


class Keyworded(MLPGenerator):
    """A network that forwards its arguments."""

    def __init__(self, image_shape: Shape, **kwargs: Any) -> None:
        super().__init__(image_shape, **kwargs)


def test_forwarded_arguments_are_remembered() -> None:
    g = Keyworded((1, 8, 8), hidden=[8])
    assert describe(g)["arguments"] == {"image_shape": (1, 8, 8), "hidden": [8]}
    assert build(describe(g) | {"class_path": "gan_lightning.networks.mlp.MLPGenerator"}).arguments == g.arguments


def test_an_argument_that_checkpoints_cannot_store_is_refused() -> None:
    g = MLPGenerator((1, 8, 8), hidden=torch.tensor([8]))  # type: ignore[arg-type]
    with refuses("hidden", "Tensor"):
        describe(g)


@pytest.mark.parametrize(
    ("network", "arguments", "named"),
    [
        (MLPGenerator, {"conditioning": "projection"}, ["'projection'", "concatenation, batch_norm or null"]),
        (R3GANGenerator, {"conditioning": "batch_norm"}, ["'batch_norm'", "concatenation or null"]),
        (DCGANDiscriminator, {"conditioning": "batch_norm"}, ["'batch_norm'", "classifier or null"]),
        (ResNetDiscriminator, {"pool": "max"}, ["pool is 'max'", "mean"]),
    ],
)
def test_unknown_choices_are_refused(network: type[Network], arguments: dict[str, Any], named: list[str]) -> None:
    with refuses(*named):
        network((1, 16, 16), 10, **arguments)
