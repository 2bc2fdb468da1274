"""Sets that torchvision knows, from tiny files in their own formats."""

import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torchvision import datasets

from gan_lightning.commands.verbs import Verb
from gan_lightning.data import CIFAR100, STL10, CelebA
from tests.data.test_sources import server as server
from tests.helpers import error_line, fit, refuses, small_gan, write_celeba, write_cifar100, write_stl10


@pytest.fixture
def cifar100(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    sums = write_cifar100(tmp_path / "data")
    for part in ("train", "test"):
        monkeypatch.setattr(datasets.CIFAR100, f"{part}_list", [[part, sums[part]]])
    monkeypatch.setattr(datasets.CIFAR100, "meta", {"filename": "meta", "key": "fine_label_names", "md5": sums["meta"]})
    monkeypatch.setattr(datasets.CIFAR100, "url", "http://127.0.0.1:9/cifar-100-python.tar.gz")
    return tmp_path / "data"


@pytest.fixture
def stl10(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    sums = write_stl10(tmp_path / "data")
    train = ("train_X.bin", "train_y.bin", "unlabeled_X.bin")
    monkeypatch.setattr(datasets.STL10, "train_list", [[name, sums[name]] for name in train])
    monkeypatch.setattr(datasets.STL10, "test_list", [[name, sums[name]] for name in ("test_X.bin", "test_y.bin")])
    monkeypatch.setattr(datasets.STL10, "url", "http://127.0.0.1:9/stl10_binary.tar.gz")
    return tmp_path / "data"


@pytest.fixture
def celeba(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    sums = write_celeba(tmp_path / "data")
    monkeypatch.setattr(datasets.CelebA, "file_list", [("id", checksum, name) for name, checksum in sums.items()])
    return tmp_path / "data"


def refuse_downloads(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise RuntimeError("Too many users have viewed or downloaded this file recently")

    monkeypatch.setattr("torchvision.datasets.celeba.download_file_from_google_drive", refused)


def test_cifar100(cifar100: Path) -> None:
    data = CIFAR100()
    data.prepare_data()
    images, labels = data.images("train")
    assert images.shape == (20, 3, 32, 32)
    assert labels is not None
    assert labels.tolist() == [5 * i for i in range(20)]
    assert len(set(data.class_names)) == 100
    assert (data.class_names[0], data.class_names[99], list(data.class_names)) == ("apple", "worm", sorted(data.class_names))
    assert data.name == "cifar100"


@pytest.mark.parametrize("source", [CIFAR100, STL10])
def test_archives_are_downloaded_from_a_server(
    source: Any, server: tuple[str, Path], cifar100: Path, stl10: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, served = server
    about = source.dataset_class
    with tarfile.open(served / about.filename, "w:gz") as archive:
        archive.add(tmp_path / "data" / about.base_folder, about.base_folder)
    monkeypatch.setattr(about, "url", url + about.filename)
    monkeypatch.setattr(about, "tgz_md5", None)
    data = source(root=tmp_path / "elsewhere")
    data.prepare_data()
    assert len(data.images("test")[0]) == 20


def test_stl10_with_and_without_labels(stl10: Path) -> None:
    data = STL10()
    images, labels = data.images("train")
    assert (images.shape, data.num_classes) == ((20, 3, 96, 96), 10)
    assert labels is not None
    assert labels[:11].tolist() == [*range(10), 0]
    raw = torch.from_numpy(datasets.STL10(str(stl10)).data)
    assert torch.equal(images, raw)
    more = STL10(unlabeled=True)
    images, labels = more.images("train")
    assert (len(images), labels, more.num_classes) == (80, None, 0)
    assert torch.equal(images[:20], raw)
    assert len(more.images("test")[0]) == 20
    small = STL10(image_size="48x32").images("train")[0]
    assert small.shape == (20, 3, 48, 32)
    flat = raw.clone()
    flat[:] = 77
    (stl10 / "stl10_binary" / "train_X.bin").write_bytes(flat.numpy().tobytes())
    with pytest.raises(FileNotFoundError):  # its checksum is another one
        STL10().images("train")


def test_celeba_is_unpacked_once(celeba: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchvision.datasets.celeba.download_file_from_google_drive", lambda *_: None)  # the files are there
    data = CelebA(image_size=16, batch_size=2, num_workers=0)
    images, labels = data.images("train")
    assert (images.shape, labels, data.num_images("test")) == ((10, 3, 16, 16), None, 10)
    refuse_downloads(monkeypatch)
    again = CelebA(image_size="218x178", batch_size=2, num_workers=0)
    with Image.open(celeba / "celeba" / "img_align_celeba" / "000021.jpg") as image:
        pixels = torch.tensor(list(image.convert("RGB").tobytes()), dtype=torch.uint8).view(218, 178, 3)
    assert torch.equal(again.images("test")[0][0], pixels.permute(2, 0, 1))
    assert fit(small_gan(image_shape=(3, 16, 16)), data, max_steps=1).global_step
    assert (data.name, data.held_out) == ("celeba", "the authors' test split")


def test_attributes_of_celeba(celeba: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchvision.datasets.celeba.download_file_from_google_drive", lambda *_: None)  # the files are there
    data = CelebA(attributes=True, image_size=16, batch_size=2, num_workers=0)
    _, labels = data.images("test")
    assert (data.condition_names, data.num_classes) == (("Male", "Smiling"), 0)
    assert labels is not None
    assert labels.tolist() == [[0.0, (i + 1) % 2] for i in range(20, 30)]


def test_celeba_without_its_files(celeba: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    refuse_downloads(monkeypatch)
    shutil.rmtree(celeba / "celeba")
    assert Verb.train.main(["--config", "folder_64", "--data", "CelebA", "--max_steps", "1"]) == 2
    error_line(capsys.readouterr().err, celeba / "celeba", "img_align_celeba.zip", "list_attr_celeba.txt", "--data.root")


@pytest.mark.parametrize("source", [CIFAR100, STL10])
def test_no_files_and_no_network(source: Any, tmp_path: Path, cifar100: Path, stl10: Path) -> None:
    with refuses(source.__name__, tmp_path / "empty", "--data.root", source.dataset_class.filename):
        source(root=tmp_path / "empty").prepare_data()
