"""The campaign for a GPU, run on the CPU: everything except CUDA itself."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from gpu import STAGES, Figures, main, table

TINY = ["--accelerator", "cpu", "--recipes", "mlp_mnist_textbook,digits", "--steps", "1"]


def campaign(*args: str) -> dict[str, Any]:
    assert main([*args, *TINY, "--output", "out"]) == 0
    record: dict[str, Any] = json.loads(Path("out/campaign.json").read_text())["figures"]
    return record


def test_stages(capsys: pytest.CaptureFixture[str]) -> None:
    """Two recipes, one step: every figure that a CPU has."""
    found = campaign("correct", "speed", "graphs", "profile")
    assert set(found) == {"correct", "speed", "graphs", "profile"}
    assert not [figures for cases in found.values() for figures in cases.values() if "error" in figures]
    for recipe in ("mlp_mnist_textbook", "digits"):
        losses = found["correct"][recipe]
        assert losses["discriminator_loss"] == pytest.approx(losses["discriminator_loss in bf16"], rel=0.02)
        assert found["correct"][f"{recipe}: against the CPU"]["relative difference"] == 0
        assert found["graphs"][recipe]["differ: eager again"] == 0
        assert found["graphs"][recipe]["tensors"] > 4
        for way in ("eager", "other layout", "bf16"):
            figures = found["speed"][f"{recipe}: {way}"]
            assert min(figures["ms"], figures["images/s"], figures["peak MiB"]) > 0
        assert found["speed"][f"{recipe}: eager"]["times eager"] == 1
        assert found["profile"][recipe]["kernels"] == 0
    out = capsys.readouterr().out
    assert "| speed | ms | host ms | images/s | peak MiB | times eager |\n" in out
    assert "| digits: eager |" in out


def test_a_campaign_is_resumed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Cases with figures are skipped, failed ones are tried again; without time left nothing begins."""
    calls: list[str] = []

    def work(name: str) -> dict[str, float]:
        calls.append(name)
        if calls == ["one", "two"]:
            raise RuntimeError("out of\nmemory")
        return {"value": 1.5}

    monkeypatch.setitem(STAGES, "speed", lambda _: iter([(name, lambda name=name: work(name)) for name in ("one", "two")]))
    assert main(["speed", *TINY, "--output", "out", "--budget", "1e-9"]) == 0
    assert not Path("out/campaign.json").exists()
    assert "The budget ended" in capsys.readouterr().out
    assert campaign("speed")["speed"] == {"one": {"value": 1.5}, "two": {"error": "RuntimeError: out of memory"}}
    assert campaign("speed")["speed"] == {"one": {"value": 1.5}, "two": {"value": 1.5}}
    assert calls == ["one", "two", "two"]


@pytest.mark.slow
def test_commands() -> None:
    """A run of the real command that was interrupted and resumed agrees to the last bit; it has a schedule."""
    args = ["commands", "--accelerator", "cpu", "--recipes", "digits", "--steps", "40", "--output", "out"]
    assert main(args) == 0
    found = json.loads(Path("out/campaign.json").read_text())["figures"]["commands"]["digits"]
    assert found["differ: resumed"] == 0
    assert found["tensors"] > 10


@pytest.mark.slow
def test_metrics() -> None:
    """Inception, the eigenproblems and the indexing run."""
    assert main(["metrics", "--accelerator", "cpu", "--steps", "1", "--output", "out"]) == 0
    found = json.loads(Path("out/campaign.json").read_text())["figures"]["metrics"]
    assert len(found) == 8
    assert not [figures for figures in found.values() if "error" in figures]


def test_tables() -> None:
    """Cases without a common figure get separate tables."""
    cases: dict[str, Figures] = {"a": {"ms": 0.98123, "images/s": 65311.2}, "c": {"error": "no"}, "b": {"ms": 5.0}}
    assert table("speed", cases).splitlines() == [
        "| speed | ms | images/s |",
        "| --- | --- | --- |",
        "| a | 0.9812 | 65,311 |",
        "| b | 5 |  |",
        "",
        "| speed | error |",
        "| --- | --- |",
        "| c | no |",
    ]


@pytest.mark.parametrize(
    ("args", "part"),
    [
        ("quick", "quick"),
        ("speed --budget -1", "--budget"),
        ("speed --recipes mlp_mnits", "did you mean mlp_mnist?"),
        ("speed --data nowhere", "--data nowhere"),
        ("speed --output other", "--output other"),
        ("speed --output damaged", "--output damaged"),
        pytest.param(
            "speed --accelerator gpu", "--accelerator gpu", marks=pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU")
        ),
    ],
)
def test_bad_flags(args: str, part: str, capsys: pytest.CaptureFixture[str]) -> None:
    for folder, text in {"other": '{"machine": "an abacus", "figures": {}}', "damaged": "[]"}.items():
        Path(folder).mkdir()
        Path(folder, "campaign.json").write_text(text)
    assert main(["--accelerator", "cpu", *args.split()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("benchmark/gpu.py: error: ")
    assert part in line
