"""The sample command, as users type it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

import gan_lightning
from gan_lightning.commands.verbs import Verb
from gan_lightning.pictures import grid
from tests.commands.checkpoints import write_checkpoint
from tests.faults.runs import finish, start, start_program, wait_for
from tests.helpers import refusal

main = Verb.sample.main

SCRIPT = Path(__file__).parents[2] / "scripts" / "sample.py"


def array(args: Sequence[str], output: str = "samples.npz") -> Tensor:
    """Read the images that the command draws."""
    assert main([*args, "--output", output]) == 0
    with numpy.load(output) as archive:
        assert archive.files == ["images"]
        images = torch.from_numpy(archive["images"])
    Path(output).unlink()
    return images


def folder(path: str) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in Path(path).iterdir()}


def test_a_grid_an_array_and_a_folder_hold_the_same_images(labelled: str, capsys: pytest.CaptureFixture[str]) -> None:
    args = [labelled, "--num_images", "11", "--seed", "4"]
    drawn = gan_lightning.load(labelled).sample(11, seed=4)
    assert torch.equal(array(args), drawn)
    assert main([*args, "--output", "new/samples.png"]) == 0
    assert main([*args, "--output", "samples/"]) == 0
    printed = capsys.readouterr().out
    assert "11 images in a grid: new/samples.png" in printed
    assert "11 images as PNG: samples" in printed
    with Image.open("new/samples.png") as picture:
        assert torch.equal(pil_to_tensor(picture), grid(drawn, 3))  # a column for each class
    names = sorted(folder("samples"))
    assert names == [*(f"{i:06d}.png" for i in range(11)), "sample.json"]
    for name, image in zip(names, drawn, strict=False):
        with Image.open(Path("samples", name)) as picture:
            assert torch.equal(pil_to_tensor(picture), image)
    assert main([*args, "--output", "wide.png", "--columns", "11"]) == 0
    with Image.open("wide.png") as picture:
        assert torch.equal(pil_to_tensor(picture), grid(drawn, 11))


def test_the_script_in_its_own_process(plain: str) -> None:
    code, printed, error = finish(start_program([sys.executable, str(SCRIPT)], plain, "--num_images", "5"))
    assert code == 0, error
    assert printed == "  5 images in a grid: samples.png\n"
    with Image.open("samples.png") as picture:
        assert torch.equal(pil_to_tensor(picture), grid(gan_lightning.load(plain).sample(5), 3))


def test_seed_class_and_truncation_change_the_images(plain: str, labelled: str) -> None:
    args = [labelled, "--num_images", "20"]
    first = array(args)
    assert torch.equal(array(args), first)
    for batch_size in ("1", "7", "1000"):
        assert (array([*args, "--batch_size", batch_size]).int() - first.int()).abs().max() <= 1
    for other in (["--seed", "1"], ["--raw"], ["--class", "2"], ["--truncation", "0.5"]):
        assert (array([*args, *other]).int() - first.int()).abs().float().mean() > 5, other  # 30 to 113
    assert torch.equal(array([*args, "--class", "0,1,2"]), first)  # every class in turn
    in_turn = gan_lightning.load(labelled).sample(20, [2, 0] * 10)
    assert torch.equal(array([*args, "--class", "2,0"]), in_turn)
    assert torch.equal(array([plain, "--num_images", "3", "--raw"]), gan_lightning.load(plain, raw=True).sample(3))


def test_an_interrupted_folder_is_resumed(plain: str, capsys: pytest.CaptureFixture[str]) -> None:
    args = [plain, "--num_images", "30", "--batch_size", "8", "--output"]
    assert main([*args, "whole"]) == 0
    assert main([*args, "part"]) == 0
    times = {name: Path("part", name).stat().st_mtime_ns for name in folder("part")}
    for number in (3, 8, 9, 10):
        Path("part", f"{number:06d}.png").unlink()
    Path("part", "000015.png").write_bytes(b"")  # as a power failure may leave them
    Path("part", "000029.png").write_bytes(Path("part", "000029.png").read_bytes()[:-20])
    Path("part", ".000003.png.1234abcd.part.png").write_bytes(b"cut")
    capsys.readouterr()
    assert main([*args, "part"]) == 0
    assert "30 images as PNG, 24 of them from an earlier call: part" in capsys.readouterr().out
    assert folder("part") == folder("whole")
    kept = [name for name in times if Path("part", name).stat().st_mtime_ns == times[name]]
    assert len(kept) == 25  # with sample.json
    assert main([plain, "--num_images", "40", "--batch_size", "8", "--output", "part"]) == 0
    assert len(folder("part")) == 41


def test_a_killed_command_resumes_to_the_same_files(plain: str) -> None:
    args = [plain, "--num_images", "1500", "--batch_size", "40", "--output"]
    running = start(*args, "part", verb=Verb.sample)
    assert wait_for(lambda: Path("part", "000100.png").exists(), running, every=0.002)
    os.killpg(running.pid, signal.SIGKILL)
    finish(running)
    assert running.returncode == -signal.SIGKILL
    there = len(list(Path("part").glob("[0-9]*.png")))
    assert 100 < there < 1500  # a few hundred
    assert main([*args, "part"]) == 0
    assert main([*args, "whole"]) == 0
    assert folder("part") == folder("whole")


MEMORY = """
import re, sys
from pathlib import Path
import gan_lightning
from gan_lightning.commands.verbs import Verb

