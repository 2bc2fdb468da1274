"""A generator as a folder, and the Hub's functions for it."""

import json
import os
import shutil
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import load_file, save_file

import gan_lightning
from gan_lightning import Sampler
from gan_lightning.exported import CONFIG, LARGEST_CONFIG, WEIGHTS, read_config
from gan_lightning.networks import DCGANGenerator, MLPGenerator
from tests.helpers import refuses, same_state

NO_LABELS: dict[str, Any] = {"class_names": [], "condition_names": [], "conditions": []}
FILES = {CONFIG, WEIGHTS, "README.md", "samples.png"}


@pytest.fixture
def sampler(small_checkpoint: bytes) -> Sampler:
    Path("last.ckpt").write_bytes(small_checkpoint)
    loaded: Sampler = gan_lightning.load("last.ckpt")
    return loaded


@pytest.fixture
def folder() -> Path:
    Sampler(MLPGenerator((1, 8, 8), latent_dim=4, hidden=[8])).save_pretrained("saved")
    return Path("saved")


def change(folder: Path, **entries: Any) -> None:
    path = folder / CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def test_a_folder_draws_what_the_checkpoint_draws(sampler: Sampler) -> None:
    sampler.save_pretrained(folder := Path("saved"))
    assert {path.name for path in folder.iterdir()} == FILES
    for again in (gan_lightning.load(folder), Sampler.from_pretrained(folder), Sampler.from_pretrained(str(folder))):
        assert same_state(again.generator, sampler.generator)
        assert torch.equal(again.sample(5, seed=3), sampler.sample(5, seed=3))
        origin = {
            "checkpoint": str(folder),
            "global_step": 8,
            "weights": "ema",
            **NO_LABELS,
            "recipe": None,
            "metrics": None,
        }
        assert again.origin == origin


def test_saving_a_loaded_folder_repeats_its_files(folder: Path) -> None:
    """Also if it is saved into the same folder."""
    change(folder, recipe={"data": "Digits"}, metrics={"values": {"fd": 1.5}, "protocol": {"num_images": 100}})
    (folder / "README.md").unlink()
    gan_lightning.load(folder).save_pretrained(folder)
    before = {name: (folder / name).read_bytes() for name in FILES}
    assert b"trained on Digits" in before["README.md"]
    assert b"| fd | 1.5 |" in before["README.md"]
    gan_lightning.load(folder).save_pretrained("again")
    assert {name: (Path("again") / name).read_bytes() for name in FILES} == before


def test_the_raw_weights_are_not_in_a_folder_of_the_average(sampler: Sampler) -> None:
    sampler.save_pretrained(folder := Path("averaged"))
    with refuses(folder):
        gan_lightning.load(folder, raw=True)
    raw = gan_lightning.load("last.ckpt", raw=True)
    raw.save_pretrained("raw")
    assert same_state(gan_lightning.load("raw", raw=True).generator, raw.generator)
    assert not same_state(gan_lightning.load("raw").generator, gan_lightning.load(folder).generator)


def test_a_generator_without_a_checkpoint() -> None:
    """Its weights may have any memory format."""
    generator = DCGANGenerator((1, 8, 8), 10, width=8, conditioning="batch_norm").to(memory_format=torch.channels_last)
    Sampler(generator).save_pretrained("saved")
    again = gan_lightning.load("saved")
    assert same_state(again.generator, generator)
    assert again.origin == {"checkpoint": "saved"} | dict.fromkeys(("global_step", "weights", "recipe", "metrics")) | NO_LABELS


def test_weights_in_half_precision_are_loaded_in_single() -> None:
    """Each is rounded once; other numbers, such as batch norm's counter, are unchanged."""
    generator = DCGANGenerator((1, 8, 8), 10, width=8, conditioning="batch_norm")
    counts = [name for name, value in generator.state_dict().items() if not value.is_floating_point()]
    generator.state_dict()[counts[0]].fill_(70_001)  # more than float16 can hold
    Path("half").mkdir()
    Sampler(generator).write(Path("half"), "float16", picture=False)
    stored, again = load_file("half/model.safetensors"), gan_lightning.load("half").generator.state_dict()
    assert {path.name for path in Path("half").iterdir()} == {CONFIG, WEIGHTS}
    for name, value in generator.state_dict().items():
        assert stored[name].dtype == (torch.float16 if value.is_floating_point() else value.dtype)
        assert again[name].dtype == value.dtype
        assert torch.equal(again[name], value.half().float() if value.is_floating_point() else value)
    gan_lightning.load("half").save_pretrained("single")
    assert same_state(gan_lightning.load("single").generator, gan_lightning.load("half").generator)
    assert [read_config(folder)["dtype"] for folder in ("half", "single")] == ["float16", "float32"]


