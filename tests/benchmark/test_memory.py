"""Memory of a training step: the figures of a tiny run, and refusals."""

import re

import pytest

import memory
from tests.helpers import refuses


@pytest.mark.slow
def test_a_rectangle_and_micro_batches(capsys: pytest.CaptureFixture[str]) -> None:
    """Batch norm refuses one image; the other sizes are measured."""
    small = ["--data.image_size", "32x16", "--model.generator.width", "4", "--model.discriminator.width", "4"]
    memory.benchmark(["--config", "folder_64", "--micro_batch", "1", "4", "--batch_size", "4", "--", *small])
    printed = capsys.readouterr().out
    (row,) = re.findall(r"\| folder_64 \| 4 \| ([\d.]+) \| ([\d,]+) \| ([\d,]+) \| ", printed)
    seconds, before, peak = (float(cell.replace(",", "")) for cell in row)
    assert seconds > 0
    assert 32 < before <= peak
    assert "micro-batch 1: " in printed


def test_bad_input() -> None:
    with refuses("--config nowhere"):
        memory.benchmark(["--config", "nowhere"])
    with refuses("--micro_batch", "0"):
        memory.benchmark(["--config", "folder_64", "--micro_batch", "0"])
    with refuses("--data.image_size", "64x"):
        memory.benchmark(["--config", "folder_64", "--", "--data.image_size", "64x"])
