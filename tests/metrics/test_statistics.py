"""Sums that stream, and what is kept on disk."""

from pathlib import Path

import numpy
import pytest
import torch
from torch_fidelity.metric_isc import isc_features_to_metric

from gan_lightning.metrics.functional import inception_score
from gan_lightning.metrics.statistics import SEPARATE, Statistics, Sums, read_cache, read_npz, write_cache, write_npz
from gan_lightning.metrics.table import METRICS
from tests.helpers import refuses

CPU = torch.device("cpu")
FIELD_OF = {"moments": "mean"}  # of the other files, the field of their name
KEY = {"real": "digits", "split": "train", "weights_sha256": "abc", "num_real": 40}


def filled(count: int, batch_size: int, dim: int = 6, classes: int = 5) -> tuple[Sums, torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    features, logits = torch.randn(count, dim, generator=random) + 3, 3 * torch.randn(count, classes, generator=random)
    sums = Sums(count, dim, classes, CPU)
    for indices in torch.split(torch.arange(count), batch_size):
        sums.update(indices, features[indices], logits[indices])
    return sums, features, logits


def score_sums_of(sums: Sums) -> list[torch.Tensor]:
    """The arguments of the Inception Score."""
    return [getattr(sums.statistics(), name) for name in METRICS["is"].takes]


def test_streamed_moments_are_those_of_the_whole() -> None:
    sums, features, logits = filled(103, batch_size=10)
    result = sums.statistics(features)
    torch.testing.assert_close(result.mean, features.double().mean(0), rtol=1e-13, atol=0)
    torch.testing.assert_close(result.covariance, features.double().T.cov(), rtol=1e-12, atol=1e-13)
    assert result.count == 103
    assert result.class_counts is not None
    assert result.class_counts.tolist() == torch.bincount(logits.argmax(1), minlength=5).tolist()


@pytest.mark.parametrize("count", [10, 103, 1000])
def test_the_streamed_score_is_torch_fidelity_s(count: int) -> None:
    sums, _, logits = filled(count, batch_size=7)
    score_sums = score_sums_of(sums)
    theirs = isc_features_to_metric(logits)
    mean, std = inception_score(*score_sums)
    assert mean == pytest.approx(theirs["inception_score_mean"], rel=1e-10)
    assert std == pytest.approx(theirs["inception_score_std"], rel=1e-8, abs=1e-10)


def test_a_probability_that_underflows_is_no_nan() -> None:
    sums = Sums(20, 1, 3, CPU)
    logits = torch.tensor([[2000.0, 0.0, -2000.0]]).repeat(20, 1)
    sums.update(torch.arange(20), torch.zeros(20, 1), logits)
    score_sums = score_sums_of(sums)
    assert inception_score(*score_sums)[0] == pytest.approx(1)


def statistics(with_features: bool = True) -> Statistics:
    sums, features, _ = filled(40, batch_size=40)
    return sums.statistics(features if with_features else None)


def test_what_is_cached_is_found(tmp_path: Path) -> None:
    made = statistics()
    assert read_cache(tmp_path, KEY) is None
    write_cache(tmp_path, KEY, made)
    found = read_cache(tmp_path, KEY, SEPARATE)
    assert found is not None
    assert found.count == 40
    assert torch.equal(found.mean, made.mean)
    assert torch.equal(found.covariance, made.covariance)
    assert found.features is not None
    assert torch.equal(found.features, made.features)  # type: ignore[arg-type]
    assert torch.equal(found.class_counts, made.class_counts)  # type: ignore[arg-type]
    for name in KEY:
        assert read_cache(tmp_path, {**KEY, name: "another"}) is None


def test_moments_alone_do_not_serve_where_features_are_needed(tmp_path: Path) -> None:
    write_cache(tmp_path, KEY, statistics(with_features=False))
    assert read_cache(tmp_path, KEY) is not None
    assert read_cache(tmp_path, KEY, ["features"]) is None


def test_a_cache_without_class_counts_still_serves_other_metrics(tmp_path: Path) -> None:
    """As earlier versions wrote it."""
    write_cache(tmp_path, KEY, statistics())
    (path,) = tmp_path.glob("*.class_counts.pt")
    path.unlink()
    assert read_cache(tmp_path, KEY, ["features"]) is not None
    assert read_cache(tmp_path, KEY, ["class_counts"]) is None


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "tampered", "renamed", "foreign"])
@pytest.mark.parametrize("part", ["moments", "features", "class_counts"])
def test_a_damaged_cache_file_is_not_used(part: str, damage: str, tmp_path: Path) -> None:
    made = statistics()
    write_cache(tmp_path, KEY, made)
    (path,) = tmp_path.glob(f"*.{part}.pt")
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "flipped":
        values = getattr(made, FIELD_OF.get(part, part))
        assert values is not None
        place = content.index(values.numpy().tobytes()) + 5
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    elif damage == "tampered":  # a whole file, with another value in it
        loaded = torch.load(path, weights_only=True)
        loaded[FIELD_OF.get(part, part)][0] += 1
        torch.save(loaded, path)
    elif damage == "renamed":  # the file of another key, under this one's name
        write_cache(tmp_path / "other", {**KEY, "split": "test"}, statistics())
        next((tmp_path / "other").glob(f"*.{part}.pt")).replace(path)
    else:
        torch.save([1, 2, 3], path)
    assert read_cache(tmp_path, KEY, SEPARATE) is None
    write_cache(tmp_path, KEY, statistics())  # and it is made anew
    assert read_cache(tmp_path, KEY, SEPARATE) is not None


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    write_cache(tmp_path / "file" / "cache", KEY, statistics())
    assert "cannot be written" in capsys.readouterr().out