def measure(draw):
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    drawn = draw()
    print("peak", re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
for count in (50, 2000, 20000):
    measure(lambda: Verb.sample.main([sys.argv[1], "--num_images", str(count), "--output", sys.argv[2].format(count)]))
measure(lambda: gan_lightning.load(sys.argv[1]).sample(20000))
"""


@pytest.mark.parametrize("output", ["{}.npz", pytest.param("{}", marks=pytest.mark.slow)])
def test_memory_does_not_grow_with_the_number_of_images(output: str, tmp_path: Path) -> None:
    """20,000 images are 59 MiB. The peaks were 717 and 716 MiB, and 981 MiB with all images in memory."""
    path = write_checkpoint(tmp_path / "last.ckpt", (3, 32, 32))
    done = subprocess.run([sys.executable, "-c", MEMORY, str(path), output], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    _, small, large, held = (int(line.split()[1]) / 1024 for line in done.stdout.splitlines() if line.startswith("peak"))
    assert large - small < 10  # MiB
    assert held - small > 50


def test_existing_files_are_never_overwritten(plain: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.png").write_bytes(b"mine")
    Path("photos").mkdir()
    Path("photos", "cat.png").write_bytes(b"mine too")
    Path("photos", ".cat.png.part").write_bytes(b"of another program")
    Path("file").write_bytes(b"also mine")
    for output in ("a.png", "photos", "a.png/samples", "file"):
        refusal(main, [plain, "--output", output], capsys, f"--output {output} ")
    assert (Path("a.png").read_bytes(), Path("file").read_bytes()) == (b"mine", b"also mine")
    assert folder("photos") == {"cat.png": b"mine too", ".cat.png.part": b"of another program"}


def test_a_folder_with_other_settings_is_refused(plain: str, labelled: str, capsys: pytest.CaptureFixture[str]) -> None:
    args = [labelled, "--num_images", "4", "--output", "samples"]
    assert main(args) == 0
    before = folder("samples")
    for other, what in (
        (["--seed", "1"], "seed"),
        (["--class", "1"], "class"),
        (["--truncation", "0.7"], "truncation"),
        (["--batch_size", "2"], "batch_size"),
        (["--raw"], "weights"),
        (["--raw", "--seed", "2"], "weights and seed"),
    ):
        refusal(main, [*args, *other], capsys, "--output samples", f"other {what}:")
    refusal(main, [plain, *args[1:]], capsys, "--output samples", "weights")
    assert folder("samples") == before
    for damaged in ("{", "[]", json.dumps({"seed": 0})):
        Path("samples", "sample.json").write_text(damaged)
        refusal(main, args, capsys, "--output samples")


def test_unknown_labels_are_refused(plain: str, labelled: str, capsys: pytest.CaptureFixture[str]) -> None:
    refusal(main, [labelled, "--class", "3"], capsys, "--class 3", "0 to 2")
    refusal(main, [plain, "--class", "3"], capsys, "--class 3", "unconditional")
    assert not list(Path().iterdir())


def test_a_full_disk_is_one_line(plain: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gan_lightning.commands.sample.run.write_png", full)
    for output in ("samples", "samples.png"):
        refusal(main, [plain, "--output", output], capsys, f"--output {output} ", "No space left on device")


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_refused(plain: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("gpu", "cuda", "mps"):
        refusal(main, [plain, "--accelerator", name], capsys, f"--accelerator {name} ", "--accelerator cpu")
