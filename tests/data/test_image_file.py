"""One image file: format by content, orientation, and more than 8 bits."""

import struct
import zlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, features

from gan_lightning.data import ImageFolder
from gan_lightning.data.folder import read_folder
from gan_lightning.data.image_file import Facts, decode, file_shape, format_of, is_image
from gan_lightning.data.stored import whole
from gan_lightning.data.survey import survey_folder
from tests.helpers import refuses

RAMP = numpy.linspace(0, 255, 64).round().astype(numpy.uint8).reshape(8, 8)
RAMP_12 = numpy.linspace(0, 4095, 64).round().astype(numpy.uint16).reshape(8, 8)
BLURRED = numpy.add.outer(numpy.arange(0, 180, 6), numpy.arange(0, 80, 2)).astype(numpy.uint8)  # (30, 40), no symmetry


def png_16(colours: NDArray[numpy.uint16], transparent: int | None = None) -> bytes:
    """A PNG of 16 bits a channel; Pillow writes none with transparency or colour. One colour may be transparent."""
    height, width, channels = colours.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    parts = {b"IHDR": struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)}
    if transparent is not None:
        parts[b"tRNS"] = struct.pack(">H", transparent) * channels
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in colours)
    parts |= {b"IDAT": zlib.compress(rows), b"IEND": b""}
    chunks = [struct.pack(">I", len(b)) + kind + b + struct.pack(">I", zlib.crc32(kind + b)) for kind, b in parts.items()]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def tiff(
    values: NDArray[Any], bits: int, sample_format: int = 1, photometric: int = 1, order: Literal["<", ">"] = "<"
) -> bytes:
    """An uncompressed TIFF of one channel or three; 12 bits are packed."""
    height, width = values.shape[:2]
    channels = 1 if values.ndim == 2 else values.shape[2]
    if bits == 12:
        pairs = values.reshape(-1, 2).astype(numpy.uint32)
        packed = pairs[:, 0] << 12 | pairs[:, 1]
        data = b"".join(int(both).to_bytes(3, "big") for both in packed)
    else:
        data = values.astype(values.dtype.newbyteorder(order)).tobytes()
    entries = [(256, 4, 1, width), (257, 4, 1, height), (259, 3, 1, 1), (262, 3, 1, photometric)]
    entries += [(273, 4, 1, 8), (277, 3, 1, channels), (278, 4, 1, height), (279, 4, 1, len(data))]
    at = 8 + len(data)  # of the bits of three channels
    entries += [(258, 3, channels, bits if channels == 1 else at), (339, 3, 1, sample_format)]
    extra = struct.pack(f"{order}3H", *[bits] * 3) if channels == 3 else b""
    body = struct.pack(f"{order}H", len(entries))
    for tag, kind, count, value in sorted(entries):
        short = kind == 3 and count == 1
        body += struct.pack(f"{order}HHI", tag, kind, count) + struct.pack(
            f"{order}{'HH' if short else 'I'}", *((value, 0) if short else (value,))
        )
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", at + len(extra))
    return head + data + extra + body + bytes(4)


