"""Measure a trained generator, or a folder of images, against real images.

python scripts/evaluate.py lightning_logs/version_0/checkpoints/last.ckpt
python scripts/evaluate.py last.ckpt --metrics fid,is,kid,prdc --extractor inception --num_images 10000
python scripts/evaluate.py last.ckpt --real my_photos
python scripts/evaluate.py samples/ --real my_photos
python scripts/evaluate.py last.ckpt --metrics fid,is --reference cifar10.npz
torchrun --nproc_per_node 2 scripts/evaluate.py last.ckpt
"""

import functools
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentParser, Namespace
from torch import distributed

import gan_lightning
from gan_lightning import inference
from gan_lightning.checkpoint import fingerprint, write_aside
from gan_lightning.commands.arguments import arrange, given, instantiate, parse, run_command
from gan_lightning.data import ImageDataModule, Split
from gan_lightning.data.folder import count_other_sizes, first_image_shape, read_folder
from gan_lightning.errors import InputError, one_line
from gan_lightning.measure import RealImages, make_extractor, reference, say_estimate
from gan_lightning.metrics.evaluator import (
    NEED_REAL_FEATURES,
    NEED_REFERENCE,
    Sample,
    check_request,
    choose,
    collect,
    compute,
    is_first_process,
    on_first_process,
    protocol,
    split_names,
)
from gan_lightning.metrics.features import Extractor
from gan_lightning.metrics.inception import file_sha256
from gan_lightning.metrics.statistics import Statistics, read_npz

NUM_IMAGES = 50_000


