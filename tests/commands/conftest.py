"""Checkpoints for the tests of several commands."""

import pytest

from tests.commands.checkpoints import write_checkpoint


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Checkpoint of an unconditional generator of grey images."""
    return str(write_checkpoint(tmp_path_factory.mktemp("plain") / "last.ckpt"))


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Checkpoint of a conditional generator of colour images, with three classes."""
    return str(write_checkpoint(tmp_path_factory.mktemp("labelled") / "last.ckpt", (3, 8, 8), 3, "concatenation"))
