"""Any folder of images: mixed sizes and modes, one subfolder per class or flat."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import PIL
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from tqdm import tqdm

from gan_lightning.data.base import ImageDataModule, Images, Split, default_root, example_indices
from gan_lightning.data.crops import Crop, Uncropped, height_and_width
from gan_lightning.data.decoding import DecodedFiles, Decoding, fixed_draw, read_again, read_all, room_for
from gan_lightning.data.image_file import MODES, Facts, has_heif
from gan_lightning.data.loaders import BalancedShuffle, CropLoader, EpochShuffle, ImageLoader, WorkerLoader
from gan_lightning.data.stored import Spool, Stored
from gan_lightning.data.survey import Survey, survey
from gan_lightning.data.tree import Files, Folder, count_text, find_splits, listed, report_corrupt, scan
from gan_lightning.errors import InputError
from gan_lightning.files import load, save

CACHE_VERSION = 5
PART = 256  # images to crop at once: a place takes more memory than a pixel


class ImageFolder(ImageDataModule):
    """Images below a folder, resized and cropped to one size.

    If all subfolders of ``root`` have names of splits, such as ``train``, ``val`` and ``test``, these are the splits: the first
    in this order is trained on, and the last is held out. Otherwise a tenth of the images is held out for the test split, by a
    hash of the path below ``root``; one image of each class is always trained on. Every subfolder of a split is a class; a
    split that directly contains images has no labels.

    With ``crop: random``, each use of a training image shows another part of it: the place is a function of the seed and the
    position in the run. Everywhere else, such as in pictures and metrics, it is a function of the image's path.

    Several processes decode the images once and cache them below the default data folder. If the images take more than
    ``max_bytes_on_device``, they are checked once and then decoded whenever they are read.

    Args:
        root: folder of the images.
        image_size: height and width of the images, in pixels: 64 is a square, "96x64" or (96, 64) are 96 high and 64 wide.
            Each image is resized until it just covers this size, and then cropped.
        crop: part of the resized image that is used: its ``center``, or a ``random`` one each time.
        channels: 1 for grey, 3 for colour, 4 for colour and opacity. With 1 or 3, transparent images are put on white; with 4,
            images without transparency are opaque. Images of more than 8 bits are reduced to 8.
        batch_size: images per update of a network, for each process.
        horizontal_flip: flip every training image left to right with probability 1/2.
        balance: draw all classes equally often. An epoch stays as long: images of small classes are repeated in it, and some
            of large classes are not.
        subset: number of images to train on, chosen by ``subset_seed``; None trains on all. Classes keep their shares.
        subset_seed: seed of the subset. It is not that of the run, so that runs with other seeds train on the same images.
        skip_corrupt: leave out files that cannot be read, instead of refusing the folder. Other images replace files
            that cannot be read any more later.
        num_workers: number of processes that decode; None is one per core, at most 8.
        max_bytes_on_device: upper limit of the device memory for the images of the train split, in bytes.
        white: value that is white in images of more than 8 bits, such as 4095 if 12 of 16 bits are used. By default it is the
            largest value of 16 bits, and 1 for floating-point numbers.
        seed: seed of the order of the images, of the random crops and of the flips.

    Attributes:
        files: files of each split.
        num_found: number of files to train on before ``subset`` chose some.
        others: files below ``root`` that are not images, relative to it.

    Raises:
        InputError: the folder is missing, unreadable or empty, a file is corrupt, or a number is out of range.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        image_size: int | tuple[int, int] | str = 64,
        channels: int = 3,
        batch_size: int = 64,
        crop: Crop = "center",
        horizontal_flip: bool = False,
        balance: bool = False,
        subset: int | None = None,
        subset_seed: int = 0,
        skip_corrupt: bool = False,
        num_workers: int | None = None,
        max_bytes_on_device: int = 4 * 2**30,
        white: float | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(root, batch_size, horizontal_flip, seed)
        height, width = height_and_width(image_size, "data.image_size")
        check_channels(channels, "data.channels")
        if num_workers is not None and num_workers < 0:
            raise InputError(f"data.num_workers is {num_workers}: use at least 0")
        check_white(white, "data.white")
        self.crop = crop
        self.image_shape = (channels, height, width)
        self.skip_corrupt = skip_corrupt
        self.num_workers = min(8, os.cpu_count() or 1) if num_workers is None else num_workers
        self.max_bytes_on_device = max_bytes_on_device
        self.white = white
        found = self._find()
        self.class_names, self.files, self.others = found.class_names, found.splits, found.others
        if balance and not self.class_names:
            raise InputError(
                f"data.balance is true, but {self.root} has no classes: remove it, or put the images of each class into a "
                "subfolder"
            )
        self.balance = balance
        self.subset, self.num_found = subset, len(self.files["train"].paths)
        if subset is not None:
            self._require_subset(subset)
            self.files["train"] = self.files["train"].subset(subset, subset_seed)
        self._read: dict[Split, Decoding] = {}
        self._failures: dict[str, None] = {}  # files that could be read before, in the order of their failures
        self._prepared: dict[Split, tuple[Files, Tensor | Uncropped | None]] = {}

    @property
    def folders(self) -> "Sequence[ImageFolder]":
        return (self,)

    def images(self, split: Split) -> Images:
        files, images = self._prepare(split)
        if isinstance(images, Tensor):
            return images, _label_tensor(files.labels)
        return self.images_at(split, torch.arange(len(files.paths)))

    def num_images(self, split: Split) -> int:
        return len(self._prepare(split)[0].paths)

    def images_at(self, split: Split, indices: Tensor) -> Images:
        files, images = self._prepare(split)
        few = files.select(indices.tolist())
        if images is None:
            return self._again(few)
        if isinstance(images, Uncropped):
            draws, crop = torch.tensor([fixed_draw(path) for path in few.paths]), self.image_shape[1:]
            chosen = room_for(len(few.paths), self.image_shape)
            for part, places in zip(
                torch.split(chosen, PART), torch.split(images.places(indices, draws, crop), PART), strict=True
            ):
                part.copy_(images.crops(places, crop))
        else:
            chosen = images[indices]
        return chosen, _label_tensor(few.labels)

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
        if isinstance(images, Tensor):
            return super().train_dataloader()
        device, size = self.trainer.strategy.root_device, len(files.paths)
        if images is not None:
            labels = _label_tensor(files.labels)
            return CropLoader(
                images.to(device),
                None if labels is None else labels.to(device),
                self._batch_images(size),
                self._shuffle(size),
                self.image_shape[1:],
            )
        return WorkerLoader(
            self._dataset(files),
            files.labels is not None,
            self._batch_images(size),
            self._shuffle(size),
            self.num_workers,
            pin_memory=device.type == "cuda",
            report=self._report_failures,
        )

    def class_counts(self, split: Split) -> Counter[str]:
        """Count the images of each class in a split, without those that cannot be read."""
        return Counter(self.class_names[label] for label in self._prepare(split)[0].labels or ())

    def corrupt(self, split: Split) -> dict[Path, str]:
        """Find the files of a split that cannot be read, and the reasons. The first call decodes every file."""
        files = self.files[split]
        if not files.paths:
            return {}
        return {files.folder / files.paths[i]: why for i, why in self._read_once(split).corrupt.items()}

    def facts(self, split: Split) -> Facts:
        """Treatment of the images of a split, as far as their pixels do not show it. The first call decodes every file."""
        return self._read_once(split).facts if self.files[split].paths else Facts()

    def kept_bytes(self, split: Split) -> int | None:
        """Memory of the images of a split if they fit in ``max_bytes_on_device``; None if they are decoded at each use."""
        images = self._read_once(split).images
        return None if images is None else images.nbytes

    def survey(self) -> Survey:
        """Read the header of each file."""
        return survey([files.folder / path for files in self.files.values() for path in files.paths])

    def _find(self) -> Folder:
        """Find the files of each split and their classes."""
        return find_splits(self.root)

    def _shuffle(self, size: int) -> EpochShuffle:
        labels = _label_tensor(self._prepare("train")[0].labels)
        if not self.balance or labels is None:
            return super()._shuffle(size)
        assert self.trainer is not None
        return BalancedShuffle(labels, self.seed, self.trainer.global_rank, self.trainer.world_size)

    def _dataset(self, files: Files) -> DecodedFiles:
        return DecodedFiles(files, self.image_shape, self.white, self.crop)

    def _again(self, files: Files) -> Images:
        """Read files again that were readable before."""
        images, labels, failures = read_again(self._dataset(files), self.num_workers)
        if failures:
            self._report_failures(failures)
        return images, None if files.labels is None else labels

    def _report_failures(self, failures: Sequence[str]) -> None:
        """Refuse files that cannot be read any more, or report that others replace them.

        Reports the first one, the second, the fourth and so on, because thousands may vanish during a run.

        Raises:
            InputError: unless ``skip_corrupt`` is set.
        """
        known = len(self._failures)
        self._failures |= dict.fromkeys(failures)
        count = len(self._failures)
        named = listed([*self._failures], "; ")
        message = f"{self.root} has changed, and {count_text(count, 'file')} cannot be read any more: {named}"
        if not self.skip_corrupt:
            raise InputError(f"{message}. Restore what is missing, or continue without it by --data.skip_corrupt true")
        if count.bit_length() > known.bit_length():
            rank_zero_warn(f"{message}. Other images replace them")

    def _prepare(self, split: Split) -> tuple[Files, Tensor | Uncropped | None]:
        """Return the files of a split that can be read, and their images if they fit in ``max_bytes_on_device``."""
        if split not in self._prepared:
            files = self.files[split]
            if not files.paths:  # only the test split can be empty: find_splits refuses an empty train split
                raise InputError(
                    f"{self.root} has too few images for a {split} split: put some images into {self.root / split}"
                )
            read = self._read_once(split)
            corrupt = {str(path): why for path, why in self.corrupt(split).items()}
            report_corrupt(files.folder, corrupt, len(files.paths), self.skip_corrupt, "--data.skip_corrupt true")
            good = files.select(i for i in range(len(files.paths)) if i not in read.corrupt)
            if split == "train":
                self._require_classes(good)
            read.facts.report(f"{files.folder} ({split} split)")
            self._prepared[split] = good, read.images
        return self._prepared[split]

    def _require_subset(self, subset: int) -> None:
        """Check the size of the subset.

        Raises:
            InputError: there are fewer images, or it has too few for two batches, or for the classes.
        """
        least = max(2 * self.batch_size, len(self.class_names))
        if subset > self.num_found:
            raise InputError(
                f"data.subset is {subset}, but {self.root} has {self.num_found} images to train on: use at most these"
            )
        if subset < least:
            raise InputError(
                f"data.subset is {subset}, too few for two batches of {self.batch_size} and {len(self.class_names)} classes: "
                f"use at least {least}, or a smaller --data.batch_size"
            )

    def _require_classes(self, files: Files) -> None:
        """Check that each class has an image to train on.

        Raises:
            InputError: one has none: samples of it would be untrained.
        """
        trained = set(files.labels or ())
        empty = [name for label, name in enumerate(self.class_names) if label not in trained]
        if empty:
            raise InputError(
                f"{files.folder}: no image of {listed(empty, '; ')} can be read to train on: repair one, or remove the folder "
                "of the class"
            )

    def _read_once(self, split: Split) -> Decoding:
        """Read the images of a split, if they are kept, and the reasons why others cannot be read; use the cache."""
        if split not in self._read:
            files = self.files[split]
            cache = default_root() / "image_folder_cache" / f"{self._fingerprint(files)}.pt"
            result = _load_cache(cache)
            if result is None:
                result = self._decode(files)
                try:
                    if result.lasting:
                        _save_cache(result, cache)
                except OSError as error:
                    rank_zero_warn(
                        f"{cache} cannot be written ({error.strerror}). The images will be decoded again in each run"
                    )
            self._read[split] = result
        return self._read[split]

    def _decode(self, files: Files) -> Decoding:
        """Read every file once: the images of the readable ones (if they fit), and the reasons why the others are not."""
        with tqdm(total=len(files.paths), desc=f"Reading {files.folder}", unit=" images", delay=1) as bar:
            return read_all(self._dataset(files), self.num_workers, self.max_bytes_on_device, bar.update)

    def _fingerprint(self, files: Files) -> str:
        """A hash of all that the cached images depend on."""
        about = CACHE_VERSION, PIL.__version__, self.image_shape, self.crop, self.max_bytes_on_device, self.white
        digest = hashlib.sha256(repr(about).encode())
        if any(path.lower().endswith((".heic", ".heif")) for path in files.paths):
            digest.update(repr(has_heif()).encode())
        for path in files.paths:
            try:
                stat = (files.folder / path).stat()
                digest.update(repr((str(files.folder.resolve()), path, stat.st_size, stat.st_mtime_ns)).encode())
            except OSError:  # a broken link: reading it will raise the error
                digest.update(repr(path).encode())
        return digest.hexdigest()[:32]


