"""Measure one set of images against real ones, or the translations of a checkpoint."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from torch import Tensor

from gan_lightning.checkpoint import GAN
from gan_lightning.commands.common.devices import process_group
from gan_lightning.commands.common.generators import load_sampler, method_of
from gan_lightning.commands.common.measuring_flags import is_image_set
from gan_lightning.commands.common.outputs import require_writable
from gan_lightning.commands.common.real_images import check_shape, find_data, make_measurement, read_set, real_images
from gan_lightning.commands.common.records import timed, versions, write_record
from gan_lightning.commands.evaluate import translation
from gan_lightning.data.stored import sha256
from gan_lightning.errors import InputError
from gan_lightning.metrics.evaluator import Sample, choose
from gan_lightning.metrics.measurement import RealImages, ReferenceFile
from gan_lightning.metrics.table import METRICS, PAIR_METRICS
from gan_lightning.training.distributed import is_first_process, world_size


@dataclass(frozen=True)
class Source:
    """The images to measure, from a generator or a folder.

    Attributes:
        image_shape: (C, H, W).
        num_images: number of images.
        sample: maps the number of real images of each class (None if unknown) to the function that draws images by index.
        about: their origin, for the record.
        labels: True if the images depend on classes.
    """

    image_shape: tuple[int, int, int]
    num_images: int
    sample: Callable[[list[int] | None], Sample]
    about: dict[str, Any]
    labels: bool = False


def measure(config: Namespace, groups: Sequence[Sequence[str]]) -> None:
    """Measure, write the record and print a table.

    Args:
        config: the flags; ``data`` becomes the data set itself.
        groups: the same flags as words, for the arguments of the data's class.
    """
    method = GAN if is_image_set(Path(config.source)) else method_of(config.source)
    if method != GAN:
        translation.settle(config, groups)
    elif errors := [name for name in config.metrics if name in PAIR_METRICS]:
        raise InputError(f"--metrics {errors[0]} compares translations with targets, but {config.source} does not translate")
    if config.output is None and (output := _output(config)) is not None:
        require_writable(output)
    config.data = find_data(config, groups, config.source)
    with process_group(config.accelerator) as device:
        record = _measure(config, device) if method == GAN else translation.measure(config, device, method)
        if record is not None:
            if (output := _output(config)) is not None:
                write_record(output, record)  # before anything is printed: a console can fail
            (print_table if method == GAN else translation.print_table)(record)
            if output is not None:
                print(f"  record: {output}")


def _measure(config: Namespace, device: torch.device) -> dict[str, Any] | None:
    """Measure and return the record; None in all processes except the first."""
    seconds: dict[str, float] = {}
    with timed(seconds, "set_up"):
        source = _folder_source(config) if is_image_set(Path(config.source)) else _checkpoint_source(config, device)
        real = _real(config, source.image_shape)
        measurement = make_measurement(
            config, real, source.image_shape, device, metrics=config.metrics, num_images=source.num_images
        )
        measurement.print_estimate("samples")
    with timed(seconds, "reference"):
        measurement.prepare()
    with timed(seconds, "samples"):
        generated = measurement.collect(source.sample(measurement.class_counts))
    with timed(seconds, "metrics"):
        values = measurement.compute(generated)
    if not is_first_process():
        return None
    drawn = "all classes alike" if measurement.class_counts is None else "in proportion to the real ones"
    labels = {"labels": drawn} if source.labels else {}
    return {
        "metrics": values,
        "protocol": {
            **measurement.protocol(),
            **source.about,
            **labels,
            "batch_size": config.batch_size,
            "device": device.type,
            "processes": world_size(),
            "versions": versions(),
        },
        "seconds": {part: round(spent, 2) for part, spent in seconds.items()},
    }


def _real(config: Namespace, shape: tuple[int, int, int]) -> RealImages | ReferenceFile | None:
    """Read the images or statistics that the flags name; None if they name none and no metric compares with real images."""
    if config.reference:
        return ReferenceFile(config.reference)
    compares = any(METRICS[name].compares for name in config.metrics)
    if not compares and config.real is None and config.data is None:
        return None
    real = real_images(config, shape)
    check_shape(real, config.source, shape)
    return real


def _folder_source(config: Namespace) -> Source:
    def chosen(size: int) -> Tensor:
        count = size if config.num_images is None else config.num_images
        if not 0 < count <= size:
            raise InputError(f"num_images is {count}, but {config.source} has {size:,} images: use at most as many")
        return choose(size, count)  # files are often sorted by class

    images, counts = read_set(config, "source", chosen)
    about = {"source": config.source, "source_sha256": sha256(images), **counts}
    _, channels, height, width = images.shape
    return Source((channels, height, width), len(images), lambda _: images.__getitem__, about)


def _checkpoint_source(config: Namespace, device: torch.device) -> Source:
    sampler = load_sampler(config.source, config, device)
    channels, height, width = sampler.generator.image_shape
    origin = {name: sampler.origin[name] for name in ("checkpoint", "global_step", "weights")}
    about = {**origin, "seed": config.seed, "latents": "Philox, one stream an image"}
    has_attributes = bool(sampler.condition_names)
    about |= {"labels": "attributes of training images in turn"} if has_attributes else {}
    sample = functools.partial(sampler.by_index, seed=config.seed)
    has_classes = sampler.generator.conditional and not has_attributes
    return Source((channels, height, width), config.num_images, sample, about, has_classes)


def print_table(record: dict[str, Any]) -> None:
    """Print the values, with their spread if there is one, and the main facts of the protocol."""
    values = record["metrics"]
    print()
    for name, value in values.items():
        if not name.endswith("_std"):
            spread = f" ± {values[f'{name}_std']:.4g}" if f"{name}_std" in values else ""
            print(f"  {name:<28}{value:.6g}{spread}")
    about = record["protocol"]
    what = about.get("source") or f"{about.get('checkpoint')} ({about.get('weights')} weights, step {about.get('global_step')})"
    print(f"  {about['num_images']:,} images of {what}")
    if about.get("num_real"):
        split = "" if about.get("split") == "all" else f" ({about.get('split')} split)"
        print(f"  against {about['num_real']:,} of {about.get('real')}{split}")
    if "reference" in about:
        print(f"  reference: {about['reference']}")
    print(f"  extractor: {about['extractor']}, weights {about.get('weights_sha256', 'none')[:12]}")


def _output(config: Namespace) -> Path | None:
    """Return ``--output``, else a new file next to the checkpoint, or here if it has no path; None for a folder of images."""
    if config.output is not None:
        return Path(config.output)
    source = Path(config.source)
    source = source if source.name else source.absolute()
    if is_image_set(source):
        return None
    if not source.exists():  # a bundled generator, or one on the Hub
        source = Path(source.name)
    number, path = 0, source.with_name(f"{source.stem}_metrics.json")
    while path.exists():
        number += 1
        path = source.with_name(f"{source.stem}_metrics_{number}.json")
    return path
