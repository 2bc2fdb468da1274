"""Differentiable augmentation of all that the discriminator sees, real and generated images alike.

It lets a discriminator train on few images without memorising them. The generator's gradient flows through it, and so do the
gradients of gradients that penalties need. The generator does not learn to draw augmented images as long as an augmentation
leaves some images unchanged, or its effect can be undone on average (Karras et al. 2020, ADA, section 2.2).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from gan_lightning.errors import InputError
from gan_lightning.training import distributed
from gan_lightning.training.randomness import draw


class Augmentation(nn.Module, ABC):
    """Changes images (B, C, H, W) at random, independently of each other. A module, so that checkpoints save its state.

    Attributes:
        strength: factor on the probabilities, a scalar tensor; ``Schedules`` sets it.
    """

    strength: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("strength", torch.ones(()), persistent=False)

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Augment images (B, C, H, W), nominally in [-1, 1]. The result has the same shape and range."""

    def pairs(self, images: Tensor, sources: Tensor) -> tuple[Tensor, Tensor]:
        """Augment images (B, C, H, W) and their sources (B, C', H, W): both change places together, and images change colours.

        Raises:
            InputError: this class does not augment pairs.
        """
        raise InputError(f"{type(self).__name__} does not augment images together with their sources: use DiffAugment or none")

    def observe(self, real_logits: Tensor) -> None:
        """Adapt to the discriminator's logits (B, ...) for augmented real images. Called at each of its updates."""


# Each transform changes an image with a probability, and one of several parts decides for each part by itself, as in ADA.

Probability = float | Tensor


def color(images: Tensor, probability: Probability = 1.0) -> Tensor:
    """Change brightness by up to +-0.5, saturation 0 to 2 times and contrast 0.5 to 1.5 times (Zhao et al. 2020).

    The fourth of four channels is opacity, and stays as it is.
    """
    if images.shape[1] == 4:
        return torch.cat([color(images[:, :3], probability), images[:, 3:]], dim=1)
    wide = images.to(torch.promote_types(images.dtype, torch.float32))
    wide = _choose(probability, wide + _uniform(images, -0.5, 0.5), wide)
    grey = wide.mean(dim=1, keepdim=True)  # (B, 1, H, W); the image itself if it is grey-scale
    wide = _choose(probability, grey + _uniform(images, 0.0, 2.0) * (wide - grey), wide)
    mean = wide.mean(dim=(1, 2, 3), keepdim=True)
    return _choose(probability, mean + _uniform(images, 0.5, 1.5) * (wide - mean), wide).to(images.dtype)


def translation(images: Tensor, probability: Probability = 1.0) -> Tensor:
    """Shift by whole pixels, up to about an eighth of the size each way. Zeros fill the gap (Zhao et al. 2020)."""
    count, _, height, width = images.shape
    most_down, most_across = int(height / 8 + 0.5), int(width / 8 + 0.5)
    down = draw(_integers(2 * most_down + 1), count, 1, 1, device=images.device)
    across = draw(_integers(2 * most_across + 1), count, 1, 1, device=images.device)
    rows = torch.arange(height, device=images.device)[:, None] + down  # (B, H, 1), in the padded image
    columns = torch.arange(width, device=images.device) + across  # (B, 1, W)
    padded = pad(images, (most_across, most_across, most_down, most_down))
    index = torch.arange(count, device=images.device)[:, None, None]
    shifted = padded.permute(0, 2, 3, 1)[index, rows, columns].permute(0, 3, 1, 2)  # (B, C, H, W)
    return _choose(probability, shifted, images)


