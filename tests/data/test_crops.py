"""Crops at random places."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image
from torch import Tensor

from gan_lightning.commands.verbs import Verb
from gan_lightning.data import ImageFolder
from gan_lightning.data.crops import DRAWS, LONGEST, corners, uncropped_size
from gan_lightning.data.image_file import decode
from gan_lightning.data.loaders import CropLoader, EpochShuffle, ImageLoader, WorkerLoader
from tests.helpers import assert_same_state, error_line, fit, interrupted, small_gan

SIZES = ((8, 8), (8, 11), (20, 8), (8, 40), (4, 6))
"""Height and width: a square, a wide and a tall one, a panorama, and one that is smaller than the crop."""


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """30 images of two classes."""
    for i in range(30):
        path = tmp_path / "photos" / "ab"[i % 2] / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        height, width = SIZES[i % len(SIZES)]
        Image.fromarray(numpy.random.default_rng(i).integers(0, 256, (height, width), dtype=numpy.uint8)).save(path)
    return tmp_path / "photos"


def data(photos: Path, in_memory: bool = True, **arguments: Any) -> ImageFolder:
    limit = 2**30 if in_memory else 100
    more: dict[str, Any] = {
        "crop": "random",
        "batch_size": 4,
        "num_workers": 0,
        "max_bytes_on_device": limit,
        "pack": False,
    } | arguments
    return ImageFolder(photos, image_size=8, channels=1, **more)


def loader_of(photos: Path, in_memory: bool = True, **arguments: Any) -> ImageLoader:
    found = fit(small_gan(), data(photos, in_memory, **arguments), max_steps=1).train_dataloader
    assert isinstance(found, CropLoader if in_memory else WorkerLoader)
    found.load_state_dict({"images": 0})
    return found


def epoch(loader: ImageLoader, number: int) -> list[tuple[Tensor, Tensor | None]]:
    loader.sampler.set_epoch(number)
    return list(loader)


def same(ours: list[tuple[Tensor, Tensor | None]], theirs: list[tuple[Tensor, Tensor | None]]) -> bool:
    return len(ours) == len(theirs) and all(
        torch.equal(one, other) and a is not None and b is not None and torch.equal(a, b)
        for (one, a), (other, b) in zip(ours, theirs, strict=True)
    )


def test_every_place_is_as_likely() -> None:
    """Of 7 columns, a crop of 4 has 4 places; 4,000 draws hit each 1,000 times, with a deviation of 27."""
    sampler = EpochShuffle(4000)
    places = corners(torch.tensor([[4, 7]]).expand(4000, 2), sampler.draws(), (4, 4))
    assert set(places[:, 0].tolist()) == {0}
    counts = Counter(places[:, 1].tolist())
    assert set(counts) == {0, 1, 2, 3}
    assert all(abs(count - 1000) < 135 for count in counts.values())
    last = corners(torch.tensor([[4, 7]]), torch.tensor([DRAWS - 1]), (4, 4))
    assert (last[0] <= torch.tensor([0, 3])).all()


@pytest.mark.parametrize(
    ("size", "crop", "expected"),
    [
        ((600, 800), (64, 64), (64, 85)),
        ((800, 600), (64, 64), (85, 64)),
        ((64, 64), (64, 64), (64, 64)),
        ((10, 30), (64, 64), (64, 192)),  # enlarged
        ((100, 100), (32, 64), (64, 64)),
        ((2, 4000), (16, 16), (16, 16 * LONGEST)),
    ],
)
def test_the_whole_image_just_covers_the_crop(size: tuple[int, int], crop: tuple[int, int], expected: tuple[int, int]) -> None:
    assert uncropped_size(size, crop) == expected


def test_a_crop_is_a_part_of_the_whole_image(photos: Path) -> None:
    found = data(photos)
    files, (images, _) = found.files["train"], found.images("train")
    for path, image in zip(files.paths, images, strict=True):
        whole = decode(photos / path, (1, 8, 8), crop="random")
        assert min(whole.shape[1:]) == 8
        windows = whole.unfold(1, 8, 1).unfold(2, 8, 1)[0].flatten(0, 1)
        assert (windows == image).all(dim=(1, 2)).any()


def test_squares_are_not_cropped(photos: Path) -> None:
    for path in list(photos.rglob("*.png")):
        if Image.open(path).size != (8, 8):
            path.unlink()
    assert torch.equal(data(photos).images("train")[0], data(photos, crop="center").images("train")[0])


def test_pictures_and_metrics_see_fixed_crops(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They depend neither on the seed nor on where the images are kept."""
    first, others = data(photos), (data(photos, seed=5), data(photos, in_memory=False))
    few = torch.tensor([3, 1, 1])
    for other in others:
        for ours, theirs in (
            (first.images("train"), other.images("train")),
            (first.images_at("train", few), other.images_at("train", few)),
            (first.examples(2, 3), other.examples(2, 3)),
        ):
            assert same([ours], [theirs])
    assert torch.equal(first.images("train")[0][few], first.images_at("train", few)[0])
    with monkeypatch.context() as patched:
        patched.setattr("gan_lightning.data.decoded.PART", 5)  # crops in parts
        assert same([first.images("train")], [data(photos, in_memory=False).images("train")])
    assert not torch.equal(first.images("train")[0], data(photos, crop="center").images("train")[0])


