"""The page, by Gradio: its layout, and the answers to clicks."""

import ipaddress
import math
import signal
import socket
import sys
from typing import Any, NamedTuple

import gradio
import uvicorn
from fastapi import FastAPI
from jsonargparse import Namespace

from gan_lightning.commands.common.classes import class_text
from gan_lightning.commands.common.devices import find_device
from gan_lightning.commands.common.generators import facts, load_model
from gan_lightning.commands.playground.components import as_gradio_error, new_file, picture, to_pictures
from gan_lightning.commands.playground.player import COLUMNS, Pick, Player, Settings, a_and_b, command
from gan_lightning.commands.playground.translation import LARGEST_UPLOAD, translation_layout
from gan_lightning.image_translator import ImageTranslator
from gan_lightning.inference import Sampler
from gan_lightning.pictures import grid, write_animation, write_png

EVERY_CLASS = "every class in turn"
CHOOSE = "Choose the attributes, instead of those of training images"
STEPS = 100  # of a slider, about
CHECKERBOARD = "#grid img, .picked img { background: repeating-conic-gradient(#ccc 0 25%, #fff 0 50%) 0 0 / 16px 16px }"
"""Style of the page that shows what is transparent in its pictures."""
SECONDS_KEPT = 24 * 60 * 60  # lifetime of a file made for a visitor


class Range(NamedTuple):
    """Arguments of a slider."""

    minimum: float
    maximum: float
    value: float
    step: float
    label: str


def serve(config: Namespace, listener: socket.socket) -> None:
    """Load the checkpoint, print the address of the page, and serve it until Ctrl-C.

    Args:
        config: the flags.
        listener: a socket that listens at the address of the page.
    """
    model = load_model(config.checkpoint, config, find_device(config.accelerator))
    if isinstance(model, ImageTranslator):
        page, largest_upload = translation_layout(model, config), LARGEST_UPLOAD
    else:
        assert isinstance(model, Sampler)
        page, largest_upload = layout(Player(model), config), "0b"
    app = gradio.mount_gradio_app(
        FastAPI(openapi_url=None),
        page,
        path="/",
        theme=gradio.themes.Default(primary_hue="blue", font="sans-serif", font_mono="monospace"),  # no font is fetched
        css=CHECKERBOARD if model.networks["generator"].image_shape[0] == 4 else None,
        max_file_size=largest_upload,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
    )
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # called after uvicorn has closed the page
    print(f"  {address(listener)}  (press Ctrl-C to stop)", flush=True)
    settings = uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1)  # browsers keep a connection open
    uvicorn.Server(settings).run(sockets=[listener])


def address(listener: socket.socket) -> str:
    """The address to type into a browser, and a warning if others can reach it."""
    host, port = listener.getsockname()[:2]
    where = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    if ipaddress.ip_address(host).is_loopback:
        return where
    return f"{where}  open to everyone who can reach this machine, without a password"


