"""The playground: its port, its calls of the generator, and the page itself in a headless browser."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import urlparse

import numpy
import pytest
import torch
from jsonargparse import Namespace
from PIL import Image, ImageSequence
from torchvision.transforms.functional import to_pil_image

import gan_lightning
from gan_lightning.commands.playground.cli import PORTS, listen
from gan_lightning.commands.playground.player import FRAMES, NUM_IMAGES, Pick, Player, Settings, a_and_b, command
from gan_lightning.commands.playground.translation import Studio, translation_command
from gan_lightning.commands.verbs import Verb
from gan_lightning.data import Digits, Hole
from gan_lightning.gan import GAN
from gan_lightning.inference import Sampler
from gan_lightning.losses import NonSaturatingLoss
from gan_lightning.networks import MLPDiscriminator, MLPGenerator
from gan_lightning.pictures import enlarged, grid, read_png
from tests.commands.checkpoints import write_checkpoint
from tests.commands.translations import photographs, write_cycle, write_translation
from tests.helpers import fit, refusal, refuses

main = Verb.playground.main

SCRIPT = Path(__file__).parents[2] / "scripts" / "playground.py"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PROGRAM = """
import runpy, sys
sys.argv = sys.argv[1:]
def watch(event, details):
    if event in ("socket.connect", "socket.sendto") and details[1][0] not in ("127.0.0.1", "::1"):
        print("outside:", details, file=sys.stderr, flush=True)
    if event == "socket.getaddrinfo" and details[0] != "127.0.0.1":
        print("outside:", details, file=sys.stderr, flush=True)
sys.addaudithook(watch)
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs a script, and reports its connections to other machines."""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint of a small conditional generator with visibly different classes and latents."""
    torch.manual_seed(0)
    shape, classes = (1, 8, 8), 10
    gan = GAN(
        MLPGenerator(shape, classes, latent_dim=16, hidden=[32], conditioning="concatenation"),
        MLPDiscriminator(shape, classes, hidden=[8], conditioning="concatenation"),
        NonSaturatingLoss(),
    )
    path = tmp_path_factory.mktemp("a run") / "last.ckpt"
    fit(gan, Digits(), max_steps=2).save_checkpoint(path, weights_only=False)
    return path


@pytest.fixture
def sampler(path: Path) -> Sampler:
    loaded: Sampler = gan_lightning.load(path)
    return loaded


def flags(path: Path, **other: object) -> Namespace:
    return Namespace(**{"checkpoint": str(path), "raw": False, "accelerator": "auto", "trust": [], **other})


def pixels(path: Path) -> torch.Tensor:
    """A picture, uint8 (3, height, width)."""
    return torch.from_numpy(numpy.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)


