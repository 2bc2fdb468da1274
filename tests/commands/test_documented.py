"""The commands of README and docs run: page by page, for one step each, on small stand-ins for the data."""

import runpy
import shutil
from collections.abc import Iterator
from pathlib import Path

import datasets
import pytest

from gan_lightning.commands.train import trial
from gan_lightning.commands.verbs import Verb
from gan_lightning.data import StackedMNIST
from gan_lightning.metrics import classifier
from tests.helpers import accept_cifar10, write_celeba, write_cifar10, write_cifar100, write_mnist
from tests.test_docs import PAGES, ROOT, commands, written_files

ELSEWHERE = {  # what other tests run, and what needs a download
    "scripts/benchmark/": "tests/benchmark",
    "scripts/minimal.py": "tests/test_minimal.py",
    "scripts/compare.py": "tests/commands/test_compare.py",
    "scripts/playground.py": "tests/commands/test_playground.py",
    "scripts/translate.py": "tests/commands/test_translate.py",
    "colour_folder": "tests/test_recipes.py",
    "super_resolution_folder": "tests/test_recipes.py",
    "inpaint_folder": "tests/test_recipes.py",
    "edges_folder": "tests/test_recipes.py",
    "pix2pix_folder": "tests/test_recipes.py",
    "cyclegan_folder": "tests/test_recipes.py",
    "my_parts": "tests/test_docs.py",
    **dict.fromkeys(("pix2pix_folder", "cyclegan_folder", "super_resolution_folder"), "tests/test_recipes.py"),
    "torchrun": "tests/training/test_distributed.py",
    "--devices": "tests/training/test_distributed.py",
    "inception": "the weights of Inception",
    "compute_reference.py": "the weights of Inception",
    "me/my-gan": "a folder of the Hub",
}
QUICK = {  # flags that shorten a command
    "train": "--data.batch_size 4 --max_steps 1 --metrics.num_images 20 --accelerator cpu --enable_progress_bar false",
    "evaluate": "--num_images 20 --num_real 20",
    "interpolate": "--frames 2",
    "invert": "--steps 2",
    "sample": "--num_images 12",
    "export": "",
}
NARROW = "--model.generator.width 4 --model.discriminator.width 4"  # the widths of folder_64 take seconds a step
FIRST_READ = ("README.md", "data.md", "training.md")
"""The pages that most people type from. The others are slow: other tests run commands like theirs."""
CUT = "my_photos/flower/029.jpg"  # docs/data.md shows what a cut file does


def page_commands(page: Path) -> list[list[str]]:
    return [words for words in commands(page) if not any(part in " ".join(words) for part in ELSEWHERE)]


def run(script: str, args: list[str]) -> int:
    """Run a command of a page with the flags that shorten it, over the outputs of those before. Returns its exit code."""
    name = Path(script).stem
    args = [word.replace("fd_5k", "fd_20") for word in args]
    more = [*QUICK[name].split(), *NARROW.split() * ("folder_64" in args), *["--extractor", "imagenet"] * ("--real" in args)]
    more += ["--model.micro_batch", "2"] * ("--model.micro_batch" in args)
    output = Path(args[args.index("--output") + 1] if "--output" in args else "samples.png")
    if output.is_dir():
        shutil.rmtree(output)
    output.unlink(missing_ok=True)
    try:
        return Verb[name].main([*args, *more])
    except SystemExit as ended:  # --help
        return int(ended.code or 0)


@pytest.fixture(scope="module")
def stand_ins() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifier, "EPOCHS", 1)
        patch.setattr(classifier, "FEWEST_IMAGES_SEEN", 1)
        patch.setattr(trial, "STEPS", 1)
        patch.setattr(StackedMNIST, "sizes", {"train": 300, "test": 100})
        for module in ("generative_metrics", "health_monitor"):
            patch.setattr(f"gan_lightning.callbacks.{module}.FEW_IMAGES", 20)
        yield patch


