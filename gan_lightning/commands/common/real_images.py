"""Real images that the flags of several commands name: a data set or a folder."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from jsonargparse import ArgumentParser, Namespace
from torch import Tensor

from gan_lightning.commands.common.arguments import instantiate, parse
from gan_lightning.commands.common.measuring_flags import data_flags
from gan_lightning.commands.common.paths import hide_in_settings, show
from gan_lightning.commands.common.recipes import load_yaml
from gan_lightning.commands.common.trust import check_imports
from gan_lightning.data import ImageDataModule
from gan_lightning.data.crops import height_and_width
from gan_lightning.data.image_set import read_images, survey_images
from gan_lightning.data.stored import Stored
from gan_lightning.data.survey import Survey
from gan_lightning.data.tree import count_text
from gan_lightning.errors import InputError, one_line
from gan_lightning.exported import CONFIG, read_config
from gan_lightning.images import size_text
from gan_lightning.metrics.measurement import Measurement, RealImages, ReferenceFile, choose_real
from gan_lightning.trained import locate
from gan_lightning.training.distributed import is_first_process, on_first_process


def make_data(groups: Sequence[Sequence[str]], default: Any = None) -> ImageDataModule | None:
    """Make the data set that ``--data`` and ``--data.X`` describe.

    Args:
        groups: the groups of ``arrange``; other flags are ignored.
        default: settings of the data set if ``--data`` is not given.

    Raises:
        InputError: the class does not exist, or one of its arguments is invalid.
    """
    parser = ArgumentParser(exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--data", type=ImageDataModule | None)
    hidden: dict[str, str] = {}
    hide_in_settings(default, hidden)
    parser.set_defaults(data=default)
    config = parse(parser, data_flags(groups))
    show(config, hidden)
    data: ImageDataModule | None = instantiate(parser, config).data
    return data


def data_of_the_run(checkpoint: Path, trust: Collection[str]) -> Any:
    """Read the settings of the data that a generator was trained on; None if they are unknown.

    The settings of a checkpoint are in the config.yaml of its run, those of an exported folder in its config.json.

    Args:
        checkpoint: ``checkpoints/last.ckpt`` of a run, or an exported folder.
        trust: custom top-level modules that the settings may name.

    Raises:
        InputError: the config.yaml or config.json is damaged, or names a module that is not trusted.
    """
    own = checkpoint / CONFIG
    if own.is_file():
        settings = _exported_data(checkpoint)
    else:
        own = checkpoint.parent.parent / "config.yaml"
        if not (checkpoint.is_file() and own.is_file()):
            return None
        try:
            settings = load_yaml(own.read_text(encoding="utf-8"))["data"]
        except (yaml.YAMLError, RecursionError, ValueError, OSError, KeyError, TypeError) as error:
            raise InputError(f"{own} does not describe the data of the run ({one_line(error)}): add --data") from error
    if settings is None:
        return None
    if not isinstance(settings.get("class_path") if isinstance(settings, dict) else settings, str):
        raise InputError(f"{own} names no class for the data of the run: add --data")
    check_imports(own, {"data": settings}, trust)
    return settings


def find_data(config: Namespace, groups: Sequence[Sequence[str]], source: str) -> ImageDataModule | None:
    """Make the data set that the flags name, else that of the run of the generator ``source``; None if there is neither.

    Raises:
        InputError: the data set cannot be made; if it is that of the run, only without a ``--reference`` to replace it.
    """
    named = config.data is not None or config.real is not None
    settings = None if named else data_of_the_run(locate(source), config.trust)
    if settings is None:
        return make_data(groups)
    try:
        return make_data(groups, settings)
    except InputError:
        if config.get("reference") is None:
            raise
        return None


def _exported_data(folder: Path) -> Any:
    """Read the data settings of an exported folder, without ``root``: it is a path on the machine of the run."""
    settings = (read_config(folder)["recipe"] or {}).get("data")
    if not isinstance(settings, dict) or not isinstance(settings.get("init_args"), dict):
        return settings
    return {**settings, "init_args": {name: value for name, value in settings["init_args"].items() if name != "root"}}


def read_set(
    config: Namespace,
    what: Literal["source", "real"],
    choose: Callable[[int], Tensor],
    shape: tuple[int, int, int] | None = None,
) -> tuple[Stored, dict[str, Any]]:
    """Read images of the folder or file that the flag ``what`` names, uint8 (N, C, H, W), converted to one shape.

    Args:
        config: the flags.
        what: name of the flag.
        choose: maps the number of images to the indices of those to read.
        shape: (C, H, W); None is that of :func:`common_shape`.

    Returns:
        the images, and the counts of :func:`converted`.

    Raises:
        InputError: the images cannot be read.
    """
    path = Path(config[what])
    found = survey_images(path)
    shape = shape or common_shape(config, found)
    about = converted(what, str(path), found, shape)
    skipped: list[str] | None = [] if config.skip_corrupt else None
    images = read_images(path, shape, config.white, skipped, choose)
    if skipped is not None:
        about[f"{what}_skipped"] = f"{count_text(len(skipped), 'file')} that cannot be read"
    return images, about


def real_images(config: Namespace, shape: tuple[int, int, int] | None = None) -> RealImages:
    """Read ``--num_real`` images from ``--real`` or ``--data``; those of a folder are resized to ``shape``.

    Raises:
        InputError: neither flag is given, or there are fewer than ``--num_real``.
    """
    if config.real is not None:
        sizes: list[int] = []

        def choose(size: int) -> Tensor:
            sizes.append(size)
            return choose_real(size, config.num_real)

        images, counts = read_set(config, "real", choose, shape)
        return RealImages.of_stored(images, {"real": str(config.real), "split": "all", **counts}, sizes[0])
    if config.data is not None:
        on_first_process(config.data.prepare_data)
        return RealImages.of(config.data, config.split, config.num_real)
    raise InputError("there are no real images to compare with: add --data or --real")


def make_measurement(
    config: Namespace,
    real: RealImages | ReferenceFile | None,
    shape: tuple[int, int, int],
    device: torch.device,
    photographs: str = "inception",
    **arguments: Any,
) -> Measurement:
    """Set up a measurement with ``--extractor``, else with the data set's classifier or with ``photographs``.

    ``arguments`` are those of :class:`~gan_lightning.metrics.measurement.Measurement` that no flag of all commands sets.
    """
    is_classified = config.data is not None and config.real is None and config.data.extractor == "classifier"
    name = config.extractor or ("classifier" if is_classified else photographs)
    arguments |= {"inception_weights": config.inception_weights, "batch_size": config.batch_size}
    return Measurement(name, config.data, device, real, shape, progress=is_first_process(), **arguments)


def check_shape(real: RealImages, source: str, shape: tuple[int, ...]) -> None:
    """Refuse real images that do not have the shape (C, H, W) of the images of ``source``.

    Raises:
        InputError: the shapes differ.
    """
    if real.image_shape != tuple(shape):
        raise InputError(
            f"{source} has images of {size_text(shape)}, but the real images ({real.about['real']}) are "
            f"{size_text(real.image_shape)} (channels, height, width): use --real FOLDER to convert the "
            f"images of a folder, or for an ImageFolder --data.channels {shape[0]} --data.image_size "
            f"{size_text(shape[1:])}"
        )


def common_shape(config: Namespace, found: Survey) -> tuple[int, int, int]:
    """Choose a shape (C, H, W) for all images: colour if any has colour, and the most frequent size.

    ``--channels`` and ``--image_size`` override it.
    """
    width, height = found.usual_size
    if config.image_size is not None:
        height, width = height_and_width(config.image_size, "--image_size")
    return config.channels or (1 if found.grey == len(found.sizes) else 3), height, width


def converted(what: str, source: str, found: Survey, shape: tuple[int, int, int]) -> dict[str, Any]:
    """Count the images that are resized or change their colour to have ``shape``, for the record; print the counts.

    Args:
        what: first part of the names in the record.
        source: the folder or file of the images.
        found: their headers.
        shape: (C, H, W).
    """
    channels, height, width = shape
    resized = sum(size != (width, height) for size in found.sizes)
    recoloured = len(found.sizes) - found.grey if channels == 1 else found.grey
    how = {
        f"{what}_resized": f"Lanczos and centre crop to {height}x{width}",
        f"{what}_recoloured": "colour reduced to grey" if channels == 1 else "grey as three equal channels",
    }
    counts = dict(zip(how, (resized, recoloured), strict=True))
    for name, count in counts.items():
        if count and is_first_process():
            whole = " (height, width)" if name.endswith("resized") else ""
            print(f"{source}: {how[name]}{whole}, in {count:,} of {count_text(len(found.sizes), 'image')}")
    return {name: f"{count_text(count, 'image')}, {how[name]}" if count else "none" for name, count in counts.items()}
