"""One image file: its format by its content, its header, and its pixels as uint8."""

import io
import os
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy
import torch
from lightning.pytorch.utilities import rank_zero_info
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from gan_lightning.data.crops import Crop, uncropped_size
from gan_lightning.errors import InputError, one_line

SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff"}
    | {".webp"}
)
"""Suffixes of images. Other files are images if their content is, but see :func:`is_image`."""
SIDECARS = frozenset(
    {".bak", ".crdownload", ".csv", ".db", ".htm", ".html", ".ini", ".json", ".md", ".npy", ".npz", ".part", ".pt", ".py"}
    | {".tmp", ".txt", ".xml", ".yaml", ".yml"}
)
"""Suffixes of other files, whatever they contain. Often there is one next to each image, so opening them would take long."""
KNOWN = SUFFIXES | SIDECARS
GREY = frozenset({"1", "F", "I", "I;16", "I;16B", "I;16L", "I;16N", "L", "LA", "La"})
"""Pillow's modes without colour."""
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Number of channels -> Pillow's mode."""
HEAD = 64  # bytes of a file that show its format
ORIENTATION, BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT = 274, 258, 262, 339  # tags of EXIF and TIFF
LYING = (5, 6, 7, 8)
"""Values of the EXIF orientation that exchange width and height."""
WHITE_16 = 65535
DRAFT = 2.5
"""A JPEG is decoded smaller down to so many times the size that is needed: at less, it differs by more than one grey level."""
Box = tuple[float, float, float, float]
"""Left, top, right and bottom of a part of an image, in pixels."""


@dataclass
class Facts:
    """Treatment of some images that their pixels do not show: counts of images.

    Attributes:
        frames: images of several frames, of which only the first is used.
        depths: images of more than 8 bits, by the value that became white: "16 bits (white is 65535)".
        clipped: images with values below 0 or above white. Such values are clipped.
        brightest: largest value of the images with integers for which 65535 became white, because nothing told the value.
    """

    frames: int = 0
    depths: Counter[str] = field(default_factory=Counter)
    clipped: int = 0
    brightest: int = 0

    def add(self, other: "Facts") -> None:
        """Add the counts of other images."""
        self.frames += other.frames
        self.depths.update(other.depths)
        self.clipped += other.clipped
        self.brightest = max(self.brightest, other.brightest)

    def report(self, source: object) -> None:
        """Print the treatment of the images of ``source``."""
        for sentence in self.sentences():
            rank_zero_info(f"{source}: {sentence}")

    def sentences(self) -> list[str]:
        """Describe the treatment, one sentence for each kind."""
        sentences = [f"reduced to 8 bits: {count:,} with {depth}" for depth, count in sorted(self.depths.items())]
        if self.frames:
            sentences.append(f"the first of several frames is used: {self.frames:,}")
        if self.clipped:
            sentences.append(f"clipped, because values are below 0 or above white: {self.clipped:,}")
        if 0 < self.brightest < WHITE_16 // 4:
            likely = 2 ** self.brightest.bit_length() - 1
            sentences.append(
                f"the images of more than 8 bits are nearly black, because their brightest value is {self.brightest:,} of "
                f"{WHITE_16:,}: name the value that is white with --data.white {likely} (--white {likely} in other commands)"
            )
        return sentences