def test_npz_there_and_back(tmp_path: Path) -> None:
    made = statistics()
    write_npz(tmp_path / "reference.npz", made, {"extractor": "inception", "num_real": 40})
    found, about = read_npz(tmp_path / "reference.npz")
    assert torch.equal(found.mean, made.mean)
    assert torch.equal(found.covariance, made.covariance)
    assert (found.count, about["extractor"]) == (40, "inception")


def test_the_npz_of_another_program(tmp_path: Path) -> None:
    numpy.savez(tmp_path / "theirs.npz", mu=numpy.zeros(3, numpy.float32), sigma=numpy.eye(3))
    found, about = read_npz(tmp_path / "theirs.npz")
    assert found.mean.dtype == found.covariance.dtype == torch.float64
    assert (found.count, about) == (None, {})


def test_a_bad_npz_gets_one_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.npz"
    with refuses(path):
        read_npz(path)
    path.write_bytes(b"nothing")
    with refuses(path, "numpy.savez"):
        read_npz(path)
    numpy.savez(path, mu=numpy.zeros(3))
    with refuses(path, "sigma"):
        read_npz(path)
    numpy.savez(path, mu=numpy.zeros(3), sigma=numpy.eye(4))
    with refuses(path, "(3,)", "(4, 4)"):
        read_npz(path)
    numpy.savez(path, mu=numpy.array([numpy.nan]), sigma=numpy.eye(1))
    with refuses(path, "NaN"):
        read_npz(path)
    numpy.savez(path, mu=numpy.zeros(2), sigma=numpy.array([[1.0, 0.5], [0.0, 1.0]]))
    with refuses(path, "sigma"):
        read_npz(path)
    numpy.savez(path, mu=numpy.array([{"code": print}], dtype=object), sigma=numpy.eye(1))
    with refuses(path):
        read_npz(path)
    whole = (tmp_path / "whole.npz", numpy.random.default_rng(0).normal(size=300))
    numpy.savez(whole[0], mu=whole[1], sigma=numpy.eye(300))
    path.write_bytes(whole[0].read_bytes()[:5000])
    with refuses(path):
        read_npz(path)
    numpy.savez(path, mu=numpy.zeros(1), sigma=numpy.array([[numpy.inf]]))
    with refuses(path, "infinite"):
        read_npz(path)
    for protocol in ("[1]", "{", '{"class_counts": ["many"]}', "[" * 100_000):
        numpy.savez(path, mu=numpy.zeros(1), sigma=numpy.eye(1), protocol=numpy.array(protocol))
        with refuses(path, "protocol"):
            read_npz(path)
