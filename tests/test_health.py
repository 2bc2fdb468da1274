"""What is read off images and logits, against closed forms, and both sides of each bound."""

import pytest
import torch

from gan_lightning.health import SYMPTOMS, Symptom, overfitting, saturation, separation, spread
from gan_lightning.images import to_float


def test_the_spread_is_the_distance_from_the_mean() -> None:
    images = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1).expand(2, 3, 4, 4)  # every value is 1 from its mean, of 48
    assert spread(images) == pytest.approx(48**0.5)
    assert spread(images + 7) == pytest.approx(48**0.5)
    assert spread(images[:1].expand(5, -1, -1, -1)) == 0.0


def test_the_spread_is_that_of_a_normal_distribution() -> None:
    values = 2 * torch.randn(4000, 9)
    assert spread(values) == pytest.approx(6.0, rel=0.02)  # 0.004 off with this seed


def test_the_spread_within_groups_leaves_out_what_lies_between_them() -> None:
    centres = torch.tensor([[0.0, 0.0], [100.0, 0.0]]).repeat_interleave(2, 0)
    values = centres + torch.tensor([[1.0, 0.0], [-1.0, 0.0]]).repeat(2, 1)
    groups = torch.tensor([7, 7, 3, 3])
    assert spread(values, groups) == pytest.approx(1.0)
    assert spread(values) == pytest.approx((50**2 + 1) ** 0.5)
    assert spread(centres, groups) == 0.0


def test_overfitting_is_where_held_out_images_lie_between_the_others() -> None:
    train, fake = torch.tensor([3.0, 5.0]), torch.tensor([-1.0, 1.0, 0.0])
    for held_out, expected in ((4.0, 0.0), (0.0, 1.0), (2.0, 0.5), (-2.0, 1.5), (100.0, -1.0)):
        assert overfitting(train, torch.full((5,), held_out), fake) == pytest.approx(expected)
    assert overfitting(fake, fake, train) == 0.0  # which does not tell them apart
    assert overfitting(10 * train, torch.full((5,), 20.0), 10 * fake) == pytest.approx(0.5)


def test_separation_counts_standard_deviations_on_any_scale() -> None:
    real, fake = torch.randn(5000) + 3, torch.randn(5000)
    assert separation(real, fake) == pytest.approx(3.0, rel=0.03)  # 0.01 off with this seed
    assert separation(1e4 * real, 1e4 * fake) == pytest.approx(separation(real, fake))
    assert separation(fake, real) == pytest.approx(-separation(real, fake))


def test_saturation_is_the_share_of_black_and_white() -> None:
    levels = torch.tensor([[0, 255, 255, 0], [1, 254, 128, 127]], dtype=torch.uint8)
    assert saturation(to_float(levels)) == 0.5
    assert saturation(torch.full((3, 3), 1.7)) == 1.0


HEALTHY = {
    "pixel_diversity": 0.95,
    "feature_diversity": 0.8,
    "classes": 1.0,
    "overfitting": 0.1,
    "separation": 2.0,
    "saturation": 0.02,
    "generator_gradient_norm": 0.1,
}


@pytest.mark.parametrize("symptom", SYMPTOMS, ids=lambda symptom: symptom.name)
def test_nothing_is_wrong_with_healthy_values(symptom: Symptom) -> None:
    assert not symptom.is_there(HEALTHY)
    assert not symptom.is_there({})  # nothing was measured


@pytest.mark.parametrize(
    ("name", "value", "well", "ill"),
    [
        ("mode collapse", "pixel_diversity", 0.21, 0.19),
        ("mode collapse", "feature_diversity", 0.21, 0.19),
        ("mode collapse", "classes", 0.4, 0.3),
        ("overfitting of the discriminator", "overfitting", 0.79, 0.81),
        ("too strong discriminator", "separation", 19.0, 21.0),
        ("saturation", "saturation", 0.49, 0.51),
        ("vanished gradient", "generator_gradient_norm", 2e-6, 5e-7),
    ],
)
def test_a_bound_from_both_sides(name: str, value: str, well: float, ill: float) -> None:
    symptoms = {symptom.name: symptom for symptom in SYMPTOMS}
    assert not symptoms[name].is_there(HEALTHY | {value: well})
    values = HEALTHY | {value: ill}
    assert [found for found, symptom in symptoms.items() if symptom.is_there(values)] == [name]
    text = symptoms[name].text(values)
    assert "\n" not in text
    assert any(shown in text for shown in (f"{ill:.0%}", f"{ill:.2f}", f"{ill:.0f}", f"{ill:.1e}"))
