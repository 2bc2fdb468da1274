"""Survey of a folder of images before anything is trained on it."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from gan_lightning.data.folder import open_image

GREY = frozenset({"1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "I;16N"})
"""Pillow's modes without colour."""


@dataclass(frozen=True)
class Survey:
    """Contents of the headers of image files. Files with an unreadable header are left out.

    Attributes:
        sizes: (width, height) of each file in pixels, as stored, the smallest area first.
        modes: number of files of each of Pillow's modes, such as RGB, L (grey), P (palette) or I;16 (16 bits).
        formats: number of files of each format, by the file's content and not by its name.
        transparent: number of files with transparency data.
        copies: number of files with the same bytes as an earlier one.
    """

    sizes: Sequence[tuple[int, int]]
    modes: Counter[str]
    formats: Counter[str]
    transparent: int
    copies: int

    def smaller_than(self, pixels: int) -> int:
        """Count the images with a shorter side of less than so many pixels."""
        return sum(min(size) < pixels for size in self.sizes)

    @property
    def cropped(self) -> float:
        """Mean share of an image outside its central square, from 0 to 1."""
        shares = [1 - min(size) / max(size) for size in self.sizes]
        return sum(shares) / max(1, len(shares))


def survey(paths: Sequence[Path]) -> Survey:
    """Read the header of each file. To find copies, compare the bytes of files of equal length."""
    sizes, modes, formats, transparent = [], Counter[str](), Counter[str](), 0
    for path in tqdm(paths, desc="Inspecting files", unit=" files", delay=1):
        with suppress(Exception), open_image(path) as image:  # Pillow raises many kinds of exceptions for damaged files
            sizes.append(image.size)
            modes[image.mode] += 1
            formats[str(image.format)] += 1
            transparent += image.has_transparency_data
    return Survey(sorted(sizes, key=lambda size: size[0] * size[1]), modes, formats, transparent, _copies(paths))


def _copies(paths: Sequence[Path]) -> int:
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
