"""From a checkpoint to pictures."""

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub import ModelCard, ModelHubMixin, snapshot_download
from torch import Tensor, nn
from torch.nn.functional import embedding

from gan_lightning import checkpoint, pretrained
from gan_lightning.errors import InputError, one_line
from gan_lightning.images import to_uint8
from gan_lightning.latents import class_frequencies, class_labels, latents, spherical, truncated
from gan_lightning.lookup import find
from gan_lightning.model_card import metrics, model_card, recipe
from gan_lightning.networks.base import Generator, build, load_weights

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing from Python 3.11


class Sampler(ModelHubMixin):
    """A trained generator, ready to draw; ``save_pretrained``, ``push_to_hub`` and ``from_pretrained`` are huggingface_hub's.

    Args:
        generator: the generator; it is put in eval mode and takes no gradient.
        origin: where it is from, for records: checkpoint, global_step, and weights, ``ema`` or ``raw``; from an exported
            folder also its recipe and metrics.
    """

    def __init__(self, generator: Generator, origin: dict[str, Any] | None = None) -> None:
        self.generator = generator.eval().requires_grad_(False)
        self.origin = origin or {}

    @torch.inference_mode()
    def sample(
        self,
        num_images: int,
        labels: int | Sequence[int] | Tensor | None = None,
        seed: int = 0,
        truncation: float | None = None,
        batch_size: int = 64,
    ) -> Tensor:
        """Draw images, uint8 (num_images, C, H, W), on the CPU.

        Args:
            num_images: how many.
            labels: the class of all, or one class an image; only for a conditional generator, which without them draws
                every class in turn.
            seed: the same seed draws the same images, whatever the batch size (within rounding).
            truncation: beyond this no value of a latent lies (see :func:`gan_lightning.latents.truncated`): 2 is mild, 0.7
                gives typical images that differ less; None truncates nothing.
            batch_size: how many are made at a time.

        Raises:
            InputError: a count below 1, a truncation of 0 or less, or labels that the generator has not.
        """
        if num_images < 1 or batch_size < 1:
            raise InputError(f"num_images is {num_images} and batch_size {batch_size}: both must be at least 1")
        chosen = self.labels(num_images, labels)
        parts = torch.split(torch.arange(num_images), batch_size)
        return torch.cat([self.at(part, None if chosen is None else chosen[part], seed, truncation).cpu() for part in parts])

    def at(self, indices: Tensor, labels: Tensor | None = None, seed: int = 0, truncation: float | None = None) -> Tensor:
        """The images of global indices int64 (B,), uint8 (B, C, H, W), on the generator's device.

        Image i is the i-th that :meth:`sample` draws, whatever the batch it is drawn in.

        Args:
            indices: which images, each at least 0.
            labels: int64 (B,), where the generator is conditional.
            seed: of the latents.
            truncation: of the latents, as in :meth:`sample`.
        """
        return self.draw(self.latents(indices, seed, truncation), labels)

    def latents(self, indices: Tensor, seed: int = 0, truncation: float | None = None) -> Tensor:
        """The latents float32 (B, latent_dim) of global indices int64 (B,), on the CPU.

        Raises:
            InputError: a seed below 0, or a truncation of 0 or less.
        """
        if seed < 0:
            raise InputError(f"seed is {seed}: it must be at least 0")
        z = latents(indices, self.generator.latent_dim, seed)
        return z if truncation is None else truncated(z, truncation)

    @torch.inference_mode()
    def draw(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """The images of latents (B, latent_dim) and labels int64 (B,), uint8 (B, C, H, W), on the generator's device."""
        device = self.device
        return to_uint8(self.generator(z.to(device), None if labels is None else labels.to(device)))

    @torch.inference_mode()
    def interpolate(
        self,
        seeds: Sequence[int],
        labels: int | Sequence[int] | None = None,
        frames: int = 16,
        closed: bool = False,
        truncation: float | None = None,
        batch_size: int = 64,
    ) -> Tensor:
        """Walk from point to point, each the first image of a seed: uint8 (N, C, H, W), on the CPU.

        Latents go along great circles (see :func:`gan_lightning.latents.spherical`), classes by blending their embeddings.
        There are ``frames`` images from each point to the next, that point excluded, and at the end the last point; where the
        walk is closed, it goes back to the first one instead.

        Args:
            seeds: of the points, two or more; or one, where there are several classes.
            labels: the class of all points, or one class each; by default every class in turn, as :meth:`sample` has it.
            frames: from one point to the next.
            closed: whether the walk ends where it began, so that it can be shown in a loop.
            truncation: of the latents, as in :meth:`sample`.
            batch_size: how many are made at a time.

        Raises:
            InputError: fewer than two points, as many seeds as does not fit the classes, or labels that the generator has not.
        """
        if frames < 1 or batch_size < 1:
            raise InputError(f"frames is {frames} and batch_size {batch_size}: both must be at least 1")
        points = len(seeds) if labels is None or isinstance(labels, int) or len(seeds) > 1 else len(labels)
        if points < 2 or not seeds:
            raise InputError(f"seeds are {list(seeds)}: a walk needs two points, by two seeds, or one seed and two classes")
        chosen = self.labels(points, labels)
        z = torch.cat([self.latents(torch.tensor([0]), seed, truncation) for seed in seeds])  # (1 or K, latent_dim)
        return self.walk(z.expand(points, -1), chosen, frames, closed, batch_size)

    @torch.inference_mode()
    def walk(
        self, z: Tensor, labels: Tensor | None = None, frames: int = 16, closed: bool = False, batch_size: int = 64
    ) -> Tensor:
        """What :meth:`interpolate` does, between latents (K, latent_dim) with labels int64 (K,)."""
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
            with _blended(self.generator, labels[second[part]], weights[part]):
                images.append(self.draw(walked[part], labels[first[part]]).cpu())
        return torch.cat(images)

    def by_index(self, class_counts: Sequence[int] | None = None, seed: int = 0) -> Callable[[Tensor], Tensor]:
        """What maps global indices int64 (B,) to images, as :meth:`at`; for metrics.

        Args:
            class_counts: how many images each class of the data has, in proportion to which a conditional generator is
                asked for its classes; None asks for all alike.
            seed: of the latents.
        """
        frequencies = class_frequencies(class_counts, self.generator.num_classes) if self.generator.conditional else None
        return lambda indices: self.at(indices, None if frequencies is None else class_labels(indices, frequencies), seed)

    def config(self, dtype: str = "float32") -> dict[str, Any]:
        """What the config.json of this generator says, with the recipe and the record that lie beside its checkpoint.

        Args:
            dtype: the type of the stored weights, float32 or float16.
        """
        about, path = dict(self.origin), Path(self.origin.get("checkpoint", ""))
        if path.is_file():
            about |= {"recipe": recipe(path), "metrics": metrics(path, about["global_step"], about["weights"])}
        return pretrained.configuration(self.generator, about, dtype)

    def write(self, folder: Path, dtype: str = "float32", picture: bool = True) -> None:
        """Write config.json, model.safetensors and samples.png into a folder.

        Args:
            folder: the folder, which exists.
            dtype: the type of the stored weights, float32 or float16.
            picture: whether to write samples.png.
        """
        from gan_lightning.pictures import grid, write_png  # torchvision, which takes a second to import

        pretrained.save(self.generator, self.config(dtype), folder)
        if picture:
            write_png(grid(self.sample(64), 8), folder / "samples.png")

    def _save_pretrained(self, save_directory: Path) -> None:
        """Write what ``save_pretrained`` and ``push_to_hub`` add the model card to."""
        self.write(save_directory)

    def generate_model_card(
        self, formats: Collection[str] = ("safetensors",), dtype: str = "float32", picture: bool = True
    ) -> ModelCard:
        """The model card, for ``save_pretrained`` and ``push_to_hub``.

        Args:
            formats: what there are files of (see :func:`gan_lightning.model_card.model_card`).
            dtype: the type of the stored weights, float32 or float16.
            picture: whether samples.png is in the folder.
        """
        return ModelCard(model_card(self.config(dtype), formats, picture))

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        force_download: bool = False,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        revision: str | None = None,
        **options: Any,
    ) -> "Self":
        """The generator of a folder, or of a repository of the Hugging Face Hub, which is downloaded.

        Args:
            pretrained_model_name_or_path: a folder, or a name such as ``me/my-gan``.
            force_download: even where the cache has it.
            token: for what is not public.
            cache_dir: where downloads are kept; by default huggingface_hub's cache.
            local_files_only: take what the cache has, without asking the Hub.
            revision: a branch, a tag or a commit.
            options: device and trust, as :func:`load` has them.

        Raises:
            InputError: it cannot be had, or what is there is damaged, foreign or untrusted.
        """
        # The mixin's own would read config.json unchecked, and hand its entries on as arguments.
        folder = Path(pretrained_model_name_or_path)
        if not folder.is_dir():
            folder = _download(
                str(pretrained_model_name_or_path),
                revision=revision,
                cache_dir=cache_dir,
                force_download=force_download,
                token=token,
                local_files_only=local_files_only,
            )
        return cls(*_load(folder, **options))

    @property
    def device(self) -> torch.device:
        """Where the generator is."""
        return next(self.generator.parameters()).device

    def labels(self, num_images: int, labels: int | Sequence[int] | Tensor | None = None) -> Tensor | None:
        """The labels int64 (num_images,) that ``labels`` means, as in :meth:`sample`; None for an unconditional generator.

        Raises:
            InputError: labels that the generator has not.
        """
        if not self.generator.conditional:
            if labels is not None:
                raise InputError(f"labels is {labels}: this generator is unconditional and takes none")
            return None
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
            raise InputError(f"labels is {labels}: give one class, or {num_images} of them, each from 0 to {classes - 1}")
        return chosen.long()


