"""Mixtures of Gaussians in the plane, to count the modes that a generator covers. A point is an image of 2x1x1."""

import itertools
import math
from collections.abc import Iterator

import pytest
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from gan_lightning.gan import GAN
from gan_lightning.losses import AdversarialLoss, NonSaturatingLoss, RelativisticPairingLoss
from gan_lightning.networks import MLPDiscriminator, MLPGenerator
from gan_lightning.regularizers import R1, R2, Penalty
from tests.helpers import fit

DEVIATION = 0.02
RING = torch.tensor([[0.7 * math.cos(math.pi * k / 4), 0.7 * math.sin(math.pi * k / 4)] for k in range(8)])
GRID = torch.tensor(list(itertools.product((-0.8, -0.4, 0.0, 0.4, 0.8), repeat=2)))


class Points(LightningDataModule):
    """Endless batches (B, 2, 1, 1) of a mixture with the given centres (K, 2), all equally likely."""

    def __init__(self, centres: Tensor, seed: int) -> None:
        super().__init__()
        self.centres, self.random = centres, torch.Generator().manual_seed(seed)

    def train_dataloader(self) -> "Points":
        return self

    def __iter__(self) -> Iterator[tuple[Tensor, None]]:
        assert self.trainer is not None
        size = 256 * int(self.trainer.lightning_module.real_batches_per_step)  # type: ignore[arg-type]
        while True:
            chosen = self.centres[torch.randint(len(self.centres), (size,), generator=self.random)]
            yield (chosen + DEVIATION * torch.randn(size, 2, generator=self.random))[:, :, None, None], None


def covered(centres: Tensor, loss: AdversarialLoss, penalty: list[Penalty] | None, seed: int, steps: int) -> int:
    """Count the centres that get at least a tenth of an equal share of the samples, within four deviations."""
    torch.manual_seed(seed)
    shape = (2, 1, 1)
    model = GAN(
        MLPGenerator(shape, latent_dim=2, hidden=[128, 128], batch_norm=False),
        MLPDiscriminator(shape, hidden=[128, 128]),
        loss,
        ema_halflife=10_000,
        penalty=penalty,
    )
    fit(model, Points(centres, seed), max_steps=steps)  # type: ignore[arg-type]
    with torch.no_grad():
        points = model.sampler.eval()(torch.randn(10_000, 2)).flatten(1)
    distances, nearest = torch.cdist(points, centres).min(1)
    counts = torch.bincount(nearest[distances < 4 * DEVIATION], minlength=len(centres))
    return int((counts > 10_000 / len(centres) / 10).sum())


R3GAN: tuple[AdversarialLoss, list[Penalty] | None] = (RelativisticPairingLoss(), [R1(0.02), R2(0.02)])
PLAIN: tuple[AdversarialLoss, list[Penalty] | None] = (NonSaturatingLoss(), None)


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "penalty"), [PLAIN, R3GAN], ids=["plain", "r3gan"])
def test_a_ring_of_eight_is_covered(loss: AdversarialLoss, penalty: list[Penalty] | None) -> None:
    assert covered(RING, loss, penalty, seed=0, steps=3000) == 8


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_r3gan_covers_more_of_a_grid_than_a_plain_gan() -> None:
    """At equal updates, the mean over three seeds; each run takes half a minute on one core."""
    plain = [covered(GRID, *PLAIN, seed, 3000) for seed in range(3)]
    r3gan = [covered(GRID, *R3GAN, seed, 3000) for seed in range(3)]
    print(f"of 25: plain {plain}, R3GAN's loss {r3gan}")
    assert sum(r3gan) > sum(plain)
