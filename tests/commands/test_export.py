"""export.py: a folder of files that draw the same images as the checkpoint."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.export import ExportedProgram

import gan_lightning
from gan_lightning import Sampler, files
from gan_lightning.commands.export import cli as export_cli
from gan_lightning.commands.export import run as exporting
from gan_lightning.commands.verbs import Verb
from gan_lightning.data import Digits
from gan_lightning.gan import GAN
from gan_lightning.images import to_float, to_uint8
from gan_lightning.losses import NonSaturatingLoss
from gan_lightning.networks import (
    DCGANDiscriminator,
    DCGANGenerator,
    FastGANGenerator,
    Generator,
    MLPGenerator,
    R3GANGenerator,
    ResNetGenerator,
)
from gan_lightning.networks.base import Network
from tests.commands.checkpoints import write_checkpoint
from tests.helpers import fit, refusal
from tests.translators import pairs, small_cycle, small_translation

PACKAGE = Path(gan_lightning.__file__).parent
FILES = {"README.md", "config.json", "generator.onnx", "generator.pt2", "model.safetensors", "samples.png"}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint of a conditional DCGAN with weights in channels-last order."""
    torch.manual_seed(0)
    gan = GAN(
        DCGANGenerator((1, 8, 8), 10, latent_dim=4, width=4, conditioning="concatenation"),
        DCGANDiscriminator((1, 8, 8), 10, width=4, conditioning="concatenation"),
        NonSaturatingLoss(),
        ema_halflife=500.0,
        channels_last=True,
    )
    folder = tmp_path_factory.mktemp("export")
    path = folder / "run" / "checkpoints" / "last.ckpt"
    fit(gan, Digits(), max_steps=2).save_checkpoint(path, weights_only=False)
    (folder / "run" / "config.yaml").write_text(f"data: Digits\ntrainer: {{default_root_dir: {folder}, max_steps: 2}}\n")
    return path