@contextmanager
def _blended(generator: Generator, labels: Tensor, weights: Tensor) -> Iterator[None]:
    """Within the block the generator, called with other labels, sees their embeddings blended with those of ``labels``.

    Args:
        generator: a conditional one.
        labels: int64 (B,).
        weights: (B,), of theirs, from 0 to 1.

    Raises:
        InputError: it does not embed its labels, so that there is nothing between two classes.
    """
    embeddings = [m for m in generator.modules() if isinstance(m, nn.Embedding) and m.num_embeddings == generator.num_classes]
    if not embeddings:
        raise InputError(
            f"{type(generator).__name__} embeds no labels, and nothing lies between two of its classes: walk within one"
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
) -> Sampler:
    """Rebuild the generator of a training checkpoint, ready to sample.

        images = gan_lightning.load("lightning_logs/version_0/checkpoints/last.ckpt").sample(16)
        digits = gan_lightning.load("digits").sample(16)  # ships with this package

    Args:
        path: a checkpoint that training wrote, nothing else is needed; a folder that export.py or ``save_pretrained`` wrote;
            the name of a bundled generator (:func:`gan_lightning.lookup.bundled`); or ``owner/name`` on the Hugging Face Hub,
            which is downloaded. An existing path wins. ``origin["checkpoint"]`` of the sampler says which file or folder it is.
        raw: the generator's own weights, instead of their moving average where there is one.
        device: where to put it.
        trust: top-level modules of your own whose networks may be imported; this package's always are.

    Raises:
        InputError: no such file, folder or name, or a damaged, foreign or untrusted one.
    """
    return Sampler(*_load(path, raw, device, trust))