def read_folder(
    folder: Path,
    image_shape: tuple[int, int, int],
    white: float | None = None,
    skipped: list[str] | None = None,
    choose: Callable[[int], Tensor] = torch.arange,
    num_workers: int = 2,
) -> Stored:
    """Read images below a folder, uint8 (N, C, H, W), in the order of the paths. Other sizes are resized and cropped.

    Args:
        folder: the folder.
        image_shape: (C, H, W).
        white: value that is white in images of more than 8 bits.
        skipped: list to which the paths of unreadable files are added; None refuses them.
        choose: maps the number of files to the indices of those to read.
        num_workers: number of processes that decode.

    Raises:
        InputError: the folder is missing or empty, or a file cannot be read.
    """
    files = scan(folder)
    files, spool = files.select(choose(len(files.paths)).tolist()), Spool(image_shape)
    result = read_all(DecodedFiles(files, image_shape, white), num_workers, kept=spool)
    corrupt = {str(folder / files.paths[index]): why for index, why in result.corrupt.items()}
    report_corrupt(folder, corrupt, len(files.paths), skipped is not None, "--skip_corrupt")
    if skipped is not None:
        skipped.extend(corrupt)
    result.facts.report(folder)
    return spool.images


def check_channels(channels: int, flag: str) -> None:
    """Check the number of channels of images.

    Raises:
        InputError: there are no such images.
    """
    if channels not in MODES:
        raise InputError(f"{flag} is {channels}: use 1 (grey), 3 (colour) or 4 (colour and transparency)")


