"""Private names of Lightning that could disappear without an error. docs/architecture.md lists all others, with their tests."""

from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop


def test_the_broadcast_that_stop_signals_replaces_exists() -> None:
    assert callable(_TrainingEpochLoop._broadcast_sigterm_tensor)
