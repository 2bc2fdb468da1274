"""The page to play on that ``playground`` opens, by Gradio: what stands where, and what follows a click."""

import ipaddress
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio
import uvicorn
from fastapi import FastAPI
from jsonargparse import Namespace
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from gan_lightning.commands.playing import COLUMNS, Pick, Player, Settings, command
from gan_lightning.commands.records import process_group
from gan_lightning.commands.sampling import load_sampler
from gan_lightning.errors import InputError
from gan_lightning.pictures import enlarged, grid, write_animation, write_png

EVERY_CLASS = "every class in turn"
LEAST = 224  # pixels of a picture on the page: smaller ones are enlarged by a whole number, so that no browser blurs them
SECONDS_KEPT = 24 * 60 * 60  # of a file that was made for a visitor


def serve(config: Namespace, listener: socket.socket) -> None:
    """Load the checkpoint that the flags name, say where the page is, and serve it until Ctrl-C.

    Args:
        config: the flags.
        listener: a socket that listens where the page shall be.
    """
    with process_group(config.device) as device:
        player = Player(load_sampler(config, device))
    app = gradio.mount_gradio_app(
        FastAPI(openapi_url=None),
        layout(player, config),
        path="/",
        theme=gradio.themes.Default(primary_hue="blue", font="sans-serif", font_mono="monospace"),  # no font is fetched
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
    )
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # once uvicorn has closed the page
    print(f"  {address(listener)}  (Ctrl-C ends it)", flush=True)
    settings = uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1)  # browsers keep a connection open
    uvicorn.Server(settings).run(sockets=[listener])


def address(listener: socket.socket) -> str:
    """What to type into a browser, and a warning where others can do so too."""
    host, port = listener.getsockname()[:2]
    where = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    if ipaddress.ip_address(host).is_loopback:
        return where
    return f"{where}  open to all who reach this machine there, without a password"


def layout(player: Player, config: Namespace) -> gradio.Blocks:
    """The page: settings on the left, the grid in the middle, two picked pictures and the walk between them on the right."""
    generator, origin = player.sampler.generator, player.sampler.origin
    classes = [EVERY_CLASS, *map(str, range(generator.num_classes))] if generator.conditional else [EVERY_CLASS]
    about = [type(generator).__name__, f"step {origin['global_step']:,}", f"{origin['weights']} weights"]

    with gradio.Blocks(title=f"Playground: {config.checkpoint}", fill_width=True, delete_cache=(3600, SECONDS_KEPT)) as page:
        gradio.Markdown(f"### Playground\n`{config.checkpoint}`: {', '.join(about)}")
        shown = gradio.State()  # the Settings of the grid that is seen
        clicks = gradio.State(())  # every Pick so far: A and B in turn
        with gradio.Row():
            with gradio.Column(scale=3, min_width=220):
                seed = gradio.Number(0, label="Seed", precision=0, elem_id="seed")
                following = gradio.Button("Next seed", elem_id="next")
                label = gradio.Dropdown(
                    classes, value=EVERY_CLASS, type="index", label="Class", visible=generator.conditional, elem_id="class"
                )
                truncate = gradio.Checkbox(False, label="Truncate the latents", elem_id="truncate")
                truncation = gradio.Slider(
                    0.1, 3, 0.7, step=0.1, label="Truncation", info="Beyond this no value of a latent lies", visible=False
                )
                save_grid = gradio.DownloadButton("Download the grid (PNG)", elem_id="save_grid")
            with gradio.Column(scale=5, min_width=400):
                pictures = gradio.Gallery(
                    label="Samples: click one for A, another for B",
                    columns=COLUMNS,
                    height="auto",
                    format="png",
                    allow_preview=False,
                    buttons=[],
                    interactive=False,
                    elem_id="grid",
                )
                same = gradio.Textbox(label="The same grid by a command", buttons=["copy"], elem_id="command")
            with gradio.Column(scale=4, min_width=320):
                with gradio.Row():
                    picked = [
                        gradio.Image(
                            label=name, format="png", buttons=[], interactive=False, height=190, min_width=120, elem_id=name
                        )
                        for name in ("A", "B")
                    ]
                walk = gradio.Button("Walk from A to B", variant="primary", interactive=False, elem_id="walk")
                animation = gradio.Image(
                    label="From A to B and back",
                    type="filepath",
                    buttons=[],
                    interactive=False,
                    height=290,
                    elem_id="animation",
                )
                save_walk = gradio.DownloadButton("Download the walk (GIF)", interactive=False, elem_id="save_walk")

        def draw(seed: int | None, label: int | None, truncate: bool, truncation: float) -> Any:
            if seed is None:  # while another is typed
                return [gradio.skip()] * 4
            asked = Settings(seed, label - 1 if label else None, round(truncation, 2) if truncate else None)
            with told():
                images = player.grid(asked)
            path = new_file(f"samples_seed_{seed}.png")
            write_png(grid(images, COLUMNS), path)
            return asked, gradio.Gallery(shown_as(images), selected_index=None), path, command(asked, config)

        def pick(shown: Settings, clicks: tuple[Pick, ...], event: gradio.SelectData) -> Any:
            clicks = (*clicks, Pick(shown, event.index))
            with told():
                images = [_labelled(player, name, of[-1:]) for name, of in (("A", clicks[0::2]), ("B", clicks[1::2]))]
            return clicks, *images, gradio.Button(interactive=len(clicks) > 1)

        def go(clicks: tuple[Pick, ...]) -> Any:
            with told():
                images = player.walk(clicks[0::2][-1], clicks[1::2][-1])
            path = new_file("walk.gif")
            write_animation(images, path)
            return path, gradio.DownloadButton(value=path, interactive=True)

        settings = [seed, label, truncate, truncation]
        following.click(None, seed, seed, js="seed => (seed ?? -1) + 1")
        truncate.change(lambda on: gradio.Slider(visible=on), truncate, truncation, api_visibility="private")
        gradio.on(
            [page.load, *(setting.change for setting in settings)],
            draw,
            settings,
            [shown, pictures, save_grid, same],
            trigger_mode="always_last",
            show_progress="hidden",
            api_visibility="private",
        )
        pictures.select(pick, [shown, clicks], [clicks, *picked, walk], show_progress="hidden", api_visibility="private")
        walk.click(go, clicks, [animation, save_walk], api_visibility="private")
    return page


def _labelled(player: Player, name: str, pick: Sequence[Pick]) -> gradio.Image:
    """A picked picture under its name and number; nothing where none was picked."""
    if not pick:
        return gradio.Image()
    return gradio.Image(shown_as(player.picture(pick[0]).unsqueeze(0))[0], label=f"{name}: {pick[0]}")


def shown_as(images: Tensor) -> list[Image.Image]:
    """Images uint8 (N, C, H, W) as the page shows them."""
    return [to_pil_image(image) for image in enlarged(images, LEAST)]


def new_file(name: str) -> Path:
    """A path of this name in a folder of its own, among the page's temporary files."""
    return Path(tempfile.mkdtemp(dir=gradio.utils.get_upload_folder())) / name


@contextmanager
def told() -> Iterator[None]:
    """Within the block, what a visitor can mend is told on the page, and leaves no traceback here."""
    try:
        yield
    except InputError as error:
        raise gradio.Error(str(error), print_exception=False) from error
