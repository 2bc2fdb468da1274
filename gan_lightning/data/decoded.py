"""Base of the data that is decoded from image files of any size and mode, wherever these are stored."""

import hashlib
import os
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy
import PIL
import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from numpy.typing import NDArray
from torch import Tensor

from gan_lightning.data.base import ImageDataModule, Images, Split
from gan_lightning.data.crops import Crop, Uncropped, height_and_width
from gan_lightning.data.decoding import (
    DecodedFiles,
    Decoding,
    fixed_draw,
    read_again,
    read_all,
    read_batches,
    read_into_memory,
    room_for,
)
from gan_lightning.data.image_file import MODES, Facts, has_heif
from gan_lightning.data.labels import LabelFile
from gan_lightning.data.loaders import (
    AheadLoader,
    BalancedShuffle,
    CropLoader,
    DeviceLoader,
    EpochShuffle,
    ImageLoader,
    WorkerLoader,
)
from gan_lightning.data.pack import (
    CannotPack,
    expected_bytes,
    expected_seconds,
    free_bytes,
    make_pack,
    read_pack,
    require_space,
    write_reasons,
)
from gan_lightning.data.stored import Stored, whole
from gan_lightning.data.survey import Survey, count_copies, survey
from gan_lightning.data.tree import Files, Folder, count_text, listed, report_corrupt
from gan_lightning.errors import InputError
from gan_lightning.home import default_root
from gan_lightning.units import bytes_text, duration

CACHE_VERSION = 6
PART = 256  # images to crop at once: a place takes more memory than a pixel