def test_a_folder_without_dtype_is_float32(folder: Path) -> None:
    config = json.loads((folder / CONFIG).read_text())
    del config["dtype"]
    (folder / CONFIG).write_text(json.dumps(config))
    assert read_config(folder)["dtype"] == "float32"
    assert gan_lightning.load(folder).sample(2).shape == (2, 1, 8, 8)


# Files of unknown origin


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "JSON"),
        ("{", "JSON"),
        ("[" * 100_000, "JSON"),
        ("9" * 10_000, "JSON"),
        ("\udcff", "JSON"),
        ("[]", "format_version"),
        ("5", "format_version"),
        ('{"model_type": "bert"}', "format_version"),
        ('{"format_version": true}', "format_version"),
        ('{"format_version": 2}', "format 2"),
        ('{"format_version": 1}', "generator and weights_sha256"),
        (" " * LARGEST_CONFIG + "{}", "larger"),
    ],
)
def test_an_invalid_config_is_one_line(folder: Path, text: str, named: str) -> None:
    (folder / CONFIG).write_bytes(text.encode(errors="surrogateescape"))
    with refuses("saved/config.json", named):
        gan_lightning.load(folder)


NETWORK = "gan_lightning.networks.mlp.MLPGenerator"


@pytest.mark.parametrize(
    ("entries", "named"),
    [
        ({"generator": 5}, "generator"),
        ({"generator": {"class_path": NETWORK}}, "generator"),
        ({"weights_sha256": None}, "weights_sha256"),
        ({"weights_sha256": "0" * 64}, CONFIG),
        ({"global_step": "8"}, "global_step"),
        ({"global_step": 1e99}, "global_step"),
        ({"weights": ["ema"]}, "weights"),
        ({"dtype": "float8"}, "dtype"),
        ({"dtype": ["float16"]}, "dtype"),
        ({"recipe": "x", "metrics": []}, "recipe and metrics"),
        ({"generator": {"class_path": "os.system", "arguments": {}}}, "os.system"),
        ({"generator": {"class_path": "../x.Own", "arguments": {}}}, "../x.Own"),
        ({"generator": {"class_path": "tests.test_pretrained.Own", "arguments": {}}}, "trust=['tests']"),
        ({"generator": {"class_path": 5, "arguments": {}}}, "trusted"),
        ({"generator": {"class_path": "gan_lightning.networks.mlp.MLPDiscriminator", "arguments": [1]}}, "MLPDiscriminator"),
        ({"generator": {"class_path": NETWORK, "arguments": None}}, NETWORK),
        ({"generator": {"class_path": NETWORK, "arguments": {"image_shape": "wide"}}}, "image_shape is wide"),
        ({"generator": {"class_path": NETWORK, "arguments": {"image_shape": [1, 2**70, 8]}}}, NETWORK),
        # terabytes are refused before they are allocated
        ({"generator": {"class_path": NETWORK, "arguments": {"image_shape": [1, 8, 8], "hidden": [2**20] * 2}}}, "(1048576"),
        (
            {"generator": {"class_path": NETWORK, "arguments": {"image_shape": [1, 8, 8], "hidden": [8]}}},
            "layers.0.weight is (8, 4)",
        ),  # the default latent_dim is larger
    ],
)
def test_an_invented_config_is_one_line(folder: Path, entries: dict[str, Any], named: str) -> None:
    change(folder, **entries)
    with refuses(named):
        gan_lightning.load(folder)


def test_damaged_or_wrong_weights_are_refused(folder: Path) -> None:
    path = folder / WEIGHTS
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-3] ^= 4
    for content in (b"", whole[:-1], whole[:100], b"\xff" * 64, whole + b"0", bytes(flipped)):
        path.write_bytes(content)
        with refuses("saved/model.safetensors"):
            gan_lightning.load(folder)
    path.write_bytes(whole)
    weights = load_file(path)
    weights.pop("layers.0.weight")
    save_file(weights, path)
    with refuses("saved/model.safetensors"):
        gan_lightning.load(folder)
    path.unlink()
    with refuses("saved/model.safetensors"):
        gan_lightning.load(folder)
    (folder / CONFIG).unlink()
    with refuses("saved", CONFIG):
        gan_lightning.load(folder)


