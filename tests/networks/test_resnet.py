"""The residual networks: sizes as printed, blocks, self-attention and class-conditional batch norm by hand, spectral norm."""

import copy
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, relu, softmax
from torch.nn.utils.parametrize import is_parametrized

from gan_lightning.networks.layers import ConditionalBatchNorm, as_is
from gan_lightning.networks.resnet import (
    DiscriminatorBlock,
    GeneratorBlock,
    ResNetDiscriminator,
    ResNetGenerator,
    SelfAttention,
)


def narrow(**arguments: Any) -> ResNetDiscriminator:
    given: dict[str, Any] = {"num_classes": 10, "widths": [8, 8, 12, 12]}
    return ResNetDiscriminator((3, 16, 16), **(given | arguments))


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def convolution(inputs: int, outputs: int, size: int) -> int:
    return inputs * outputs * size * size + outputs


# Sizes


@pytest.mark.parametrize(("conditioning", "in_a_norm"), [(None, 2 * 256), ("batch_norm", 10 * 2 * 256)])
def test_the_generator_for_32_pixels_has_4_3_million_parameters(conditioning: Any, in_a_norm: int) -> None:
    """Miyato et al. 2018, table 4 (a)."""
    linear = 128 * 4 * 4 * 256 + 4 * 4 * 256
    block = 2 * in_a_norm + 2 * convolution(256, 256, 3) + convolution(256, 256, 1)
    count = parameters(ResNetGenerator((3, 32, 32), 10, conditioning=conditioning))
    assert count == linear + 3 * block + 2 * 256 + convolution(256, 3, 3)
    assert round(count / 1e6, 1) == 4.3


@pytest.mark.parametrize(("conditioning", "in_the_head"), [(None, 0), ("projection", 10 * 128), ("classifier", 10 * 129)])
def test_the_discriminator_for_32_pixels_has_1_05_million_parameters(conditioning: Any, in_the_head: int) -> None:
    """Miyato et al. 2018, table 4 (b); spectral norm adds none. With projection it is 1.06 million."""
    first = convolution(3, 128, 3) + convolution(128, 128, 3) + convolution(3, 128, 1)
    second = 2 * convolution(128, 128, 3) + convolution(128, 128, 1)
    others = 2 * 2 * convolution(128, 128, 3)  # their size does not change, so the shortcut has no 1x1
    count = parameters(ResNetDiscriminator((3, 32, 32), 10, conditioning=conditioning))
    assert count == first + second + others + 129 + in_the_head
    assert round(count / 1e6, 2) == (1.05 if conditioning is None else 1.06)


def test_the_discriminator_has_no_norm_but_spectral_norm() -> None:
    assert not any("Norm" in type(module).__name__ for module in narrow(spectral_norm=False).modules())


def test_weights_are_initialised_as_the_authors_code_does() -> None:
    """Glorot's uniform: with a gain of sqrt 2 in the blocks' 3x3 convolutions, of 1 elsewhere."""
    g = ResNetGenerator((3, 32, 32))
    for name, module in g.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            fan_in = module.weight[0].numel()
            fan_out = module.weight.numel() // module.weight.shape[1]
            gain = 2**0.5 if name.endswith(("conv1", "conv2")) else 1.0
            expected = gain * (2 / (fan_in + fan_out)) ** 0.5
            assert float(module.weight.detach().std()) == pytest.approx(expected, rel=0.03)  # usually within 0.4 %


# Blocks


def test_a_generator_block_by_hand() -> None:
    """The shortcut's 1x1 convolution before the doubling (the code) or after it (the paper) gives the same."""
    block = GeneratorBlock(3, 5, 0, None).eval()
    for norm in (block.norm1[0], block.norm2[0]):
        assert isinstance(norm, nn.BatchNorm2d)
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    x = torch.randn(2, 3, 4, 4)
    doubled = relu(block.norm1[0](x)).repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    h = block.conv2(relu(block.norm2[0](block.conv1(doubled))))
    by_hand = h + block.shortcut(interpolate(x, scale_factor=2, mode="nearest"))
    assert by_hand.shape == (2, 5, 8, 8)
    assert torch.allclose(block(x, None), by_hand, atol=1e-5)


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize(("inputs", "outputs", "halve"), [(3, 5, True), (4, 4, True), (3, 5, False), (4, 4, False)])
def test_a_discriminator_block_by_hand(inputs: int, outputs: int, halve: bool, first: bool) -> None:
    """Pooling before the 1x1 convolution (the code) or after it (the paper) gives the same."""
    block = DiscriminatorBlock(inputs, outputs, halve, first, as_is)
    x = torch.randn(2, inputs, 6, 6)
    before = x.clone()
    got = block(x)
    assert torch.equal(x, before)
    assert (block.shortcut is None) == (inputs == outputs and not halve)
    h = block.conv2(relu(block.conv1(x if first else relu(x))))
    by_hand = h + (x if block.shortcut is None else block.shortcut(x))
    assert torch.allclose(got, avg_pool2d(by_hand, 2) if halve else by_hand, atol=1e-5)


