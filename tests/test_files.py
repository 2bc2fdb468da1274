"""Files are complete or absent."""

import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from gan_lightning import files
from tests.helpers import refuses


def test_saved_content_is_loaded(tmp_path: Path) -> None:
    content: dict[str, Any] = {"weights": torch.randn(3), "step": 7, "names": ["a"]}
    files.save(content, tmp_path / "new" / "file.pt")
    loaded = files.load(tmp_path / "new" / "file.pt")
    assert torch.equal(loaded["weights"], content["weights"])
    assert (loaded["step"], loaded["names"]) == (7, ["a"])


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")

    def write_badly() -> None:
        with files.write_aside(path) as aside:
            aside.write_text("half of the ne")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_badly()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_sees_the_old_file_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with files.write_aside(path) as aside:
        aside.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_complete_or_absent(tmp_path: Path) -> None:

    def write_badly() -> None:
        with files.folder_aside(tmp_path / "made") as aside:
            (aside / "part").write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_badly()
    assert not list(tmp_path.iterdir())
    with files.folder_aside(tmp_path / "made") as aside:
        (aside / "part").write_text("whole")
        assert not (tmp_path / "made").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
    with pytest.raises(OSError, match="made"), files.folder_aside(tmp_path / "made"):  # it holds a file now
        pass
    assert (tmp_path / "made" / "part").read_text() == "whole"


def test_a_second_name_keeps_the_content(tmp_path: Path) -> None:
    first, second = tmp_path / "last.ckpt", tmp_path / "healthy.ckpt"
    second.write_text("older")
    first.write_text("old")
    files.link(first, second)
    with files.write_aside(first) as aside:
        aside.write_text("new")
    assert (first.read_text(), second.read_text()) == ("new", "old")
    assert len(list(tmp_path.iterdir())) == 2


