"""Sets of the Hub's formats, all local: the same pixels as a folder, their splits and labels, streams, and errors."""

import io
import os
import pickle
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy
import pytest
import torch
from PIL import Image

from gan_lightning.commands.verbs import Verb
from gan_lightning.data import Derived, Grey, HubDataset, ImageFolder, Split
from gan_lightning.data.decoding import DecodedFiles
from gan_lightning.data.hub import columns_of
from gan_lightning.data.loaders import ImageLoader, WorkerLoader
from gan_lightning.data.stream import Row, StreamOrder
from tests.faults.runs import LAST, RUN, finish, made, run, start, wait_for
from tests.helpers import assert_same_state, error_line, fit, interrupted, refuses, small_gan

SPLITS: tuple[Split, Split] = ("train", "test")
NAMED = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "cow", "dog"])})
SMALL = ["--model.generator", "MLPGenerator", "--model.discriminator", "MLPDiscriminator"]
SMALL += ["--model.generator.hidden", "[8]", "--model.discriminator.hidden", "[8]", "--metrics.extractor", "none"]
SMALL += ["--accelerator", "cpu", "--enable_progress_bar", "false", "--data.image_size", "8", "--data.batch_size", "4"]


@pytest.fixture(autouse=True)
def _offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the library's cache in the test's folder, and the library away from the network."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub_home"))  # of other processes
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub_cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def png(number: int, size: tuple[int, int] = (8, 8)) -> bytes:
    """Make a grey image of noise whose first pixel is ``number``."""
    pixels = numpy.random.default_rng(number).integers(0, 256, size, dtype=numpy.uint8)
    pixels[0, 0] = number
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def numbers(images: torch.Tensor) -> list[int]:
    """Read the numbers of the images that :func:`png` has made."""
    found: list[int] = images[:, 0, 0, 0].tolist()
    return found


def write(path: Path, names: Iterator[int] | range, features: Any = None, **columns: Any) -> Path:
    """Write a Parquet file of the images with these numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"image": [{"bytes": png(i), "path": None} for i in names], **columns}
    datasets.Dataset.from_dict(content, features=features or datasets.Features({"image": datasets.Image()})).to_parquet(path)
    return path


def labelled(path: Path, names: range, labels: list[Any], kind: Any) -> Path:
    features = datasets.Features({"image": datasets.Image(), "label": kind})
    return write(path, names, features, label=labels)


def hub(path: Path | str, **arguments: Any) -> HubDataset:
    given: dict[str, Any] = {"image_size": 8, "channels": 1, "batch_size": 4, "num_workers": 0} | arguments
    return HubDataset(str(path), **given)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Images of many kinds, in two splits of two classes."""
    root = tmp_path / "photos"
    random = numpy.random.default_rng(0)
    for split in SPLITS:
        for name in ("cat", "dog"):
            folder = root / split / name
            folder.mkdir(parents=True)
            Image.fromarray(random.integers(0, 256, (12, 20, 4), dtype=numpy.uint8)).save(folder / "clear.png")
            Image.fromarray(random.integers(0, 65536, (9, 11), dtype=numpy.uint16)).save(folder / "deep.png")
            Image.fromarray(random.integers(0, 256, (30, 8, 3), dtype=numpy.uint8)).convert("P").save(folder / "few.gif")
            turned = Image.Exif()
            turned[274] = 6
            Image.fromarray(random.integers(0, 256, (16, 24, 3), dtype=numpy.uint8)).save(folder / "lying.jpg", exif=turned)
    return root


def same_images(one: ImageFolder | HubDataset, other: ImageFolder | HubDataset) -> bool:
    same = list(one.class_names) == list(other.class_names)
    for split in SPLITS:
        (images, labels), (others, other_labels) = one.images(split), other.images(split)
        assert labels is not None
        assert other_labels is not None
        same &= torch.equal(images, others) and torch.equal(labels, other_labels)
    return same