class DecodedImages(ImageDataModule):
    """Images that are decoded from files, and resized and cropped to one size. A subclass finds the files.

    With ``crop: random``, each use of a training image shows another part of it: the place is a function of the seed and the
    position in the run. Everywhere else, such as in pictures and metrics, it is a function of the image's name.

    Several processes decode the images once into a file below the default data folder, their pack. If they take at most
    ``max_bytes_on_device``, training keeps them on the device. Otherwise it reads each batch from the pack, which is mapped
    into memory. With ``pack: false``, so many images are checked once and then decoded whenever they are read.

    Args:
        root: source of the images, such as a folder.
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
        skip_corrupt: leave out files that cannot be read, instead of refusing them all. Other images replace files that
            cannot be read any more later.
        num_workers: number of processes that decode; None is one per core, at most 8.
        max_bytes_on_device: upper limit of the device memory for the images of the train split, in bytes.
        pack: decode images that take more memory than this once, into a file.
        white: value that is white in images of more than 8 bits, such as 4095 if 12 of 16 bits are used. By default it is the
            largest value of 16 bits, and 1 for floating-point numbers.
        seed: seed of the order of the images, of the random crops and of the flips.

    Attributes:
        files: files of each split.
        num_found: number of files to train on before ``subset`` chose some.
        others: other files next to these, which are not images.
        label_file: file of the labels; None if there is none.
        kind: word for the source, for reports.
        counted: words for the files that are counted in reports.

    Raises:
        InputError: the source is missing, unreadable or empty, a file is corrupt, or a number is out of range.
    """

    label_file: LabelFile | None = None
    kind: str = "folder"
    counted: str = "files"

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
        pack: bool = True,
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
        self.max_bytes_on_device, self.pack = max_bytes_on_device, pack
        self.white = white
        found = self._find()
        self.class_names, self.files, self.others = found.class_names, found.splits, found.others
        self.condition_names = found.condition_names
        if balance and not self.class_names:
            has = "has attributes instead of" if self.condition_names else "has no"
            raise InputError(f"data.balance is true, but {self.root} {has} classes: remove it, or label the images")
        self.balance = balance
        self.subset, self.num_found = subset, len(self.files["train"].paths)
        if subset is not None:
            self._require_subset(subset)
            self.files["train"] = self.files["train"].subset(subset, subset_seed)
        self._read: dict[Split, Decoding] = {}
        self._failures: dict[str, None] = {}  # files that could be read before, in the order of their failures
        self._prepared: dict[Split, tuple[Files, Stored | Uncropped | None]] = {}

    @property
    def folders(self) -> "Sequence[DecodedImages]":
        return (self,)

    def images(self, split: Split) -> Images:
        return self.images_at(split, torch.arange(self.num_images(split)))

    def labels(self, split: Split) -> Tensor | None:
        return _label_tensor(self._prepare(split)[0].labels)

    def num_images(self, split: Split) -> int:
        return len(self._prepare(split)[0].paths) if self.files[split].paths else 0

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

    def batches_at(self, split: Split, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        files, images = self._prepare(split)
        if images is not None:
            yield from super().batches_at(split, batches)
            return
        for read, _, failures in read_batches(self._dataset(files), batches, self.num_workers):
            if failures:
                self._report_failures(failures)
            yield read

    def prepare_data(self) -> None:
        self._prepare("train")

    def setup(self, stage: str) -> None:
        self._prepare("train")

    def train_dataloader(self) -> ImageLoader:
        assert self.trainer is not None
        files, images = self._prepare("train")
        device, labels, size = self.trainer.strategy.root_device, _label_tensor(files.labels), len(files.paths)
        order = self._batch_images(size), self._shuffle(size)
        pin_memory = device.type == "cuda"
        if images is None:
            dataset, labelled = self._dataset(files), labels is not None
            return WorkerLoader(dataset, labelled, *order, self.num_workers, pin_memory, self._report_failures)
        is_small = images.nbytes <= self.max_bytes_on_device
        if is_small and labels is not None:
            labels = labels.to(device)
        if isinstance(images, Uncropped):
            loader: ImageLoader = CropLoader(images.to(device) if is_small else images, labels, *order, self.image_shape[1:])
        else:
            loader = DeviceLoader(whole(images).to(device) if is_small else images, labels, *order)
        return loader if is_small else AheadLoader(loader, pin_memory)

    def class_counts(self, split: Split) -> Counter[str]:
        """Count the images of each class in a split, without those that cannot be read."""
        return Counter(self.class_names[label] for label in self._prepare(split)[0].classes or ())

    def corrupt(self, split: Split) -> dict[Path, str]:
        """Find the files of a split that cannot be read, and the reasons. The first call decodes every file."""
        files = self.files[split]
        if not files.paths:
            return {}
        return {files.path(i): why for i, why in self._read_once(split).corrupt.items()}

    def facts(self, split: Split) -> Facts:
        """Treatment of the images of a split, as far as their pixels do not show it. The first call decodes every file."""
        return self._read_once(split).facts if self.files[split].paths else Facts()

    def loading(self, split: Split) -> str:
        """Describe how training reads the images of a split. The first call decodes every file."""
        images = self._read_once(split).images
        if images is None:
            return self._at_each_use()
        size = bytes_text(images.nbytes)
        if images.nbytes <= self.max_bytes_on_device:
            return f"{size} stay on the device"
        return f"{size} are read from the pack {self._pack_path(self.files[split])}.npy"

    def _at_each_use(self) -> str:
        return f"decoded whenever they are read, by {self.num_workers} processes"

    def survey(self) -> Survey:
        """Read the header of each file."""
        count = sum(len(files.paths) for files in self.files.values())
        return survey((files.source(i) for files in self.files.values() for i in range(len(files.paths))), count)

    def copies(self) -> int:
        """Count the files with the same bytes as an earlier one."""
        return count_copies([files.path(i) for files in self.files.values() for i in range(len(files.paths))])

    @property
    def held_out(self) -> str:
        """Describe the test split."""
        train, test = self.files["train"].folder, self.files["test"].folder
        return "a tenth, by a hash of the path" if test == train else f"the folder {os.path.relpath(test, self.root)}"

    @abstractmethod
    def _find(self) -> Folder:
        """Find the files of each split and their labels."""

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

    def _prepare(self, split: Split) -> tuple[Files, Stored | Uncropped | None]:
        """Return the files of a split that can be read, and their images unless these are decoded at each use."""
        if split not in self._prepared:
            files = self.files[split]
            if not files.paths:  # only the test split can be empty: find_splits refuses an empty train split
                raise InputError(f"{self.root} has too few images for a {split} split: add images, or a {split} split")
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
        trained = set(files.classes or ())
        empty = [name for label, name in enumerate(self.class_names) if label not in trained]
        if empty:
            raise InputError(
                f"{files.folder}: no image of {listed(empty, '; ')} can be read to train on: repair one, or remove the class"
            )

    def _read_once(self, split: Split) -> Decoding:
        """Read the images of a split, unless they are decoded at each use, and the reasons why others cannot be read.

        Makes the pack if there is none.
        """
        if split not in self._read:
            files = self.files[split]
            path = self._pack_path(files)
            result = read_pack(path, self.max_bytes_on_device)
            self._read[split] = self._decode(files, path) if result is None or not result.lasting else result
        return self._read[split]

    def _decode(self, files: Files, path: Path) -> Decoding:
        """Read every file once: into the pack ``path`` if the images are kept."""
        dataset = self._dataset(files)
        size = expected_bytes(dataset)
        if size <= self.max_bytes_on_device:
            return self._cached(dataset, path, size)
        return self._packed(dataset, path, size) if self.pack else self._checked(dataset, path)

    def _cached(self, dataset: DecodedFiles, path: Path, size: int) -> Decoding:
        """Make a pack of images that fit on the device; keep them in memory if the disk does not take it."""
        try:
            return make_pack(dataset, path, self.num_workers, self._pixel_settings(), size, self.max_bytes_on_device)
        except CannotPack as error:
            rank_zero_warn(f"{error}. The images will be decoded again in each run")
            return read_into_memory(dataset, self.num_workers)

    def _packed(self, dataset: DecodedFiles, path: Path, size: int) -> Decoding:
        """Make a pack of many images, after a line about its size and duration.

        Raises:
            InputError: the disk does not take it.
        """
        wanted = f"{count_text(len(dataset), 'image')} of {dataset.files.folder}"
        try:
            require_space(path, size)
            rank_zero_info(
                f"{wanted} are decoded once, into {path}.npy: {bytes_text(size)} of {bytes_text(free_bytes(path))} that are "
                f"free, in about {duration(expected_seconds(dataset, self.num_workers))}. --data.pack false decodes them "
                "whenever they are read instead"
            )
            return make_pack(dataset, path, self.num_workers, self._pixel_settings(), size, self.max_bytes_on_device)
        except CannotPack as error:
            raise InputError(
                f"{wanted} take {size:,} bytes on the disk, but {error}: free some space, name another data folder by "
                "GAN_LIGHTNING_DATA, or decode images whenever they are read by --data.pack false"
            ) from error

    def _checked(self, dataset: DecodedFiles, path: Path) -> Decoding:
        """Read every file, and keep only the reasons why some cannot be read."""
        result = read_all(dataset, self.num_workers)
        try:
            write_reasons(result, path, self._pixel_settings())
        except CannotPack as error:
            rank_zero_warn(f"{error}. The images will be checked again in each run")
        return result

    def _pack_path(self, files: Files) -> Path:
        """Path of the pack of these files, without a suffix."""
        return default_root() / "image_folder_cache" / self._fingerprint(files)

    def _pixel_settings(self) -> dict[str, Any]:
        """List all that the pixels of a pack depend on, besides the files."""
        settings = {"image_shape": self.image_shape, "crop": self.crop, "white": self.white}
        return {**settings, "version": CACHE_VERSION, "pillow": PIL.__version__}

    def _fingerprint(self, files: Files) -> str:
        """A hash of all that the cached images depend on."""
        kept = None if self.pack else self.max_bytes_on_device
        digest = hashlib.sha256(repr((self._pixel_settings(), kept)).encode())
        if any(path.lower().endswith((".heic", ".heif")) for path in files.paths):
            digest.update(repr(has_heif()).encode())
        for stamp in files.stamps():
            digest.update(repr(stamp).encode())
        return digest.hexdigest()[:32]


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


def _label_tensor(labels: tuple[int, ...] | NDArray[numpy.float32] | None) -> Tensor | None:
    """Classes int64 (N,), or attributes float32 (N, K)."""
    return None if labels is None else torch.as_tensor(labels)