def test_the_command(path: Path) -> None:
    """Run the command in its own process, then each Python block of the card as a reader would paste it."""
    script = Path(__file__).parents[2] / "scripts" / "export.py"
    done = subprocess.run([sys.executable, str(script), str(path)], capture_output=True, text=True, timeout=200, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split() for line in done.stdout.splitlines() if " MB " in line]
    assert [(name, file, unit) for name, file, _, unit, _ in rows] == [
        ("safetensors", "model.safetensors", "MB"),
        ("torch", "generator.pt2", "MB"),
        ("onnx", "generator.onnx", "MB"),
    ]
    assert all(int(difference) <= 1 for *_, difference in rows)
    folder = Path("exported").absolute()
    assert {file.name for file in folder.iterdir()} == FILES
    card = (folder / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        checked = "found = pictures if 'pictures' in dir() else images\nassert found.shape == (16, 1, 8, 8), found.shape\n"
        checked += "assert str(found.dtype).endswith('uint8')\nassert len({float(x.mean()) for x in found * 1.0}) > 1"
        exec(f"import os; os.chdir({str(folder)!r})\n{block}{checked}", {})
    nowhere = [str(PACKAGE.parent), sys.prefix, str(path.parents[2])]
    for file in FILES:
        assert not any(place.encode() in content for place in nowhere for content in contents(folder / file)), file


def contents(path: Path) -> list[bytes]:
    """Bytes of a file, or of each member of a zip."""
    if not zipfile.is_zipfile(path):
        return [path.read_bytes()]
    with zipfile.ZipFile(path) as archive:
        return [archive.read(name) for name in archive.namelist()]


def test_the_folder_is_a_checkpoint_for_other_commands(path: Path) -> None:
    assert Verb.export.main([str(path), "--formats", "safetensors"]) == 0
    assert {file.name for file in Path("exported").iterdir()} == FILES - {"generator.onnx", "generator.pt2"}
    for source, output in ((str(path), "a.npz"), ("exported", "b.npz")):
        assert (
            Verb.sample.main([source, "--output", output, "--num_images", "20", "--class", "3,5", "--accelerator", "cpu"]) == 0
        )
    assert numpy.array_equal(numpy.load("a.npz")["images"], numpy.load("b.npz")["images"])


def test_half_precision_without_a_picture(path: Path) -> None:
    """The folder has only weights, config and model card; the weights take half the bytes, and the card says so."""
    assert Verb.export.main([str(path), "--formats", "safetensors", "--output", "single"]) == 0
    half = ["--precision", "float16", "--no_picture"]
    assert Verb.export.main([str(path), "--formats", "safetensors", "--output", "half", *half]) == 0
    assert {file.name for file in Path("half").iterdir()} == {"README.md", "config.json", "model.safetensors"}
    assert "(samples.png)" in Path("single/README.md").read_text()
    assert "(samples.png)" not in (card := Path("half/README.md").read_text())
    assert "stored as float16" in card
    small, large = (
        sum(value.nbytes for value in load_file(f"{name}/model.safetensors").values()) for name in ("half", "single")
    )
    assert 0.5 <= small / large < 0.51  # batch norm's counts are whole numbers
    one, other = (gan_lightning.load(name) for name in ("half", "single"))
    weights = zip(one.generator.parameters(), other.generator.parameters(), strict=True)
    assert all(torch.equal(rounded, exact.half().float()) for rounded, exact in weights)
    assert (one.sample(64).int() - other.sample(64).int()).abs().max() <= 1


@pytest.mark.parametrize(
    ("first", "factor", "part"),
    [
        (True, 1e6, "layers.0.weight"),  # above 65,504 float16 has only infinity
        (False, 1e3, "--precision float32"),  # black and white pictures: tanh turns rounding into grey levels
    ],
)
def test_weights_that_half_precision_cannot_hold_are_refused(
    first: bool, factor: float, part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_checkpoint(tmp_path / "large.ckpt")
    content = files.load(path)
    layers = [name for name in content["state_dict"] if name.startswith("ema.layers.") and name.endswith(".weight")]
    content["state_dict"][layers[0 if first else -1]] *= factor
    files.save(content, path)
    refusal(
        Verb.export.main, [str(path), "--formats", "safetensors", "--precision", "float16", "--output", "half"], capsys, part
    )
    assert not Path("half").exists()
    assert Verb.export.main([str(path), "--formats", "safetensors", "--output", "single"]) == 0


def varied(generator: Generator) -> Generator:
    """Change all weights and running statistics, so that each of them affects the images."""
    for value in generator.state_dict().values():
        if value.dim() > 1:
            value.normal_(0, 1.5 * value[0].numel() ** -0.5)
        elif value.is_floating_point():  # scales, shifts, means and variances
            value.add_(0.2 * torch.rand_like(value))
    return generator


SHAPE = (1, 16, 16)
GENERATORS: dict[str, Any] = {
    "mlp": (MLPGenerator, {"hidden": [8]}),
    "mlp, batch_norm": (MLPGenerator, {"hidden": [8], "num_classes": 3, "conditioning": "batch_norm"}),
    "dcgan, concatenation": (DCGANGenerator, {"width": 4, "num_classes": 3, "conditioning": "concatenation"}),
    "dcgan, batch_norm": (DCGANGenerator, {"width": 4, "num_classes": 3, "conditioning": "batch_norm"}),
    "resnet": (ResNetGenerator, {"widths": [4, 4, 4], "attention_at": 8}),
    "resnet, batch_norm": (ResNetGenerator, {"widths": [4, 4, 4], "num_classes": 3, "conditioning": "batch_norm"}),
    "fastgan, batch_norm": (FastGANGenerator, {"width": 2, "num_classes": 3, "conditioning": "batch_norm"}),
    "r3gan": (R3GANGenerator, {"widths": [8, 8, 4], "blocks": 1, "group_width": 4}),
    "r3gan, concatenation": (
        R3GANGenerator,
        {"widths": [8, 8, 4], "blocks": 1, "group_width": 4, "num_classes": 3, "conditioning": "concatenation"},
    ),
}


QUICK = {"mlp", "dcgan, batch_norm", "resnet", "r3gan, concatenation"}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((name, "torch") for name in GENERATORS),
        *(pytest.param(name, "onnx", marks=[] if name in QUICK else pytest.mark.slow) for name in GENERATORS),
    ],
)
def test_every_generator_in_batches_of_any_size(name: str, kind: str, tmp_path: Path) -> None:
    cls, arguments = GENERATORS[name]
    sampler = Sampler(varied(cls(SHAPE, latent_dim=6, **arguments)))
    file = tmp_path / f"generator{exporting.ENDINGS[kind]}"
    graph = exporting.GRAPHS[Sampler]("generator", sampler.generator, sampler)
    exporting.WRITERS[kind](exporting.program_of(sampler.generator, graph.variants[0]), file)
    read = exporting.READERS[kind](file)

    def draw(z: Tensor, labels: Tensor | None) -> Tensor:
        return read({"z": z} | ({} if labels is None else {"labels": labels}))

    for batch in (1, 5):
        z, labels = sampler.latents(torch.arange(batch)), sampler.labels(batch)
        right = sampler.draw(z, labels)
        assert (draw(z, labels).int() - right.int()).abs().max() <= 1
    assert right.float().std(dim=0).max() > 5  # pictures that differ, by some grey levels
    if labels is not None:
        assert (draw(z, labels).int() - draw(z, labels.flip(0)).int()).abs().max() > 5


