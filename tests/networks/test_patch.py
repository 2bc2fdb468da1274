"""The discriminator of patches."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gan_lightning.networks import PatchDiscriminator
from gan_lightning.networks.base import build, describe, enlarged
from gan_lightning.regularizers import R1, DiscriminatorBatch
from tests.helpers import refuses


@pytest.mark.parametrize(("layers", "field"), [(1, 16), (2, 34), (3, 70), (4, 142), (5, 286)])
@pytest.mark.parametrize("norm", ["spectral", None])
def test_the_receptive_field(layers: int, field: int, norm: Any) -> None:
    """A logit in the middle depends on a square of so many pixels, and on none beyond."""
    size = 2 * field + (-2 * field) % 2**layers
    d = PatchDiscriminator((1, size, size), layers=layers, width=1, norm=norm).double()
    for p in d.parameters():
        nn.init.constant_(p, 0.1)  # no gradient cancels another
    images = torch.ones(1, 1, size, size, dtype=torch.float64, requires_grad=True)
    logits = d(images)
    middle = logits.shape[1] // 2
    logits[0, middle, middle].backward()
    assert images.grad is not None
    for dim in (0, 1):
        seen = (images.grad[0, 0] != 0).any(dim).nonzero()
        assert int(seen.max() - seen.min()) + 1 == len(seen) == field


def test_instance_norm_sees_the_whole_image() -> None:
    d = PatchDiscriminator((1, 64, 64), layers=1, width=4)
    images = torch.rand(1, 1, 64, 64, requires_grad=True)
    d(images)[0, 0, 0].backward()
    assert images.grad is not None
    assert images.grad[0, 0, -8:, -8:].abs().max() > 0


def test_parameters_are_as_many_as_published() -> None:
    """2.77 million for pairs of colour images, as the authors' program prints."""
    with torch.device("meta"):
        d = PatchDiscriminator((3, 256, 256), source_shape=(3, 256, 256))
    assert sum(p.numel() for p in d.parameters()) == pytest.approx(2.769e6, abs=1e3)


@pytest.mark.parametrize("norm", ["instance", "spectral", None])
@pytest.mark.parametrize(("size", "layers", "logits"), [((24, 28), 3, (1, 1)), ((256, 256), 3, (30, 30)), ((6, 9), 1, (1, 2))])
def test_a_logit_for_each_patch(norm: Any, size: tuple[int, int], layers: int, logits: tuple[int, int]) -> None:
    d = PatchDiscriminator((3, *size), width=2, layers=layers, norm=norm)
    images = torch.rand(2, 3, *size)
    features, judged = d.features_and_logits(images)
    assert judged.shape == (2, *logits)
    assert features.shape[:2] == (2, 2 * 2**layers)
    d.eval()
    assert torch.equal(d(images), d.judge(images)[0])
    assert torch.allclose(d(images[:1]), d(images)[:1], atol=1e-5)


def test_a_smaller_source_is_enlarged() -> None:
    d = PatchDiscriminator((3, 16, 16), source_shape=(1, 4, 4), layers=1, width=4).eval()
    images, sources = torch.rand(2, 3, 16, 16), torch.rand(2, 1, 4, 4)
    large = enlarged(sources, images)
    assert torch.equal(large, sources.repeat_interleave(4, 2).repeat_interleave(4, 3))
    assert torch.equal(d(images, sources), d(images, large))
    assert not torch.equal(d(images, sources), d(images, sources.flip(0)))


@pytest.mark.parametrize("source_shape", [None, (1, 8, 8)])
def test_a_source_is_given_exactly_if_it_looks_at_one(source_shape: Any) -> None:
    d = PatchDiscriminator((1, 8, 8), source_shape=source_shape, layers=1, width=4)
    images = torch.rand(2, 1, 8, 8)
    with pytest.raises(ValueError, match="source"):
        d(images, None if source_shape else images)


def test_every_weight_has_spectral_norm_one() -> None:
    torch.manual_seed(0)
    d = PatchDiscriminator((3, 16, 16), layers=1, width=4, norm="spectral").train()
    for _ in range(50):
        d(torch.rand(1, 3, 16, 16))
    convolutions = [module for module in d.modules() if isinstance(module, nn.Conv2d)]
    assert len(convolutions) == 3
    for convolution in convolutions:
        assert float(torch.linalg.matrix_norm(convolution.weight.detach().flatten(1), 2)) == pytest.approx(1, abs=1e-2)


@pytest.mark.parametrize("norm", ["instance", "spectral", None])
def test_a_gradient_penalty_has_gradients(norm: Any) -> None:
    d = PatchDiscriminator((1, 16, 16), source_shape=(1, 16, 16), layers=1, width=4, norm=norm)
    images, sources = torch.rand(2, 1, 16, 16), torch.rand(2, 1, 16, 16)

    def critic(points: Tensor, condition: Tensor | None) -> Tensor:
        logits: Tensor = d(points, condition)
        return logits.flatten(1).mean(1)

    empty = torch.zeros(2)
    R1()(critic, DiscriminatorBatch(images, images, sources, empty, empty)).backward()
    weights = [p.grad for p in d.parameters() if p.dim() == 4]
    assert all(grad is not None and grad.isfinite().all() and grad.abs().max() > 0 for grad in weights)


def test_its_description_rebuilds_it() -> None:
    d = PatchDiscriminator((1, 16, 16), source_shape=(2, 8, 8), layers=1, width=4, norm="spectral")
    twin = build(describe(d))
    twin.load_state_dict(d.state_dict())


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"layers": 0}, "layers is 0"),
        ({"width": 0}, "width is 0"),
        ({"layers": 3}, "24"),
        ({"norm": "batch"}, "norm is 'batch'"),
        ({"layers": 1, "image_shape": (1, 5, 8)}, "5x8"),
    ],
)
def test_refusals(arguments: dict[str, Any], named: str) -> None:
    with refuses(named):
        PatchDiscriminator(**({"image_shape": (1, 23, 23)} | arguments))
