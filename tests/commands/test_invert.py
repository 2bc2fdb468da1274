"""The invert command, as users type it."""

import logging
import re
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor, to_pil_image

import gan_lightning
from gan_lightning.commands.verbs import Verb
from gan_lightning.images import to_uint8
from tests.helpers import refusal

main = Verb.invert.main

QUICK = ["--steps", "200", "--restarts", "6"]


def tiles(path: str, count: int) -> list[Tensor]:
    """Columns of the picture, in the generator's size."""
    with Image.open(path) as picture:
        pixels: Tensor = pil_to_tensor(picture.convert("RGB"))
    assert pixels.shape == (3, 116, 114 * count + 2)
    return [pixels[:, 2:114:14, 2 + 114 * i : 114 + 114 * i : 14] for i in range(count)]


def write_target(checkpoint: str, path: str = "target.png", label: int | None = None) -> Tensor:
    """Write an image that the generator draws."""
    (image,) = gan_lightning.load(checkpoint).sample(1, label, seed=5)
    to_pil_image(image).save(path)
    expanded: Tensor = image.expand(3, -1, -1)
    return expanded


def errors(printed: str) -> list[float]:
    return [float(value) for value in re.findall(r"error \(RMSE\).*: (\S+) grey levels", printed)]


def test_an_image_of_the_generator_itself(plain: str, capsys: pytest.CaptureFixture[str]) -> None:
    target = write_target(plain)
    args = [plain, "target.png", *QUICK, "--save_latent", "z.npz"]
    assert main(args) == 0
    printed = capsys.readouterr().out
    assert "target, the generator's closest: inverted.png" in printed
    assert errors(printed)[0] < 15  # 7, for the prior
    shown, found = tiles("inverted.png", 2)
    assert torch.equal(shown, target)
    assert float((found.int() - target.int()).abs().float().mean()) < 15
    other = gan_lightning.load(plain).sample(1, seed=6)
    assert float((other.int() - target[:1].int()).abs().float().mean()) > 50  # 99
    with numpy.load("z.npz") as archive:
        assert archive.files == ["latent"]
        drawn = gan_lightning.load(plain).draw(torch.from_numpy(archive["latent"])[None])
    assert (drawn[0].int() - found.int()).abs().max() <= 1


