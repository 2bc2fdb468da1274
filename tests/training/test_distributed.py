"""Several processes: their results, their messages, and the death of one of them."""

import os
import socket
import subprocess
import sys
import time
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gan_lightning.training import distributed
from gan_lightning.training.synchronized_batch_norm import SynchronizedBatchNorm, synchronize_batch_norm
from gan_lightning.training.trainer import TimeLimit
from tests.training.two_processes import MODELS, STEPS, train

WORKER = Path(__file__).with_name("two_processes.py")


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        port: int = opened.getsockname()[1]
        return port


def start_two(*command: str | Path, **environment: str) -> list[subprocess.Popen[str]]:
    """Start the command twice, as the two processes of one machine."""
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2", "NODE_RANK": "0"}
    root = str(Path(__file__).parents[2])
    return [
        subprocess.Popen(
            [sys.executable, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": root, "LOCAL_RANK": str(rank), **shared, **environment},
        )
        for rank in range(2)
    ]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Tensor]]:
    """Result of process 1 of two after training each model on half of every batch."""
    output = tmp_path_factory.mktemp("two") / "results.pt"
    for process in start_two(WORKER, output, "8"):
        _, error = process.communicate(timeout=240)
        assert process.returncode == 0, error
    results: dict[str, dict[str, Tensor]] = torch.load(output)
    return results


@pytest.mark.parametrize("name", list(MODELS))
def test_two_processes_equal_one_with_the_whole_batch(name: str, two: dict[str, dict[str, Any]]) -> None:
    """Compare weights, gradients, averages, adapted values and logged values; they differ by 1e-8 to 2e-7.

    Batch norm divides by small deviations and amplifies the differences. If it is not synchronized, they are far larger.
    """
    tolerance = 10 if "batch norm" in name else 1
    one = train(name, 16, 1)
    assert one.pop("sent") == 0
    assert one.keys() == two[name].keys() - {"sent"}
    for entry, value in one.items():
        assert torch.allclose(value, two[name][entry], rtol=1e-5 * tolerance, atol=1e-6 * tolerance), entry
    assert (one["draws"] > 0) == (name not in ("super-resolution with batch norm", "cycle without pools"))


@pytest.mark.parametrize("name", list(MODELS))
def test_each_gradient_is_sent_once(name: str, two: dict[str, dict[str, Any]]) -> None:
    model = MODELS[name]()
    generators, discriminators = (
        sum(p.numel() for network in networks for p in getattr(model, network).parameters())
        for networks in (model.generators, model.discriminators)
    )
    gradients = STEPS * (generators + getattr(model, "discriminator_steps", 1) * discriminators)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    channels = sum(norm.num_features for norm in norms)
    others = two[name]["sent"] - gradients  # a flag, and the means of some methods and of batch norms, with their gradients
    assert STEPS <= others <= STEPS * (12 + 8 * channels)


def test_each_process_resumes_its_own_pool(two: dict[str, dict[str, Any]]) -> None:
    assert two["pools"] == {"restored": 1, "differ": 1, "filled": 1}


def test_the_comparison_detects_other_random_numbers(two: dict[str, dict[str, Any]]) -> None:
    """Wrong gradients exceed the bound above: half a gradient, or one of other latents, is far from it."""
    name = "conditional, DRAGAN"
    one = train(name, 8, 1)  # as if only one process contributed
    gradients = [entry for entry in one if entry.startswith("gradient")]
    assert all((one[entry] - two[name][entry]).abs().max() > 1e-4 for entry in gradients if one[entry].abs().max() > 0)


@pytest.mark.parametrize("make", [nn.BatchNorm1d, nn.BatchNorm2d])
@pytest.mark.parametrize(
    "arguments", [{}, {"affine": False}, {"track_running_stats": False}, {"momentum": None}, {"momentum": 0.3, "eps": 0.1}]
)
def test_synchronized_batch_norm_alone_is_batch_norm(make: type[nn.BatchNorm1d | nn.BatchNorm2d], arguments: Any) -> None:
    """Outputs, gradients, running moments and names of weights are torch's; gradients have gradients."""
    torch.manual_seed(0)
    shape = (6, 3) if make is nn.BatchNorm1d else (6, 3, 4, 5)
    norm = nn.Sequential(make(3, **arguments)).double()
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    ours = deepcopy(norm)
    synchronize_batch_norm(ours)
    assert isinstance(ours[0], SynchronizedBatchNorm)
    images = torch.randn(shape, dtype=torch.float64).mul(3).add(2).requires_grad_()
    weights = torch.randn(shape, dtype=torch.float64)
    for _ in range(2):
        one, other = norm(images), ours(images)
        assert torch.allclose(one, other)
    wanted = [images, *norm.parameters()], [images, *ours.parameters()]
    gradients = [torch.autograd.grad((out * weights).sum(), inputs) for out, inputs in zip((one, other), wanted, strict=True)]
    assert all(torch.allclose(mine, torchs) for mine, torchs in zip(*gradients, strict=True))
    assert norm.state_dict().keys() == ours.state_dict().keys()
    assert all(torch.allclose(value, ours.state_dict()[name]) for name, value in norm.state_dict().items())
    assert torch.allclose(deepcopy(norm).eval()(images), deepcopy(ours).eval()(images))
    assert torch.autograd.gradgradcheck(ours, images)


def test_synchronized_batch_norm_in_half_precision() -> None:
    """Moments are computed in float32: of values that bfloat16 holds, but whose sum it does not."""
    ours = SynchronizedBatchNorm(1)
    images = torch.randn(4096, 1).mul(3).add(40).bfloat16()
    normalised = ours(images)
    assert normalised.dtype == torch.bfloat16
    assert abs(normalised.detach().float().mean()) < 1e-2
    assert float(normalised.detach().float().std()) == pytest.approx(1, abs=1e-2)


@pytest.mark.parametrize("first_is_over", [True, False])
def test_a_timer_sends_no_object_until_a_process_is_out_of_time(first_is_over: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first process decides: its object reaches all of them."""
    asked: list[bool] = []

    def broadcast(is_over: bool) -> bool:
        asked.append(is_over)
        return first_is_over

    timer, trainer = TimeLimit("00:00:00:30"), SimpleNamespace(should_stop=False, strategy=SimpleNamespace(broadcast=broadcast))
    now = time.monotonic()
    timer.on_train_start(trainer, None)  # type: ignore[arg-type]
    for _ in range(3):
        timer.on_train_batch_end(trainer)  # type: ignore[arg-type]
    assert (asked, trainer.should_stop) == ([], False)
    with monkeypatch.context() as patch:
        patch.setattr("gan_lightning.training.distributed.largest", lambda number: 1)  # the other process is out of time
        timer.on_train_batch_end(trainer)  # type: ignore[arg-type]
    assert (asked, trainer.should_stop) == ([False], first_is_over)
    monkeypatch.setattr(time, "monotonic", lambda: now + 31)
    timer.on_train_batch_end(trainer)  # type: ignore[arg-type]
    assert asked == [False, True]
    assert timer.state_key == "Timer"  # in checkpoints of earlier versions


def test_one_process_sends_nothing() -> None:
    tensor = torch.ones(3, requires_grad=True)
    assert distributed.world_size() == 1
    assert distributed.mean(tensor) is tensor
    assert distributed.largest(7) == 7
    distributed.average_([tensor])
    distributed.broadcast_([tensor])
    assert torch.equal(tensor, torch.ones(3))
