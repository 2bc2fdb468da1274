"""Sampling of images from a trained generator."""

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
import torch
from huggingface_hub import ModelCard
from torch import Tensor, nn
from torch.nn.functional import embedding

from gan_lightning import trained
from gan_lightning.errors import InputError, nearest, plain
from gan_lightning.image_translator import ImageTranslator
from gan_lightning.images import to_uint8
from gan_lightning.latents import labels_by_index, latents, spherical, truncated
from gan_lightning.model_card import model_card
from gan_lightning.networks.base import Generator
from gan_lightning.pictures import grid, write_png
from gan_lightning.training.devices import to_device

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing from Python 3.11


Labels = int | Sequence[int] | Sequence[float] | Tensor
"""A class or attributes of all images, or of each."""
NAMED = 40  # attributes in a message


class Sampler(trained.TrainedModel):
    """A trained generator, ready to draw. ``save_pretrained``, ``push_to_hub`` and ``from_pretrained`` are huggingface_hub's.

    Args:
        generator: the generator; the sampler puts it in eval mode and turns off its gradients.
        origin: source of the generator, for records: checkpoint, global_step, weights (``ema`` or ``raw``), and class_names, or
            condition_names and conditions. An exported folder adds its recipe and metrics.

    Attributes:
        conditions: attributes of training images in random order, float32 (M, K), if the generator has attributes; else (0, 0).
    """

    kind = Generator
    work = "draws images", "sample.py"

    def __init__(self, generator: Generator, origin: dict[str, Any] | None = None) -> None:
        super().__init__({"generator": generator}, origin)
        self.generator = generator
        rows = self.origin.get("conditions") or []
        has_attributes = generator.conditional and generator.condition_dim == len(self.origin.get("condition_names") or []) > 0
        self.conditions = (
            torch.tensor(rows, dtype=torch.float32) if has_attributes and rows else torch.empty(0, generator.condition_dim)
        )

    @classmethod
    def of(cls, networks: Mapping[str, Any], origin: dict[str, Any]) -> "Self":
        return cls(networks["generator"], {name: value for name, value in origin.items() if name != "sources"})

    @torch.inference_mode()
    def sample(
        self,
        num_images: int,
        labels: Labels | None = None,
        seed: int = 0,
        truncation: float | None = None,
        batch_size: int = 64,
    ) -> Tensor:
        """Draw images, uint8 (num_images, C, H, W), on the CPU.

        Args:
            num_images: number of images.
            labels: class of all images, or one class per image. Only for a conditional generator; without labels it draws
                every class in turn. With attributes: (K,) for all images, or (num_images, K), such as those that
                :meth:`condition` makes; without labels it takes those of training images in turn.
            seed: seed of the latents. The same seed draws the same images at any batch size (within rounding).
            truncation: limit of the latents' absolute values (see :func:`gan_lightning.latents.truncated`): 2 is mild, 0.7
                gives more typical and less diverse images; None does not truncate.
            batch_size: number of images drawn at once.

        Raises:
            InputError: a count is below 1, the truncation is 0 or less, or the generator does not have these labels.
        """
        if num_images < 1 or batch_size < 1:
            raise InputError(f"num_images is {num_images} and batch_size is {batch_size}: use at least 1 for both")
        chosen = self.labels(num_images, labels)
        parts = torch.split(torch.arange(num_images), batch_size)
        return torch.cat([self.at(part, None if chosen is None else chosen[part], seed, truncation).cpu() for part in parts])

    def at(self, indices: Tensor, labels: Tensor | None = None, seed: int = 0, truncation: float | None = None) -> Tensor:
        """Draw the images of global indices int64 (B,), uint8 (B, C, H, W), on the generator's device.

        Image i is the i-th image of :meth:`sample`, in any batch.

        Args:
            indices: indices of the images, each at least 0.
            labels: int64 (B,) or float32 (B, K), if the generator is conditional.
            seed: seed of the latents.
            truncation: truncation of the latents, as in :meth:`sample`.
        """
        return self.draw(self.latents(indices, seed, truncation), labels)

    def latents(self, indices: Tensor, seed: int = 0, truncation: float | None = None) -> Tensor:
        """Latents float32 (B, latent_dim) of global indices int64 (B,), on the CPU.

        Raises:
            InputError: the seed is below 0, or the truncation is 0 or less.
        """
        if seed < 0:
            raise InputError(f"seed is {seed}: use at least 0")
        z = latents(indices, self.generator.latent_dim, seed)
        return z if truncation is None else truncated(z, truncation)

    @torch.inference_mode()
    def draw(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Draw images uint8 (B, C, H, W) for latents (B, latent_dim) and labels (B,) or (B, K), on the generator's device."""
        device = self.device
        return to_uint8(self.generator(to_device(z, device), None if labels is None else to_device(labels, device)))

    @torch.inference_mode()
    def interpolate(
        self,
        seeds: Sequence[int],
        labels: Labels | None = None,
        frames: int = 16,
        closed: bool = False,
        truncation: float | None = None,
        batch_size: int = 64,
    ) -> Tensor:
        """Walk from point to point, each the first image of a seed. Returns uint8 (N, C, H, W), on the CPU.

        Latents move along great circles (see :func:`gan_lightning.latents.spherical`); classes change by blending their
        embeddings, and attributes along straight lines. There are ``frames`` images from each point up to the next one, that
        point excluded. An open walk ends with an image of the last point; a closed walk returns to the first point instead.

        Args:
            seeds: seeds of the points, two or more; one is enough if there are several classes.
            labels: class or attributes of all points, or of each; by default as in :meth:`sample`.
            frames: images from one point to the next.
            closed: end at the first point, so that the walk can be shown in a loop.
            truncation: truncation of the latents, as in :meth:`sample`.
            batch_size: number of images drawn at once.

        Raises:
            InputError: there are fewer than two points, the numbers of seeds and classes do not fit together, or the generator
                does not have these labels.
        """
        if frames < 1 or batch_size < 1:
            raise InputError(f"frames is {frames} and batch_size is {batch_size}: use at least 1 for both")
        points = len(seeds) if len(seeds) > 1 else self._count(labels)
        if points < 2 or not seeds:
            raise InputError(
                f"seeds are {list(seeds)}, but a walk needs two points: use two seeds, or one seed and two classes"
            )
        chosen = self.labels(points, labels)
        z = torch.cat([self.latents(torch.tensor([0]), seed, truncation) for seed in seeds])  # (1 or K, latent_dim)
        return self.walk(z.expand(points, -1), chosen, frames, closed, batch_size)

    @torch.inference_mode()
    def walk(
        self, z: Tensor, labels: Tensor | None = None, frames: int = 16, closed: bool = False, batch_size: int = 64
    ) -> Tensor:
        """Walk like :meth:`interpolate`, between latents (N, latent_dim) with labels (N,) or (N, K)."""
        starts = torch.arange(len(z) if closed else len(z) - 1)
        first, weights = starts.repeat_interleave(frames), (torch.arange(frames) / frames).repeat(len(starts))
        second = (first + 1) % len(z)
        latent = [spherical(z[i], z[(i + 1) % len(z)], weights[:frames]) for i in starts.tolist()]
        if not closed:
            last = torch.tensor([len(z) - 1])
            first, second, weights = torch.cat([first, last]), torch.cat([second, last]), torch.cat([weights, torch.zeros(1)])
            latent.append(z[-1:])
        walked = torch.cat(latent)  # (N, latent_dim)
        images = []
        for part in torch.split(torch.arange(len(walked)), batch_size):
            if labels is None or torch.equal(labels[first[part]], labels[second[part]]):
                images.append(self.draw(walked[part], None if labels is None else labels[first[part]]).cpu())
                continue
            if labels.is_floating_point():
                between = torch.lerp(labels[first[part]], labels[second[part]], weights[part].unsqueeze(1))
                images.append(self.draw(walked[part], between).cpu())
                continue
            with _blended(self.generator, labels[second[part]], weights[part]):
                images.append(self.draw(walked[part], labels[first[part]]).cpu())
        return torch.cat(images)

    def by_index(self, class_counts: Sequence[int] | None = None, seed: int = 0) -> Callable[[Tensor], Tensor]:
        """Make a function that maps global indices int64 (B,) to images by :meth:`at`, for metrics.

        Args:
            class_counts: number of images of each class of the data. A conditional generator draws its classes in these
                proportions; None draws all equally often. One with attributes takes those of training images in turn.
            seed: seed of the latents.
        """
        if not self.generator.conditional:
            return lambda indices: self.at(indices, seed=seed)
        label = labels_by_index(
            class_counts, self.generator.num_classes, self._known() if self.generator.condition_dim else None
        )
        return lambda indices: self.at(indices, label(indices), seed)

    def _facts(self) -> dict[str, Any]:
        conditional = self.generator.conditional
        return {
            "num_classes": self.generator.num_classes if conditional else 0,
            "class_names": list(self.origin.get("class_names") or []) if conditional else [],
            "condition_names": list(self.condition_names),
            "conditions": (self.origin.get("conditions") or []) if self.condition_names else [],
            "latent_dim": self.generator.latent_dim,
        }

    def write(self, folder: Path, dtype: str = "float32", picture: bool = True) -> None:
        super().write(folder, dtype)
        if picture:
            write_png(grid(self.sample(64), 8), folder / "samples.png")

    def generate_model_card(
        self, formats: Collection[str] = ("safetensors",), dtype: str = "float32", picture: bool = True
    ) -> ModelCard:
        return ModelCard(model_card(self.config(dtype), formats, picture))

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, by label; empty if they are unknown or the generator is unconditional."""
        names = tuple(self.origin.get("class_names") or ())
        return names if self.generator.conditional and len(names) == self.generator.num_classes else ()

    @property
    def condition_names(self) -> tuple[str, ...]:
        """Names of the attributes, in order; empty if the generator has none."""
        names = tuple(self.origin.get("condition_names") or ())
        return names if self.generator.conditional and len(names) == self.generator.condition_dim else ()

    def condition(self, values: Mapping[str, float]) -> Tensor:
        """Attributes float32 (K,) for :meth:`sample`, by name. The others have their mean over the training images.

        Raises:
            InputError: the generator has no such attribute.
        """
        names = self.condition_names
        if not names:
            raise InputError(f"condition is {dict(values)}, but this generator has no attributes: use it without them")
        chosen = self._known().mean(dim=0)
        for name, value in values.items():
            if name not in names:
                raise InputError(
                    f"{plain(name)} is no attribute of this generator{nearest(name, names)} (use {_listed(names)})"
                )
            chosen[names.index(name)] = value
        return chosen

    def _known(self) -> Tensor:
        """Attributes of training images, float32 (M, K).

        Raises:
            InputError: there are none: the generator does not come from a checkpoint.
        """
        if not len(self.conditions):
            raise InputError("this generator knows no attributes of training images: pass labels of its own")
        return self.conditions

    def _count(self, labels: Labels | None) -> int:
        """Count the images that labels are for; 1 if they are the same for all."""
        shape = numpy.shape(() if labels is None else labels)
        return shape[0] if len(shape) > bool(self.generator.condition_dim) else 1

    def labels(self, num_images: int, labels: Labels | None = None) -> Tensor | None:
        """Convert ``labels``, as in :meth:`sample`, to int64 (num_images,) or float32 (num_images, K).

        None for an unconditional generator.

        Raises:
            InputError: the generator does not have these labels.
        """
        if not self.generator.conditional:
            if labels is not None:
                raise InputError(f"labels is {labels}, but this generator is unconditional: use it without labels")
            return None
        if self.generator.condition_dim:
            return self._attributes(num_images, labels)
        classes = self.generator.num_classes
        if labels is None:
            return torch.arange(num_images) % classes
        try:
            chosen = torch.as_tensor(labels)
        except (TypeError, ValueError, RuntimeError):
            chosen = torch.empty(0)  # refused below
        chosen = chosen.expand(num_images) if chosen.dim() == 0 else chosen
        whole = not chosen.is_floating_point() and chosen.dtype != torch.bool
        if not whole or chosen.shape != (num_images,) or int(chosen.min()) < 0 or int(chosen.max()) >= classes:
            raise InputError(
                f"labels is {labels}: use one class, or one for each of {num_images} images, from 0 to {classes - 1}"
            )
        return chosen.long()

    def _attributes(self, num_images: int, labels: Labels | None) -> Tensor:
        if labels is None:
            return self._known()[torch.arange(num_images) % len(self._known())]
        size = self.generator.condition_dim
        try:
            chosen = torch.as_tensor(labels, dtype=torch.float32)
        except (TypeError, ValueError, RuntimeError):
            chosen = torch.empty(0)  # refused below
        chosen = chosen.expand(num_images, -1) if chosen.dim() == 1 else chosen
        if chosen.shape != (num_images, size) or not bool(chosen.isfinite().all()):
            raise InputError(
                f"labels is {labels}: use {size} finite numbers, the attributes of all images, or of each of {num_images}"
            )
        return chosen


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(plain, names[:NAMED])) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


@contextmanager
def _blended(generator: Generator, labels: Tensor, weights: Tensor) -> Iterator[None]:
    """Blend the embeddings of other labels with those of ``labels`` within the block, when the generator is called with them.

    Args:
        generator: a conditional generator.
        labels: int64 (B,).
        weights: weights (B,) of these labels' embeddings, from 0 to 1.

    Raises:
        InputError: the generator does not embed its labels, so there is nothing between two classes.
    """
    embeddings = [m for m in generator.modules() if isinstance(m, nn.Embedding) and m.num_embeddings == generator.num_classes]
    if not embeddings:
        raise InputError(
            f"{type(generator).__name__} embeds no labels, so it cannot blend two classes: use one class for the whole walk"
        )

    def blend(module: nn.Module, inputs: Any, embedded: Tensor) -> Tensor:
        assert isinstance(module, nn.Embedding)
        device = embedded.device
        return torch.lerp(embedded, embedding(labels.to(device), module.weight), weights.to(device).unsqueeze(1))

    handles = [module.register_forward_hook(blend) for module in embeddings]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def load(
    path: str | os.PathLike[str], *, raw: bool = False, device: str | torch.device = "cpu", trust: Collection[str] = ()
) -> Any:
    """Rebuild the generator of a training checkpoint, ready to use.

        images = gan_lightning.load("lightning_logs/version_0/checkpoints/last.ckpt").sample(16)
        digits = gan_lightning.load("digits").sample(16)  # ships with this package

    Args:
        path: a checkpoint of a training run, without any other file; a folder that export.py or ``save_pretrained`` wrote;
            the name of a bundled generator (:func:`gan_lightning.lookup.bundled`); or ``owner/name`` on the Hugging Face Hub,
            to download. An existing path wins. ``origin["checkpoint"]`` of the result is the file or folder that was found.
        raw: use the generator's own weights, even if there is a moving average of them.
        device: device of the generator.
        trust: custom top-level modules from which networks may be imported. This package is always allowed.

    Returns:
        a :class:`Sampler`; for a translation from image to image, an
        :class:`~gan_lightning.image_translator.ImageTranslator`.

    Raises:
        InputError: the file, folder or name does not exist, or it is damaged, foreign or untrusted.
    """
    networks, origin = trained.read(path, raw, device, trust)
    for cls in MODELS:
        if all(isinstance(network, cls.kind) for network in networks.values()):
            return cls.of(networks, origin)
    found = ", ".join(type(network).__name__ for network in networks.values())
    raise InputError(f"{path} has a {found} instead of a generator: use another one")


MODELS: tuple[type[trained.TrainedModel], ...] = (Sampler, ImageTranslator)
"""The kinds of models."""
