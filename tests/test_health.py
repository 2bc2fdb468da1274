"""Measures of images and logits against closed forms, and both sides of each bound."""

import inspect
import re
from collections.abc import Callable

import pytest
import torch

from gan_lightning.augment import DiffAugment
from gan_lightning.health import (
    AUGMENTATION,
    BATCH_NORM,
    NON_SATURATING,
    PENALTY,
    SYMPTOMS,
    SYMPTOMS_OF_TRANSLATION,
    Symptom,
    coarse,
    gradient_ratio,
    overfitting,
    saturation,
    separation,
    spread,
)
from gan_lightning.images import to_float
from gan_lightning.losses import MinimaxLoss
from gan_lightning.module import AdversarialModule
from gan_lightning.regularizers import R1
from tests.helpers import small_gan
from tests.translators import small_cycle, small_translation


def test_the_spread_is_the_distance_from_the_mean() -> None:
    images = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1).expand(2, 3, 4, 4)  # each of 48 values has distance 1 from the mean
    assert spread(images) == pytest.approx(48**0.5)
    assert spread(images + 7) == pytest.approx(48**0.5)
    assert spread(images[:1].expand(5, -1, -1, -1)) == 0.0


def test_the_spread_is_that_of_a_normal_distribution() -> None:
    values = 2 * torch.randn(4000, 9)
    assert spread(values) == pytest.approx(6.0, rel=0.02)  # 0.004 off with this seed


def test_the_spread_within_groups_ignores_distances_between_them() -> None:
    centres = torch.tensor([[0.0, 0.0], [100.0, 0.0]]).repeat_interleave(2, 0)
    values = centres + torch.tensor([[1.0, 0.0], [-1.0, 0.0]]).repeat(2, 1)
    groups = torch.tensor([7, 7, 3, 3])
    assert spread(values, groups) == pytest.approx(1.0)
    assert spread(values) == pytest.approx((50**2 + 1) ** 0.5)
    assert spread(centres, groups) == 0.0


def test_the_spread_of_long_vectors_is_computed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    values, groups = torch.randn(6, 3, 5, 7, dtype=torch.float64), torch.tensor([0, 1, 1, 0, 2, 2])
    whole, within = spread(values), spread(values, groups)
    monkeypatch.setattr("gan_lightning.health.DIMENSIONS", 8)
    assert spread(values) == pytest.approx(whole.item(), rel=1e-12)
    assert spread(values, groups) == pytest.approx(within.item(), rel=1e-12)


def test_overfitting_is_the_position_of_held_out_images() -> None:
    train, fake = torch.tensor([3.0, 5.0]), torch.tensor([-1.0, 1.0, 0.0])
    for held_out, expected in ((4.0, 0.0), (0.0, 1.0), (2.0, 0.5), (-2.0, 1.5), (100.0, -1.0)):
        assert overfitting(train, torch.full((5,), held_out), fake) == pytest.approx(expected)
    assert overfitting(fake, fake, train) == 0.0  # the discriminator cannot tell them apart
    assert overfitting(10 * train, torch.full((5,), 20.0), 10 * fake) == pytest.approx(0.5)


def test_overfitting_needs_a_discriminator_that_tells_images_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = [torch.randn(3, 100, generator=generator, dtype=torch.float64) for _ in range(300)]
    same = [overfitting(train, held_out, fake) for train, held_out, fake in noise]
    assert sum(value > 0.9 for value in same) <= 3  # by chance the gap is beyond three standard errors in 0.1 % of the draws
    apart = [overfitting(train + 1, held_out, fake) for train, held_out, fake in noise]
    assert sum(value > 0.5 for value in apart) >= 285  # held-out images lie where the generated ones do


def test_separation_counts_standard_deviations_on_any_scale() -> None:
    real, fake = torch.randn(5000) + 3, torch.randn(5000)
    assert separation(real, fake) == pytest.approx(3.0, rel=0.03)  # 0.01 off with this seed
    assert separation(1e4 * real, 1e4 * fake) == pytest.approx(separation(real, fake))
    assert separation(fake, real) == pytest.approx(-separation(real, fake))


def test_saturation_is_the_share_of_lost_grey() -> None:
    levels = to_float(torch.tensor([[0, 255, 255, 0], [1, 254, 128, 127]], dtype=torch.uint8))  # half is grey
    assert saturation(levels, levels) == 0.0
    assert saturation(torch.full((3, 3), 1.7), levels) == 1.0
    assert saturation(torch.tensor([1.0, -1.0, 0.9, 1.1]), levels) == 0.5  # a quarter is grey
    assert saturation(torch.zeros(4), levels) == 0.0  # all is
    assert saturation(torch.zeros(4), torch.ones(4)) == 0.0  # black and white drawings have no grey


def test_the_ratio_of_gradients() -> None:
    gradients = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    assert gradient_ratio(gradients, torch.ones(2, 2)) == pytest.approx(2.5)
    assert gradient_ratio(torch.zeros(2, 2), gradients) == 0.0
    assert gradient_ratio(gradients, torch.zeros(2, 2)).isnan()


