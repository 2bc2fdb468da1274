"""Windows and macOS: what they lack is hidden, and everything still imports and trains."""

import contextlib
import importlib
import multiprocessing
import os
import pickle
import pkgutil
import re
import resource
import signal
import sys
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import gan_lightning
from gan_lightning import files
from gan_lightning.commands.common.cost import peak_bytes
from gan_lightning.data.decoding import DecodedFiles
from gan_lightning.data.folder import ImageFolder
from gan_lightning.data.loaders import EpochShuffle, WorkerLoader
from tests.faults.forked import FORKING

MISSING_MODULES = ("fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty")
"""Modules of Python that Windows does not have."""
KEPT = ("SIGABRT", "SIGFPE", "SIGILL", "SIGINT", "SIGSEGV", "SIGTERM", "SIGKILL", "SIGSTOP", "SIGUSR1", "SIG_DFL", "SIG_IGN")
"""The signals of Windows, and those that Lightning uses on other systems."""
MISSING_OF_OS = (
    *("chown", "chroot", "confstr", "fchdir", "fchmod", "fork", "forkpty", "getegid", "geteuid", "getgid", "getgrouplist"),
    *("getgroups", "getloadavg", "getpgid", "getpgrp", "getpriority", "getsid", "getuid", "killpg", "lchown", "lockf"),
    *("mkfifo", "mknod", "nice", "openpty", "pathconf", "pipe2", "posix_fadvise", "posix_fallocate", "posix_spawn", "pread"),
    *("pwrite", "register_at_fork", "sched_getaffinity", "sched_setaffinity", "setgid", "setpriority", "setsid"),
    *("setuid", "statvfs", "sync", "sysconf", "tcgetpgrp", "uname", "wait3", "wait4"),
    *("O_CLOEXEC", "O_DIRECT", "O_DIRECTORY", "O_DSYNC", "O_NOATIME", "O_NOCTTY", "O_NOFOLLOW", "O_NONBLOCK", "O_SYNC"),
)
PACKAGE = Path(gan_lightning.__file__).parent
SMALL = [
    *("--config", "digits", "--accelerator", "cpu", "--enable_progress_bar", "false", "--enable_model_summary", "false"),
    *("--model.generator.hidden", "[8]", "--model.discriminator.hidden", "[8]", "--metrics.extractor", "none"),
]


def test_no_signal_but_those_of_every_system() -> None:
    used = set().union(*(re.findall(r"\bsignal\.(SIG[A-Z0-9]+)", path.read_text()) for path in PACKAGE.rglob("*.py")))
    assert used == {"SIGINT", "SIGTERM"}


def hide_posix() -> None:
    """Remove what Windows does not have from Python, and this package from the imported modules."""
    for name in MISSING_MODULES:
        sys.modules[name] = None  # type: ignore[assignment]
    for name in MISSING_OF_OS:
        if hasattr(os, name):
            delattr(os, name)
    for name in [name for name in dir(signal) if name.startswith("SIG") and name not in KEPT]:
        delattr(signal, name)
    for name in [name for name in sys.modules if name.partition(".")[0] == "gan_lightning"]:
        del sys.modules[name]


def import_all() -> None:
    package = importlib.import_module("gan_lightning")
    found = [module.name for module in pkgutil.walk_packages(package.__path__, "gan_lightning.")]
    for name in found:
        with contextlib.suppress(ImportError) if "playground" in name else contextlib.nullcontext():  # gradio is an extra
            importlib.import_module(name)
    assert len(found) > 100


def train_inspect_and_measure() -> None:
    Verb = importlib.import_module("gan_lightning.commands.verbs").Verb
    assert Verb.train.main([*SMALL, "--max_steps", "3"]) == 0
    assert Verb.train.main([*SMALL, "--ckpt_path", "last", "--max_steps", "5"]) == 0
    assert Verb.train.main([*SMALL, "--dry_run"]) == 0
    last = "lightning_logs/version_0/checkpoints/last.ckpt"
    assert Verb.sample.main([last, "--num_images", "4"]) == 0
    for verb in Verb:
        assert verb.main(["--no_such_flag"]) == 2


