"""Users without a home folder or a name, as in a container with ``docker run -u 12345``."""

import getpass
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from gan_lightning.commands.verbs import Verb
from gan_lightning.data import MNIST
from gan_lightning.home import default_root, expanded, home, set_home_and_name
from tests.helpers import refusal, refuses

pwd = pytest.importorskip("pwd", reason="Windows has no such users")
ROOT = Path(__file__).parents[1]
VARIABLES = ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME", "GAN_LIGHTNING_DATA", "TORCH_HOME", "XDG_CACHE_HOME")
SMALL = ["--config", "digits", "--accelerator", "cpu", "--max_steps", "2"]


def _unknown(user: object) -> None:
    raise KeyError(user)


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this process that of a user who is not in the system's list of users."""
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # so that it is restored
        monkeypatch.delenv(name)
    monkeypatch.setattr(pwd, "getpwuid", _unknown)
    monkeypatch.setattr(pwd, "getpwnam", _unknown)


def test_the_default_folder_of_a_user_without_home(nobody: None) -> None:
    assert home() == Path("/")
    assert default_root() == Path("/.cache/gan_lightning/data")
    assert MNIST().root == default_root()


def test_a_tilde_in_the_variable_of_the_default_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No shell expands it in ``docker run -e`` or in a file of variables. Before, it made a folder with the name ~."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("GAN_LIGHTNING_DATA", "~/data")
    assert default_root() == tmp_path / "data"


def test_a_home_that_exists_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    monkeypatch.setenv("USER", "somebody")
    set_home_and_name()
    assert home() == Path("/somewhere")
    assert (os.environ["HOME"], os.environ["USER"]) == ("/somewhere", "somebody")


def test_other_libraries_find_a_home_and_a_name(nobody: None) -> None:
    set_home_and_name()
    assert Path(torch.hub.get_dir()).is_absolute()  # not a folder with the name ~ in the current one
    assert getpass.getuser() == f"user_{os.getuid()}"  # torch.compile calls it


def test_tildes_without_a_home(nobody: None) -> None:
    assert expanded("data") == Path("data")
    for path in ("~/data", "~nobody_of_this_name/data"):
        with refuses(path):
            expanded(path)


@pytest.mark.parametrize("flag", ["--data.root", "--default_root_dir"])
def test_tildes_of_unknown_users(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    refusal(Verb.train.main, [*SMALL, flag, "~nobody_of_this_name/x"], capsys, "~nobody_of_this_name/x")


def test_a_current_folder_that_is_removed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    Path("gone").mkdir()
    with monkeypatch.context() as patch:
        patch.chdir("gone")
        Path("../gone").rmdir()
        assert Verb.sample.main(["digits"]) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or os.geteuid() != 0 or shutil.which("setpriv") is None,
    reason="needs root and setpriv, to become another user",
)
def test_a_user_without_home_and_name_trains_and_is_refused_a_download() -> None:
    """Train as user 12345 with metrics. Their cache cannot be written anywhere, and MNIST cannot be downloaded."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES} | {"PYTHONPATH": str(ROOT)}
    code = f"""
import sys
from gan_lightning.metrics import classifier
from gan_lightning.commands.verbs import Verb
classifier.FEWEST_IMAGES_SEEN = 1
small = {SMALL} + ["--metrics.num_images", "60", "--enable_progress_bar", "false"]
print("codes", Verb.train.main(small), Verb.train.main([*small, "--config", "mlp_mnist"]))
"""
    become = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups"]
    may_read = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]  # Python may be in the home of root
    try:
        done = subprocess.run(
            [*become, *may_read, sys.executable, "-B", "-c", code],
            capture_output=True,
            text=True,
            timeout=250,
            check=False,
            cwd=folder,
            env=environment,
        )
        assert "Traceback" not in done.stderr
        assert "codes 0 2" in done.stdout
        assert (folder / "lightning_logs/version_0/checkpoints/last.ckpt").is_file()
        assert {path.name for path in folder.iterdir()} == {"lightning_logs"}
    finally:
        shutil.rmtree(folder)
