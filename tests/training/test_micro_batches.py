"""Micro-batches add up to the whole batch; clipped gradients."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gan_lightning.augment import TRANSFORMS, AdaptiveAugment, DiffAugment
from gan_lightning.commands.verbs import Verb
from gan_lightning.errors import InputError
from gan_lightning.gan import GAN
from gan_lightning.losses import (
    AdversarialLoss,
    HingeLoss,
    NonSaturatingLoss,
    RelativisticAverageLoss,
    RelativisticPairingLoss,
    WassersteinLoss,
)
from gan_lightning.networks import DCGANDiscriminator, DCGANGenerator, R3GANDiscriminator, R3GANGenerator
from gan_lightning.networks.layers import dropout
from gan_lightning.regularizers import DRAGAN, R1, R2, WGANGP, LeCam, Penalty
from gan_lightning.training.randomness import draw, micro_batches
from tests.helpers import TensorData, error_line, fit, refusal, small_gan

SHAPE = (3, 16, 16)
CPU = torch.device("cpu")
COUNT = 10
CASES: dict[str, dict[str, Any]] = {
    "R3GAN: pairs, R1 and R2, DiffAugment": {"penalty": lambda: [R1(0.5), R2(0.5)], "augmentation": DiffAugment},
    "reused fakes, lazy R1, ADA": {
        "loss": NonSaturatingLoss,
        "penalty": lambda: [R1(0.5, every=2)],
        "augmentation": lambda: AdaptiveAugment(list(TRANSFORMS), images=50, every=1, target=0.1),
        "reuse_fakes": True,
    },
    "WGAN-GP, two updates of D": {"loss": WassersteinLoss, "penalty": lambda: [WGANGP()], "discriminator_steps": 2},
    "labels, an auxiliary classifier": {"conditional": "classifier"},
    "labels, projected, hinge": {"conditional": "projection", "loss": HingeLoss},
}


def make_gan(
    micro_batch: int | None,
    loss: Callable[[], AdversarialLoss] = RelativisticPairingLoss,
    penalty: Callable[[], list[Penalty]] | None = None,
    augmentation: Any = None,
    conditional: Any = None,
    **arguments: Any,
) -> GAN:
    torch.manual_seed(0)
    small: dict[str, Any] = {"num_classes": 3, "widths": [8, 8, 8], "blocks": 1, "group_width": 4}
    generator = R3GANGenerator(SHAPE, latent_dim=4, conditioning="concatenation" if conditional else None, **small)
    discriminator = R3GANDiscriminator(SHAPE, conditioning=conditional, **small)
    for network in (generator, discriminator):
        for parameter in network.parameters():  # blocks begin as the identity: let all of them count
            nn.init.normal_(parameter, std=0.3)
    return GAN(
        generator,
        discriminator,
        loss(),
        lambda parameters: torch.optim.SGD(parameters, lr=0.01),
        lambda parameters: torch.optim.SGD(parameters, lr=0.01),
        penalty=None if penalty is None else penalty(),
        augmentation=None if augmentation is None else augmentation(),
        ema_halflife=50.0,
        micro_batch=micro_batch,
        **arguments,
    ).double()


class InDouble(TensorData):
    """Images in float64."""

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        images, labels = super().on_after_batch_transfer(batch, dataloader_idx)
        return images.double(), labels


def trained(micro_batch: int | None, **case: Any) -> tuple[GAN, dict[str, Tensor]]:
    model = make_gan(micro_batch, **case)
    random = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (80, *SHAPE), dtype=torch.uint8, generator=random)
    fit(model, InDouble(images, torch.arange(80) % 3, batch_size=COUNT), max_steps=3, precision="64-true")
    gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    return model, gradients


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("name", list(CASES))
def test_micro_batches_add_up_to_the_whole_batch(name: str, size: int) -> None:
    """Weights, averages, adapted values and the last gradients after three steps; 3 leaves a smaller last part."""
    whole, gradients = trained(None, **CASES[name])
    parts, others = trained(size, **CASES[name])
    for key, value in whole.state_dict().items():
        assert torch.allclose(value, parts.state_dict()[key], rtol=1e-9, atol=1e-12), key
    assert gradients.keys() == others.keys()
    for key, gradient in gradients.items():
        assert torch.allclose(gradient, others[key], rtol=1e-8, atol=1e-12), key
        assert gradient.dim() < 2 or gradient.abs().max() > 0, key


def test_the_parts_draw_the_numbers_of_the_whole_batch() -> None:
    """Also where a draw counts images twice, or in its second dimension; what follows goes on as after the whole batch."""

    def numbers(count: int) -> list[Tensor]:
        return [draw(torch.rand, count, 2), draw(torch.randn, 4, count, dim=1), draw(torch.rand, 2 * count, 1)]

    torch.manual_seed(0)
    whole, after = numbers(7), torch.rand(1)
    torch.manual_seed(0)
    parts, shares = [], []
    for chosen, share in micro_batches(7, 3, CPU):
        parts.append(numbers(chosen.stop - chosen.start))
        shares.append(share)
    assert torch.equal(after, torch.rand(1))
    assert shares == [3 / 7, 3 / 7, 1 / 7]
    assert torch.equal(torch.cat([part[0] for part in parts]), whole[0])
    assert torch.equal(torch.cat([part[1] for part in parts], dim=1), whole[1])
    twice = [part[2].chunk(2) for part in parts]
    assert torch.equal(torch.cat([torch.cat([part[half] for part in twice]) for half in range(2)]), whole[2])


def test_dropout_drops_what_the_whole_batch_would_drop() -> None:
    """In whole batches it is torch's, bit for bit."""
    model = nn.Sequential(dropout(0.3), nn.Conv2d(1, 4, 3), dropout(0.5))
    images = torch.randn(7, 1, 8, 8)
    torch.manual_seed(0)
    whole = model(images)
    torch.manual_seed(0)
    assert torch.allclose(torch.cat([model(images[chosen]) for chosen, _ in micro_batches(7, 3, CPU)]), whole)
    torch.manual_seed(0)
    assert torch.equal(nn.Sequential(nn.Dropout(0.3), model[1], nn.Dropout(0.5))(images), whole)
    assert torch.equal(model.eval()(images), model[1](images))


