"""CycleGAN: the step against hand-computed values, and the pool of earlier images."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from gan_lightning import checkpoint
from gan_lightning.cycle import CycleGAN, ImagePool
from gan_lightning.losses import NonSaturatingLoss, RelativisticPairingLoss
from gan_lightning.networks import MLPDiscriminator, PatchDiscriminator, SRResNet, UNetGenerator
from tests.helpers import Batches, Outputs, fit, refuses, same_state
from tests.translators import SHAPE, Affine, Mean, pairs, sgd, small_cycle

# The step


def tiny(scale: float = 0.5, shift: float = 0.25, **arguments: Any) -> CycleGAN:
    """Make a cycle of networks with closed forms; both generators begin alike, and so do both discriminators."""
    return CycleGAN(Affine(scale=scale, shift=shift), Mean(), None, sgd, sgd, **arguments)


@pytest.mark.parametrize("identity_weight", [0.0, 5.0])
def test_one_step_by_hand(identity_weight: float) -> None:
    """Zhu et al. 2017, equations 1 to 3 and section 5.2, with plain SGD: values and gradients in closed form.

    G(x) = s x + t and F(y) = u y + v; D_Y and D_X are a mean + b.
    """
    model = tiny(pool_size=0, identity_weight=identity_weight, cycle_weight=7.0, adversarial_weight=0.6)
    fit(model, pairs(), callbacks=[batches := Batches(), outputs := Outputs()], max_steps=1)
    ((y, x),) = batches.seen
    assert x is not None
    logged = outputs.seen[0]
    a = {"y": 1.5, "x": 1.5}
    b = {"y": 0.1, "x": 0.1}
    s, t, u, v = 0.5, 0.25, 0.5, 0.25
    real, fake = {"y": y, "x": x}, {"y": s * x + t, "x": u * y + v}
    for domain, prefix, d in (("y", "", model.discriminator), ("x", "inverse_", model.inverse_discriminator)):
        of_real, of_fake = real[domain].flatten(1).mean(1), fake[domain].flatten(1).mean(1)
        judged, judged_fake = a[domain] * of_real + b[domain], a[domain] * of_fake + b[domain]
        loss = ((judged - 1).square().mean() + judged_fake.square().mean()) / 2
        assert logged[f"{prefix}discriminator_loss"] == pytest.approx(float(loss), rel=1e-5)
        a[domain] -= 0.1 * float(((judged - 1) * of_real + judged_fake * of_fake).mean())
        b[domain] -= 0.1 * float((judged - 1 + judged_fake).mean())
        assert isinstance(d, Mean)
        assert [float(d.weight.detach()), float(d.bias.detach())] == pytest.approx([a[domain], b[domain]], rel=1e-5)

    gradients = {"s": 0.0, "t": 0.0, "u": 0.0, "v": 0.0}
    for domain, scale, shift, prefix, source in (("y", "s", "t", "", x), ("x", "u", "v", "inverse_", y)):
        judged = a[domain] * fake[domain].flatten(1).mean(1) + b[domain]
        assert logged[f"{prefix}generator_loss"] == pytest.approx(float((judged - 1).square().mean() / 2), rel=1e-5)
        gradients[scale] += 0.6 * float(((judged - 1) * a[domain] * source.flatten(1).mean(1)).mean())
        gradients[shift] += 0.6 * float(((judged - 1) * a[domain]).mean())
    there, back = u * (s * x + t) + v - x, s * (u * y + v) + t - y  # F(G(x)) - x and G(F(y)) - y
    assert logged["cycle_loss"] == pytest.approx(float(there.abs().mean() + back.abs().mean()), rel=1e-5)
    gradients["s"] += 7.0 * float((there.sign() * u * x).mean() + (back.sign() * (u * y + v)).mean())
    gradients["t"] += 7.0 * float((there.sign() * u).mean() + back.sign().mean())
    gradients["u"] += 7.0 * float((there.sign() * (s * x + t)).mean() + (back.sign() * s * y).mean())
    gradients["v"] += 7.0 * float(there.sign().mean() + (back.sign() * s).mean())
    changed_y, changed_x = s * y + t - y, u * x + v - x
    gradients["s"] += identity_weight * float((changed_y.sign() * y).mean())
    gradients["t"] += identity_weight * float(changed_y.sign().mean())
    gradients["u"] += identity_weight * float((changed_x.sign() * x).mean())
    gradients["v"] += identity_weight * float(changed_x.sign().mean())
    if identity_weight:
        assert logged["identity_loss"] == pytest.approx(float(changed_y.abs().mean() + changed_x.abs().mean()), rel=1e-5)
    else:
        assert "identity_loss" not in logged
    inverse = model.inverse_generator
    assert isinstance(model.generator, Affine)
    assert isinstance(inverse, Affine)
    found = [float(p.detach()) for p in (model.generator.scale, model.generator.shift, inverse.scale, inverse.shift)]
    expected = [before - 0.1 * gradients[name] for name, before in (("s", s), ("t", t), ("u", u), ("v", v))]
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_a_cycle_of_identities_loses_nothing() -> None:
    for scale, shift, lost in ((1.0, 0.0, False), (0.5, 0.25, True)):
        fit(tiny(scale, shift, identity_weight=5.0), pairs(), callbacks=[outputs := Outputs()], max_steps=1)
        assert (outputs.seen[0]["cycle_loss"] > 0.1) == lost
        assert (outputs.seen[0]["identity_loss"] > 0.1) == lost
        if not lost:
            assert outputs.seen[0]["cycle_loss"] == outputs.seen[0]["identity_loss"] == 0


def test_the_paper_s_weights_are_the_defaults() -> None:
    """Its generators minimise E(D(G(x)) - 1)^2, twice the loss of Mao et al. 2017, plus 10 times the cycle's."""
    model = small_cycle()
    assert (model.adversarial_weight, model.cycle_weight, model.identity_weight, model.pool_size) == (2.0, 10.0, 0.0, 50)
    logits = torch.tensor([0.3, -0.4])
    assert float(2 * model.loss.generator(None, logits)) == pytest.approx((0.7**2 + 1.4**2) / 2)


