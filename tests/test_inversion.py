"""Inversion finds the latent of an image."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from gan_lightning.inference import Sampler
from gan_lightning.inversion import invert
from tests.helpers import refuses
from tests.test_walks import SHAPE, sampler

QUICK: dict[str, Any] = {"restarts": 8, "steps": 200, "prior": 0.0}


def drawn(gan: Sampler, count: int, labels: Tensor | None = None, seed: int = 11) -> tuple[Tensor, Tensor]:
    """Latents, and the generator's float images."""
    z = gan.latents(torch.arange(count), seed)
    with torch.no_grad():
        return z, gan.generator(z, labels)


def rmse(one: Tensor, other: Tensor) -> Tensor:
    """In grey levels, for each image."""
    return (one - other).square().flatten(1).mean(1).sqrt() * 127.5


def test_the_latent_of_a_generated_image_is_found() -> None:
    gan = sampler()
    z, target = drawn(gan, 4)
    found = invert(gan, target, **QUICK)
    assert found.latent.shape == z.shape
    assert found.label is None
    assert (rmse(found.image, target) < 3).all()  # 0.6 to 1.7
    assert (rmse(drawn(gan, 4, seed=12)[1], target) > 20).all()
    assert ((found.latent - z).norm(dim=1) < 0.4 * z.norm(dim=1)).all()  # 0.2 at most
    torch.testing.assert_close(found.loss.sqrt() * 127.5, rmse(found.image, target))
    with torch.no_grad():
        torch.testing.assert_close(gan.generator(found.latent), found.image)


def test_results_are_repeatable_and_targets_independent() -> None:
    gan = sampler()
    _, target = drawn(gan, 2)
    args = {**QUICK, "steps": 20}
    found = invert(gan, target, **args)
    assert torch.equal(found.latent, invert(gan, target, **args).latent)
    assert not torch.equal(found.latent, invert(gan, target, **args, seed=1).latent)
    torch.testing.assert_close(found.latent[:1], invert(gan, target[:1], **args).latent, atol=1e-4, rtol=1e-4)


def test_more_starts_and_steps_are_not_worse() -> None:
    gan = sampler()
    _, target = drawn(gan, 4)
    few = invert(gan, target[:1], restarts=1, steps=30, prior=0.0).loss
    assert invert(gan, target[:1], restarts=8, steps=30, prior=0.0).loss <= 1.001 * few  # one of them is the same start
    assert (
        invert(gan, target, restarts=4, steps=100, prior=0.0).loss.sum() < invert(gan, target, restarts=4, steps=5).loss.sum()
    )


def test_the_prior_keeps_latents_short() -> None:
    gan = sampler()
    target = torch.ones(1, *SHAPE)  # nothing draws this image
    lengths = [float(invert(gan, target, restarts=4, steps=200, prior=prior).latent.norm()) for prior in (0.0, 0.01, 1.0)]
    assert lengths[0] > 1.1 * lengths[1] > 3 * lengths[2]  # 7.4, 6.2, 0.8


def test_the_pixels_of_the_hole_have_no_influence() -> None:
    gan = sampler()
    _, target = drawn(gan, 1)
    known = torch.ones(8, 8, dtype=torch.bool)
    known[2:5, 3:7] = False
    other = torch.where(known, target, torch.full_like(target, 0.77))
    one, two = (invert(gan, t, known, restarts=4, steps=100, prior=0.0) for t in (target, other))
    assert torch.equal(one.latent, two.latent)
    assert not torch.equal(one.latent, invert(gan, other, restarts=4, steps=100, prior=0.0).latent)
    broken = torch.where(known, target, torch.full_like(target, 1e6))
    torch.testing.assert_close(invert(gan, broken, known, restarts=4, steps=100, prior=0.0).latent, one.latent)
    errors = (one.image - target).square()
    torch.testing.assert_close(one.loss, errors[:, :, known].mean().view(1))
    assert one.loss.sqrt() * 127.5 < 15  # 7, after so few steps


