"""Pictures for the page: a grid of samples, a picked sample, a walk between two."""

import shlex
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jsonargparse import Namespace
from torch import Tensor

from gan_lightning.errors import InputError
from gan_lightning.inference import Sampler

COLUMNS = 5
NUM_IMAGES = COLUMNS**2
FRAMES = 16
"""Number of pictures of a walk, in each direction."""


@dataclass(frozen=True)
class Settings:
    """The settings of a grid.

    Attributes:
        seed: seed of the latents.
        label: class, or attributes (K,), of all pictures; None is every class in turn, or those of training images.
        truncation: truncation of the latents.
    """

    seed: int = 0
    label: int | tuple[float, ...] | None = None
    truncation: float | None = None


@dataclass(frozen=True)
class Pick:
    """A picked sample: the settings of its grid, and its number in the grid."""

    settings: Settings
    number: int

    def __str__(self) -> str:
        return f"number {self.number} of seed {self.settings.seed}"


def a_and_b(clicks: Sequence[Pick]) -> list[Pick]:
    """Return the picks A and B after all clicks so far; clicks set A and B alternately."""
    return [turns[-1] for turns in (clicks[0::2], clicks[1::2]) if turns]


class Player:
    """Draw for many visitors, one at a time, because a walk across classes temporarily patches the generator's embedding."""

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler
        self.lock = threading.Lock()

    def grid(self, settings: Settings) -> Tensor:
        """Draw the samples of a grid, uint8 (NUM_IMAGES, C, H, W), as sample.py does.

        Raises:
            InputError: the settings are out of range.
        """
        if not 0 <= settings.seed < 2**32:
            raise InputError(f"seed is {settings.seed}: use a whole number from 0 to {2**32 - 1}")
        with self.lock:
            return self.sampler.sample(NUM_IMAGES, settings.label, settings.seed, settings.truncation)

    def pictures(self, picks: Sequence[Pick]) -> Tensor:
        """Draw the picked samples, uint8 (len(picks), C, H, W)."""
        with self.lock:
            return self.sampler.draw(*self._points(picks)).cpu()

    def walk(self, first: Pick, second: Pick) -> Tensor:
        """Walk from one sample to the other and back, uint8 (2 * FRAMES, C, H, W); picture FRAMES is the second sample.

        Raises:
            InputError: the samples have different classes, and this generator cannot blend classes.
        """
        with self.lock:
            return self.sampler.walk(*self._points([first, second]), FRAMES, closed=True)

    def _points(self, picks: Sequence[Pick]) -> tuple[Tensor, Tensor | None]:
        """Return the latents (len(picks), latent_dim) and, for a conditional generator, the labels (len(picks),)."""
        z, labels = [], []
        for pick in picks:
            z.append(self.sampler.latents(torch.tensor([pick.number]), pick.settings.seed, pick.settings.truncation))
            of_grid = self.sampler.labels(NUM_IMAGES, pick.settings.label)
            labels += [] if of_grid is None else [of_grid[pick.number]]
        return torch.cat(z), torch.stack(labels) if labels else None


def command(settings: Settings, config: Namespace, class_names: Sequence[str] = (), condition_names: Sequence[str] = ()) -> str:
    """Write the command line that draws the same grid, with the flags of this playground."""
    label = settings.label
    words = ["python", "scripts/sample.py", config.checkpoint, "--num_images", NUM_IMAGES]
    words += ["--columns", COLUMNS, "--seed", settings.seed]
    if isinstance(label, tuple):
        named = zip(condition_names, label, strict=True)
        words.append(f"--condition={','.join(f'{name}={value:g}' for name, value in named)}")
    elif label is not None:
        words.append(f"--class={class_names[label] if class_names else label}")  # a name may begin with a dash
    words += [] if settings.truncation is None else ["--truncation", f"{settings.truncation:g}"]
    words += ["--raw"] if config.raw else []
    words += [] if config.accelerator == "auto" else ["--accelerator", config.accelerator]
    words += ["--trust", ",".join(config.trust)] if config.trust else []
    return shlex.join(map(str, words))
