"""Killed, interrupted and disconnected processes, and full disks: the loss in each case."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gan_lightning import checkpoint
from gan_lightning.commands.verbs import Verb
from tests.faults import often
from tests.faults.runs import (
    DIGITS,
    LAST,
    METHODS,
    RUN,
    SCRIPT,
    Record,
    Running,
    assert_same_end,
    children,
    finish,
    is_running,
    made,
    run,
    start,
    start_program,
    tally,
    wait_for,
)
from tests.helpers import error_line
from tests.training.test_distributed import free_port

main = Verb.train.main

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc, to find the processes that are to be broken")


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("while_writing", [False, True], ids=["at a random moment", "while a checkpoint is written"])
@pytest.mark.parametrize("method", [name if name == "GAN" else pytest.param(name, marks=pytest.mark.slow) for name in METHODS])
def test_kill_9(method: str, while_writing: bool, record_property: Record) -> None:
    """A run that is killed and resumed repeatedly ends like an undisturbed one."""
    every = 1 if while_writing else 7
    epochs = max(30, 10 * often(20))
    args = [*METHODS[method], "--max_epochs", str(epochs), "--checkpoints.every_n_steps", str(every)]
    assert main([*args, "--default_root_dir", "undisturbed"]) == 0
    moments, kills, reached = random.Random(0), 0, 0
    while kills < often(20):
        before = saved_at()
        running = start(*args)
        if kills % 5 == 4:
            time.sleep(moments.uniform(0, 2))  # at times before the first step
        else:
            assert wait_for(lambda before=before: saved_at() != before, running), finish(running)  # type: ignore[misc]
            time.sleep(moments.uniform(0, 0.3))
            if while_writing:
                wait_for(lambda: list(LAST.parent.glob(".last.ckpt.*part*")), running, every=0.0005)
        if running.poll() is not None:
            break
        os.killpg(running.pid, signal.SIGKILL)
        finish(running)
        kills += 1
        if LAST.is_file():
            assert made() >= reached
            reached = made()
            args = ["--ckpt_path", "last"]
    assert kills == often(20), f"the run ended after {kills} kills: it is too short"
    code, _, error = run(*args)
    assert code == 0, error
    assert_same_end(RUN, Path("undisturbed") / RUN)
    assert not list(LAST.parent.glob(".*part*"))
    lost = f"nothing: up to {every} steps are repeated"
    tally(
        record_property,
        f"{method}: kill -9 {'while a checkpoint is written' if while_writing else 'at a random moment'}",
        kills,
        kills,
        lost,
    )


def saved_at() -> int:
    """Time of the last checkpoint in ns; 0 if there is none."""
    return LAST.stat().st_mtime_ns if LAST.is_file() else 0


@pytest.mark.parametrize(
    ("method", "number", "devices"),
    [
        ("GAN", signal.SIGTERM, 1),
        ("GAN", signal.SIGINT, 1),
        ("GAN", signal.SIGTERM, 2),
        pytest.param("GAN", signal.SIGINT, 2, marks=pytest.mark.slow),
        ("PairedTranslation", signal.SIGTERM, 1),
        pytest.param("PairedTranslation", signal.SIGTERM, 2, marks=pytest.mark.slow),
        pytest.param("CycleGAN", signal.SIGINT, 1, marks=pytest.mark.slow),
        ("CycleGAN", signal.SIGTERM, 2),  # each process has its own pools
    ],
)
def test_a_signal_saves_and_ends_the_run(method: str, number: signal.Signals, devices: int, record_property: Record) -> None:
    """The exit code is the shell's, and the resumed run ends like an undisturbed one. Only one process gets the signal."""
    args = [*METHODS[method], "--devices", str(devices)]
    if (method, number, devices) == ("GAN", signal.SIGINT, 1):  # measuring, too
        args += ["--metrics.extractor", "classifier", "--metrics.num_images", "100", "--metrics.every_n_steps", "40"]
    end = 150  # within an epoch
    args += ["--max_steps", str(end)]
    running = start(*args)
    assert wait_for(lambda: LAST.is_file(), running), finish(running)
    time.sleep(0.05)
    target = running.pid if (number, devices) != (signal.SIGTERM, 2) else other_process(running)
    os.kill(target, number)
    code, out, error = finish(running, 60)
    assert code == 128 + number, error
    assert "Interrupted: " in out
    assert "Traceback" not in error
    stopped = made()
    assert 0 < stopped < end
    assert f" {stopped:,} in total" in out
    resumed = run("--ckpt_path", "last")
    assert resumed[0] == 0, resumed
    assert "instead of" not in resumed[1]  # the schedule's length is the same
    assert run(*args, "--default_root_dir", "undisturbed")[0] == 0
    assert_same_end(RUN, Path("undisturbed") / RUN)
    if "classifier" in args:
        best, expected = (
            checkpoint.load_gan(root / RUN / "checkpoints" / "best.ckpt") for root in (Path(), Path("undisturbed"))
        )
        assert best["global_step"] == expected["global_step"]
        assert best["callbacks"]["GenerativeMetrics"] == expected["callbacks"]["GenerativeMetrics"]
    of = "one process" if devices == 1 else "one of two processes"
    tally(record_property, f"{method}: {number.name} to {of}", 1, 1, f"nothing; exit code {code}")


