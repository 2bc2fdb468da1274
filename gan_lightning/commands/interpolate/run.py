"""Draw a walk through the latents, or pictures of it next to their nearest training images."""

from collections.abc import Sequence
from pathlib import Path

import torch
from jsonargparse import Namespace
from torch import Tensor

from gan_lightning.commands.common.classes import class_numbers
from gan_lightning.commands.common.conditions import condition_rows
from gan_lightning.commands.common.devices import find_device
from gan_lightning.commands.common.generators import load_sampler
from gan_lightning.commands.common.real_images import check_shape, find_data, make_measurement, real_images
from gan_lightning.errors import InputError
from gan_lightning.metrics.evaluator import choose
from gan_lightning.metrics.functional import nearest
from gan_lightning.pictures import grid, require_animation, write_animation, write_png

COMPARED = 8
"""Approximate number of pictures of a walk to show next to their neighbours."""
USUAL = 1000
"""Largest number of training images for the usual distance of an image to its nearest neighbour."""


def walk(config: Namespace, groups: Sequence[Sequence[str]]) -> None:
    """Draw the walk, write it, and print its path.

    Args:
        config: the flags; ``data`` becomes the data set itself.
        groups: the same flags as words, for the arguments of the data's class.
    """
    output = Path(config.output)
    if output.suffix != ".png":
        require_animation(output)
    device = find_device(config.accelerator)
    sampler = load_sampler(config.checkpoint, config, device)
    chosen: Sequence[int] | Tensor | None = None if config["class"] is None else class_numbers(sampler, config["class"])
    if config.condition is not None:
        chosen = condition_rows(sampler, config.condition)
    labels = chosen[0] if chosen is not None and len(chosen) == 1 else chosen
    images = sampler.interpolate(
        config.seeds, labels, config.frames, config.closed, config.truncation, config.batch_size
    )  # (legs * frames, C, H, W), and one more if the walk is open
    legs = len(images) // config.frames if config.closed else (len(images) - 1) // config.frames
    if config.neighbours:
        shown = _some(legs, config.frames, config.closed)
        picture, distances = _neighbours(config, groups, images[shown], shown / config.frames, device)
        write_png(picture, output)
        print(distances)
    elif output.suffix == ".png":
        steps = torch.arange(legs).unsqueeze(1) * config.frames + torch.arange(config.frames + 1)  # both ends in each row
        write_png(grid(images[steps.flatten() % len(images)], config.frames + 1), output)
    else:
        write_animation(images, output)
    print(f"  {legs} {'leg' if legs == 1 else 'legs'} of {config.frames} pictures: {output}")


def _some(legs: int, frames: int, closed: bool) -> Tensor:
    """Choose pictures of a walk to compare, indices int64: every point, and some evenly spaced in between."""
    each = min(frames, max(1, round(COMPARED / legs)))
    within = torch.arange(each) * frames // each
    shown = (torch.arange(legs).unsqueeze(1) * frames + within).flatten()
    return shown if closed else torch.cat([shown, torch.tensor([legs * frames])])


def _neighbours(
    config: Namespace, groups: Sequence[Sequence[str]], images: Tensor, places: Tensor, device: torch.device
) -> tuple[Tensor, str]:
    """Draw each image and its nearest training images, uint8 (3, height, width), and write a table of their distances.

    Args:
        config: the flags; ``data`` becomes the data set itself.
        groups: the same flags as words.
        images: uint8 (N, C, H, W).
        places: positions on the walk, (N,): 1.5 is midway between the second point and the third.
        device: device of the extractor.
    """
    config.data = find_data(config, groups, config.checkpoint)
    channels, height, width = images.shape[1:]
    real = real_images(config, (channels, height, width))
    check_shape(real, config.checkpoint, images.shape[1:])
    measurement = make_measurement(config, real, (channels, height, width), device, fields=["features"], photographs="imagenet")
    measurement.prepare()
    assert measurement.reference is not None
    assert measurement.reference.features is not None
    known, extractor, about = measurement.reference.features, measurement.extractor, measurement.about  # (M, D)
    if len(known) <= config.neighbours:
        raise InputError(f"--neighbours {config.neighbours}: there are only {len(known):,} real images. Use fewer")
    features = torch.cat([extractor(part)[0].cpu() for part in torch.split(images, config.batch_size)])  # (N, D)
    distances, indices = nearest(features, known, config.neighbours)
    usual = nearest(known[choose(len(known), USUAL)], known, 2)[0][:, 1].median()  # the first is the image itself
    picture = grid(torch.cat([images.unsqueeze(1), real.at(indices)], dim=1).flatten(0, 1), config.neighbours + 1)
    return picture, _distances_text(distances, places, float(usual), f"{about['real']}, {about['extractor']}")


def _distances_text(distances: Tensor, places: Tensor, usual: float, what: str) -> str:
    """Write the distances (N, K) from the pictures at ``places`` of a walk to their nearest training images as a table."""
    lines = [f"\n  distance to the nearest real images ({what})\n  {'point':>6}   nearest first"]
    for place, row in zip(places.tolist(), distances.tolist(), strict=True):
        lines.append(f"  {place + 1:6.2f}   " + "  ".join(f"{distance:8.4g}" for distance in row))
    lines.append(f"  {usual:.4g} is the usual (median) distance from a real image to the nearest other one.")
    lines.append("  A picture much nearer to a real image than that is a copy of it; one about as far or farther is not.\n")
    return "\n".join(lines)
