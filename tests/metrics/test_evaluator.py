"""One pass, every metric: beside torch-fidelity, in batches of any size, in two processes."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch_fidelity
from torch import Tensor, nn
from torch.utils.data import Dataset

from gan_lightning.metrics.evaluator import (
    choose,
    collect,
    compute,
    evaluate,
)
from gan_lightning.metrics.features import Extractor, ModuleExtractor, import_extractor
from gan_lightning.metrics.statistics import Statistics
from gan_lightning.metrics.table import METRICS
from tests.helpers import refuses
from tests.metrics.extractors import COMPUTED, Tiny, TinyFidelity, images, measurements

ROOT = Path(__file__).parents[2]


class Images(Dataset[Tensor]):
    """What torch-fidelity reads."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    def __len__(self) -> int:
        return len(self.tensor)

    def __getitem__(self, index: int) -> Tensor:
        return self.tensor[index]


def fidelity(generated: Tensor, real: Tensor, **extractor: str) -> dict[str, float]:
    """All metrics by torch-fidelity, on the CPU, in batches of 50."""
    metrics: dict[str, float] = torch_fidelity.calculate_metrics(
        input1=Images(generated),
        input2=Images(real),
        isc=True,
        fid=True,
        kid=True,
        prc=True,
        cuda=False,
        batch_size=50,
        verbose=False,
        cache=False,
        **extractor,
    )
    return metrics


def tiny() -> ModuleExtractor:
    return ModuleExtractor(Tiny(), "tiny")


def test_end_to_end_it_is_torch_fidelity() -> None:
    """N = 1200 is more than the 24 features; both in the same batches on the same CPU."""
    generated, real = images(1200, seed=1), images(1100, seed=2) // 4 * 3
    torch_fidelity.register_feature_extractor("tiny", TinyFidelity)
    theirs = fidelity(generated, real, feature_extractor="tiny")
    extractor = tiny()
    reference = collect(lambda indices: real[indices], extractor, 1100, 50, keep_features=True)
    ours = evaluate(
        lambda indices: generated[indices], reference, extractor, ("fid", "is", "kid", "prdc"), 1200, 50, progress=False
    )
    pairs = {
        "tiny_fd_1200": "frechet_inception_distance",
        "tiny_score_1200": "inception_score_mean",
        "tiny_score_1200_std": "inception_score_std",
        "tiny_kd_1200": "kernel_inception_distance_mean",
    }
    for mine, their in pairs.items():
        assert ours[mine] == pytest.approx(theirs[their], rel=1e-5), mine
    # its distances are float32: a few images at the border of a ball may fall on the other side
    assert ours["tiny_precision_1200"] == pytest.approx(theirs["precision"], abs=3 / 1200)
    assert ours["tiny_recall_1200"] == pytest.approx(theirs["recall"], abs=3 / 1100)
    assert ours["tiny_score_1200"] > 1.05
    assert ours["tiny_fd_1200"] > 0.01


def test_the_batch_size_changes_rounding_alone() -> None:
    generated, real = images(300, seed=1), images(200, seed=2)
    extractor = tiny()
    results = []
    for batch_size in (1, 7, 300):
        reference = collect(lambda indices: real[indices], extractor, 200, batch_size, keep_features=True)
        sample = lambda indices: generated[indices]  # noqa: E731
        results.append(evaluate(sample, reference, extractor, COMPUTED, 300, batch_size, progress=False))
    for name, value in results[0].items():
        for other in results[1:]:
            assert other[name] == pytest.approx(value, rel=1e-3, abs=1e-6), name


def test_the_order_of_the_images_does_not_matter_to_prdc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real images in the order of their classes, more than are looked at: the first of them are one class alone."""
    monkeypatch.setitem(METRICS, "prdc", replace(METRICS["prdc"], most=400))
    real = torch.cat([images(500, seed=1) // 3, 170 + images(500, seed=2) // 3])  # a dark class, then a bright one
    generated = torch.cat([images(500, seed=3) // 3, 170 + images(500, seed=4) // 3])[torch.randperm(1000)]
    extractor = tiny()

    def precision(real: Tensor) -> float:
        reference = collect(lambda indices: real[indices], extractor, 1000, keep_features=True)
        sample = lambda indices: generated[indices]  # noqa: E731
        return evaluate(sample, reference, extractor, ["prdc"], 1000, progress=False)["tiny_precision_400"]

    assert precision(real) > 0.8
    assert precision(real) == pytest.approx(precision(real[torch.randperm(1000)]), abs=0.06)  # 0.02


def test_choosing_images() -> None:
    assert torch.equal(choose(5, 5), torch.arange(5))
    some = choose(100_000, 10_000)
    assert len(some.unique()) == 10_000
    assert torch.equal(some, some.sort().values)
    assert float(some.double().mean()) == pytest.approx(50_000, rel=0.02)
    assert torch.equal(choose(100_000, 10_000), some)


def test_the_code_of_a_module_is_in_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    keys = []
    for factor in (1, 2):
        text = f"import torch\nclass Net(torch.nn.Module):\n    def forward(self, x): return x.flatten(1).float() * {factor}\n"
        (tmp_path / "mynet.py").write_text(text)
        keys.append(import_extractor("mynet.Net").protocol())
    assert keys[0] != keys[1]
    assert keys[1] == import_extractor("mynet.Net").protocol()


def test_two_processes_give_what_one_gives(tmp_path: Path) -> None:
    """Also where the images do not divide, and where one process has none; what fails in one, fails in both."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*command, str(ROOT / "tests" / "metrics" / "extractors.py"), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    told = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    for name, alone in measurements().items():
        for process in told:
            assert process["results"][name] == pytest.approx(alone, rel=1e-3 if name == "end to end" else 1e-10), name
    assert told[0]["message"] == "process 1: the second process has no images"
    assert told[1]["message"] == "the second process has no images"


