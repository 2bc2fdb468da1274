"""Files that are whole or not there."""

import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from gan_lightning import checkpoint
from gan_lightning.errors import InputError


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    content: dict[str, Any] = {"weights": torch.randn(3), "step": 7, "names": ["a"]}
    checkpoint.save(content, tmp_path / "new" / "file.pt")
    loaded = checkpoint.load(tmp_path / "new" / "file.pt")
    assert torch.equal(loaded["weights"], content["weights"])
    assert (loaded["step"], loaded["names"]) == (7, ["a"])


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")

    def write_badly() -> None:
        with checkpoint.write_aside(path) as aside:
            aside.write_text("half of the ne")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_badly()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with checkpoint.write_aside(path) as aside:
        aside.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_the_mode_follows_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with checkpoint.write_aside(tmp_path / "file.txt") as aside:
            aside.write_text("new")
    finally:
        os.umask(before)
    assert (tmp_path / "file.txt").stat().st_mode & 0o777 == 0o640


def test_every_flipped_bit_of_the_weights_is_found(tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    checkpoint.save({"weights": torch.randn(1000)}, path)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        data = next(info for info in archive.infolist() if info.filename.endswith("data/0"))
        start = data.header_offset + 200  # beyond the entry's own header and torch's padding of 64
    for position in range(start, start + 2000, 97):
        damaged = bytearray(whole)
        damaged[position] ^= 1
        path.write_bytes(bytes(damaged))
        with pytest.raises(InputError, match="damaged"):
            checkpoint.load(path)


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "file.pt"
    checkpoint.save({"weights": torch.randn(1000)}, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    with pytest.raises(InputError, match="damaged or cut short"):
        checkpoint.load(path)


NETWORK = {"class_path": "gan_lightning.networks.mlp.MLPGenerator", "arguments": {}}


class RunsCode:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("ran",)


def test_a_file_that_would_run_code_does_not(tmp_path: Path) -> None:
    torch.save({"state_dict": RunsCode()}, tmp_path / "evil.ckpt")
    with pytest.raises(InputError, match="holds more than tensors and primitives"):
        checkpoint.load(tmp_path / "evil.ckpt")
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"state_dict": {}}, "not a gan_lightning checkpoint"),
        ([1, 2], "not a gan_lightning checkpoint"),
        ({"gan_lightning": {"format_version": checkpoint.FORMAT_VERSION}}, "not a gan_lightning checkpoint"),
        ({"gan_lightning": {"format_version": 99, "generator": {}, "discriminator": {}, "ema": False}}, "format 99"),
        (
            {"gan_lightning": {"format_version": checkpoint.FORMAT_VERSION, "generator": 5, "discriminator": {}, "ema": False}},
            "what its networks are",
        ),
        (
            {
                "gan_lightning": {
                    "format_version": checkpoint.FORMAT_VERSION,
                    "generator": NETWORK,
                    "discriminator": NETWORK,
                    "ema": False,
                }
            },
            "without global",
        ),
    ],
)
def test_a_foreign_file_is_refused(tmp_path: Path, content: object, message: str) -> None:
    checkpoint.save(content, tmp_path / "file.ckpt")
    with pytest.raises(InputError, match=message):
        checkpoint.load_gan(tmp_path / "file.ckpt")


def test_a_missing_file_is_named() -> None:
    with pytest.raises(InputError, match=r"nowhere\.ckpt: no such file"):
        checkpoint.load("nowhere.ckpt")
