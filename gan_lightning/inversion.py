"""The latent of a given image, by optimisation (Zhu et al. 2016): also of one with a hole, or of low resolution.

A trained generator draws the images it was trained on, so that the latent whose image fits what is known of one says what
the rest is likely to be: inpainting (Yeh et al. 2017) and super-resolution (Menon et al. 2020).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d
from torch.optim import Adam
from torch.optim.lr_scheduler import CosineAnnealingLR
from tqdm import tqdm

from gan_lightning.errors import InputError
from gan_lightning.inference import Sampler


@dataclass(frozen=True)
class Inversion:
    """The best fit to each of N targets.

    Attributes:
        latent: float32 (N, latent_dim).
        label: int64 (N,); None where the generator is unconditional.
        image: what the generator makes of them, float32 (N, C, H, W), nominally in [-1, 1].
        loss: the mean squared error over the known values of each target, (N,).
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
    labels: int | Sequence[int] | Tensor | None = None,
    restarts: int = 32,
    steps: int = 300,
    lr: float = 0.1,
    prior: float = 0.02,
    seed: int = 0,
    progress: bool = False,
) -> Inversion:
    """Find the latents whose images fit the targets best.

        minimise over z:  mean over known values of (downscaled G(z) - target)^2  +  prior * mean(z^2)

    The second term is the negative logarithm of the latents' normal density, up to scale: it keeps z where the generator
    has learned to draw. Every target has ``restarts`` latents, which Adam moves side by side, with a learning rate that falls
    along a cosine; the best one at the end is returned. A conditional generator is started in every class equally often.

    Args:
        sampler: of the generator.
        target: float (N, C, H / downscale, W / downscale), nominally in [-1, 1].
        mask: bool, (H, W) of the target or what broadcasts against it: True where it is known; None where it is everywhere.
        downscale: how many pixels of the generator's image, in height and width, are averaged to one of the target.
        labels: the class of all targets, or one each; None tries all of a conditional generator.
        restarts: latents to start from, for each target; raised to a multiple of the classes that are tried.
        steps: updates of each latent.
        lr: the first learning rate.
        prior: the weight of the second term.
        seed: of the latents to start from.
        progress: whether to draw a progress bar.

    Raises:
        InputError: a target that does not fit the generator's images, a mask under which nothing is known, a number out of
            range, or labels that the generator has not.
    """
    generator = sampler.generator
    channels, height, width = generator.image_shape
    if restarts < 1 or steps < 1 or not lr > 0 or not prior >= 0:
        raise InputError(
            f"restarts is {restarts}, steps {steps}, lr {lr} and prior {prior}: give at least 1, 1, more than 0 and at least 0"
        )
    if downscale < 1 or height % downscale or width % downscale:
        raise InputError(f"downscale is {downscale}: give a divisor of the image's height and width, {height} and {width}")
    shape = channels, height // downscale, width // downscale
    if target.dim() != 4 or tuple(target.shape[1:]) != shape:
        raise InputError(f"target is {tuple(target.shape)}: give (N, {shape[0]}, {shape[1]}, {shape[2]})")
    known = torch.ones_like(target) if mask is None else mask.to(target).expand_as(target)
    if not bool(known.flatten(1).any(1).all()):
        raise InputError("mask leaves no value of a target known: leave some")

    device = sampler.device
    classes = _classes(sampler, len(target), labels)  # (N, K) or None
    tried = 1 if classes is None else classes.shape[1]
    starts = -(-restarts // tried) * tried  # per target
    own = None if classes is None else classes.repeat(1, starts // tried).flatten().to(device)  # (N * starts,)
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
            (z.grad,) = torch.autograd.grad(loss.sum(), [z])  # a latent's loss is no other's
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


def _classes(sampler: Sampler, count: int, labels: int | Sequence[int] | Tensor | None) -> Tensor | None:
    """The classes to try for each target, int64 (count, K); None for an unconditional generator."""
    if labels is None and sampler.generator.conditional:
        return torch.arange(sampler.generator.num_classes).expand(count, -1)
    chosen = sampler.labels(count, labels)
    return None if chosen is None else chosen.unsqueeze(1)
