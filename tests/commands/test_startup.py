"""What the flags alone decide is answered at once: the help, and refusals, without the seconds that torch takes to import."""

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gan_lightning import data
from gan_lightning.commands import compute_reference, evaluate
from gan_lightning.commands.arguments import arrange
from gan_lightning.commands.measuring_flags import DATA_SETS, data_flags, parse_flags
from gan_lightning.commands.real_images import make_data
from gan_lightning.data import Digits

SCRIPTS = Path(__file__).parents[2] / "scripts"
COMMANDS = {
    "evaluate": "--output",
    "compute_reference": "--output",
    "compare": "--output",
    "sample": "--output",
    "interpolate": "--output",
    "invert": "--output",
    "export": "--output",
    "playground": "--port",
}
"""All but train, each with one of its flags: they are read without torch."""
BY_NAME = {"evaluate": "", "sample": "", "interpolate": "", "invert": "b.npz", "export": "", "playground": ""}
"""The commands that take the name of a generator, each with what else it needs."""
PROGRAM = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print("imported:", *sorted({"torch", "torchvision", "torchmetrics", "lightning"} & set(sys.modules)))
"""


def answer(command: str, *args: str, **environment: str) -> tuple[int, str, str]:
    """The exit code of a script, what it prints and what it says of errors; it has imported nothing heavy."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(SCRIPTS / f"{command}.py"), *args],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, **environment},
    )
    *lines, imported = done.stdout.splitlines()
    assert imported == "imported:", done.stderr
    return done.returncode, "\n".join(lines), done.stderr


@pytest.mark.parametrize(("command", "flag"), COMMANDS.items())
def test_help(command: str, flag: str) -> None:
    code, help_text, error = answer(command, "--help")
    assert (code, error) == (0, "")
    assert help_text.startswith(f"usage: {command} ")
    assert f"{flag} {flag.removeprefix('--').upper()}" in help_text


@pytest.mark.parametrize(
    ("command", "args", "part"),
    [
        *((command, f"{flag}s x", f"there is no flag {flag}s; did you mean {flag}?") for command, flag in COMMANDS.items()),
        *((command, flag, f"argument {flag}: expected one argument") for command, flag in COMMANDS.items()),
        ("evaluate", "", "source is missing: name it"),
        ("evaluate", ". --num_images abc", "--num_images: 'abc' is not a whole number"),
        ("evaluate", ". --dat MNIST", "there is no flag --dat; did you mean --data?"),
        ("evaluate", ". --data.batch_size 5 x", "'x' is no flag, and no value of the one before it"),
        ("evaluate", ". --batch_size 0", "--batch_size 0: give at least 1"),
        ("evaluate", ". --split validation", "--split: 'validation' is not one of train, test"),
        ("evaluate", ". --metrics fdi", "metrics has 'fdi': there are fid, is, kid, prdc, modes"),
        ("evaluate", ". --metrics kid --num_images 500", "num_images is 500: kid needs at least 1,000"),
        ("evaluate", ". --metrics kid --reference a.npz", "kid needs the real images"),
        ("evaluate", ". --real a --data MNIST --data.root b", "--real a and --data MNIST: give one of them"),
        ("evaluate", "nowhere.ckpt", "nowhere.ckpt: no such file or folder"),
        ("evaluate", ". --trust a.b", "--trust a.b: give the names of top-level modules"),
        *(
            (command, f"digit {file}", "digit: no such file or folder; did you mean digits?")
            for command, file in BY_NAME.items()
        ),
        ("sample", "", "checkpoint is missing: name it"),
        ("sample", "nowhere.ckpt", "nowhere.ckpt: no such file"),
        ("sample", ". --num_images 0", "--num_images 0: give at least 1"),
        ("sample", ". --columns 0", "--columns 0: give at least 1"),
        ("sample", ". --seed -1", "--seed -1: give at least 0"),
        ("sample", ". --truncation 0", "--truncation 0.0: give a number above 0"),
        ("sample", ". --class 1,-2", "--class 1,-2: give whole numbers of at least 0"),
        ("sample", ". --output b.npz", "--output b.npz: it is there already, and nothing is overwritten"),
        ("sample", ". --output b.jpg", "--output b.jpg: give the name of a .png, an .npz, or a folder"),
        ("sample", ". --output b.PNG", "--output b.PNG: give the name of a .png, an .npz, or a folder"),
        ("interpolate", ". --seeds 1,x", "--seeds 1,x: give whole numbers of at least 0"),
        ("interpolate", ". --frames 0", "--frames 0: give at least 1"),
        ("interpolate", ". --output walk.avi", "--output walk.avi: the name must end in .png, .gif or .mp4"),
        ("interpolate", ". --neighbours 3 --output walk.gif", "--output walk.gif: neighbours are shown in a .png"),
        ("interpolate", ". --data MNIST", "--data: only with --neighbours"),
        ("interpolate", ". --neighbours 3 --real a --split test", "--split test: only --data has splits"),
        ("interpolate", ". --neighbours 3 --real a --data MNIST", "--real a and --data MNIST: give one"),
        ("interpolate", ". --neighbours 3 --num_real 0", "--num_real 0: give at least 1"),
        ("invert", ".", "image is missing: name it"),
        ("invert", ". a.png", "a.png: no such file; name an image"),
        ("invert", ". b.npz --hole 1,2,3", "--hole 1,2,3: give TOP,LEFT,HEIGHT,WIDTH in pixels"),
        ("invert", ". b.npz --hole 1,2,3,0", "--hole 1,2,3,0: give TOP,LEFT,HEIGHT,WIDTH in pixels"),
        ("invert", ". b.npz --hole 1,2,3,4 --mask b.npz", "--mask and --hole: give one of them"),
        ("invert", ". b.npz --super_resolution 1", "--super_resolution 1: give at least 2"),
        ("invert", ". b.npz --restarts 0", "--restarts 0: give at least 1"),
        ("invert", ". b.npz --output b.gif", "--output b.gif: the name must end in .png"),
        ("invert", ". b.npz --save_latent b.npz", "--save_latent b.npz: it is there already"),
        ("compute_reference", "", "name the real images, by one of --data and --real"),
        ("compute_reference", "--real a --num_real one", "--num_real: 'one' is not a whole number"),
        ("compute_reference", "--data MNIST --output a.pt", "--output a.pt: the name must end in .npz"),
        ("compute_reference", "--real a --split test", "--split test: only --data has splits"),
        ("compute_reference", "--real a --output b.npz/c.npz", "--output b.npz/c.npz: cannot be written there"),
        ("export", "", "checkpoint is missing: name it"),
        ("export", "nowhere.ckpt", "nowhere.ckpt: no such file"),
        ("export", ". --truncation 0.7", "there is no flag --truncation"),
        ("export", ". --formats onxx", "--formats has 'onxx': there are safetensors, torch, onnx"),
        ("export", "b.npz --output b.npz", "--output b.npz: it is there already"),
        ("compare", "--recipes dcgan_mnits", "no such recipe; did you mean dcgan_mnist?"),
        ("compare", "--vary all", "--vary: 'all' is not one of nothing, losses_and_penalties, product"),
        ("compare", "--seeds one", "--seeds one: give whole numbers"),
        ("compare", "--max_steps -1", "--max_steps -1: give a number of updates"),
        ("compare", "--metrics is", "sorted by fid, which must be among them"),
        ("compare", "--metrics fid,foo", "metrics has 'foo'"),
        ("compare", "--num_images 1", "num_images is 1: fid needs at least 2"),
        ("playground", "", "checkpoint is missing: name it"),
        ("playground", "nowhere.ckpt", "nowhere.ckpt: no such file"),
        ("playground", ". --port 65536", "--port 65536: give a number from 0 to 65535"),
        ("playground", ". --port http", "--port: 'http' is not a whole number"),
        ("playground", ". --host 192.0.2.1", "--host 192.0.2.1 --port 7860: no page can be there"),
        ("playground", ". --host a..b", "--host a..b --port 7860: no page can be there"),
    ],
)
def test_bad_flags(command: str, args: str, part: str) -> None:
    Path("b.npz").touch()
    code, said, error = answer(command, *args.split())
    assert (code, said) == (2, "")
    (line,) = error.splitlines()
    assert line.startswith(f"{command}: error: ")
    assert part in line


