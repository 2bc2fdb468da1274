"""Small models and data, files in the formats of the real data sets, and checks of refusals."""

import csv
import gzip
import hashlib
import io
import pickle
import re
import signal
import struct
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from gan_lightning import checkpoint
from gan_lightning.commands.verbs import Verb
from gan_lightning.data import Digits, ImageDataModule, Split
from gan_lightning.errors import InputError
from gan_lightning.gan import GAN
from gan_lightning.losses import AdversarialLoss, NonSaturatingLoss
from gan_lightning.module import AdversarialModule
from gan_lightning.networks import MLPDiscriminator, MLPGenerator
from gan_lightning.training.trainer import make_trainer


def small_gan(loss: AdversarialLoss | None = None, image_shape: tuple[int, int, int] = (1, 8, 8), **arguments: Any) -> GAN:
    """Make a GAN of two tiny MLPs."""
    return GAN(
        MLPGenerator(image_shape, latent_dim=4, hidden=[8]),
        MLPDiscriminator(image_shape, hidden=[8]),
        loss or NonSaturatingLoss(),
        **arguments,
    )


def fit(
    model: AdversarialModule,
    data: ImageDataModule | None = None,
    callbacks: list[Callback] | None = None,
    ckpt_path: Path | None = None,
    **arguments: Any,
) -> Trainer:
    """Train on the CPU in the current folder, silently; resume from ``ckpt_path`` if it is given."""
    quiet: dict[str, Any] = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = Trainer(callbacks=callbacks, **(quiet | arguments))
    trainer.fit(model, datamodule=data or Digits(batch_size=64), ckpt_path=ckpt_path, weights_only=True)
    return trainer