def test_the_class_is_printed_and_saved(labelled: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_target(labelled, label=1)
    assert main([labelled, "target.png", *QUICK, "--save_latent", "z.npz"]) == 0
    printed = capsys.readouterr().out
    assert "class: 1" in printed
    with numpy.load("z.npz") as archive:
        assert int(archive["label"]) == 1
    assert main([labelled, "target.png", *QUICK, "--class", "2", "--output", "two.png"]) == 0
    other = capsys.readouterr().out
    assert "class: 2" in other
    assert errors(other)[0] > errors(printed)[0]


@pytest.mark.parametrize("way", ["hole", "mask"])
def test_a_hole_is_filled_and_the_rest_is_kept(plain: str, way: str, capsys: pytest.CaptureFixture[str]) -> None:
    target = write_target(plain)
    known = torch.ones(8, 8, dtype=torch.bool)
    known[1:4, 2:7] = False
    to_pil_image((~known).to(torch.uint8)[None] * 255).save("mask.png")
    flag = ["--hole", "1,2,3,5"] if way == "hole" else ["--mask", "mask.png"]
    assert main([plain, "target.png", *flag, *QUICK]) == 0
    printed = capsys.readouterr().out
    assert "target, known part, the generator's closest, inpainted: inverted.png" in printed
    where, elsewhere = errors(printed)
    assert where < 15  # 7
    assert elsewhere < 40  # 14; with noise 117
    shown, masked, nearest, inpainted = tiles("inverted.png", 4)
    assert torch.equal(shown, target)
    assert torch.equal(masked[:, known], target[:, known])
    assert (masked[:, ~known] == 128).all()
    assert torch.equal(inpainted[:, known], target[:, known])
    assert torch.equal(inpainted[:, ~known], nearest[:, ~known])
    assert not torch.equal(nearest[:, known], target[:, known])


def test_the_pixels_of_the_hole_are_not_used(plain: str) -> None:
    target = write_target(plain)[:1].clone()
    target[:, 1:4, 2:7] = 200
    to_pil_image(target).save("other.png")
    for name in ("target", "other"):
        args = ["--hole", "1,2,3,5", *QUICK, "--output", f"{name}_filled.png", "--save_latent", f"{name}.npz"]
        assert main([plain, f"{name}.png", *args]) == 0
    assert numpy.array_equal(numpy.load("target.npz")["latent"], numpy.load("other.npz")["latent"])
    assert torch.equal(tiles("target_filled.png", 4)[3], tiles("other_filled.png", 4)[3])


def test_super_resolution_of_a_small_and_of_a_shrunk_image(plain: str, capsys: pytest.CaptureFixture[str]) -> None:
    target = write_target(plain)
    floats = target[:1].float().view(1, 4, 2, 4, 2).mean((2, 4)) / 127.5 - 1
    to_pil_image(to_uint8(floats)).save("small.png")
    args = ["--super_resolution", "2", *QUICK]
    assert main([plain, "target.png", *args, "--output", "large.png"]) == 0
    printed = capsys.readouterr().out
    assert "target, low resolution, the generator's closest: large.png" in printed
    assert errors(printed)[0] < 15  # 6
    assert len(errors(printed)) == 2
    shown, low, _ = tiles("large.png", 3)
    assert torch.equal(shown, target)
    assert torch.equal(low[:1, ::2, ::2], to_uint8(floats))
    assert torch.equal(low[:, ::2, ::2], low[:, 1::2, 1::2])
    assert main([plain, "small.png", *args, "--output", "small_result.png"]) == 0
    printed = capsys.readouterr().out
    assert "low resolution, the generator's closest: small_result.png" in printed
    assert "target" not in printed
    assert len(errors(printed)) == 1
    assert torch.equal(tiles("small_result.png", 2)[0], low)


def test_any_image_is_resized_to_the_generators_size(labelled: str) -> None:
    Image.new("L", (40, 24), 90).save("grey.jpg")
    assert main([labelled, "grey.jpg", "--steps", "1"]) == 0
    assert (tiles("inverted.png", 2)[0].int() - 90).abs().max() <= 1


@pytest.mark.parametrize("more", [[], ["--super_resolution", "2"]])
def test_a_target_of_more_than_8_bits(plain: str, more: list[str], caplog: pytest.LogCaptureFixture) -> None:
    """Without --white it is nearly black, and the command says so."""
    side = 4 if more else 8
    levels = numpy.arange(side**2, dtype=numpy.uint16).reshape(side, side) * (255 // side**2)
    Image.fromarray((levels * (4095 / 255)).round().astype(numpy.uint16)).save("twelve.png")
    quick = ["--steps", "1", "--restarts", "1", *more]
    with caplog.at_level(logging.INFO):
        assert main([plain, "twelve.png", *quick, "--output", "dark.png"]) == 0
    assert "--white 4095" in caplog.text
    assert main([plain, "twelve.png", *quick, "--white", "4095"]) == 0
    if not more:
        assert tiles("dark.png", 2)[0].max() <= 16
        assert (tiles("inverted.png", 2)[0].int() - torch.from_numpy(levels.astype(numpy.int32))).abs().max() <= 1


def test_impossible_flags_are_refused(plain: str, labelled: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_target(plain)
    Path("text.png").write_text("no image")
    Image.new("L", (8, 8), 255).save("white.png")
    Image.new("L", (8, 8), 0).save("black.png")
    before = sorted(Path().iterdir())
    for args, part in (
        ([plain, "text.png"], "text.png"),
        ([plain, "text.png", "--super_resolution", "2"], "text.png"),
        ([plain, "target.png", "--mask", "text.png"], "text.png"),
        ([plain, "target.png", "--mask", "white.png"], "--mask white.png covers all "),
        ([plain, "target.png", "--mask", "black.png"], "--mask black.png covers none "),
        ([plain, "target.png", "--hole", "8,8,2,2"], "--hole 8,8,2,2 covers none "),
        ([plain, "target.png", "--super_resolution", "3"], "--super_resolution 3"),
        ([plain, "target.png", "--class", "1"], "unconditional"),
        ([labelled, "target.png", "--class", "3"], "0 to 2"),
        ([plain, "target.png", "--output", "target.png"], "--output target.png"),
        (["target.png", "target.png"], "target.png"),
    ):
        refusal(main, args, capsys, part)
    assert sorted(Path().iterdir()) == before


def test_a_full_disk_is_one_line(plain: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device", "out.png")

    write_target(plain)
    monkeypatch.setattr("gan_lightning.commands.invert.run.write_png", full)
    refusal(main, [plain, "target.png", "--steps", "1", "--output", "out.png"], capsys, "out.png", "No space left on device")