def test_of_several_processes_the_first_one_speaks() -> None:
    """By the numbers that torchrun, Lightning and SLURM give them, in Lightning's order."""
    assert "--seeds one" in answer("compare", "--seeds", "one", RANK="0", LOCAL_RANK="1", SLURM_PROCID="1")[2]
    for environment in ({"RANK": "1", "LOCAL_RANK": "0"}, {"LOCAL_RANK": "1", "SLURM_PROCID": "0"}, {"SLURM_PROCID": "3"}):
        assert answer("compare", "--seeds", "one", **environment) == (2, "", "")


def test_the_arguments_of_the_data_are_parsed_apart() -> None:
    """Wherever they stand, and whatever stands behind their values."""
    for words in (
        "last.ckpt --seed 3 --data Digits --data.batch_size 5",
        "--data.batch_size 5 last.ckpt --data Digits --seed 3",
        "--data.batch_size=5 last.ckpt --seed 3 --data=Digits",
        "--seed 3 --data Digits last.ckpt --data.init_args.batch_size 5",
    ):
        groups = arrange(words.split())
        config = parse_flags(evaluate.make_parser(), groups)
        assert (config.source, config.seed, config.data) == ("last.ckpt", 3, "Digits")
        made = make_data(groups)
        assert isinstance(made, Digits)
        assert made.batch_size == 5
    assert data_flags(arrange(["last.ckpt", "--seed", "3"])) == []
    assert make_data([]) is None


@pytest.mark.parametrize("main", [evaluate.main, compute_reference.main])
def test_the_help_of_data(main: object, capsys: pytest.CaptureFixture[str]) -> None:
    """The classes that ship are named, and each is explained."""
    classes = {name for name in data.__all__ if inspect.isclass(getattr(data, name))} - {"ImageDataModule"}
    assert set(DATA_SETS) == classes
    assert callable(main)
    for words in (["--data.help", "Digits"], ["--data.help=Digits"]):
        with pytest.raises(SystemExit, match="0"):
            main(words)
        assert "--data.batch_size BATCH_SIZE" in capsys.readouterr().out
    assert main(["--data.help", "Digit"]) == 2
    assert "Digit: there is no such class" in capsys.readouterr().err
