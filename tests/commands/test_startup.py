"""Flags: help and refusals are immediate, because they do not import torch."""

import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gan_lightning import data
from gan_lightning.commands.common.arguments import arrange
from gan_lightning.commands.common.measuring_flags import DATA_SETS, data_flags, parse_flags
from gan_lightning.commands.common.real_images import make_data
from gan_lightning.commands.train.cli import SECTIONS, trainer_arguments
from gan_lightning.commands.verbs import Verb
from gan_lightning.data import Digits
from tests.helpers import error_line, refusal

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts"
BY_NAME = {
    "evaluate": "",
    "sample": "",
    "interpolate": "",
    "invert": "b.npz",
    "translate": "b.npz",
    "export": "",
    "playground": "",
}
"""The commands that take the name of a generator, each with what else it needs."""
PROGRAM = """
import contextlib, io, json, runpy, sys
script, *lines = sys.argv[1:]
for line in lines:
    sys.argv = [script, *line.split()]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as error:
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as end:
            code = end.code
    print(json.dumps([code, out.getvalue(), error.getvalue()]))
print(*sorted({"torch", "torchvision", "torchmetrics", "lightning"} & set(sys.modules)))
"""
"""Runs a script with each command line in turn, and prints the heavy packages that were imported."""


def test_the_table_of_commands_is_complete() -> None:
    """Each row has a folder, a script and an entry point; there are no others."""
    folders = {path.parent.name for path in (ROOT / "gan_lightning" / "commands").glob("*/cli.py")}
    assert folders == {path.parent.name for path in (ROOT / "gan_lightning" / "commands").glob("*/run.py")}
    assert folders == {verb.name for verb in Verb}
    for verb in Verb:
        assert f"sys.exit(Verb.{verb.name}.main())" in (SCRIPTS / f"{verb.name}.py").read_text()
    assert {path.stem for path in SCRIPTS.glob("*.py") if "Verb" in path.read_text()} == folders
    entry_points = re.findall(r'^(gan-lightning-\S+) = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert dict(entry_points) == {
        f"gan-lightning-{verb.name.replace('_', '-')}": f"gan_lightning.commands.verbs:Verb.{verb.name}.main" for verb in Verb
    }


@pytest.mark.parametrize("verb", Verb, ids=lambda verb: str(verb.name))
def test_help_and_misspelt_flags_without_torch(verb: Verb) -> None:
    """Run the script of each command, in one process for each."""
    bad = {"--outputs x": "--outputs"}
    if verb is Verb.train:
        bad |= {"--max_step 3": "--max_steps", "--trainer.max_step 3": "--trainer.max_steps"}
        bad |= {"--config mlp_mnits": "mlp_mnist", "--config nowhere.yaml": "nowhere.yaml"}
    asked = [] if verb is Verb.train else ["--help"]  # the help of training names all classes
    command = [sys.executable, "-c", PROGRAM, str(SCRIPTS / f"{verb.name}.py"), *bad, *asked]
    *answers, imported = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True).stdout.splitlines()
    assert imported == ""
    for part, answer in zip(bad.values(), answers[: len(bad)], strict=True):
        code, out, error = json.loads(answer)
        assert (code, out) == (2, "")
        assert error == f"{error_line(error, f'{verb.name}: error: ', part)}\n"
    for answer in answers[len(bad) :]:
        code, help_text, error = json.loads(answer)
        assert (code, error) == (0, "")
        assert help_text.startswith(f"usage: {verb.name} ")
        flags = {word for word in help_text.split() if word.startswith("--")}
        assert not flags & {"--device", "--weights"}  # old names
        assert "--output" in flags or verb is Verb.playground
        assert "--accelerator" in flags or verb is Verb.export


def test_an_unknown_class_of_a_bundled_generator_is_refused_without_torch() -> None:
    lines = ["cgan_mnist --class nobody", "cgan_mnist --class 10", "digits --class ten", "cgan_mnist --seed x"]
    result = subprocess.run([sys.executable, "-c", PROGRAM, str(SCRIPTS / "sample.py"), *lines], capture_output=True, text=True)
    *answers, imported = result.stdout.splitlines()
    assert imported == ""
    for line, answer in zip(lines, answers, strict=True):
        code, _, errors = json.loads(answer)
        assert code == 2
        error_line(errors, *line.split()[1:])


@pytest.mark.parametrize("library", ["jsonargparse", "yaml", "torch"])
def test_ctrl_c_while_a_library_is_imported(library: str, tmp_path: Path) -> None:
    """No import of a library happens before the command can answer Ctrl-C."""
    (tmp_path / f"{library}.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nimport time\ntime.sleep(9)"
    )
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    script = [sys.executable, str(SCRIPTS / "sample.py"), "digits"]
    result = subprocess.run(script, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths})
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "sample: interrupted\n")