def test_a_file_that_draws_other_images_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One slightly wrong weight is enough, and nothing remains."""

    def wrong(generator: Generator, variant: exporting.Variant) -> ExportedProgram:
        off = gan_lightning.load(path).generator
        with torch.no_grad():
            off.state_dict()["layers.4.bias"].add_(0.05)  # 6 grey levels where tanh is steep
        return program_of(off, variant)

    program_of = exporting.program_of
    monkeypatch.setattr(exporting, "program_of", wrong)
    before = sorted(Path().rglob("*"))
    line = refusal(Verb.export.main, [str(path), "--formats", "torch"], capsys, "--formats torch", "generator.pt2")
    assert re.search(r" [2-7] grey levels", line)
    assert sorted(Path().rglob("*")) == before


def test_a_failed_export_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(program: ExportedProgram, file: Path) -> None:
        file.write_text("half")
        raise OSError("no space")

    monkeypatch.setitem(exporting.WRITERS, "torch", fails)
    before = sorted(Path().rglob("*"))
    with pytest.raises(OSError, match="no space"):
        Verb.export.main([str(path), "--formats", "torch"])
    assert sorted(Path().rglob("*")) == before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have no such names")
def test_a_folder_whose_name_is_not_unicode() -> None:
    """The locale C reads all names outside ASCII like this."""
    folder = os.fsdecode(b"exported_\xff")
    assert Verb.export.main(["digits", "--output", folder]) == 0
    assert {file.name for file in Path(folder).iterdir()} == FILES


def test_only_an_empty_folder_is_accepted(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("new").mkdir()
    assert Verb.export.main([str(path), "--output", "new", "--formats", "safetensors"]) == 0
    before = {file.name: file.read_bytes() for file in Path("new").iterdir()}
    Path("file").touch()
    Path("link").symlink_to("nowhere")
    for output in ("new", "file", "link", ".", "file/new"):
        refusal(Verb.export.main, [str(path), "--output", output, "--formats", "safetensors"], capsys, f"--output {output} ")
    assert {file.name: file.read_bytes() for file in Path("new").iterdir()} == before


def test_unavailable_formats_are_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    formats = "safetensors, torch, onnx"
    refusal(Verb.export.main, [str(path), "--formats", "tensorflow"], capsys, "--formats", "'tensorflow'", formats)
    monkeypatch.setattr(export_cli, "find_spec", lambda name: None if name == "onnxruntime" else object())
    advice = ("pip install onnxruntime", "--formats safetensors,torch")
    refusal(Verb.export.main, [str(path)], capsys, "--formats onnx", *advice)
    assert not Path("exported").exists()
    assert Verb.export.main([str(path), "--formats", "safetensors,torch"]) == 0


# Translations


def test_a_translation_for_many_sizes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both generators of a CycleGAN are in one folder. Files are for all sizes that the networks allow."""
    torch.manual_seed(0)
    model = small_cycle(pool_size=0)
    fit(model, pairs(8), max_steps=1).save_checkpoint("last.ckpt", weights_only=False)
    assert Verb.export.main(["last.ckpt", "--formats", "onnx"]) == 0
    names = {"README.md", "config.json", "generator.onnx", "inverse_generator.onnx", "model.safetensors"}
    assert {file.name for file in Path("exported").iterdir()} == names
    assert "only" not in capsys.readouterr().out
    translator, again = gan_lightning.load("last.ckpt"), gan_lightning.load("exported")
    images = torch.randint(0, 256, (2, 1, 16, 40), dtype=torch.uint8)  # three halvings: multiples of 8
    for name, direction in (("generator", "AtoB"), ("inverse_generator", "BtoA")):
        right = translator.translate(images, direction=direction)
        assert torch.equal(again.translate(images, direction=direction), right)
        drawn = exporting.READERS["onnx"](Path("exported", f"{name}.onnx"))({"source": to_float(images)})
        assert (drawn.int() - right.int()).abs().max() <= 1


def test_a_translation_whose_graph_depends_on_the_size_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A U-Net that halves down to one pixel is one: torch fixes the number of its last pixels."""
    torch.manual_seed(0)
    fit(small_translation(), pairs(8), max_steps=1).save_checkpoint("last.ckpt", weights_only=False)
    program_of = exporting.program_of

    def of_one_size(network: Network, variant: exporting.Variant) -> ExportedProgram:
        if not variant.note:
            raise ValueError("the size must be known")
        return program_of(network, variant)

    monkeypatch.setattr(exporting, "program_of", of_one_size)
    assert Verb.export.main(["last.ckpt", "--formats", "torch"]) == 0
    assert "generator.pt2 takes sources of 8x8 pixels only" in capsys.readouterr().out
    sources = torch.rand(5, 1, 8, 8) * 2 - 1
    drawn = exporting.READERS["torch"](Path("exported/generator.pt2"))({"source": sources})
    assert (drawn.int() - to_uint8(gan_lightning.load("exported").generator(sources)).int()).abs().max() <= 1
    card = Path("exported/README.md").read_text()
    assert "generator.pt2" in card
    assert "onnx" not in card
