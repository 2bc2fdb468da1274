"""The generator that a flag names, loaded and described."""

from pathlib import Path

import torch
from jsonargparse import Namespace

from gan_lightning import inference
from gan_lightning.inference import Sampler
from gan_lightning.training.distributed import is_first_process


def load_sampler(name: str, config: Namespace, device: str | torch.device = "cpu") -> Sampler:
    """Load the generator that a flag names; unless the name is its path, print its class, step and path.

    Args:
        name: a name for :func:`gan_lightning.inference.load`.
        config: the flags; ``raw`` and ``trust`` are used.
        device: device of the generator.
    """
    sampler = inference.load(name, raw=config.raw, device=device, trust=config.trust)
    found = Path(sampler.origin["checkpoint"])
    if found != Path(name) and is_first_process():
        print(f"  {name}: {', '.join(facts(sampler))}, from {found}", flush=True)
    return sampler


def facts(sampler: Sampler) -> list[str]:
    """Describe a generator: its class and, if known, its step and the kind of its weights."""
    step, weights = sampler.origin["global_step"], sampler.origin["weights"]
    named = [] if step is None else [f"step {step:,}"]
    return [type(sampler.generator).__name__, *named, *([] if weights is None else [f"{weights} weights"])]
