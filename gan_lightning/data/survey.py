"""Survey of a folder of images before anything is trained on it."""

import hashlib
import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from gan_lightning.data.image_file import GREY, file_shape, mode_of, open_image, upright_size
from gan_lightning.data.tree import scan


@dataclass(frozen=True)
class Survey:
    """Contents of the headers of image files. Files with an unreadable header are left out.

    Attributes:
        sizes: (width, height) of each file in pixels, upright, the smallest area first.
        modes: number of files of each of Pillow's modes, such as RGB, L (grey), P (palette) or I;16 (16 bits).
        formats: number of files of each format, by the file's content and not by its name.
        transparent: number of files with transparency data.
    """

    sizes: Sequence[tuple[int, int]]
    modes: Counter[str]
    formats: Counter[str]
    transparent: int

    def __add__(self, other: "Survey") -> "Survey":
        """Sum up with the headers of other files."""
        return Survey(
            sorted([*self.sizes, *other.sizes], key=_area),
            self.modes + other.modes,
            self.formats + other.formats,
            self.transparent + other.transparent,
        )

    @property
    def grey(self) -> int:
        """Count the images without colour."""
        return sum(count for mode, count in self.modes.items() if mode in GREY)

    @property
    def usual_size(self) -> tuple[int, int]:
        """The most frequent (width, height); the largest of several."""
        counts = Counter(self.sizes)
        return max(counts, key=lambda size: (counts[size], size[0] * size[1], size))

    def smaller_than(self, height: int, width: int) -> int:
        """Count the images with a lower height or width, in pixels."""
        return sum(own_width < width or own_height < height for own_width, own_height in self.sizes)

    def cropped(self, height: int, width: int) -> float:
        """Mean share of an image outside its largest crop of the shape of ``height`` and ``width``, from 0 to 1."""
        ratios = [own_width * height / (own_height * width) for own_width, own_height in self.sizes]
        return sum(1 - min(ratio, 1 / ratio) for ratio in ratios) / max(1, len(ratios))


def _area(size: tuple[int, int]) -> int:
    return size[0] * size[1]


@dataclass
class Headers:
    """Headers of image files, added one by one."""

    sizes: list[tuple[int, int]] = field(default_factory=list)
    modes: Counter[str] = field(default_factory=Counter)
    formats: Counter[str] = field(default_factory=Counter)
    transparent: int = 0

    def add(self, source: Path | io.BytesIO) -> None:
        """Read the header of a file.

        Raises:
            Exception: any error of Pillow, if it is damaged.
        """
        with open_image(source) as image:
            mode = mode_of(image)
            self.sizes.append(upright_size(image))
            self.modes[mode] += 1
            self.formats[str(image.format)] += 1
            self.transparent += image.has_transparency_data

    def survey(self) -> Survey:
        """Sum up the headers."""
        return Survey(sorted(self.sizes, key=_area), self.modes, self.formats, self.transparent)


def survey(sources: Iterable[Path | io.BytesIO], count: int | None = None) -> Survey:
    """Read the header of each file.

    Args:
        sources: paths or contents of the files.
        count: number of files, for the progress bar; None is the length of ``sources``.
    """
    headers = Headers()
    for source in tqdm(sources, total=count, desc="Inspecting files", unit=" files", delay=1):
        with suppress(Exception):  # Pillow raises many kinds of exceptions for damaged files
            headers.add(source)
    return headers.survey()


def survey_folder(folder: Path) -> Survey:
    """Read the header of each image below a folder.

    Raises:
        InputError: the folder is missing or empty, or no header can be read.
    """
    paths = [folder / path for path in scan(folder, report=False).paths]
    found = survey(paths)
    if not found.sizes:
        file_shape(paths[0])  # raises the reason
    return found


def count_copies(paths: Sequence[Path]) -> int:
    """Count the files with the same bytes as an earlier one. Reads files of equal length."""
    by_length: dict[int, list[Path]] = defaultdict(list)
    for path in paths:
        with suppress(OSError):  # a broken link
            if path.is_file() and (length := path.stat().st_size):
                by_length[length].append(path)
    groups = [group for group in by_length.values() if len(group) > 1]
    return sum(len(group) - len({_digest(path) for path in group}) for group in groups)


def _digest(path: Path) -> bytes:
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError:  # unreadable: counts as no copy
        return bytes(path)
