"""Pictures, files and errors of the page."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from gan_lightning.errors import InputError
from gan_lightning.pictures import enlarged

MIN_SIZE = 224
"""Least size of a picture in pixels: smaller ones are enlarged by an integer factor, so browsers do not blur them."""


def picture(height: int, **arguments: Any) -> gradio.Image:
    """Make a component that shows a picture."""
    return gradio.Image(
        show_label=False, height=height, min_width=120, format="png", buttons=[], interactive=False, **arguments
    )


def to_pictures(images: Tensor) -> list[Image.Image]:
    """Convert images uint8 (N, C, H, W) to pictures for the page."""
    return [to_pil_image(image) for image in enlarged(images, MIN_SIZE)]


def new_file(name: str) -> Path:
    """Make a path of this name in a new folder of the page's temporary files."""
    return Path(tempfile.mkdtemp(dir=gradio.utils.get_upload_folder())) / name


@contextmanager
def as_gradio_error() -> Iterator[None]:
    """Show an InputError of the block on the page, without a traceback in the terminal."""
    try:
        yield
    except InputError as error:
        raise gradio.Error(str(error), print_exception=False) from error