@pytest.mark.parametrize(("size", "halvings"), [(16, 2), (28, 2), (32, 2), (64, 4), (128, 5)])
def test_the_first_blocks_halve_and_no_relu_comes_before_pixels(size: int, halvings: int) -> None:
    blocks = list(ResNetDiscriminator((3, size, size), widths=[4] * 6).blocks)
    assert [block.halve for block in blocks] == [True] * halvings + [False] * (6 - halvings)
    assert [block.first for block in blocks] == [True] + [False] * 5


def test_features_are_the_last_block_after_relu_summed_over_positions() -> None:
    d = narrow(spectral_norm=False)
    images = torch.randn(2, 3, 16, 16)
    x = images
    for block in d.blocks:
        x = block(x)
    assert torch.allclose(d.features(images), relu(x).sum(dim=(2, 3)), rtol=1e-5)


@pytest.mark.parametrize(("size", "places"), [(16, 4 * 4), (28, 7 * 7), (32, 8 * 8), (64, 4 * 4), (128, 4 * 4)])
def test_sum_and_mean_differ_by_the_number_of_positions(size: int, places: int) -> None:
    d = ResNetDiscriminator((1, size, size), widths=[4, 4, 4, 4, 6], pool="sum").eval()
    images = torch.randn(2, 1, size, size)
    summed = d.features(images)
    assert summed.shape == (2, 6)
    d.pool = "mean"
    assert torch.allclose(summed, places * d.features(images), rtol=1e-5)
    assert ResNetDiscriminator((1, size, size), widths=[4, 4, 4, 4, 6], pool="mean").pool == "mean"


# Class-conditional batch norm


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dims", [1, 2])
def test_conditional_batch_norm_is_batch_norm_with_the_scale_and_shift_of_each_class(dims: int, training: bool) -> None:
    make: Any = nn.BatchNorm1d if dims == 1 else nn.BatchNorm2d
    norm = ConditionalBatchNorm(make(3, affine=False), 4)
    nn.init.normal_(norm.scale.weight)
    nn.init.normal_(norm.shift.weight)
    shape = (6, 3) if dims == 1 else (6, 3, 2, 5)
    norm(torch.randn(shape) + 2, torch.zeros(6, dtype=torch.long))  # running moments that are not 0 and 1
    norm.train(training)
    features, labels = 3 * torch.randn(shape) - 1, torch.tensor([3, 0, 3, 1, 2, 0])
    before = copy.deepcopy(norm.norm.state_dict())
    got = norm(features, labels)
    for label in range(4):
        plain = make(3)
        plain.load_state_dict(before | {"weight": norm.scale.weight[label], "bias": norm.shift.weight[label]})
        of_class = plain.train(training)(features)  # the whole batch is normalised together, independent of classes
        assert torch.allclose(got[labels == label], of_class[labels == label], atol=1e-5)
        for moment in ("running_mean", "running_var"):
            assert torch.equal(plain.get_buffer(moment), norm.norm.get_buffer(moment))


def test_conditional_batch_norm_is_batch_norm_at_first() -> None:
    features, labels = torch.randn(6, 3, 4, 4), torch.arange(6)
    norm = ConditionalBatchNorm(nn.BatchNorm2d(3, affine=False), 6)
    assert torch.allclose(norm(features, labels), nn.BatchNorm2d(3)(features), atol=1e-6)


def test_conditional_batch_norm_needs_labels() -> None:
    with pytest.raises(ValueError, match="needs labels"):
        ConditionalBatchNorm(nn.BatchNorm1d(3, affine=False), 4)(torch.randn(2, 3), None)


def test_every_norm_in_the_blocks_is_conditional_and_the_last_is_not() -> None:
    g = ResNetGenerator((3, 16, 16), 10, widths=[4, 4, 4], conditioning="batch_norm")
    assert sum(isinstance(module, ConditionalBatchNorm) for module in g.modules()) == 4
    last = g.to_image[0]
    assert isinstance(last, nn.BatchNorm2d)
    assert last.affine


# Self-attention


def test_self_attention_is_the_identity_at_first() -> None:
    x = torch.randn(2, 8, 3, 3)
    assert torch.equal(SelfAttention(8)(x), x)


