"""The page of a translation: a picture of the visitor, and next to it what the model makes of it."""

import shlex
import threading
from pathlib import Path
from typing import Any

import gradio
import numpy
import torch
from jsonargparse import Namespace
from PIL import Image
from torch import Tensor

from gan_lightning.commands.common.generators import facts
from gan_lightning.commands.playground.components import as_gradio_error, new_file, picture, to_pictures
from gan_lightning.data.image_file import fitted, read_file_whole
from gan_lightning.errors import InputError
from gan_lightning.image_translator import Direction, ImageTranslator
from gan_lightning.pictures import write_png

LARGEST_UPLOAD = "64mb"
MOST_PIXELS = 2**22
"""Largest number of pixels of a picture: 2,048 x 2,048."""
HEIGHT = 480
DIRECTIONS: dict[str, Direction] = {"A to B": "AtoB", "B to A": "BtoA"}


class Studio:
    """Translate pictures for many visitors, one at a time."""

    def __init__(self, translator: ImageTranslator) -> None:
        self.translator = translator
        self.lock = threading.Lock()

    def of_file(self, path: Path, direction: Direction | None) -> Tensor:
        """Translate an image file: uint8 (C, H, W).

        Raises:
            InputError: it cannot be read, or is too large.
        """
        return self._translated(read_file_whole(path, self.translator.network(direction).source_shape[0]), None, direction)

    def of_drawing(self, drawing: dict[str, Any]) -> Tensor:
        """Fill in what is drawn over a picture: uint8 (C, H, W).

        Args:
            drawing: ``background``, the picture, and ``layers`` of the drawing, as Gradio's ImageEditor gives them.

        Raises:
            InputError: nothing is drawn, or the picture is too large.
        """
        background: Image.Image = drawing["background"]
        mask = torch.zeros(1, background.height, background.width, dtype=torch.bool)
        for layer in drawing["layers"]:
            mask |= torch.from_numpy(numpy.array(layer.convert("RGBA"))[..., 3] >= 128)
        if not bool(mask.any()):
            raise InputError("no pixel is marked: draw over what is missing")
        channels = self.translator.generator.source_shape[0] - 1
        image = fitted(background, (channels, background.height, background.width))
        return self._translated(image, mask, None)

    def _translated(self, image: Tensor, mask: Tensor | None, direction: Direction | None) -> Tensor:
        if (pixels := image.shape[1] * image.shape[2]) > MOST_PIXELS:
            raise InputError(f"the picture has {pixels:,} pixels, more than {MOST_PIXELS:,}: use translate.py with --tile")
        with self.lock:
            return self.translator.translate(image[None], None if mask is None else mask[None], direction)[0]


def translation_command(config: Namespace, masked: bool, direction: Direction | None) -> str:
    """Write the command line that translates a picture in the same way, with the flags of this page."""
    words = ["python", "scripts/translate.py", config.checkpoint, "picture.png"]
    words += ["--mask", "mask.png"] if masked else []
    words += [] if direction is None else ["--direction", direction]
    words += ["--raw"] if config.raw else []
    words += [] if config.accelerator == "auto" else ["--accelerator", config.accelerator]
    words += ["--trust", ",".join(config.trust)] if config.trust else []
    return shlex.join(map(str, words))


def translation_layout(translator: ImageTranslator, config: Namespace) -> gradio.Blocks:
    """Lay out the page: the visitor's picture on the left, its translation on the right."""
    studio = Studio(translator)
    masked, both = translator.needs_mask, translator.inverse_generator is not None

    with gradio.Blocks(title=f"Playground: {config.checkpoint}", fill_width=True, delete_cache=(3600, 24 * 60 * 60)) as page:
        gradio.Markdown(f"### Playground\n`{config.checkpoint}`: {', '.join(facts(translator))}")
        with gradio.Row():
            with gradio.Column(min_width=320):
                given = _editor() if masked else _upload()
                direction = gradio.Radio(list(DIRECTIONS), value="A to B", show_label=False, visible=both, elem_id="direction")
                start = gradio.Button("Fill in" if masked else "Translate", variant="primary", elem_id="translate")
            with gradio.Column(min_width=320):
                shown = picture(HEIGHT, elem_id="translated")
                save = gradio.DownloadButton("Download", interactive=False, elem_id="save")
        same = gradio.Textbox(
            translation_command(config, masked, "AtoB" if both else None),
            label="The same by a command",
            buttons=["copy"],
            elem_id="command",
        )

        def translate(given: Any, chosen: str) -> Any:
            direction = DIRECTIONS[chosen] if both else None
            with as_gradio_error():
                if given is None or (masked and given["background"] is None):
                    raise InputError("there is no picture yet: upload one")
                image = studio.of_drawing(given) if masked else studio.of_file(Path(given), direction)
            path = new_file("translated.png")
            write_png(image, path, durable=False)
            return to_pictures(image[None])[0], gradio.DownloadButton(value=path, interactive=True)

        def describe(chosen: str) -> str:
            return translation_command(config, masked, DIRECTIONS[chosen])

        inputs = [given, direction]
        start.click(translate, inputs, [shown, save], api_visibility="private")
        if both:
            direction.change(describe, direction, same, api_visibility="private")
    return page


def _upload() -> gradio.Image:
    return gradio.Image(
        type="filepath",
        image_mode=None,
        label="Your picture",
        sources=["upload", "clipboard"],
        height=HEIGHT,
        buttons=[],
        elem_id="given",
    )


def _editor() -> gradio.ImageEditor:
    return gradio.ImageEditor(
        type="pil",
        image_mode="RGBA",
        format="png",
        label="Your picture: draw over what is missing",
        sources=["upload", "clipboard"],
        height=HEIGHT,
        buttons=[],
        transforms=[],
        layers=False,
        brush=gradio.Brush(colors=["#ffffff"], color_mode="fixed"),
        elem_id="given",
    )