def test_copies_are_compared_at_sixteen_pixels() -> None:
    small, large = torch.rand(3, 1, 8, 8), torch.rand(3, 3, 64, 32)
    assert torch.equal(coarse(small), small.flatten(1))
    assert coarse(large).shape == (3, 3 * 16 * 16)
    assert torch.allclose(coarse(large)[:, 0], large[:, 0, :4, :2].mean((1, 2)))
    assert torch.equal(coarse(large.repeat(50, 1, 1, 1)), coarse(large).repeat(50, 1))


HEALTHY = {
    "pixel_diversity": 0.95,
    "feature_diversity": 0.8,
    "classes": 1.0,
    "overfitting": 0.1,
    "nearest_training": 0.9,
    "separation": 2.0,
    "real_logits": 1.0,
    "fake_logits": -1.0,
    "saturation": 0.02,
    "generator_gradient_norm": 0.1,
    "source_diversity": 0.9,
    "adversarial_share": 0.2,
}
ALL_SYMPTOMS = list(dict.fromkeys([*SYMPTOMS, *SYMPTOMS_OF_TRANSLATION]))


@pytest.mark.parametrize("symptom", ALL_SYMPTOMS, ids=lambda symptom: symptom.name)
def test_healthy_values_have_no_symptom(symptom: Symptom) -> None:
    assert not symptom.is_present(HEALTHY)
    assert not symptom.is_present({})  # nothing was measured


@pytest.mark.parametrize(
    ("name", "value", "well", "ill"),
    [
        ("mode collapse", "pixel_diversity", 0.21, 0.19),
        ("mode collapse", "classes", 0.4, 0.3),
        ("overfitting of the discriminator", "overfitting", 0.89, 0.91),
        ("memorising", "nearest_training", 0.51, 0.49),
        ("saturation", "saturation", 0.79, 0.81),
        ("vanished gradient", "generator_gradient_norm", 2e-6, 5e-7),
        ("ignored source", "source_diversity", 0.11, 0.09),
        ("ignored discriminator", "adversarial_share", 0.011, 0.009),
    ],
)
def test_a_bound_from_both_sides(name: str, value: str, well: float, ill: float) -> None:
    symptoms = {symptom.name: symptom for symptom in ALL_SYMPTOMS}
    assert not symptoms[name].is_present(HEALTHY | {value: well})
    values = HEALTHY | {value: ill}
    assert [found for found, symptom in symptoms.items() if symptom.is_present(values)] == [name]
    text = symptoms[name].text(values)
    assert "\n" not in text
    assert any(shown in text for shown in (f"{ill:.0%}", f"{ill:.1%}", f"{ill:.2f}", f"{ill:.0f}", f"{ill:.1e}"))


@pytest.mark.parametrize(("real", "separation", "ill"), [(28.0, 5.0, False), (32.0, 3.9, False), (32.0, 4.1, True)])
def test_certainty_needs_separated_logits(real: float, separation: float, ill: bool) -> None:
    values = HEALTHY | {"real_logits": real, "separation": separation}  # a critic's logits are as large as its images
    assert [symptom.name for symptom in SYMPTOMS if symptom.is_present(values)] == ["too strong discriminator"] * ill


@pytest.mark.parametrize(("pixels", "features", "ill"), [(0.51, 0.01, False), (0.49, 0.21, False), (0.49, 0.19, True)])
def test_low_feature_diversity_alone_is_no_collapse(pixels: float, features: float, ill: bool) -> None:
    values = HEALTHY | {"pixel_diversity": pixels, "feature_diversity": features}
    assert [symptom.name for symptom in SYMPTOMS if symptom.is_present(values)] == ["mode collapse"] * ill


def test_a_grey_image_is_no_copy() -> None:
    values = HEALTHY | {"nearest_training": 0.2, "pixel_diversity": 0.3}
    assert not any(symptom.is_present(values) for symptom in SYMPTOMS)


def test_remedies_already_taken_are_not_suggested() -> None:
    bare = small_gan()
    full = small_gan(penalty=R1(), augmentation=DiffAugment())
    for symptom in SYMPTOMS:
        assert any(not remedy.is_taken(full) for remedy in symptom.remedies), symptom.name
    assert not PENALTY.is_taken(bare)
    assert PENALTY.is_taken(full)
    assert not AUGMENTATION.is_taken(bare)
    assert AUGMENTATION.is_taken(full)
    assert NON_SATURATING.is_taken(bare)
    assert not NON_SATURATING.is_taken(small_gan(MinimaxLoss()))
    assert BATCH_NORM.is_taken(bare) == any(isinstance(m, torch.nn.BatchNorm1d) for m in bare.generator.modules())


@pytest.mark.parametrize("make", [small_translation, small_cycle])
def test_remedies_fit_the_method(make: Callable[..., AdversarialModule]) -> None:
    model = make()
    for symptom in SYMPTOMS_OF_TRANSLATION:
        texts = [remedy.text for remedy in symptom.remedies if not remedy.is_taken(model)]
        assert texts, symptom.name
        for setting in re.findall(r"--model\.(\w+)", " ".join(texts)):
            assert setting in inspect.signature(type(model)).parameters
