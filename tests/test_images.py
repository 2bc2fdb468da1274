"""uint8 to float and back."""

import pytest
import torch

from gan_lightning.images import class_rows, to_float, to_uint8


@pytest.mark.parametrize(
    ("rows", "num_classes", "wanted"),
    [(3, 3, [0, 1, 2]), (3, 10, [0, 3, 6]), (10, 3, [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]), (2, 1, [0, 0])],
)
def test_every_row_of_a_grid_is_one_class(rows: int, num_classes: int, wanted: list[int]) -> None:
    assert class_rows(rows, 4, num_classes).view(rows, 4).tolist() == [[c] * 4 for c in wanted]


def test_every_grey_level_is_restored() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    floats = to_float(levels)
    assert floats.dtype == torch.float32
    assert (float(floats[0]), float(floats[-1])) == (-1.0, 1.0)
    assert torch.equal(to_uint8(floats), levels)


def test_values_are_clamped_and_rounded() -> None:
    assert to_uint8(torch.tensor([-3.0, 1.7, -1 + 0.6 / 127.5, -1 + 0.4 / 127.5])).tolist() == [0, 255, 1, 0]


def test_the_input_is_not_changed() -> None:
    levels = torch.tensor([3], dtype=torch.uint8)
    floats = torch.tensor([0.5])
    to_float(levels), to_uint8(floats)
    assert (int(levels), float(floats)) == (3, 0.5)