class TensorData(ImageDataModule):
    """Images that a test makes, with classes (N,), attributes (N, K), called a, b and so on, or no labels."""

    def __init__(self, images: Tensor, labels: Tensor | None = None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.tensors = images, labels
        channels, height, width = images.shape[1:]
        self.image_shape = (channels, height, width)
        has_attributes = labels is not None and labels.is_floating_point()
        self.class_names = () if labels is None or has_attributes else tuple(map(str, range(int(labels.max()) + 1)))
        self.condition_names = tuple("abcdefgh"[: labels.shape[1]]) if labels is not None and has_attributes else ()

    def images(self, split: Split) -> tuple[Tensor, Tensor | None]:
        return self.tensors


def write_mnist(root: Path, name: str = "MNIST", count: int = 128, compress: bool = False) -> dict[str, str]:
    """Write noise in MNIST's format to root/name/raw, with labels that cycle. Returns the MD5 of each file."""
    raw = root / name / "raw"
    raw.mkdir(parents=True)
    random = numpy.random.default_rng(0)
    checksums = {}
    for part in ("train", "t10k"):
        images = random.integers(0, 256, (count, 28, 28), dtype=numpy.uint8)
        labels = (numpy.arange(count) % 10).astype(numpy.uint8)
        contents = {
            f"{part}-images-idx3-ubyte": struct.pack(">4i", 2051, count, 28, 28) + images.tobytes(),
            f"{part}-labels-idx1-ubyte": struct.pack(">2i", 2049, count) + labels.tobytes(),
        }
        for file, content in contents.items():
            if compress:
                file, content = f"{file}.gz", gzip.compress(content)
            (raw / file).write_bytes(content)
            checksums[file] = hashlib.md5(content).hexdigest()
    return checksums


def write_cifar10(root: Path, count: int = 20) -> dict[str, str]:
    """Write noise in CIFAR-10's format to root/cifar-10-batches-py, and its archive. Returns the MD5 of each file."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    random = numpy.random.default_rng(0)
    contents: dict[str, Any] = {"batches.meta": {"label_names": [f"class {c}" for c in range(10)]}}
    for file in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        pixels = random.integers(0, 256, (count, 3072), dtype=numpy.uint8)
        contents[file] = {"data": pixels, "labels": [i % 10 for i in range(count)]}
    checksums = {}
    for file, content in contents.items():
        (folder / file).write_bytes(pickle.dumps(content))
        checksums[file] = hashlib.md5((folder / file).read_bytes()).hexdigest()
    with tarfile.open(root / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.add(folder, folder.name)
    checksums["archive"] = hashlib.md5((root / "cifar-10-python.tar.gz").read_bytes()).hexdigest()
    return checksums


def accept_cifar10(patch: pytest.MonkeyPatch, checksums: dict[str, str]) -> None:
    """Let torchvision take the files of :func:`write_cifar10` for the real ones."""
    cifar10 = "torchvision.datasets.CIFAR10."
    patch.setattr(cifar10 + "train_list", [[f"data_batch_{i}", checksums[f"data_batch_{i}"]] for i in range(1, 6)])
    patch.setattr(cifar10 + "test_list", [["test_batch", checksums["test_batch"]]])
    patch.setattr(cifar10 + "meta", {"filename": "batches.meta", "key": "label_names", "md5": checksums["batches.meta"]})


def write_cifar100(root: Path, count: int = 20) -> dict[str, str]:
    """Write noise in CIFAR-100's format to root/cifar-100-python. Returns the MD5 of each file."""
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    random = numpy.random.default_rng(0)
    contents: dict[str, Any] = {"meta": {"fine_label_names": [f"class {c}" for c in range(100)]}}
    for file in ("train", "test"):
        pixels = random.integers(0, 256, (count, 3072), dtype=numpy.uint8)
        contents[file] = {"data": pixels, "fine_labels": [5 * i % 100 for i in range(count)]}
    return _written(folder, {file: pickle.dumps(content) for file, content in contents.items()})


def write_stl10(root: Path, count: int = 20) -> dict[str, str]:
    """Write noise in STL-10's format to root/stl10_binary. Returns the MD5 of each file."""
    folder = root / "stl10_binary"
    folder.mkdir(parents=True)
    random = numpy.random.default_rng(0)
    sizes = {"train": count, "test": count, "unlabeled": 3 * count}
    contents = {
        f"{part}_X.bin": random.integers(0, 256, (size, 3, 96, 96), dtype=numpy.uint8).tobytes() for part, size in sizes.items()
    }
    labels = (numpy.arange(count) % 10 + 1).astype(numpy.uint8).tobytes()
    return _written(folder, contents | {"train_y.bin": labels, "test_y.bin": labels})


def write_celeba(root: Path, count: int = 30) -> dict[str, str]:
    """Write noise in CelebA's format to root/celeba, the images zipped. Returns the MD5 of each file."""
    folder = root / "celeba"
    folder.mkdir(parents=True)
    random = numpy.random.default_rng(0)
    names = [f"{i:06}.jpg" for i in range(1, count + 1)]
    with zipfile.ZipFile(folder / "img_align_celeba.zip", "w") as archive:
        for name in names:
            content = io.BytesIO()
            Image.fromarray(random.integers(0, 256, (218, 178, 3), dtype=numpy.uint8)).save(content, "JPEG")
            archive.writestr(f"img_align_celeba/{name}", content.getvalue())
    tables = {
        "list_eval_partition.txt": [f"{name} {i * 3 // count}" for i, name in enumerate(names)],
        "identity_CelebA.txt": [f"{name} 1" for name in names],
        "list_bbox_celeba.txt": [str(count), "image_id x_1 y_1 width height", *(f"{name} 1 2 3 4" for name in names)],
        "list_landmarks_align_celeba.txt": [str(count), "lefteye_x lefteye_y", *(f"{name} 1 2" for name in names)],
        "list_attr_celeba.txt": [str(count), "Male Smiling ", *(f"{name} -1 {(-1) ** i:2}" for i, name in enumerate(names))],
    }
    sums = _written(folder, {name: "".join(f"{line}\n" for line in lines).encode() for name, lines in tables.items()})
    return sums | {"img_align_celeba.zip": hashlib.md5((folder / "img_align_celeba.zip").read_bytes()).hexdigest()}


def _written(folder: Path, contents: dict[str, bytes]) -> dict[str, str]:
    """Write files. Returns the MD5 of each."""
    for file, content in contents.items():
        (folder / file).write_bytes(content)
    return {file: hashlib.md5(content).hexdigest() for file, content in contents.items()}


@contextmanager
def refuses(*named: object) -> Iterator[None]:
    """Check that the block raises an InputError of one line that names flags, values, paths or suggestions."""
    with pytest.raises(InputError) as caught:
        yield
    _check_line(str(caught.value), named)


def error_line(errors: str, *named: object) -> str:
    """Find the one line of an error among what a command wrote to the standard error, and check the names in it."""
    assert "Traceback" not in errors
    (line,) = (line for line in errors.splitlines() if re.match(r"[\w.-]+: error: ", line))
    _check_line(line, named)
    return line


def refusal(
    main: Callable[[Sequence[str]], int], args: Sequence[str], capsys: pytest.CaptureFixture[str], *named: object
) -> str:
    """Run a command with bad input, and return its error: exit code 2, one line with the names, no new run folder."""
    capsys.readouterr()
    runs = sorted(Path().glob("lightning_logs/version_*"))
    assert main(args) == 2
    assert sorted(Path().glob("lightning_logs/version_*")) == runs
    return error_line(capsys.readouterr().err, *named)


def _check_line(line: str, named: Sequence[object]) -> None:
    assert "\n" not in line
    assert len(line) < 1000
    for part in named:
        assert str(part) in line, line


def same_state(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    """Check if two modules are bitwise equal."""
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def assert_same_state(one: Path, other: Path) -> None:
    """Check that the last checkpoints of two runs are bitwise equal, including optimizers, counters and data position."""
    first, second = (checkpoint.load_gan(run / "checkpoints" / "last.ckpt") for run in (one, other))
    for content in (first, second):
        content["callbacks"].pop("Timer", None)
        log = content["callbacks"]["TrainingLog"]
        assert set(log) == {"names", "rows"}
    _assert_same(first, second, "")


def _assert_same(one: Any, other: Any, where: str) -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            _assert_same(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for i, (mine, theirs) in enumerate(zip(one, other, strict=True)):
            _assert_same(mine, theirs, f"{where}/{i}")
    elif isinstance(one, Tensor):
        assert one.dtype == other.dtype, where
        assert torch.equal(one.nan_to_num(1e9), other.nan_to_num(1e9)), where
    else:
        assert one == other or (one != one and other != other), where


class Batches(Callback):
    """Keeps the images and labels of every step, as the model gets them."""

    def __init__(self) -> None:
        self.seen: list[tuple[Tensor, Tensor | None]] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.seen.append((batch[0].clone(), batch[1]))


class Outputs(Callback):
    """Keeps what every training step returns."""

    def __init__(self) -> None:
        self.seen: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any) -> None:
        self.seen.append({name: float(value) for name, value in outputs.items()})


class InterruptAt(Callback):
    """Ends the run after so many steps with SIGINT, like Ctrl-C."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step - 1:
            signal.raise_signal(signal.SIGINT)


def interrupted(args: Sequence[str], step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the train command and interrupt it after so many steps. Neither its settings nor its checkpoints mention that."""

    def make_interrupted(*args: Any, **arguments: Any) -> Trainer:
        trainer = make_trainer(*args, **arguments)
        trainer.callbacks.append(InterruptAt(step))  # type: ignore[attr-defined]
        return trainer

    with monkeypatch.context() as patch:
        patch.setattr("gan_lightning.commands.train.run.make_trainer", make_interrupted)
        with pytest.raises(SystemExit) as ended:
            Verb.train.main(args)
    assert ended.value.code == 128 + signal.SIGINT


def await_next_second(run: Path) -> None:
    """Wait until a new event file would sort after those of ``run``: their names contain the second."""
    newest = max(int(path.name.split(".")[3]) for path in run.glob("events.out.tfevents.*"))
    while int(time.time()) <= newest:
        time.sleep(0.05)


def curves(run: Path) -> dict[str, dict[int, float]]:
    """Read TensorBoard's curves of a run by name and step, without the speed; metrics.csv must agree if there is one."""
    scalars = EventAccumulator(str(run))
    scalars.Reload()
    tags = [tag for tag in scalars.Tags()["scalars"] if tag != "train/images_per_second"]
    shown = {tag: {event.step: event.value for event in scalars.Scalars(tag)} for tag in tags}
    for tag in tags:
        steps = [event.step for event in scalars.Scalars(tag)]
        assert steps == sorted(set(steps)), f"{tag} at {steps}"
    if (table := run / "metrics.csv").is_file():
        with table.open() as file:
            rows = list(csv.DictReader(file))
        for tag in tags:
            written = {int(row["step"]): float(row[tag]) for row in rows if row.get(tag)}
            assert written == pytest.approx(shown[tag]), tag
    return shown
