"""Any folder of images: mixed sizes and modes, one subfolder per class or flat."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import PIL
import torch
from lightning.pytorch.utilities import rank_zero_warn
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from gan_lightning.data.base import ImageDataModule, Images, Split, default_root, example_indices
from gan_lightning.data.loaders import ImageLoader, WorkerLoader
from gan_lightning.errors import InputError, one_line
from gan_lightning.files import load, save

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Pillow's formats of these files, each allowed under any of the endings. No other is tried: a PostScript file is a program."""
CACHE_VERSION = 2
HELD_OUT = 10  # one image in so many is the test split if the folder has none


@dataclass(frozen=True)
class Files:
    """Images of a split: paths relative to ``folder``, and the label of each, or None."""

    folder: Path
    paths: tuple[str, ...]
    labels: tuple[int, ...] | None

    def select(self, chosen: Iterable[int]) -> "Files":
        """Return the files at the positions ``chosen``."""
        kept = list(chosen)
        labels = None if self.labels is None else tuple(self.labels[i] for i in kept)
        return Files(self.folder, tuple(self.paths[i] for i in kept), labels)


class ImageFolder(ImageDataModule):
    """Images below a folder, resized and centre-cropped to one size.

    If ``root`` holds exactly the subfolders ``train`` and ``test``, these are the splits. Otherwise a tenth of the images is
    held out for the test split, by a hash of the path below ``root``. Every subfolder of a split is a class; a split that
    directly contains images has no labels.

    Several processes decode the images once and cache them below the default data folder. If the images take more than
    ``max_bytes_on_device``, they are checked once and then decoded whenever they are read.

    Args:
        root: folder of the images.
        image_size: height and width of the images, in pixels: the shorter side is resized to it, the longer one cropped.
        channels: 1 for grey, 3 for colour. Transparent images are put on white; 16-bit ones are reduced to 8 bits.
        batch_size: images per update of a network, for each process.
        horizontal_flip: flip every training image left to right with probability 1/2.
        skip_corrupt: leave out files that cannot be read, instead of refusing the folder.
        num_workers: number of processes that decode; None is one per core, at most 8.
        max_bytes_on_device: upper limit of the device memory for the images of the train split, in bytes.
        seed: seed of the order of the images and of the flips.

    Attributes:
        files: files of each split.

    Raises:
        InputError: the folder is missing, unreadable or empty, a file is corrupt, or a number is out of range.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        image_size: int = 64,
        channels: int = 3,
        batch_size: int = 64,
        horizontal_flip: bool = False,
        skip_corrupt: bool = False,
        num_workers: int | None = None,
        max_bytes_on_device: int = 4 * 2**30,
        seed: int = 0,
    ) -> None:
        super().__init__(root, batch_size, horizontal_flip, seed)
        if image_size < 1:
            raise InputError(f"data.image_size is {image_size}: use at least 1")
        if channels not in (1, 3):
            raise InputError(f"data.channels is {channels}: use 1 (grey) or 3 (colour)")
        if num_workers is not None and num_workers < 0:
            raise InputError(f"data.num_workers is {num_workers}: use at least 0")
        self.image_size = image_size
        self.image_shape = (channels, image_size, image_size)
        self.skip_corrupt = skip_corrupt
        self.num_workers = min(8, os.cpu_count() or 1) if num_workers is None else num_workers
        self.max_bytes_on_device = max_bytes_on_device
        self.class_names, self.files = _find_splits(self.root)
        self._read: dict[Split, tuple[Tensor | None, dict[int, str]]] = {}
        self._prepared: dict[Split, tuple[Files, Tensor | None]] = {}

    def images(self, split: Split) -> Images:
        files, images = self._prepare(split)
        if images is None:
            images = torch.cat([batch for _, batch, _ in _decoded(DecodedFiles(files, self.image_shape), self.num_workers)])
        return images, _label_tensor(files.labels)

    def num_images(self, split: Split) -> int:
        return len(self._prepare(split)[0].paths)

    def images_at(self, split: Split, indices: Tensor) -> Images:
        files, images = self._prepare(split)
        few = files.select(indices.tolist())
        if images is None:
            read = [batch for _, batch, _ in _decoded(DecodedFiles(few, self.image_shape), self.num_workers)]
            return torch.cat(read), _label_tensor(few.labels)
        return images[indices], _label_tensor(few.labels)

    def examples(self, rows: int, columns: int, split: Split = "train") -> Images:
        files, _ = self._prepare(split)
        return self.images_at(split, example_indices(_label_tensor(files.labels), len(files.paths), rows, columns))

    def prepare_data(self) -> None:
        self._prepare("train")

    def setup(self, stage: str) -> None:
        self._prepare("train")

    def train_dataloader(self) -> ImageLoader:
        assert self.trainer is not None
        files, images = self._prepare("train")
        if images is not None:
            return super().train_dataloader()
        return WorkerLoader(
            DecodedFiles(files, self.image_shape),
            files.labels is not None,
            self._batch_images(len(files.paths)),
            self._shuffle(len(files.paths)),
            self.num_workers,
            pin_memory=self.trainer.strategy.root_device.type == "cuda",
        )

    def corrupt(self, split: Split) -> dict[Path, str]:
        """Find the files of a split that cannot be read, and the reasons. The first call decodes every file."""
        files = self.files[split]
        if not files.paths:
            return {}
        return {files.folder / files.paths[i]: why for i, why in self._read_once(split)[1].items()}

    @property
    def image_bytes(self) -> int:
        """Memory of one image, in bytes."""
        return int(numpy.prod(self.image_shape))

    def keeps_images(self, split: Split) -> bool:
        """Tell if the images of a split fit in ``max_bytes_on_device``, so that they are decoded only once."""
        return len(self.files[split].paths) * self.image_bytes <= self.max_bytes_on_device

    def _prepare(self, split: Split) -> tuple[Files, Tensor | None]:
        """Return the files of a split that can be read, and their images if they fit in ``max_bytes_on_device``."""
        if split not in self._prepared:
            files = self.files[split]
            if not files.paths:  # only the test split can be empty: _find_splits refuses an empty train split
                raise InputError(
                    f"{self.root} has too few images for a {split} split: put some images into {self.root / split}"
                )
            images, corrupt = self._read_once(split)
            if corrupt:
                named = "; ".join(f"{path} ({why})" for path, why in list(self.corrupt(split).items())[:5])
                more = f" and {len(corrupt) - 5} more" if len(corrupt) > 5 else ""
                message = f"{len(corrupt)} of {len(files.paths)} files of {files.folder} cannot be read: {named}{more}"
                if not self.skip_corrupt:
                    raise InputError(f"{message}. Repair or remove them, or skip them with --data.skip_corrupt true")
                rank_zero_warn(f"{message}. Skipping them")
            good = files.select(i for i in range(len(files.paths)) if i not in corrupt)
            if not good.paths:
                raise InputError(
                    f"{files.folder} has {len(files.paths)} files, but none can be read as an image: use another folder"
                )
            self._prepared[split] = good, images
        return self._prepared[split]

    def _read_once(self, split: Split) -> tuple[Tensor | None, dict[int, str]]:
        """Read the images of a split, if they are kept, and the reasons why others cannot be read; use the cache."""
        if split not in self._read:
            files, keep = self.files[split], self.keeps_images(split)
            cache = default_root() / "image_folder_cache" / f"{self._fingerprint(files, keep)}.pt"
            content = _load_cache(cache)
            if content is None:
                content = self._decode(files, keep)
                try:
                    save(content, cache)
                except OSError as error:
                    rank_zero_warn(
                        f"{cache} cannot be written ({error.strerror}). The images will be decoded again in each run"
                    )
            self._read[split] = content["images"], content["corrupt"]
        return self._read[split]

    def _decode(self, files: Files, keep: bool) -> dict[str, Any]:
        """Read every file once: the images of the readable ones (if ``keep``), and the reasons why the others are not."""
        images: list[Tensor] = []
        corrupt: dict[int, str] = {}
        dataset = DecodedFiles(files, self.image_shape)
        with tqdm(total=len(files.paths), desc=f"Reading {files.folder}", unit=" images", delay=1) as bar:
            for count, batch, errors in _decoded(dataset, self.num_workers):
                corrupt |= errors
                if keep:
                    images.append(batch)
                bar.update(count)
        return {"images": torch.cat(images) if keep else None, "corrupt": corrupt}

    def _fingerprint(self, files: Files, keep: bool) -> str:
        """A hash of all that the cached images depend on."""
        digest = hashlib.sha256(repr((CACHE_VERSION, PIL.__version__, self.image_shape, keep)).encode())
        for path in files.paths:
            try:
                stat = (files.folder / path).stat()
                digest.update(repr((str(files.folder.resolve()), path, stat.st_size, stat.st_mtime_ns)).encode())
            except OSError:  # a broken link: reading it will raise the error
                digest.update(repr(path).encode())
        return digest.hexdigest()[:32]


def read_folder(folder: Path, image_shape: tuple[int, int, int], num_workers: int = 2) -> Tensor:
    """Read every image below a folder, uint8 (N, C, H, W), in the order of the paths. Other sizes are resized and cropped.

    Raises:
        InputError: the folder is missing or empty, or a file cannot be read.
    """
    _, files = _scan(folder)
    read = list(_decoded(DecodedFiles(files, image_shape), num_workers))
    for index, why in (error for _, _, errors in read for error in errors.items()):
        raise InputError(f"{folder / files.paths[index]} cannot be read as an image ({why}): repair or remove it")
    return torch.cat([images for _, images, _ in read])


def count_other_sizes(folder: Path, image_shape: tuple[int, int, int]) -> int:
    """Count the images below a folder that :func:`read_folder` has to resize or crop to (C, H, W)."""
    _, files = _scan(folder)
    count = 0
    for path in files.paths:
        with suppress(Exception), open_image(folder / path) as image:
            count += image.size != (image_shape[2], image_shape[1])
    return count


def first_image_shape(folder: Path) -> tuple[int, int, int]:
    """Shape (C, H, W) of the first image below a folder; one channel if it is grey.

    Raises:
        InputError: the folder is missing or empty, or its first file cannot be read.
    """
    _, files = _scan(folder)
    return file_shape(folder / files.paths[0])


def file_shape(path: Path) -> tuple[int, int, int]:
    """Shape (C, H, W) of an image file; one channel if it is grey.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with open_image(path) as image:
            return (1 if image.mode in ("1", "L", "I", "I;16") else 3), image.height, image.width
    except Exception as error:  # Pillow raises many kinds of exceptions for damaged files
        raise _unreadable(path, error) from error


