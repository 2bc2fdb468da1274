"""Seeds."""

import pytest
import torch

from gan_lightning.data import Digits
from gan_lightning.training.randomness import derived_seed, seed_device
from tests.helpers import fit, small_gan


def test_other_numbers_give_other_seeds() -> None:
    seeds = {derived_seed("step", seed, step, process) for seed in range(3) for step in range(300) for process in range(3)}
    assert len(seeds) == 3 * 300 * 3
    assert len({seed % 2**32 for seed in seeds}) == len(seeds)  # torch's CPU generator uses no more bits
    assert min(seeds) >= 0
    assert max(seeds) < 2**63
    assert derived_seed("step", 1, 2) == derived_seed("step", 1, 2) != derived_seed("step", 2, 1)
    assert derived_seed("step", 2**64 - 1, 5) != derived_seed("step", 0, 5)


def test_uses_and_lengths_give_other_seeds() -> None:
    """Trailing zeros count, and a large number differs from two small ones."""
    numbers: list[tuple[int, ...]] = [
        (),
        (0,),
        (0, 0),
        (0, 5),
        (0, 5, 0),
        (0, 5, 0, 0),
        (5,),
        (2**32,),
        (0, 1),
        (2**32, 0),
        (51,),
        (5, 1),
    ]
    seeds = [derived_seed(use, *given) for use in ("step", "flips", "order") for given in numbers]
    assert len(set(seeds)) == len(seeds)


def test_each_use_in_a_step_has_its_own_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Order, flips and steps have different seeds: a flip does not determine a latent."""
    seeds = []

    def recorded(use: str, *numbers: int) -> int:
        seeds.append(derived_seed(use, *numbers))
        return seeds[-1]

    for module in ("module", "data.base", "data.loaders"):
        monkeypatch.setattr(f"gan_lightning.{module}.derived_seed", recorded)
    fit(small_gan(), Digits(batch_size=64, horizontal_flip=True), max_steps=2)
    assert len(set(seeds)) == 5  # an order, and flips and a step twice


def test_seed_device_equals_torch_on_the_cpu() -> None:
    for seed in (0, 7, 2**63 - 1):
        torch.manual_seed(seed)
        expected = torch.get_rng_state(), torch.rand(3)
        torch.rand(5)
        seed_device(seed, torch.device("cpu"))
        assert torch.equal(torch.get_rng_state(), expected[0])
        assert torch.equal(torch.rand(3), expected[1])


def test_random_numbers_of_neighbouring_steps_are_uncorrelated() -> None:
    """Correlations of 1,000 normal numbers each, over 200 steps: none exceeds the expected largest of 19,900."""
    rows = []
    for step in range(200):
        seed_device(derived_seed("step", 0, step, 0), torch.device("cpu"))
        rows.append(torch.randn(1000))
    off_diagonal = torch.corrcoef(torch.stack(rows)).fill_diagonal_(0).abs()
    assert 0.10 < float(off_diagonal.max()) < 0.17  # deviation 0.032; the largest is usually 0.13