class FeaturesAlone(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :8].float()


def test_a_module_of_one_s_own() -> None:
    extractor = import_extractor("tests.metrics.test_evaluator.FeaturesAlone")
    assert isinstance(extractor, Extractor)
    assert extractor.prefix == "featuresalone_"
    some = images(40, seed=0)
    statistics = collect(lambda indices: some[indices], extractor, 40)
    assert statistics is not None
    assert "featuresalone_fd_40" in compute(statistics, statistics, extractor.prefix, ["fid"])
    for metric in ("is", "modes"):
        with refuses(metric, "logits"):
            compute(statistics, None, extractor.prefix, [metric])


@pytest.mark.parametrize("class_path", ["nowhere.Extractor", "word", "torch.nn.Nothing", "torch.zeros", "torch.nn.Linear"])
def test_a_class_that_is_not_an_extractor_is_refused(class_path: str) -> None:
    with refuses(f"extractor {class_path}"):
        import_extractor(class_path)


class Odd(nn.Module):
    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output

    def forward(self, images: Tensor) -> Tensor:
        return self.output


def test_odd_features_are_refused() -> None:
    some = images(4, seed=0)
    with refuses("(3, 2)", "4 images"):
        collect(lambda indices: some[indices], ModuleExtractor(Odd(torch.zeros(3, 2))), 4)
    with refuses("NaN"):
        collect(lambda indices: some[indices], ModuleExtractor(Odd(torch.full((4, 2), float("nan")))), 4)
    with refuses("torch.float32", "uint8"):
        collect(lambda indices: some[indices].float(), tiny(), 4)


def test_a_reference_of_other_features_is_refused() -> None:
    some = images(40, seed=0)
    generated = collect(lambda indices: some[indices], tiny(), 40)
    other = Statistics(10, torch.zeros(3), torch.eye(3))
    with refuses(3, 24):
        compute(generated, other, "tiny_", ["fid"])
    with refuses("num_images is 0"):
        collect(lambda indices: some[indices], tiny(), 0)
    with refuses("'foo'", "fid"):
        evaluate(lambda indices: some[indices], generated, tiny(), ["foo"], 40)
    with refuses("fid"):
        compute(generated, None, "tiny_", ["fid"])


@pytest.mark.slow
def test_with_inception_it_is_torch_fidelity(tmp_path: Path) -> None:
    """2,100 images, more than Inception's 2,048 features: some twenty minutes on two cores.

    As it was run: FID 6.7346963 and torch-fidelity's 6.7346952, IS 2.5592449 and 2.5592442, KID -6.87732e-4 and -6.87752e-4
    (theirs in float32), precision and recall the same.
    """
    from gan_lightning.metrics.inception import Inception
    from random_inception import varied_images, write_random_weights

    torch.set_num_threads(2)
    weights = tmp_path / "weights.pth"
    write_random_weights(weights)
    generated, real = varied_images(2100, seed=1), varied_images(2100, seed=2)
    theirs = fidelity(generated, real, feature_extractor_weights_path=str(weights), feature_extractor="inception-v3-compat")
    extractor = Inception(weights)
    reference = collect(lambda indices: real[indices], extractor, 2100, 50, keep_features=True)
    ours = evaluate(lambda indices: generated[indices], reference, extractor, ("fid", "is", "kid", "prdc"), 2100, 50)
    print(theirs, ours)
    assert ours["fid_2100"] == pytest.approx(theirs["frechet_inception_distance"], rel=1e-5)
    assert ours["is_2100"] == pytest.approx(theirs["inception_score_mean"], rel=1e-5)
    assert ours["kid_2100"] == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-3)
    assert ours["is_2100_std"] == pytest.approx(theirs["inception_score_std"], rel=1e-4)
    assert ours["precision_2100"] == pytest.approx(theirs["precision"], abs=1.5 / 2100)
    assert ours["recall_2100"] == pytest.approx(theirs["recall"], abs=1.5 / 2100)