def read_file(path: Path, image_shape: tuple[int, int, int]) -> Tensor:
    """Read one image file, uint8 (C, H, W), by :func:`decode`.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return decode(path, image_shape)
    except Exception as error:  # as above
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(f"{path} cannot be read as an image ({one_line(error)}): repair or remove it")


class DecodedFiles(Dataset[tuple[Tensor, int]]):
    """Image files, decoded on access: index -> (uint8 (C, H, W), label). The label is -1 if there are none."""

    def __init__(self, files: Files, image_shape: tuple[int, int, int]) -> None:
        self.files, self.image_shape = files, image_shape

    def __len__(self) -> int:
        return len(self.files.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = decode(self.files.folder / self.files.paths[index], self.image_shape)
        return image, -1 if self.files.labels is None else self.files.labels[index]


def open_image(path: Path) -> Image.Image:
    """Open an image and read its size, but not its pixels yet. Refuses pipes and devices, because they may block."""
    if not path.is_file():
        raise ValueError("not a file" if path.exists() else "a broken or circular link")
    return Image.open(path, formats=FORMATS)


def decode(path: Path, image_shape: tuple[int, int, int]) -> Tensor:
    """Read an image file as uint8 (C, H, W): upright, on white if transparent, resized and centre-cropped if necessary.

    Raises:
        Exception: any error of Pillow, if the file is not an image or is incomplete.
    """
    with open_image(path) as opened:
        image: Image.Image = ImageOps.exif_transpose(opened)
        if image.mode == "F":
            raise ValueError("its pixels are floating-point numbers of unknown range")
        if image.mode.startswith("I"):  # 16 bits a pixel
            levels = numpy.asarray(image).astype(numpy.float64).clip(0, 65535) / 257
            image = Image.fromarray(levels.round().astype(numpy.uint8))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        channels, height, width = image_shape
        image = ImageOps.fit(image.convert("RGB" if channels == 3 else "L"), (width, height), Image.Resampling.LANCZOS)
    pixels = torch.from_numpy(numpy.array(image))  # (H, W, 3) or (H, W)
    return pixels.permute(2, 0, 1).contiguous() if channels == 3 else pixels.unsqueeze(0)


class _ImagesOrErrors(Dataset[tuple[int, Tensor | str]]):
    """The same files, but an unreadable one yields the reason instead of raising."""

    def __init__(self, dataset: DecodedFiles) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[int, Tensor | str]:
        try:
            return index, self.dataset[index][0]
        except Exception as error:  # Pillow raises many kinds of exceptions for damaged files
            return index, one_line(error)[:200]


def _decoded(dataset: DecodedFiles, num_workers: int) -> Iterator[tuple[int, Tensor, dict[int, str]]]:
    """Read every file in order, in parts: (count, images that could be read, {index of an unreadable file: reason})."""
    workers = num_workers if len(dataset) > 500 else 0  # starting a process costs more than reading a few files
    yield from DataLoader(_ImagesOrErrors(dataset), 64, num_workers=workers, collate_fn=_Collate(dataset.image_shape))


class _Collate:
    """Packs attempts in the worker, so that one tensor crosses to this process instead of 64."""

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        self.image_shape = image_shape

    def __call__(self, attempts: list[tuple[int, Tensor | str]]) -> tuple[int, Tensor, dict[int, str]]:
        images = [got for _, got in attempts if isinstance(got, Tensor)]
        errors = {index: got for index, got in attempts if isinstance(got, str)}
        return len(attempts), torch.stack(images) if images else torch.empty(0, *self.image_shape, dtype=torch.uint8), errors


def _load_cache(path: Path) -> dict[str, Any] | None:
    """Content of a cache file; None if it is missing or damaged, so that it is made again."""
    try:
        content: dict[str, Any] = load(path, keys=("images", "corrupt"))
    except InputError:
        return None
    return content


def _label_tensor(labels: tuple[int, ...] | None) -> Tensor | None:
    return None if labels is None else torch.tensor(labels)


def _find_splits(root: Path) -> tuple[tuple[str, ...], dict[Split, Files]]:
    """Find the names of the classes, and the files of both splits."""
    _require_folder(root)
    if sorted(entry.name for entry in root.iterdir() if not entry.name.startswith(".")) == ["test", "train"]:
        class_names, train = _scan(root / "train")
        test_names, test = _scan(root / "test")
        if test.labels is not None and class_names:
            unknown = sorted(set(test_names) - set(class_names))
            if unknown:
                raise InputError(
                    f"{root / 'test'} has classes that {root / 'train'} lacks ({', '.join(unknown[:5])}): use the same classes "
                    "in both"
                )
            test = Files(test.folder, test.paths, tuple(class_names.index(test_names[label]) for label in test.labels))
        return class_names, {"train": train, "test": test}
    class_names, files = _scan(root)
    held_out = [_is_held_out(path) for path in files.paths]
    positions = range(len(files.paths))
    train = files.select(i for i in positions if not held_out[i])
    if not train.paths:
        raise InputError(f"{root} has only {len(files.paths)} images, too few to train on: add more")
    return class_names, {"train": train, "test": files.select(i for i in positions if held_out[i])}


def _require_folder(folder: Path) -> None:
    try:
        exists, is_folder = folder.exists(), folder.is_dir()
    except OSError as error:  # such as a name that is too long
        raise InputError(f"{folder} cannot be opened ({error.strerror}): use a folder of images") from error
    if not exists:
        raise InputError(f"{folder} does not exist: use a folder of images")
    if not is_folder:
        raise InputError(f"{folder} is not a folder: use a folder of images")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise InputError(f"{folder} cannot be read (no permission): change its permissions, or use another --data.root")


def _is_held_out(path: str) -> bool:
    return int.from_bytes(hashlib.sha256(path.encode("utf-8", "surrogateescape")).digest()[:8], "big") % HELD_OUT == 0


def _scan(folder: Path) -> tuple[tuple[str, ...], Files]:
    """Find the classes and the images of one folder, sorted by path."""
    _require_folder(folder)
    paths = sorted(path.relative_to(folder) for path in _walk(folder))
    if not paths:
        raise InputError(f"{folder} has no images ({', '.join(sorted(SUFFIXES))}): use another folder")
    names = tuple(str(path) for path in paths)
    flat = [path for path in paths if len(path.parts) == 1]
    if flat:
        if len(flat) < len(paths):
            rank_zero_warn(f"{folder}: the images have no labels, because some, such as {flat[0]}, are outside its subfolders")
        return (), Files(folder, names, None)
    class_names = tuple(sorted({path.parts[0] for path in paths}))
    return class_names, Files(folder, names, tuple(class_names.index(path.parts[0]) for path in paths))


def other_files(folder: Path) -> list[Path]:
    """Files below a folder that do not count as images by their endings, without hidden ones."""
    return sorted(path for path in _files_below(folder) if path.suffix.lower() not in SUFFIXES)


def _walk(folder: Path) -> Iterator[Path]:
    """Image files below a folder."""
    return (path for path in _files_below(folder) if path.suffix.lower() in SUFFIXES)


def _files_below(folder: Path) -> Iterator[Path]:
    """All files below a folder except hidden ones. Follows links and visits each real folder once."""
    seen: set[str] = set()
    for here, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(here)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(here, name) for name in files if not name.startswith("."))
