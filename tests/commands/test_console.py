"""Consoles that cannot print everything, or nothing: files are written first, and no command dies of a print."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TextIO, cast

import pytest
from torchvision.transforms.functional import to_pil_image

from gan_lightning import checkpoint
from gan_lightning.commands.common.console import Console, lasting_console
from gan_lightning.commands.common.exit_codes import run_command
from gan_lightning.commands.verbs import Verb
from gan_lightning.errors import InputError
from gan_lightning.files import load_arrays
from tests.helpers import error_line
from tests.metrics.extractors import images

SCRIPTS = Path(__file__).parents[2] / "scripts"
FOLDER = "\u65e5\u672c"  # in neither ASCII nor Windows' code page 1252
TINY = ["--real", FOLDER, "--extractor", "tests.metrics.extractors.Tiny"]
QUIET = [
    *("--config", "digits", "--accelerator", "cpu", "--enable_progress_bar", "false", "--enable_model_summary", "false"),
    *("--model.generator.hidden", "[8]", "--model.discriminator.hidden", "[8]", "--metrics.extractor", "none"),
    *("--logger", "false"),
]
CODES = ["cp1252", "ascii", "latin-1"]


@pytest.fixture
def last(small_checkpoint: bytes) -> str:
    Path("last.ckpt").write_bytes(small_checkpoint)
    return "last.ckpt"


@pytest.fixture
def folder() -> None:
    Path(FOLDER).mkdir()
    for number, image in enumerate(images(30, 0)):
        to_pil_image(image).save(Path(FOLDER, f"{number:02d}.png"))


@contextmanager
def closed_pipe() -> Iterator[TextIO]:
    """A stream that nobody reads any more, like that of ``| head -1`` after the first line."""
    read, write = os.pipe()
    os.close(read)
    stream = open(write, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    yield stream
    stream.close()  # raises if anything is left in the buffer


class Dying(io.StringIO):
    """A stream whose first write raises an error of no system."""

    def write(self, text: str) -> int:
        raise ZeroDivisionError(text)


@pytest.mark.parametrize("encoding", CODES)
@pytest.mark.parametrize(
    ("verb", "args", "written"),
    [
        (Verb.evaluate, [FOLDER, *TINY, "--metrics", "fid", "--output", "record.json"], "record.json"),
        (Verb.compute_reference, [*TINY, "--output", "reference.npz"], "reference.npz"),
        (Verb.sample, ["last.ckpt", "--num_images", "4", "--output", f"{FOLDER}.npz"], f"{FOLDER}.npz"),
        (Verb.invert, ["last.ckpt", f"{FOLDER}/00.png", "--steps", "2", "--output", f"{FOLDER}.png"], f"{FOLDER}.png"),
    ],
    ids=lambda value: str(value.name) if isinstance(value, Verb) else "",
)
def test_what_cannot_be_encoded_is_replaced(
    verb: Verb, args: Sequence[str], written: str, encoding: str, last: str, folder: None
) -> None:
    raw = io.BytesIO()
    with redirect_stdout(io.TextIOWrapper(raw, encoding)) as stream:
        assert verb.main(args) == 0
        stream.flush()
    assert Path(written).is_file()
    assert b"\\u65e5\\u672c" in raw.getvalue()


def test_training_into_a_folder_that_the_console_cannot_print() -> None:
    with redirect_stdout(io.TextIOWrapper(io.BytesIO(), "cp1252")):
        assert Verb.train.main([*QUIET, "--max_steps", "2", "--default_root_dir", FOLDER]) == 0
    path = Path(FOLDER, "lightning_logs/version_0/checkpoints/last.ckpt")
    assert checkpoint.load_gan(path)["global_step"] == 2


def test_file_names_that_are_not_unicode(last: str, capsys: pytest.CaptureFixture[str]) -> None:
    name = os.fsdecode(b"\xff")  # any byte may be in a file's name
    if sys.platform in ("win32", "darwin"):
        pytest.skip("this system refuses such names")
    with redirect_stdout(io.TextIOWrapper(io.BytesIO(), "utf-8")):
        assert Verb.sample.main([last, "--num_images", "1", "--output", f"{name}.png"]) == 0
    assert Path(f"{name}.png").is_file()
    assert Verb.train.main([*QUIET, "--max_steps", "2", "--default_root_dir", name]) == 2
    error_line(capsys.readouterr().err, "--default_root_dir")


def test_records_are_written_before_anything_is_printed(folder: None) -> None:
    for verb, args, path in (
        (Verb.evaluate, [FOLDER, *TINY, "--metrics", "fid"], "record.json"),
        (Verb.compute_reference, TINY, "reference.npz"),
    ):
        with redirect_stdout(Dying()), pytest.raises(ZeroDivisionError):
            verb.main([*args, "--output", path])
    assert "metrics" in json.loads(Path("record.json").read_text())
    assert load_arrays("reference.npz", ("mu", "sigma"))


@pytest.mark.parametrize("both", [False, True])
def test_training_outlives_its_console(both: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """``train.py | head -1``, ``train.py 2>&1 | head -1``, and a terminal that is gone."""
    with closed_pipe() as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        if both:
            patch.setattr(sys, "stderr", stream)
        bar = ["--enable_progress_bar", "true"] if both else []
        assert Verb.train.main([*QUIET, *bar, "--max_steps", "25", "--health.every_n_steps", "5"]) == 0
    assert checkpoint.load_gan("lightning_logs/version_0/checkpoints/last.ckpt")["global_step"] == 25


def test_measuring_into_a_closed_pipe(folder: None) -> None:
    with closed_pipe() as stream, redirect_stdout(stream):
        assert Verb.evaluate.main([FOLDER, *TINY, "--metrics", "fid", "--output", "record.json"]) == 0
    assert Path("record.json").is_file()


def test_without_standard_streams(folder: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closed by ``>&- 2>&-``, or a Windows program without a console."""
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", None)
        patch.setattr(sys, "stderr", None)
        assert Verb.evaluate.main([FOLDER, *TINY, "--metrics", "fid", "--output", "record.json"]) == 0
        assert Verb.evaluate.main(["nowhere"]) == 2
    assert Path("record.json").is_file()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_below_the_output_is_reported(folder: None, capsys: pytest.CaptureFixture[str]) -> None:
    with Path("/dev/full").open("w") as full:
        with redirect_stdout(full):
            assert Verb.evaluate.main([FOLDER, *TINY, "--metrics", "fid", "--output", "record.json"]) == 2
        full.flush()
    error_line(capsys.readouterr().err, "output")
    assert Path("record.json").is_file()


