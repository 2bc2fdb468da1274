"""Augmentations against their descriptions, counted over many images."""

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from gan_lightning import augment, checkpoint
from gan_lightning.augment import (
    TRANSFORMS,
    AdaptiveAugment,
    Augmentation,
    DiffAugment,
    Transform,
    color,
    cutout,
    flip,
    geometry,
    rotate90,
    translation,
)
from gan_lightning.data import Digits
from gan_lightning.losses import AdversarialLoss, NonSaturatingLoss, RelativisticPairingLoss
from gan_lightning.networks import MLPDiscriminator
from gan_lightning.regularizers import R1, DiscriminatorBatch
from tests.helpers import Batches, Outputs, fit, refuses, same_state, small_gan

ALL: list[Transform] = list(TRANSFORMS)
transforms = pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=ALL)
Function = Callable[[Tensor], Tensor]


def seeded(transform: Function) -> Function:
    """Make the transform draw the same numbers at every call."""

    def call(images: Tensor) -> Tensor:
        torch.manual_seed(3)
        return transform(images)

    return call


def shares(outcomes: Tensor, count: int) -> list[float]:
    """Share of each of 0 ... count - 1 among the outcomes."""
    return (outcomes.bincount(minlength=count) / len(outcomes)).tolist()


def assert_alike(outcomes: Tensor, count: int) -> None:
    """Check that 0 ... count - 1 are equally frequent, within 5 standard deviations; usually within 1."""
    share = 1 / count
    deviation = math.sqrt(share * (1 - share) / len(outcomes))
    assert shares(outcomes, count) == pytest.approx([share] * count, abs=5 * deviation)


# Every transform


