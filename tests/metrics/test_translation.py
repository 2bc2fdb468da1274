"""Measurements of translations: closed forms, limiting cases, and baselines against direct computation."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.functional import pil_to_tensor, to_pil_image

from gan_lightning.data import Derived
from gan_lightning.data.base import Split
from gan_lightning.data.degradations import Degradation, Downscale, Grey, Hole, TurnedNegative
from gan_lightning.data.translation import Pairs, TranslationDataModule
from gan_lightning.images import to_float
from gan_lightning.metrics.translation import CYCLE, TranslationMeasurement, baseline_name, default_metrics, unchanged
from gan_lightning.perceptual import PerceptualDistance
from tests.helpers import TensorData, refuses
from tests.metrics.extractors import images

TINY = "tests.metrics.extractors.Tiny"
CPU = torch.device("cpu")
COUNT = 40


def derived(degradation: Degradation, count: int = COUNT) -> Derived:
    """Make pairs of smooth colour images 3x16x16."""
    return Derived(lambda **arguments: TensorData(images(count, seed=0), **_without_root(arguments)), degradation)


def _without_root(arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if name != "root"}


class Unpaired(TranslationDataModule):
    """Sources and targets of one shape that do not belong together, and are not equally many."""

    paired = has_pairs = False

    def __init__(self) -> None:
        super().__init__()
        self.target_data, self.source_data = TensorData(images(30, seed=1)), TensorData(images(20, seed=2))
        self.image_shape = self.source_shape = self.target_data.image_shape
        self.class_names = ()

    def pairs_at(self, split: Split, indices: Tensor) -> Pairs:
        raise AssertionError

    def num_sources(self, split: Split) -> int:
        return self.source_data.num_images(split)

    def sources_at(self, split: Split, indices: Tensor) -> Tensor:
        return self.source_data.images_at(split, indices)[0]

    def _pair(self, images: Tensor, other: Tensor | None) -> Pairs:
        raise AssertionError


def measurement(data: TranslationDataModule, metrics: Sequence[str] | None = None, **arguments: Any) -> TranslationMeasurement:
    made = TranslationMeasurement(data, CPU, TINY, metrics, progress=False, **arguments)
    made.prepare()
    return made


def test_errors_of_a_constant_difference() -> None:
    """An error of 5 grey levels has a mean square of 25: 10 log10(255^2 / 25) decibels."""
    data = derived(TurnedNegative())
    targets, _ = data.pairs("test")
    data.source.tensors = targets.clamp(max=250), None  # type: ignore[attr-defined]

    def brighter(sources: Tensor) -> Tensor:
        return (255 - sources).rot90(-1, (2, 3)) + 5

    values = measurement(data, ["psnr", "l1"]).measure(brighter)
    assert values == {"psnr": pytest.approx(10 * math.log10(255**2 / 25), rel=1e-6), "l1": pytest.approx(5.0, rel=1e-6)}


def test_perfect_translations() -> None:
    values = measurement(derived(TurnedNegative())).measure(lambda sources: (255 - sources).rot90(-1, (2, 3)))
    assert values.pop("psnr") == math.inf
    assert values.pop("ssim") == pytest.approx(1.0, abs=1e-6)
    assert values == {f"tiny_fd_{COUNT}": pytest.approx(0.0, abs=1e-5), "l1": 0.0, "imagenet_perceptual": 0.0}


def test_ssim_by_its_definition() -> None:
    """Wang et al. 2004, equation 13. Two grey levels have no variance, so only the first factor is not 1."""
    data = derived(TurnedNegative())
    data.source.tensors = torch.full((4, 3, 16, 16), 100, dtype=torch.uint8), None  # type: ignore[attr-defined]
    values = measurement(data, ["ssim"]).measure(lambda sources: torch.full_like(sources, 150))
    c1 = (0.01 * 255) ** 2
    assert values["ssim"] == pytest.approx((2 * 100 * 150 + c1) / (100**2 + 150**2 + c1), rel=1e-3)  # variances round


def test_the_errors_belong_to_pairs_and_the_distance_to_sets() -> None:
    """Exchanging images of a set leaves its Fréchet distance at 0, but each now differs from its target."""
    values = measurement(derived(TurnedNegative()), batch_size=COUNT).measure(
        lambda sources: (255 - sources).rot90(-1, (2, 3)).roll(1, 0)
    )
    assert values[f"tiny_fd_{COUNT}"] == pytest.approx(0.0, abs=1e-5)
    assert values["psnr"] < 30
    assert values["imagenet_perceptual"] > 0.05


def test_the_perceptual_distance_is_that_of_its_module() -> None:
    data = derived(Hole("2,2,8,8"))
    values = measurement(data, ["perceptual"], batch_size=7).measure(lambda sources: sources[:, :3])
    targets, sources = data.pairs("test")
    direct = PerceptualDistance(3)(to_float(sources[:, :3]), to_float(targets)).mean()
    assert values == {"imagenet_perceptual": pytest.approx(float(direct), rel=1e-4)}


@pytest.mark.parametrize(
    ("degradation", "name"), [(Grey(), "identity"), (Hole("2,2,8,8"), "identity"), (Downscale(4), "bicubic")]
)
def test_baselines(degradation: Degradation, name: str) -> None:
    data = derived(degradation)
    targets, sources = data.pairs("test")
    shown = {
        "Grey": lambda: sources.repeat(1, 3, 1, 1),
        "Hole": lambda: sources[:, :3],
        "Downscale": lambda: torch.stack(
            [pil_to_tensor(to_pil_image(source).resize((16, 16), Image.Resampling.BICUBIC)) for source in sources]
        ),
    }[type(degradation).__name__]()
    ((found, values),) = measurement(data, ["psnr"]).baselines().items()
    assert found == name
    error = (shown.float() - targets.float()).square().mean()
    assert values["psnr"] == pytest.approx(float(10 * torch.log10(255**2 / error)), rel=1e-3)
    assert torch.allclose(unchanged(sources, data.image_shape).float(), shown.float(), atol=1)


@pytest.mark.parametrize(
    ("source", "image", "name"),
    [
        ((1, 8, 8), (3, 8, 8), "identity"),
        ((3, 8, 8), (1, 8, 8), None),
        ((4, 8, 8), (3, 8, 8), "identity"),
        ((5, 8, 8), (3, 8, 8), None),
        ((3, 4, 6), (3, 8, 12), "bicubic"),
        ((3, 4, 6), (3, 8, 8), None),
        ((3, 8, 8), (3, 4, 4), None),
        ((1, 8, 6), (1, 6, 8), None),
    ],
)
def test_the_shapes_decide_the_baseline(source: tuple[int, int, int], image: tuple[int, int, int], name: str | None) -> None:
    assert baseline_name(source, image) == name
    if name is not None:
        assert unchanged(torch.zeros(2, *source, dtype=torch.uint8), image).shape == (2, *image)


class Brightness(nn.Module):
    """The mean grey level, and two classes: dark and bright."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        level = images.float().mean((1, 2, 3)).unsqueeze(1)
        return level, torch.cat([127.5 - level, level - 127.5], dim=1)


