"""Images as a person looks at them: a grid, a PNG, an animation."""

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

import numpy
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid

from gan_lightning.checkpoint import write_aside
from gan_lightning.errors import InputError

MIN_TILE = 48  # pixels: smaller images are enlarged by a whole number, so that a person can see them
FRAMES_A_SECOND = 12


def enlarged(images: Tensor, least: int = MIN_TILE) -> Tensor:
    """Images uint8 (N, C, H, W), those of fewer pixels than ``least`` on their longer side enlarged by a whole number."""
    scale = -(-least // max(images.shape[2:]))
    return images.repeat_interleave(scale, 2).repeat_interleave(scale, 3)  # (N, C, H * scale, W * scale)


def grid(images: Tensor, columns: int) -> Tensor:
    """Images uint8 (N, C, H, W), row by row, as one uint8 (3, height, width)."""
    picture: Tensor = make_grid(enlarged(images), nrow=columns, padding=2, pad_value=128)
    return picture


def write_png(image: Tensor, path: Path, durable: bool = True) -> None:
    """Write an image uint8 (C, H, W), grey or colour, aside and renamed.

    Args:
        image: the image.
        path: of the file.
        durable: whether to wait until the disk has it.
    """
    with write_aside(path, durable) as aside:
        to_pil_image(image).save(aside, format="png")


def write_animation(images: Tensor, path: Path) -> None:
    """Write images uint8 (N, C, H, W) as a GIF or an MP4, by the ending of the name, 12 a second; aside and renamed.

    Raises:
        InputError: another ending, or an MP4 where the package ``av`` is not installed.
    """
    writers = {".gif": _write_gif, ".mp4": _write_mp4}
    if path.suffix not in writers:
        raise InputError(f"{path}: an animation's name ends in {' or '.join(writers)}")
    if path.suffix == ".mp4" and find_spec("av") is None:
        raise InputError(f"{path}: an MP4 needs the package av: run pip install av, or name a .gif")
    frames = [to_pil_image(image).convert("RGB") for image in enlarged(images, 256)]
    with write_aside(path) as aside:
        writers[path.suffix](frames, aside)


def _write_gif(frames: list[Image.Image], path: Path) -> None:
    first, *others = frames
    first.save(path, format="gif", save_all=True, append_images=others, duration=round(1000 / FRAMES_A_SECOND), loop=0)


def _write_mp4(frames: Iterable[Image.Image], path: Path) -> None:
    import av

    with av.open(str(path), "w", format="mp4") as file:
        stream = file.add_stream("libx264", rate=FRAMES_A_SECOND, options={"crf": "18"})
        stream.pix_fmt = "yuv420p"  # what every player shows
        for number, frame in enumerate(frames):
            if number == 0:
                stream.width, stream.height = frame.width // 2 * 2, frame.height // 2 * 2  # which that format asks for
            cropped = frame.crop((0, 0, stream.width, stream.height))
            file.mux(stream.encode(av.VideoFrame.from_ndarray(numpy.asarray(cropped), format="rgb24")))
        file.mux(stream.encode())
