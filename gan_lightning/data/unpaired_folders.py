"""Two folders of images that do not belong together, for translation without pairs."""

import os
from pathlib import Path
from typing import Any

from torch import Tensor

from gan_lightning.data.base import Images, Split
from gan_lightning.data.crops import Crop
from gan_lightning.data.decoded import check_channels
from gan_lightning.data.folder import ImageFolder
from gan_lightning.data.pairing import only_one
from gan_lightning.data.translation import Pairs, TranslationDataModule
from gan_lightning.data.tree import SPLIT_NAMES, Folder, require_folder, scan, with_held_out
from gan_lightning.errors import InputError


class UnpairedFolders(TranslationDataModule):
    """Images of two kinds, A and B, for translation from A to B and back. The sources are A, the targets B.

    They are in ``trainA``, ``trainB``, ``testA`` and ``testB`` below ``root``, or in any two folders. If there is no test
    folder, a tenth is held out. Each epoch draws both kinds independently. It has as many images of both as there are of the
    more numerous kind, so those of the other kind come several times.

    Args:
        root: folder of ``trainA``, ``trainB``, ``testA`` and ``testB``.
        a: folder of images A, instead of ``root``. Its splits are found as for :class:`ImageFolder`.
        b: folder of images B, instead of ``root``.
        image_size: height and width of all images, in pixels: 64 is a square, "96x64" or (96, 64) are 96 high and 64 wide.
        channels: 1 for grey, 3 for colour, 4 for colour and opacity of the images B.
        source_channels: the same for the images A; None is that of the images B.
        crop: part of the longer side that is used: its ``center``, or a ``random`` one each time.
        batch_size: images of each kind per update of a network, for each process.
        horizontal_flip: flip every training image left to right with probability 1/2.
        skip_corrupt: leave out files that cannot be read, instead of refusing the folder.
        num_workers: number of processes that decode each kind; None is one per core, at most 8.
        max_bytes_on_device: upper limit of the device memory for the training images of each kind, in bytes.
        pack: decode images that take more memory than this once, into a file.
        white: value that is white in images of more than 8 bits.
        seed: seed of both orders, of the random crops and of the flips.

    Raises:
        InputError: a folder is missing, unreadable or empty, or a number is out of range.
    """

    paired = False
    has_pairs = False

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        a: str | os.PathLike[str] | None = None,
        b: str | os.PathLike[str] | None = None,
        image_size: int | tuple[int, int] | str = 64,
        channels: int = 3,
        source_channels: int | None = None,
        crop: Crop = "center",
        batch_size: int = 64,
        horizontal_flip: bool = False,
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
        if alone := only_one(a, b):
            raise InputError(f"{alone}: add --data.{'b' if b is None else 'a'} FOLDER")
        if (root is None) == (a is None):
            raise InputError(
                "UnpairedFolders needs either --data.root, a folder of trainA, trainB, testA and testB, or both --data.a and "
                "--data.b"
            )
        self.source_data, self.target_data = (
            _Kind(
                kind,
                root=folder or root,
                image_size=image_size,
                channels=own,
                crop=crop,
                batch_size=batch_size,
                skip_corrupt=skip_corrupt,
                num_workers=num_workers,
                max_bytes_on_device=max_bytes_on_device,
                pack=pack,
                white=white,
                seed=seed,
            )
            for kind, folder, own in ((None if a else "A", a, source_channels or channels), (None if b else "B", b, channels))
        )
        self.image_shape, self.source_shape = self.target_data.image_shape, self.source_data.image_shape
        self.class_names = ()

    def pairs_at(self, split: Split, indices: Tensor) -> Pairs:
        raise InputError(f"{self.root} has no pairs: measure each direction by itself, or use PairedFolders")

    def num_sources(self, split: Split) -> int:
        return self.source_data.num_images(split)

    def sources_at(self, split: Split, indices: Tensor) -> Tensor:
        return self.source_data.images_at(split, indices)[0]

    def _pair(self, images: Tensor, other: Tensor | None) -> Pairs:
        assert other is not None
        return self._flipped(images), self._flipped(other, "flips of sources")

    def _targets(self, images: Images) -> Images:
        return images[0], None  # classes of A and B have nothing to do with each other


class _Kind(ImageFolder):
    """Images of one kind. The arguments are those of :class:`ImageFolder`.

    Args:
        kind: ``A`` or ``B`` reads ``trainA`` and so on; None reads a folder of this kind alone.
    """

    def __init__(self, kind: str | None, **arguments: Any) -> None:
        self._kind = kind
        super().__init__(**arguments)

    def _find(self) -> Folder:
        return super()._find() if self._kind is None else find_kind(self.root, self._kind)


def find_kind(root: Path, kind: str) -> Folder:
    """Find the images of one kind, in folders such as ``trainA`` and ``testA``. Without a test folder, a tenth is held out.

    Args:
        root: the folder of these folders.
        kind: the letter at the end of their names.

    Raises:
        InputError: there is no such folder, or it is unreadable or empty.
    """
    require_folder(root)
    folders = {
        split: entry
        for split, names in SPLIT_NAMES.items()
        for entry in sorted(root.iterdir())
        if entry.is_dir() and entry.name.lower() in {f"{name}{kind.lower()}" for name in names}
    }
    if "train" not in folders:
        raise InputError(
            f"{root} has no folder train{kind}: use a folder of trainA, trainB, testA and testB, or --data.a and --data.b"
        )
    train = scan(folders["train"])
    held_out = folders.get("test", folders.get("val"))
    return (
        Folder(*with_held_out((), train), ()) if held_out is None else Folder((), {"train": train, "test": scan(held_out)}, ())
    )
