"""A GAN on MNIST in one file: copy it and change it.

    python scripts/minimal.py

It trains the networks of the recipe dcgan_mnist with the same settings, and writes grids to minimal_logs/. The package adds
exact resuming, metrics, a health monitor, several GPUs, and every other loss, penalty, network and data set.
"""

import copy
import math
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer, seed_everything
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.utils.data import DataLoader, TensorDataset
from torchvision.datasets import MNIST
from torchvision.utils import save_image

UPDATES = 10_000  # generator updates
BATCH = 64
LATENT = 64
LEARNING_RATE, END = 1e-3, 0.02  # the rate falls along a cosine to END times its value
GAMMA, EVERY = 2.0, 8  # weight of R1, applied at every EVERY-th update with EVERY times the weight
HALFLIFE, RAMP = 20_000, 0.05  # half-life of the average in images, at most RAMP times the images seen so far


class Generator(nn.Module):
    """Latent (B, LATENT) -> image (B, 1, 28, 28) in [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(LATENT, 512, bias=False),
            nn.BatchNorm1d(512),
            nn.ReLU(),
            nn.Linear(512, 64 * 7 * 7, bias=False),
            nn.Unflatten(1, (64, 7, 7)),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.ConvTranspose2d(64, 32, 4, stride=2, padding=1, bias=False),  # 14x14
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.ConvTranspose2d(32, 1, 4, stride=2, padding=1),  # 28x28
            nn.Tanh(),
        )
        for module in self.modules():  # Radford et al. 2016, section 4
            if isinstance(module, nn.Linear | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, 0.0, 0.02)
            elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, 0.02)

    def forward(self, z: Tensor) -> Tensor:
        images: Tensor = self.layers(z)
        return images


class Discriminator(nn.Module):
    """Image (B, 1, 28, 28) -> logit (B,)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 32, 4, stride=2, padding=1),  # 14x14
            nn.LeakyReLU(0.2),
            nn.Conv2d(32, 64, 4, stride=2, padding=1),  # 7x7
            nn.LeakyReLU(0.2),
            nn.Conv2d(64, 128, 3, stride=2, padding=1),  # 4x4
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(128 * 4 * 4, 256),
            nn.LeakyReLU(0.2),
            nn.Linear(256, 1),
        )
        for module in self.modules():  # He et al. 2015, equation 15
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, 0.2)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers(images)
        return logits.squeeze(1)


class GAN(LightningModule):
    """One training step is one update of the discriminator, then one of the generator."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator, self.discriminator = Generator(), Discriminator()
        self.average = copy.deepcopy(self.generator).eval().requires_grad_(False)
        self.update = 0

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        networks = (self.generator, self.discriminator)
        return [torch.optim.Adam(network.parameters(), LEARNING_RATE, betas=(0.0, 0.99)) for network in networks]

    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
        (real,) = batch  # (B, 1, 28, 28) in [-1, 1]
        optimizers = self.optimizers()
        assert isinstance(optimizers, list)
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = LEARNING_RATE * self.cosine(self.update / UPDATES)
        fake = self.generator(torch.randn(len(real), LATENT, device=self.device))
        self.discriminator_step(optimizers[1], real, fake.detach())
        self.generator_step(optimizers[0], fake)
        self.average_step(len(real))
        self.update += 1

    def discriminator_step(self, optimizer: LightningOptimizer, real: Tensor, fake: Tensor) -> None:
        """Descend -log D(x) - log(1 - D(G(z))) (Goodfellow et al. 2014), plus R1 (Mescheder et al. 2018)."""
        loss = softplus(-self.discriminator(real)).mean() + softplus(self.discriminator(fake)).mean()
        if self.update % EVERY == 0:
            images = real.clone().requires_grad_(True)
            (slope,) = torch.autograd.grad(self.discriminator(images).sum(), images, create_graph=True)
            loss = loss + EVERY * GAMMA / 2 * slope.square().flatten(1).sum(1).mean()
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        self.log("discriminator_loss", loss)

    def generator_step(self, optimizer: LightningOptimizer, fake: Tensor) -> None:
        """Descend -log D(G(z)) on the fakes of the discriminator's step."""
        loss = softplus(-self.discriminator(fake)).mean()
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        self.log("generator_loss", loss, prog_bar=True)

    @torch.no_grad()
    def average_step(self, images: int) -> None:
        """Move the average towards the generator's weights; batch norm's running moments are copied."""
        halflife = min(HALFLIFE, RAMP * self.update * images)
        decay = 0.5 ** (images / halflife) if halflife else 0.0
        for average, weight in zip(self.average.parameters(), self.generator.parameters(), strict=True):
            average.lerp_(weight, 1 - decay)
        for kept, buffer in zip(self.average.buffers(), self.generator.buffers(), strict=True):
            kept.copy_(buffer)

    @staticmethod
    def cosine(done: float) -> float:
        """Map the share of the run that is done to a factor on the learning rate."""
        return END + (1 - END) * (1 + math.cos(math.pi * done)) / 2


class MNISTBatches(LightningDataModule):
    """MNIST's 60,000 training images in memory, scaled to [-1, 1]; downloaded on first use."""

    def prepare_data(self) -> None:
        MNIST("data", download=True)

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        images = MNIST("data").data.unsqueeze(1) / 127.5 - 1
        return DataLoader(TensorDataset(images), BATCH, shuffle=True, drop_last=True)


class Grid(Callback):
    """Write 64 samples of the average every 1,000 updates, always from the same latents."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.z = torch.randn(64, LATENT, generator=torch.Generator().manual_seed(0))

    def on_train_batch_end(self, trainer: Trainer, model: LightningModule, outputs: object, batch: object, index: int) -> None:
        assert isinstance(model, GAN)
        if model.update % 1000 == 0:
            self.folder.mkdir(parents=True, exist_ok=True)
            with torch.no_grad():
                images = model.average(self.z.to(model.device))
            save_image(images, self.folder / f"step_{model.update:06d}.png", normalize=True, value_range=(-1, 1))


def main(max_steps: int = UPDATES) -> None:
    """Train and write grids."""
    seed_everything(0)
    # Lightning counts the steps of both optimizers
    trainer = Trainer(max_epochs=-1, max_steps=2 * max_steps, callbacks=[Grid(Path("minimal_logs"))], logger=False)
    trainer.fit(GAN(), MNISTBatches())


if __name__ == "__main__":
    main()
