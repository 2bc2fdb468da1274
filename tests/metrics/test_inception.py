"""Inception beside torch-fidelity's own, with random weights in the layout of the real file."""

import hashlib
import http.server
import pickle
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from torch_fidelity import feature_extractor_inceptionv3
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

from gan_lightning.errors import InputError
from gan_lightning.metrics.inception import Inception, find_weights, resize
from random_inception import varied_images, write_random_weights
from tests.helpers import refuses

NAME = "weights-inception-2015-12-05-6726825d.pth"


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A file of random weights, made once for each worker."""
    path = tmp_path_factory.mktemp(f"weights_{worker_id}") / "random.pth"
    write_random_weights(path)
    return path


@pytest.fixture(scope="session")
def ours(weights: Path) -> Inception:
    return Inception(weights)


def fidelity(weights: Path) -> FeatureExtractorInceptionV3:
    return FeatureExtractorInceptionV3("", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(weights))


def test_features_and_logits_are_torch_fidelity_s(weights: Path, ours: Inception) -> None:
    """64 images, to 1e-5 of the largest value: rounding alone, 3e-6 of it as measured."""
    images = varied_images(64, seed=1)
    features, logits = ours(images)
    assert logits is not None
    with torch.no_grad():
        theirs, their_logits = fidelity(weights)(images)
    for mine, their in ((features, theirs), (logits, their_logits)):
        assert mine.shape == their.shape
        assert float((mine - their).abs().max()) < 1e-5 * float(their.abs().max())
        assert float(their.std(0).mean()) > 0.1  # they tell images apart


@pytest.mark.parametrize("shape", [(28, 28), (32, 32), (64, 48), (299, 299), (512, 300), (1, 1)])
def test_resizing_is_tensorflow_s_to_the_last_bit(shape: tuple[int, int]) -> None:
    images = torch.randint(0, 256, (2, 3, *shape), generator=torch.Generator().manual_seed(0)).float()
    theirs = interpolate_bilinear_2d_like_tensorflow1x(images, size=(299, 299), align_corners=False)
    assert torch.equal(resize(images), theirs)


def test_it_computes_in_float32_whatever_is_in_force_outside(ours: Inception) -> None:
    images = varied_images(2, seed=2)
    expected, _ = ours(images)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found, logits = ours(images)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert logits is not None
    assert found.dtype == logits.dtype == torch.float32
    assert torch.equal(found, expected)


def test_grey_images_are_three_equal_channels(ours: Inception) -> None:
    grey = varied_images(2, seed=3)[:, :1]
    assert torch.equal(ours(grey)[0], ours(grey.expand(-1, 3, -1, -1).contiguous())[0])
    with refuses("2 channels"):
        ours(varied_images(2, seed=3)[:, :2])


def test_what_is_no_image_is_refused(ours: Inception) -> None:
    with refuses("torch.float32", "(2, 3, 8, 8)", "uint8"):
        ours(torch.full((2, 3, 8, 8), float("nan")))


def test_the_record_holds_the_file_s_hash(weights: Path, ours: Inception) -> None:
    protocol = ours.protocol()
    assert protocol["weights_sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert "299" in protocol["resize"]


def test_an_older_format_of_file_is_read(weights: Path, tmp_path: Path, ours: Inception) -> None:
    state = torch.load(weights, weights_only=True)
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    images = varied_images(1, seed=4)
    assert torch.equal(Inception(tmp_path / "old.pth")(images)[0], ours(images)[0])


def test_wrong_weights_get_one_line(weights: Path, tmp_path: Path) -> None:
    class Code:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return print, ("code of a file was run",)

    content = weights.read_bytes()
    files = {
        "cut.pth": content[: len(content) // 2],
        "empty.pth": b"",
        "text.pth": b"no weights",
        "code.pth": pickle.dumps(Code()),
    }
    for name, part in files.items():
        (tmp_path / name).write_bytes(part)
        with pytest.raises(InputError, match=name) as error:
            Inception(tmp_path / name)
        assert "\n" not in str(error.value)
    for name, state in {"other.pth": {"weight": torch.zeros(3)}, "list.pth": [1, 2]}.items():
        torch.save(state, tmp_path / name)
        with refuses(tmp_path / name, "--inception_weights"):
            Inception(tmp_path / name)


def test_weights_are_looked_for_in_torch_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    place = tmp_path / "torch" / "hub" / "checkpoints" / NAME
    place.parent.mkdir(parents=True)
    place.write_bytes(b"there")
    assert find_weights() == place
    other = tmp_path / "named.pth"
    with refuses(other, "--inception_weights"):
        find_weights(other)
    other.write_bytes(b"here")
    assert find_weights(other) == other


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A server of the folder ``served``, on loopback; its address."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None: ...

    (tmp_path / "served").mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "served"))) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()


def test_weights_are_downloaded_once(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(feature_extractor_inceptionv3, "URL_INCEPTION_V3", f"{server}/{NAME}")
    (tmp_path / "served" / NAME).write_bytes(b"the weights" * 1000)
    found = find_weights()
    assert found == tmp_path / "torch" / "hub" / "checkpoints" / NAME
    assert found.read_bytes() == b"the weights" * 1000
    said = capsys.readouterr()
    assert "Downloading Inception's weights" in said.out
    assert "100%" in said.err  # the progress bar
    (tmp_path / "served" / NAME).unlink()
    assert find_weights() == found


@pytest.mark.parametrize("fault", ["404", "refused"])
def test_a_failed_download_names_the_ways_out(fault: str, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    address = server if fault == "404" else "http://127.0.0.1:9"
    monkeypatch.setattr(feature_extractor_inceptionv3, "URL_INCEPTION_V3", f"{address}/{NAME}")
    with pytest.raises(InputError, match=NAME) as error:
        find_weights()
    for way in (
        str(tmp_path / "torch"),
        "put the file of",
        "--inception_weights",
        "--metrics.inception_weights",
        "--extractor classifier",
    ):
        assert way in str(error.value)
    assert not list((tmp_path / "torch").rglob("*.pth"))


def test_a_damaged_download_names_the_ways_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    path = Path(torch.hub.get_dir(), "checkpoints", "weights.pth")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"PK cut")
    with refuses(path, "delete", "--inception_weights", "--extractor imagenet"):
        Inception(path)
