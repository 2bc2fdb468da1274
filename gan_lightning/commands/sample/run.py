"""Draw images and write them batch by batch."""

import math
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from torch import Tensor
from tqdm import tqdm

from gan_lightning.commands.common.classes import class_numbers
from gan_lightning.commands.common.conditions import condition_rows
from gan_lightning.commands.common.devices import find_device
from gan_lightning.commands.common.generators import load_sampler
from gan_lightning.commands.common.image_output import is_complete, prepare_folder, write_array
from gan_lightning.errors import InputError
from gan_lightning.files import fingerprint
from gan_lightning.images import class_columns
from gan_lightning.inference import Sampler
from gan_lightning.pictures import grid, write_png

DESCRIPTION = "sample.json"
"""File in a folder of samples with the settings of the drawing, so that an interrupted folder can be resumed."""
DIGITS = 6  # digits of a file's name; 50,000 images are usual


def draw(config: Namespace) -> None:
    """Draw the images, write them, and print their path."""
    sampler = load_sampler(config.checkpoint, config, find_device(config.accelerator))
    if config["class"] is not None:
        config["class"] = class_numbers(sampler, config["class"])
    labels, columns = _labels(sampler, config)
    config.columns = config.columns or columns
    writers = {".png": _write_grid, ".npz": _write_array}
    try:
        writers.get(Path(config.output).suffix, _write_folder)(config, sampler, labels)
    except OSError as error:
        raise InputError(f"--output {config.output} cannot be written ({error.strerror}): use another path") from error


def _labels(sampler: Sampler, config: Namespace) -> tuple[Tensor | None, int | None]:
    """Choose the label of every image, (num_images, ...), and the columns of a grid with one for each label.

    Both are None for an unconditional generator; the columns also if there are too many.
    """
    chosen: Tensor | None = None
    if config.condition is not None:
        chosen = condition_rows(sampler, config.condition)
    elif config["class"] is not None:
        chosen = sampler.labels(len(config["class"]), config["class"])
    if chosen is None:
        generator = sampler.generator
        return sampler.labels(config.num_images), class_columns(generator.num_classes if generator.conditional else 0)
    return chosen[torch.arange(config.num_images) % len(chosen)], class_columns(len(chosen))


def _batches(
    config: Namespace, sampler: Sampler, labels: Tensor | None, existing: Collection[int] = ()
) -> Iterator[tuple[list[int], Tensor]]:
    """Yield numbers and images uint8 (B, C, H, W) of the batches not yet on disk (``existing``), with a progress bar."""
    with tqdm(total=config.num_images, desc="Drawing", unit=" images", delay=1) as bar:
        for indices in torch.split(torch.arange(config.num_images), config.batch_size):
            numbers = indices.tolist()
            if not all(number in existing for number in numbers):
                own = None if labels is None else labels[indices]
                yield numbers, sampler.at(indices, own, config.seed, config.truncation).cpu()
            bar.update(len(numbers))


def _write_grid(config: Namespace, sampler: Sampler, labels: Tensor | None) -> None:
    images = torch.cat([images for _, images in _batches(config, sampler, labels)])
    write_png(grid(images, config.columns or math.ceil(math.sqrt(len(images)))), Path(config.output))
    print(f"  {len(images):,} images in a grid: {config.output}")


def _write_array(config: Namespace, sampler: Sampler, labels: Tensor | None) -> None:
    """Write an .npz batch by batch."""
    shape = (config.num_images, *sampler.generator.image_shape)
    write_array(Path(config.output), shape, (images for _, images in _batches(config, sampler, labels)))
    print(f"  {config.num_images:,} images, uint8 {shape}: numpy.load({config.output!r})['images']")


def _write_folder(config: Namespace, sampler: Sampler, labels: Tensor | None) -> None:
    """Write a PNG for each image; keep those of an interrupted earlier call."""
    folder = Path(config.output)
    prepare_folder(folder, DESCRIPTION, _description(config, sampler))
    numbers = range(config.num_images)
    existing = {number for number in numbers if is_complete(folder / _name(number))}
    for batch, images in _batches(config, sampler, labels, existing):  # the same batches as in a run without interruption
        for number, image in zip(batch, images, strict=True):
            if number not in existing:
                write_png(image, folder / _name(number), durable=False)
    earlier = len(existing)
    print(
        f"  {config.num_images:,} images as PNG"
        + (f", {earlier:,} of them from an earlier call" if earlier else "")
        + f": {folder}"
    )


def _name(number: int) -> str:
    return f"{number:0{DIGITS}d}.png"


def _description(config: Namespace, sampler: Sampler) -> dict[str, Any]:
    """List all that image number i depends on."""
    return {
        "weights_sha256": fingerprint(*sampler.generator.state_dict().values()),
        "seed": config.seed,
        "class": config["class"],
        **({} if config.condition is None else {"condition": config.condition}),
        "truncation": config.truncation,
        "batch_size": config.batch_size,
    }
