"""Pictures, read back by Pillow, and by FFmpeg through av."""

from pathlib import Path

import av
import numpy
import pytest
import torch
from PIL import Image
from torch import Tensor

from gan_lightning import pictures
from gan_lightning.pictures import enlarged, grid, side_by_side, write_animation, write_png
from tests.helpers import refuses


def noise(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_small_images_are_enlarged_by_a_whole_number() -> None:
    images = noise(2, 3, 5, 10)
    large = enlarged(images, 48)
    assert large.shape == (2, 3, 25, 50)
    assert torch.equal(large[:, :, 2::5, 2::5], images)
    assert torch.equal(large[:, :, ::5, ::5], large[:, :, 4::5, 4::5])
    for side in (48, 49, 200):
        assert enlarged(noise(1, 1, 3, side), 48).shape == (1, 1, 3, side)
    assert enlarged(noise(1, 1, 3, 47), 48).shape == (1, 1, 6, 94)


def test_a_grid_is_filled_row_by_row() -> None:
    images = noise(5, 1, 48, 48)
    picture = grid(images, columns=3)
    assert picture.shape == (3, 2 * 50 + 2, 3 * 50 + 2)
    for number, image in enumerate(images):
        top, left = 2 + number // 3 * 50, 2 + number % 3 * 50
        assert torch.equal(picture[:, top : top + 48, left : left + 48], image.expand(3, -1, -1))
    assert (picture[:, 52:, 102:] == 128).all()  # there is no sixth image
    assert (picture[:, :2] == 128).all()


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_a_png_keeps_every_level(channels: int, mode: str) -> None:
    image = noise(channels, 16, 17)
    write_png(image, Path("a.png"))
    with Image.open("a.png") as read:
        assert read.mode == mode
        assert numpy.array_equal(numpy.array(read).reshape(16, 17, channels), image.permute(1, 2, 0).numpy())
    assert [path.name for path in Path().iterdir()] == ["a.png"]


def test_a_gif_has_every_frame_unchanged() -> None:
    images = noise(7, 1, 20, 30)
    write_animation(images, Path("a.gif"))
    with Image.open("a.gif") as read:
        assert (read.n_frames, read.size, read.info["loop"]) == (7, (270, 180), 0)  # type: ignore[attr-defined]
        for number in range(7):
            read.seek(number)
            assert read.info["duration"] == 100
            shown = torch.from_numpy(numpy.array(read.convert("L")))[4::9, 4::9]
            assert torch.equal(shown, images[number, 0])  # 256 greys are what a palette holds


def test_a_gif_of_equal_frames_keeps_its_duration() -> None:
    """Pillow writes them as one frame."""
    write_animation(noise(1, 3, 8, 8).expand(5, -1, -1, -1), Path("a.gif"))
    with Image.open("a.gif") as read:
        assert read.info["duration"] == 500


@pytest.mark.parametrize(("size", "shown"), [((28, 28), (280, 280)), ((29, 13), (260, 116)), ((301, 257), (300, 256))])
def test_an_mp4_has_every_frame(size: tuple[int, int], shown: tuple[int, int]) -> None:
    """Odd sizes lose a line: 29 pixels are enlarged to 261 and stored as 260."""
    levels = torch.tensor([20, 80, 140, 200, 250], dtype=torch.uint8)
    write_animation(levels.view(5, 1, 1, 1).expand(5, 3, size[1], size[0]), Path("a.mp4"))
    with av.open("a.mp4") as file:
        stream = file.streams.video[0]
        assert (stream.width, stream.height) == shown
        assert stream.average_rate == 10
        frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(stream)]
    assert len(frames) == 5
    for frame, level in zip(frames, levels.tolist(), strict=True):
        assert abs(float(frame.mean()) - level) < 4  # 1: colours are coded with loss


def test_another_ending_is_refused() -> None:
    with refuses("a.avi", ".gif or .mp4"):
        write_animation(noise(2, 1, 8, 8), Path("a.avi"))


def test_without_av_an_mp4_is_refused_and_a_gif_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "find_spec", lambda name: None)
    with refuses("a.mp4", "pip install av", ".gif"):
        write_animation(noise(2, 1, 8, 8), Path("a.mp4"))
    assert not list(Path().iterdir())
    write_animation(noise(2, 1, 8, 8), Path("a.gif"))


def test_a_failed_picture_keeps_the_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    write_animation(noise(2, 1, 8, 8), Path("a.mp4"))
    before = Path("a.mp4").read_bytes()

    def fails(frames: object, path: Path) -> None:
        path.write_bytes(before[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(pictures.WRITERS, ".mp4", fails)
    with pytest.raises(OSError, match="No space"):
        write_animation(noise(2, 1, 8, 8), Path("a.mp4"))
    assert Path("a.mp4").read_bytes() == before
    assert [path.name for path in Path().iterdir()] == ["a.mp4"]


def test_sources_next_to_images() -> None:
    """Small sources are enlarged, grey ones become colour, a mask is left out, and transparent images are put on white."""
    images = torch.full((3, 3, 48, 64), 10, dtype=torch.uint8)
    small = torch.full((3, 1, 12, 16), 200, dtype=torch.uint8)
    masked = torch.cat([torch.full((3, 3, 48, 64), 70, dtype=torch.uint8), torch.zeros(3, 1, 48, 64, dtype=torch.uint8)], dim=1)
    clear = torch.cat([images, torch.zeros(3, 1, 48, 64, dtype=torch.uint8)], dim=1)
    for sources, others, levels in (
        (small, [images], [200, 10]),
        (masked, [images, images + 1], [70, 10, 11]),
        (small, [clear], [200, 255]),
    ):
        picture = side_by_side(sources, *others, examples=2)
        columns = 2 * len(levels)
        assert picture.shape == (3, 2 + 2 * 50, 2 + columns * 66)
        for row in range(2):
            for column in range(columns):
                tile = picture[:, 2 + 50 * row : 50 * (row + 1), 2 + 66 * column : 66 * (column + 1)]
                expected = 128 if row == 1 and column >= len(levels) else levels[column % len(levels)]  # the third is the last
                assert (tile == expected).all()