def test_other_losses() -> None:
    for loss in (NonSaturatingLoss(), RelativisticPairingLoss()):
        fit(small_cycle(loss=loss), pairs(), max_steps=2)


def test_the_inverse_networks_have_their_own_shapes_and_weights() -> None:
    shape, source_shape = (3, 8, 8), (1, 8, 8)
    model = CycleGAN(UNetGenerator(shape, source_shape, width=4, dropout=0.1), PatchDiscriminator(shape, width=4, layers=1))
    assert (model.inverse_generator.image_shape, model.inverse_generator.source_shape) == (source_shape, shape)
    assert model.inverse_generator.arguments["dropout"] == 0.1
    assert model.inverse_discriminator.image_shape == source_shape
    assert not same_state(small_cycle().generator, small_cycle().inverse_generator)
    assert model.translate(torch.rand(2, 1, 11, 5)).shape == (2, 3, 11, 5)
    back = model.translate_back(torch.rand(2, 3, 11, 5))
    assert (back.shape, back.dtype) == ((2, 1, 11, 5), torch.uint8)
    features, logits = model.features_and_logits(torch.rand(2, *shape))
    assert (len(features), logits.shape) == (2, (2,))


def test_averages_of_both_generators() -> None:
    model = small_cycle(ema_halflife=64.0)
    fit(model, pairs(), max_steps=3)
    assert model.sampler is model.ema
    assert model.inverse_sampler is model.inverse_ema
    assert not same_state(model.sampler, model.generator)
    assert small_cycle().inverse_ema is None


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"cycle_weight": -1.0}, "cycle_weight is -1"),
        ({"identity_weight": float("nan")}, "identity_weight is nan"),
        ({"adversarial_weight": float("inf")}, "adversarial_weight is inf"),
        ({"pool_size": -1}, "pool_size is -1"),
    ],
)
def test_numbers_out_of_range(arguments: dict[str, Any], named: str) -> None:
    with refuses(named):
        small_cycle(**arguments)


def test_networks_that_do_not_fit() -> None:
    shape, grey = (3, 8, 8), (1, 8, 8)
    with refuses("identity_weight is 5", grey, shape):
        CycleGAN(Affine(shape, grey), Mean(shape), identity_weight=5.0)
    with refuses("PatchDiscriminator", "source_shape"):
        CycleGAN(Affine(), PatchDiscriminator(grey, source_shape=grey, width=4, layers=1))
    with refuses("MLPDiscriminator", "conditioning"):
        CycleGAN(Affine(), MLPDiscriminator(grey, 10, hidden=[8], conditioning="projection"))
    with refuses("16x16", "8x8"):
        CycleGAN(SRResNet((1, 16, 16), grey, width=4, blocks=1), Mean((1, 16, 16)))


# The pool