def test_a_custom_class_needs_trust() -> None:
    generator = Own((1, 8, 8), latent_dim=4, hidden=[8])
    Sampler(generator).save_pretrained("own")
    with refuses("trust=['tests']"):
        gan_lightning.load("own")
    for again in (gan_lightning.load("own", trust=["tests"]), Sampler.from_pretrained("own", trust=["tests"])):
        assert same_state(again.generator, generator)


class Own(MLPGenerator):
    """A network from outside the package."""


# The Hub


def test_push_to_hub(sampler: Sampler, monkeypatch: pytest.MonkeyPatch) -> None:
    """The uploaded folder draws the same images."""

    class Api:
        def __init__(self, token: str | None = None) -> None:
            assert token == "secret"

        def create_repo(self, repo_id: str, **options: Any) -> Any:
            assert (repo_id, options["private"]) == ("me/my-gan", True)
            return type("Url", (), {"repo_id": repo_id})

        def upload_folder(self, repo_id: str, folder_path: Path, commit_message: str, **options: Any) -> str:
            assert (repo_id, options["repo_type"]) == ("me/my-gan", "model")
            shutil.copytree(folder_path, "uploaded")
            return f"uploaded: {commit_message}"

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Api)
    assert sampler.push_to_hub("me/my-gan", private=True, token="secret", commit_message="digits") == "uploaded: digits"
    assert {path.name for path in Path("uploaded").iterdir()} == FILES
    assert torch.equal(Sampler.from_pretrained("uploaded").sample(5), sampler.sample(5))


def test_from_pretrained_by_the_cache_of_the_hub(folder: Path) -> None:
    """The layout is huggingface_hub's: a reference names the commit, and a folder of that name has its files."""
    commit, repository = "0123456789" * 4, Path("cache/models--me--my-gan")
    shutil.copytree(folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    again = Sampler.from_pretrained("me/my-gan", cache_dir="cache", local_files_only=True)
    assert torch.equal(again.sample(5), gan_lightning.load(folder).sample(5))
    for name, revision in (("me/another", None), ("me/my-gan", "v2"), ("no//name", None)):
        with refuses(name, "Hub"):
            Sampler.from_pretrained(name, cache_dir="cache", local_files_only=True, revision=revision)


class Hub(BaseHTTPRequestHandler):
    """The part of the Hub that a download needs; serves the folder ``saved`` as me/my-gan."""

    commit = "0123456789" * 4
    files: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        file = Path("saved") / self.path.rpartition("/")[2]
        if self.path == "/api/models/me/my-gan/revision/main":
            siblings = [{"rfilename": name} for name in (*FILES, "unknown.py")]
            self.answer(json.dumps({"id": "me/my-gan", "sha": self.commit, "siblings": siblings}).encode())
        elif self.path.startswith(f"/api/models/me/my-gan/tree/{self.commit}"):
            tree = [{"type": "file", "path": name, "oid": name, "size": (file.parent / name).stat().st_size} for name in FILES]
            self.answer(json.dumps(tree).encode())
        elif self.path.startswith(f"/me/my-gan/resolve/{self.commit}/") and file.is_file():
            self.files.append(file.name)
            self.answer(file.read_bytes(), **{"ETag": file.name, "X-Repo-Commit": self.commit})
        else:
            self.send_error(404)

    do_HEAD = do_GET

    def answer(self, content: bytes, **headers: str) -> None:
        self.send_response(200)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


DOWNLOAD = """
import socket
look_up = socket.getaddrinfo
def loopback(host, *rest, **options):
    assert host in ("127.0.0.1", b"127.0.0.1"), f"asked for {host}"
    return look_up(host, *rest, **options)
socket.getaddrinfo = loopback
import torch
from gan_lightning import Sampler
for only_the_cache in (False, True):
    gan = Sampler.from_pretrained("me/my-gan", cache_dir="cache", token=False, local_files_only=only_the_cache)
    torch.save(gan.sample(5), f"drawn_{only_the_cache}.pt")
"""


def test_from_pretrained_by_the_hub(folder: Path) -> None:
    """Only two files are downloaded and cached.

    This needs a separate process, because huggingface_hub reads $HF_ENDPOINT at import. There, only the name of this machine
    can be resolved.
    """
    Hub.files.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        hub = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(Path("home").absolute())}
        quiet = {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}
        done = subprocess.run(
            [sys.executable, "-c", DOWNLOAD],
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
            env={**os.environ, **hub, **quiet},
        )
        server.shutdown()
    assert done.returncode == 0, done.stderr
    for only_the_cache in (False, True):
        assert torch.equal(torch.load(f"drawn_{only_the_cache}.pt"), gan_lightning.load(folder).sample(5))
    assert set(Hub.files) == {CONFIG, WEIGHTS}