def test_one_part_is_the_whole_batch_bit_for_bit() -> None:
    assert [(chosen, share) for chosen, share in micro_batches(7, 7, CPU)] == [(slice(0, 7), 1.0)]
    whole, parts = (trained(size, **CASES["reused fakes, lazy R1, ADA"])[0] for size in (None, COUNT))
    assert all(torch.equal(value, parts.state_dict()[name]) for name, value in whole.state_dict().items())


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"micro_batch": 0}, "0"),
        ({"micro_batch": 2, "loss": RelativisticAverageLoss()}, "RelativisticAverageLoss"),
        ({"micro_batch": 2, "penalty": DRAGAN()}, "DRAGAN"),
        ({"micro_batch": 2, "penalty": [R1(), LeCam()]}, "LeCam"),
        ({"gradient_clip": 0.0}, "0.0"),
        ({"gradient_clip": float("nan")}, "nan"),
    ],
)
def test_what_cannot_be_split_is_refused(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        small_gan(**arguments)


def test_the_command(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    small = ["--config", "digits", "--max_steps", "2", "--metrics.extractor", "none", "--accelerator", "cpu"]
    small += ["--enable_progress_bar", "false", "--data.batch_size", "8", "--model.generator.batch_norm", "true"]
    with caplog.at_level("INFO"):
        assert Verb.train.main([*small, "--model.micro_batch", "4", "--model.gradient_clip", "1"]) == 0
    assert "micro-batches of 4" in caplog.text  # batch norm in G
    refusal(Verb.train.main, [*small, "--model.micro_batch", "9"], capsys, "model.micro_batch is 9", "8 images")
    assert Verb.train.main([*small, "--model.micro_batch", "7"]) == 2  # a part has one image
    error_line(capsys.readouterr().err, "--model.micro_batch 7")


@pytest.mark.parametrize("limit", [1e-3, 1e3])
def test_the_gradient_of_each_network_is_clipped(limit: float) -> None:
    """Plain gradient descent with rate 1 moves each network by its clipped gradient; a large limit changes nothing."""

    def moved(gradient_clip: float | None) -> list[Tensor]:
        torch.manual_seed(0)
        model = GAN(
            DCGANGenerator((1, 8, 8), width=4),
            DCGANDiscriminator((1, 8, 8), width=4),
            HingeLoss(),
            lambda parameters: torch.optim.SGD(parameters, lr=1.0),
            lambda parameters: torch.optim.SGD(parameters, lr=1.0),
            gradient_clip=gradient_clip,
        )
        networks = (model.generator, model.discriminator)
        before = [nn.utils.parameters_to_vector(network.parameters()).clone() for network in networks]
        fit(model, max_steps=1)
        return [nn.utils.parameters_to_vector(n.parameters()) - then for n, then in zip(networks, before, strict=True)]

    for clipped, free in zip(moved(limit), moved(None), strict=True):
        if limit < 1:
            assert float(clipped.detach().norm()) == pytest.approx(limit, rel=1e-3)
        else:
            assert torch.equal(clipped, free)


@pytest.mark.parametrize("fused", [None, True])
@pytest.mark.parametrize("gradient_clip", [None, 1.0])
def test_gradients_are_divided_by_the_scale_of_fp16_before_they_are_clipped(
    fused: bool | None, gradient_clip: float | None
) -> None:
    """A fused optimizer that is clipped leaves the division to the scaler."""
    adam = partial(torch.optim.Adam, fused=fused)
    model = small_gan(generator_optimizer=adam, discriminator_optimizer=adam, gradient_clip=gradient_clip)
    for optimizer in model.configure_optimizers():
        divides_itself: bool = optimizer._step_supports_amp_scaling  # type: ignore[attr-defined]
        assert divides_itself == (gradient_clip is None)