def test_agreement_with_the_class_of_the_target() -> None:
    """Of 20 dark images 15 have the label dark, of 20 bright ones 20 bright: negatives agree with 5 of 40 labels."""
    labels = torch.tensor([0] * 15 + [1] * 25)
    pixels = torch.tensor([10] * 20 + [240] * 20, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 8, 8).contiguous()
    data = Derived(lambda **arguments: TensorData(pixels, labels, **_without_root(arguments)), TurnedNegative())
    made = TranslationMeasurement(data, CPU, f"{__name__}.Brightness", ["agreement", "l1"], inverse=True, progress=False)
    made.prepare()
    values = made.measure(lambda sources: 255 - sources, lambda targets: targets)
    assert values["agreement"] == pytest.approx(35 / 40)
    assert "inverse_agreement" not in values
    assert set(made.names().values()) == set(values)
    rows = made.baselines()
    assert rows["identity"]["agreement"] == pytest.approx(5 / 40)
    assert rows["targets"] == {"agreement": pytest.approx(35 / 40)}


def test_agreement_needs_classes() -> None:
    with refuses("agreement", "classifier"):
        measurement(derived(Grey()), ["agreement"]).measure(lambda sources: sources.expand(-1, 3, -1, -1))


def test_unpaired_data_in_both_directions() -> None:
    data = Unpaired()
    assert default_metrics(data, "test") == ["fid"]
    both = measurement(data, inverse=True)
    names = {"tiny_fd_20", CYCLE, "inverse_tiny_fd_30", f"inverse_{CYCLE}"}
    assert set(both.names().values()) == names
    values = both.measure(lambda sources: sources, lambda targets: targets.clamp(max=253) + 2)
    assert set(values) == names
    assert values[CYCLE] == pytest.approx(2.0, abs=0.1)
    assert values["tiny_fd_20"] > 0.001  # of two sets of images
    assert both.baselines()["identity"] == {**values, CYCLE: 0.0, f"inverse_{CYCLE}": 0.0} | {
        "inverse_tiny_fd_30": pytest.approx(values["tiny_fd_20"], rel=0.5)
    }
    assert both.protocol()["inverse"]["num_images"] == 30
    with refuses("psnr", "no pairs"):
        measurement(data, ["psnr"])


def test_pairs_of_unpaired_training_give_the_error_to_the_right_answer() -> None:
    data = derived(TurnedNegative())
    data.paired = False

    def right(sources: Tensor) -> Tensor:
        return (255 - sources).rot90(-1, (2, 3))

    both = measurement(data, inverse=True)
    values = both.measure(right, lambda images: (255 - images).rot90(1, (2, 3)))
    assert values["l1"] == values["inverse_l1"] == values[CYCLE] == 0.0
    ((name, identity),) = both.baselines().items()
    assert name == "identity"
    assert identity["l1"] > 20
    assert identity[CYCLE] == 0.0  # identities undo each other, and translate nothing
    assert both.measure(right).keys() == {f"tiny_fd_{COUNT}", "psnr", "ssim", "l1", "imagenet_perceptual"}


def test_values_do_not_depend_on_the_batch_size_and_limits_are_limits() -> None:
    data = derived(Grey())
    one, other = (
        measurement(data, ["fid", "psnr", "ssim"], batch_size=size).measure(lambda s: s.expand(-1, 3, -1, -1))
        for size in (7, 40)
    )
    assert one == pytest.approx(other, rel=1e-4)
    few = measurement(data, ["fid", "psnr"], num_images=10, num_real=20)
    assert few.names() == {"fid": "tiny_fd_10", "psnr": "psnr"}
    assert few.protocol()["num_real"] == 20
    assert measurement(data, ["psnr"], num_images=10**6).num_images == COUNT


def test_impossible_requests() -> None:
    data = derived(Downscale(4))
    with refuses("foo"):
        measurement(data, ["foo"])
    with refuses("empty"):
        measurement(data, [])
    with refuses("3x4x4", "3x16x16"):
        measurement(data, ["psnr"]).measure(lambda sources: sources)
    with refuses("ssim", "3x4x4"):
        measurement(data, ["ssim"], inverse=True)
