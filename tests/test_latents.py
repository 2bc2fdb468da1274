"""Latents and labels by global index."""

import torch

from gan_lightning.latents import class_labels, latents


def test_a_latent_depends_on_seed_and_index_alone() -> None:
    whole = latents(torch.arange(50), 16, seed=3)
    assert whole.shape == (50, 16)
    assert whole.dtype == torch.float32
    for part in (torch.arange(1, 50, 2), torch.tensor([49, 0, 7]), torch.tensor([], dtype=torch.int64)):
        assert torch.equal(latents(part, 16, seed=3), whole[part])
    assert not torch.equal(latents(torch.arange(50), 16, seed=4), whole)
    state = torch.get_rng_state()
    latents(torch.arange(3), 4, seed=0)
    assert torch.equal(torch.get_rng_state(), state)


def test_latents_are_standard_normal_and_unlike_each_other() -> None:
    """400,000 of them: mean 0.0004 and deviation 1.0002 as they fall, neighbours' correlation 0.001."""
    z = latents(torch.arange(4000), 100, seed=0)
    assert abs(float(z.mean())) < 0.006
    assert abs(float(z.std()) - 1) < 0.006
    assert abs(float((z[1:] * z[:-1]).mean())) < 0.006
    assert abs(float((z[:, 1:] * z[:, :-1]).mean())) < 0.006
    assert abs(float((latents(torch.arange(4000), 100, seed=1) * z).mean())) < 0.006


def test_labels_are_in_proportion_for_every_count() -> None:
    frequencies = torch.tensor([50, 0, 30, 20])
    labels = class_labels(torch.arange(10_000), frequencies)
    for count in (10, 100, 1000, 10_000):
        shares = torch.bincount(labels[:count], minlength=4) / count
        torch.testing.assert_close(shares, frequencies / 100, atol=2 / count**0.8, rtol=0)
    assert torch.equal(class_labels(torch.tensor([7, 3]), frequencies), labels[torch.tensor([7, 3])])