def test_each_epoch_has_other_crops_and_workers_the_same(photos: Path) -> None:
    device, worker = loader_of(photos), loader_of(photos, in_memory=False)
    parallel = loader_of(photos, in_memory=False, num_workers=2)
    seen = [{image.numpy().tobytes() for images, _ in epoch(device, number) for image in images} for number in range(2)]
    assert seen[0] != seen[1]
    for number in range(2):
        assert same(epoch(device, number), epoch(worker, number))
    assert same(epoch(device, 1), epoch(parallel, 1))
    assert not same(epoch(device, 0), epoch(loader_of(photos, seed=1), 0))


@pytest.mark.parametrize("in_memory", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_resumed_and_divided_epochs_have_the_same_crops(photos: Path, in_memory: bool) -> None:
    loader = loader_of(photos, in_memory)
    whole = epoch(loader, 3)
    loader.load_state_dict({"images": 8})
    assert same(list(loader), whole[2:])
    shares = []
    for rank in range(2):
        loader = loader_of(photos, in_memory)
        loader.sampler = EpochShuffle(loader.sampler.size, 0, rank, 2)
        loader.batch_images = 2
        shares.append(epoch(loader, 3))
    for number, (images, _) in enumerate(whole[: len(shares[0])]):
        together = torch.stack([shares[0][number][0], shares[1][number][0]], dim=1).flatten(0, 1)
        assert torch.equal(together, images)


def test_crops_come_from_the_cache(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = data(photos).images("train")[0]

    def never(*_: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr("gan_lightning.data.decoding.decode", never)
    assert torch.equal(data(photos).images("train")[0], first)


def test_a_resumed_run_is_bitwise_equal(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--model.generator", "MLPGenerator", "--model.discriminator", "MLPDiscriminator"]
    small += ["--model.generator.hidden", "[8]", "--model.discriminator.hidden", "[8]", "--metrics.extractor", "none"]
    args = ["--config", "folder_64", "--data.root", str(photos), "--data.image_size", "8", "--data.crop", "random", *small]
    args += ["--data.batch_size", "4", "--accelerator", "cpu", "--max_steps", "16", "--enable_progress_bar", "false"]
    assert Verb.train.main([*args, "--default_root_dir", "straight"]) == 0
    interrupted([*args, "--default_root_dir", "stopped"], 9, monkeypatch)
    assert Verb.train.main(["--ckpt_path", "last", "--default_root_dir", "stopped"]) == 0
    assert_same_state(*(Path(name, "lightning_logs", "version_0") for name in ("straight", "stopped")))
    capsys.readouterr()
    assert Verb.train.main([*args, "--data.crop", "left"]) == 2
    error_line(capsys.readouterr().err, "data.crop", "left")
