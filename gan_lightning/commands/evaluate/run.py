"""Measure one set of images against real ones."""

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace

from gan_lightning.commands.common.devices import process_group
from gan_lightning.commands.common.generators import load_sampler
from gan_lightning.commands.common.measuring_flags import is_image_folder
from gan_lightning.commands.common.outputs import require_writable
from gan_lightning.commands.common.real_images import (
    check_shape,
    data_of_the_run,
    extractor_name,
    folder_shape,
    make_data,
    real_images,
    resized,
)
from gan_lightning.commands.common.records import versions, write_record
from gan_lightning.data import ImageDataModule
from gan_lightning.data.folder import read_folder
from gan_lightning.errors import InputError
from gan_lightning.files import file_sha256, fingerprint
from gan_lightning.inference import locate
from gan_lightning.measure import make_extractor, reference, say_estimate
from gan_lightning.metrics.evaluator import (
    Sample,
    check_extractor,
    choose,
    collect,
    compute,
    protocol,
)
from gan_lightning.metrics.features import Extractor
from gan_lightning.metrics.request import NEED_REAL_FEATURES, NEED_REFERENCE, check_request
from gan_lightning.metrics.statistics import Statistics, read_npz
from gan_lightning.training.distributed import is_first_process, on_first_process, world_size


@dataclass(frozen=True)
class Source:
    """The images to measure, from a generator or a folder.

    Attributes:
        image_shape: (C, H, W).
        num_images: number of images.
        sample: maps the number of real images of each class (None if unknown) to the function that draws images by index.
        about: their origin, for the record.
        labels: True if the images depend on labels.
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
    if config.output is None and (output := _output(config)) is not None:
        require_writable(output)
    config.data = _data(config, groups)
    with process_group(config.accelerator) as device:
        record = _measure(config, device)
        if record is not None:
            if (output := _output(config)) is not None:
                write_record(output, record)  # before anything is printed: a console can fail
            print_table(record)
            if output is not None:
                print(f"  record: {output}")


def _measure(config: Namespace, device: torch.device) -> dict[str, Any] | None:
    """Measure and return the record; None in all processes except the first."""
    first, metrics = is_first_process(), config.metrics
    keep_features = bool(NEED_REAL_FEATURES & set(metrics))
    seconds: dict[str, float] = {}
    with _timed(seconds, "set_up"):
        source = _folder_source(config) if is_image_folder(Path(config.source)) else _checkpoint_source(config, device)
        npz = read_npz(Path(config.reference)) if config.reference else None
        real = None if npz else real_images(config, source.image_shape, bool(NEED_REFERENCE & set(metrics)))
        if real is not None:
            check_shape(real, config.source, source.image_shape)
        num_real = npz[0].count if npz else None if real is None else len(real.images)
        check_request(metrics, source.num_images, num_real, real_features=npz is None)
        extractor = make_extractor(extractor_name(config), config.data, config.inception_weights, device, progress=first)
        num_features = check_extractor(extractor, metrics, source.image_shape)
        if npz:
            _check_reference(config.reference, *npz, extractor, source.image_shape, num_features)
        if first:
            say_estimate(extractor, source.image_shape, source.num_images, "samples")
    statistics: Statistics | None = None
    about: dict[str, Any] = {}
    counts: list[int] | None = None
    with _timed(seconds, "reference"):
        if npz:
            counts = npz[1].pop("class_counts", None)
            about = {**npz[1], "reference": config.reference, "reference_sha256": file_sha256(Path(config.reference))}
            statistics, about["num_real"] = npz[0], npz[0].count
        elif real is not None:
            counts = real.class_counts()
            about = real.about
            if NEED_REFERENCE & set(metrics):
                statistics, about = reference(real, extractor, keep_features, config.batch_size, first)
    with _timed(seconds, "samples"):
        sample, bar = source.sample(counts), "Measuring samples" if first else None
        generated = collect(sample, extractor, source.num_images, config.batch_size, keep_features, bar)
    with _timed(seconds, "metrics"):
        values = on_first_process(lambda: compute(generated, statistics, extractor.prefix, metrics))
    if not first:
        return None
    drawn = "all classes alike" if counts is None else "in proportion to the real ones"
    labels = {"labels": drawn} if source.labels else {}
    return {
        "metrics": values,
        "protocol": {
            **about,
            **source.about,
            **labels,
            "num_images": source.num_images,
            "image_shape": list(source.image_shape),
            **extractor.protocol(),
            "constants": protocol(metrics, source.num_images, num_real),
            "batch_size": config.batch_size,
            "device": device.type,
            "processes": world_size(),
            "versions": versions(),
        },
        "seconds": {part: round(spent, 2) for part, spent in seconds.items()},
    }


@contextmanager
def _timed(seconds: dict[str, float], part: str) -> Iterator[None]:
    begun = time.perf_counter()
    yield
    seconds[part] = time.perf_counter() - begun


def _data(config: Namespace, groups: Sequence[Sequence[str]]) -> ImageDataModule | None:
    """Make the data set that the flags name, else that of the checkpoint's run."""
    named = config.data is not None or config.real is not None
    settings = None if named else data_of_the_run(locate(config.source), config.trust)
    if settings is None:
        return make_data(groups)
    try:
        return make_data(groups, settings)
    except InputError:
        if config.reference is None:
            raise
        return None  # the statistics replace the data; they may be missing


def _folder_source(config: Namespace) -> Source:
    shape = folder_shape(config.source, config.image_size)
    images = read_folder(Path(config.source), shape)
    count = len(images) if config.num_images is None else config.num_images
    if not 0 < count <= len(images):
        raise InputError(f"num_images is {count}: {config.source} has {len(images):,} images")
    images = images[choose(len(images), count)]  # files are often sorted by class
    about = {"source": config.source, "source_sha256": fingerprint(images), **resized("source", config.source, shape)}
    return Source(shape, count, lambda _: lambda indices: images[indices], about)


def _checkpoint_source(config: Namespace, device: torch.device) -> Source:
    sampler = load_sampler(config.source, config, device)
    channels, height, width = sampler.generator.image_shape
    origin = {name: sampler.origin[name] for name in ("checkpoint", "global_step", "weights")}
    about = {**origin, "seed": config.seed, "latents": "Philox, one stream an image"}
    sample = functools.partial(sampler.by_index, seed=config.seed)
    return Source((channels, height, width), config.num_images, sample, about, sampler.generator.conditional)


def _check_reference(
    path: str,
    statistics: Statistics,
    about: dict[str, Any],
    extractor: Extractor,
    shape: tuple[int, int, int],
    num_features: int,
) -> None:
    """Refuse statistics that do not fit, or that are of other images or of another extractor."""
    for name, mine in {**extractor.protocol(), "image_shape": list(shape)}.items():
        if name in about and about[name] != mine:
            raise InputError(
                f"{path}: its {name} is {about[name]} and this measurement's {mine}; use one that fits, or real images"
            )
    if num_features != len(statistics.mean):
        raise InputError(
            f"{path}: it has {len(statistics.mean)} features and the extractor gives {num_features}; use the reference "
            "that was made with this extractor"
        )


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
    if is_image_folder(source):
        return None
    if not source.exists():  # a bundled generator, or one on the Hub
        source = Path(source.name)
    number, path = 0, source.with_name(f"{source.stem}_metrics.json")
    while path.exists():
        number += 1
        path = source.with_name(f"{source.stem}_metrics_{number}.json")
    return path
