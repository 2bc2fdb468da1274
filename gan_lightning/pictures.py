"""Images for viewing: a grid, a PNG, an animation."""

from importlib.util import find_spec
from pathlib import Path

import numpy
import torch
from PIL import Image
from torch import Tensor

from gan_lightning.errors import InputError
from gan_lightning.files import write_aside
from gan_lightning.images import on_white

MIN_TILE = 48  # pixels; smaller images are enlarged by a whole number to be visible
FRAMES_PER_SECOND = 10  # exact in a GIF: its unit is a hundredth of a second


def enlarged(images: Tensor, least: int = MIN_TILE) -> Tensor:
    """Enlarge images uint8 (N, C, H, W) by a whole number if their longer side has fewer pixels than ``least``."""
    scale = -(-least // max(images.shape[2:]))
    return images.repeat_interleave(scale, 2).repeat_interleave(scale, 3)  # (N, C, H * scale, W * scale)


def grid(images: Tensor, columns: int) -> Tensor:
    """Arrange images uint8 (N, C, H, W), row by row, in one image uint8 (3 or 4, height, width), on opaque grey."""
    from torchvision.utils import make_grid  # takes seconds to import

    large = enlarged(images)
    picture: Tensor = make_grid(large[:, :3], nrow=columns, padding=2, pad_value=128)
    if images.shape[1] == 4:
        picture = torch.cat([picture, make_grid(large[:, 3:], nrow=columns, padding=2, pad_value=255)[:1]])
    return picture


def side_by_side(sources: Tensor, *images: Tensor, examples: int) -> Tensor:
    """Arrange sources and what belongs to them, such as outputs and targets, next to each other in one image, on grey.

    If the sources have one channel more than the images, it is a mask and is left out. Small images are enlarged to the size of
    the others. Transparent ones are put on white.

    Args:
        sources: uint8 (N, C', H', W').
        images: uint8 (N, C, H, W) each.
        examples: sources in a row.

    Returns:
        uint8 (3, height, width).
    """
    if sources.shape[1] == images[0].shape[1] + 1:
        sources = sources[:, :-1]
    sets = [on_white(each) for each in (sources, *images)]
    height, width = (max(each.shape[axis] for each in sets) for axis in (2, 3))
    tiles = torch.full((len(sources), len(sets), 3, height, width), 128, dtype=torch.uint8)
    for i, each in enumerate(sets):
        large = enlarged(each, max(height, width)) if max(height, width) % max(each.shape[2:]) == 0 else each
        tiles[:, i, :, : large.shape[2], : large.shape[3]] = large.cpu()
    return grid(tiles.flatten(0, 1), examples * len(sets))


def write_png(image: Tensor, path: Path, durable: bool = True) -> None:
    """Write an image uint8 (C, H, W), grey, colour or colour with opacity, to a temporary file and rename it.

    Args:
        image: the image.
        path: path of the file.
        durable: wait for the disk, so that the file survives a power failure.
    """
    with write_aside(path, durable) as aside:
        _as_picture(image).save(aside, format="png")


def read_png(path: Path) -> Tensor:
    """Read an image uint8 (C, H, W) that :func:`write_png` wrote."""
    from torchvision.transforms.functional import pil_to_tensor  # as above

    with Image.open(path) as picture:
        image: Tensor = pil_to_tensor(picture)
    return image


def write_animation(images: Tensor, path: Path) -> None:
    """Write images uint8 (N, C, H, W) as a GIF or an MP4, by the ending of the name, at 10 images a second.

    Transparent images are put on white. Writes to a temporary file and renames it.

    Raises:
        InputError: see :func:`require_animation`.
    """
    require_animation(path)
    frames = [_as_picture(image) for image in enlarged(on_white(images), 256)]
    with write_aside(path) as aside:
        WRITERS[path.suffix](frames, aside)


def require_animation(path: Path) -> None:
    """Refuse an animation that cannot be written, before its images are drawn.

    Raises:
        InputError: the ending is neither .gif nor .mp4, or it is .mp4 and the package ``av`` is not installed.
    """
    if path.suffix not in WRITERS:
        raise InputError(f"{path} is not the name of an animation: use one that ends in {' or '.join(WRITERS)}")
    if path.suffix == ".mp4" and find_spec("av") is None:
        raise InputError(f"{path} needs the package av: run pip install av, or write a .gif")


def _as_picture(image: Tensor) -> Image.Image:
    from torchvision.transforms.functional import to_pil_image  # as above

    picture: Image.Image = to_pil_image(image)
    return picture


def _write_gif(frames: list[Image.Image], path: Path) -> None:
    first, *others = frames
    first.save(path, format="gif", save_all=True, append_images=others, duration=1000 // FRAMES_PER_SECOND, loop=0)


def _write_mp4(frames: list[Image.Image], path: Path) -> None:
    import av

    width, height = (side // 2 * 2 for side in frames[0].size)  # the pixel format needs even sides
    with av.open(str(path), "w", format="mp4") as file:
        stream = file.add_stream("libx264", rate=FRAMES_PER_SECOND, options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"  # every player supports it
        for frame in frames:
            pixels = numpy.asarray(frame.convert("RGB").crop((0, 0, width, height)))
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        file.mux(stream.encode())


WRITERS = {".gif": _write_gif, ".mp4": _write_mp4}
"""Ending of an animation's name -> function that writes it."""
