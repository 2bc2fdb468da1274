"""Latent of a given image, by optimisation (Zhu et al. 2016). The image may have a hole or a low resolution.

A trained generator draws images like its training data. A latent that fits the known part of an image therefore gives a
likely rest: inpainting (Yeh et al. 2017) and super-resolution (Menon et al. 2020).
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d
from torch.optim import Adam
from torch.optim.lr_scheduler import CosineAnnealingLR
from tqdm import tqdm

from gan_lightning.errors import InputError
from gan_lightning.inference import Labels, Sampler


@dataclass(frozen=True)
class Inversion:
    """Best fit to each of N targets.

    Attributes:
        latent: float32 (N, latent_dim).
        label: int64 (N,), or attributes float32 (N, K); None if the generator is unconditional.
        image: images that the generator draws for the latents, float32 (N, C, H, W), nominally in [-1, 1].
        loss: mean squared error over the known values of each target, (N,).
    """

    latent: Tensor
    label: Tensor | None
    image: Tensor
    loss: Tensor


def invert(
    sampler: Sampler,
    target: Tensor,
    mask: Tensor | None = None,
    downscale: int = 1,
    labels: Labels | None = None,
    restarts: int = 32,
    steps: int = 300,
    lr: float = 0.1,
    prior: float = 0.02,
    seed: int = 0,
    progress: bool = False,
) -> Inversion:
    """Find latents with the images that fit the targets best.

        minimise over z:  mean over known values of (downscaled G(z) - target)^2  +  prior * mean(z^2)

    The second term is the negative logarithm of the latents' normal density, up to scale. It keeps z in the region that the
    generator was trained on. Every target starts from ``restarts`` latents. Adam moves them in parallel, with a learning rate
    that falls along a cosine. The best one at the end is returned. With a conditional generator, every class gets equally many
    starts.

    Args:
        sampler: sampler of the generator.
        target: float (N, C, H / downscale, W / downscale), nominally in [-1, 1].
        mask: bool, (H, W) of the target or a shape that broadcasts against it: True for known pixels; None if all are known.
        downscale: pixels of the generator's image, in height and width, that are averaged to one pixel of the target.
        labels: class or attributes of all targets, or of each; None tries all classes of a conditional generator, but not all
            attributes.
        restarts: latents to start from, per target; raised to a multiple of the number of classes tried.
        steps: updates of each latent.
        lr: initial learning rate.
        prior: weight of the second term.
        seed: seed of the latents to start from.
        progress: draw a progress bar.

    Raises:
        InputError: a target does not fit the generator's images, a mask leaves nothing known, a number is out of range, or the
            generator does not have these labels.
    """
    generator = sampler.generator
    if labels is None and generator.conditional and generator.condition_dim:
        raise InputError("labels is None, but this generator has attributes, which are not searched: pass them")
    channels, height, width = generator.image_shape
    if restarts < 1 or steps < 1:
        raise InputError(f"restarts is {restarts} and steps is {steps}: use at least 1 for both")
    if not lr > 0:
        raise InputError(f"lr is {lr}: use a number above 0")
    if not prior >= 0:
        raise InputError(f"prior is {prior}: use at least 0")
    if downscale < 1 or height % downscale or width % downscale:
        raise InputError(f"downscale is {downscale}: use a divisor of the image's height and width, {height} and {width}")
    shape = channels, height // downscale, width // downscale
    if target.dim() != 4 or tuple(target.shape[1:]) != shape:
        raise InputError(f"target has shape {tuple(target.shape)}: use (N, {shape[0]}, {shape[1]}, {shape[2]})")
    known = torch.ones_like(target) if mask is None else mask.to(target).expand_as(target)
    if not bool(known.flatten(1).any(1).all()):
        raise InputError("mask hides every value of a target: leave some of them known")

    device = sampler.device
    classes = _classes(sampler, len(target), labels)  # (N, K), or (N, 1, attributes), or None
    tried = 1 if classes is None else classes.shape[1]
    starts = -(-restarts // tried) * tried  # per target
    own = None if classes is None else torch.cat([classes] * (starts // tried), 1).flatten(0, 1).to(device)  # (N * starts, ...)
    z = sampler.latents(torch.arange(len(target) * starts), seed).to(device).requires_grad_()
    target, known = (tensor.to(device).float().repeat_interleave(starts, 0) for tensor in (target, known))
    counts = known.flatten(1).sum(1)

    def errors(images: Tensor) -> Tensor:
        pooled = avg_pool2d(images, downscale) if downscale > 1 else images
        return ((pooled - target).square() * known).flatten(1).sum(1) / counts  # (N * starts,)

    optimizer = Adam([z], lr)
    schedule = CosineAnnealingLR(optimizer, steps)
    with torch.enable_grad():
        for _ in tqdm(range(steps), desc="Searching", unit=" steps", delay=1, disable=not progress, leave=False):
            loss = errors(generator(z, own)) + prior * z.square().mean(1)
            (z.grad,) = torch.autograd.grad(loss.sum(), [z])  # each latent has its own term of the sum
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        images = generator(z, own).float()
        found = errors(images)
        best = (found + prior * z.square().mean(1)).view(-1, starts).argmin(1)  # (N,)
    chosen = (torch.arange(len(best), device=device) * starts + best).cpu()
    parts = (z.detach(), images, found)
    latent, image, error = (part.cpu()[chosen] for part in parts)
    return Inversion(latent, None if own is None else own.cpu()[chosen], image, error)


def _classes(sampler: Sampler, count: int, labels: Labels | None) -> Tensor | None:
    """Labels to try for each target, (count, K) or (count, 1, attributes); None for an unconditional generator."""
    if labels is None and sampler.generator.conditional and not sampler.generator.condition_dim:
        return torch.arange(sampler.generator.num_classes).expand(count, -1)
    chosen = sampler.labels(count, labels)
    return None if chosen is None else chosen.unsqueeze(1)