def write_set(photos: Path, folder: Path) -> None:
    """Write the photographs that can be read as a set in Parquet, with their classes."""
    folder.mkdir()
    files = [path for path in sorted(photos.rglob("*.*")) if path.is_file() and path.name != Path(CUT).name]
    names = sorted({path.parent.name for path in files})
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=names)})
    content = {
        "image": [{"bytes": path.read_bytes(), "path": path.name} for path in files],
        "label": [p.parent.name for p in files],
    }
    datasets.Dataset.from_dict(content, features=features).to_parquet(folder / "train.parquet")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, stand_ins: pytest.MonkeyPatch) -> Path:
    """A folder with the data sets, photographs, runs, checkpoints and samples that the pages mention."""
    folder = tmp_path_factory.mktemp("documented")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("GAN_LIGHTNING_DATA", str(folder / "data"))
        write_mnist(folder / "data")
        accept_cifar10(stand_ins, write_cifar10(folder / "data"))
        sums = write_cifar100(folder / "data", 100)
        for part in ("train", "test"):
            stand_ins.setattr(f"torchvision.datasets.CIFAR100.{part}_list", [[part, sums[part]]])
        stand_ins.setattr(
            "torchvision.datasets.CIFAR100.meta", {"filename": "meta", "key": "fine_label_names", "md5": sums["meta"]}
        )
        sums = write_celeba(folder / "data", 120)
        stand_ins.setattr("torchvision.datasets.CelebA.file_list", [("id", checksum, name) for name, checksum in sums.items()])
        stand_ins.setattr("torchvision.datasets.celeba.download_file_from_google_drive", lambda *_: None)  # the files are there
        for name, text in written_files(ROOT / "docs" / "data.md").items():
            Path(name).write_text(text)
        runpy.run_path("make_photos.py")
        shutil.copytree("my_photos/flower", "cifar10-jpg/train/flower", ignore=shutil.ignore_patterns(Path(CUT).name))
        stand_ins.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "hub_cache")
        write_set(Path("my_photos"), Path("my_set"))
        assert run("train", ["--config", "cgan_mnist"]) == 0
        first = Path("lightning_logs/version_0")
        shutil.copytree(first, "lightning_logs/version_1")
        shutil.copy(first / "checkpoints" / "last.ckpt", "last.ckpt")
        shutil.copy(first / "config.yaml", "config.yaml")
        assert Verb.sample.main(["last.ckpt", "--num_images", "20", "--output", "samples"]) == 0
        first_digit, *_, last_digit = sorted(Path("samples").rglob("*.png"))
        shutil.copy(first_digit, "digit_0.png")
        shutil.copy(last_digit, "digit_18.png")
        for half in ("half_a", "half_b"):
            shutil.copytree("samples", half)
    return folder


PAGES_OF_COMMANDS = [
    pytest.param(page, id=page.name, marks=[] if page.name in FIRST_READ else pytest.mark.slow)
    for page in PAGES
    if page_commands(page)
]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", PAGES_OF_COMMANDS)
def test_commands_of_a_page_run(page: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    if page.name == "data.md":
        _the_folder_with_a_cut_file(page)
        return
    Path(CUT).unlink()
    for script, *args in page_commands(page):
        assert run(script, args) == 0, f"{script} {' '.join(args)}: {capsys.readouterr().err}"


def _the_folder_with_a_cut_file(page: Path) -> None:
    """The page's first command refuses the folder; its third, without --dry_run, trains what the others use.

    The last ones use what the command with labels in a file trains.
    """
    refused, smaller, conditional, *later = page_commands(page)
    assert run(refused[0], refused[1:]) == 2
    assert run(smaller[0], smaller[1:]) == 0
    shutil.rmtree("lightning_logs")
    assert run(conditional[0], [word for word in conditional[1:] if word != "--dry_run"]) == 0
    for script, *args in later:
        if "--data.labels" in args:
            runpy.run_path("make_labels.py")
            shutil.rmtree("lightning_logs")
        assert run(script, args) == 0, " ".join(args)