@pytest.mark.parametrize("crop", ["center", "random"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_set_is_the_folder_of_the_same_files(channels: int, crop: Any, photos: Path, tmp_path: Path) -> None:
    about: dict[str, Any] = {"image_size": 8, "channels": channels, "white": 4095.0, "num_workers": 0, "batch_size": 2}
    folder = ImageFolder(photos, crop="center", **about)
    found = datasets.load_dataset(str(photos))
    found.save_to_disk(str(tmp_path / "saved"))
    for split in SPLITS:
        found[split].to_parquet(str(tmp_path / "parquet" / f"{split}-00000-of-00001.parquet"))
    for source in (photos, tmp_path / "saved", tmp_path / "parquet"):
        data = hub(source, **about)
        assert same_images(folder, data)
        assert [data.facts(split) for split in SPLITS] == [folder.facts(split) for split in SPLITS]
        assert data.survey() == folder.survey()
        for pack in (True, False):  # read from the pack, or decoded at each use
            again = hub(source, **about, max_bytes_on_device=1, crop=crop, pack=pack)
            assert crop == "random" or same_images(folder, again)
            assert fit(small_gan(image_shape=(channels, 8, 8)), again, max_steps=1).global_step


def test_an_arrow_file_is_a_set(photos: Path, tmp_path: Path) -> None:
    datasets.load_dataset(str(photos), split="train").save_to_disk(str(tmp_path / "saved"))
    (arrow,) = (tmp_path / "saved").glob("*.arrow")
    (images, labels), (others, other_labels) = hub(arrow).images("train"), hub(tmp_path / "saved").images("train")
    assert labels is not None
    assert other_labels is not None
    assert torch.equal(images, others)
    assert torch.equal(labels, other_labels)


def test_metadata_names_the_labels(tmp_path: Path) -> None:
    root = tmp_path / "flat" / "train"
    root.mkdir(parents=True)
    for i in range(30):
        (root / f"{i:02}.png").write_bytes(png(i))
    (root / "metadata.csv").write_text("file_name,kind\n" + "".join(f"{i:02}.png,{'ba'[i % 2]}\n" for i in range(30)))
    data = hub(tmp_path / "flat", label_column="kind")
    images, labels = data.images("train")
    assert labels is not None
    assert data.class_names == ("a", "b")
    assert labels.tolist() == [1 - number % 2 for number in numbers(images)]
    assert hub(tmp_path / "flat").class_names == ()


def test_a_tenth_is_held_out_by_the_number_of_the_row(tmp_path: Path) -> None:
    path = write(tmp_path / "set.parquet", range(200))
    data = hub(path)
    train, test = (numbers(data.images(split)[0]) for split in SPLITS)
    assert sorted(train + test) == list(range(200))
    assert 8 < len(test) < 35
    more = write(tmp_path / "more.parquet", range(100))
    assert set(numbers(hub(more).images("test")[0])) == {number for number in test if number < 100}


@pytest.mark.parametrize(
    ("names", "train", "test"),
    [
        (("validation", "train", "test"), "train", "test"),
        (("train", "validation"), "train", "validation"),
        (("extra", "validation", "train"), "train", "validation"),
        (("whole",), "whole", "whole"),
    ],
)
def test_splits_by_name(names: tuple[str, ...], train: str, test: str, tmp_path: Path) -> None:
    found = {name: datasets.Dataset.from_dict({"image": [png(i) for i in range(20)]}) for name in names}
    datasets.DatasetDict({name: part.cast_column("image", datasets.Image()) for name, part in found.items()}).save_to_disk(
        str(tmp_path / "saved")
    )
    files = hub(tmp_path / "saved").files
    assert (files["train"].folder.name, files["test"].folder.name) == (train, test)


def test_splits_without_a_known_name_are_refused(tmp_path: Path) -> None:
    part = datasets.Dataset.from_dict({"image": [png(i) for i in range(9)]}).cast_column("image", datasets.Image())
    datasets.DatasetDict({"one": part, "two": part}).save_to_disk(str(tmp_path / "saved"))
    with refuses("one", "two"):
        hub(tmp_path / "saved")


@pytest.mark.parametrize(
    ("kind", "values", "names"),
    [
        (datasets.Value("int64"), [10, 9, 10, -1], ("-1", "9", "10")),
        (datasets.Value("string"), ["b", "a", "b", "c"], ("a", "b", "c")),
        (datasets.Value("bool"), [True, False, True, True], ("False", "True")),
        (datasets.ClassLabel(names=["z", "unused", "a"]), [2, 0, 2, 2], ("z", "a")),
    ],
)
def test_labels_become_names(kind: Any, values: list[Any], names: tuple[str, ...], tmp_path: Path) -> None:
    path = labelled(tmp_path / "set.parquet", range(40), values * 10, kind)
    data = hub(path, label_column="label")
    assert data.class_names == names
    images, labels = data.images("train")
    assert labels is not None
    texts = [str(kind.names[value] if hasattr(kind, "names") else value) for value in values]
    assert [names[label] for label in labels.tolist()] == [texts[number % 4] for number in numbers(images)]
    assert hub(path).class_names == (names if hasattr(kind, "names") else ())


def test_a_test_split_may_lack_labels(tmp_path: Path) -> None:
    kind = datasets.ClassLabel(names=["a", "b"])
    labelled(tmp_path / "set" / "train.parquet", range(8), [0, 1] * 4, kind)
    labelled(tmp_path / "set" / "test.parquet", range(8), [-1] * 8, kind)
    data = hub(tmp_path / "set")
    assert data.images("train")[1] is not None
    assert data.images("test")[1] is None
    labelled(tmp_path / "set" / "train.parquet", range(8), [0, -1, 1, None] * 2, kind)
    with refuses("4 of 8", "--data.label_column"):
        hub(tmp_path / "set")


def test_a_test_split_with_other_classes_is_refused(tmp_path: Path) -> None:
    labelled(tmp_path / "set" / "train.parquet", range(8), ["a", "b"] * 4, datasets.Value("string"))
    labelled(tmp_path / "set" / "test.parquet", range(8), ["a", "c"] * 4, datasets.Value("string"))
    with refuses("test", "c"):
        hub(tmp_path / "set", label_column="label")


@pytest.mark.parametrize("image", [{"bytes": b"x", "path": "x"}, b"x"])
def test_images_of_plain_parquet_are_found(image: Any, tmp_path: Path) -> None:
    rows = [{"bytes": png(i), "path": None} if isinstance(image, dict) else png(i) for i in range(12)]
    datasets.Dataset.from_dict({"picture": rows, "text": ["x"] * 12}).to_parquet(tmp_path / "plain.parquet")
    for streaming in (False, True):
        data = hub(tmp_path / "plain.parquet", streaming=streaming)
        assert sorted(numbers(torch.cat([data.images(split)[0] for split in SPLITS]))) == list(range(12))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"image_column": "picture"}, ("image_column", "picture", "image", "label", "size", "second")),
        ({"image_column": "size"}, ("image_column", "size", "label")),
        ({}, ("--data.image_column", "image", "second")),
        ({"image_column": "image", "label_column": "kind"}, ("label_column", "kind", "label", "size")),
        ({"image_column": "image", "label_column": "size"}, ("label_column", "size")),
    ],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_a_wrong_column_is_refused(arguments: dict[str, str], named: tuple[str, ...], streaming: bool, tmp_path: Path) -> None:
    rows = [png(i) for i in range(12)]
    found = datasets.Dataset.from_dict({"image": rows, "second": rows, "size": [0.5] * 12, "label": [0, 1] * 6})
    for column in ("image", "second"):
        found = found.cast_column(column, datasets.Image())
    found.to_parquet(tmp_path / "set.parquet")
    with refuses(*named):
        hub(tmp_path / "set.parquet", streaming=streaming, **arguments)


