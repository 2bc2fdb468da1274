"""Labels of a folder of images in a file: a CSV, or StyleGAN's dataset.json."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image

from gan_lightning.commands.verbs import Verb
from gan_lightning.data import ImageFolder
from gan_lightning.data.labels import read_labels
from gan_lightning.metrics.measurement import make_extractor
from tests.helpers import Batches, assert_same_state, fit, interrupted, refusal, refuses, small_gan

CLASSES = ("0", "1", "2")
SMALL = [
    *("--config", "folder_64", "--accelerator", "cpu", "--data.root", "photos", "--data.image_size", "8"),
    *("--data.batch_size", "4", "--data.num_workers", "0", "--metrics.extractor", "none", "--health.every_n_steps", "0"),
    *("--model.generator", "MLPGenerator", "--model.generator.hidden", "[8]", "--model.discriminator", "MLPDiscriminator"),
    *("--model.discriminator.hidden", "[8]", "--model.penalty", "null", "--model.augmentation", "null"),
]
CONCATENATION = ("--model.generator.conditioning", "concatenation")
LIMITS = [(2**30, "center"), (2**30, "random"), (10, "center")]
"""Arguments max_bytes_on_device and crop for three loaders: on the device, crops on the device, pack. Two workers decode."""

LOADERS = [*((*each, 0) for each in LIMITS), (10, "center", 2)]


def draw(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(numpy.full((9, 8), value, numpy.uint8)).save(path)


@pytest.fixture(params=["", "train"])
def photos(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """60 images in folders of classes, perhaps below the folders train and test; image i is grey i."""
    root = tmp_path / "photos"
    for i in range(60):
        split = request.param and ("train" if i < 50 else "test")
        draw(root / split / CLASSES[i % 3] / f"{i}.png", i)
    return root


def paths(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))


def csv(root: Path) -> str:
    lines = [f"{path},{Path(path).parent.name}" for path in reversed(paths(root))]  # in any order
    (root / "labels.csv").write_text("\n".join(["file,label", *lines]) + "\n")
    return "labels.csv"


def dataset_json(root: Path) -> str:
    labels = [[path, int(Path(path).parent.name)] for path in paths(root)]
    (root / "dataset.json").write_text(json.dumps({"labels": labels}))
    return "dataset.json"


def attributes(root: Path) -> str:
    """A CSV in which the attributes of image i are i / 100 and -i."""
    lines = [f"{path},{int(Path(path).stem) / 100},{-int(Path(path).stem)}" for path in paths(root)]
    (root / "attributes.csv").write_text("\n".join(["file,bright,dark", *lines]))
    return "attributes.csv"


def seen(data: ImageFolder, steps: int = 28) -> list[tuple[torch.Tensor, torch.Tensor | None]]:
    """The batches of a run, as the model gets them."""
    batches = Batches()
    fit(small_gan(image_shape=(1, 8, 8)), data, max_steps=steps, callbacks=[batches])
    return batches.seen


@pytest.mark.parametrize(("limit", "crop"), LIMITS)
@pytest.mark.parametrize("write", [csv, dataset_json])
def test_a_file_equals_folder_names(photos: Path, write: Callable[[Path], str], limit: int, crop: Any) -> None:
    """The same classes, splits and batches, bit for bit, balanced and with a subset, too."""
    name = write(photos)
    options: list[dict[str, Any]] = [{}, {"balance": True, "horizontal_flip": True}, {"subset": 20}]
    for own in options:
        arguments = {"batch_size": 5, "crop": crop, "max_bytes_on_device": limit, "num_workers": 0, **own}
        folders, file = (ImageFolder(photos, 8, 1, **arguments, labels=labels) for labels in (None, name))
        assert folders.class_names == file.class_names == CLASSES
        assert folders.condition_names == file.condition_names == ()
        assert folders.files == file.files
        assert file.num_classes == 3
        assert file.class_counts("train") == folders.class_counts("train")
        for (images, labels), (others, other_labels) in zip(seen(folders, 12), seen(file, 12), strict=True):
            assert torch.equal(images, others)
            assert labels is not None
            assert other_labels is not None
            assert torch.equal(labels, other_labels)
    assert Path(name) not in file.others


@pytest.mark.parametrize(("limit", "crop", "workers"), LOADERS)
def test_attributes_come_with_their_images(photos: Path, limit: int, crop: Any, workers: int) -> None:
    """Every attribute of every image, through each loader: the image's grey is its number, and so are the attributes."""
    data = ImageFolder(
        photos,
        8,
        1,
        6,
        crop,
        True,
        max_bytes_on_device=limit,
        pack=not workers,
        num_workers=workers,
        labels=attributes(photos),
        subset=40,
    )
    assert (data.condition_names, data.condition_dim, data.num_classes) == (("bright", "dark"), 2, 0)
    for images, labels in seen(data):
        assert labels is not None
        assert (labels.shape, labels.dtype) == ((6, 2), torch.float32)
        numbers = ((images + 1) * 127.5).round().amax(dim=(1, 2, 3))
        assert torch.equal(labels, torch.stack([numbers / 100, -numbers], 1))
    for split in ("train", "test"):
        images, labels = data.images(split)
        assert labels is not None
        assert torch.equal(-labels[:, 1], images.amax(dim=(1, 2, 3)).float())
    few, own = data.images_at("train", torch.tensor([3, 1]))
    assert own is not None
    assert torch.equal(-own[:, 1], few.amax(dim=(1, 2, 3)).float())
    whole = data.labels("train")
    assert whole is not None
    conditions = data.conditions()  # of every training image, in another order
    assert conditions is not None
    assert sorted(conditions.tolist()) == sorted(whole.tolist())
    assert conditions.tolist() != whole.tolist()