def test_self_attention_by_hand() -> None:
    """Zhang et al. 2019, equations 1 to 3, position by position."""
    attention = SelfAttention(16)
    nn.init.constant_(attention.scale, 0.7)
    x = torch.randn(2, 16, 2, 3)

    def matrix(layer: nn.Module) -> Tensor:
        assert isinstance(layer.weight, Tensor)
        return layer.weight[:, :, 0, 0]

    query, key, value, output = (matrix(m) for m in (attention.query, attention.key, attention.value, attention.output))
    assert (len(query), len(key), len(value), len(output)) == (2, 2, 8, 16)
    expected = torch.empty_like(x)
    places = [(row, column) for row in range(2) for column in range(3)]
    for b in range(2):
        at = {place: x[b, :, place[0], place[1]] for place in places}
        for here in places:
            weights = softmax(torch.stack([(query @ at[here]) @ (key @ at[there]) for there in places]), dim=0)
            mixed = sum((weight * (value @ at[there]) for weight, there in zip(weights, places, strict=True)), torch.zeros(8))
            expected[b, :, here[0], here[1]] = at[here] + 0.7 * (output @ mixed)
    assert torch.allclose(attention(x), expected, atol=1e-5)


def trace(network: nn.Module, *inputs: Tensor) -> list[tuple[str, Tensor, Tensor]]:
    """Record blocks and attention in the order of their calls: name, input and output."""
    seen: list[tuple[str, Tensor, Tensor]] = []
    for name, module in network.named_modules():
        if isinstance(module, GeneratorBlock | DiscriminatorBlock | SelfAttention):
            module.register_forward_hook(lambda _, given, out, name=name: seen.append((name, given[0], out)))
    network(*inputs)
    return seen


@pytest.mark.parametrize(("at", "after", "channels"), [(8, 0, 6), (16, 1, 10), (32, 2, 4)])
def test_position_of_attention_in_the_generator(at: int, after: int, channels: int) -> None:
    g = ResNetGenerator((3, 32, 32), widths=[8, 6, 10, 4], attention_at=at)
    steps = trace(g, torch.randn(2, 128))
    expected = [f"blocks.{i}" for i in range(3)]
    expected.insert(after + 1, "attention")
    assert [name for name, _, _ in steps] == expected
    assert steps[after + 1][1].shape == (2, channels, at, at)
    for (_, _, out), (_, given, _) in pairwise(steps):
        assert given is out


@pytest.mark.parametrize(("at", "after", "channels"), [(16, 0, 4), (8, 1, 6)])
def test_position_of_attention_in_the_discriminator(at: int, after: int, channels: int) -> None:
    """If several feature maps have the size, attention is only at the first."""
    d = ResNetDiscriminator((3, 32, 32), widths=[4, 6, 8, 10], attention_at=at)
    steps = trace(d, torch.randn(2, 3, 32, 32))
    expected = [f"blocks.{i}" for i in range(4)]
    expected.insert(after + 1, "attention")
    assert [name for name, _, _ in steps] == expected
    assert steps[after + 1][1].shape == (2, channels, at, at)
    for (_, _, out), (_, given, _) in pairwise(steps):
        assert given is out


def test_there_is_no_attention_by_default() -> None:
    assert narrow().attention is None
    assert ResNetGenerator((3, 16, 16), widths=[4, 4, 4]).attention is None


# Spectral norm


def largest_singular_values(d: nn.Module) -> dict[str, float]:
    """Largest singular value of each weight as used, as a matrix with a row for each output."""
    return {
        name: float(torch.linalg.matrix_norm(module.weight.detach().flatten(1), ord=2))
        for name, module in d.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear | nn.Embedding)
    }


@pytest.mark.parametrize("conditioning", [None, "projection", "classifier"])
def test_every_weights_largest_singular_value_becomes_one(conditioning: Any) -> None:
    d = narrow(conditioning=conditioning, attention_at=8)
    nn.init.normal_(d.head.get_parameter("layers.0.parametrizations.weight.original"))
    for _ in range(100):
        d(torch.randn(2, 3, 16, 16), torch.tensor([0, 9]))
        if conditioning == "classifier":
            d.judge(torch.randn(2, 3, 16, 16))
    d.eval()
    sizes = largest_singular_values(d)
    assert len(sizes) == 4 * 2 + 3 + 4 + 1 + (conditioning is not None)  # blocks, three 1x1 shortcuts, attention, head
    for name, size in sizes.items():
        assert size == pytest.approx(1.0, abs=1e-3), name  # usually to 2e-5
    for name, module in d.named_modules():
        if is_parametrized(module, "weight"):
            raw = module.get_parameter("parametrizations.weight.original").detach().flatten(1)
            assert abs(float(torch.linalg.matrix_norm(raw, ord=2)) - 1) > 0.005, name  # usually above 0.03