def test_the_flags_of_training_are_those_of_its_parser() -> None:
    """The list is read from the source of Lightning's Trainer."""
    dests = [action.dest.split(".") for action in Verb.train.make_parser()._actions]
    assert {dest[1] for dest in dests if dest[0] == "trainer" and dest[1:]} == set(trainer_arguments())
    assert set(SECTIONS) <= {dest[0] for dest in dests}
    assert {dest[0] for dest in dests if dest[1:]} <= set(SECTIONS)


@pytest.mark.parametrize(
    ("verb", "args", "part"),
    [
        *((verb.name, "--output", "--output") for verb in Verb if verb not in (Verb.train, Verb.playground)),
        ("evaluate", "", "source"),
        ("evaluate", ". --num_images abc", "--num_images: 'abc'"),
        ("evaluate", ". --dat MNIST", "--data"),
        ("evaluate", ". --data.batch_size 5 x", "'x'"),
        ("evaluate", ". --batch_size 0", "--batch_size: '0'"),
        ("evaluate", ". --num_real 0", "--num_real: '0'"),
        ("evaluate", ". --image_size 0", "--image_size: '0'"),
        ("evaluate", ". --num_images 0", "--num_images: '0'"),
        ("evaluate", ". --seed 4294967296", "--seed: '4294967296'"),
        ("evaluate", ". --split validation", "--split: 'validation'"),
        ("evaluate", ". --metrics fdi", "fdi"),
        ("evaluate", ". --metrics kid --num_images 5", "num_images is 5"),
        ("evaluate", ". --metrics kid --reference a.npz", "kid"),
        ("evaluate", ". --real a --data MNIST --data.root b", "--real a and --data MNIST"),
        ("evaluate", ". --real a --reference b.npz", "--real a and --reference b.npz"),
        ("evaluate", "digits --reference b.npz --split test", "--split test"),
        ("evaluate", "nowhere.ckpt", "nowhere.ckpt"),
        ("evaluate", ". --trust a.b", "--trust a.b"),
        ("evaluate", ". --device cpu", "--accelerator"),
        ("evaluate", ". --accelerator tpu", "--accelerator: 'tpu'"),
        ("evaluate", ". --weights w.pth", "--inception_weights"),
        *((verb, f"digit {file}", "digits") for verb, file in BY_NAME.items()),
        ("sample", "", "checkpoint"),
        ("sample", "nowhere.ckpt", "nowhere.ckpt"),
        ("sample", ". --num_images 0", "--num_images: '0'"),
        ("sample", ". --batch_size -1", "--batch_size: '-1'"),
        ("sample", ". --columns 0", "--columns: '0'"),
        ("sample", ". --seed -1", "--seed: '-1'"),
        ("sample", ". --truncation 0", "--truncation: '0'"),
        ("sample", ". --truncation nan", "--truncation: 'nan'"),
        ("sample", ". --output b.npz", "--output b.npz"),
        ("sample", ". --output b.jpg", "--output b.jpg"),
        ("sample", ". --output b.PNG", "--output b.PNG"),
        ("sample", ". --device cuda", "--accelerator"),
        ("interpolate", ". --seeds 1,x", "--seeds 1,x"),
        ("interpolate", ". --frames 0", "--frames: '0'"),
        ("interpolate", ". --neighbours -1", "--neighbours: '-1'"),
        ("interpolate", ". --output walk.avi", "--output walk.avi"),
        ("interpolate", ". --neighbours 3 --output walk.gif", "--output walk.gif"),
        ("interpolate", ". --data MNIST", "--data"),
        ("interpolate", ". --neighbours 3 --real a --split test", "--split test"),
        ("interpolate", ". --neighbours 3 --real a --data MNIST", "--real a and --data MNIST"),
        ("interpolate", ". --neighbours 3 --num_real 0", "--num_real: '0'"),
        ("invert", ".", "image"),
        ("invert", ". a.png", "a.png"),
        ("invert", ". b.npz --hole 1,2,3", "--hole 1,2,3"),
        ("invert", ". b.npz --hole 1,2,3,0", "--hole 1,2,3,0"),
        ("invert", ". b.npz --hole 1,2,3,4 --mask b.npz", "--mask and --hole"),
        ("invert", ". b.npz --super_resolution 1", "--super_resolution: '1'"),
        ("invert", ". b.npz --restarts 0", "--restarts: '0'"),
        ("invert", ". b.npz --steps 0", "--steps: '0'"),
        ("invert", ". b.npz --output b.gif", "--output b.gif"),
        ("invert", ". b.npz --save_latent b.npz", "--save_latent b.npz"),
        ("compute_reference", "", "--data"),
        ("compute_reference", "--real a --num_real one", "--num_real: 'one'"),
        ("compute_reference", "--data MNIST --output a.pt", "--output a.pt"),
        ("compute_reference", "--real a --split test", "--split test"),
        ("compute_reference", "--real a --data MNIST", "--real a and --data MNIST"),
        ("compute_reference", "--real a --output b.npz/c.npz", "--output b.npz/c.npz"),
        ("export", "", "checkpoint"),
        ("export", "nowhere.ckpt", "nowhere.ckpt"),
        ("export", ". --truncation 0.7", "--truncation"),
        ("export", ". --formats onxx", "onxx"),
        ("export", "b.npz --output b.npz", "--output b.npz"),
        ("export", ". --picture false", "--no_picture"),
        ("compare", "--recipes dcgan_mnits", "dcgan_mnist"),
        ("compare", "--vary all", "--vary: 'all'"),
        ("compare", "--seeds one", "--seeds one"),
        ("compare", "--max_steps -1", "--max_steps: '-1'"),
        ("compare", "--metrics is", "fid"),
        ("compare", "--metrics fid,foo", "foo"),
        ("compare", "--num_images 1", "num_images is 1"),
        ("playground", "", "checkpoint"),
        ("playground", "nowhere.ckpt", "nowhere.ckpt"),
        ("playground", ". --port 65536", "--port: '65536'"),
        ("playground", ". --port http", "--port: 'http'"),
        ("playground", ". --host 192.0.2.1", "--host 192.0.2.1"),
        ("playground", ". --host a..b", "--host a..b"),
        ("train", "--metrics.weights w.pth", "--metrics.inception_weights"),
        ("train", "--image_grid.seed 1", "--image_grid.seed"),
        ("train", "--health.seed 1", "--health.seed"),
        ("train", "--seed_everything -1", "--seed_everything: '-1'"),
    ],
)
def test_bad_flags(verb: str, args: str, part: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("b.npz").touch()
    assert Verb[verb].main(args.split()) == 2
    out, error = capsys.readouterr()
    assert (out, error) == ("", f"{error_line(error, f'{verb}: error: ', part)}\n")


@pytest.mark.parametrize("verb", ["compare", "interpolate", "sample", "invert", "export", "playground"])
def test_several_processes_are_refused(verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    Path("b.npz").touch()
    args = {"compare": [], "invert": [".", "b.npz"]}.get(verb, ["."])
    refusal(Verb[verb].main, args, capsys, "WORLD_SIZE is 2", "torchrun")


@pytest.mark.parametrize(
    ("ranks", "prints"),
    [
        ({"RANK": "0", "LOCAL_RANK": "1", "SLURM_PROCID": "1"}, True),
        ({"RANK": "1", "LOCAL_RANK": "0"}, False),
        ({"LOCAL_RANK": "1", "SLURM_PROCID": "0"}, False),
        ({"SLURM_PROCID": "3"}, False),
    ],
)
def test_only_the_first_process_prints(
    ranks: dict[str, str], prints: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The ranks of torchrun, Lightning and SLURM count, in Lightning's order."""
    for name, rank in ranks.items():
        monkeypatch.setenv(name, rank)
    assert Verb.compare.main(["--seeds", "one"]) == 2
    assert ("--seeds one" in capsys.readouterr().err) == prints


def test_the_flags_of_the_data_are_parsed_separately() -> None:
    """They may have any position, and anything may follow their values."""
    for words in (
        "last.ckpt --seed 3 --data Digits --data.batch_size 5",
        "--data.batch_size 5 last.ckpt --data Digits --seed 3",
        "--data.batch_size=5 last.ckpt --seed 3 --data=Digits",
        "--seed 3 --data Digits last.ckpt --data.init_args.batch_size 5",
    ):
        groups = arrange(words.split())
        config = parse_flags(Verb.evaluate.make_parser(), groups)
        assert (config.source, config.seed, config.data) == ("last.ckpt", 3, "Digits")
        made = make_data(groups)
        assert isinstance(made, Digits)
        assert made.batch_size == 5
    assert data_flags(arrange(["last.ckpt", "--seed", "3"])) == []
    assert make_data([]) is None


@pytest.mark.parametrize("verb", [Verb.evaluate, Verb.compute_reference])
def test_the_help_of_data(verb: Verb, capsys: pytest.CaptureFixture[str]) -> None:
    """The help lists the bundled classes, and explains each."""
    classes = [getattr(data, name) for name in data.__all__ if inspect.isclass(getattr(data, name))]
    sets = {cls.__name__ for cls in classes if issubclass(cls, data.ImageDataModule) and not inspect.isabstract(cls)}
    assert set(DATA_SETS) == sets
    for words in (["--data.help", "Digits"], ["--data.help=Digits"]):
        with pytest.raises(SystemExit, match="0"):
            verb.main(words)
        assert "--data.batch_size BATCH_SIZE" in capsys.readouterr().out
    refusal(verb.main, ["--data.help", "Digit"], capsys, "Digit")
