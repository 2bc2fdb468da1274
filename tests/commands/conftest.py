"""Checkpoints that several commands are tried on."""

import pytest

from tests.commands.checkpoints import write_checkpoint


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of an unconditional generator of grey images."""
    return str(write_checkpoint(tmp_path_factory.mktemp("plain") / "last.ckpt"))


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of a conditional one of colour images, with three classes."""
    return str(write_checkpoint(tmp_path_factory.mktemp("labelled") / "last.ckpt", (3, 8, 8), 3, "concatenation"))