def can_connect(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


def test_a_given_port_is_used_or_refused() -> None:
    with listen("127.0.0.1", 0) as other:
        port = other.getsockname()[1]
        assert port > 0
        with refuses(f"--port {port}", "--port 0"):
            listen("127.0.0.1", port)
    listen("127.0.0.1", port).close()


def test_the_default_port_is_the_next_free_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with listen("127.0.0.1", None) as first, listen("127.0.0.1", None) as second:
        one, other = (listener.getsockname()[1] for listener in (first, second))
        assert one in PORTS
        assert other in PORTS
        assert one < other
        monkeypatch.setattr("gan_lightning.commands.playground.cli.PORTS", range(one, one + 1))
        with refuses(f"{one} to {one}", "--port"):
            listen("127.0.0.1", None)


def test_only_the_given_address_is_reachable() -> None:
    """On Linux all of 127.0.0.0/8 is this machine: a listener at one address is not reachable at another."""
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        assert can_connect("127.0.0.1", port)
        assert not can_connect("127.0.0.2", port)
    with listen("0.0.0.0", 0) as listener:
        assert can_connect("127.0.0.2", listener.getsockname()[1])


def test_without_gradio(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    refusal(main, ["."], capsys, "gradio", "pip install")


def test_a_grid_equals_the_samples_in_python(sampler: Sampler) -> None:
    player = Player(sampler)
    for settings, expected in (
        (Settings(), sampler.sample(NUM_IMAGES)),
        (Settings(seed=5, label=3, truncation=0.5), sampler.sample(NUM_IMAGES, 3, 5, 0.5)),
        (Settings(seed=2**32 - 1), sampler.sample(NUM_IMAGES, seed=2**32 - 1)),
    ):
        assert torch.equal(player.grid(settings), expected)
        picked = player.pictures([Pick(settings, 7), Pick(settings, 24)])
        assert (picked.int() - expected[[7, 24]].int()).abs().max() <= 1  # drawn in a batch of another size: within rounding
    for seed in (-1, 2**32):
        with refuses(f"seed is {seed}"):
            player.grid(Settings(seed=seed))


def test_a_walk_goes_from_one_picture_to_the_other_and_back(sampler: Sampler) -> None:
    """The two pictures may have different seeds, classes and truncations."""
    player = Player(sampler)
    first = Pick(Settings(seed=1, truncation=0.5), 4)
    for second in (Pick(first.settings, 5), Pick(Settings(seed=2, label=8), 0)):
        walk = player.walk(first, second).int()  # (2 * FRAMES, C, H, W)
        assert len(walk) == 2 * FRAMES
        ends = player.pictures([first, second]).int()
        assert (ends[0] - ends[1]).abs().max() > 10
        assert (walk[0] - ends[0]).abs().max() <= 1
        assert (walk[FRAMES] - ends[1]).abs().max() <= 1
        assert (walk[1:] - walk[1:].flip(0)).abs().max() <= 1
        steps = (walk[1:] - walk[:-1]).abs().float().mean(dim=(1, 2, 3))
        assert 0 < steps.max() < (ends[0] - ends[1]).abs().float().mean() / 3  # no jump on the way


def test_an_unconditional_generator_has_no_class() -> None:
    generator = MLPGenerator((1, 8, 8), latent_dim=4, hidden=[8])
    player = Player(Sampler(generator))
    first, second = Pick(Settings(), 3), Pick(Settings(), 4)
    ends = player.walk(first, second)[[0, FRAMES]]
    assert (ends.int() - player.pictures([first, second]).int()).abs().max() <= 1
    with refuses("unconditional"):
        player.grid(Settings(label=1))


def test_clicks_set_a_and_b_alternately() -> None:
    clicks = [Pick(Settings(), number) for number in range(4)]
    expected: list[list[int]] = [[], [0], [0, 1], [2, 1], [2, 3]]
    assert [[pick.number for pick in a_and_b(clicks[:count])] for count in range(5)] == expected


def test_visitors_do_not_affect_each_other(sampler: Sampler) -> None:
    """A walk across classes temporarily blends the generator's embeddings. No other drawing may see that."""
    player = Player(sampler)
    expected = player.grid(Settings(seed=3))
    stop, walks = threading.Event(), 0

    def visit() -> None:
        nonlocal walks
        while not stop.is_set():
            player.walk(Pick(Settings(), 1), Pick(Settings(), 2))
            walks += 1

    other = threading.Thread(target=visit)
    other.start()
    try:
        same = [torch.equal(player.grid(Settings(seed=3)), expected) for _ in range(50)]
    finally:
        stop.set()
        other.join()
    assert all(same)
    assert walks > 0


@pytest.mark.parametrize("settings", [Settings(), Settings(seed=12, label=0, truncation=0.7)])
def test_the_command_draws_the_same_grid(path: Path, sampler: Sampler, settings: Settings) -> None:
    python, script, *words = shlex.split(command(settings, flags(path)))
    assert (python, script) == ("python", "scripts/sample.py")
    assert Verb.sample.main([*words, "--output", "same.png"]) == 0
    assert torch.equal(pixels(Path("same.png")), grid(Player(sampler).grid(settings), 5))


def test_the_command_repeats_the_flags_of_the_page(path: Path) -> None:
    words = shlex.split(command(Settings(), flags(path, raw=True, accelerator="cpu", trust=["one", "two"])))
    config = Verb.sample.make_parser().parse_args(words[2:])
    assert (config.raw, config.accelerator, config.trust, config.truncation) == (True, "cpu", "one,two", None)


@contextmanager
def opened(path: Path, folder: Path, *args: str) -> Iterator[tuple[subprocess.Popen[str], str, IO[str]]]:
    """Open the page in its own process: the process, its address, and its errors."""
    with (folder / "errors").open("w+") as errors:
        running = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(SCRIPT), str(path), *args],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "TMPDIR": str(folder)},
        )
        try:
            assert running.stdout is not None
            line = running.stdout.readline()
            assert "http://" in line, (folder / "errors").read_text()
            yield running, line.split()[0], errors
        finally:
            running.kill()
            running.wait()


@pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium: chromium, chromium-browser or google-chrome")
def test_the_page(path: Path, sampler: Sampler, tmp_path: Path) -> None:
    """In Chromium, the page draws, follows its settings, walks between two clicked pictures, and downloads grid and walk."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    expect = sync_api.expect
    expect.set_options(timeout=20_000)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with sync_api.sync_playwright() as playwright, opened(path, temporary, "--port", "0") as (running, address, errors):
        host, port = urlparse(address).hostname, urlparse(address).port
        assert host == "127.0.0.1"
        assert port is not None
        assert not can_connect("127.0.0.2", port)

        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        page = browser.new_page(viewport={"width": 1200, "height": 800})
        hosts: set[str | None] = set()
        wrong: list[str] = []
        page.on("request", lambda request: hosts.add(urlparse(request.url).hostname))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)

        def sources() -> list[str]:
            expect(pictures).to_have_count(NUM_IMAGES)
            found: list[str] = pictures.evaluate_all("images => images.map(image => image.src)")
            return found

        pictures, line = page.locator("#grid img"), page.locator("#command textarea")
        page.goto(address)
        expect(line).to_have_value(command(Settings(), flags(path)))
        first = sources()
        assert len(set(first)) == NUM_IMAGES
        assert pictures.first.evaluate("image => image.decode().then(() => image.naturalWidth)") == 224

        page.locator("#next").click()
        expect(line).to_have_value(command(Settings(seed=1), flags(path)))
        expect(pictures.first).not_to_have_attribute("src", first[0])
        assert not set(first) & set(sources())
        page.locator("#seed input").fill("0")
        expect(line).to_have_value(command(Settings(), flags(path)))
        expect(pictures.first).to_have_attribute("src", first[0])
        assert sources() == first

        expect(page.locator("#walk")).to_be_disabled()
        pictures.nth(7).click()
        expect(page.locator("#A")).to_have_text("A: number 7 of seed 0")
        page.locator("#class input").click()
        page.get_by_role("option", name="3", exact=True).click()
        page.locator("#truncate input").check()
        page.locator("#seed input").fill("12")
        settings = Settings(seed=12, label=3, truncation=0.7)
        expect(line).to_have_value(command(settings, flags(path)))
        with page.expect_download() as downloading:
            page.locator("#save_grid").click()
        assert downloading.value.suggested_filename == "samples_seed_12.png"
        downloading.value.save_as("page.png")
        assert torch.equal(pixels(Path("page.png")), grid(sampler.sample(NUM_IMAGES, 3, 12, 0.7), 5))

        pictures.nth(2).click()
        expect(page.locator("#B")).to_have_text("B: number 2 of seed 12")
        page.locator("#walk").click()
        expect(page.locator("#animation img")).to_be_visible()
        with page.expect_download() as downloading:
            page.locator("#save_walk").click()
        downloading.value.save_as("walk.gif")
        frames = [numpy.array(frame.convert("L")) for frame in ImageSequence.Iterator(Image.open("walk.gif"))]
        walk = enlarged(Player(sampler).walk(Pick(Settings(), 7), Pick(settings, 2)), 256)
        assert numpy.abs(numpy.stack(frames).astype(int) - walk[:, 0].numpy()).max() <= 1
        page.screenshot(path="page_screenshot.png")

        other = browser.new_page()  # another visitor, who sees none of this
        other.goto(address)
        expect(other.locator("#command textarea")).to_have_value(command(Settings(), flags(path)))
        expect(other.locator("#walk")).to_be_disabled()

        page.locator("#seed input").fill("-1")
        expect(page.get_by_text("seed is -1: use a whole number from 0 to 4294967295")).to_be_visible()
        assert hosts <= {"127.0.0.1", None}  # None: what a page holds itself, data: and blob:
        assert wrong == []
        assert [entry.name.partition("_")[0] for entry in temporary.iterdir() if entry.is_dir()] == ["playground"]

        running.send_signal(signal.SIGINT)  # while the browser is still there
        assert running.wait(timeout=20) == 130
        assert [entry.name for entry in temporary.iterdir()] == ["errors"]
        errors.seek(0)
        assert errors.read() == "playground: interrupted\n"


@pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium: chromium, chromium-browser or google-chrome")
def test_rectangles_are_whole_and_transparency_shows(tmp_path: Path) -> None:
    """The pictures keep their opacity, on a pattern of squares."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    transparent = write_checkpoint(tmp_path / "wide.ckpt", (4, 8, 16))
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with sync_api.sync_playwright() as playwright, opened(transparent, temporary, "--port", "0") as (_, address, _):
        page = playwright.chromium.launch(executable_path=CHROMIUM).new_page()
        page.goto(address)
        pictures = page.locator("#grid img")
        sync_api.expect(pictures).to_have_count(NUM_IMAGES, timeout=20_000)
        width, height, fit_of, background = pictures.first.evaluate(
            "async image => { await image.decode(); const style = getComputedStyle(image);"
            " return [image.naturalWidth, image.naturalHeight, style.objectFit, style.backgroundImage]; }"
        )
        assert (width, height, fit_of) == (224, 112, "contain")
        assert "conic-gradient" in background
        with page.expect_download() as downloading:
            page.locator("#save_grid").click()
        downloading.value.save_as("page.png")
    with Image.open("page.png") as image:
        drawn = torch.from_numpy(numpy.array(image)).permute(2, 0, 1)
    assert torch.equal(drawn, grid(gan_lightning.load(transparent).sample(NUM_IMAGES), 5))
    assert len(drawn[3].unique()) > 2


@pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium: chromium, chromium-browser or google-chrome")
def test_the_page_translates_an_uploaded_picture(tmp_path: Path) -> None:
    """The result equals that of Python, in both directions of a CycleGAN."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    expect = sync_api.expect
    cycle = write_cycle(tmp_path / "cycle.ckpt")
    photo = photographs(1, (1, 24, 40))
    to_pil_image(photo[0]).save("photo.png")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with sync_api.sync_playwright() as playwright, opened(cycle, temporary, "--port", "0") as (_, address, errors):
        page = playwright.chromium.launch(executable_path=CHROMIUM).new_page(viewport={"width": 1100, "height": 800})
        page.goto(address)
        page.set_default_timeout(20_000)
        page.locator("#translate").click()
        expect(page.get_by_text("no picture yet")).to_be_visible(timeout=20_000)
        page.locator("#given input[type=file]").set_input_files("photo.png")
        expect(page.locator("#given img")).to_be_visible(timeout=20_000)
        for name, direction in (("A to B", "AtoB"), ("B to A", "BtoA")):
            page.get_by_label(name).check()
            expect(page.locator("#command textarea")).to_have_value(re.compile(f"--direction {direction}"))
            earlier = page.locator("#translated img").get_attribute("src") if direction == "BtoA" else ""
            page.locator("#translate").click()
            expect(page.locator("#translated img")).not_to_have_attribute("src", earlier or "", timeout=20_000)
            with page.expect_download() as downloading:
                page.locator("#save").click()
            downloading.value.save_as(f"{direction}.png")
            expected = gan_lightning.load(cycle).translate(photo, direction=direction)[0]
            assert torch.equal(read_png(Path(f"{direction}.png")), expected)
        page.screenshot(path="page_translation.png")
        errors.seek(0)
        assert errors.read() == ""


@pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium: chromium, chromium-browser or google-chrome")
def test_the_page_fills_in_what_is_drawn_over(tmp_path: Path) -> None:
    """Only the pixels below the drawing change."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    expect = sync_api.expect
    fill = write_translation(tmp_path / "fill.ckpt", Hole())
    photo = photographs(1, (3, 60, 80)) // 4 + 60
    to_pil_image(photo[0]).save("photo.png")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with sync_api.sync_playwright() as playwright, opened(fill, temporary, "--port", "0") as (_, address, _):
        page = playwright.chromium.launch(executable_path=CHROMIUM).new_page(viewport={"width": 1100, "height": 800})
        page.set_default_timeout(20_000)
        page.goto(address)
        canvas = page.locator("#given canvas").first
        expect(canvas).to_be_visible(timeout=20_000)
        page.wait_for_timeout(1500)  # before the editor is ready, it drops files
        page.locator("#given input[type=file]").first.set_input_files("photo.png")
        expect(page.locator("#given button[aria-label=Pan]")).to_be_enabled(timeout=20_000)
        page.locator("#given button[aria-label=Brush]").click()
        box = canvas.bounding_box()
        assert box is not None
        middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(middle[0] - 5, middle[1])
        page.mouse.down()
        page.mouse.move(middle[0] + 5, middle[1], steps=5)
        page.mouse.up()
        page.locator("#translate").click()
        expect(page.locator("#translated img")).to_be_visible(timeout=20_000)
        page.screenshot(path="page_fill.png")
        with page.expect_download() as downloading:
            page.locator("#save").click()
        downloading.value.save_as("filled.png")
    changed = (read_png(Path("filled.png")) != photo[0]).any(dim=0)
    assert changed.shape == (60, 80)
    assert changed[25:35, 35:45].any()
    assert changed.float().mean() < 0.8
    assert not changed[0].any()


