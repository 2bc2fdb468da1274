"""Sources other than folders: shapes, splits, downloads, and errors if files are missing."""

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torchvision import datasets

from gan_lightning.data import CIFAR10, MNIST, Digits, FashionMNIST, ImageDataModule, StackedMNIST
from gan_lightning.images import to_float
from tests.helpers import TensorData, fit, refuses, small_gan, write_cifar10, write_mnist


def test_digits() -> None:
    data = Digits()
    assert (data.image_shape, data.num_classes) == ((1, 8, 8), 10)
    (train, train_labels), (test, test_labels) = data.images("train"), data.images("test")
    assert train_labels is not None
    assert test_labels is not None
    assert (len(train), len(test)) == (1437, 360)
    assert train.shape[1:] == data.image_shape
    assert train.dtype == torch.uint8
    assert (int(train.min()), int(train.max())) == (0, 255)
    shares = torch.bincount(test_labels).float() / torch.bincount(train_labels)
    assert float(shares.min()) > 0.23  # a fifth of each class: 0.24 to 0.26 of the rest
    assert float(shares.max()) < 0.27
    assert torch.equal(train, Digits(seed=5).images("train")[0])


@pytest.fixture
def cifar10_checksums(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Write CIFAR-10's format to tmp_path/data, and make torchvision expect its checksums."""
    root = tmp_path / "data"
    sums = write_cifar10(root)
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [[f"data_batch_{i}", sums[f"data_batch_{i}"]] for i in range(1, 6)])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(
        datasets.CIFAR10, "meta", {"filename": "batches.meta", "key": "label_names", "md5": sums["batches.meta"]}
    )
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", sums["archive"])
    return root


@pytest.mark.parametrize("source", [MNIST, FashionMNIST])
def test_existing_mnist_files_are_read(source: type[ImageDataModule], tmp_path: Path) -> None:
    write_mnist(tmp_path / "data", source.__name__)
    data = source()
    data.prepare_data()
    for split in ("train", "test"):
        images, labels = data.images(split)
        assert images.shape == (128, 1, 28, 28)
        assert images.dtype == torch.uint8
        assert labels is not None
        assert labels[:12].tolist() == [*range(10), 0, 1]
    assert len(data.class_names) == 10


def test_the_original_gz_files_are_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sums = write_mnist(tmp_path / "data", compress=True)
    monkeypatch.setattr(datasets.MNIST, "resources", list(sums.items()))
    data = MNIST()
    data.prepare_data()
    assert len(data.images("test")[0]) == 128