def test_a_checkpoint_has_at_most_1024_rows_and_32768_numbers(tmp_path: Path) -> None:
    for count, size, expected in ((1500, 2, 1024), (1500, 64, 512), (20, 3, 20)):
        rows = torch.randn(count, size)

        class Data(ImageFolder):
            condition_names = tuple(map(str, range(size)))

            def __init__(self) -> None:
                pass

            def labels(self, split: str, rows: torch.Tensor = rows) -> torch.Tensor:
                return rows

        description = Data().condition_description
        found = torch.tensor(description["conditions"])
        assert found.shape == (expected, size)
        assert {tuple(row) for row in found.tolist()} <= {tuple(row) for row in rows.tolist()}  # exact in float32
        assert len(json.dumps({"conditions": description["conditions"]}, indent=2)) < 2**20


def test_vectors_and_null_in_dataset_json(photos: Path) -> None:
    labels = [[path, [int(Path(path).stem), 0.5]] for path in paths(photos)]
    (photos / "dataset.json").write_text(json.dumps({"labels": labels, "other": 1}))
    data = ImageFolder(photos, 8, 1, num_workers=0, labels="dataset.json")
    assert data.condition_names == ("0", "1")
    images, own = data.images("train")
    assert own is not None
    assert torch.equal(own[:, 0], images.amax(dim=(1, 2, 3)).float())
    (photos / "dataset.json").write_text('{"labels": null}')
    data = ImageFolder(photos, 8, 1, num_workers=0, labels="dataset.json")
    assert (data.class_names, data.condition_names, data.images("test")[1]) == ((), (), None)


def test_where_a_file_is_looked_for(photos: Path, tmp_path: Path) -> None:
    """In the folder of images first, then in the current folder; an absolute path is as it is."""
    name = csv(photos)
    (tmp_path / name).write_text("file,other\n")
    assert read_labels(name, photos).path == photos / name
    (photos / name).rename(tmp_path / "mine.csv")
    assert read_labels("mine.csv", photos).path == Path("mine.csv")
    assert read_labels(tmp_path / "mine.csv", photos).path == tmp_path / "mine.csv"