def test_a_drawing_is_the_mask(tmp_path: Path) -> None:
    """Half-transparent ends of a brush stroke count from 50% on."""
    translator = gan_lightning.load(write_translation(tmp_path / "fill.ckpt", Hole()))
    photo = photographs(1, (3, 20, 30))
    layer = numpy.zeros((20, 30, 4), dtype=numpy.uint8)
    layer[5:9, 10:20, 3], layer[9, 10:20, 3] = 255, 100
    drawing = {"background": to_pil_image(photo[0]), "layers": [Image.fromarray(layer)]}
    mask = torch.zeros(1, 1, 20, 30, dtype=torch.bool)
    mask[:, :, 5:9, 10:20] = True
    assert torch.equal(Studio(translator).of_drawing(drawing), translator.translate(photo, mask)[0])
    with refuses("draw"):
        Studio(translator).of_drawing({**drawing, "layers": []})


def test_the_command_of_the_page_translates_alike(tmp_path: Path) -> None:
    cycle = write_cycle(tmp_path / "cycle.ckpt")
    photo = photographs(1, (1, 24, 40))
    to_pil_image(photo[0]).save("picture.png")
    _, script, *words = shlex.split(translation_command(flags(cycle, raw=True), False, "BtoA"))
    assert script == "scripts/translate.py"
    assert Verb.translate.main(words) == 0
    expected = gan_lightning.load(cycle, raw=True).translate(photo, direction="BtoA")[0]
    assert torch.equal(read_png(Path("translated.png")), expected)
