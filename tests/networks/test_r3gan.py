"""R3GAN's networks: sizes as printed, blocks, resampling against convolutions, the size of signals at first."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d
from torch.nn.utils.parametrize import is_parametrized

from gan_lightning.networks.layers import halvings
from gan_lightning.networks.r3gan import (
    GAIN,
    Block,
    R3GANDiscriminator,
    R3GANGenerator,
    Resample,
    filter_matrix,
)
from tests.helpers import refuses

TAPS = torch.tensor([1.0, 3.0, 3.0, 1.0])
KERNEL = torch.outer(TAPS, TAPS) / 64


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def per_channel(x: Tensor) -> Tensor:
    """(B, C, H, W) to (B * C, 1, H, W)."""
    return x.flatten(0, 1)[:, None]


def stirred(network: nn.Module) -> Any:
    """Make the last convolutions of all blocks nonzero."""
    for module in network.modules():
        if isinstance(module, Block):
            nn.init.normal_(module.get_parameter("layers.4.weight"), 0.0, 0.1)
    return network


# Sizes

IN_A_BLOCK = (768 * 1536 + 1536) + (1536 * 16 * 9 + 1536) + 1536 * 768


def test_the_generator_for_32_pixels_has_21_million_parameters() -> None:
    basis, scale, to_image = 768 * 4 * 4, 64 * 768, 768 * 3
    with torch.device("meta"):
        count = parameters(R3GANGenerator((3, 32, 32)))
    assert count == 4 * 2 * IN_A_BLOCK + basis + scale + to_image == 20_732_160
    assert round(count / 1e6) == 21


def test_the_discriminator_for_32_pixels_has_21_million_parameters() -> None:
    from_image, whole_map, linear = 3 * 768, 768 * 4 * 4, 768 + 1
    with torch.device("meta"):
        count = parameters(R3GANDiscriminator((3, 32, 32)))
    assert count == 4 * 2 * IN_A_BLOCK + from_image + whole_map + linear == 20_683_777
    assert round(count / 1e6) == 21


def test_a_projection_adds_an_embedding_and_a_concatenation_its_columns() -> None:
    with torch.device("meta"):
        g, conditional_g = R3GANGenerator((3, 32, 32)), R3GANGenerator((3, 32, 32), 10, conditioning="concatenation")
        d, conditional_d = R3GANDiscriminator((3, 32, 32)), R3GANDiscriminator((3, 32, 32), 10, conditioning="projection")
    assert parameters(conditional_g) - parameters(g) == 10 * 10 + 10 * 768  # the embedding; and it scales the basis
    assert parameters(conditional_d) - parameters(d) == 10 * 768


@pytest.mark.parametrize(("size", "scales"), [(16, 3), (28, 3), (32, 4), (64, 5), (128, 6)])
def test_widths_are_counted(size: int, scales: int) -> None:
    with torch.device("meta"):
        default = R3GANGenerator((3, size, size))
    assert sum(isinstance(module, Block) for module in default.modules()) == 2 * scales
    for network in (R3GANGenerator, R3GANDiscriminator):
        for count in (scales - 1, scales + 1):
            widths = [8] * count
            with refuses(f"widths is {widths}", f"{scales} widths"):
                network((3, size, size), widths=widths, group_width=4)


def test_widths_start_at_the_smallest_scale() -> None:
    widths = [16, 12, 4]
    g = R3GANGenerator((3, 16, 16), widths=widths, blocks=1, group_width=4)
    d = R3GANDiscriminator((3, 16, 16), widths=widths, blocks=1, group_width=4)
    assert widths == [16, 12, 4]
    assert g.basis.shape == (16, 4, 4)
    shapes = {name: tuple(p.shape) for name, p in g.named_parameters()}
    assert [shapes[f"layers.{i}.change.weight"] for i in (1, 3)] == [(12, 16, 1, 1), (4, 12, 1, 1)]
    assert shapes["layers.5.weight"] == (3, 4, 1, 1)
    shapes = {name: tuple(p.shape) for name, p in d.named_parameters()}
    assert shapes["layers.0.weight"] == (4, 3, 1, 1)
    assert [shapes[f"layers.{i}.change.weight"] for i in (2, 4)] == [(12, 4, 1, 1), (16, 12, 1, 1)]
    assert shapes["layers.6.weight"] == (16, 1, 4, 4)
    assert d.features(torch.randn(2, 3, 16, 16)).shape == (2, 16)


def block_counts(network: nn.Module, size: int) -> dict[int, int]:
    """Count the blocks at each size of the feature map."""
    counts: dict[int, int] = {}

    def count(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        counts[given[0].shape[2]] = counts.get(given[0].shape[2], 0) + 1

    for module in network.modules():
        if isinstance(module, Block):
            module.register_forward_pre_hook(count)
    network(torch.randn(1, 64) if isinstance(network, R3GANGenerator) else torch.randn(1, 1, size, size))
    return counts


@pytest.mark.parametrize("network", [R3GANGenerator, R3GANDiscriminator])
def test_blocks_are_counted_from_the_smallest_scale(network: type[R3GANGenerator] | type[R3GANDiscriminator]) -> None:
    blocks = [3, 1, 2]
    made = network((1, 28, 28), widths=[8] * 3, blocks=blocks, group_width=4)
    assert blocks == [3, 1, 2]
    assert block_counts(made, 28) == {7: 3, 14: 1, 28: 2}
    assert block_counts(network((1, 28, 28), widths=[8] * 3, blocks=2, group_width=4), 28) == {7: 2, 14: 2, 28: 2}


@pytest.mark.parametrize("blocks", [[2, 2], [2, 2, 2, 2], [2, 0, 2], []])
def test_wrong_numbers_of_blocks_are_refused(blocks: list[int]) -> None:
    for network in (R3GANGenerator, R3GANDiscriminator):
        with refuses(f"blocks is {blocks}", "3 numbers"):
            network((1, 28, 28), widths=[8] * 3, blocks=blocks, group_width=4)


@pytest.mark.parametrize("network", [R3GANGenerator, R3GANDiscriminator])
@pytest.mark.parametrize(("blocks", "depth"), [(1, 3), (2, 6), ([1, 2, 5], 8)])
def test_initialisation_depends_on_the_depth_of_the_whole_network(network: Any, blocks: Any, depth: int) -> None:
    """Fixup scales the first two convolutions by the number of blocks to the power -1/4."""
    made = network((1, 16, 16), widths=[64] * 3, blocks=blocks)
    for module in made.modules():
        if isinstance(module, Block):
            for i, fan_in in ((0, 64), (2, 16 * 3 * 3)):
                weight, bias = (module.get_parameter(f"layers.{i}.{name}").detach() for name in ("weight", "bias"))
                assert float(weight.std()) == pytest.approx(GAIN * depth**-0.25 * fan_in**-0.5, rel=0.05)  # usually within 2 %
                assert not bias.any()


def test_groups_have_the_given_width() -> None:
    block = Block(12, group_width=6, depth=4)
    assert [tuple(p.shape) for p in block.parameters() if p.dim() > 1] == [(24, 12, 1, 1), (24, 6, 3, 3), (12, 24, 1, 1)]


def test_there_is_no_norm() -> None:
    for network in (R3GANGenerator((3, 16, 16), widths=[8] * 3), R3GANDiscriminator((3, 16, 16), widths=[8] * 3)):
        assert not any("Norm" in type(module).__name__ or is_parametrized(module) for module in network.modules())
        assert not any(isinstance(module, nn.Dropout) for module in network.modules())


# Blocks


def test_a_block_is_the_identity_at_first() -> None:
    x = torch.randn(2, 8, 5, 5)
    assert torch.equal(Block(8, 4, depth=8)(x), x)


def test_a_block_by_hand() -> None:
    block = stirred(Block(8, 4, depth=8))
    first, _, second, _, last = block.layers
    nn.init.normal_(first.bias)
    nn.init.normal_(second.bias)
    x = torch.randn(2, 8, 5, 5)
    before = x.clone()
    got = block(x)
    assert torch.equal(x, before)
    h = conv2d(x, first.weight, first.bias)
    h = torch.where(h > 0, h, 0.2 * h)
    groups = [
        conv2d(part, weight, bias, padding=1)
        for part, weight, bias in zip(h.split(4, dim=1), second.weight.split(4), second.bias.split(4), strict=True)
    ]
    h = torch.cat(groups, dim=1)
    h = torch.where(h > 0, h, 0.2 * h)
    assert torch.allclose(got, x + conv2d(h, last.weight), atol=1e-5)


@pytest.mark.parametrize("depth", [1, 8, 16])
def test_a_branch_is_scaled_by_the_depth(depth: int) -> None:
    """Fixup divides the mean square before the last convolution by the depth. Zeros enter at the edges."""
    ratios = []
    for seed in range(4):
        torch.manual_seed(seed)
        layers = Block(64, 16, depth).layers
        x = torch.randn(8, 64, 12, 12)
        h = layers[:4](x)[:, :, 1:-1, 1:-1]
        ratios.append(float(h.detach().square().mean() / x.square().mean()))
    assert sum(ratios) / 4 == pytest.approx(1 / depth, rel=0.15)  # usually within 5 %


def test_the_gain_keeps_the_mean_square_through_leaky_relu() -> None:
    x = torch.special.ndtri((torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000)  # the normal's quantiles
    y = GAIN * nn.functional.leaky_relu(x, 0.2)
    assert float(y.square().mean()) == pytest.approx(1.0, abs=1e-3)


# Resampling


@pytest.mark.parametrize("size", [4, 14, 28, 32])
def test_halving_is_a_strided_convolution(size: int) -> None:
    x = torch.randn(2, 3, size, size)
    by_convolution = conv2d(per_channel(x), KERNEL[None, None], stride=2, padding=1).view(2, 3, size // 2, size // 2)
    matrix = filter_matrix(size)
    assert matrix.shape == (size // 2, size)
    assert torch.allclose(matrix @ x @ matrix.T, by_convolution, atol=1e-6)
    assert torch.allclose(Resample(3, 3, (size, size), up=False)(x), by_convolution, atol=1e-6)


@pytest.mark.parametrize("size", [4, 7, 14, 16])
def test_doubling_is_a_transposed_convolution(size: int) -> None:
    x = torch.randn(2, 3, size, size)
    by_convolution = conv_transpose2d(per_channel(x), 4 * KERNEL[None, None], stride=2, padding=1)
    by_convolution = by_convolution.view(2, 3, 2 * size, 2 * size)
    matrix = 2 * filter_matrix(2 * size).T
    assert torch.allclose(matrix @ x @ matrix.T, by_convolution, atol=1e-6)
    assert torch.allclose(Resample(3, 3, (size, size), up=True)(x), by_convolution, atol=1e-6)


def test_the_filter_by_hand() -> None:
    assert (8 * filter_matrix(6)).tolist() == [[3, 3, 1, 0, 0, 0], [0, 1, 3, 3, 1, 0], [0, 0, 0, 1, 3, 3]]


def test_a_constant_stays_constant_except_at_the_edges() -> None:
    x = torch.full((1, 2, 8, 8), 3.0)
    larger = Resample(2, 2, (8, 8), up=True)(x)
    assert torch.allclose(larger[:, :, 1:-1, 1:-1], torch.tensor(3.0))
    assert torch.allclose(larger[:, :, 0, 1:-1], torch.tensor(0.75 * 3.0))  # zeros beyond the edge, a quarter of the taps
    back = Resample(2, 2, (16, 16), up=False)(larger)
    assert back.shape == x.shape
    assert torch.allclose(back[:, :, 1:-1, 1:-1], torch.tensor(3.0))


@pytest.mark.parametrize("up", [True, False])
def test_widths_may_change_before_or_after_the_filter(up: bool) -> None:
    resample = Resample(3, 5, (8, 8), up)
    assert resample.change is not None
    filtered = Resample(3, 3, (8, 8), up)
    assert filtered.change is None
    x = torch.randn(2, 3, 8, 8)
    size = 16 if up else 4
    assert resample(x).shape == (2, 5, size, size)
    assert torch.allclose(resample(x), resample.change(filtered(x)), atol=1e-5)
    assert torch.allclose(resample(x), Resample(5, 5, (8, 8), up)(resample.change(x)), atol=1e-5)


def test_the_filter_is_in_no_checkpoint_and_takes_no_gradient() -> None:
    g = R3GANGenerator((1, 16, 16), widths=[8] * 3, group_width=4)
    buffers = [name for name, _ in g.named_buffers()]
    assert len(buffers) == 2 * 2  # two resamplings, a matrix for each side
    assert not set(buffers) & g.state_dict().keys()
    assert g.double()(torch.randn(2, 64, dtype=torch.float64)).dtype == torch.float64


# The whole networks at first


def test_the_generator_is_linear_in_its_basis_at_first() -> None:
    """A block that is not the identity makes it nonlinear."""
    g = R3GANGenerator((3, 16, 16), latent_dim=5, widths=[8, 8, 4], group_width=4)
    z, one, other = torch.randn(2, 5), torch.randn(8, 4, 4), torch.randn(8, 4, 4)

    def images(basis: Tensor) -> Tensor:
        with torch.no_grad():
            g.basis.copy_(basis)
            drawn: Tensor = g(z)
        return drawn

    assert torch.allclose(images(one + 2 * other), images(one) + 2 * images(other), atol=1e-5)
    assert torch.allclose(images(torch.zeros_like(one)), torch.zeros(1))
    stirred(g)
    assert not torch.allclose(images(one + 2 * other), images(one) + 2 * images(other), atol=1e-3)


def test_the_generator_is_linear_in_the_latent_at_first() -> None:
    g = R3GANGenerator((3, 16, 16), latent_dim=5, widths=[8, 8, 4], group_width=4)
    one, other = torch.randn(2, 5), torch.randn(2, 5)
    assert torch.allclose(g(one + 2 * other), g(one) + 2 * g(other), atol=1e-5)


def white_noise_through(matrices: list[Tensor]) -> float:
    """Mean variance of white noise after the filter matrices, applied in order along both sides."""
    product = torch.linalg.multi_dot(matrices) if len(matrices) > 1 else matrices[0]
    return float(product.square().sum() / len(product)) ** 2


@pytest.mark.parametrize(("size", "blocks"), [(16, 1), (16, 4), (28, 1), (32, 1)])
def test_the_variance_of_generated_images_at_first(size: int, blocks: int) -> None:
    """The filter reduces the basis's variance of 1 to 0.26 to 0.30 at any depth. Other layers keep it."""
    scales = halvings((3, size, size), "R3GAN", 16) + 1
    base = size // 2 ** (scales - 1)
    expected = white_noise_through([2 * filter_matrix(base * 2**i).T for i in range(scales - 1, 0, -1)])
    variances = []
    for seed in range(8):
        torch.manual_seed(seed)
        g = R3GANGenerator((3, size, size), widths=[64] * scales, blocks=blocks)
        with torch.no_grad():
            variances.append(float(g(torch.randn(8, 64)).square().mean()))
    assert 0.25 < expected < 0.31
    assert sum(variances) / 8 == pytest.approx(expected, rel=0.3)  # usually within 12 %, single ones within 40 %


