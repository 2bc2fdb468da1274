"""Checkpoints as Lightning writes and reads them here."""

import errno
from pathlib import Path

import pytest
import torch

from gan_lightning import files
from gan_lightning.training.checkpoint_io import AtomicCheckpointIO
from tests.helpers import refuses
from tests.test_checkpoint import WHOLE


def test_hyper_parameters_stay_out(tmp_path: Path) -> None:
    content = {**WHOLE, "datamodule_hyper_parameters": {"root": "photos"}, "hyper_parameters": {}}
    AtomicCheckpointIO().save_checkpoint(content, tmp_path / "file.ckpt")
    assert AtomicCheckpointIO().load_checkpoint(tmp_path / "file.ckpt") == WHOLE


def test_a_full_disk_is_an_error_of_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "save", full)
    content = {**WHOLE, "state_dict": {"weight": torch.zeros(500_000)}}
    with refuses("file.ckpt", "No space left on device", "2.0 MB", "--ckpt_path"):
        AtomicCheckpointIO().save_checkpoint(content, tmp_path / "deep" / "file.ckpt")
