"""The flags of real images and of what measures them, which several commands have."""

from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from gan_lightning.data import ImageDataModule, Split
from gan_lightning.data.folder import count_other_sizes, first_image_shape, read_folder
from gan_lightning.errors import InputError
from gan_lightning.measure import RealImages
from gan_lightning.metrics.evaluator import is_first_process, on_first_process


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


def check_numbers(config: Namespace) -> None:
    """Refuse numbers of :func:`add_real_images` that are out of range."""
    for name in ("num_real", "image_size", "batch_size"):
        if config[name] is not None and config[name] < 1:
            raise InputError(f"--{name} {config[name]}: give at least 1")


def real_images(config: Namespace, shape: tuple[int, int, int], needed: bool) -> RealImages | None:
    """What ``--real`` or ``--data`` names, brought to ``shape`` where it is a folder.

    Raises:
        InputError: neither is named, and one is needed.
    """
    if config.real is not None:
        about = {"real": str(config.real), "split": "all", **resized("real", config.real, shape)}
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


def resized(what: str, folder: str, shape: tuple[int, int, int]) -> dict[str, Any]:
    """For the record, how many images of a folder are not of the size they are measured in; said aloud where there are any."""
    count = count_other_sizes(Path(folder), shape)
    if count and is_first_process():
        print(f"{folder}: {count:,} images are resized (Lanczos) and centre-cropped to {shape[1]}x{shape[2]} (height, width)")
    return {f"{what}_resized": f"{count} images, Lanczos and centre crop to {shape[1]}x{shape[2]}" if count else "none"}