@pytest.mark.parametrize(("size", "blocks"), [(16, 1), (16, 4), (28, 1), (32, 1)])
def test_the_variance_of_features_at_first(size: int, blocks: int) -> None:
    """The filter reduces the variance of white noise at any depth. Other layers keep it."""
    scales = halvings((3, size, size), "R3GAN", 16) + 1
    expected = white_noise_through([filter_matrix(size // 2**i) for i in range(scales - 2, -1, -1)])
    variances = []
    for seed in range(8):
        torch.manual_seed(seed)
        d = R3GANDiscriminator((3, size, size), widths=[64] * scales, blocks=blocks)
        with torch.no_grad():
            variances.append(float(d.features(torch.randn(8, 3, size, size)).square().mean()))
    assert sum(variances) / 8 == pytest.approx(expected, rel=0.3)  # usually within 14 %, single ones within 40 %


def test_gradient_penalties_go_through() -> None:
    d = stirred(R3GANDiscriminator((3, 16, 16), 10, widths=[8] * 3, group_width=4, conditioning="projection"))
    images = torch.randn(4, 3, 16, 16, requires_grad=True)
    (gradients,) = torch.autograd.grad(d(images, torch.arange(4)).sum(), images, create_graph=True)
    gradients.square().sum(dim=(1, 2, 3)).mean().backward()
    for name, p in d.named_parameters():
        if not name.endswith("bias"):  # biases have no gradient here: they shift logits, or only move the bend of LeakyReLU
            assert p.grad is not None, name
            assert p.grad.isfinite().all(), name
            assert p.grad.abs().max() > 0, name


def test_the_gradient_penalty_of_a_new_discriminator_in_closed_form() -> None:
    """At first D is linear, so its gradient is the same at every image."""
    d = R3GANDiscriminator((1, 16, 16), widths=[8] * 3, group_width=4)
    images = torch.randn(2, 1, 16, 16, requires_grad=True)
    (gradients,) = torch.autograd.grad(d(images).sum(), images)
    assert torch.allclose(gradients[0], gradients[1], atol=1e-6)
    assert float(d(images)[0].detach()) == pytest.approx(float((gradients[0] * images[0]).sum().detach()), abs=1e-5)


@pytest.mark.parametrize(("size", "last"), [(32, 768), (64, 384), (128, 192), (256, 96)])
def test_the_default_widths_taper_as_the_authors_do_for_faces(size: int, last: int) -> None:
    g = R3GANGenerator((3, size, size), blocks=1)
    blocks = [module for module in g.layers if isinstance(module, Block)]
    widths = [block.layers[0].in_channels for block in blocks]
    assert widths[:4] == [768] * 4
    assert widths[-1] == last