def test_a_changed_set_is_read_again(photos: Path) -> None:
    before = hub(photos).images("train")[0]
    assert torch.equal(before, hub(photos).images("train")[0])
    (photos / "train" / "cat" / "clear.png").write_bytes(png(7))
    after = hub(photos).images("train")[0]
    assert [i for i in range(len(after)) if not torch.equal(before[i], after[i])] == [0]


def test_images_come_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "set.parquet", range(20))
    first = [hub(path, streaming=streaming).images("train")[0] for streaming in (False, True)]

    def never(*_: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr("gan_lightning.data.decoding.decode", never)
    for streaming, images in zip((False, True), first, strict=True):
        assert torch.equal(hub(path, streaming=streaming).images("train")[0], images)


def test_files_cross_to_other_processes(tmp_path: Path) -> None:
    files = hub(write(tmp_path / "set.parquet", range(20))).files["train"]
    copy = pickle.loads(pickle.dumps(files))
    one, other = (DecodedFiles(part, (1, 8, 8)) for part in (files, copy))
    assert all(torch.equal(one[i][0], other[i][0]) for i in range(len(one)))


@pytest.mark.parametrize("streaming", [False, True])
def test_a_damaged_image_is_named_or_skipped(streaming: bool, tmp_path: Path) -> None:
    rows = [{"bytes": png(i) if i != 5 else b"\x89PNG\r\n\x1a\nbroken", "path": f"{i}.png"} for i in range(20)]
    rows[6] = None  # type: ignore[call-overload]
    features = datasets.Features({"image": datasets.Image()})
    datasets.Dataset.from_dict({"image": rows}, features=features).to_parquet(tmp_path / "set.parquet")
    with refuses("5.png", "there is no image", "--data.skip_corrupt"):
        hub(tmp_path / "set.parquet", streaming=streaming).setup("fit")
    data = hub(tmp_path / "set.parquet", streaming=streaming, skip_corrupt=True)
    found = sorted(numbers(torch.cat([data.images(split)[0] for split in SPLITS])))
    assert found == [i for i in range(20) if i not in (5, 6)]


def test_copies_are_counted(tmp_path: Path) -> None:
    assert hub(write(tmp_path / "set.parquet", iter([*range(20), 3, 3]))).copies() == 2


def test_a_set_is_degraded(tmp_path: Path) -> None:
    path = str(write(tmp_path / "set.parquet", range(20)))

    def source(**given: Any) -> HubDataset:
        return HubDataset(path, image_size=8, num_workers=0, **given)

    data = Derived(source, Grey(), batch_size=4)
    targets, sources = data.pairs("train")
    assert (targets.shape[1:], sources.shape[1:]) == ((3, 8, 8), (1, 8, 8))
    with refuses("root"):
        Derived(source, Grey(), root=str(tmp_path))


# streams


def passes(*lengths: int) -> Callable[[int], Iterator[Row]]:
    """Make a stream whose passes have all rows in another order."""
    (length,) = lengths

    def read(number: int) -> Iterator[Row]:
        order = numpy.random.default_rng(number).permutation(length)
        return iter([Row(bytes([i]), None) for i in order])

    return read


def taken(order: StreamOrder, epoch: int, start: int = 0) -> list[tuple[int, int]]:
    order.set_epoch(epoch)
    order.start = start
    return [((row.content or b"")[0], draw) for row, draw in order]


@pytest.mark.parametrize("length", [3, 10, 17, 50])
def test_epochs_go_on_where_the_last_one_ended(length: int) -> None:
    order = StreamOrder(passes(length), 10)
    whole = [taken(order, epoch) for epoch in range(5)]
    rows = [row for epoch in whole for row, _ in epoch]
    for begin in range(0, 50 - length + 1, length):  # each pass shows all
        assert sorted(rows[begin : begin + length]) == list(range(length))
    for epoch in range(5):  # a new process replays to any place
        for begin in (0, 1, 9):
            assert taken(StreamOrder(passes(length), 10), epoch, begin) == whole[epoch][begin:]
    assert taken(order, 1, 4) == whole[1][4:]  # back
    assert taken(order, 2) == whole[2]


def test_an_empty_stream_is_refused() -> None:
    with refuses("no image"):
        list(StreamOrder(lambda number: iter(()), 10))


def stream_loader(path: Path, **arguments: Any) -> ImageLoader:
    found = fit(small_gan(), hub(path, streaming=True, **arguments), max_steps=1).train_dataloader
    assert isinstance(found, WorkerLoader)
    found.load_state_dict({"images": 0})
    return found


@pytest.mark.parametrize("files", [1, 2, 3])
def test_processes_share_each_pass(files: int, tmp_path: Path) -> None:
    for i in range(files):
        path = tmp_path / "set" / f"train-{i:05}-of-{files:05}.parquet"
        path.parent.mkdir(exist_ok=True)
        content = {"image": [{"bytes": bytes([60 * i + j]), "path": None} for j in range(20 + i)]}
        datasets.Dataset.from_dict(content, features=datasets.Features({"image": datasets.Image()})).to_parquet(path)
    write(tmp_path / "set" / "test.parquet", range(3))
    every = [60 * i + j for i in range(files) for j in range(20 + i)]
    rows = hub(tmp_path / "set", streaming=True)._rows
    for world_size in (1, 2):
        lengths = set()
        for number in range(3):
            processes = [rows.of_process(rank, world_size).shuffled(number, 5, 7) for rank in range(world_size)]
            parts = [[row.content[0] for row in part if row.content] for part in processes]
            assert sorted(number for part in parts for number in part) == every
            assert parts[0] != sorted(parts[0])
            lengths.add(tuple(len(part) for part in parts))
        assert len(lengths) == 1


def test_workers_decode_the_same_batches(tmp_path: Path) -> None:
    path = write(tmp_path / "set.parquet", range(60))
    one, two = (stream_loader(path, num_workers=workers, epoch_images=50, crop="random") for workers in (0, 2))
    assert len(one) == 13  # 50 images in whole batches of 4
    for epoch in range(3):
        for loader in (one, two):
            loader.sampler.set_epoch(epoch)
        ours, theirs = list(one), list(two)
        assert all(torch.equal(a, b) for (a, _), (b, _) in zip(ours, theirs, strict=True))


def test_held_out_images_of_a_stream_are_never_trained_on(tmp_path: Path) -> None:
    path = write(tmp_path / "set.parquet", range(200))
    data = hub(path, streaming=True, epoch_images=400)
    test = numbers(data.images("test")[0])
    assert 8 < len(test) < 35
    loader = fit(small_gan(), data, max_steps=1).train_dataloader
    assert loader is not None
    loader.load_state_dict({"images": 0})
    counts = Counter(number for images, _ in loader for number in numbers(images))
    assert not set(counts) & set(test)
    assert len(counts) + len(test) == 200
    assert max(counts.values()) - min(counts.values()) <= 1
    few = hub(path, streaming=True, stream_images=20)
    assert (few.num_images("train"), few.num_images("test") < 8) == (20, True)


def test_a_stream_has_the_labels_of_its_table(tmp_path: Path) -> None:
    path = labelled(tmp_path / "set.parquet", range(90), [i % 3 for i in range(90)], NAMED["label"])
    loader = stream_loader(path, epoch_images=80)
    for images, labels in loader:
        assert labels is not None
        assert labels.tolist() == [number % 3 for number in numbers(images)]
    strings = labelled(tmp_path / "text.parquet", range(20), ["a", "b"] * 10, datasets.Value("string"))
    assert hub(strings, streaming=True).class_names == ()
    with refuses("label", "--data.streaming"):
        hub(strings, streaming=True, label_column="label")


@pytest.mark.parametrize(
    "arguments",
    [{"balance": True}, {"subset": 8}],
    ids=["balance", "subset"],
)
def test_a_stream_refuses_what_needs_the_whole_set(arguments: dict[str, Any], tmp_path: Path) -> None:
    with refuses("data.streaming", next(iter(arguments))):
        hub(write(tmp_path / "set.parquet", range(20)), streaming=True, **arguments)


@pytest.mark.parametrize("name", ["shuffle_buffer", "epoch_images", "stream_images"])
def test_numbers_are_at_least_one(name: str) -> None:
    with refuses(f"data.{name}", 0):
        hub("set", **{name: 0})


# the command line


def train(*args: str) -> int:
    return Verb.train.main(["--config", "folder_64", "--data", "HubDataset", *SMALL, *args])


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize("streaming", ["false", "true"])
def test_a_resumed_run_is_bitwise_equal(streaming: str, workers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "set.parquet", range(30))
    args = ["--data.path", str(path), "--data.streaming", streaming, "--data.crop", "random", "--data.num_workers", workers]
    args += ["--data.epoch_images", "40", "--data.shuffle_buffer", "8", "--max_steps", "14"]  # the third pass, the second epoch
    args += ["--data.max_bytes_on_device", "100", "--data.pack", "false"]
    assert train(*args, "--default_root_dir", "straight") == 0
    whole = ["--config", "folder_64", "--data", "HubDataset", *SMALL, *args]
    interrupted([*whole, "--default_root_dir", "stopped"], 12, monkeypatch)
    assert Verb.train.main(["--ckpt_path", "last", "--default_root_dir", "stopped"]) == 0
    assert_same_state(*(Path(name, "lightning_logs", "version_0") for name in ("straight", "stopped")))


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")
@pytest.mark.slow
@pytest.mark.parametrize(("streaming", "files", "workers"), [("true", 2, 2), ("true", 1, 0), ("true", 3, 2), ("false", 1, 2)])
def test_two_processes_resume_bitwise(streaming: str, files: int, workers: int, tmp_path: Path) -> None:
    for i in range(files):
        write(tmp_path / "set" / f"train-{i:05}-of-{files:05}.parquet", range(30 * i, 30 * i + 30 + i))
    write(tmp_path / "set" / "test.parquet", range(4))
    args = ["--config", "folder_64", "--data", "HubDataset", *SMALL, "--data.path", str(tmp_path / "set"), "--devices", "2"]
    args += [
        "--data.streaming",
        streaming,
        "--data.num_workers",
        str(workers),
        "--data.max_bytes_on_device",
        "100",
        "--data.pack",
        "false",
    ]
    args += ["--data.epoch_images", "240", "--max_steps", "95", "--checkpoints.every_n_steps", "5"]
    running = start(*args)
    assert wait_for(LAST.is_file, running), finish(running)
    os.kill(running.pid, signal.SIGTERM)
    code, _, error = finish(running)
    assert (code, 0 < made() < 95) == (128 + signal.SIGTERM, True), error
    assert run("--ckpt_path", "last")[0] == 0
    assert run(*args, "--default_root_dir", "straight")[0] == 0
    assert_same_state(RUN, "straight" / RUN)


def refused(capsys: pytest.CaptureFixture[str], *args: str, named: tuple[str, ...]) -> None:
    capsys.readouterr()
    assert train(*args, "--max_steps", "2") == 2
    error_line(capsys.readouterr().err, *named)


@pytest.mark.parametrize("streaming", ["false", "true"])
def test_wrong_sets_are_refused(streaming: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = write(tmp_path / "set.parquet", range(20))
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(whole.read_bytes()[:-100])
    (tmp_path / "empty").mkdir()
    (tmp_path / "note.txt").write_text("x")
    for path in (str(tmp_path / "none"), "no/such_set", str(cut), str(tmp_path / "empty"), str(tmp_path / "note.txt")):
        refused(capsys, "--data.path", path, "--data.streaming", streaming, named=(path,))
    refused(capsys, "--data.path", str(whole), "--data.streaming", streaming, "--data.image_column", "x", named=("image", "x"))
    refused(capsys, "--data.streaming", streaming, named=("--data.path",))
    refused(capsys, "--data.root", str(whole), named=("root", "--data.path"))


def test_a_wrong_source_of_pairs_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(write(tmp_path / "set.parquet", range(20)))
    derived = ["--config", "colour_folder", "--data.source", "HubDataset", "--max_steps", "2", "--accelerator", "cpu"]
    for args, named in (([], "--data.source.path"), (["--data.source.path", path, "--data.root", path], "--data.source.path")):
        assert Verb.train.main([*derived, *args]) == 2
        assert len(error_line(capsys.readouterr().err, named)) < 300


def test_the_columns_of_a_stream_without_a_schema() -> None:
    stream = datasets.IterableDataset.from_generator(lambda: iter([{"image": png(0), "label": 1}]))
    assert stream.features is None
    assert list(columns_of(stream, "a set")) == ["image", "label"]


@pytest.mark.parametrize("streaming", [False, True])
def test_a_damaged_file_of_several_is_named(streaming: bool, tmp_path: Path) -> None:
    for i in range(3):
        path = write(tmp_path / "set" / f"train-{i}.parquet", range(4 * i, 4 * i + 4))
        if i == 1:
            path.write_bytes(path.read_bytes()[:-100])
    with refuses(tmp_path / "set", "train-1.parquet"):
        hub(tmp_path / "set", streaming=streaming)


def test_columns_of_numbers_are_attributes(tmp_path: Path) -> None:
    kinds = {"image": datasets.Image(), "age": datasets.Value("float64"), "smile": datasets.Value("bool")}
    columns = {"age": [i / 4 for i in range(30)], "smile": [i % 2 == 0 for i in range(30)]}
    path = write(tmp_path / "set.parquet", range(30), datasets.Features(kinds), **columns)
    data = hub(path, attribute_columns="smile, age")
    assert (data.condition_names, data.class_names) == (("smile", "age"), ())
    for split in SPLITS:
        images, labels = data.images(split)
        assert labels is not None
        assert labels.dtype == torch.float32
        assert labels.tolist() == [[i % 2 == 0, i / 4] for i in numbers(images)]
    assert data.num_images("train") + data.num_images("test") == 30


def test_attributes_that_cannot_be_used(tmp_path: Path) -> None:
    types = {"image": datasets.Image(), "age": datasets.Value("float32"), "name": datasets.Value("string")}
    values = {"age": [1.0, None, float("nan"), 2.0], "name": ["a", "b", "c", "d"]}
    path = write(tmp_path / "set.parquet", range(4), datasets.Features(types), **values)
    for columns, named in (("age", ("2 numbers", "row 1")), ("name", ("name", "age")), ("height", ("height", "age"))):
        with refuses("attribute_columns", *named):
            hub(path, attribute_columns=columns)
    clashes: list[dict[str, Any]] = [{"streaming": True}, {"label_column": "name"}]
    for others in clashes:
        with refuses("attribute_columns", *others):
            hub(path, attribute_columns="age", **others)
    with refuses("attribute_columns", "a=b"):
        hub(path, attribute_columns="a=b")


def test_the_report_of_a_stream(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = labelled(tmp_path / "set.parquet", range(90), [i % 3 for i in range(90)], NAMED["label"])
    assert train("--data.path", str(path), "--data.streaming", "true", "--data.num_workers", "0", "--dry_run") == 0
    out = capsys.readouterr().out
    for part in ("stream", "first files", "hash of the image", "cow", "decoded whenever they are read"):
        assert part in out


def test_a_script_in_a_set_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "scripted"
    root.mkdir()
    (root / "scripted.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')")
    refused(capsys, "--data.path", str(root), named=("scripted",))
    assert not (tmp_path / "run").exists()


def test_the_library_is_an_extra(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    refused(capsys, "--data.path", "set", named=('pip install "gan_lightning[hub]"',))


def test_a_stream_that_breaks_off_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second file is cut off before the start of the run; the run continues when the file is repaired."""
    for i in range(2):
        write(tmp_path / "set" / f"train-{i:05}-of-00002.parquet", range(30 * i, 30 * i + 30))
    write(tmp_path / "set" / "test.parquet", range(4))
    args = ["--data.path", str(tmp_path / "set"), "--data.streaming", "true", "--data.stream_images", "8"]
    args += ["--data.shuffle_buffer", "4", "--max_steps", "20", "--checkpoints.every_n_steps", "2", "--data.num_workers", "0"]
    assert train(*args, "--default_root_dir", "straight") == 0
    second = tmp_path / "set" / "train-00001-of-00002.parquet"
    content = second.read_bytes()
    second.write_bytes(content[: len(content) // 3])
    capsys.readouterr()
    assert train(*args, "--default_root_dir", "stopped") == 2
    error_line(capsys.readouterr().err, "set")
    run = Path("stopped", "lightning_logs", "version_0")
    assert (run / "checkpoints" / "last.ckpt").is_file()
    second.write_bytes(content)
    assert Verb.train.main(["--ckpt_path", "last", "--default_root_dir", "stopped"]) == 0
    assert_same_state(Path("straight", "lightning_logs", "version_0"), run)


def test_a_folder_without_its_files_is_refused(photos: Path) -> None:
    data = hub(photos, max_bytes_on_device=1, pack=False)
    data.setup("fit")
    shutil.rmtree(photos / "train" / "cat")
    with refuses("cannot be read any more"):
        data.images("train")
