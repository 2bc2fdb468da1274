"""Classes drawn equally often, from the command line."""

from pathlib import Path

import pytest
from PIL import Image

from gan_lightning.commands.verbs import Verb
from gan_lightning.data import ImageFolder
from tests.commands.test_dry_run import sections
from tests.helpers import Batches, fit, refusal, small_gan

SMALL = [
    *("--config", "folder_64", "--accelerator", "cpu", "--data.image_size", "16", "--data.batch_size", "4"),
    *("--model.generator.width", "4", "--model.discriminator.width", "4", "--dry_run"),
]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """90 images of cats and 6 of dogs; dogs are white."""
    for name, count in (("cats", 90), ("dogs", 6)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(count):
            Image.new("L", (8, 8), 255 if name == "dogs" else i).save(tmp_path / "photos" / name / f"{i:02}.png")
    return tmp_path / "photos"


@pytest.mark.parametrize(("limit", "crop"), [(2**30, "center"), (2**30, "random"), (10, "center")])
def test_half_of_the_images_are_dogs(photos: Path, limit: int, crop: str) -> None:
    arguments = {"crop": crop, "num_workers": 0, "max_bytes_on_device": limit, "pack": False, "balance": True}
    data = ImageFolder(photos, 8, 1, batch_size=10, **arguments)  # type: ignore[arg-type]
    batches = Batches()
    steps = data.num_images("train") // 10
    trainer = fit(small_gan(), data, max_steps=steps, callbacks=[batches])
    assert trainer.num_training_batches == steps
    dogs = 0
    for images, labels in batches.seen:
        assert labels is not None
        assert ((images == 1).flatten(1).all(dim=1) == (labels == 1)).all()
        dogs += int(labels.sum())
    assert abs(dogs - 5 * steps) <= 5  # an epoch has as many of both, to within the rest that is dropped


def test_the_dry_run_counts_images_and_draws(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = [*SMALL, "--data.root", "photos"]
    assert Verb.train.main(args) == 0
    report = sections(capsys.readouterr().out)
    assert "balance" not in report["Preprocessing"]
    assert "--data.balance true" in " ".join(report["Suggestions"].values())
    assert Verb.train.main([*args, "--data.balance", "true"]) == 0
    report = sections(capsys.readouterr().out)
    data = ImageFolder(photos)
    cats, dogs = (data.class_counts("train")[name] for name in ("cats", "dogs"))
    draws = (cats + dogs) / 2
    for part in (f"drawn {draws:,.0f} times", f"cats {cats} images", f"dogs {dogs} images, each {draws / dogs:.2g} times"):
        assert part in report["Preprocessing"]["balance"]
    assert "--data.balance" not in " ".join(report["Suggestions"].values())


def test_a_folder_without_classes_is_refused(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = [*SMALL, "--data.root", "photos/cats", "--data.balance", "true"]
    refusal(Verb.train.main, args, capsys, "data.balance", "photos/cats")