def test_names_with_commas_quotes_and_a_byte_order_mark(tmp_path: Path) -> None:
    draw(tmp_path / "photos" / "a, b.png", 1)
    draw(tmp_path / "photos" / 'c "d".png', 2)
    text = 'file,label\r\n"a, b.png","cats, and dogs"\r\n\r\n"./c ""d"".png",wölfe\r\n'
    (tmp_path / "photos" / "labels.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    read = read_labels("labels.csv", tmp_path / "photos")
    assert read.class_names == ("cats, and dogs", "wölfe")
    assert read.values == {"a, b.png": 0, 'c "d".png': 1}


HEAD = "file,label\n"
BAD: list[tuple[str, str, Sequence[str]]] = [
    ("labels.csv", "", ("labels.csv", "file,label")),
    ("labels.csv", "name,class\n0.png,a\n", ("name, class", "file,label")),
    ("labels.csv", "0.png,a\n1.png,b\n", ("0.png, a", "file,label")),
    ("labels.csv", "file\n0.png\n", ("file,label",)),
    ("labels.csv", HEAD + "0.png,a\n", ("1.png", "2.png", "2 images")),
    ("labels.csv", HEAD + "0.png,a\n1.png,a\n2.png,a\n8.png,a\n9.png,b\n", ("2 labels", "8.png", "9.png")),
    ("labels.csv", HEAD + "0.png,a\n0.png,b\n1.png,a\n2.png,a\n", ("0.png", "two")),
    ("labels.csv", HEAD + "0.png,a\n1.png\n", ("line 3", "1 value")),
    ("labels.csv", HEAD + "0.png,a\n1.png,\n2.png,a\n", ("1.png", "no label")),
    ("labels.csv", "file,age,smile\n0.png,1,2\n1.png,old,2\n2.png,1,1\n", ("'old'", "age", "1.png")),
    ("labels.csv", "file,age,smile\n0.png,1,2\n1.png,1,nan\n2.png,1,1\n", ("'nan'", "smile", "1.png")),
    ("labels.csv", "file,age,smile\n0.png,1,2\n1.png,1,1e39\n2.png,1,1\n", ("'1e39'", "smile", "1.png")),
    ("labels.csv", "file,age,age\n0.png,1,2\n", ("'age'", "differ")),
    ("labels.csv", "file,a=b,age\n0.png,1,2\n", ("'a=b'",)),
    ("labels.csv", 'file,label\n"0.png,a\n', ("labels.csv", "cannot be read")),
    ("labels.json", "[1, 2", ("labels.json", "JSON")),
    ("labels.json", "[]", ("labels.json", "labels")),
    ("labels.json", '{"labels": {"0.png": 1}}', ("labels.json", "entry")),
    ("labels.json", '{"labels": [["0.png", 1], ["1.png"]]}', ("1.png", "entry")),
    ("labels.json", '{"labels": [["0.png", 1], ["1.png", -1], ["2.png", 0]]}', ("-1", "1.png")),
    ("labels.json", '{"labels": [["0.png", 1], ["1.png", true], ["2.png", 0]]}', ("True", "1.png")),
    ("labels.json", '{"labels": [["0.png", 1], ["1.png", null], ["2.png", 0]]}', ("None", "1.png")),
    ("labels.json", '{"labels": [["0.png", [1, 2]], ["1.png", [1]], ["2.png", [0, 1]]]}', ("[1]", "1.png")),
    ("labels.json", '{"labels": [["0.png", [1, 2]], ["1.png", 3], ["2.png", [0, 1]]]}', ("3", "1.png")),
    ("labels.json", '{"labels": [["0.png", [1, NaN]], ["1.png", [1, 2]], ["2.png", [0, 1]]]}', ("nan", "0.png")),
    ("labels.json", f'{{"labels": [["0.png", [1{"0" * 400}]], ["1.png", [1]], ["2.png", [0]]]}}', ("10000", "0.png")),
    ("labels.txt", "file,label\n", ("labels.txt", ".csv", ".json")),
]


@pytest.mark.parametrize(("name", "text", "parts"), BAD)
def test_bad_files_get_one_line(
    name: str, text: str, parts: Sequence[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for i in range(3):
        draw(tmp_path / "photos" / f"{i}.png", i)
    (tmp_path / "photos" / name).write_text(text)
    refusal(Verb.train.main, [*SMALL, "--data.labels", name], capsys, "data.labels", *parts)


def test_more_bad_input_gets_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    root = tmp_path / "photos"
    for i in range(20):
        draw(root / f"{i:02}.png", i)
    refusal(Verb.train.main, [*SMALL, "--data.labels", "none.csv"], capsys, "none.csv", "photos")
    refusal(Verb.train.main, [*SMALL, "--data.labels", "none.csv", "--data.root", "gone"], capsys, "gone does not exist")
    (root / "bytes.csv").write_bytes(b"file,label\n\xff\xfe")
    refusal(Verb.train.main, [*SMALL, "--data.labels", "bytes.csv"], capsys, "bytes.csv", "cannot be read")
    (root / "few.csv").write_text("file,label\n" + "".join(f"x{i:02}.png,a\n" for i in range(8)))
    line = refusal(Verb.train.main, [*SMALL, "--data.labels", "few.csv"], capsys, "8 labels", "20 images")
    assert "x04.png and 3 more" in line
    assert "04.png and 15 more" in line  # the first five of each
    name = attributes(root)
    refusal(Verb.train.main, [*SMALL, "--data.labels", name, "--data.balance", "true"], capsys, "data.balance", "attributes")
    for i in range(20, 40):
        draw(root / f"{i:02}.png", i)  # enough to hold some out
    data = ImageFolder(root, 8, 1, num_workers=0, labels=attributes(root))
    with refuses("classifier", "imagenet"):
        make_extractor("classifier", data, None, torch.device("cpu"), False)


@pytest.mark.parametrize(("limit", "crop", "workers"), LOADERS)
def test_a_run_with_attributes_resumes_in_mid_epoch_bitwise(
    tmp_path: Path, limit: int, crop: str, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(40):
        draw(tmp_path / "photos" / f"{i}.png", i)
    args = [
        *(*SMALL, "--data.labels", attributes(tmp_path / "photos"), "--data.crop", crop, "--data.num_workers", str(workers)),
        *("--data.max_bytes_on_device", str(limit), "--model.discriminator.conditioning", "projection", *CONCATENATION),
        *("--max_steps", "25", "--enable_progress_bar", "false"),
    ]
    assert Verb.train.main([*args, "--default_root_dir", "straight"]) == 0
    interrupted([*args, "--default_root_dir", "stopped"], 13, monkeypatch)  # 9 steps are an epoch
    assert Verb.train.main(["--ckpt_path", "last", "--default_root_dir", "stopped"]) == 0
    assert_same_state(*(Path(name, "lightning_logs", "version_0") for name in ("straight", "stopped")))


def test_a_run_is_not_resumed_with_other_attributes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(40):
        draw(tmp_path / "photos" / f"{i}.png", i)
    path = tmp_path / "photos" / attributes(tmp_path / "photos")
    args = [*SMALL, "--data.labels", "attributes.csv", "--model.discriminator.conditioning", "classifier", *CONCATENATION]
    assert Verb.train.main([*args, "--max_steps", "2"]) == 0
    path.write_text(path.read_text().replace("bright,dark", "dark,bright"))
    refusal(Verb.train.main, ["--ckpt_path", "last", "--max_steps", "4"], capsys, "bright, dark", "dark, bright")
    path.write_text(path.read_text().replace("dark,bright", "bright,dark"))
    assert Verb.train.main(["--ckpt_path", "last", "--max_steps", "4"]) == 0
