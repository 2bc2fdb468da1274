"""Fixtures of all tests: one thread, an empty working folder, no data set unless requested."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

REAL_DATA = os.environ.get("GAN_LIGHTNING_DATA")


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run each test in its own folder, with one thread, without data sets and caches of others."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GAN_LIGHTNING_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    state = torch.get_rng_state()
    torch.manual_seed(0)
    yield
    torch.set_rng_state(state)


@pytest.fixture(scope="session")
def small_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The checkpoint of a small GAN with an average, after 8 updates on the digits."""
    from tests.helpers import fit, small_gan

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("small") / "last.ckpt"
    fit(small_gan(ema_halflife=500.0), max_steps=8).save_checkpoint(path, weights_only=False)
    return path.read_bytes()


@pytest.fixture
def real_data(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of the real MNIST files and the CIFAR-10 JPEGs."""
    assert REAL_DATA is not None
    monkeypatch.setenv("GAN_LIGHTNING_DATA", REAL_DATA)
    return Path(REAL_DATA)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table of the faults that tests/faults records."""
    rows: dict[str, tuple[int, int, str]] = {}
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            found = dict(report.user_properties)
            if report.when == "call" and "fault" in found:
                tried, survived, _ = rows.get(found["fault"], (0, 0, ""))
                rows[found["fault"]] = tried + found["tried"], survived + found["survived"], found["lost"]
    if rows:
        terminalreporter.section("broken on purpose")
        wide = max(map(len, rows))
        terminalreporter.write_line(f"{'fault':<{wide}}  tried  survived  lost")
        for fault, (tried, survived, lost) in rows.items():
            terminalreporter.write_line(f"{fault:<{wide}}  {tried:>5}  {survived:>8}  {lost}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    no_data = pytest.mark.skip(reason="needs real images: set GAN_LIGHTNING_DATA to a folder with MNIST and cifar10-jpg")
    no_gpu = pytest.mark.skip(reason="needs a CUDA device")
    for item in items:
        if item.get_closest_marker("real_data") and not (REAL_DATA and Path(REAL_DATA, "MNIST").is_dir()):
            item.add_marker(no_data)
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(no_gpu)
