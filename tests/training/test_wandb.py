"""Weights & Biases: offline, not logged in, without its server, and resumed."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gan_lightning.commands.verbs import Verb
from tests.helpers import refusal

wandb = pytest.importorskip("wandb", reason="of the extra wandb")

main = Verb.train.main
SMALL = [
    *("--config", "digits", "--accelerator", "cpu", "--enable_progress_bar", "false", "--enable_model_summary", "false"),
    *("--model.generator.hidden", "[8]", "--model.discriminator.hidden", "[8]", "--metrics.extractor", "none"),
    *("--log_every_n_steps", "2", "--logger", "wandb"),
]
RUN = Path("lightning_logs/version_0")


@pytest.fixture(autouse=True)
def _nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A user whom W&B does not know. W&B reads its environment once for each process."""
    wandb.teardown()
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_SILENT", "true")
    yield
    wandb.teardown()


def ids(run: Path) -> list[str]:
    """The ids of the W&B runs that a run's folder holds, one for each time it was started.

    The folders are called offline-run-TIME-ID, and offline-run-TIME-ID-1 for a second one of the same second.
    """
    return [path.name.split("-")[3] for path in sorted(run.glob("wandb/offline-run-*"))]


def kept(run: Path) -> str:
    return (run / "wandb_run_id.txt").read_text().strip()


def test_a_resumed_run_continues_its_wandb_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second run of the same process has a W&B run of its own."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert main([*SMALL, "--max_steps", "4"]) == 0
    assert main([*SMALL, "--max_steps", "4"]) == 0
    other = RUN.with_name("version_1")
    assert len({kept(RUN), kept(other)}) == 2
    assert (ids(RUN), ids(other)) == ([kept(RUN)], [kept(other)])
    assert wandb.run is None
    assert main(["--ckpt_path", "last", "--max_steps", "8"]) == 0
    assert set(ids(other)) == {kept(other)}
    assert ids(RUN) == [kept(RUN)]
    kinds = {path.name.split("_")[0] for path in other.glob("wandb/offline-run-*/files/media/images/images/*.png")}
    assert kinds == {"real", "samples"}


def test_without_a_login(capsys: pytest.CaptureFixture[str]) -> None:
    refusal(main, [*SMALL, "--max_steps", "4"], capsys, "--logger wandb", "wandb login", "WANDB_MODE=offline")


def test_with_a_wrong_key(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "short")
    refusal(main, [*SMALL, "--max_steps", "4"], capsys, "--logger wandb", "WANDB_API_KEY")


def test_a_server_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody listens at this port
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "1")
    refusal(main, [*SMALL, "--max_steps", "4"], capsys, "--logger wandb", "WANDB_MODE=offline")


@pytest.mark.parametrize(("name", "value"), [("WANDB_MODE", "on"), ("WANDB_BASE_URL", "nowhere"), ("WANDB_PROJECT", "a/b")])
def test_wrong_variables(name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "1")
    monkeypatch.setenv(name, value)
    refusal(main, [*SMALL, "--max_steps", "4"], capsys, "--logger wandb", value)


def test_damaged_ids(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty file starts another W&B run; a wrong id is refused, and the file is named."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert main([*SMALL, "--max_steps", "2"]) == 0
    (RUN / "wandb_run_id.txt").write_bytes(b"")
    assert main(["--ckpt_path", "last", "--max_steps", "4"]) == 0
    assert kept(RUN) in ids(RUN)
    (RUN / "wandb_run_id.txt").write_bytes(b"a/b:\xff")
    refusal(main, ["--ckpt_path", "last", "--max_steps", "6"], capsys, "wandb_run_id.txt")


def test_a_project_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    assert main([*SMALL, "--max_steps", "2"]) == 0
