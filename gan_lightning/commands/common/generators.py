"""The generator that a flag names, loaded and described."""

from pathlib import Path

import torch
from jsonargparse import Namespace

from gan_lightning import inference
from gan_lightning.inference import Sampler
from gan_lightning.training.distributed import is_first_process


def load_sampler(name: str, config: Namespace, device: str | torch.device = "cpu") -> Sampler:
    """Load the generator that a flag names; print which one it is, unless the name is its path.

    Args:
        name: as :func:`gan_lightning.inference.load` takes it.
        config: the flags, of which ``raw`` and ``trust`` are used.
        device: where to put it.
    """
    sampler = inference.load(name, raw=config.raw, device=device, trust=config.trust)
    found = Path(sampler.origin["checkpoint"])
    if found != Path(name) and is_first_process():
        print(f"  {name}: {', '.join(facts(sampler))}, from {found}", flush=True)
    return sampler


def facts(sampler: Sampler) -> list[str]:
    """Name the class of a generator and, as far as they are known, its step and which of its weights these are."""
    step, weights = sampler.origin["global_step"], sampler.origin["weights"]
    named = [] if step is None else [f"step {step:,}"]
    return [type(sampler.generator).__name__, *named, *([] if weights is None else [f"{weights} weights"])]
