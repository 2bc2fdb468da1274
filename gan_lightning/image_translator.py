"""Translation of images by a trained generator."""

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

import torch
from huggingface_hub import ModelCard
from torch import Tensor

from gan_lightning.errors import InputError
from gan_lightning.exported import NO_SOURCES
from gan_lightning.images import size_text, to_float, to_uint8, with_channels, with_hole
from gan_lightning.networks.base import Translator
from gan_lightning.trained import TrainedModel
from gan_lightning.training.devices import to_device
from gan_lightning.translation_card import translation_card

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing from Python 3.11

Direction = Literal["AtoB", "BtoA"]
"""From sources to targets, or back."""
NETWORKS: dict[Direction, str] = {"AtoB": "generator", "BtoA": "inverse_generator"}
OVERLAP = 32
"""Pixels that neighbouring tiles share by default."""


class ImageTranslator(TrainedModel):
    """A trained translation from image to image. ``save_pretrained``, ``push_to_hub`` and ``from_pretrained`` are
    huggingface_hub's.

    Args:
        generator: network from sources to targets; the translator puts it in eval mode and turns off its gradients.
        inverse_generator: network from targets back to sources, which only CycleGAN has.
        origin: source of the generators, for records: checkpoint, global_step, weights (``ema`` or ``raw``), and sources (see
            :data:`gan_lightning.checkpoint.KEY`). An exported folder adds its recipe and metrics.
    """

    kind = Translator
    work = "translates images", "translate.py"

    def __init__(
        self, generator: Translator, inverse_generator: Translator | None = None, origin: dict[str, Any] | None = None
    ) -> None:
        inverse = {} if inverse_generator is None else {"inverse_generator": inverse_generator}
        super().__init__({"generator": generator, **inverse}, origin)
        self.generator, self.inverse_generator = generator, inverse_generator

    @classmethod
    def of(cls, networks: Mapping[str, Any], origin: dict[str, Any]) -> "Self":
        about = {name: value for name, value in origin.items() if name not in ("class_names", "condition_names", "conditions")}
        return cls(networks["generator"], networks.get("inverse_generator"), about)

    @torch.inference_mode()
    def translate(
        self,
        images: Tensor,
        mask: Tensor | None = None,
        direction: Direction | None = None,
        batch_size: int = 64,
        tile: int | None = None,
        overlap: int = OVERLAP,
    ) -> Tensor:
        """Translate images of any size, uint8 (N, C', h, w), to uint8 (N, C, factor h, factor w), on the CPU.

        Images with other channels than the sources of training are converted (see
        :func:`gan_lightning.images.with_channels`): a model that colours grey images also takes colour ones.

        A model that fills in holes needs a mask. Pixels outside it are kept. Without ``mask``, the last channel of ``images``
        is the mask, as in the sources of training, and all pixels are the generator's.

        Args:
            images: the images.
            mask: missing pixels, bool or uint8 (N, 1, h, w) or (1, 1, h, w); uint8 is missing from 128 on.
            direction: ``AtoB`` from sources to targets, ``BtoA`` back, which needs CycleGAN; None is the first.
            batch_size: number of images that are translated at once.
            tile: side of the tiles in which large images are translated, in pixels of the source; None translates them whole.
            overlap: pixels that neighbouring tiles share (see :func:`in_tiles`).

        Raises:
            InputError: the images are not uint8 (N, C', h, w), the mask is missing, unused or does not fit, the direction does
                not exist, or a number is out of range.
        """
        if images.dtype != torch.uint8 or images.dim() != 4 or not images.numel():
            raise InputError(
                f"images are {str(images.dtype).removeprefix('torch.')} {tuple(images.shape)}: use uint8 (N, C, height, width)"
            )
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}: use at least 1")
        network = self.network(direction)
        require_tiles(tile, overlap, network.multiple)
        images = images.cpu()
        masks = None if mask is None else self._fitting(mask.cpu(), images, network)
        parts = torch.split(torch.arange(len(images)), batch_size)
        return torch.cat(
            [self._translated(network, images[p], None if masks is None else masks[p], tile, overlap) for p in parts]
        )

    def _translated(self, network: Translator, images: Tensor, mask: Tensor | None, tile: int | None, overlap: int) -> Tensor:
        """Translate one batch."""
        channels = network.source_shape[0]
        if mask is not None:
            images = with_channels(images, channels - 1)
            sources = with_hole(images, mask)
        elif self.needs_mask and network is self.generator and images.shape[1] != channels:
            raise InputError(
                "this model fills in holes, but there is no mask: add the mask of the missing pixels, in Python "
                "translate(images, mask)"
            )
        else:
            sources = with_channels(images, channels)
        outputs = in_tiles(network, sources, tile, overlap, self.device)
        return outputs if mask is None or outputs.shape != images.shape else torch.where(mask, outputs, images)

    def _fitting(self, mask: Tensor, images: Tensor, network: Translator) -> Tensor:
        """Check a mask, and bring it to bool (N, 1, h, w)."""
        if not self.needs_mask or network is not self.generator:
            raise InputError("the mask is not used, because this translation was trained without masks: remove it")
        if mask.dtype not in (torch.bool, torch.uint8) or mask.dim() != 4 or mask.shape[0] not in (1, len(images)):
            kind = str(mask.dtype).removeprefix("torch.")
            raise InputError(f"the mask is {kind} {tuple(mask.shape)}: use bool or uint8 ({len(images)}, 1, height, width)")
        if mask.shape[1:] != (1, *images.shape[2:]):
            theirs, mine = (size_text(each.shape[2:]) for each in (mask, images))
            raise InputError(f"the mask is {theirs} and the image {mine} (height x width): use a mask of the image's size")
        missing = mask if mask.dtype == torch.bool else mask >= 128
        return missing.expand(len(images), -1, -1, -1)

    def network(self, direction: Direction | None = None) -> Translator:
        """The generator of a direction.

        Raises:
            InputError: this model does not have it.
        """
        if direction not in (None, *NETWORKS):
            raise InputError(f"direction is {direction}: use AtoB or BtoA")
        if direction is not None and self.inverse_generator is None:
            raise InputError(
                f"direction is {direction}, but this model was trained from source to target only: use it without a direction"
            )
        found = self.networks[NETWORKS[direction or "AtoB"]]
        assert isinstance(found, Translator)
        return found

    @property
    def needs_mask(self) -> bool:
        """True if the model fills in holes, so that it needs a mask of the missing pixels."""
        return bool(self.origin.get("sources", NO_SOURCES)["mask"])

    @property
    def degradation(self) -> dict[str, Any] | None:
        """Class path and arguments of the function that made the sources of training from targets; None if there was none."""
        found: dict[str, Any] | None = self.origin.get("sources", NO_SOURCES)["degradation"]
        return found

    def _facts(self) -> dict[str, Any]:
        return {"source_shape": list(self.generator.source_shape), "sources": self.origin.get("sources", NO_SOURCES)}

    def generate_model_card(
        self, formats: Collection[str] = ("safetensors",), dtype: str = "float32", picture: bool = True
    ) -> ModelCard:
        return ModelCard(translation_card(self.config(dtype), formats))


