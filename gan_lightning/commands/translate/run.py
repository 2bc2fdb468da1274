"""Translate images and write them batch by batch."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import torch
from jsonargparse import Namespace
from torch import Tensor
from tqdm import tqdm

from gan_lightning.commands.common.devices import find_device
from gan_lightning.commands.common.generators import load_translator
from gan_lightning.commands.common.image_output import is_complete, prepare_folder, write_array
from gan_lightning.data.degradations import Degradation
from gan_lightning.data.image_file import Facts, read_file_whole, read_whole
from gan_lightning.data.image_set import ARRAYS, read_array
from gan_lightning.data.tree import listed, report_corrupt, scan
from gan_lightning.errors import InputError, one_line
from gan_lightning.files import fingerprint, remove_temporary_files
from gan_lightning.image_translator import ImageTranslator, require_tiles
from gan_lightning.images import size_text, with_channels
from gan_lightning.networks.base import make
from gan_lightning.pictures import write_png

DESCRIPTION = "translate.json"
"""File in a folder of translations with the settings, so that an interrupted folder can be resumed."""
BATCH_PIXELS = 2**20
"""Largest number of pixels of a batch, except for a single image."""

Apply = Callable[[Tensor, Tensor | None, Tensor], Tensor]
"""Maps images uint8 (B, C, h, w), masks bool (B, 1, h, w) or None, and numbers int64 (B,) to uint8 (B, C', h', w')."""


@dataclass(frozen=True)
class Item:
    """An image of a folder: where its translation goes, its pixels uint8 (C, h, w), its mask (1, h, w), its number."""

    output: Path
    image: Tensor
    mask: Tensor | None
    number: int


def translate(config: Namespace) -> None:
    """Translate the input, write it, and print its path."""
    translator = load_translator(config.checkpoint, config, find_device(config.accelerator))
    network = translator.network(config.direction)
    require_tiles(config.tile, config.overlap, network.multiple)
    masked = translator.needs_mask and network is translator.generator
    if masked and config.mask is None and not config.degrade:
        raise InputError(
            f"{config.checkpoint} fills in holes, but there is no mask: add --mask FILE, an image that is white where pixels "
            "are missing"
        )
    if config.mask is not None and not masked:
        raise InputError(f"--mask {config.mask} is not used, because {config.checkpoint} was trained without masks: remove it")
    apply = _function(config, translator)
    source = Path(config.input)
    write = _write_folder if source.is_dir() else _write_array if source.suffix.lower() in ARRAYS else _write_file
    try:
        write(config, translator, apply)
    except OSError as error:
        raise InputError(f"--output {config.output} cannot be written ({error.strerror}): use another path") from error


def _function(config: Namespace, translator: ImageTranslator) -> Apply:
    """Make the function from images to translations, after a degradation if ``--degrade`` is set.

    Raises:
        InputError: the sources of training were not made from targets.
    """
    direction = config.direction

    def apply(images: Tensor, masks: Tensor | None, numbers: Tensor) -> Tensor:
        return translator.translate(images, masks, direction, len(images), config.tile, config.overlap)

    if not config.degrade:
        return apply
    if translator.degradation is None or direction == "BtoA":
        raise InputError(
            f"--degrade needs sources that were made from targets, but those of {config.checkpoint} were not: remove the flag"
        )
    degradation = make(Degradation, translator.degradation, config.trust)  # type: ignore[type-abstract]

    def degrade(images: Tensor, masks: Tensor | None, numbers: Tensor) -> Tensor:
        images = with_channels(images, translator.generator.image_shape[0])
        factor = translator.generator.factor
        height, width = (side // factor * factor for side in images.shape[2:])
        if not height or not width:
            raise InputError(f"an image of {size_text(images.shape[2:])} pixels is too small for a factor of {factor}")
        degradation.source_shape((images.shape[1], height, width))
        return apply(degradation(images[:, :, :height, :width], degradation.fixed_draws(numbers)), None, numbers)

    return degrade


def _write_file(config: Namespace, translator: ImageTranslator, apply: Apply) -> None:
    path = Path(config.input)
    image = read_file_whole(path, _channels(config, translator), config.white)
    mask = None if config.mask is None else _read_mask(Path(config.mask), path, image)
    outputs = apply(image.unsqueeze(0), None if mask is None else mask.unsqueeze(0), torch.tensor([0]))
    write_png(outputs[0], Path(config.output))
    print(f"  {size_text(outputs.shape[2:])} pixels (height x width): {config.output}")


def _write_array(config: Namespace, translator: ImageTranslator, apply: Apply) -> None:
    images = torch.from_numpy(read_array(Path(config.input))).permute(0, 3, 1, 2)  # (N, C, h, w)
    count, _, height, width = images.shape
    masks = None
    if config.mask is not None:
        path = Path(config.mask)
        if path.suffix.lower() in ARRAYS:
            masks = torch.from_numpy(read_array(path)).permute(0, 3, 1, 2) >= 128
            if masks.shape != (count, 1, height, width):
                raise InputError(
                    f"--mask {path} has {size_text(masks.shape)} instead of {count}x1x{height}x{width} values: use a mask for "
                    "each image"
                )
        else:
            masks = _read_mask(path, Path(config.input), images[0]).expand(count, -1, -1, -1)
    numbers = torch.arange(count)
    network = translator.network(config.direction)
    parts = torch.split(numbers, min(config.batch_size, max(1, BATCH_PIXELS // (height * width))))
    sides = (side // network.factor * network.factor if config.degrade else side * network.factor for side in (height, width))
    shape = (count, network.image_shape[0], *sides)
    translated = (apply(images[part], None if masks is None else masks[part], part) for part in tqdm(parts, delay=1))
    write_array(Path(config.output), shape, translated)
    print(f"  {count:,} images, uint8 {shape}: numpy.load({config.output!r})['images']")


def _write_folder(config: Namespace, translator: ImageTranslator, apply: Apply) -> None:
    """Translate a folder, file by file; keep the outputs of an interrupted earlier call."""
    source, folder = Path(config.input), Path(config.output)
    paths = scan(source).paths
    names, masks = output_names(paths), _mask_files(config, paths)
    prepare_folder(folder, DESCRIPTION, _description(config, translator), config.overwrite)
    for below in {(folder / name).parent for name in names.values()} - {folder}:
        if below.is_dir():
            remove_temporary_files(below)
    existing = set() if config.overwrite else {path for path in paths if is_complete(folder / names[path])}
    corrupt: dict[str, str] = {}
    facts = Facts()

    def items() -> Iterator[Item]:
        for number, path in enumerate(tqdm(paths, desc="Translating", unit=" images", delay=1)):
            if path in existing:
                continue
            try:
                image = read_whole(source / path, _channels(config, translator), config.white, facts)
            except Exception as error:  # Pillow raises many kinds of exceptions for damaged files
                corrupt[path] = one_line(error)[:200]
                if not config.skip_corrupt:
                    return
                continue
            mask = None if masks is None else _read_mask(masks[path], source / path, image)
            yield Item(folder / names[path], image, mask, number)

    for batch in _batches(items(), config.batch_size):
        given = [item.mask for item in batch if item.mask is not None]
        outputs = apply(
            torch.stack([item.image for item in batch]),
            torch.stack(given) if given else None,
            torch.tensor([item.number for item in batch]),
        )
        for item, output in zip(batch, outputs, strict=True):
            write_png(output, item.output, durable=False)
    report_corrupt(source, corrupt, len(paths), config.skip_corrupt, "--skip_corrupt")
    facts.report(source)
    earlier = f", {len(existing):,} of them from an earlier call" if existing else ""
    print(f"  {len(paths) - len(corrupt):,} images as PNG{earlier}: {folder}")


def _batches(items: Iterator[Item], batch_size: int) -> Iterator[list[Item]]:
    """Join neighbouring images of one size."""
    batch: list[Item] = []
    for item in items:
        pixels = item.image.shape[1] * item.image.shape[2]
        most = min(batch_size, max(1, BATCH_PIXELS // pixels))
        if batch and (len(batch) >= most or item.image.shape != batch[0].image.shape):
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


def output_names(paths: Sequence[str]) -> dict[str, str]:
    """Name the translation of each image of a folder: the image's name, with .png instead of its suffix.

    Images that differ only in their suffix keep it: ``a.jpg`` and ``a.png`` become ``a.jpg.png`` and ``a.png.png``.

    Raises:
        InputError: two images would still get the same name.
    """
    stems = Counter(PurePath(path).with_suffix("") for path in paths)
    names = {
        path: f"{path}.png" if stems[PurePath(path).with_suffix("")] > 1 else str(PurePath(path).with_suffix(".png"))
        for path in paths
    }
    counts = Counter(names.values())
    if double := [path for path in paths if counts[names[path]] > 1]:
        raise InputError(f"the translations of {listed(double)} would have the same name: rename one of them")
    return names


def _mask_files(config: Namespace, paths: Sequence[str]) -> dict[str, Path] | None:
    """Find the mask of each image: the same file for all, or that of the image's name, with any suffix, in a folder.

    Raises:
        InputError: an image has no mask.
    """
    if config.mask is None:
        return None
    folder = Path(config.mask)
    if not folder.is_dir():
        return dict.fromkeys(paths, folder)
    found = scan(folder, report=False).paths
    by_name = {PurePath(path).with_suffix(""): path for path in found} | {PurePath(path): path for path in found}
    masks = {path: by_name.get(PurePath(path), by_name.get(PurePath(path).with_suffix(""))) for path in paths}
    if alone := [path for path, mask in masks.items() if mask is None]:
        raise InputError(f"--mask {folder} has no mask for {listed(alone)}: add one of the same name")
    return {path: folder / mask for path, mask in masks.items() if mask is not None}


def _channels(config: Namespace, translator: ImageTranslator) -> int:
    """Channels to read an image with: those of the sources without a mask, or of the targets before a degradation."""
    if config.degrade:
        return int(translator.generator.image_shape[0])
    return int(translator.network(config.direction).source_shape[0]) - (config.mask is not None)


def _read_mask(path: Path, source: Path, image: Tensor) -> Tensor:
    """Read the missing pixels, bool (1, h, w), of an image (C, h, w).

    Raises:
        InputError: the mask cannot be read, or has another size.
    """
    mask = read_file_whole(path, 1) >= 128
    if mask.shape[1:] != image.shape[1:]:
        theirs, mine = (size_text(each.shape[1:]) for each in (mask, image))
        raise InputError(f"--mask {path} is {theirs} and {source} {mine} (height x width): use a mask of the image's size")
    return mask


def _description(config: Namespace, translator: ImageTranslator) -> dict[str, Any]:
    """List all that a translation depends on besides its source."""
    return {
        "weights_sha256": fingerprint(*translator.network(config.direction).state_dict().values()),
        "direction": config.direction,
        "degrade": config.degrade,
        "mask": config.mask is not None,
        "tile": config.tile,
        "overlap": None if config.tile is None else config.overlap,
        "white": config.white,
    }
