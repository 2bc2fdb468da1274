"""The classifier of a data set as an extractor."""

from pathlib import Path

import pytest
import torch

from gan_lightning.data import MNIST, Digits, StackedMNIST
from gan_lightning.metrics import classifier
from gan_lightning.metrics.classifier import Classifier, StackedClassifier, load_or_train, make_network
from gan_lightning.metrics.evaluator import collect, compute
from gan_lightning.metrics.measurement import make_extractor
from tests.helpers import refuses

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def digits(cache: Path) -> Classifier:
    data = Digits()
    (train, train_labels), (test, test_labels) = data.images("train"), data.images("test")
    assert train_labels is not None
    assert test_labels is not None
    return load_or_train("digits", (train, train_labels), (test, test_labels), 10, cache, CPU, progress=False)


def test_digits_are_learnt_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names 98 % of the test digits right."""
    state = torch.get_rng_state()
    trained = digits(cache)
    assert torch.equal(torch.get_rng_state(), state)
    assert 0.96 < trained.accuracy <= 1
    images, labels = Digits().images("test")
    assert labels is not None
    features, logits = trained(images)
    assert logits is not None
    assert features.shape == (len(images), 128)
    assert float((logits.argmax(1) == labels).float().mean()) == pytest.approx(trained.accuracy)
    assert trained.prefix == "digits_"
    monkeypatch.setattr(classifier, "train_classifier", None)  # the second one is read
    again = digits(cache)
    assert torch.equal(again(images)[0], features)
    assert again.protocol() == trained.protocol()
    assert again.protocol()["test_accuracy"] == round(trained.accuracy, 4)


@pytest.mark.parametrize("damage", ["cut", "tampered", "foreign"])
def test_a_damaged_classifier_is_trained_anew(damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier, "FEWEST_IMAGES_SEEN", 1)
    first = digits(tmp_path)
    (path,) = tmp_path.iterdir()
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:5000])
    elif damage == "tampered":
        content = torch.load(path, weights_only=True)
        content["weights"]["1.weight"] += 0.1
        torch.save(content, path)
    else:
        torch.save({"weights": 3}, path)
    assert digits(tmp_path).protocol() == first.protocol()  # training is a function of the seed
    monkeypatch.setattr(classifier, "train_classifier", None)
    assert digits(tmp_path).protocol() == first.protocol()  # and its file is whole again


def test_other_images_have_another_classifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier, "FEWEST_IMAGES_SEEN", 1)
    images, labels = torch.randint(0, 256, (64, 1, 8, 8)).byte(), torch.arange(64) % 2
    for change in range(2):
        load_or_train("noise", (images + change, labels), (images, labels), 2, tmp_path, CPU, progress=False)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("shape", [(1, 4, 4), (1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 48), (3, 128, 128)])
def test_a_network_for_every_size(shape: tuple[int, int, int]) -> None:
    network = make_network(shape, 7).eval()
    images = torch.zeros(2, *shape, dtype=torch.uint8)
    assert network[:-1](images).shape == (2, 128)
    assert network(images).shape == (2, 7)


def test_what_cannot_be_classified_is_refused(tmp_path: Path, cache: Path) -> None:
    images, labels = torch.zeros(8, 1, 8, 8, dtype=torch.uint8), torch.zeros(8, dtype=torch.int64)
    with refuses("faces", "1 classes"):
        load_or_train("faces", (images, labels), (images, labels), 1, tmp_path, CPU)
    with refuses("1x1x1", "imagenet"):
        make_network((1, 1, 1), 2)
    with refuses("3x8x8", "1x8x8"):
        digits(cache)(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))


def test_a_stacked_classifier_names_three_digits(cache: Path) -> None:
    single = digits(cache)
    images, _ = Digits().images("test")
    stacked = images[:300].view(100, 3, 8, 8)
    features, logits = StackedClassifier(single, "stacked_digits")(stacked)
    assert features.shape == (100, 3 * 128)
    assert logits is not None
    assert logits.shape == (100, 1000)
    alone = single(images[:300])
    assert alone[1] is not None
    named = alone[1].argmax(1).view(100, 3)
    assert torch.equal(logits.argmax(1), named @ torch.tensor([100, 10, 1]))
    assert torch.equal(features.view(300, 128), alone[0])
    torch.testing.assert_close(logits.exp().sum(1), torch.ones(100))  # probabilities of the 1000 modes


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.usefixtures("real_data")
def test_mnist_is_learnt_to_99_percent(tmp_path: Path) -> None:
    """99.4 % of the real test images, in about two minutes on two cores."""
    torch.set_num_threads(2)
    data = MNIST()
    (train, train_labels), (test, test_labels) = data.images("train"), data.images("test")
    assert train_labels is not None
    assert test_labels is not None
    trained = load_or_train("mnist", (train, train_labels), (test, test_labels), 10, tmp_path, CPU)
    assert trained.accuracy >= 0.99


@pytest.mark.slow
@pytest.mark.real_data
def test_real_stacked_mnist_has_its_thousand_modes(real_data: Path) -> None:
    """26,000 real images: 1000 modes, and a divergence of 0.02 nats, most of which is the chance of so few draws."""
    torch.set_num_threads(2)
    data = StackedMNIST()
    extractor = make_extractor("classifier", data, None, CPU)
    images, labels = data.images("test")
    statistics = collect(lambda indices: images[indices], extractor, len(images), 200)
    assert statistics is not None
    values = compute(statistics, None, extractor.prefix, ["modes"])
    assert values["stacked_mnist_modes_26k"] == 1000
    assert 0.01 < values["stacked_mnist_kl_26k"] < 0.05
    assert labels is not None
    _, logits = extractor(images[:2000])
    assert logits is not None
    assert float((logits.argmax(1) == labels[:2000]).double().mean()) > 0.97  # 0.994^3