def _hidden(work: Callable[[], None], folder: Path) -> None:
    os.chdir(folder)
    os.environ["GAN_LIGHTNING_DATA"] = str(folder / "data")
    torch.set_num_threads(1)
    hide_posix()
    work()


@pytest.mark.parametrize("work", [import_all, train_inspect_and_measure])
def test_without_what_windows_lacks(work: Callable[[], None], tmp_path: Path) -> None:
    process = FORKING.Process(target=_hidden, args=(work, tmp_path))
    process.start()
    process.join(120)
    assert process.exitcode == 0


@pytest.mark.parametrize(("system", "unit"), [("linux", 1024), ("darwin", 1), ("win32", 1024)])
def test_the_unit_of_peak_memory(system: str, unit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = resource.struct_rusage([0.0, 0.0, 5_000_000, *[0] * 13])
    monkeypatch.setattr(resource, "getrusage", lambda who: usage)
    monkeypatch.setattr(sys, "platform", system)
    assert peak_bytes(torch.device("cpu")) == 5_000_000 * unit


def test_peak_memory_is_zero_if_the_system_does_not_count_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gan_lightning.commands.common.cost.resource", None)
    assert peak_bytes(torch.device("cpu")) == 0


class OpenFile:
    """Refuses to be replaced so many times, as Windows does while another program has the file open."""

    def __init__(self, times: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.times, replace = times, Path.replace

        def refuse(path: Path, target: Path) -> Path:
            self.times -= 1
            if self.times >= 0:
                raise PermissionError(13, "Access is denied", str(path))
            return replace(path, target)

        monkeypatch.setattr(Path, "replace", refuse)


@pytest.mark.parametrize(("times", "succeeds"), [(0, True), (3, True), (4, False)])
def test_a_file_that_another_program_has_open(times: int, succeeds: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PAUSES", (0.0, 0.0, 0.0))
    Path("record").write_text("old")
    OpenFile(times, monkeypatch)
    with contextlib.nullcontext() if succeeds else pytest.raises(PermissionError), files.write_aside("record") as aside:
        aside.write_text("new")
    assert Path("record").read_text() == ("new" if succeeds else "old")
    assert [path.name for path in Path().iterdir()] == ["record"]


def test_a_link_to_a_file_that_another_program_has_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PAUSES", (0.0,))
    Path("one").write_text("1")
    Path("other").write_text("2")
    OpenFile(1, monkeypatch)
    files.link(Path("one"), Path("other"))
    assert Path("other").read_text() == "1"


def loader_of(folder: Path, count: int) -> WorkerLoader:
    """A loader with one worker, of batches of two images."""
    folder.mkdir(exist_ok=True)
    for number in range(count):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"{number}.png")
    found = ImageFolder(folder, image_size=8).files["train"]
    dataset = DecodedFiles(found, (3, 8, 8))
    return WorkerLoader(dataset, False, 2, EpochShuffle(len(found.paths)), 1, False, lambda failures: None)


def test_what_a_worker_gets_can_be_sent_to_a_new_process(tmp_path: Path) -> None:
    loader = loader_of(tmp_path, 4)._loader(1)
    dataset, collate = pickle.loads(ForkingPickler.dumps((loader.dataset, loader.collate_fn)))
    assert collate([dataset[0], dataset[1]])[0].shape == (2, 3, 8, 8)


@pytest.mark.slow  # a new process imports torch and Lightning
def test_workers_that_are_spawned(tmp_path: Path) -> None:
    """The start method of macOS and Windows: what a worker gets must be picklable, and the batches are the same."""
    before = multiprocessing.get_start_method()
    batches: dict[str, list[Any]] = {}
    for method in ("fork", "spawn"):
        torch.multiprocessing.set_start_method(method, force=True)
        try:
            batches[method] = [images for images, _ in loader_of(tmp_path / method, 8)]
        finally:
            torch.multiprocessing.set_start_method(before, force=True)
    assert len(batches["fork"]) > 1
    assert all(torch.equal(one, other) for one, other in zip(batches["fork"], batches["spawn"], strict=True))