def test_a_second_signal_ends_the_run_at_once(record_property: Record) -> None:
    """It ends a step of many seconds. A second signal right after the first is ignored: a launcher has forwarded it."""
    large = [*("--model.discriminator.hidden", "[3000,3000,3000]"), "--model.discriminator_steps", "20"]
    running = start(*DIGITS, *large, "--data.batch_size", "64", "--max_steps", "100000")
    assert wait_for(lambda: LAST.is_file(), running), finish(running)
    running.send_signal(signal.SIGTERM)
    running.send_signal(signal.SIGINT)
    time.sleep(1.5)
    assert running.poll() is None
    running.send_signal(signal.SIGTERM)
    begun = time.monotonic()
    code, _, error = finish(running, 60)
    assert code == 143, error
    assert "SIGTERM" in error
    assert time.monotonic() - begun < 10  # the step and the end of a run take longer
    assert made() == 0
    tally(record_property, "SIGTERM twice", 1, 1, "the steps since the last checkpoint; exit code 143")


def other_process(running: Running) -> int:
    """Find the second process of two."""
    (child,) = [pid for pid in children(running.pid) if b"train.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return child


@pytest.mark.parametrize("victim", ["the first process", "the other process"])
def test_the_death_of_a_process_ends_the_others(victim: str, record_property: Record) -> None:
    running = start(*DIGITS, "--devices", "2", "--max_steps", "1000000")
    assert wait_for(lambda: LAST.is_file(), running), finish(running)
    time.sleep(1)
    child = other_process(running)
    rank, killed, left = (0, running.pid, child) if victim == "the first process" else (1, child, running.pid)
    begun, took = time.monotonic(), 0.0
    os.kill(killed, signal.SIGKILL)
    while is_running(left) and took < 60:
        time.sleep(0.05)
        took = time.monotonic() - begun
    assert took < 60
    _, _, error = finish(running, 90)
    assert f"error: process {rank} of 2 (" in error
    assert f"pid {killed}) has died" in error
    assert "--ckpt_path" in error
    assert "Traceback" not in error
    made()
    lost = f"the steps since the last checkpoint; the other ended after {took:.0f} s"
    tally(record_property, f"death of {victim} of two", 1, 1, lost)


@pytest.mark.slow
def test_a_process_that_hangs_counts_as_dead(record_property: Record) -> None:
    """It is stopped, not killed, so its connections stay open like those of a disconnected machine."""
    running = start(*DIGITS, "--devices", "2", "--max_steps", "1000000")
    assert wait_for(lambda: LAST.is_file(), running), finish(running)
    child = other_process(running)
    os.kill(child, signal.SIGSTOP)
    begun = time.monotonic()
    try:
        assert wait_for(lambda: running.poll() is not None, running, seconds=90, every=0.5)
        took = time.monotonic() - begun
    finally:
        os.killpg(running.pid, signal.SIGKILL)
    _, _, error = finish(running)
    assert took < 60
    assert running.returncode == 1
    assert "process 1 of 2 (" in error
    assert f"pid {child}) has died" in error
    tally(
        record_property,
        "a process that hangs",
        1,
        1,
        f"the steps since the last checkpoint; the other ended after {took:.0f} s",
    )


def torchrun(rank: int, port: int, *args: str) -> subprocess.Popen[str]:
    """Start one of two groups of processes, as on two machines."""
    where = ["--nnodes", "2", "--node_rank", str(rank), "--nproc_per_node", "1", "--master_addr", "127.0.0.1"]
    program = [sys.executable, "-m", "torch.distributed.run", *where, "--master_port", str(port), str(SCRIPT)]
    return start_program(program, *args)


def test_two_machines(record_property: Record) -> None:
    """torchrun's two groups of one process end with the weights of one group of two."""
    port = free_port()
    args = [*DIGITS, "--max_steps", "12", "--model.discriminator_steps", "2"]
    both = [torchrun(rank, port, *args, "--num_nodes", "2", "--devices", "1") for rank in range(2)]
    for running in both:
        code, _, error = finish(running)
        assert code == 0, error
    assert [path.name for path in Path("lightning_logs").iterdir()] == ["version_0"]
    assert run(*args, "--devices", "2", "--default_root_dir", "one")[0] == 0
    assert [path.name for path in Path("one/lightning_logs").iterdir()] == ["version_0"]
    assert made() == 12
    assert_same_end(RUN, Path("one") / RUN)
    tally(record_property, "two machines, by torchrun", 1, 1, "nothing: the same run as on one")


SRUN = """#!/bin/bash
for rank in 0 1; do SLURM_PROCID=$rank SLURM_LOCALID=$rank "$@" & pids+=($!); done
echo "${pids[@]}" > tasks
for pid in "${pids[@]}"; do wait "$pid" || code=$?; done
exit ${code:-0}
"""


@pytest.mark.slow
def test_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Record) -> None:
    """Run docs/train.sbatch with SLURM's variables for two tasks on one machine: it is interrupted, requeued and resumed."""
    programs = {
        "srun": SRUN,
        "scontrol": '#!/bin/bash\necho "$@" >> requeued\n',
        "python": f'#!/bin/bash\nexec {sys.executable} "$@"\n',
    }
    (tmp_path / "bin").mkdir()
    for name, text in programs.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "scripts").symlink_to(SCRIPT.parent)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/activate").touch()
    allocation = {
        **{"SLURM_NTASKS": "2", "SLURM_JOB_ID": "17", "SLURM_JOB_NAME": "gan", "SLURM_NODELIST": "localhost"},
        **{"SLURM_NNODES": "1", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NODEID": "0", "MASTER_PORT": str(free_port())},
    }
    for name, value in {**allocation, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}.items():
        monkeypatch.setenv(name, value)
    last = Path("runs/17") / LAST

    def job(*more: str) -> subprocess.Popen[str]:
        return start_program(["bash", str(SCRIPT.parents[1] / "docs" / "train.sbatch")], *DIGITS, *more)

    first = job("--max_steps", "1000000")
    assert wait_for(lambda: last.is_file(), first), finish(first)
    time.sleep(0.5)
    for pid in Path("tasks").read_text().split():
        os.kill(int(pid), signal.SIGTERM)
    code, _, error = finish(first, 60)
    assert code == 143, error
    assert Path("requeued").read_text() == "requeue 17\n"
    stopped = made(last)
    assert stopped > 0
    code, _, error = finish(job("--max_steps", str(stopped + 20)))
    assert code == 0, error
    assert made(last) == stopped + 20
    assert [path.name for path in Path("runs/17/lightning_logs").iterdir()] == ["version_0"]
    tally(record_property, "SLURM's preemption of two tasks", 1, 1, "nothing; exit code 143, and back in the queue")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 1 MB."""
    folder = tmp_path / "small disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"needs the right to mount a file system: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("left", [0.5, 0.01], ids=["half a checkpoint is free", "nothing is free"])
def test_a_full_disk(left: float, small_disk: Path, record_property: Record) -> None:
    args = [*DIGITS, "--max_steps", "40", "--image_grid.rows", "1", "--image_grid.columns", "1"]
    assert run(*args, "--default_root_dir", str(small_disk))[0] == 0
    whole = (small_disk / LAST).read_bytes()
    fill = small_disk / "photos of a holiday"
    disk = os.statvfs(small_disk)
    fill.write_bytes(bytes(disk.f_bavail * disk.f_frsize - int(left * len(whole))))
    code, _, error = run("--ckpt_path", "last", "--max_steps", "80", "--default_root_dir", str(small_disk))
    assert code == 2, error
    error_line(error, "train: error: ", small_disk, "No space left on device", *(["last.ckpt"] if left == 0.5 else []))
    assert (small_disk / RUN / "config.yaml").is_file()
    assert (small_disk / LAST).read_bytes() == whole
    assert made(small_disk / LAST) == 40
    fill.unlink()
    assert run("--ckpt_path", "last", "--max_steps", "80", "--default_root_dir", str(small_disk))[0] == 0
    assert made(small_disk / LAST) == 80
    tally(record_property, "a full disk", 1, 1, "nothing that was saved")