def main(args: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 0, or 2 for bad input."""
    sys.path.append(str(Path.cwd()))  # classes of one's own are named by module and class
    return run_command("evaluate", lambda: evaluate(list(sys.argv[1:] if args is None else args)))


def make_parser() -> ArgumentParser:
    """All that can be said on the command line."""
    parser = ArgumentParser(
        prog="evaluate",
        description="Measure a trained generator, or a folder of images, against real images.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument("source", type=str, help="a checkpoint of train.py, or a folder of images")
    parser.add_argument("--metrics", type=str, default="fid,is", help="which, of fid,is,kid,prdc,modes")
    parser.add_argument(
        "--num_images", type=int | None, help=f"how many samples; by default {NUM_IMAGES}, or all of the folder"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the latents")
    parser.add_argument("--raw", action="store_true", help="the generator's own weights, not their average")
    parser.add_argument("--trust", type=list[str], default=[], help="modules of one's own that the checkpoint may name")
    parser.add_argument("--reference", type=str | None, help="an .npz with mu and sigma, instead of real images")
    parser.add_argument("--output", type=str | None, help="the record; by default beside the checkpoint, none of a folder")
    add_real_images(parser)
    return parser


def add_real_images(parser: ArgumentParser) -> None:
    """The flags of the real images and the extractor, which ``compute_reference`` has too."""
    parser.add_argument("--extractor", type=str | None, help="inception, classifier, or the class path of a module")
    parser.add_argument("--weights", type=str | None, help="the file of Inception's weights")
    parser.add_argument("--real", type=str | None, help="a folder of real images, all of it")
    parser.add_argument("--data", type=ImageDataModule | None, help="the real data; by default what the run was trained on")
    parser.add_argument("--split", type=Split, default="train", help="of the real data")
    parser.add_argument("--num_real", type=int | None, help="how many real images; by default all")
    parser.add_argument("--image_size", type=int | None, help="of a folder's images; by default that of its first one")
    parser.add_argument("--batch_size", type=int, default=50, help="images at a time")
    parser.add_argument("--device", type=str, default="auto", help="cpu, cuda, mps; auto is the GPU where there is one")


@dataclass(frozen=True)
class Source:
    """The images to be measured: a generator's or a folder's.

    Attributes:
        image_shape: (C, H, W).
        num_images: how many.
        sample: from how many real images each class has (None where that is not known) to the images by index.
        about: where they are from, for the record.
        labels: whether they depend on labels.
    """

    image_shape: tuple[int, int, int]
    num_images: int
    sample: Callable[[list[int] | None], Sample]
    about: dict[str, Any]
    labels: bool = False


def evaluate(args: Sequence[str]) -> None:
    """Read the settings, measure, print a table and write the record."""
    config = _settings(args)
    with process_group(config.device) as device:
        record = _measure(config, split_names(config.metrics), device)
        if record is not None:
            print_table(record)
            output = _output(config)
            if output is not None:
                write_record(output, record)
                print(f"  record: {output}")


def _measure(config: Namespace, metrics: list[str], device: torch.device) -> dict[str, Any] | None:
    """The record of all that was asked for; None in all processes but the first."""
    first = is_first_process()
    keep_features = bool(NEED_REAL_FEATURES & set(metrics))
    seconds: dict[str, float] = {}
    with _timed(seconds, "set_up"):
        source = _folder_source(config) if Path(config.source).is_dir() else _checkpoint_source(config, device)
        npz = read_npz(Path(config.reference)) if config.reference else None
        real = None if npz else real_images(config, source.image_shape, bool(NEED_REFERENCE & set(metrics)))
        if real is not None and tuple(real.images.shape[1:]) != source.image_shape:
            raise InputError(
                f"{config.source} has images of {_size(source.image_shape)} and the real ones ({real.about['real']}) are "
                f"{_size(real.images.shape[1:])} (channels, height, width): name data of that size, by --data or --real"
            )
        num_real = npz[0].count if npz else None if real is None else len(real.images)
        num_real = num_real if config.num_real is None else config.num_real
        check_request(metrics, source.num_images, num_real, real_features=npz is None)
        extractor = make_extractor(extractor_name(config), config.data, config.weights, device, progress=first)
        if npz:
            _check_reference(config.reference, *npz, extractor, source.image_shape)
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
                statistics, about = reference(real, extractor, config.num_real, keep_features, config.batch_size, first)
    with _timed(seconds, "samples"):
        sample, bar = source.sample(counts), "Measuring samples" if first else None
        generated = collect(sample, extractor, source.num_images, config.batch_size, keep_features, bar)
    with _timed(seconds, "metrics"):
        values = on_first_process(lambda: compute(generated, statistics, extractor.prefix, metrics))
    if not first:
        return None
    return {
        "metrics": values,
        "protocol": {
            **about,
            **source.about,
            **(
                {"labels": "all classes alike" if counts is None else "in proportion to the real ones"} if source.labels else {}
            ),
            "num_images": source.num_images,
            "image_shape": list(source.image_shape),
            **extractor.protocol(),
            "constants": protocol(metrics, source.num_images, num_real),
            "batch_size": config.batch_size,
            "device": device.type,
            "processes": distributed.get_world_size() if distributed.is_initialized() else 1,
            "versions": versions(),
        },
        "seconds": {part: round(spent, 2) for part, spent in seconds.items()},
    }


@contextmanager
def _timed(seconds: dict[str, float], part: str) -> Iterator[None]:
    begun = time.perf_counter()
    yield
    seconds[part] = time.perf_counter() - begun


def _settings(args: Sequence[str]) -> Namespace:
    """The flags, with the data set of the run that the checkpoint is of where no other is named; the data is made."""
    parser = make_parser()
    groups = arrange(args)
    config = parse(parser, groups)
    check_numbers(config)
    if config.seed < 0:
        raise InputError(f"--seed {config.seed}: give at least 0")
    source = Path(config.source)
    if not source.exists():
        raise InputError(f"{config.source}: no such file or folder; give a checkpoint of train.py or a folder of images")
    together = {"--real": config.real, "--reference": config.reference, "--data": config.data}
    named = [f"{flag} {given(groups, flag[2:]) or ''}".strip() for flag, value in together.items() if value is not None]
    if len(named) > 1 and not (config.data is not None and config.extractor == "classifier"):
        raise InputError(f"{' and '.join(named)}: give one of them (--data beside another only with --extractor classifier)")
    if given(groups, "split") is not None and (config.real or config.reference):
        raise InputError(f"--split {config.split}: only --data has splits, and not {named[0]}")
    if config.image_size is not None and source.is_file():
        raise InputError(f"--image_size {config.image_size}: only for a folder; a checkpoint draws in a size of its own")
    output = _output(config)
    if output is not None:
        require_writable(output)
    own = source.parent.parent / "config.yaml"
    if config.data is not None or config.real is not None or not (source.is_file() and own.is_file()):
        return instantiate(parser, config)
    try:
        parser.set_defaults(data=yaml.safe_load(own.read_text(encoding="utf-8"))["data"])
    except (yaml.YAMLError, UnicodeDecodeError, OSError, KeyError, TypeError) as error:
        raise InputError(f"{own}: does not say what the run was trained on ({one_line(error)}); use --data") from error
    try:
        return instantiate(parser, parse(parser, groups))
    except InputError:
        if config.reference is None:
            raise
        return instantiate(parser, config)  # its statistics stand for the data, which need not be there


def check_numbers(config: Namespace) -> None:
    """Refuse numbers of :func:`add_real_images` that are out of range."""
    for name in ("num_real", "image_size", "batch_size"):
        if config[name] is not None and config[name] < 1:
            raise InputError(f"--{name} {config[name]}: give at least 1")


def real_images(config: Namespace, shape: tuple[int, int, int], needed: bool) -> RealImages | None:
    """What ``--real`` or ``--data`` names, brought to ``shape`` where it is a folder.

    Raises:
        InputError: both are named, or nothing is, and it is needed.
    """
    if config.real is not None:
        about = {"real": str(config.real), "split": "all", **_resized("real", config.real, shape)}
        return RealImages(read_folder(Path(config.real), shape), None, about)
    if config.data is not None:
        on_first_process(config.data.prepare_data)
        return RealImages.of(config.data, config.split)
    if needed:
        raise InputError("there is nothing to compare with: name real images by --data or --real, or statistics by --reference")
    return None


def extractor_name(config: Namespace) -> str:
    """``--extractor``, else what the data set is measured with by itself; Inception for folders and foreign statistics."""
    if config.extractor is not None:
        return str(config.extractor)
    return "inception" if config.data is None or config.real is not None else str(config.data.extractor)


def folder_shape(folder: str, image_size: int | None) -> tuple[int, int, int]:
    """The shape that a folder's images are read in: that of the first one, or a square of ``image_size`` pixels.

    Raises:
        InputError: the folder is not there, or empty.
    """
    channels, height, width = first_image_shape(Path(folder))
    return (channels, height, width) if image_size is None else (channels, image_size, image_size)


def _folder_source(config: Namespace) -> Source:
    shape = folder_shape(config.source, config.image_size)
    images = read_folder(Path(config.source), shape)
    count = len(images) if config.num_images is None else config.num_images
    if not 0 < count <= len(images):
        raise InputError(f"num_images is {count}: {config.source} has {len(images):,} images")
    images = images[choose(len(images), count)]  # files often lie in the order of their classes
    about = {"source": config.source, "source_sha256": fingerprint(images), **_resized("source", config.source, shape)}
    return Source(shape, count, lambda _: lambda indices: images[indices], about)


def _resized(what: str, folder: str, shape: tuple[int, int, int]) -> dict[str, Any]:
    """For the record, how many images of a folder are not of the size they are measured in; said aloud where there are any."""
    count = count_other_sizes(Path(folder), shape)
    if count and is_first_process():
        print(f"{folder}: {count:,} images are resized (Lanczos) and centre-cropped to {shape[1]}x{shape[2]} (height, width)")
    return {f"{what}_resized": f"{count} images, Lanczos and centre crop to {shape[1]}x{shape[2]}" if count else "none"}


def _checkpoint_source(config: Namespace, device: torch.device) -> Source:
    sampler = inference.load(config.source, raw=config.raw, device=device, trust=config.trust)
    channels, height, width = sampler.generator.image_shape
    count = NUM_IMAGES if config.num_images is None else config.num_images
    about = {**sampler.origin, "seed": config.seed, "latents": "Philox, one stream an image"}
    sample = functools.partial(sampler.by_index, seed=config.seed)
    return Source((channels, height, width), count, sample, about, sampler.generator.conditional)


def _check_reference(
    path: str, statistics: Statistics, about: dict[str, Any], extractor: Extractor, shape: tuple[int, int, int]
) -> None:
    """Refuse statistics that do not fit, or say of themselves that they were made of other images or by another extractor."""
    for name, mine in {**extractor.protocol(), "image_shape": list(shape)}.items():
        if name in about and about[name] != mine:
            raise InputError(
                f"{path}: its {name} is {about[name]} and this measurement's {mine}; use one that fits, or real images"
            )
    features, _ = extractor(torch.zeros(1, *shape, dtype=torch.uint8))
    if features.shape[1] != len(statistics.mean):
        raise InputError(
            f"{path}: it has {len(statistics.mean)} features and the extractor gives {features.shape[1]}; use the reference "
            "that was made with this extractor"
        )


def print_table(record: dict[str, Any]) -> None:
    """The values, each with its spread where it has one, and the most telling of the protocol."""
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
        print(f"  against {about['num_real']:,} of {about.get('real')} ({about.get('split')} split)")
    if "reference" in about:
        print(f"  reference: {about['reference']}")
    print(f"  extractor: {about['extractor']}, weights {about.get('weights_sha256', 'none')[:12]}")


def require_writable(path: Path) -> None:
    """Refuse a file that cannot be written, before anything is measured.

    Raises:
        InputError: a folder or device is there, or its folder cannot be made or written to.
    """
    if path.exists() and not path.is_file():
        raise InputError(f"--output {path}: not a file that can be replaced; name another")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise InputError(f"--output {path}: cannot be written there ({error.strerror}); name another") from error


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write a record as JSON, aside and renamed.

    Raises:
        InputError: it cannot be written there.
    """
    try:
        with write_aside(path) as aside:
            aside.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"--output {path}: cannot be written ({error.strerror})") from error