def layout(player: Player, config: Namespace) -> gradio.Blocks:
    """Lay out the page: settings on the left, the grid in the middle, two picked pictures and their walk on the right."""
    generator = player.sampler.generator
    attributes = attribute_ranges(player.sampler)
    numbers = range(generator.num_classes if generator.conditional else 0)
    classes = [EVERY_CLASS, *(class_text(number, player.sampler) for number in numbers)]

    with gradio.Blocks(title=f"Playground: {config.checkpoint}", fill_width=True, delete_cache=(3600, SECONDS_KEPT)) as page:
        gradio.Markdown(f"### Playground\n`{config.checkpoint}`: {', '.join(facts(player.sampler))}")
        shown = gradio.State()  # the Settings of the grid on the page
        clicks = gradio.State(())  # every Pick so far
        with gradio.Row():
            with gradio.Column(scale=1, min_width=200):
                seed = gradio.Number(0, label="Seed", precision=0, elem_id="seed")
                following = gradio.Button("Next seed", elem_id="next")
                label = gradio.Dropdown(
                    classes, value=EVERY_CLASS, type="index", label="Class", visible=bool(numbers), elem_id="class"
                )
                choose = gradio.Checkbox(False, label=CHOOSE, visible=bool(attributes), elem_id="choose")
                sliders = [gradio.Slider(**attribute._asdict(), visible=False) for attribute in attributes]
                truncate = gradio.Checkbox(False, label="Truncate the latents", elem_id="truncate")
                truncation = gradio.Slider(
                    0.1, 3, 0.7, step=0.1, label="Truncation", info="The largest value in a latent", visible=False
                )
                save_grid = gradio.DownloadButton("Download the grid", elem_id="save_grid")
            with gradio.Column(scale=4, min_width=560):
                pictures = gradio.Gallery(
                    show_label=False,
                    columns=COLUMNS,
                    height="max-content",
                    object_fit="contain",
                    format="png",
                    allow_preview=False,
                    buttons=[],
                    interactive=False,
                    elem_id="grid",
                )
                same = gradio.Textbox(label="The same grid by a command", buttons=["copy"], elem_id="command")
            with gradio.Column(scale=2, min_width=320):
                with gradio.Row():
                    (a, about_a), (b, about_b) = (_slot(name) for name in "AB")
                walk = gradio.Button("Walk from A to B", variant="primary", interactive=False, elem_id="walk")
                animation = picture(320, type="filepath", elem_id="animation")
                save_walk = gradio.DownloadButton("Download the walk", interactive=False, elem_id="save_walk")

        def draw(seed: int | None, label: int | None, truncate: bool, truncation: float, choose: bool, *values: float) -> Any:
            if seed is None:  # while the user types another one
                return gradio.skip()
            chosen = tuple(values) if choose else label - 1 if label else None
            asked = Settings(seed, chosen, round(truncation, 2) if truncate else None)
            with as_gradio_error():
                images = player.grid(asked)
            path = new_file(f"samples_seed_{seed}.png")
            write_png(grid(images, COLUMNS), path, durable=False)
            return (
                asked,
                gradio.Gallery(to_pictures(images), selected_index=None),
                path,
                command(asked, config, player.sampler.class_names, player.sampler.condition_names),
            )

        def pick(shown: Settings, clicks: tuple[Pick, ...], event: gradio.SelectData) -> Any:
            clicks = (*clicks, Pick(shown, event.index))
            with as_gradio_error():
                images = to_pictures(player.pictures(a_and_b(clicks)))
            captions = [f"**{name}**: {one}" for name, one in zip("AB", a_and_b(clicks), strict=False)]
            slots = [part for slot in zip(images, captions, strict=True) for part in slot]
            slots += [gradio.skip()] * (4 - len(slots))
            return [clicks, *slots, gradio.Button(interactive=len(clicks) > 1), None, gradio.DownloadButton(interactive=False)]

        def draw_walk(clicks: tuple[Pick, ...]) -> Any:
            with as_gradio_error():
                images = player.walk(*a_and_b(clicks))
            path = new_file("walk.gif")
            write_animation(images, path)
            return path, gradio.DownloadButton(value=path, interactive=True)

        settings = [seed, label, truncate, truncation, choose, *sliders]
        following.click(None, seed, seed, js="seed => (seed ?? -1) + 1")
        truncate.change(lambda on: gradio.Slider(visible=on), truncate, truncation, api_visibility="private")
        if sliders:
            choose.change(lambda on: [gradio.Slider(visible=on) for _ in sliders], choose, sliders, api_visibility="private")
        gradio.on(  # when the page opens, and when a setting changes
            None,
            draw,
            settings,
            [shown, pictures, save_grid, same],
            trigger_mode="always_last",
            show_progress="hidden",
            api_visibility="private",
        )
        pictures.select(
            pick,
            [shown, clicks],
            [clicks, a, about_a, b, about_b, walk, animation, save_walk],
            show_progress="hidden",
            api_visibility="private",
        )
        walk.click(draw_walk, clicks, [animation, save_walk], api_visibility="private")
    return page


def attribute_ranges(sampler: Sampler) -> list[Range]:
    """Find the slider of each attribute: from the least to the largest value of training images, at their mean at first."""
    if not sampler.condition_names:
        return []
    lowest, means, highest = (
        each.tolist() for each in (sampler.conditions.amin(0), sampler.condition({}), sampler.conditions.amax(0))
    )
    ranges = []
    for name, low, mean, high in zip(sampler.condition_names, lowest, means, highest, strict=True):
        step = float(f"{(high - low or 1) / STEPS:.1g}")
        low, high = math.floor(low / step) * step, math.ceil((high if high > low else low + 1) / step) * step
        low, high, mean, step = (float(f"{value:.6g}") for value in (low, high, round(mean / step) * step, step))
        ranges.append(Range(low, high, mean, step, name))
    return ranges


def _slot(name: str) -> tuple[gradio.Image, gradio.Markdown]:
    """Make the components for a picked picture and its caption."""
    with gradio.Column(min_width=120):
        return picture(150, elem_classes="picked"), gradio.Markdown(f"Click a picture for {name}", elem_id=name)
