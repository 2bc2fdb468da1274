"""Grids of held-out translations: what is where."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gan_lightning.callbacks import TranslationGrid
from gan_lightning.cycle import CycleGAN
from gan_lightning.data import Derived, Digits
from gan_lightning.data.base import example_indices
from gan_lightning.data.degradations import TurnedNegative
from gan_lightning.losses import NonSaturatingLoss
from gan_lightning.module import AdversarialModule
from gan_lightning.networks import PatchDiscriminator
from gan_lightning.pictures import read_png
from gan_lightning.translation import PairedTranslation
from tests.helpers import fit
from tests.translators import Affine, Mean

SHAPE, SIDE = (1, 8, 8), 48 + 2
STILL: dict[str, Any] = {"generator_optimizer": lambda parameters: torch.optim.SGD(parameters, lr=0.0)}


def data(paired: bool) -> Derived:
    return Derived(lambda **arguments: Digits(**arguments), TurnedNegative(), paired=paired, batch_size=4)


def tile(picture: Tensor, row: int, column: int) -> Tensor:
    """Return an image of 8x8 pixels that was enlarged to 48."""
    return picture[0, 2 + SIDE * row :, 2 + SIDE * column :][:48:6, :48:6]


def drawn(model: AdversarialModule, source: Derived, folder: Path, **arguments: Any) -> Tensor:
    fit(model, source, callbacks=[TranslationGrid(1, **arguments)], max_steps=1, default_root_dir=folder)
    (path,) = folder.rglob("step_00000001.png")
    return read_png(path)


def test_pairs(tmp_path: Path) -> None:
    """A network that halves values, on the negatives of held-out digits: source, output and target are known."""
    model = PairedTranslation(Affine(scale=0.5, shift=0.0), Mean(), NonSaturatingLoss(), **STILL)
    source = data(paired=True)
    picture = drawn(model, source, tmp_path, rows=2, columns=2)
    assert picture.shape == (3, 2 + 2 * SIDE, 2 + 6 * SIDE)
    count = source.num_images("test")
    targets, sources = source.pairs_at("test", torch.arange(4) * count // 4)
    for number in range(4):
        row, first = number // 2, 3 * (number % 2)
        assert torch.equal(tile(picture, row, first), sources[number, 0])
        half = ((sources[number, 0].float() / 127.5 - 1) * 0.5 + 1) * 127.5
        assert torch.equal(tile(picture, row, first + 1), half.round().byte())
        assert torch.equal(tile(picture, row, first + 2), targets[number, 0])


def test_both_directions(tmp_path: Path) -> None:
    """The halves are source, output, back and, below, target, its translation, and that translated again."""
    model = CycleGAN(Affine(scale=0.5, shift=0.0), PatchDiscriminator(SHAPE, width=4, layers=1), pool_size=0, **STILL)
    torch.nn.init.constant_(model.inverse_generator.scale, -1.0)  # type: ignore[arg-type]
    picture = drawn(model, data(paired=False), tmp_path, rows=1, columns=1)
    assert picture.shape == (3, 2 * (2 + SIDE), 2 + 3 * SIDE)
    source, output, back = (tile(picture, 0, column).float() - 127.5 for column in range(3))
    assert torch.allclose(output, source / 2, atol=0.51)
    assert torch.allclose(back, -output, atol=1.01)
    target, inverse, forth = (tile(picture[:, 2 + SIDE :], 0, column).float() - 127.5 for column in range(3))
    assert torch.allclose(inverse, -target, atol=1.01)
    assert torch.allclose(forth, inverse / 2, atol=1.01)


@pytest.mark.parametrize("total", [5, 16, 1797])
def test_examples_are_spread_over_the_split(total: int) -> None:
    chosen = example_indices(None, total, 1, 5)
    assert len(chosen.unique()) == 5
    assert int(chosen.min()) == 0
    assert total * 0.7 <= int(chosen.max()) + 1 <= total