@transforms
@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 6, 9)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_shape_and_type_are_kept(transform: Function, shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    images = torch.rand(5, *shape).to(dtype) * 2 - 1
    changed = transform(images)
    assert changed.shape == images.shape
    assert changed.dtype == dtype
    assert torch.isfinite(changed).all()


@pytest.mark.gpu
@transforms
def test_the_device_is_kept(transform: Function) -> None:
    images = torch.rand(5, 3, 8, 8, device="cuda", requires_grad=True)
    changed = transform(images)
    assert changed.device == images.device
    (gradient,) = torch.autograd.grad(changed.square().sum(), images, create_graph=True)
    gradient.square().sum().backward()
    assert images.grad is not None
    assert torch.isfinite(images.grad).all()


@transforms
def test_first_and_second_gradients_against_finite_differences(transform: Function) -> None:
    images = torch.randn(2, 2, 4, 4, dtype=torch.float64, requires_grad=True)

    def squares(images: Tensor) -> Tensor:  # a linear function has second derivative 0
        return seeded(transform)(images).square()

    assert torch.autograd.gradcheck(squares, images)
    assert torch.autograd.gradgradcheck(squares, images, fast_mode=True)


@transforms
def test_transforms_are_linear_in_the_images(transform: Function) -> None:
    """With the same draws, the transform of a difference is the difference of transforms (for color, up to a constant)."""
    one, other = torch.randn(2, 5, 3, 8, 8, dtype=torch.float64)
    draw = seeded(transform)
    nothing = draw(torch.zeros_like(one))
    assert torch.allclose(draw(one - other) - nothing, draw(one) - draw(other), atol=1e-12)
    if transform is not color:
        assert not nothing.any()


@transforms
def test_each_image_is_changed_independently(transform: Function) -> None:
    images = torch.randn(1, 3, 8, 8).repeat(8, 1, 1, 1)
    changed = seeded(transform)(images)
    assert len(changed.flatten(1).unique(dim=0)) > 1  # the same images come out differently
    images[2] = 7
    again = seeded(transform)(images)
    others = torch.arange(8) != 2
    assert torch.equal(again[others], changed[others])  # and no image affects another
    assert not torch.equal(again[2], changed[2])


@transforms
def test_channels_change_together(transform: Function) -> None:
    """A grey image stays grey."""
    changed = transform(torch.randn(6, 1, 8, 8).repeat(1, 3, 1, 1))
    assert torch.allclose(changed[:, :1], changed[:, 1:2], atol=1e-6)
    assert torch.allclose(changed[:, :1], changed[:, 2:], atol=1e-6)


def test_r1_through_all_of_them_reaches_the_weights() -> None:
    """Compare the gradient of a squared gradient through every transform with finite differences."""
    images = torch.randn(3, 2, 8, 8)
    weights = torch.randn(2, 8, 8, requires_grad=True)
    change = seeded(DiffAugment(ALL))

    def penalty(weights: Tensor) -> Tensor:
        value: Tensor = R1()(
            lambda images, _: (change(images) * weights).sum(dim=(1, 2, 3)).sigmoid(),
            DiscriminatorBatch(images, images, None, torch.zeros(3), torch.zeros(3)),
        )
        return value

    (gradient,) = torch.autograd.grad(penalty(weights), weights)
    assert float(gradient.abs().max()) > 1e-3
    direction = gradient / gradient.norm()
    with torch.no_grad():
        ahead, behind = weights + 1e-2 * direction, weights - 1e-2 * direction
    slope = float((penalty(ahead) - penalty(behind)).detach()) / 2e-2
    assert slope == pytest.approx(float(gradient.norm()), rel=1e-2)


# Color


def test_color_of_grey_constant_images_is_brightness_alone() -> None:
    """Uniform in [-0.5, 0.5): over 4000 images the mean is within 0.005 of 0, the variance within 0.002 of 1/12."""
    images = torch.full((4000, 3, 4, 4), 0.3)
    moved = color(images) - images
    brightness = moved.mean(dim=(1, 2, 3))
    assert torch.allclose(moved, brightness[:, None, None, None].expand_as(moved), atol=1e-5)  # all pixels alike
    assert -0.5 - 1e-5 < float(brightness.min()) < -0.49
    assert 0.49 < float(brightness.max()) < 0.5 + 1e-5
    assert float(brightness.mean()) == pytest.approx(0, abs=0.02)
    assert float(brightness.var()) == pytest.approx(1 / 12, abs=0.008)


@pytest.mark.parametrize("channels", [1, 3])
def test_color_scales_saturation_and_contrast(channels: int) -> None:
    """Brightness changes only the mean; contrast scales greys around it; contrast and saturation scale colours."""
    images = torch.rand(2000, channels, 4, 4, dtype=torch.float64) * 2 - 1
    changed = color(images)

    def parts(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, grey = images.mean(dim=(1, 2, 3), keepdim=True), images.mean(dim=1, keepdim=True)
        return mean.flatten(), (grey - mean).flatten(1), (images - grey).flatten(1)

    (mean, greys, hues), (new_mean, new_greys, new_hues) = parts(images), parts(changed)
    factors = {}
    factors["brightness"] = new_mean - mean
    contrast = (new_greys * greys).sum(dim=1) / greys.square().sum(dim=1)
    assert torch.allclose(new_greys, contrast[:, None] * greys, atol=1e-10)
    factors["contrast"] = contrast
    if channels == 3:
        both = (new_hues * hues).sum(dim=1) / hues.square().sum(dim=1)
        assert torch.allclose(new_hues, both[:, None] * hues, atol=1e-10)
        factors["saturation"] = both / contrast
    else:
        assert float(new_hues.abs().max()) < 1e-10
    for name, (low, high) in {"brightness": (-0.5, 0.5), "contrast": (0.5, 1.5), "saturation": (0.0, 2.0)}.items():
        if name in factors:
            drawn = (factors[name] - low) / (high - low)  # uniform in [0, 1): of 2000 the mean lies within 0.007 of 1/2
            assert -1e-9 < float(drawn.min()) < 0.01
            assert 0.99 < float(drawn.max()) < 1 + 1e-9
            assert float(drawn.mean()) == pytest.approx(1 / 2, abs=0.03)
    names = torch.stack(list(factors.values()))
    assert float((torch.corrcoef(names) - torch.eye(len(names))).abs().max()) < 0.1  # drawn apart: usually below 0.05


# Translation


def moved(image: Tensor, down: int, right: int) -> Tensor:
    """Shift an image (C, H, W) by whole pixels, and fill with zeros."""
    height, width = image.shape[1:]
    result = torch.zeros_like(image)
    for row, column in itertools.product(range(height), range(width)):
        if 0 <= row - down < height and 0 <= column - right < width:
            result[:, row, column] = image[:, row - down, column - right]
    return result


@pytest.mark.parametrize(("size", "most"), [((8, 16), (1, 2)), ((16, 8), (2, 1)), ((3, 28), (0, 4))])
def test_translation_is_uniform_up_to_an_eighth(size: tuple[int, int], most: tuple[int, int]) -> None:
    """Rounded to whole pixels."""
    image = torch.rand(2, *size) + 1  # no zeros
    allowed = list(itertools.product(range(-most[0], most[0] + 1), range(-most[1], most[1] + 1)))
    candidates = torch.stack([moved(image, *shift) for shift in allowed])  # (n, C, H, W)
    changed = translation(image.repeat(2000, 1, 1, 1))
    same = (changed[:, None] == candidates).flatten(2).all(dim=2)  # (2000, n)
    assert (same.sum(dim=1) == 1).all()
    assert_alike(same.int().argmax(dim=1), len(allowed))


# Cutout


def holes(size: int) -> list[tuple[int, int]]:
    """Start and end of all holes of half the size with a centre on the image or its edge.

    The centre of a hole of odd length is a pixel, that of one of even length lies between two.
    """
    half = size // 2
    centres = [c + 0.5 for c in range(size)] if half % 2 else [float(c) for c in range(size + 1)]
    return [(max(0, round(c - half / 2)), min(size, round(c + half / 2))) for c in centres]


@pytest.mark.parametrize(("height", "width"), [(8, 8), (6, 12), (7, 5)])
def test_cutout_is_uniform_over_squares_of_half_the_size(height: int, width: int) -> None:
    """Squares are cut at the edges. Over 4000 images the mean area is within 1% of the expected one."""
    allowed = list(itertools.product(holes(height), holes(width)))
    masks = torch.ones(len(allowed), height, width)
    for mask, ((top, bottom), (left, right)) in zip(masks, allowed, strict=True):
        mask[top:bottom, left:right] = 0
    assert len(masks.flatten(1).unique(dim=0)) == len(allowed)
    images = torch.rand(4000, 2, height, width) + 1  # no zeros
    changed = cutout(images)
    kept = changed != 0
    assert torch.equal(kept[:, 0], kept[:, 1])
    assert torch.equal(changed, images * kept)
    same = (kept[:, None, 0] == masks.bool()).flatten(2).all(dim=2)  # (4000, n)
    assert (same.sum(dim=1) == 1).all()
    assert_alike(same.int().argmax(dim=1), len(allowed))
    area = sum((bottom - top) * (right - left) for (top, bottom), (left, right) in allowed) / len(allowed)
    assert float((~kept[:, 0]).sum(dim=(1, 2)).double().mean()) == pytest.approx(area, rel=0.03)
    assert max((bottom - top) * (right - left) for (top, bottom), (left, right) in allowed) == (height // 2) * (width // 2)


# Flips and turns


def outcomes(changed: Tensor, allowed: list[Tensor]) -> Tensor:
    """Index of each image among the allowed ones."""
    same = torch.stack([(changed == image).flatten(1).all(dim=1) for image in allowed], dim=1)
    assert (same.sum(dim=1) == 1).all()
    return same.int().argmax(dim=1)


def test_flip_is_left_to_right_for_one_image_in_two() -> None:
    image = torch.rand(2, 3, 5)
    changed = outcomes(flip(image.repeat(2000, 1, 1, 1)), [image, moved_pixels(image, lambda r, c: (r, 4 - c))])
    assert_alike(changed, 2)


def moved_pixels(image: Tensor, source: Callable[[int, int], tuple[int, int]]) -> Tensor:
    """Build the image (C, H, W) with the pixel of ``image`` at ``source(row, column)`` at (row, column)."""
    result = torch.empty_like(image)
    for row, column in itertools.product(*map(range, image.shape[1:])):
        above, left = source(row, column)
        result[:, row, column] = image[:, above, left]
    return result


def test_rotate90_is_one_of_four_turns() -> None:
    image = torch.rand(2, 5, 5)
    turned = [image]
    for _ in range(3):
        turned.append(moved_pixels(turned[-1], lambda r, c: (4 - c, r)))
    changed = outcomes(rotate90(image.repeat(2000, 1, 1, 1)), turned)
    assert_alike(changed, 4)


def test_rotate90_turns_other_shapes_by_0_or_180_degrees() -> None:
    image = torch.rand(2, 3, 5)
    upside_down = moved_pixels(image, lambda r, c: (2 - r, 4 - c))
    changed = outcomes(rotate90(image.repeat(2000, 1, 1, 1)), [image, upside_down])
    assert_alike(changed, 2)


# Geometry


def drawn(
    monkeypatch: pytest.MonkeyPatch, angle: float = 0.0, normal: tuple[float, float, float, float] = (0, 0, 0, 0)
) -> None:
    """Make geometry draw this angle and these numbers for scale, stretch and shifts."""
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: torch.full(shape, angle / (2 * math.pi) + 0.5))
    monkeypatch.setattr(torch, "randn", lambda four, count, **_: torch.tensor(normal)[:, None].repeat(1, count))


def test_geometry_that_changes_nothing_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.randn(3, 2, 8, 6)
    drawn(monkeypatch)
    assert torch.allclose(geometry(images), images, atol=1e-5)  # usually within 1e-6


def test_geometry_by_a_right_angle_turns_the_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.randn(3, 2, 8, 8)
    drawn(monkeypatch, angle=math.pi / 2)
    changed = geometry(images)
    turns = [torch.allclose(changed, images.rot90(k, (2, 3)), atol=1e-4) for k in range(4)]
    assert turns in ([False, True, False, False], [False, False, False, True])


@pytest.mark.parametrize("by", [1, -2])
def test_geometry_shifts_by_an_eighth_of_the_size_and_mirrors_the_edge(monkeypatch: pytest.MonkeyPatch, by: int) -> None:
    """A normal number of 1 shifts by an eighth: 2 of 16 rows, 1 of 8 columns. Rows reappear mirrored."""
    images = torch.randn(3, 2, 16, 8)
    mirrored = torch.cat([images.flip(2), images, images.flip(2)], dim=2)
    drawn(monkeypatch, normal=(0, 0, 0, by))
    assert torch.allclose(geometry(images), mirrored[:, :, 16 + 2 * by : 32 + 2 * by], atol=1e-4)
    mirrored = torch.cat([images.flip(3), images, images.flip(3)], dim=3)
    drawn(monkeypatch, normal=(0, 0, by, 0))
    assert torch.allclose(geometry(images), mirrored[:, :, :, 8 + by : 16 + by], atol=1e-4)


def test_geometry_scales_and_stretches_about_the_centre(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ramp (u, v) of coordinates around the centre becomes (2 u, 2 v) or (2 u, v / 2), away from the edges."""
    rows = torch.arange(16) - 7.5
    images = torch.stack([rows[None, :].expand(16, 16), rows[:, None].expand(16, 16)])[None]  # across, down
    inside = images[:, :, 5:11, 5:11]
    for normal, factors in (((5, 0, 0, 0), (2.0, 2.0)), ((0, 5, 0, 0), (2.0, 0.5)), ((0, -5, 0, 0), (0.5, 2.0))):
        drawn(monkeypatch, normal=normal)
        changed = geometry(images)[:, :, 5:11, 5:11]
        assert torch.allclose(changed, inside * torch.tensor(factors)[:, None, None], atol=1e-4)


def test_geometry_turns_about_the_centre_by_any_angle(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a circle up to the edge, a round blob at the centre is unchanged to 0.004; one off the centre is not."""
    rows = torch.arange(32) - 15.5
    square = rows[:, None] ** 2 + rows**2
    blobs = torch.stack([torch.exp(-square / 72), torch.exp(-square.roll(8, 1) / 72)])[:, None]  # (2, 1, 32, 32)
    for angle in (0.3, 1.0, -2.5):
        drawn(monkeypatch, angle=angle)
        centred, shifted = ((geometry(blobs) - blobs) * (square < 15**2)).abs().amax(dim=(1, 2, 3))
        assert float(centred) < 0.02
        assert float(shifted) > 0.1


def test_geometry_has_the_distributions_of_ada(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decompose the matrices diag(w, t) R and the shift.

    w t is 4^s, w / t is 4^e, with s and e normal of deviation 0.2; the shifts are normal of an eighth of the size, 2 in these
    units. Over 4000 draws, deviations are within 1.2%.
    """
    matrices: list[Tensor] = []

    def recorded(count: int, device: torch.device, probability: float) -> Tensor:
        matrices.append(draw(count, device, probability))
        return matrices[-1]

    draw = augment._affine
    monkeypatch.setattr(augment, "_affine", recorded)
    geometry(torch.zeros(4000, 1, 4, 4))
    (matrix,) = matrices
    wide, tall = matrix[:, 0, :2].norm(dim=1), matrix[:, 1, :2].norm(dim=1)
    turn = matrix[:, :, :2] / torch.stack([wide, tall], dim=1)[:, :, None]
    assert torch.allclose(turn @ turn.mT, torch.eye(2).expand(4000, 2, 2), atol=1e-5)
    assert torch.allclose(turn.det(), torch.ones(4000), atol=1e-5)  # a turn, nothing mirrored
    scale, stretch = (wide * tall).log2() / 2, (wide / tall).log2() / 2
    numbers = torch.stack([scale / 0.2, stretch / 0.2, matrix[:, 0, 2] / 0.25, matrix[:, 1, 2] / 0.25])
    assert numbers.mean(dim=1).tolist() == pytest.approx([0] * 4, abs=0.08)
    assert numbers.std(dim=1).tolist() == pytest.approx([1] * 4, rel=0.06)
    assert float((torch.corrcoef(numbers) - torch.eye(4)).abs().max()) < 0.08
    angle = torch.atan2(turn[:, 1, 0], turn[:, 0, 0]) / math.pi  # uniform in [-1, 1)
    assert_alike(((angle + 1) * 4).long().clamp(0, 7), 8)


def test_geometry_interpolates_like_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    images, matrices = torch.randn(20, 2, 5, 7), torch.randn(20, 2, 3) * 2
    monkeypatch.setattr(augment, "_affine", lambda *_: matrices)
    grid = affine_grid(matrices, [20, 2, 5, 7], align_corners=False)
    theirs = grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    assert torch.allclose(geometry(images), theirs, atol=1e-4)  # usually within 1e-5


@pytest.mark.parametrize("autocast", [False, True])
def test_geometry_of_bfloat16_images_moves_them_as_far(autocast: bool) -> None:
    """Use waves of 8 pixels; rounding the result alone contributes 0.004."""
    waves = torch.sin(torch.arange(256) * (2 * math.pi / 8))
    images = (waves * waves[:, None]).expand(4, 1, 256, 256).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        changed = seeded(geometry)(images)
    assert float((changed.float() - seeded(geometry)(images.float())).abs().max()) < 0.01


# DiffAugment


def changed_share(augmentation: Augmentation, count: int = 2000) -> float:
    """Share of constant images that an augmentation with color changes."""
    images = torch.full((count, 1, 2, 2), 0.5)
    return float((augmentation(images) != images).flatten(1).any(dim=1).float().mean())


@pytest.mark.parametrize("probability", [0.2, 0.7, 1.0])
def test_a_transform_is_applied_with_its_probability(probability: float) -> None:
    """Over 2000 images the share is within 0.01 in two cases of three."""
    assert changed_share(DiffAugment(["color"], probability)) == pytest.approx(probability, abs=0.05 if probability < 1 else 0)


def test_the_strength_multiplies_the_probability() -> None:
    augmentation = DiffAugment(["color"], probability=0.8)
    augmentation.strength.fill_(0.5)
    assert changed_share(augmentation) == pytest.approx(0.4, abs=0.05)  # usually within 0.011
    images = torch.randn(100, 3, 8, 8)
    everything = DiffAugment(ALL)
    everything.strength.fill_(0.0)
    assert torch.equal(everything(images), images)


def test_transforms_are_drawn_independently() -> None:
    """Flip changes 1/2 of half the images. Independently, brightness or contrast change 3/4 of all."""
    image = torch.tensor([[[-0.5, 0.5]]])
    changed = DiffAugment(["flip", "color"], probability=0.5)(image.repeat(4000, 1, 1, 1))
    flipped = changed[:, 0, 0, 0] > changed[:, 0, 0, 1]  # color with a contrast above 0 keeps it
    coloured = (changed.sort(dim=3).values != image).flatten(1).any(dim=1)
    table = shares(flipped.long() * 2 + coloured.long(), 4)
    assert table == pytest.approx([3 / 16, 9 / 16, 1 / 16, 3 / 16], abs=0.04)  # usually within 0.008


def test_parts_of_geometry_are_drawn_independently() -> None:
    """With probability 0.3: all sixteen combinations of scale, rotation, stretch and shift have their shares."""
    matrices = augment._affine(8000, torch.device("cpu"), 0.3)
    linear, shift = matrices[:, :, :2], matrices[:, :, 2]
    wide, tall = linear[:, 0].norm(dim=1), linear[:, 1].norm(dim=1)
    scaled, rotated = (wide * tall).log2().abs() > 1e-4, (linear[:, 0, 1] / wide).abs() > 1e-4
    stretched, shifted = (wide / tall).log2().abs() > 1e-4, shift.abs().amax(dim=1) > 0
    combined = scaled.long() + 2 * rotated.long() + 4 * stretched.long() + 8 * shifted.long()
    expected = [0.3 ** number.bit_count() * 0.7 ** (4 - number.bit_count()) for number in range(16)]
    assert shares(combined, 16) == pytest.approx(expected, abs=0.02)  # of the largest, 0.24, usually within 0.005


@pytest.mark.parametrize(("transform", "parts"), [(color, 3), (geometry, 4), (cutout, 1), (rotate90, 1)])
def test_untransformed_images_are_bitwise_unchanged(transform: Function, parts: int) -> None:
    images = torch.randn(3000, 3, 4, 4)
    changed = TRANSFORMS[transform.__name__](images, 0.4)  # type: ignore[index]
    stayed = float((changed == images).flatten(1).all(dim=1).float().mean())
    by_0_degrees = 0.4 / 4 if transform is rotate90 else 0.0
    assert stayed == pytest.approx(0.6**parts + by_0_degrees, abs=0.05)  # usually within 0.009


def test_transforms_are_applied_in_order() -> None:
    """With cutout first, the hole moves with the image; with color last, it is no longer zero."""
    images = torch.rand(50, 3, 8, 8) + 1
    for names in (["cutout", "translation", "color"], ["color", "cutout", "translation"], ["cutout", "color", "cutout"]):
        torch.manual_seed(1)
        together = DiffAugment(names)(images)  # type: ignore[arg-type]
        torch.manual_seed(1)
        by_hand = images
        for name in names:
            by_hand = TRANSFORMS[name](by_hand, 1.0)  # type: ignore[index]
        assert torch.equal(together, by_hand)


def test_the_default_is_the_papers_policy() -> None:
    assert DiffAugment().transforms == ["color", "translation", "cutout"]
    assert DiffAugment().probability == 1.0


# AdaptiveAugment


def sure(share: float, count: int = 8) -> Tensor:
    """Make logits with this share of positive values; the others are negative."""
    return torch.where(torch.arange(count) < round(share * count), 3.0, -0.1)


def test_the_probability_starts_at_zero() -> None:
    images = torch.randn(20, 3, 8, 8)
    assert torch.equal(AdaptiveAugment(ALL)(images), images)


def test_the_probability_rises_while_the_discriminator_is_sure() -> None:
    """It rises by every * batch / images once in ``every`` updates, so it is 1 after that many images."""
    augmentation = AdaptiveAugment(images=160, every=4)
    seen = []
    for _ in range(24):
        augmentation.observe(sure(1.0))
        seen.append(float(augmentation.probability))
    steps = [0.2 * ((update + 1) // 4) for update in range(24)]
    assert seen == pytest.approx([min(step, 1.0) for step in steps], abs=1e-6)
    assert seen[-1] == 1.0


def test_the_probability_falls_to_zero_while_the_discriminator_is_unsure() -> None:
    augmentation = AdaptiveAugment(images=160, every=2)
    augmentation.probability.fill_(0.25)
    seen = []
    for _ in range(8):
        augmentation.observe(sure(0.0))
        seen.append(float(augmentation.probability))
    assert seen == pytest.approx([0.25, 0.15, 0.15, 0.05, 0.05, 0, 0, 0], abs=1e-6)
    assert seen[-1] == 0.0


@pytest.mark.parametrize(
    ("share", "target", "direction"),
    [(0.75, 0.6, -1), (0.875, 0.6, 1), (0.875, 0.8, -1), (0.625, 0.2, 1), (0.75, 0.5, 0)],
)
def test_the_target_is_the_mean_sign(share: float, target: float, direction: int) -> None:
    """A share of positive logits of 3/4 gives a mean sign of 1/2. The size of the logits does not matter."""
    augmentation = AdaptiveAugment(target=target, images=100, every=1)
    augmentation.probability.fill_(0.5)
    augmentation.observe(sure(share))
    assert float(augmentation.probability) == pytest.approx(0.5 + direction * 0.08, abs=1e-6)


@pytest.mark.parametrize("shape", [(8,), (8, 1), (2, 4), (2, 2, 2)])
def test_all_logits_of_an_image_count_and_the_speed_is_in_images(shape: tuple[int, ...]) -> None:
    """Three quarters of the logits are positive, so the mean sign is 1/2: above 0.4 and below 0.6."""
    for target, direction in ((0.4, 1), (0.6, -1)):
        augmentation = AdaptiveAugment(target=target, images=100, every=1)
        augmentation.probability.fill_(0.5)
        augmentation.observe(sure(0.75).view(shape))
        assert float(augmentation.probability) == pytest.approx(0.5 + direction * shape[0] / 100, abs=1e-6)


def test_only_signs_since_the_last_adaptation_count() -> None:
    augmentation = AdaptiveAugment(target=0.4, images=160, every=2)
    for share, probability in ((1.0, 0), (0.5, 0.1), (0.5, 0.1), (0.625, 0.0), (1.0, 0.0), (1.0, 0.1)):  # means 1/2, 1/8, 1
        augmentation.observe(sure(share))
        assert float(augmentation.probability) == pytest.approx(probability, abs=1e-6)


def test_the_probability_applies_to_each_transform() -> None:
    augmentation = AdaptiveAugment(["color"])
    augmentation.probability.fill_(0.3)
    assert changed_share(augmentation) == pytest.approx(0.3, abs=0.05)  # usually within 0.01
    augmentation.strength.fill_(0.5)
    assert changed_share(augmentation) == pytest.approx(0.15, abs=0.04)


def test_a_small_probability_works_with_bfloat16_images() -> None:
    augmentation = AdaptiveAugment(["color"])
    augmentation.probability.fill_(1e-4)
    images = torch.full((100_000, 1, 1, 1), 0.5).bfloat16()
    assert float((augmentation(images) != images).float().mean()) < 3e-4  # usually 10 images, within 4


def test_the_adapted_values_are_saved() -> None:
    """Also in the middle of an interval."""
    one, other = AdaptiveAugment(images=160, every=2), AdaptiveAugment(images=160, every=2)
    for _ in range(3):
        one.observe(sure(1.0))
    other.load_state_dict(one.state_dict())
    assert float(other.probability) == pytest.approx(0.1, abs=1e-6)
    for augmentation in (one, other):
        augmentation.observe(sure(1.0))
        assert float(augmentation.probability) == pytest.approx(0.2, abs=1e-6)
    assert same_state(one, other)


# Through the adversarial step


class Double(Augmentation):
    """Doubles images; keeps its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[Tensor] = []
        self.observed: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.given.append(images.detach().clone())
        return images * 2

    def observe(self, real_logits: Tensor) -> None:
        self.observed.append(real_logits)


class Shown(MLPDiscriminator):
    """Keeps its inputs; takes one kind of images at a time."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.samples_are_independent = False
        self.shown: list[Tensor] = []

    def features(self, images: Tensor) -> Tensor:
        self.shown.append(images.detach().clone())
        return super().features(images)


@pytest.mark.parametrize("loss", [NonSaturatingLoss(), RelativisticPairingLoss()], ids=lambda loss: type(loss).__name__)
def test_all_that_the_discriminator_sees_is_augmented(loss: AdversarialLoss) -> None:
    double, batches = Double(), Batches()
    model = small_gan(loss, augmentation=double)
    model.discriminator = shown = Shown((1, 8, 8), hidden=[8])
    fit(model, Digits(batch_size=16), callbacks=[batches], max_steps=1)
    count = (
        4 if loss.generator_sees_real else 3
    )  # the discriminator's step: real, generated; the generator's: (real,) generated
    assert len(shown.shown) == len(double.given) == count
    for given, got in zip(double.given, shown.shown, strict=True):
        assert torch.equal(got, given * 2)
    real = batches.seen[0][0].split(16)
    assert torch.equal(double.given[0], real[0])
    if loss.generator_sees_real:
        assert torch.equal(double.given[2], real[1])
    for generated in (double.given[1], double.given[-1]):
        assert not any(torch.equal(generated, images) for images in real)


def test_real_and_generated_images_are_augmented_in_a_shared_pass() -> None:
    double = Double()
    fit(small_gan(augmentation=double), Digits(batch_size=16), max_steps=1)
    assert [len(images) for images in double.given] == [32, 16]


def test_the_generators_gradient_passes_through_the_augmentation() -> None:
    class Nothing(Double):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images).detach() * 0 + 0 * images

    for augmentation, moves in ((Double(), True), (Nothing(), False)):
        model = small_gan(augmentation=augmentation)
        before = [p.clone() for p in model.generator.parameters()]
        fit(model, max_steps=1)
        after = list(model.generator.parameters())
        assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True)) == moves


def test_it_observes_the_logits_of_augmented_real_images() -> None:
    double = Double()
    model = small_gan(augmentation=double, discriminator_steps=3)
    d = model.discriminator
    model.discriminator_optimizer = lambda parameters: torch.optim.SGD(parameters, lr=0.0)  # to compare them later
    fit(model, Digits(batch_size=16), max_steps=2)
    assert [logits.shape for logits in double.observed] == [(16,)] * 6
    assert not any(logits.requires_grad for logits in double.observed)
    of_discriminator = [images for images in double.given if len(images) == 32]
    for given, observed in zip(of_discriminator, double.observed, strict=True):
        assert torch.allclose(observed, d(given[:16] * 2).detach(), atol=1e-6)


def test_r1_is_of_the_images_before_augmentation() -> None:
    """A linear discriminator D(2x) = 2 w.x has gamma / 2 |2 w|^2."""
    model = small_gan(augmentation=Double(), penalty=R1(3.0))
    model.discriminator = MLPDiscriminator((1, 8, 8), hidden=[8], negative_slope=1.0)
    x = torch.zeros(1, 1, 8, 8, requires_grad=True)
    (slope,) = torch.autograd.grad(model.discriminator(x).sum(), x)
    fit(model, callbacks=[outputs := Outputs()], max_steps=1)
    by_hand = 1.5 * sum((2 * w) ** 2 for w in slope.flatten().tolist())
    assert [output["penalty"] for output in outputs.seen] == pytest.approx([by_hand], rel=1e-5)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_all_transforms_train_with_r1(precision: str) -> None:
    model = small_gan(image_shape=(1, 8, 8), augmentation=DiffAugment(ALL), penalty=R1())
    before = [p.clone() for p in model.parameters()]
    fit(model, max_steps=3, precision=precision)
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert all(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_adaptive_augmentation_adapts_and_is_resumed(tmp_path: Path) -> None:
    """A bias makes the discriminator sure of all real images: the probability rises by 2 * 64 / 1280 at every second update."""

    def model() -> Any:
        gan = small_gan(augmentation=AdaptiveAugment(images=1280, every=2), discriminator_steps=3)
        torch.nn.init.constant_(list(gan.discriminator.parameters())[-1], 100.0)
        return gan

    first = model()
    fit(first, max_steps=3).save_checkpoint(tmp_path / "a.ckpt", weights_only=False)
    assert float(first.augmentation.probability) == pytest.approx(0.4, abs=1e-6)  # 9 updates
    state = checkpoint.load_gan(tmp_path / "a.ckpt")["state_dict"]
    assert float(state["augmentation.probability"]) == pytest.approx(0.4, abs=1e-6)
    second = model()
    fit(second, ckpt_path=tmp_path / "a.ckpt", max_steps=4)
    assert float(second.augmentation.probability) == pytest.approx(0.6, abs=1e-6)  # 12 updates
    with refuses("state", "augmentation.probability"):
        fit(small_gan(discriminator_steps=3), ckpt_path=tmp_path / "a.ckpt", max_steps=4)


# Arguments out of range


@pytest.mark.parametrize("kind", [DiffAugment, AdaptiveAugment])
def test_unknown_transforms_are_refused(kind: Callable[[list[Any]], Augmentation]) -> None:
    with refuses("transforms is empty", "color, translation, cutout"):
        kind([])
    with refuses("transforms has blur, zoom", "color, translation, cutout"):
        kind(["flip", "zoom", "blur"])


@pytest.mark.parametrize("probability", [0.0, -0.1, 1.1, float("nan")])
def test_a_probability_out_of_range(probability: float) -> None:
    with refuses(f"probability is {probability}"):
        DiffAugment(probability=probability)


@pytest.mark.parametrize("target", [0.0, 1.0, -0.5, float("nan")])
def test_a_target_out_of_range(target: float) -> None:
    with refuses(f"target is {target}"):
        AdaptiveAugment(target=target)


@pytest.mark.parametrize(("images", "every"), [(0, 4), (-1, 4), (1000, 0)])
def test_numbers_of_adaptation_out_of_range(images: int, every: int) -> None:
    with refuses(f"images is {images}", f"every is {every}"):
        AdaptiveAugment(images=images, every=every)
