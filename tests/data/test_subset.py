"""Training on some images of a folder."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from PIL import Image

from gan_lightning.commands.verbs import Verb
from gan_lightning.data import ImageFolder
from gan_lightning.data.tree import Files, _shares
from tests.commands.test_dry_run import sections
from tests.helpers import refusal, refuses

SMALL = [
    *("--config", "folder_64", "--data.root", "photos", "--accelerator", "cpu", "--data.image_size", "16"),
    *("--data.batch_size", "4", "--model.generator.width", "4", "--model.discriminator.width", "4"),
    *("--metrics.extractor", "none", "--enable_progress_bar", "false"),
]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """80 images of cats, 20 of dogs and 4 of eels."""
    for name, count in (("cats", 80), ("dogs", 20), ("eels", 4)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(count):
            Image.new("L", (8, 8), i).save(tmp_path / "photos" / name / f"{i:02}.png")
    return tmp_path / "photos"


@pytest.mark.parametrize(
    ("sizes", "count", "expected"),
    [
        ([80, 20], 10, [8, 2]),
        ([80, 20], 100, [80, 20]),
        ([90, 5, 5], 10, [8, 1, 1]),  # 9, 0.5 and 0.5
        ([1, 1, 98], 3, [1, 1, 1]),
        ([100], 7, [7]),
    ],
)
def test_shares_are_proportional_and_no_class_is_left_out(sizes: list[int], count: int, expected: list[int]) -> None:
    assert _shares(sizes, count) == expected


def test_every_share_is_within_one_of_its_proportion() -> None:
    sizes = [int(size) for size in torch.randint(50, 500, (20,), generator=torch.Generator().manual_seed(0))]
    for count in (200, 777, sum(sizes)):
        shares = _shares(sizes, count)
        assert sum(shares) == count
        assert all(abs(share - size * count / sum(sizes)) < 1 for share, size in zip(shares, sizes, strict=True))


def test_a_subset_is_a_function_of_its_seed() -> None:
    files = Files(Path("photos"), tuple(f"{i % 3}/{i:03}" for i in range(300)), tuple(i % 3 for i in range(300)))
    first, again, other = files.subset(60, 0), files.subset(60, 0), files.subset(60, 1)
    assert first == again
    assert len(set(first.paths)) == 60
    assert first.labels == tuple(int(path[0]) for path in first.paths)
    assert Counter(first.labels) == {0: 20, 1: 20, 2: 20}
    assert len(set(first.paths) & set(other.paths)) < 30  # 12 on average
    assert set(first.paths) < set(files.subset(120, 0).paths)
    assert files.subset(300, 5) == files
    unlabelled = Files(Path("photos"), files.paths, None).subset(60, 0)
    assert (len(unlabelled.paths), unlabelled.labels) == (60, None)


def test_only_the_subset_is_trained_on_and_the_seed_of_the_run_does_not_matter(photos: Path) -> None:
    whole = ImageFolder(photos, image_size=8, batch_size=4)
    some, other = (ImageFolder(photos, image_size=8, batch_size=4, subset=40, seed=seed) for seed in (0, 1))
    assert some.files["train"] == other.files["train"]
    assert some.num_images("train") == 40
    assert set(some.files["train"].paths) < set(whole.files["train"].paths)
    assert some.files["test"] == whole.files["test"]
    labels = some.images("train")[1]
    assert labels is not None
    assert set(labels.tolist()) == {0, 1, 2}
    found = len(whole.files["train"].paths)
    assert ImageFolder(photos, batch_size=4, subset=found).files == whole.files
    for refused, named in ((found + 1, found), (7, 8), (-1, 8)):
        with refuses(f"data.subset is {refused}", named):
            ImageFolder(photos, batch_size=4, subset=refused)
    assert ImageFolder(photos, batch_size=4, subset=8).num_images("train") == 8


def test_the_command_line(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert Verb.train.main([*SMALL, "--data.subset", "12", "--dry_run"]) == 0
    found = len(ImageFolder(photos).files["train"].paths)
    report = sections(capsys.readouterr().out)
    assert f"12 to train on (--data.subset, of {found})" in report["Data"]["files"]
    assert report["Time"]["an epoch"].startswith("3 steps")
    assert Verb.train.main([*SMALL, "--data.subset", "12", "--max_steps", "2"]) == 0
    (settings,) = Path("lightning_logs").rglob("config.yaml")
    assert "subset: 12" in settings.read_text()
    refusal(Verb.train.main, [*SMALL, "--data.subset", "1000"], capsys, "data.subset is 1000")
    refusal(Verb.train.main, [*SMALL, "--data.subset", "5"], capsys, "data.subset is 5", "at least 8")
