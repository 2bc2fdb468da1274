"""Pairs of image files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image
from torch import Tensor

from gan_lightning.callbacks import Checkpoints
from gan_lightning.data import PairedFolders
from gan_lightning.data.loaders import CropLoader, DeviceLoader, WorkerLoader
from tests.helpers import Batches, fit, refuses, small_gan

LOSSLESS = ("png", "bmp", "tif", "webp")


def picture(seed: int, height: int = 20, width: int = 30) -> Image.Image:
    random = numpy.random.default_rng(seed)
    return Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=numpy.uint8))


def negative(image: Image.Image) -> Image.Image:
    return Image.fromarray(255 - numpy.asarray(image))


def save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {"lossless": True} if path.suffix == ".webp" else {}
    image.save(path, **options)


def parallel(root: Path, count: int = 24, a: str = "photos", b: str = "negatives", size: int | None = None) -> Path:
    """Write photographs of several sizes and formats, and their negatives in other formats."""
    for i in range(count):
        photo = picture(i, size or 20 + i % 5, size or 30 - i % 7)
        save(photo, root / a / f"image {i}.{LOSSLESS[i % 4]}")
        save(negative(photo), root / b / f"image {i}.{LOSSLESS[i % 3]}")
    return root


def side_by_side(root: Path, count: int = 24) -> Path:
    """Write each photograph and its negative as the halves of one file."""
    for i in range(count):
        photo = picture(i, 20 + i % 5, 30 - i % 7)
        both = Image.new("RGB", (2 * photo.width, photo.height))
        both.paste(photo, (0, 0))
        both.paste(negative(photo), (photo.width, 0))
        save(both, root / f"{i}.{LOSSLESS[i % 4]}")
    return root


def test_an_empty_side_is_named(tmp_path: Path) -> None:
    save(picture(0), tmp_path / "a" / "0.png")
    (tmp_path / "b").mkdir()
    with refuses(tmp_path / "b", tmp_path / "a"):
        PairedFolders(tmp_path)


def are_negatives(targets: Tensor, sources: Tensor) -> bool:
    """Check that each source is the negative of its target, to within the rounding of the resizing."""
    return int((targets.int() + sources.int() - 255).abs().max()) <= 1


@pytest.mark.parametrize("write", [parallel, side_by_side])
def test_layouts_and_directions(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    root = write(tmp_path / "pairs")
    names: dict[str, Any] = {"a": "photos", "b": "negatives"} if write is parallel else {}
    data = PairedFolders(root, image_size=16, **names)
    assert (data.image_shape, data.source_shape, data.num_classes) == ((3, 16, 16), (3, 16, 16), 0)
    assert data.num_images("train") + data.num_images("test") == 24
    assert data.num_images("test") >= 1
    turned = PairedFolders(root, image_size=16, direction="BtoA", **names)
    for split in ("train", "test"):
        targets, sources = data.pairs(split)
        assert targets.shape == sources.shape == (data.num_images(split), 3, 16, 16)
        assert are_negatives(targets, sources)
        assert torch.equal(data.images(split)[0], targets)
        assert torch.equal(turned.pairs(split)[0], sources)
        assert torch.equal(turned.pairs(split)[1], targets)
    some = torch.tensor([3, 1])
    assert torch.equal(data.pairs_at("train", some)[1], data.pairs("train")[1][some])
    assert torch.equal(data.sources_at("train", some), data.pairs("train")[1][some])


def test_the_only_two_folders_in_alphabetical_order(tmp_path: Path) -> None:
    root = parallel(tmp_path / "pairs")
    named = PairedFolders(root, "negatives", "photos", image_size=8)
    assert torch.equal(PairedFolders(root, image_size=8).pairs("train")[0], named.pairs("train")[0])
    save(picture(0), root / "more" / "1.png")
    with refuses(root, "more, negatives, photos", "--data.a"):
        PairedFolders(root, image_size=8)
    assert torch.equal(PairedFolders(root, "negatives", "photos", image_size=8).pairs("train")[0], named.pairs("train")[0])


@pytest.mark.parametrize("layout", ["{split}/{kind}", "{kind}/{split}"])
def test_splits_above_or_below_the_two_folders(tmp_path: Path, layout: str) -> None:
    for split, count in (("train", 12), ("val", 5), ("test", 3)):
        for i in range(count):
            photo = picture(100 * count + i)
            for kind, image in (("A", photo), ("B", negative(photo))):
                save(image, tmp_path / layout.format(split=split, kind=kind) / f"{i}.png")
    data = PairedFolders(tmp_path, image_size=8)
    assert (data.num_images("train"), data.num_images("test")) == (12, 3)
    assert are_negatives(*data.pairs("train"))
    assert are_negatives(*data.pairs("test"))


def test_the_splits_of_files_side_by_side(tmp_path: Path) -> None:
    for split, count in (("train", 6), ("val", 4)):
        side_by_side(tmp_path / split, count)
    data = PairedFolders(tmp_path, image_size=8)
    assert (data.num_images("train"), data.num_images("test")) == (6, 4)
    assert are_negatives(*data.pairs("test"))


def test_channels_of_both(tmp_path: Path) -> None:
    data = PairedFolders(parallel(tmp_path / "pairs"), image_size=8, channels=1, source_channels=3)
    assert (data.image_shape, data.source_shape) == ((1, 8, 8), (3, 8, 8))
    targets, sources = data.pairs("train")
    assert (targets.shape[1], sources.shape[1]) == (1, 3)


@pytest.mark.parametrize("crop", ["center", "random"])
@pytest.mark.parametrize("in_memory", [True, False])
def test_crops_and_flips_hit_both_alike(tmp_path: Path, crop: Any, in_memory: bool) -> None:
    root = parallel(tmp_path / "pairs", size=None)
    limit: dict[str, Any] = {} if in_memory else {"max_bytes_on_device": 0, "pack": False, "num_workers": 0}
    batches = Batches()
    data = PairedFolders(root, image_size=16, crop=crop, batch_size=4, horizontal_flip=True, **limit)
    loader = fit(small_gan(image_shape=(3, 16, 16)), data, [batches], max_steps=8).train_dataloader
    assert type(loader) is (WorkerLoader if not in_memory else CropLoader if crop == "random" else DeviceLoader)
    for targets, sources in batches.seen:
        assert sources is not None
        assert (targets + sources).abs().max() <= 1.01 / 127.5
    assert are_negatives(*data.pairs("train"))


def test_a_resumed_run_continues_with_the_same_pairs(tmp_path: Path) -> None:
    def train(steps: int, folder: Path, ckpt_path: Path | None = None) -> list[tuple[Tensor, Tensor | None]]:
        batches = Batches()
        data = PairedFolders(tmp_path / "pairs", image_size=8, crop="random", batch_size=4, horizontal_flip=True)
        saved: dict[str, Any] = {"enable_checkpointing": True, "default_root_dir": folder}
        fit(small_gan(image_shape=(3, 8, 8)), data, [batches, Checkpoints()], ckpt_path, max_steps=steps, **saved)
        return batches.seen

    parallel(tmp_path / "pairs")
    whole = train(9, tmp_path / "whole")
    train(7, tmp_path / "parts")
    rest = train(9, tmp_path / "parts", tmp_path / "parts" / "checkpoints" / "last.ckpt")
    assert len(rest) == 2
    for (targets, sources), (own_targets, own_sources) in zip(whole[7:], rest, strict=True):
        assert sources is not None
        assert own_sources is not None
        assert torch.equal(targets, own_targets)
        assert torch.equal(sources, own_sources)


def test_images_without_a_partner(tmp_path: Path) -> None:
    root = parallel(tmp_path / "pairs")
    for i in range(7):
        save(picture(i), root / "photos" / f"alone {i}.png")
    with refuses("7 images", *(f"photos/alone {i}.png" for i in range(5)), "2 more"):
        PairedFolders(root)


def test_an_image_with_two_partners(tmp_path: Path) -> None:
    root = parallel(tmp_path / "pairs", a="A", b="B")
    save(picture(0), root / "B" / "image 0.gif")
    with refuses(root / "B", "image 0.gif", "image 0.png"):
        PairedFolders(root)


def test_pairs_of_different_sizes(tmp_path: Path) -> None:
    root = parallel(tmp_path / "pairs", a="A", b="B")
    first = PairedFolders(root).folder.files["train"].paths[0]
    for path in (root / "B").glob(f"{Path(first).stem}.*"):
        save(picture(0, 9, 11), path)
    data = PairedFolders(root, image_size=8)
    with refuses(first, "11x9", "--data.skip_corrupt"):
        data.pairs("train")
    whole = data.folder.files["train"].paths
    rest = PairedFolders(root, image_size=8, skip_corrupt=True)
    assert rest.num_images("train") == len(whole) - 1
    assert are_negatives(*rest.pairs("train"))


def test_a_damaged_partner_leaves_out_the_pair(tmp_path: Path) -> None:
    root = parallel(tmp_path / "pairs", a="A", b="B")
    files: Any = PairedFolders(root).folder.files["train"]
    (root / "B" / files.partners[0]).write_bytes((root / "B" / files.partners[0]).read_bytes()[:100])
    with refuses(files.partners[0]):
        PairedFolders(root, image_size=8).pairs("train")
    rest = PairedFolders(root, image_size=8, skip_corrupt=True)
    assert rest.num_images("train") == len(files.paths) - 1
    assert are_negatives(*rest.pairs("train"))


def test_an_odd_width(tmp_path: Path) -> None:
    root = side_by_side(tmp_path / "pairs")
    for path in root.iterdir():
        save(picture(0, 20, 31), path)
    with refuses("31 pixels"):
        PairedFolders(root, image_size=8).pairs("train")


def test_bad_arguments(tmp_path: Path) -> None:
    root = parallel(tmp_path / "pairs")
    with refuses("data.a is photos", "data.b"):
        PairedFolders(root, a="photos")
    with refuses("sketches", "negatives, photos"):
        PairedFolders(root, "photos", "sketches")
    with refuses("data.source_channels is 2"):
        PairedFolders(root, source_channels=2)
    for path in (root / "negatives").iterdir():
        path.unlink()
    with refuses(root, "photos"):
        PairedFolders(root)
    with refuses(root, "negatives"):
        PairedFolders(root, "photos", "negatives")
    with refuses(tmp_path / "none"):
        PairedFolders(tmp_path / "none")