def test_a_concatenation_heads_linear_layers_are_normalised() -> None:
    d = narrow(conditioning="concatenation")
    for _ in range(100):
        d(torch.randn(2, 3, 16, 16), torch.tensor([0, 9]))
    sizes = largest_singular_values(d.eval())
    for name in ("head.layers.0", "head.hidden"):
        assert sizes[name] == pytest.approx(1.0, abs=1e-3)


def test_without_spectral_norm_weights_are_unchanged() -> None:
    d = narrow(spectral_norm=False, conditioning="projection", attention_at=8)
    assert not any(is_parametrized(module) for module in d.modules())
    before = {name: p.clone() for name, p in d.named_parameters()}
    d(torch.randn(2, 3, 16, 16), torch.tensor([0, 9]))
    assert all(torch.equal(p, before[name]) for name, p in d.named_parameters())
    assert all(abs(size - 1) > 0.01 for size in largest_singular_values(d).values())


def test_logits_do_not_depend_on_the_size_of_raw_weights() -> None:
    d = narrow(conditioning="projection").eval()
    images, labels = torch.randn(2, 3, 16, 16), torch.tensor([0, 9])
    before = d(images, labels)
    with torch.no_grad():
        for name, p in d.named_parameters():
            if name.endswith("original"):
                p.mul_(3.0)
    assert torch.allclose(d(images, labels), before, rtol=1e-4, atol=1e-5)


def test_the_singular_vectors_move_in_train_mode_only() -> None:
    d = narrow()
    images = torch.randn(2, 3, 16, 16)
    before = {name: b.clone() for name, b in d.named_buffers()}
    assert len(before) == 2 * (4 * 2 + 3 + 1)
    d.eval()(images)
    assert all(torch.equal(b, before[name]) for name, b in d.named_buffers())
    d.train()(images)
    assert not all(torch.equal(b, before[name]) for name, b in d.named_buffers())


def test_two_passes_before_a_backward_pass() -> None:
    """With separate passes for real and generated images, the second power iteration does not change the first graph."""
    d = narrow()
    (d(torch.randn(2, 3, 16, 16)).sum() - d(torch.randn(2, 3, 16, 16)).sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in d.parameters())


@pytest.mark.parametrize("conditioning", [None, "concatenation", "projection", "classifier"])
def test_a_copy_is_independent(conditioning: Any) -> None:
    d = narrow(conditioning=conditioning, attention_at=8)
    images, labels = torch.randn(2, 3, 16, 16), torch.tensor([0, 9])
    d(images, labels).sum().backward()
    twin = copy.deepcopy(d)
    before = d.eval()(images, labels).detach()
    assert torch.equal(twin.eval()(images, labels), before)
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.1)
    twin.train()(images, labels).sum().backward()
    optimizer.step()
    assert not torch.equal(twin.eval()(images, labels), before)
    assert torch.equal(d(images, labels), before)


def test_the_state_holds_the_singular_vectors() -> None:
    """Restored logits in eval mode are bitwise equal; with other singular vectors they differ."""
    d = narrow(conditioning="projection", attention_at=8)
    images, labels = torch.randn(2, 3, 16, 16), torch.tensor([0, 9])
    d(images, labels)
    again = narrow(conditioning="projection", attention_at=8)
    again.load_state_dict({name: value.clone() for name, value in d.state_dict().items()})
    assert torch.equal(again.eval()(images, labels), d.eval()(images, labels))


@pytest.mark.parametrize("spectral_norm", [True, False])
@pytest.mark.parametrize("pool", ["sum", "mean"])
def test_a_gradient_penalty_goes_through(spectral_norm: bool, pool: str) -> None:
    d = narrow(spectral_norm=spectral_norm, pool=pool, conditioning="projection", attention_at=8)
    assert d.attention is not None
    nn.init.constant_(d.attention.scale, 0.5)
    images = torch.randn(4, 3, 16, 16, requires_grad=True)
    (gradients,) = torch.autograd.grad(d(images, torch.arange(4)).sum(), images, create_graph=True)
    gradients.square().sum(dim=(1, 2, 3)).mean().backward()
    for name, p in d.named_parameters():
        if not name.endswith("bias"):  # biases have no gradient here: they shift logits, or only move the bend of ReLU
            assert p.grad is not None, name
            assert p.grad.isfinite().all(), name
            assert p.grad.abs().max() > 0, name