def test_a_refusal_that_nobody_reads() -> None:
    def refuse() -> None:
        raise InputError(f"{FOLDER} is wrong")

    with closed_pipe() as stream, lasting_console():
        sys.stderr = stream
        assert run_command("train", refuse) == 2


def test_a_stream_with_an_encoding_that_has_everything_is_unchanged() -> None:
    raw = io.BytesIO()
    stream = Console(io.TextIOWrapper(raw, "utf-8"))
    print(FOLDER, "±", file=cast(TextIO, stream), flush=True)
    assert raw.getvalue().decode() == f"{FOLDER} ±{os.linesep}"
    assert (stream.encoding, stream.error) == ("utf-8", None)


def as_typed(verb: Verb, args: Sequence[str], **environment: str) -> "subprocess.CompletedProcess[bytes]":
    command = [sys.executable, str(SCRIPTS / f"{verb.name}.py"), *args]
    path = os.pathsep.join([str(SCRIPTS.parent), os.environ.get("PYTHONPATH", "")])
    settings = {**os.environ, "PYTHONPATH": path, **environment}
    return subprocess.run(command, capture_output=True, timeout=200, check=False, env=settings)


def test_the_locale_c(folder: None) -> None:
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}  # without Python's own way around it
    done = as_typed(Verb.evaluate, [FOLDER, *TINY, "--metrics", "fid", "--output", "record.json"], **locale)
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False)
    assert FOLDER.encode() in done.stdout
    assert Path("record.json").is_file()


def test_a_refusal_on_windows_code_page() -> None:
    done = as_typed(Verb.evaluate, [FOLDER], PYTHONIOENCODING="cp1252")
    assert done.returncode == 2
    error_line(done.stderr.decode("cp1252"), "\\u65e5")


@pytest.mark.parametrize("verb", [Verb.evaluate, Verb.sample])
def test_help_into_a_closed_pipe(verb: Verb) -> None:
    with closed_pipe() as stream:
        command = [sys.executable, str(SCRIPTS / f"{verb.name}.py"), "--help"]
        done = subprocess.run(command, stdout=stream, stderr=subprocess.PIPE, timeout=100, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