def numbered(first: int, count: int) -> Tensor:
    """Make images (count, 1, 1, 1) that hold their numbers."""
    return torch.arange(first, first + count, dtype=torch.float32).view(-1, 1, 1, 1)


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_the_pool_fills_and_then_exchanges_half_of_the_images(batch_size: int) -> None:
    """The first 50 pass as they are. Then an image passes, or an earlier one is shown and it takes that one's place.

    Of N images, N / 2 are exchanged up to four standard deviations, sqrt(N) / 2 each; so are the 50 places, all alike.
    """
    torch.manual_seed(0)
    pool, kept, draws = ImagePool(50, (1, 1, 1)), list(range(50)), 6000
    shown = torch.cat([pool(numbered(first, batch_size)).flatten() for first in range(0, 48, batch_size)])
    assert torch.equal(shown[:48], torch.arange(48.0))
    after = len(shown)
    pool(numbered(after, max(0, 50 - after)))
    after = max(after, 50)
    if after > 50:  # a batch that fills the pool and goes on
        kept = pool.images.flatten().int().tolist()
    exchanged, places = 0, torch.zeros(50)
    for first in range(after, after + draws, batch_size):
        for number, seen in zip(
            range(first, first + batch_size), pool(numbered(first, batch_size)).flatten().tolist(), strict=True
        ):
            if seen != number:
                place = kept.index(int(seen))  # an image that is in the pool
                kept[place] = number
                exchanged += 1
                places[place] += 1
    assert pool.images.flatten().int().tolist() == kept
    assert abs(exchanged - draws / 2) < 4 * draws**0.5 / 2
    assert abs(exchanged - draws / 2) > 0
    mean = exchanged / 50
    assert (places - mean).abs().max() < 5 * mean**0.5
    assert (places - mean).square().mean() > mean / 2  # and not in turn


def test_a_batch_larger_than_the_pool() -> None:
    torch.manual_seed(0)
    pool = ImagePool(4, (1, 1, 1))
    shown = pool(numbered(0, 100)).flatten()
    assert torch.equal(shown[:4], torch.arange(4.0))
    assert 20 < int((shown[4:] != torch.arange(4.0, 100)).sum()) < 76
    assert len(set(shown[4:].tolist())) == 96  # an image that has left the pool never comes back


def test_no_pool() -> None:
    images = numbered(0, 3)
    assert ImagePool(0, (1, 1, 1))(images) is images
    assert not list(ImagePool(0, (1, 1, 1)).buffers())


def test_the_pools_are_restored_before_the_first_step(tmp_path: Path) -> None:
    """They are in the checkpoint for each process, but not among the weights, which all processes share."""
    model = small_cycle(pool_size=12)
    trainer = fit(model, pairs(), max_steps=3)
    trainer.save_checkpoint(tmp_path / "a.ckpt", weights_only=False)
    content = checkpoint.load_gan(tmp_path / "a.ckpt")
    assert not [name for name in content["state_dict"] if "pool" in name]
    assert {name: state.shape for name, state in content["pools"].items()} == {
        **{"pool.images": (1, 12, *SHAPE), "pool.count": (1, 1)},
        **{"inverse_pool.images": (1, 12, *SHAPE), "inverse_pool.count": (1, 1)},
    }
    seen: list[Tensor] = []

    class Look(Callback):
        def on_train_batch_start(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
            seen.extend([pl_module.pool.images.clone(), pl_module.inverse_pool.images.clone(), pl_module.pool.count.clone()])

    fit(small_cycle(pool_size=12), pairs(), callbacks=[Look()], max_steps=4, ckpt_path=tmp_path / "a.ckpt")
    assert torch.equal(seen[0], model.pool.images)
    assert torch.equal(seen[1], model.inverse_pool.images)
    assert int(seen[2]) == 12
    assert not torch.equal(seen[0], seen[1])
    with refuses("pool_size", 12, 50):
        small_cycle().on_load_checkpoint(content)


def test_damaged_pools_are_refused(tmp_path: Path) -> None:
    fit(small_cycle(pool_size=4), pairs(), max_steps=1).save_checkpoint(tmp_path / "a.ckpt", weights_only=False)
    content = checkpoint.load_gan(tmp_path / "a.ckpt")
    whole = content["pools"]
    none = {name: state[:0] for name, state in whole.items()}
    damaged: list[Any] = [
        None,
        [],
        {},
        none,
        whole | {"pool.images": torch.ones(2)},
        whole | {"pool.count": 5},
        whole | {"pool.count": torch.ones(())},
    ]
    for pools in damaged:
        with refuses("pools"):
            small_cycle(pool_size=4).on_load_checkpoint(content | {"pools": pools})
    small_cycle(pool_size=4).on_load_checkpoint(content)