def test_existing_cifar10_files_are_read(cifar10_checksums: Path) -> None:
    data = CIFAR10()
    data.prepare_data()
    images, labels = data.images("train")
    assert images.shape == (100, 3, 32, 32)
    assert labels is not None
    assert images.is_contiguous()
    raw = datasets.CIFAR10(str(cifar10_checksums)).data
    assert torch.equal(images[7, 2], torch.from_numpy(raw[7, :, :, 2]))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """HTTP server on the loopback interface, and the folder that it serves."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}/", folder
        httpd.shutdown()
        thread.join()


def test_mnist_is_downloaded_once_from_a_server(
    server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, folder = server
    sums = write_mnist(tmp_path / "made", compress=True)
    for file in sums:
        (tmp_path / "made" / "MNIST" / "raw" / file).rename(folder / file)
    monkeypatch.setattr(datasets.MNIST, "mirrors", [url])
    monkeypatch.setattr(datasets.MNIST, "resources", list(sums.items()))
    data = MNIST()
    data.prepare_data()
    assert len(data.images("train")[0]) == 128
    for served in folder.iterdir():
        served.unlink()
    MNIST().prepare_data()  # no further request


def test_cifar10_is_downloaded_from_a_server(
    server: tuple[str, Path], cifar10_checksums: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url, folder = server
    (cifar10_checksums / "cifar-10-python.tar.gz").rename(folder / "cifar-10-python.tar.gz")
    monkeypatch.setattr(datasets.CIFAR10, "url", url + "cifar-10-python.tar.gz")
    data = CIFAR10(root=tmp_path / "elsewhere")
    data.prepare_data()
    assert len(data.images("test")[0]) == 20


@pytest.mark.parametrize("source", [MNIST, FashionMNIST, CIFAR10])
def test_no_files_and_no_network(source: type[ImageDataModule], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = "http://127.0.0.1:9/"
    monkeypatch.setattr(datasets.MNIST, "mirrors", [nobody])
    monkeypatch.setattr(datasets.FashionMNIST, "mirrors", [nobody])
    monkeypatch.setattr(datasets.CIFAR10, "url", nobody + "cifar-10-python.tar.gz")
    with refuses(source.__name__, tmp_path / "empty", "--data.root", "--config digits"):
        source(root=tmp_path / "empty").prepare_data()


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte"])
@pytest.mark.parametrize("length", [0, 3, 100])
def test_a_truncated_file_of_mnist_is_named(name: str, length: int, tmp_path: Path) -> None:
    write_mnist(tmp_path / "data")
    file = tmp_path / "data" / "MNIST" / "raw" / name
    file.write_bytes(file.read_bytes()[:length])
    with refuses(f"delete {file},"):
        MNIST().images("train" if name.startswith("train") else "test")


def test_a_damaged_download_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cifar10_checksums: Path) -> None:
    """Without a network the message says that it is damaged, not that it is missing."""
    monkeypatch.setattr(datasets.MNIST, "mirrors", ["http://127.0.0.1:9/"])
    monkeypatch.setattr(datasets.CIFAR10, "url", "http://127.0.0.1:9/cifar-10-python.tar.gz")
    sums = write_mnist(tmp_path / "data", compress=True)
    monkeypatch.setattr(datasets.MNIST, "resources", list(sums.items()))
    packed = tmp_path / "data" / "MNIST" / "raw" / "t10k-images-idx3-ubyte.gz"
    batch = cifar10_checksums / "cifar-10-batches-py" / "data_batch_3"
    for source, file in ((MNIST, packed), (CIFAR10, batch)):
        file.write_bytes(file.read_bytes()[:-10])
        if source is CIFAR10:
            (cifar10_checksums / "cifar-10-python.tar.gz").unlink()
        with refuses(source.__name__, f"replace {file} by"):
            source().prepare_data()


def test_root_defaults_to_the_environment_then_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MNIST().root == tmp_path / "data"
    assert MNIST(root="~/x").root == Path.home() / "x"
    monkeypatch.delenv("GAN_LIGHTNING_DATA")
    assert MNIST().root == Path.home() / ".cache" / "gan_lightning" / "data"


@pytest.mark.parametrize("source", [Digits, MNIST, CIFAR10])
def test_an_empty_batch_is_refused(source: type[ImageDataModule]) -> None:
    with refuses("data.batch_size is 0"):
        source(batch_size=0)


def test_a_batch_larger_than_the_data_is_refused() -> None:
    with refuses("batch_size is 1438", "--data.batch_size 1437"):
        fit(small_gan(), Digits(batch_size=1438), max_steps=1)
    with refuses("batch_size is 480", "--data.batch_size 479"):
        fit(small_gan(discriminator_steps=3), Digits(batch_size=480), max_steps=1)
    fit(small_gan(discriminator_steps=3), Digits(batch_size=479), max_steps=1)


def test_batches_are_converted_and_half_of_them_flipped() -> None:
    torch.manual_seed(0)
    images = torch.randint(0, 256, (2000, 1, 2, 3), dtype=torch.uint8)
    for flip in (False, True):
        data = TensorData(images, horizontal_flip=flip)
        data.trainer = SimpleNamespace(global_step=0, global_rank=0)  # type: ignore[assignment]
        floats, labels = data.on_after_batch_transfer((images, None), 0)
        assert labels is None
        assert floats.dtype == torch.float32
        as_is = (floats == to_float(images)).flatten(1).all(1)
        mirrored = (floats == to_float(images.flip(3))).flatten(1).all(1)
        assert (as_is | mirrored).all()
        share = float((~as_is).float().mean())
        assert abs(share - 0.5) < 0.05 if flip else share == 0  # 0.5 with a deviation of 0.011


def test_examples_are_in_order_of_classes() -> None:
    data = Digits()
    images, labels = data.examples(10, 2)
    assert labels is not None
    assert labels.tolist() == [c for c in range(10) for _ in range(2)]
    assert len({tuple(image.flatten().tolist()) for image in images}) == 20
    unlabelled = TensorData(torch.arange(8, dtype=torch.uint8).view(8, 1, 1, 1))
    assert unlabelled.examples(2, 2)[0].flatten().tolist() == [0, 2, 4, 6]


@pytest.mark.real_data
def test_the_real_mnist(real_data: Path) -> None:
    data = MNIST()
    data.prepare_data()
    (train, labels), (test, _) = data.images("train"), data.images("test")
    assert labels is not None
    assert (len(train), len(test)) == (60_000, 10_000)
    assert labels[:8].tolist() == [5, 0, 4, 1, 9, 2, 1, 3]
    assert float(train.float().mean()) == pytest.approx(33.318, abs=1e-3)


def test_stacked_mnist_has_three_digits_per_image(tmp_path: Path) -> None:
    write_mnist(tmp_path / "data", count=200)
    digits, digit_labels = MNIST().images("train")
    data = StackedMNIST()
    images, labels = data.images("train")
    assert images.shape == (128_000, 3, 28, 28)
    assert data.images("test")[0].shape == (26_000, 3, 28, 28)
    assert (data.name, data.num_classes, data.image_shape) == ("stacked_mnist", 1000, (3, 28, 28))
    assert labels is not None
    assert digit_labels is not None
    assert int(labels.min()) == 0
    assert int(labels.max()) == 999
    assert len(labels.unique()) == 1000  # 128 of each
    by_pixels = {image.numpy().tobytes(): int(label) for image, label in zip(digits[:, 0], digit_labels, strict=True)}
    for image, label in zip(images[:50], labels[:50], strict=True):
        assert [by_pixels[channel.numpy().tobytes()] for channel in image] == [int(c) for c in f"{int(label):03d}"]
    assert torch.equal(StackedMNIST().images("train")[1], labels)  # type: ignore[arg-type]
    assert isinstance(data.classifier_source, MNIST)
    assert data.classifier_source.name == "mnist"