def cutout(images: Tensor, probability: Probability = 1.0) -> Tensor:
    """Set a square of half the size, with its centre anywhere, to zero (Zhao et al. 2020)."""
    count, _, height, width = images.shape
    rows, columns = (torch.arange(size, device=images.device) for size in (height, width))
    top, left = (
        draw(_integers(size + 1 - half % 2), count, 1, device=images.device) - half // 2
        for size, half in ((height, height // 2), (width, width // 2))
    )
    in_rows = (rows >= top) & (rows < top + height // 2)  # (B, H)
    in_columns = (columns >= left) & (columns < left + width // 2)  # (B, W)
    inside = in_rows[:, None, :, None] & in_columns[:, None, None, :]  # (B, 1, H, W)
    return _choose(probability, images * ~inside, images)


def flip(images: Tensor, probability: Probability = 1.0) -> Tensor:
    """Flip each image left to right with half the probability."""
    return _choose(probability * 0.5, images.flip(3), images)


def rotate90(images: Tensor, probability: Probability = 1.0) -> Tensor:
    """Rotate by 0, 90, 180 or 270 degrees; images that are not square by 0 or 180."""
    rotated = _choose(0.5, images.flip((2, 3)), images)
    if images.shape[2] == images.shape[3]:
        rotated = _choose(0.5, rotated.rot90(1, (2, 3)), rotated)
    return _choose(probability, rotated, images)


def geometry(images: Tensor, probability: Probability = 1.0) -> Tensor:
    """Scale, rotate by any angle, stretch and shift at once, with ADA's distributions (Karras et al. 2020, appendix B).

    The scale is 2^s with s normal of standard deviation 0.2, and so is the stretch. The angle is uniform. The shift is normal
    with a standard deviation of an eighth of the size. Interpolation is bilinear, without the paper's wavelet filters. The
    edge is mirrored.
    """
    affine = _affine(len(images), images.device, probability)
    unchanged = (affine == torch.eye(2, 3, device=images.device)).all(dim=(1, 2))[:, None, None, None]  # (B, 1, 1, 1)
    matrix = affine[:, :, :, None, None]  # (B, 2, 3, 1, 1)
    y, x = (((2 * torch.arange(size, device=images.device) + 1) / size - 1) for size in images.shape[2:])
    columns, rows = (matrix[:, :, 0] * x + matrix[:, :, 1] * y[:, None] + matrix[:, :, 2]).unbind(1)  # (B, H, W) each
    moved = _bilinear(images.to(torch.promote_types(images.dtype, x.dtype)), columns, rows).to(images.dtype)
    return torch.where(unchanged, images, moved)


def _affine(count: int, device: torch.device, probability: Probability) -> Tensor:
    """Draw matrices (B, 2, 3) that map a point (x, y, 1) of the result to a point of the image. The edges are at -1 and 1."""
    scaled, rotated, stretched, shifted = draw(torch.rand, 4, count, dim=1, device=device) < probability
    angle = (draw(torch.rand, count, device=device) * 2 - 1) * math.pi * rotated
    scale, stretch, across, down = draw(torch.randn, 4, count, dim=1, device=device)
    scale, stretch, across, down = scale * scaled, stretch * stretched, across * shifted, down * shifted
    exponent = 0.2 * math.log(2)  # exp, because CUDA compiles exp2 at its first use
    wide, tall = (exponent * (scale + stretch)).exp(), (exponent * (scale - stretch)).exp()
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([wide * cos, -wide * sin, across / 4, tall * sin, tall * cos, down / 4], dim=1).view(count, 2, 3)


Transform = Literal["color", "translation", "cutout", "flip", "rotate90", "geometry"]
TRANSFORMS: dict[Transform, Callable[[Tensor, Probability], Tensor]] = {
    "color": color,
    "translation": translation,
    "cutout": cutout,
    "flip": flip,
    "rotate90": rotate90,
    "geometry": geometry,
}


class DiffAugment(Augmentation):
    """Transforms in sequence, each applied to all images (Zhao et al. 2020) or to a random part of them (Karras et al. 2020).

    Args:
        transforms: one or several of color, translation, cutout (the paper's), flip, rotate90 and geometry.
        probability: probability of each transform for each image, in (0, 1]. Below about 0.8 samples show no trace of it.
            Brightness, saturation and contrast (color), scale, rotation, stretch and shift (geometry) are drawn separately.

    Raises:
        InputError: there is no transform, or the probability is out of range.
    """

    def __init__(self, transforms: Sequence[Transform] = ("color", "translation", "cutout"), probability: float = 1.0) -> None:
        super().__init__()
        if not transforms:
            raise InputError(f"transforms is empty: use one or more of {', '.join(TRANSFORMS)}")
        if unknown := set(transforms) - TRANSFORMS.keys():
            raise InputError(f"transforms has {', '.join(sorted(unknown))}: use only {', '.join(TRANSFORMS)}")
        if not 0 < probability <= 1:
            raise InputError(f"probability is {probability}: use a number above 0 and at most 1")
        self.transforms = list(transforms)
        self.probability: float | Tensor = probability

    def forward(self, images: Tensor) -> Tensor:
        return self._transform(images, images.shape[1])

    def pairs(self, images: Tensor, sources: Tensor) -> tuple[Tensor, Tensor]:
        channels = images.shape[1]
        joint = self._transform(torch.cat([images, sources], dim=1), channels)
        return joint[:, :channels], joint[:, channels:]

    def _transform(self, images: Tensor, coloured: int) -> Tensor:
        """Transform images. Only the first ``coloured`` channels change colours."""
        probability = self.probability * self.strength
        for name in self.transforms:
            if name == "color" and coloured < images.shape[1]:
                images = torch.cat([color(images[:, :coloured], probability), images[:, coloured:]], dim=1)
            else:
                images = TRANSFORMS[name](images, probability)
        return images


class AdaptiveAugment(DiffAugment):
    """As much augmentation as the discriminator needs not to overfit (ADA, Karras et al. 2020, section 3).

    The mean sign of all logits of augmented real images is 1 if the discriminator is sure of all of them, and 0 if it is
    guessing. The probability of the transforms rises while this mean is above ``target`` and falls otherwise. This needs a loss
    that gives a logit of zero a meaning. The relativistic losses do not: they leave a common offset of the logits free.

    Args:
        transforms: one or several of color, translation, cutout, flip, rotate90 and geometry.
        target: target of the mean sign, between 0 and 1.
        images: real images seen by the discriminator in which the probability could go from 0 to 1.
        every: discriminator updates from one adaptation to the next.

    Raises:
        InputError: a number is out of range.
    """

    probability: Tensor
    signs: Tensor

    def __init__(
        self,
        transforms: Sequence[Transform] = ("rotate90", "flip", "geometry", "color"),
        target: float = 0.6,
        images: int = 500_000,
        every: int = 4,
    ) -> None:
        super().__init__(transforms)
        if not 0 < target < 1:
            raise InputError(f"target is {target}: use a number between 0 and 1")
        if images < 1 or every < 1:
            raise InputError(f"images is {images} and every is {every}: use at least 1 for both")
        self.target, self.images, self.every = target, images, every
        del self.probability
        self.register_buffer("probability", torch.tensor(0.0))
        self.register_buffer("signs", torch.zeros(3))  # sum of signs, images, updates since the last adaptation

    @torch.no_grad()
    def observe(self, real_logits: Tensor) -> None:
        images_per_logit = len(real_logits) / real_logits.numel()
        self.signs[0] += distributed.mean(real_logits.float().sign().sum() * images_per_logit) * distributed.world_size()
        self.signs[1] += len(real_logits) * distributed.world_size()
        self.signs[2] += 1
        total, seen, updates = self.signs
        step = (total / seen - self.target).sign() * seen / self.images
        due = updates >= self.every  # on the device: nothing waits for it
        self.probability.copy_(torch.where(due, (self.probability + step).clamp(0, 1), self.probability))
        self.signs.copy_(torch.where(due, 0, self.signs))


def _bilinear(images: Tensor, columns: Tensor, rows: Tensor) -> Tensor:
    """Sample images (B, C, H, W) at points (B, H, W). The edges are at -1 and 1; beyond them images are mirrored.

    This replaces torch's grid_sample, because penalties need a second derivative: grid_sample has none before torch 2.15.
    """
    sides = []
    for places, size in ((columns, images.shape[3]), (rows, images.shape[2])):
        pixel = ((places + 1) * size / 2).remainder(2 * size)  # 0 is the edge of the first pixel
        pixel = torch.minimum(pixel, 2 * size - pixel) - 0.5  # 0 is its middle
        before = pixel.floor()
        share = pixel - before
        first, second = (index.clamp(0, size - 1).long() for index in (before, before + 1))
        sides.append(((first, 1 - share), (second, share)))
    flat, result = images.flatten(2), torch.zeros_like(images)
    for column, across in sides[0]:
        for row, down in sides[1]:
            index = (row * images.shape[3] + column).flatten(1)[:, None].expand(-1, images.shape[1], -1)
            result = result + (across * down)[:, None] * flat.gather(2, index).view_as(images)
    return result


def _choose(probability: Probability, changed: Tensor, images: Tensor) -> Tensor:
    """Choose each image (C, H, W) from ``changed`` with a probability, else from ``images``; both are (B, C, H, W)."""
    return torch.where(_uniform(images, 0.0, 1.0) < probability, changed, images)


def _uniform(images: Tensor, low: float, high: float) -> Tensor:
    """Draw one number per image, (B, 1, 1, 1), uniform in [low, high). At least float32: bfloat16 would be 0 too often."""
    dtype = torch.promote_types(images.dtype, torch.float32)
    return draw(torch.rand, len(images), 1, 1, 1, dtype=dtype, device=images.device) * (high - low) + low


def _integers(count: int) -> Callable[..., Tensor]:
    """Return a function like torch.rand that draws from the integers 0 to ``count`` - 1."""
    return lambda *shape, **options: torch.randint(0, count, shape, **options)
