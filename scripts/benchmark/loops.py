"""Training loops to compare scripts/train.py with: a tutorial's, and the bare mathematics without anything around it."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim import Adam
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.datasets import CIFAR10, MNIST

from gan_lightning import ema
from gan_lightning.data import ImageDataModule
from gan_lightning.errors import InputError
from gan_lightning.gan import GAN
from gan_lightning.images import to_float
from gan_lightning.regularizers import DiscriminatorBatch
from gan_lightning.training.allocator import keep_freed_memory


def torchvision_dataset(images: Tensor, labels: Tensor) -> Dataset[tuple[Tensor, int]]:
    """torchvision's MNIST or CIFAR10 with these images, ToTensor and Normalize, as in its tutorials."""
    channels = images.shape[1]
    dataset: Any = MNIST.__new__(MNIST) if channels == 1 else CIFAR10.__new__(CIFAR10)  # needs no files
    dataset.data = images[:, 0] if channels == 1 else images.movedim(1, 3).numpy()
    dataset.targets = labels if channels == 1 else labels.tolist()
    normalize = transforms.Normalize([0.5] * channels, [0.5] * channels)
    dataset.transform, dataset.target_transform = transforms.Compose([transforms.ToTensor(), normalize]), None
    found: Dataset[tuple[Tensor, int]] = dataset
    return found


def tutorial_loop(model: GAN, data: ImageDataModule, device: torch.device) -> Iterator[None]:
    """Train a recipe's networks, loss and penalties as PyTorch's DCGAN tutorial does; yield after each step.

    - a DataLoader of torchvision's PIL images
    - one pass of D over real images, one over generated images; G's update uses the same fakes
    - gradients of all weights in both updates
    - Adam with its defaults
    - losses printed once an epoch
    - no average of the generator, even if the recipe has one
    """
    generator, discriminator, loss = model.generator.to(device), model.discriminator.to(device), model.loss
    g_optimizer = Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    d_optimizer = Adam(discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    images, labels = data.images("train")
    assert labels is not None
    loader = DataLoader(torchvision_dataset(images, labels), data.batch_size, shuffle=True, drop_last=True)
    update = 0
    while True:
        g_loss = d_loss = torch.zeros(())
        for real, of_classes in loader:
            real, classes = real.to(device), of_classes.to(device) if generator.conditional else None
            fake = generator(torch.randn(len(real), generator.latent_dim, device=device), classes)
            real_logits, fake_logits = discriminator(real, classes), discriminator(fake.detach(), classes)
            d_loss = loss.discriminator(real_logits, fake_logits)
            for penalty in (penalty for penalty in model.penalties if penalty.is_due(update)):
                discriminate = DiscriminatorBatch(real, fake.detach(), classes, real_logits, fake_logits)
                d_loss = d_loss + penalty(discriminator, discriminate)
            discriminator.zero_grad()
            d_loss.backward()  # type: ignore[no-untyped-call]
            d_optimizer.step()
            update += 1
            if update % model.discriminator_steps:
                continue
            real_logits = discriminator(real, classes) if loss.generator_sees_real else None
            g_loss = loss.generator(real_logits, discriminator(fake, classes))
            generator.zero_grad()
            g_loss.backward()  # type: ignore[no-untyped-call]
            g_optimizer.step()
            yield
        print(f"update {update}: D {d_loss.item():.3f}, G {g_loss.item():.3f}")


def bare_loop(model: GAN, data: ImageDataModule, device: torch.device) -> Iterator[None]:
    """Train with the mathematics of :class:`GAN` and nothing around it; yield after each step.

    Images are on the device, optimizers are fused, nothing is logged. It has no branch that the recipe does not need, so it is
    the most that the real command can reach. Schedules stay at their first value, at the same cost.
    """
    if device.type == "cpu":
        keep_freed_memory()
    model.to(device).train()
    generator, discriminator, loss, average = model.generator, model.discriminator, model.loss, model.ema
    g_optimizer, d_optimizer = model.configure_optimizers()
    images, labels = (None if tensor is None else tensor.to(device) for tensor in data.images("train"))
    assert images is not None
    assert labels is not None
    batch, conditional, together = data.batch_size, generator.conditional, discriminator.samples_are_independent
    trained = list(discriminator.parameters())
    update = 0

    def fakes(classes: Tensor | None) -> Tensor:
        made: Tensor = generator(torch.randn(batch, generator.latent_dim, device=device), classes)
        return made

    while True:
        order = torch.randperm(len(images)).to(device)
        chunks = order[: len(order) // (batch * model.real_batches_per_step) * batch * model.real_batches_per_step]
        for chosen in chunks.view(-1, model.real_batches_per_step, batch):
            fake = images
            for i, part in enumerate(chosen[: model.discriminator_steps]):
                real, classes = to_float(images[part]), labels[part] if conditional else None
                with torch.set_grad_enabled(model.reuse_fakes and i + 1 == model.discriminator_steps):
                    fake = fakes(classes)
                if together:
                    both = discriminator(torch.cat([real, fake.detach()]), None if classes is None else classes.repeat(2))
                    real_logits, fake_logits = both.chunk(2)
                else:
                    real_logits, fake_logits = discriminator(real, classes), discriminator(fake.detach(), classes)
                total = loss.discriminator(real_logits, fake_logits)
                for penalty in (penalty for penalty in model.penalties if penalty.is_due(update)):
                    discriminate = DiscriminatorBatch(real, fake.detach(), classes, real_logits, fake_logits)
                    total = total + penalty(discriminator, discriminate)
                update += 1
                d_optimizer.zero_grad()
                total.backward()  # type: ignore[no-untyped-call]
                d_optimizer.step()
            real, classes = to_float(images[chosen[-1]]), labels[chosen[-1]] if conditional else None
            if not model.reuse_fakes:
                fake = fakes(classes)
            for parameter in trained:
                parameter.requires_grad_(False)
            fake_logits = discriminator(fake, classes)
            g_loss = loss.generator(discriminator(real, classes) if loss.generator_sees_real else None, fake_logits)
            g_optimizer.zero_grad()
            g_loss.backward()  # type: ignore[no-untyped-call]
            for parameter in trained:
                parameter.requires_grad_(True)
            g_optimizer.step()
            if average is not None:
                ema.update(average, generator, ema.decay(batch, model.ema_halflife))
            yield


def require_comparable(model: GAN, data: ImageDataModule) -> None:
    """Refuse recipes with parts that the hand-written loops leave out.

    Raises:
        InputError: an augmentation, a constraint, an auxiliary classifier, or a step that takes more images than there are.
    """
    if model.augmentation is not None or model.constraint is not None or model.discriminator.conditioning == "classifier":
        raise InputError(
            "the hand-written loops support no augmentation, constraint or auxiliary classifier: use another recipe"
        )
    images = len(data.images("train")[0])
    if data.batch_size * model.real_batches_per_step > images:
        raise InputError(
            f"a step takes {model.real_batches_per_step} x {data.batch_size} images of {images:,}: use smaller batches"
        )