def _output(config: Namespace) -> Path | None:
    """``--output``, else a file beside the checkpoint that is not there yet; none for a folder."""
    if config.output is not None:
        return Path(config.output)
    source = Path(config.source)
    if source.is_dir():
        return None
    number, path = 0, source.with_name(f"{source.stem}_metrics.json")
    while path.exists():
        number += 1
        path = source.with_name(f"{source.stem}_metrics_{number}.json")
    return path


def versions() -> dict[str, str]:
    """Of what the values depend on."""
    packages = {name: version(name) for name in ("torch", "numpy", "torch-fidelity")}
    return {"gan_lightning": gan_lightning.__version__, "python": platform.python_version(), **packages}


@contextmanager
def process_group(device_name: str) -> Iterator[torch.device]:
    """The device to work on; under torchrun, with the processes joined for the length of the block.

    Raises:
        InputError: there is no such device.
    """
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    given_name = device_name
    if device_name == "auto":
        device_name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(device_name)
        if device.type == "cuda" and device.index is None:
            device = torch.device("cuda", local_rank)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {given_name}: there is none that torch can use here; give cpu, or auto") from error
    if int(os.environ.get("WORLD_SIZE", 1)) < 2:
        yield device
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield device
    finally:
        distributed.destroy_process_group()


def _size(shape: Any) -> str:
    return "x".join(map(str, shape))