def format_of(head: bytes) -> str | None:
    """Name the format of a file by its first :data:`HEAD` bytes, as Pillow does; None if it is not a supported image.

    No other format is ever opened: a PostScript file is a program.
    """
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "TIFF"
    if head.startswith(b"BM") and head[14:18] in {size.to_bytes(4, "little") for size in (12, 40, 52, 56, 64, 108, 124)}:
        return "BMP"
    if head[:1] == b"P" and head[1:2] in b"123456fF" and head[2:3] in b" \t\r\n" and len(head) > 2:
        return "PPM"
    if head[4:8] == b"ftyp":
        brands = head[8 : max(16, min(HEAD, int.from_bytes(head[:4], "big")))]
        if b"avif" in brands or b"avis" in brands:
            return "AVIF"
        if any(brand in brands for brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")):
            return "HEIF"
    return None


def is_image(path: Path) -> bool:
    """Check if a file counts as an image: by its suffix, or by its content if the suffix is not a known one.

    A file with the suffix of an image counts even if it is damaged, so that it is named. A TIFF counts only under its own
    suffix or without any, because the raw files of cameras are TIFFs with a thumbnail.
    """
    head = b""
    if _suffix(path.name) not in KNOWN:
        try:
            if path.is_file():
                with path.open("rb") as file:
                    head = file.read(HEAD)
        except OSError:
            return False
    return is_image_name(path.name, head)


def is_image_name(name: str, head: bytes) -> bool:
    """Tell the same by a file's name and its first :data:`HEAD` bytes."""
    suffix = _suffix(name)
    if suffix in KNOWN:
        return suffix in SUFFIXES
    found = format_of(head)
    return found is not None and (found != "TIFF" or not suffix)


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122  (folders may have a million names, and Path takes ten times as long)


def open_image(source: Path | io.BytesIO) -> Image.Image:
    """Open an image and read its size, but not its pixels yet. Refuses pipes and devices, because they may block.

    Raises:
        Exception: any error of Pillow, if the file is not an image or is damaged.
    """
    if isinstance(source, Path):
        if not source.is_file():
            raise ValueError("not a file" if source.exists() else "it does not exist, or is a broken or circular link")
        with source.open("rb") as file:
            head = file.read(HEAD)
    else:
        head = source.getvalue()[:HEAD]
        source.seek(0)
    found = format_of(head)
    if found is None:
        raise ValueError("an empty file" if not head else "its content is not an image of a supported format")
    if found == "HEIF":
        _support_heif()
    elif found == "AVIF":
        from PIL import AvifImagePlugin  # noqa: F401  (registers the format; missing before Pillow 11.3)
    return Image.open(source, formats=(found,))


def has_heif() -> bool:
    """Check if HEIC images can be read."""
    try:
        _support_heif()
    except ValueError:
        return False
    return True


def _support_heif() -> None:
    try:
        import pillow_heif
    except ImportError as error:
        raise ValueError("HEIC needs the package pillow-heif: run pip install pillow-heif") from error
    pillow_heif.register_heif_opener()


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of an opened image when it is shown as its EXIF orientation says."""
    tags = getattr(image, "tag_v2", None)
    width, height = image.size if tags is None else (tags[256], tags[257])  # newer Pillows turn the size of a TIFF themselves
    return (height, width) if _orientation(image) in LYING else (width, height)


def _orientation(image: Image.Image) -> int:
    """EXIF orientation from 1 to 8; 1 (upright) if there is none, or the EXIF data are damaged."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # Pillow raises many kinds of exceptions
        return 1


def mode_of(image: Image.Image) -> str:
    """Pillow's mode of an opened image; LA for grey with transparency in 16 bits. Pillow opens that as RGBA.

    Only before anything else reads the image, such as :func:`upright_size`.
    """
    return "LA" if _raw_mode(image).startswith("LA;") else image.mode


def file_shape(path: Path) -> tuple[int, int, int]:
    """Shape (C, H, W) of an upright image file; one channel if it is grey.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with open_image(path) as image:
            channels = 1 if mode_of(image) in GREY else 3
            width, height = upright_size(image)
            return channels, height, width
    except Exception as error:  # Pillow raises many kinds of exceptions for damaged files
        raise unreadable(path, error) from error


def read_file(path: Path, image_shape: tuple[int, int, int], white: float | None = None) -> Tensor:
    """Read one image file, uint8 (C, H, W), by :func:`decode`, and report its treatment.

    Raises:
        InputError: it cannot be read.
    """
    return _reported(path, lambda facts: decode(path, image_shape, white, facts))


def read_whole(path: Path, channels: int, white: float | None = None, facts: Facts | None = None) -> Tensor:
    """Read one image file in its own size, uint8 (C, H, W): upright, in 8 bits, without opacity if C is not 4.

    Raises:
        Exception: any error of :func:`read_upright`.
    """
    image = read_upright(path, white, Facts() if facts is None else facts)
    return fitted(image, (channels, image.height, image.width))


def read_file_whole(path: Path, channels: int, white: float | None = None) -> Tensor:
    """Read one image file by :func:`read_whole`, and report its treatment.

    Raises:
        InputError: it cannot be read.
    """
    return _reported(path, lambda facts: read_whole(path, channels, white, facts))


def _reported(path: Path, read: Callable[[Facts], Tensor]) -> Tensor:
    """Read one image file by ``read``, and report its treatment.

    Raises:
        InputError: it cannot be read.
    """
    facts = Facts()
    try:
        image = read(facts)
    except Exception as error:  # Pillow raises many kinds of exceptions for damaged files
        raise unreadable(path, error) from error
    facts.report(path)
    return image


def unreadable(path: Path, error: Exception) -> InputError:
    """The error for a file that is named alone."""
    return InputError(f"{path} cannot be read as an image ({one_line(error)[:200]}): repair it, or use another file")


def decode(
    source: Path | io.BytesIO,
    image_shape: tuple[int, int, int],
    white: float | None = None,
    facts: Facts | None = None,
    crop: Crop = "center",
) -> Tensor:
    """Read an image file as uint8 (C, H, W): upright, in 8 bits, and then as :func:`fitted` makes it.

    For a random crop, the image stays whole: it has the size of :func:`~gan_lightning.data.crops.uncropped_size`.

    Values of more than 8 bits are scaled so that white becomes 255. The file tells the value of white if it has 12 bits (TIFF)
    or a largest value (PGM). Otherwise it is ``white``, and by default 65535 for 16 bits and 1 for floating-point numbers.

    Args:
        source: the file, or its content.
        image_shape: (C, H, W).
        white: value that is white, for files of more than 8 bits that do not tell it.
        facts: counts to add this image to.
        crop: place of the crop.

    Raises:
        Exception: any error of :func:`read_upright`.
    """
    facts = Facts() if facts is None else facts
    image, box = _read_upright(source, white, facts, image_shape[1:])
    return resized(image, image_shape, crop, box)


def read_upright(source: Path | io.BytesIO, white: float | None, facts: Facts) -> Image.Image:
    """Read an image file, upright and in 8 bits, in its own size and mode. The arguments are those of :func:`decode`.

    Raises:
        Exception: any error of Pillow, if the file is not an image or is incomplete; ValueError if nothing tells which value is
            white.
    """
    return _read_upright(source, white, facts, None)[0]


def _read_upright(
    source: Path | io.BytesIO, white: float | None, facts: Facts, size: tuple[int, int] | None
) -> tuple[Image.Image, Box | None]:
    """Do the same for an image that will be resized to cover ``size``, height and width. A large JPEG is decoded smaller.

    Returns:
        the image, and the part of it that a smaller JPEG covers. Its last row and column may be whole pixels for a part of one.
    """
    with open_image(source) as opened:
        with suppress(Exception):  # a damaged second frame is not the first one's fault
            facts.frames += bool(getattr(opened, "is_animated", False)) and opened.format != "MPO"  # phones write MPO
        deep_colour = opened.mode in ("RGB", "RGBA") and ";16" in _raw_mode(opened)
        box = None if size is None else _draft(opened, size)
        image = _upright(opened)
        if image.mode == "F" or image.mode.startswith("I"):
            image = _reduced(image, opened, white, facts)
        elif deep_colour:
            image = _reduced_colour(source, image, white, facts)
        return image, box


def _draft(opened: Image.Image, size: tuple[int, int]) -> Box | None:
    """Let a JPEG be decoded at a half, a quarter or an eighth of its size, if :data:`DRAFT` allows it.

    Returns:
        the part of the upright image that the picture covers; None if nothing is decoded smaller.
    """
    ratio = min(own / side for own, side in zip(reversed(upright_size(opened)), size, strict=True))
    factor = next((factor for factor in (8, 4, 2) if ratio >= DRAFT * factor), None)
    if factor is None or opened.format not in ("JPEG", "MPO"):
        return None
    drafted = opened.draft(None, (opened.width // factor, opened.height // factor))
    if drafted is None:
        return None
    _, (_, _, width, height) = drafted
    turn, whole_width, whole_height = _orientation(opened), opened.width, opened.height
    if turn in LYING:
        width, height, whole_width, whole_height = height, width, whole_height, whole_width
    left = whole_width - width if turn in (2, 3, 6, 7) else 0
    top = whole_height - height if turn in (3, 4, 7, 8) else 0
    return left, top, left + width, top + height


def resized(image: Image.Image, image_shape: tuple[int, int, int], crop: Crop, box: Box | None = None) -> Tensor:
    """Resize an image, or the part ``box`` of it, as :func:`fitted` does; for a random crop, it stays whole."""
    if crop == "random":
        left, top, right, bottom = box or (0, 0, image.width, image.height)
        image_shape = image_shape[0], *uncropped_size((bottom - top, right - left), image_shape[1:])
    return fitted(image, image_shape, box)


def fitted(image: Image.Image, image_shape: tuple[int, int, int], box: Box | None = None) -> Tensor:
    """Convert an image, or the part ``box`` of it, to uint8 (C, H, W), resized and centre-cropped if necessary.

    Four channels are colour and opacity, and pixels of no opacity are white. With fewer, transparent images are put on white.
    """
    channels, height, width = image_shape
    if image.has_transparency_data and channels != 4:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = _fit(image.convert(MODES[channels]), width, height, box or (0, 0, image.width, image.height))
    pixels = torch.from_numpy(numpy.array(image)).view(height, width, channels).permute(2, 0, 1).contiguous()
    if channels == 4:
        pixels[:3, pixels[3] == 0] = 255
    return pixels


def _fit(image: Image.Image, width: int, height: int, box: Box) -> Image.Image:
    """Do the same as PIL.ImageOps.fit, with a part of an image."""
    left, top, right, bottom = box
    own_width, own_height = right - left, bottom - top
    if own_width * height >= own_height * width:
        cut_width, cut_height = own_height * width / height, own_height
    else:
        cut_width, cut_height = own_width, own_width * height / width
    left, top = left + (own_width - cut_width) / 2, top + (own_height - cut_height) / 2
    right, bottom = min(left + cut_width, image.width), min(top + cut_height, image.height)
    return image.resize((width, height), Image.Resampling.LANCZOS, (left, top, right, bottom))


def _upright(opened: Image.Image) -> Image.Image:
    opened.load()
    if _orientation(opened) == 1:  # also if its EXIF data are damaged
        return opened
    return ImageOps.exif_transpose(opened)


def _reduced(image: Image.Image, opened: Image.Image, white: float | None, facts: Facts) -> Image.Image:
    """Reduce a grey image of more than 8 bits to 8 bits."""
    tags: Any = getattr(opened, "tag_v2", {})
    levels = numpy.asarray(image)
    if levels.dtype == numpy.int32 and tags.get(BITS_PER_SAMPLE) == (32,) and tags.get(SAMPLE_FORMAT, (1,)) == (1,):
        levels = levels.view(numpy.uint32)  # Pillow has no unsigned mode
    low, high = float(levels.min()), float(levels.max())
    if not numpy.isfinite([low, high]).all():
        raise ValueError("its values are NaN or infinite")
    if opened.format == "PPM" and image.mode != "F":  # Pillow has scaled them by the header's largest value
        white, depth = WHITE_16, "16 bits (the file names white)"
    elif tags.get(BITS_PER_SAMPLE) == (12,):
        white, depth = 4095, "12 bits (white is 4095)"
    else:
        is_16 = tags.get(BITS_PER_SAMPLE, (16,)) == (16,) and image.mode != "F"
        kind = "floating-point numbers" if image.mode == "F" else "16 bits" if is_16 else "32 bits"
        if white is None:
            white = 1 if image.mode == "F" else WHITE_16
            if image.mode != "F":
                facts.brightest = max(facts.brightest, int(high))
            if low < 0 or high > white:
                raise ValueError(
                    f"it has {kind} from {low:g} to {high:g}: name the value that is white with --data.white (--white in other "
                    "commands)"
                )
        depth = f"{kind} (white is {white:g})"
    facts.depths[depth] += 1
    facts.clipped += low < 0 or high > white
    scaled = (levels.astype(numpy.float64).clip(0, white) / (white / 255)).round().astype(numpy.uint8)
    if tags.get(PHOTOMETRIC) == 0:  # black is the largest value; Pillow turns only images of 8 bits
        scaled = 255 - scaled
    if isinstance(transparent := opened.info.get("transparency"), int):
        scaled[levels == transparent] = 255
    return Image.fromarray(scaled)


def _reduced_colour(source: Path | io.BytesIO, image: Image.Image, white: float | None, facts: Facts) -> Image.Image:
    """Reduce an image of 16 bits in colour, or in grey with transparency, to 8 bits. Pillow has kept only the high bytes."""
    high = numpy.asarray(image)
    transparent = image.info.get("transparency")  # a colour
    top = WHITE_16 if white is None else white
    facts.depths[f"16 bits (white is {top:g})"] += 1
    if white is None:
        brightest = int(high[..., :3].max())
        facts.brightest = max(facts.brightest, 256 * brightest + 255 if brightest else 0)
        if transparent is None:
            return image
    levels = high.astype(numpy.float64) * 256 + _low_bytes(source)
    facts.clipped += bool(levels[..., :3].max() > top)
    if transparent is not None:
        levels[(levels == transparent).all(axis=2)] = top
    levels[..., :3] = levels[..., :3].clip(0, top) / (top / 255)
    levels[..., 3:] /= 257
    return Image.fromarray(levels.round().astype(numpy.uint8), image.mode)


def _low_bytes(source: Path | io.BytesIO) -> NDArray[numpy.uint8]:
    """Read the low byte of each value of an image of 16 bits, uint8 (H, W, C)."""
    with open_image(source) as opened:
        file: Any = opened  # Pillow's ImageFile; its tiles are parts of the file
        grey = mode_of(opened) == "LA"
        file.tile = [_with_exchanged_bytes(tile) for tile in file.tile]
        pixels = numpy.asarray(_upright(opened))
    return pixels[..., [1, 1, 1, 3]] if grey else pixels  # grey: both bytes of the value, then both of the transparency


def _raw_mode(image: Image.Image) -> str:
    """Pillow's name for the layout of the pixels in a file, such as RGB;16B."""
    tiles: Any = getattr(image, "tile", None)
    args = tiles[0][3] if tiles else ""
    return str(args[0] if isinstance(args, tuple) and args else args)


def _with_exchanged_bytes(tile: Any) -> Any:
    """Change the layout of a part of a file. Pillow 11 made it a named tuple."""
    changed = (*tile[:3], _exchanged(tile[3]))
    return changed if type(tile) is tuple else type(tile)(*changed)


def _exchanged(args: Any) -> Any:
    """Exchange the bytes of each value: Pillow then keeps the low one. It cannot for grey, but can read all four bytes."""
    if isinstance(args, tuple):
        return (_exchanged(args[0]), *args[1:])
    if args.startswith("LA;"):
        return "RGBA"
    return args[:-1] + ("L" if args.endswith("B") else "B")