def locate(name: str | os.PathLike[str]) -> Path:
    """The file or folder that a name means: an existing path, a bundled generator, or what is downloaded from the Hub.

    Raises:
        InputError: it is none of them.
    """
    return find(name) or _download(os.fspath(name))


def _download(name: str, **options: Any) -> Path:
    """The folder with the config.json and the weights of a repository of the Hugging Face Hub, in huggingface_hub's cache."""
    try:
        return Path(snapshot_download(name, allow_patterns=[pretrained.CONFIG, pretrained.WEIGHTS], **options))
    except Exception as error:  # of a network, anything
        raise InputError(
            f"{name}: no such folder, and it cannot be had from the Hugging Face Hub ({one_line(error)[:200]}); name another"
        ) from error


def _load(
    path: str | os.PathLike[str], raw: bool = False, device: str | torch.device = "cpu", trust: Collection[str] = ()
) -> tuple[Generator, dict[str, Any]]:
    """What :func:`load` makes a sampler of: the generator, and where it is from."""
    found = locate(path)
    read = _read_folder if found.is_dir() else _read_checkpoint
    generator, origin = read(found, raw, trust)
    return generator.to(device), {"checkpoint": str(found), **origin}


def _read_folder(path: str | os.PathLike[str], raw: bool, trust: Collection[str]) -> tuple[Generator, dict[str, Any]]:
    generator, config = pretrained.load(path, trust)
    if raw and config["weights"] == "ema":
        raise InputError(f"{path}: it holds the moving average alone; for the raw weights, take the checkpoint it is from")
    return generator, {name: config[name] for name in ("global_step", "weights", "recipe", "metrics")}


def _read_checkpoint(path: str | os.PathLike[str], raw: bool, trust: Collection[str]) -> tuple[Generator, dict[str, Any]]:
    content = checkpoint.load_gan(path)
    about, weights = content[checkpoint.KEY], content["state_dict"]
    generator = build(about["generator"], trust)
    if not isinstance(generator, Generator):
        raise InputError(f"{path}: {about['generator']['class_path']} is no generator")
    averaged = about["ema"] and not raw
    load_weights(generator, weights, "ema." if averaged else "generator.", path)
    return generator, {"global_step": content["global_step"], "weights": "ema" if averaged else "raw"}