def check_white(white: float | None, flag: str) -> None:
    """Check the value that is white.

    Raises:
        InputError: it is not a number above 0.
    """
    if white is not None and not 0 < white < float("inf"):
        raise InputError(f"{flag} is {white}: use a number above 0, such as 4095")


def _load_cache(path: Path) -> Decoding | None:
    """Content of a cache file; None if it is missing or damaged, so that it is made again."""
    try:
        content: dict[str, Any] = load(path, keys=("images", "sizes", "corrupt", "facts"))
    except InputError:
        return None
    facts = Facts(**{**content["facts"], "depths": Counter(content["facts"]["depths"])})
    images, sizes = content["images"], content["sizes"]
    return Decoding(images if sizes is None else Uncropped(images, sizes), content["corrupt"], facts)


def _save_cache(result: Decoding, path: Path) -> None:
    whole = result.images if isinstance(result.images, Uncropped) else None
    images, sizes = (result.images, None) if whole is None else (whole.pixels, whole.sizes)
    facts = {**asdict(result.facts), "depths": dict(result.facts.depths)}
    save({"images": images, "sizes": sizes, "corrupt": result.corrupt, "facts": facts}, path)


def _label_tensor(labels: tuple[int, ...] | None) -> Tensor | None:
    return None if labels is None else torch.tensor(labels)