def test_a_hole_is_filled_with_the_original() -> None:
    """16 latent dimensions against 52 known pixels: the rest is determined."""
    gan = sampler()
    _, target = drawn(gan, 3)
    known = torch.ones(8, 8, dtype=torch.bool)
    known[2:5, 3:7] = False
    found = invert(gan, target, known, **QUICK)
    hole = (found.image - target)[:, :, ~known].abs().max() * 127.5
    random = (drawn(gan, 3, seed=12)[1] - target)[:, :, ~known].abs().max() * 127.5
    assert hole < 20  # 8
    assert random > 50


def test_each_target_has_its_own_mask() -> None:
    gan = sampler()
    _, target = drawn(gan, 2)
    known = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)) < 0.6
    args: dict[str, Any] = {"restarts": 2, "steps": 20}
    both = invert(gan, target, known, **args)
    torch.testing.assert_close(both.latent[:1], invert(gan, target[:1], known[0, 0], **args).latent, atol=1e-4, rtol=1e-4)


def test_only_the_low_resolution_is_matched() -> None:
    gan = sampler()
    _, whole = drawn(gan, 2)
    small = avg_pool2d(whole, 2)
    found = invert(gan, small, downscale=2, **QUICK)
    assert found.image.shape == whole.shape
    assert (rmse(avg_pool2d(found.image, 2), small) < 1).all()
    torch.testing.assert_close(found.loss.sqrt() * 127.5, rmse(avg_pool2d(found.image, 2), small))
    assert (rmse(drawn(gan, 2, seed=12)[1], whole) > 20).all()


@pytest.mark.parametrize("conditioning", ["concatenation", "batch_norm"])
def test_the_class_is_found_too(conditioning: str) -> None:
    gan = sampler(3, conditioning)
    labels = torch.tensor([2, 0, 1])
    _, target = drawn(gan, 3, labels)
    found = invert(gan, target, **{**QUICK, "restarts": 12, "steps": 300})
    assert found.label is not None
    assert torch.equal(found.label, labels)
    assert (rmse(found.image, target) < 8).all()  # 0.5 to 4
    wrong = invert(gan, target, labels=(labels + 1) % 3, **QUICK)
    assert torch.equal(wrong.label if wrong.label is not None else labels, (labels + 1) % 3)
    assert (wrong.loss > 4 * found.loss).all()
    assert invert(gan, target, labels=1, restarts=1, steps=1).label is not None


def test_every_class_is_tried_even_with_few_starts() -> None:
    gan = sampler(3, "concatenation")
    labels = torch.tensor([2])
    z = gan.latents(torch.arange(3), 0)[2:]  # the start of the last class
    with torch.no_grad():
        target = gan.generator(z, labels)
    found = invert(gan, target, restarts=1, steps=1, lr=1e-9, prior=0.0)
    assert found.label is not None
    assert int(found.label) == 2
    assert float(found.loss) < 1e-9


def test_wrong_shapes_and_numbers_are_refused() -> None:
    gan, labelled = sampler(), sampler(3, "concatenation")
    target = torch.zeros(2, *SHAPE)
    for arguments, named in (
        ({"target": torch.zeros(2, 1, 8, 7)}, "(2, 1, 8, 7)"),
        ({"target": torch.zeros(*SHAPE)}, "(N, 1, 8, 8)"),
        ({"downscale": 3}, "downscale is 3"),
        ({"downscale": 2}, "(N, 1, 4, 4)"),
        ({"mask": torch.zeros(8, 8, dtype=torch.bool)}, "mask"),
        ({"restarts": 0}, "restarts is 0"),
        ({"steps": 0}, "steps is 0"),
        ({"lr": 0.0}, "lr is 0.0"),
        ({"prior": -1.0}, "prior is -1.0"),
        ({"labels": 1}, "unconditional"),
        ({"seed": -1}, "seed is -1"),
    ):
        with refuses(named):
            invert(gan, **{"target": target, **arguments})  # type: ignore[arg-type]
    with refuses("labels is 3", "from 0 to 2"):
        invert(labelled, target, labels=3)