def require_tiles(tile: int | None, overlap: int, multiple: int = 1) -> None:
    """Check the sides of tiles.

    Args:
        tile: side of a tile; None is no tiles.
        overlap: pixels that neighbouring tiles share.
        multiple: tiles begin at multiples of this.

    Raises:
        InputError: the overlap is negative, or the tiles are too small for it.
    """
    if overlap < 0:
        raise InputError(f"overlap is {overlap}: use at least 0")
    if tile is not None and tile < overlap + multiple:
        steps = f", because this network's tiles begin at multiples of {multiple}" if multiple > 1 else ""
        raise InputError(
            f"tile is {tile} and overlap {overlap}: use tiles of at least {overlap + multiple} pixels{steps}, or a smaller "
            "overlap"
        )


def in_tiles(network: Translator, sources: Tensor, tile: int | None, overlap: int, device: torch.device) -> Tensor:
    """Translate sources in overlapping tiles, and blend them.

    In an overlap, the outer quarter of each tile counts nothing, and over the middle half its weight falls linearly. A network
    of convolutions alone whose receptive field reaches no further than a quarter of the overlap from a pixel thus gives the
    same as for whole images. A norm over the whole image, such as instance norm, makes tiles differ slightly.

    Args:
        network: the generator.
        sources: uint8 (B, C', h, w).
        tile: side of a tile in pixels of the source; None translates whole images.
        overlap: pixels that neighbouring tiles share at least.
        device: device of the network.

    Returns:
        uint8 (B, C, factor h, factor w), on the CPU.
    """
    if tile is None or tile >= max(sources.shape[2:]):
        return to_uint8(network.translate(to_float(to_device(sources, device)))).cpu()
    height, width = sources.shape[2:]
    factor = network.factor
    shape = (len(sources), network.image_shape[0], factor * height, factor * width)
    total, weights = torch.zeros(shape), torch.zeros(shape[2:])
    for top, bottom, rows in _spans(height, tile, overlap, network.multiple, factor):
        for left, right, columns in _spans(width, tile, overlap, network.multiple, factor):
            part = to_device(sources[:, :, top:bottom, left:right], device)
            weight = rows.unsqueeze(1) * columns  # (factor tile, factor tile)
            place = (..., slice(factor * top, factor * bottom), slice(factor * left, factor * right))
            total[place] += weight * network.translate(to_float(part)).float().cpu()
            weights[place] += weight
    return to_uint8(total / weights)


def _spans(side: int, tile: int, overlap: int, multiple: int, factor: int) -> Iterator[tuple[int, int, Tensor]]:
    """Begin and end of the tiles along a side, and the weights (factor * length,) of their pixels."""
    last = max(0, -(-(side - tile) // multiple) * multiple)
    step = (tile - overlap) // multiple * multiple
    for begin in [*range(0, last, step), last]:
        end = min(begin + tile, side)
        length = factor * (end - begin)
        weights = torch.ones(length)
        if overlap:
            wide = factor * overlap
            rising = ((torch.arange(length) + 0.5 - wide / 4) / (wide / 2)).clamp(0, 1)
            weights *= rising if begin else 1
            weights *= rising.flip(0) if end < side else 1
        yield begin, end, weights
