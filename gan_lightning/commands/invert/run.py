"""Find the latent of an image, and draw target, input and result."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import torch
from jsonargparse import Namespace
from torch import Tensor
from torch.nn.functional import avg_pool2d

from gan_lightning.commands.common.classes import class_numbers, class_text
from gan_lightning.commands.common.conditions import condition_rows
from gan_lightning.commands.common.devices import find_device
from gan_lightning.commands.common.generators import load_sampler
from gan_lightning.data.image_file import file_shape, read_file
from gan_lightning.errors import InputError
from gan_lightning.files import write_aside
from gan_lightning.images import to_float, to_uint8
from gan_lightning.inversion import Inversion, invert
from gan_lightning.pictures import enlarged, grid, write_png

GREY = 128  # grey level of a hole in the picture
TILE = 112  # least width of a column in pixels


@dataclass(frozen=True)
class Task:
    """An image, and the known part of it.

    Attributes:
        target: the image to fit, float (1, C, H / downscale, W / downscale) in [-1, 1].
        whole: the whole image, uint8 (1, C, H, W); None if only a small one was given.
        known: the known pixels, bool (1, 1, H, W); None if all are known.
        downscale: factor by which the target is smaller than the image; above 1 for super-resolution.
    """

    target: Tensor
    whole: Tensor | None
    known: Tensor | None = None
    downscale: int = 1


def search(config: Namespace) -> None:
    """Find the latent, draw the picture, and print the distance of the image from the target."""
    sampler = load_sampler(config.checkpoint, config, find_device(config.accelerator))
    channels, height, width = sampler.generator.image_shape
    task = _task(config, (channels, height, width))
    label: int | Tensor | None = None if config["class"] is None else class_numbers(sampler, config["class"], most=1)[0]
    if config.condition is not None:
        label = condition_rows(sampler, config.condition)[0]
    elif sampler.condition_names:
        raise InputError("this generator has attributes, and their search is not supported: pass them by --condition")
    effort = {"restarts": config.restarts, "steps": config.steps, "seed": config.seed}
    found = invert(sampler, task.target, task.known, task.downscale, label, **effort, progress=True)
    picture, columns = _picture(task, to_uint8(found.image))
    write_png(picture, Path(config.output))
    if config.save_latent is not None:
        _save(found, Path(config.save_latent))
        print(f"  latent: {config.save_latent}")
    if found.label is not None and label is None:
        print(f"  class: {class_text(int(found.label), sampler)}")
    _print_errors(task, found)
    print(f"  {', '.join(columns)}: {config.output}")


def _task(config: Namespace, shape: tuple[int, int, int]) -> Task:
    """Read the image and bring it to the generator's shape (C, H, W)."""
    path = Path(config.image)
    channels, height, width = shape
    if config.super_resolution is None:
        whole = read_file(path, shape, config.white).unsqueeze(0)
        return Task(to_float(whole), whole, _known(config, height, width))
    factor = config.super_resolution
    if height % factor or width % factor:
        raise InputError(
            f"--super_resolution {factor} does not divide the generator's {height}x{width} (height, width): use a divisor"
        )
    small = height // factor, width // factor
    if file_shape(path)[1:] == small:
        return Task(to_float(read_file(path, (channels, *small), config.white).unsqueeze(0)), None, downscale=factor)
    whole = read_file(path, shape, config.white).unsqueeze(0)
    return Task(avg_pool2d(to_float(whole), factor), whole, downscale=factor)


def _known(config: Namespace, height: int, width: int) -> Tensor | None:
    """Read the known pixels, bool (1, 1, H, W), from ``--mask`` or ``--hole``; None if all are known."""
    if config.mask is not None:
        known = read_file(Path(config.mask), (1, height, width)).unsqueeze(0) < 128
        flag = f"--mask {config.mask}"
    elif config.hole is not None:
        top, left, tall, wide = config.hole
        known = torch.ones(1, 1, height, width, dtype=torch.bool)
        known[..., top : top + tall, left : left + wide] = False
        flag = f"--hole {','.join(map(str, config.hole))}"
    else:
        return None
    if bool(known.all()) or not bool(known.any()):
        share = "none" if bool(known.all()) else "all"
        raise InputError(f"{flag} covers {share} of the {height}x{width} pixels (height, width): cover a part of them")
    return known


def _picture(task: Task, image: Tensor) -> tuple[Tensor, list[str]]:
    """Draw the columns side by side, uint8 (3, height, width), and name them; ``image`` is the generator's image, uint8."""
    columns = {} if task.whole is None else {"target": task.whole}
    if task.downscale > 1:
        rows = to_uint8(task.target).repeat_interleave(task.downscale, 2)
        columns["low resolution"] = rows.repeat_interleave(task.downscale, 3)
    elif task.known is not None:
        columns["known part"] = columns["target"].where(task.known, torch.tensor(GREY, dtype=torch.uint8))
    columns["the generator's closest"] = image
    if task.known is not None:
        columns["inpainted"] = columns["target"].where(task.known, image)
    return grid(enlarged(torch.cat(list(columns.values())), TILE), len(columns)), list(columns)


def _print_errors(task: Task, found: Inversion) -> None:
    """Print the error of the generator's image in grey levels: on the known part and, if possible, on the unknown one."""
    where = " at low resolution" if task.downscale > 1 else "" if task.known is None else " on the known part"
    print(f"  error (RMSE): {127.5 * float(found.loss) ** 0.5:.1f} grey levels{where}")
    if task.whole is not None and where:
        squares = (found.image - to_float(task.whole)).square()
        unseen = squares if task.known is None else squares[~task.known.expand_as(squares)]
        unused = "at full resolution" if task.known is None else "in the hole"
        print(f"  error (RMSE): {127.5 * float(unseen.mean()) ** 0.5:.1f} grey levels {unused}, not used in the search")


def _save(found: Inversion, path: Path) -> None:
    """Save the latent (latent_dim,), and the label if there is one, as numpy arrays."""
    arrays: dict[str, Any] = {"latent": found.latent[0].numpy()}
    if found.label is not None:
        arrays["label"] = found.label[0].numpy()
    with write_aside(path) as aside, aside.open("wb") as file:
        numpy.savez(file, **arrays)