def grey(path: Path, white: float | None = None) -> list[int]:
    return [int(level) for level in decode(path, (1, 8, 8), white).flatten()]


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_that_of_the_upright_image(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(BLURRED).save(tmp_path / f"a.{suffix}", exif=exif)
    channels, height, width = file_shape(tmp_path / f"a.{suffix}")
    assert (height, width) == ((40, 30) if orientation > 4 else (30, 40))
    assert survey_folder(tmp_path).sizes == [(width, height)]
    assert decode(tmp_path / f"a.{suffix}", (channels, height, width)).shape == (channels, height, width)


def test_turned_copies_are_the_upright_pictures(tmp_path: Path) -> None:
    """Each is stored as the camera held it; read at the size of the first, all are equal, and nothing is cropped."""
    back = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Pillow's transpositions that undo an orientation's
    for orientation, undo in back.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored = Image.fromarray(BLURRED)
        stored = stored if undo is None else stored.transpose(Image.Transpose(undo))
        stored.save(tmp_path / f"{orientation}.png", exif=exif)
    images = whole(read_folder(tmp_path, (1, 30, 40)))
    assert survey_folder(tmp_path).usual_size == (40, 30)
    for image in images:
        assert torch.equal(image[0], torch.from_numpy(BLURRED))


def test_damaged_exif_data_do_not_matter(tmp_path: Path) -> None:
    Image.fromarray(BLURRED).save(tmp_path / "a.png", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff broken")
    assert file_shape(tmp_path / "a.png") == (1, 30, 40)
    assert torch.equal(decode(tmp_path / "a.png", (1, 30, 40))[0], torch.from_numpy(BLURRED))


@pytest.mark.parametrize("order", ["<", ">"])
def test_twelve_bits_in_sixteen(tmp_path: Path, order: Literal["<", ">"]) -> None:
    (tmp_path / "a.tif").write_bytes(tiff(RAMP_12, 16, order=order))
    Image.fromarray(RAMP_12).save(tmp_path / "a.png")
    (tmp_path / "32 bits.tif").write_bytes(tiff(RAMP_12.astype(numpy.int32), 32, 2, order=order))
    for name in ("a.tif", "a.png", "32 bits.tif"):
        facts = Facts()
        decode(tmp_path / name, (1, 8, 8), None, facts)
        assert any("--data.white 4095" in sentence for sentence in facts.sentences())
        assert grey(tmp_path / name, 4095) == RAMP.flatten().tolist()


@pytest.mark.parametrize("name", ["colour.png", "colour.tif", "big endian.tif"])
def test_twelve_bits_in_sixteen_in_colour(tmp_path: Path, name: str) -> None:
    colours = numpy.stack([RAMP_12, RAMP_12[::-1], RAMP_12.T], axis=2)
    content = {
        "colour.png": lambda: png_16(colours),
        "colour.tif": lambda: tiff(colours, 16, photometric=2),
        "big endian.tif": lambda: tiff(colours, 16, photometric=2, order=">"),
    }
    (tmp_path / name).write_bytes(content[name]())
    facts = Facts()
    assert int(decode(tmp_path / name, (3, 8, 8), None, facts).max()) <= 16
    assert any("--data.white 4095" in sentence for sentence in facts.sentences())
    expected = numpy.stack([RAMP, RAMP[::-1], RAMP.T])
    assert torch.equal(decode(tmp_path / name, (3, 8, 8), 4095), torch.from_numpy(expected.copy()))


@pytest.mark.parametrize("channels", [1, 3])
def test_twelve_bits_in_sixteen_with_transparency(tmp_path: Path, channels: int) -> None:
    """A PNG in grey or colour, of which a quarter is transparent and a quarter half transparent; the last bit counts."""
    alpha = numpy.full((8, 8), 65535, numpy.uint16)
    alpha[:2], alpha[2:4] = 0, 32768
    values = numpy.stack([*[RAMP_12] * channels, alpha], axis=2)
    path = tmp_path / "a.png"
    path.write_bytes(png_16(values))
    assert file_shape(path) == (channels, 8, 8)
    assert survey_folder(tmp_path).grey == (1 if channels == 1 else 0)
    facts = Facts()
    decode(path, (channels, 8, 8), None, facts)
    assert any("--data.white 4095" in sentence for sentence in facts.sentences())
    shares = alpha / 65535
    expected = RAMP_12 / 4095 * 255 * shares + 255 * (1 - shares)  # on white
    for image in decode(path, (channels, 8, 8), 4095):
        assert numpy.abs(image.numpy() - expected).max() <= 1
    path.write_bytes(png_16(numpy.stack([*[(RAMP // 16).astype(numpy.uint16)] * channels, alpha * 0 + 65535], axis=2)))
    image = decode(path, (channels, 8, 8), 15)[0].numpy()  # only low bytes
    assert image.tolist() == (RAMP // 16 * 17).tolist()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("white", [None, 65535, 4095])
def test_a_transparent_colour_of_16_bits(tmp_path: Path, channels: int, white: float | None) -> None:
    """Becomes white; another that differs in the last bit does not."""
    values = numpy.full((8, 8, channels), 1000, numpy.uint16)
    values[4:] = 1001
    (tmp_path / "a.png").write_bytes(png_16(values, 1000))
    image = decode(tmp_path / "a.png", (channels, 8, 8), white)
    assert image[:, :4].unique().tolist() == [255]
    assert image[:, 4:].unique().tolist() == [round(1001 / (white or 65535) * 255)]


def test_a_file_that_names_its_depth_needs_no_flag(tmp_path: Path) -> None:
    (tmp_path / "a.pgm").write_bytes(b"P5 8 8 4095\n" + RAMP_12.astype(">u2").tobytes())
    (tmp_path / "a.tif").write_bytes(tiff(RAMP_12, 12))
    for name in ("a.pgm", "a.tif"):
        for white in (None, 1000):  # the file knows better
            assert numpy.abs(numpy.array(grey(tmp_path / name, white)) - RAMP.flatten()).max() <= 1


def test_sixteen_whole_bits_are_no_cause_for_a_hint(tmp_path: Path) -> None:
    Image.fromarray(RAMP.astype(numpy.uint16) * 257).save(tmp_path / "a.png")
    facts = Facts()
    assert torch.equal(decode(tmp_path / "a.png", (1, 8, 8), None, facts)[0], torch.from_numpy(RAMP))
    assert not any("--data.white" in sentence for sentence in facts.sentences())
    assert any("65535" in sentence for sentence in facts.sentences())


def test_white_on_zero(tmp_path: Path) -> None:
    """A TIFF may store black as its largest value."""
    (tmp_path / "a.tif").write_bytes(tiff(65535 - RAMP.astype(numpy.uint16) * 257, 16, photometric=0))
    assert grey(tmp_path / "a.tif") == RAMP.flatten().tolist()


@pytest.mark.parametrize(
    ("values", "bits", "sample_format", "white"),
    [
        (RAMP.astype(numpy.int32) * 1000, 32, 2, 255_000),
        (RAMP.astype(numpy.uint32) * (2**32 // 256), 32, 1, 255 * (2**32 // 256)),
        (RAMP.astype(numpy.float32) * 2 - 100, 32, 3, 410),
        (RAMP.astype(numpy.int16) - 100, 16, 2, 155),
    ],
)
def test_values_of_unknown_range_need_the_flag(
    tmp_path: Path, values: NDArray[Any], bits: int, sample_format: int, white: float
) -> None:
    (tmp_path / "a.tif").write_bytes(tiff(values, bits, sample_format))
    with pytest.raises(ValueError, match=r"--data\.white"):
        decode(tmp_path / "a.tif", (1, 8, 8))
    expected = (values.astype(numpy.float64).clip(0, white) / white * 255).round()
    facts = Facts()
    assert numpy.abs(decode(tmp_path / "a.tif", (1, 8, 8), white, facts)[0].numpy() - expected).max() <= 1
    assert facts.clipped == int(float(values.min()) < 0)


def test_a_kind_of_values_with_a_usual_range_needs_no_flag(tmp_path: Path) -> None:
    Image.fromarray((RAMP / 255).astype(numpy.float32)).save(tmp_path / "float.tif")
    Image.fromarray(RAMP.astype(numpy.int32) * 257).save(tmp_path / "int.tif")
    assert grey(tmp_path / "float.tif") == RAMP.flatten().tolist()
    assert grey(tmp_path / "int.tif") == RAMP.flatten().tolist()


def test_values_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    Image.fromarray(numpy.full((8, 8), numpy.nan, numpy.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match="NaN"):
        decode(tmp_path / "a.tif", (1, 8, 8), 1.0)


def test_white_is_part_of_the_cache(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(20):
        Image.fromarray(RAMP_12).save(folder / f"{i}.png")
    dark = ImageFolder(folder, 8, 1, num_workers=0)
    assert int(dark.images("train")[0].max()) == 16
    light = ImageFolder(folder, 8, 1, num_workers=0, white=4095)
    assert int(light.images("train")[0].max()) == 255
    for data in (dark, ImageFolder(folder, 8, 1, num_workers=0)):  # read, and from the cache
        assert any("--data.white 4095" in sentence for sentence in data.facts("train").sentences())
    for white in (0.0, -1.0, float("inf")):
        with refuses("data.white", white):
            ImageFolder(folder, white=white)


FORMATS = {"JPEG": "jpg", "PNG": "png", "GIF": "gif", "BMP": "bmp", "TIFF": "tif", "WEBP": "webp", "PPM": "ppm", "AVIF": "avif"}


@pytest.mark.parametrize("written", FORMATS)
@pytest.mark.parametrize("suffix", ["", ".jfif", ".jpe", ".avif", ".JPG", ".xyz"])
def test_the_content_decides(tmp_path: Path, written: str, suffix: str) -> None:
    if written == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    Image.fromarray(RAMP).convert("RGB").save(tmp_path / f"image{suffix}", written)
    path = tmp_path / f"image{suffix}"
    assert format_of(path.read_bytes()[:64]) == written
    if written == "TIFF" and suffix == ".xyz":  # cameras' raw files are TIFFs with a thumbnail
        assert not is_image(path)
        return
    assert is_image(path)
    levels = whole(read_folder(tmp_path, (1, 8, 8))).int()
    assert float((levels - torch.from_numpy(RAMP).int()).abs().float().mean()) < 6


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("notes", b"BMW and other cars, a list"),
        ("notes.log", b"P5 is a pump"[:2] + b"_ is a pump"),
        ("film.mp4", b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41"),
        ("page.eps", b"%!PS-Adobe-3.0 EPSF-3.0"),
        ("paper.pdf", b"%PDF-1.7"),
        ("labels.txt", b"\xff\xd8\xff"),
        ("empty", b""),
    ],
)
def test_other_files_are_no_images(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert not is_image(tmp_path / name)


def test_a_heic_needs_its_package(tmp_path: Path) -> None:
    """It is named like any file that cannot be read, and so is the package."""
    path = tmp_path / "photos" / "IMG_1.HEIC"
    path.parent.mkdir()
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    assert format_of(path.read_bytes()[:64]) == "HEIF"
    if find_spec("pillow_heif") is None:
        for read in (lambda: read_folder(path.parent, (3, 8, 8)), ImageFolder(path.parent, 8).prepare_data):
            with refuses("IMG_1.HEIC", "pillow-heif"):
                read()


@pytest.mark.parametrize("name", ["IMG_1.HEIC", "a.heif", "b", "c.jpg"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_heic_is_read(tmp_path: Path, name: str, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pixels, an orientation, and the workers: a photograph of a phone, whatever its suffix is."""
    pillow_heif: Any = pytest.importorskip("pillow_heif")
    monkeypatch.setattr("gan_lightning.data.decoding.FEW", 1)
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = Image.fromarray(BLURRED).convert("RGB").resize((80, 60))
    stored = upright.transpose(Image.Transpose.ROTATE_90)
    for folder in ("0", "1"):
        (tmp_path / folder).mkdir()
        pillow_heif.from_pillow(stored).save(tmp_path / folder / name, quality=100, exif=exif.tobytes())
    path = tmp_path / "0" / name
    assert format_of(path.read_bytes()[:64]) == "HEIF"
    assert is_image(path)
    assert file_shape(path) == (3, 60, 80)
    for image in whole(read_folder(tmp_path, (3, 60, 80), num_workers=workers)):
        difference = image.int() - torch.from_numpy(numpy.asarray(upright).copy()).permute(2, 0, 1).int()
        assert float(difference.abs().float().mean()) < 3
    facts = Facts()
    decode(path, (3, 60, 80), None, facts)
    assert facts.sentences() == []


@pytest.mark.parametrize("written", ["gif", "tif", "webp", "png"])
def test_of_several_frames_the_first_is_used(tmp_path: Path, written: str) -> None:
    frames = [Image.fromarray(numpy.full((8, 8), level, numpy.uint8)) for level in (0, 128, 255)]
    frames[0].save(tmp_path / f"a.{written}", save_all=True, append_images=frames[1:])
    facts = Facts()
    assert int(decode(tmp_path / f"a.{written}", (1, 8, 8), None, facts).max()) == 0
    assert facts.frames == 1
    assert facts.sentences()
    Image.fromarray(RAMP).save(tmp_path / f"b.{written}")
    decode(tmp_path / f"b.{written}", (1, 8, 8), None, facts)
    assert facts.frames == 1


def test_a_phone_s_second_picture_is_no_frame(tmp_path: Path) -> None:
    pictures = [Image.fromarray(RAMP).convert("RGB").resize((32, 32)) for _ in range(2)]
    pictures[0].save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=pictures[1:])
    facts = Facts()
    decode(tmp_path / "a.jpg", (3, 32, 32), None, facts)
    assert facts.frames == 0


def test_a_lack_of_memory_or_file_handles_is_no_corrupt_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends the run even with skip_corrupt, and the cache does not take the files for damaged."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(20):
        Image.fromarray(RAMP).save(folder / f"{i}.png")
    errors: list[Callable[[], Exception]] = [MemoryError, lambda: OSError(24, "Too many open files")]
    for error in errors:

        def fail(*_: Any, raised: Callable[[], Exception] = error) -> None:
            raise raised()

        with monkeypatch.context() as patched, refuses(".png"):
            patched.setattr("gan_lightning.data.decoding.decode", fail)
            ImageFolder(folder, 8, 1, skip_corrupt=True, num_workers=0).prepare_data()

    def forbidden(path: Path, *_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched, refuses("Permission denied"):
        patched.setattr("gan_lightning.data.decoding.decode", forbidden)
        ImageFolder(folder, 8, 1, num_workers=0).prepare_data()
    ImageFolder(folder, 8, 1, num_workers=0).prepare_data()  # permitted now; the cache does not remember
