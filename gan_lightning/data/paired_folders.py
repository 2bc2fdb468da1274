"""Pairs of image files: in two parallel folders, or side by side in one file."""

import hashlib
import os
from dataclasses import replace
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from gan_lightning.data.base import Images, Split
from gan_lightning.data.crops import Crop
from gan_lightning.data.decoded import check_channels
from gan_lightning.data.decoding import DecodedFiles
from gan_lightning.data.folder import ImageFolder
from gan_lightning.data.image_file import Facts, read_upright, resized
from gan_lightning.data.pairing import PairFiles, find_pairs, halves
from gan_lightning.data.survey import Survey, survey
from gan_lightning.data.translation import Pairs, TranslationDataModule
from gan_lightning.data.tree import Files, Folder
from gan_lightning.errors import one_line

Direction = Literal["AtoB", "BtoA"]


class PairedFolders(TranslationDataModule):
    """Pairs of images below a folder, resized and cropped alike.

    The images of a pair are two files of the same name in two subfolders, such as ``photos/1.jpg`` and ``drawings/1.png``. If
    images are directly in the folder, and no subfolders are named, a pair is one file: A is its left half, B its right half.
    The splits are those of :class:`ImageFolder`, above or below the two subfolders: folders such as ``train`` and ``test``, or
    a held-out tenth.

    Args:
        root: folder of the images.
        a: name of the subfolder of images A; None is the first of the only two.
        b: name of the subfolder of images B; None is the second of the only two.
        direction: ``AtoB`` makes A the source and B the target, ``BtoA`` the reverse.
        image_size: height and width of both images, in pixels: 64 is a square, "96x64" or (96, 64) are 96 high and 64 wide.
        channels: 1 for grey, 3 for colour, 4 for colour and opacity of the targets.
        source_channels: the same for the sources; None is that of the targets.
        crop: part of the longer side that is used: its ``center``, or a ``random`` one each time.
        batch_size: pairs per update of a network, for each process.
        horizontal_flip: flip every training pair left to right with probability 1/2.
        subset: number of pairs to train on, chosen by ``subset_seed``; None trains on all.
        subset_seed: seed of the subset. It is not that of the run.
        skip_corrupt: leave out pairs that cannot be read or differ in size, instead of refusing the folder.
        num_workers: number of processes that decode; None is one per core, at most 8.
        max_bytes_on_device: upper limit of the device memory for the pairs of the train split, in bytes.
        pack: decode pairs that take more memory than this once, into a file.
        white: value that is white in images of more than 8 bits.
        seed: seed of the order of the pairs, of the random crops and of the flips.

    Attributes:
        folder: the pairs as images with the channels of both, those of the target first.

    Raises:
        InputError: the folder is missing, unreadable or empty, its images do not pair, or a number is out of range.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        a: str | None = None,
        b: str | None = None,
        direction: Direction = "AtoB",
        image_size: int | tuple[int, int] | str = 64,
        channels: int = 3,
        source_channels: int | None = None,
        crop: Crop = "center",
        batch_size: int = 64,
        horizontal_flip: bool = False,
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
        if source_channels is not None:
            check_channels(source_channels, "data.source_channels")
        self.folder = self.target_data = self.source_data = _PairFolder(
            a,
            b,
            direction,
            source_channels or channels,
            root=root,
            image_size=image_size,
            channels=channels,
            crop=crop,
            batch_size=batch_size,
            subset=subset,
            subset_seed=subset_seed,
            skip_corrupt=skip_corrupt,
            num_workers=num_workers,
            max_bytes_on_device=max_bytes_on_device,
            pack=pack,
            white=white,
            seed=seed,
        )
        self.image_shape, self.source_shape = self.folder.shapes
        self.class_names = ()

    def pairs_at(self, split: Split, indices: Tensor) -> Pairs:
        return self._halves(self.folder.images_at(split, indices)[0])

    def _pair(self, images: Tensor, other: Tensor | None) -> Pairs:
        return self._halves(self._flipped(images))

    def _targets(self, images: Images) -> Images:
        return self._halves(images[0])[0], None

    def _halves(self, both: Tensor) -> Pairs:
        channels = self.image_shape[0]
        return both[:, :channels], both[:, channels:]


class _PairFolder(ImageFolder):
    """Pairs of files as images with the channels of both, those of the target first.

    So a pair is read, cached, cropped, shuffled and left out as a whole. The arguments are those of :class:`PairedFolders`.

    Attributes:
        shapes: (C, H, W) of target and source.
    """

    def __init__(self, a: str | None, b: str | None, direction: Direction, source_channels: int, **arguments: Any) -> None:
        self._a, self._b, self.direction = a, b, direction
        super().__init__(**arguments)
        channels, height, width = self.image_shape
        self.shapes = (channels, height, width), (source_channels, height, width)
        self.image_shape = (channels + source_channels, height, width)

    def _find(self) -> Folder:
        return find_pairs(self.root, self._a, self._b)

    def survey(self) -> Survey:
        found = super().survey()
        splits = [files for files in self.files.values() if isinstance(files, PairFiles)]
        if splits:
            return found + survey([files.partner_folder / path for files in splits for path in files.partners])
        return replace(found, sizes=[(width // 2, height) for width, height in found.sizes])

    def _dataset(self, files: Files) -> "_DecodedPairs":
        return _DecodedPairs(files, self.shapes, self.white, self.crop, self.direction)

    def _fingerprint(self, files: Files) -> str:
        about: list[object] = [super()._fingerprint(files), self.shapes, self.direction]
        if isinstance(files, PairFiles):
            about.append(super()._fingerprint(Files(files.partner_folder, files.partners, None)))
        return hashlib.sha256(repr(about).encode()).hexdigest()[:32]


class _DecodedPairs(DecodedFiles):
    """Pairs of files, decoded on access as one image each: uint8 (C + C', H, W), the target first."""

    def __init__(
        self,
        files: Files,
        shapes: tuple[tuple[int, int, int], tuple[int, int, int]],
        white: float | None,
        crop: Crop,
        direction: Direction,
    ) -> None:
        (channels, height, width), (source_channels, *_) = shapes
        super().__init__(files, (channels + source_channels, height, width), white, crop)
        self.shapes, self.direction = shapes, direction

    def _decode(self, index: int, facts: Facts) -> Tensor:
        a, b = self._read_both(index, facts)
        pair = (b, a) if self.direction == "AtoB" else (a, b)  # the target first
        return torch.cat([resized(image, shape, self.crop) for image, shape in zip(pair, self.shapes, strict=True)])

    def _read_both(self, index: int, facts: Facts) -> tuple[Image.Image, Image.Image]:
        """Read the images A and B.

        Raises:
            Exception: one of them is damaged; ValueError if their sizes differ, or their width side by side is odd.
        """
        image = read_upright(self.path(index), self.white, facts)
        if not isinstance(self.files, PairFiles):
            return halves(image)
        path = self.files.partner_folder / self.files.partners[index]
        try:
            partner = read_upright(path, self.white, facts)
        except Exception as error:  # Pillow raises many kinds of exceptions for damaged files
            if isinstance(error, MemoryError) or getattr(error, "errno", None) is not None:
                raise  # the system's errors name the file
            raise ValueError(f"its partner {path}: {one_line(error)}") from error
        if image.size != partner.size:
            sizes = " and ".join(f"{width}x{height}" for width, height in (image.size, partner.size))
            raise ValueError(f"the sizes of the pair differ: it and {path} have {sizes} pixels (width x height)")
        return image, partner