def test_copies_take_the_next_free_number(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    for content in ("a", "b", "c"):
        path.write_text(content)
        files.keep_copy(path)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {
        "config.yaml": "c",
        "config_1.yaml": "a",
        "config_2.yaml": "b",
        "config_3.yaml": "c",
    }


def test_only_temporary_files_are_removed(tmp_path: Path) -> None:
    part = files.write_aside(tmp_path / "last.ckpt")
    left = part.__enter__()  # as left by a killed process
    (tmp_path / "party.ckpt").touch()
    assert left.exists()
    files.remove_temporary_files(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["party.ckpt"]


def test_the_mode_follows_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with files.write_aside(tmp_path / "file.txt") as aside:
            aside.write_text("new")
    finally:
        os.umask(before)
    assert (tmp_path / "file.txt").stat().st_mode & 0o777 == 0o640


def test_every_flipped_bit_of_the_weights_is_found(tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    files.save({"weights": torch.randn(1000)}, path)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        data = next(info for info in archive.infolist() if info.filename.endswith("data/0"))
        start = data.header_offset + 200  # beyond the entry's own header and torch's padding of 64
    for position in range(start, start + 2000, 97):
        damaged = bytearray(whole)
        damaged[position] ^= 1
        path.write_bytes(bytes(damaged))
        with refuses(path):
            files.load(path)


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "file.pt"
    files.save({"weights": torch.randn(1000)}, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    with refuses(path):
        files.load(path)


class Calls:
    """An object that calls a function when it is unpickled."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[object, ...]:
        return self.function, self.arguments


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("zipped", [False, True])
def test_no_code_of_a_file_runs(tmp_path: Path, legacy: bool, zipped: bool) -> None:
    content = {"state_dict": Calls(os.system, "touch ran")}
    torch.save(content, tmp_path / "evil.ckpt", _use_new_zipfile_serialization=zipped)
    with refuses("evil.ckpt"):
        files.load(tmp_path / "evil.ckpt", legacy=legacy)
    assert not Path("ran").exists()
    torch.load(tmp_path / "evil.ckpt", weights_only=False)
    assert Path("ran").exists()  # it would have


def rewrite(path: Path, pickled: bytes, compression: int = zipfile.ZIP_STORED) -> None:
    """Replace the pickle in a file of torch.save, with valid checksums."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in parts.items():
            archive.writestr(name, pickled if name.endswith("data.pkl") else content)


@pytest.mark.parametrize(
    "pickled",
    [
        b"",
        b"not a pickle",
        b"\x80\x02.",  # the end of an empty stack
        b"\x80\x02K\x01K\x02e.",  # appends to a number
        b"\x80\x02h\x05.",  # takes from an empty memory
        b"\x80\x02\x8a\x08" + b"\xff" * 8 + b"a.",
        b"\x80\x02X\xff\xff\xff\x7fshort.",
        b"\x80\x02(" + b"(" * 100_000 + b"l" * 50_000 + b".",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(NJ\x00\x00\x00\x7f)tR.",
        b"\x80\x02cbuiltins\nbytearray\n\x8a\x09\xff\xff\xff\xff\xff\xff\xff\xff\x00\x85R.",
    ],
)
def test_a_malicious_pickle_is_one_line(tmp_path: Path, pickled: bytes) -> None:
    path = tmp_path / "file.pt"
    files.save({"weights": torch.zeros(3)}, path)
    rewrite(path, pickled)
    with refuses(path):
        files.load(path)


def test_any_error_of_unpickling_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files.save([1], tmp_path / "file.pt")
    for error in (MemoryError, OverflowError, AttributeError, RecursionError, AssertionError, UnicodeError):

        def fail(*_: object, error: type[Exception] = error, **__: object) -> None:
            raise error

        monkeypatch.setattr(torch, "load", fail)
        with refuses("file.pt"):
            files.load(tmp_path / "file.pt")


def test_a_compressed_file_of_tensors_is_refused(tmp_path: Path) -> None:
    """torch.save never compresses, so ten megabytes of zeros in ten kilobytes are a zip bomb."""
    path = tmp_path / "bomb.pt"
    files.save({"weights": torch.zeros(2_500_000)}, path)
    with zipfile.ZipFile(path) as archive:
        pickled = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
    rewrite(path, pickled, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 20_000
    with refuses("bomb.pt", "torch.save"):
        files.load(path)


def test_a_zip_with_duplicate_names_or_overlapping_parts_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    files.save({"weights": torch.zeros(1000)}, path)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(archive.namelist()[0], b"another")
    with refuses(path, "torch.save"):
        files.load(path)
    files.save({"weights": torch.zeros(1000)}, path)
    with zipfile.ZipFile(path, "a") as archive:
        for number in range(9):  # all of them the same bytes of the file
            again = zipfile.ZipInfo(f"again{number}")
            whole = max(archive.infolist(), key=lambda member: member.file_size)
            again.header_offset, again.CRC = whole.header_offset, whole.CRC
            again.file_size = again.compress_size = whole.file_size
            archive.filelist.append(again)
            archive.NameToInfo[again.filename] = again
        archive.writestr("end", b"")
    with refuses(path, "bytes", "torch.save"):
        files.load(path)


def test_a_file_that_only_ends_as_a_zip_is_refused(tmp_path: Path) -> None:
    """torch.load would read its beginning in the old format, without checksums."""
    path = tmp_path / "file.pt"
    files.save([1], path)
    whole = path.read_bytes()
    torch.save([2], path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes() + whole)
    assert torch.load(path, weights_only=True) == [2]
    with refuses(path, "torch.save"):
        files.load(path)


def test_missing_entries_are_named(tmp_path: Path) -> None:
    files.save({"a": 1, "b": 2}, tmp_path / "file.pt")
    assert files.load(tmp_path / "file.pt", keys=("a",)) == {"a": 1, "b": 2}
    with refuses("file.pt", "no c and no d"):
        files.load(tmp_path / "file.pt", keys=("a", "c", "d"))
    files.save([1], tmp_path / "file.pt")
    with refuses("file.pt", "no a"):
        files.load(tmp_path / "file.pt", keys=("a",))


LOADERS = [files.load, lambda path: files.load_arrays(path, ["mu"])]


@pytest.mark.parametrize("load", LOADERS)
@pytest.mark.timeout(20)
def test_only_regular_files_are_read(tmp_path: Path, load: Callable[[Path], object]) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("folder", "pipe", "link", "loop"):
        with refuses(tmp_path / name):
            load(tmp_path / name)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    with refuses("long", "name too long"):
        load(tmp_path / ("long" * 100))


@pytest.mark.parametrize("save", [numpy.savez, numpy.savez_compressed])
def test_arrays_are_loaded_and_every_flipped_bit_is_found(tmp_path: Path, save: Callable[..., None]) -> None:
    path = tmp_path / "file.npz"
    made = numpy.random.default_rng(0).normal(size=100)
    save(path, mu=made, more=numpy.array([print], dtype=object))
    assert (files.load_arrays(path, ["mu"], optional=["sigma"])["mu"] == made).all()
    with refuses("file.npz", "sigma"):
        files.load_arrays(path, ["mu", "sigma"])
    whole = path.read_bytes()
    for position in range(200, 700, 31):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with refuses(path):
            files.load_arrays(path, ["mu"])


def test_arrays_that_unpack_to_an_absurd_size_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.npz"
    numpy.savez_compressed(path, mu=numpy.zeros(1_000_000))
    assert len(files.load_arrays(path, ["mu"])["mu"]) == 1_000_000
    monkeypatch.setattr(files, "MIN_REFUSED", 1_000_000)
    monkeypatch.setattr(zipfile.ZipFile, "testzip", lambda _: pytest.fail("unpacked"))
    with refuses(path, "8,000,", "numpy.savez"):
        files.load_arrays(path, ["mu"])


def test_an_array_with_a_wrong_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.npz"
    header = "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000000,), }".ljust(117) + "\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mu.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(80))
    with refuses(path, "arrays"):
        files.load_arrays(path, ["mu"])


def test_a_missing_file_is_named() -> None:
    with refuses("nowhere.ckpt"):
        files.load("nowhere.ckpt")
