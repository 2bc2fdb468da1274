"""A classifier of the data set itself as the extractor: more informative for digits than a network trained on photographs.

As in TFGAN's ``mnist_score`` and ``mnist_frechet_distance``, penultimate features give the distance and logits the score.
Values are comparable only if they come from the same classifier. Every record contains its hash.
"""

import hashlib
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from gan_lightning import files
from gan_lightning.errors import InputError
from gan_lightning.files import fingerprint
from gan_lightning.images import size_text
from gan_lightning.metrics.features import Extractor
from gan_lightning.training.randomness import preserved_random_state

NUM_FEATURES = 128
BATCH_SIZE = 128
LEARNING_RATE = 3e-3  # the peak of one cycle (Smith and Topin 2018)
FEWEST_IMAGES_SEEN = 60_000  # in training: a small data set is repeated more often
EPOCHS = 3  # of a large data set
VERSION = 1  # raise it when a change here affects the trained classifier

Images = tuple[Tensor, Tensor]
"""Images uint8 (N, C, H, W), and labels int64 (N,)."""


class Classifier(Extractor):
    """The features (N, 128) before the last layer of a classifier, and its logits (N, K).

    Args:
        network: a trained network of :func:`make_network`.
        image_shape: (C, H, W).
        name: name of the data set; the names of the metrics begin with it.
        accuracy: accuracy on the test split, 0 to 1.
    """

    def __init__(self, network: nn.Sequential, image_shape: tuple[int, int, int], name: str, accuracy: float) -> None:
        super().__init__()
        self.body, self.head = network[:-1].eval().requires_grad_(False), network[-1].requires_grad_(False)
        self.image_shape, self.name, self.accuracy = image_shape, name, accuracy
        self.prefix = f"{name}_"

    def extract(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        if tuple(images.shape[1:]) != self.image_shape:
            given, own = size_text(images.shape[1:]), size_text(self.image_shape)
            raise InputError(
                f"images are {given} (channels, height, width), but the classifier of {self.name} takes {own}: measure them "
                "with the data they were trained on, or with extractor imagenet"
            )
        features = self.body(images)
        return features, self.head(features)

    def protocol(self) -> dict[str, Any]:
        return {
            "extractor": f"classifier of {self.name}",
            "weights_sha256": fingerprint(*self.body.state_dict().values(), *self.head.state_dict().values()),
            "test_accuracy": round(self.accuracy, 4),
            "resize": "none",
            "dtype": "float32",
        }


class StackedClassifier(Extractor):
    """A classifier of grey images, applied to each channel of a colour image separately; for Stacked MNIST.

    The features of the channels are concatenated, (N, C * 128). A class is a combination of the channels' classes: with
    three channels and ten digits the logits are (N, 1000). The logit of class 123 is the sum of the channels'
    log-probabilities of 1, 2 and 3.

    Args:
        classifier: classifier of one channel.
        name: name of the data set; the names of the metrics begin with it.
    """

    def __init__(self, classifier: Classifier, name: str) -> None:
        super().__init__()
        self.classifier, self.name = classifier, name
        self.prefix = f"{name}_"

    def extract(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        features, logits = self.classifier.extract(images.flatten(0, 1).unsqueeze(1))  # (N * C, ...)
        assert logits is not None
        channels = logits.log_softmax(1).view(len(images), -1, logits.shape[1]).unbind(1)  # C times (N, K)
        joint = channels[0]
        for channel in channels[1:]:
            joint = (joint.unsqueeze(2) + channel.unsqueeze(1)).flatten(1)
        return features.reshape(len(images), -1), joint

    def protocol(self) -> dict[str, Any]:
        single = self.classifier.protocol()
        return {**single, "extractor": f"{single['extractor']}, channel by channel"}


def make_network(image_shape: tuple[int, int, int], num_classes: int) -> nn.Sequential:
    """Make a small convolutional classifier from uint8 images to logits; its last layer is linear on (N, 128) features.

    Each block halves height and width, until at most 4 pixels are left.
    """
    channels, height, width = image_shape
    layers: list[nn.Module] = [_Normalize()]
    wide = 32
    while not layers[1:] or max(height, width) > 4:
        layers += [nn.Conv2d(channels, wide, 3, padding=1, bias=False), nn.BatchNorm2d(wide), nn.ReLU(), nn.MaxPool2d(2)]
        channels, height, width, wide = wide, height // 2, width // 2, min(2 * wide, 256)
        if min(height, width) < 1:
            raise InputError(f"images of {size_text(image_shape)} are too small for a classifier: use extractor imagenet")
    layers += [nn.Flatten(), nn.Linear(channels * height * width, NUM_FEATURES), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(NUM_FEATURES, num_classes))


class _Normalize(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.float().sub(127.5).div(127.5)


def load_or_train(
    name: str, train: Images, test: Images, num_classes: int, folder: Path, device: torch.device, progress: bool = True
) -> Classifier:
    """Load the classifier of a data set from the cache; if it is not there, train it and cache it.

    The name of its file contains a hash of the images and labels. If the file is truncated, damaged or does not fit, the
    classifier is trained again. Training is seeded and does not change the random state outside.

    Args:
        name: name of the data set.
        train: images and labels to train on.
        test: images and labels to measure the accuracy on.
        num_classes: K, at least 2.
        folder: the cache folder.
        device: device to train on and to return the classifier on.
        progress: show a progress bar of the training, and print the accuracy.

    Raises:
        InputError: fewer than two classes, or images that are too small.
    """
    image_shape = _shape(train[0])
    if num_classes < 2:
        raise InputError(f"{name} has {num_classes} classes, but a classifier needs two or more: use extractor imagenet")
    with torch.random.fork_rng(devices=[]):
        network = make_network(image_shape, num_classes).to(device)
    key = {"version": VERSION, "image_shape": list(image_shape), "num_classes": num_classes, "data": fingerprint(*train, *test)}
    path = folder / f"{name}_classifier_{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}.pt"
    accuracy = _load(path, key, network)
    if accuracy is None:
        print(f"Training a classifier of {name} for its metrics. This happens once; the file is {path}", flush=True)
        accuracy = train_classifier(network, train, test, progress)
        if progress:
            print(f"  {accuracy:.2%} of its {len(test[0]):,} test images are classified correctly", flush=True)
        weights = {entry: value.cpu() for entry, value in network.state_dict().items()}
        content = {"key": key, "accuracy": accuracy, "digest": fingerprint(*weights.values()), "weights": weights}
        try:
            files.save(content, path)
        except OSError as error:
            print(f"{path} cannot be written ({error.strerror}), so each run trains the classifier again")
    return Classifier(network, image_shape, name, accuracy)


def train_classifier(network: nn.Sequential, train: Images, test: Images, progress: bool = True) -> float:
    """Train a network of :func:`make_network` on its device, and return its accuracy on the test images, 0 to 1."""
    device = next(network.parameters()).device
    images, labels = (tensor.to(device) for tensor in train)
    batch_size = min(BATCH_SIZE, max(2, len(images) // 2))  # batch norm needs two
    steps = max(1, len(images) // batch_size)  # an epoch
    epochs = max(EPOCHS, math.ceil(FEWEST_IMAGES_SEEN / len(images)))
    with preserved_random_state(device), torch.enable_grad():
        torch.manual_seed(0)
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
                module.reset_parameters()
        optimizer = torch.optim.Adam(network.parameters())
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=epochs * steps)
        network.train()
        for _ in tqdm(range(epochs), desc="Training a classifier", unit=" epochs", disable=not progress, leave=False):
            order = torch.randperm(len(images)).to(device)
            for chosen in torch.split(order, batch_size)[:steps]:
                loss = functional.cross_entropy(network(images[chosen]), labels[chosen])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
    network.eval()
    with torch.no_grad():
        right = [
            int((network(part.to(device)).argmax(1).cpu() == truth.cpu()).sum())
            for part, truth in zip(torch.split(test[0], 500), torch.split(test[1], 500), strict=True)
        ]
    return sum(right) / max(1, len(test[0]))


def _load(path: Path, key: dict[str, Any], network: nn.Sequential) -> float | None:
    """Load the network's weights from the cache and return its accuracy; None if the file is missing or damaged."""
    try:
        content = files.load(path, keys=("key", "accuracy", "digest", "weights"))
        if content["key"] != key or content["digest"] != fingerprint(*content["weights"].values()):
            return None
        network.load_state_dict(content["weights"])
        return float(content["accuracy"])
    except (InputError, TypeError, AttributeError, RuntimeError, ValueError):
        return None


def _shape(images: Tensor) -> tuple[int, int, int]:
    channels, height, width = images.shape[1:]
    return channels, height, width
