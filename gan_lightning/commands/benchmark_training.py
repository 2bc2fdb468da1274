"""Training speed: the loop of a tutorial, the barest loop of the same mathematics, and the real command, by turns.

Each runs in a process of its own, which this file is the program of:
python -m gan_lightning.commands.benchmark_training LOOP RECIPE BATCH_SIZE STEPS ACCELERATOR
"""

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.optim import Adam
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from tqdm import tqdm

from gan_lightning import ema
from gan_lightning.commands import train
from gan_lightning.commands.arguments import instantiate
from gan_lightning.data import ImageDataModule, Split
from gan_lightning.data.base import Images
from gan_lightning.errors import InputError
from gan_lightning.gan import GAN
from gan_lightning.images import to_float
from gan_lightning.regularizers import Judged

WARM_UP = 20  # steps before the clock starts
RESULT = "RESULT"  # begins the line that a process's figures stand in
LOOPS = {"tutorial": "the loop of a tutorial", "bare": "the bare loop", "ours": "scripts/train.py"}


class SyntheticImages(ImageDataModule):
    """Noise of the shape and number of MNIST's or CIFAR-10's images: speed does not depend on what is in them.

    Args:
        like: whose shape and number.
        batch_size: images that one update looks at.
        horizontal_flip: as of any data.
        seed: of the order.
    """

    def __init__(
        self,
        like: Literal["mnist", "cifar10"] = "mnist",
        batch_size: int = 64,
        horizontal_flip: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(None, batch_size, horizontal_flip, seed)
        self.image_shape = (1, 28, 28) if like == "mnist" else (3, 32, 32)
        self.class_names = tuple(str(c) for c in range(10))
        count = 60_000 if like == "mnist" else 50_000
        random = torch.Generator().manual_seed(0)
        self._images = torch.randint(0, 256, (count, *self.image_shape), dtype=torch.uint8, generator=random)
        self._labels = torch.arange(count) % 10

    def images(self, split: Split) -> Images:
        return self._images, self._labels


class Stopwatch(Callback):
    """Seconds from the end of the warm-up to the last step, with all that is done in between."""

    def __init__(self) -> None:
        self.begun = self.seconds = 0.0

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.global_step == WARM_UP:
            self.begun = time.perf_counter()
        self.seconds = time.perf_counter() - self.begun

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        print(RESULT, json.dumps({"seconds": self.seconds, "peak_bytes": peak_bytes(pl_module.device)}), flush=True)


class AsFiles(Dataset[tuple[Tensor, int]]):
    """What torchvision's data sets do with an index: an array, a PIL image, ToTensor, Normalize."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        channels = images.shape[1]
        self.pixels, self.labels = images.movedim(1, 3).numpy(), labels.tolist()
        if channels == 1:
            self.pixels = self.pixels[:, :, :, 0]
        normalize = transforms.Normalize([0.5] * channels, [0.5] * channels)
        self.transform = transforms.Compose([transforms.ToTensor(), normalize])

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image: Tensor = self.transform(Image.fromarray(self.pixels[index]))
        return image, self.labels[index]


def tutorial_loop(model: GAN, data: ImageDataModule, device: torch.device) -> Iterator[None]:
    """What PyTorch's own DCGAN tutorial does, with the recipe's networks; one step at a time.

    A DataLoader of PIL images, one pass of D over real and one over generated images, a backward of each, Adam as it comes,
    losses read at each step (to be printed).
    """
    generator, discriminator = model.generator.to(device), model.discriminator.to(device)
    g_optimizer = Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    d_optimizer = Adam(discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    images, labels = data.images("train")
    assert labels is not None
    loader = DataLoader(AsFiles(images, labels), data.batch_size, shuffle=True, drop_last=True)
    losses: list[tuple[float, float]] = []
    while True:
        for real, _ in loader:
            real = real.to(device)
            ones, zeros = torch.ones(len(real), device=device), torch.zeros(len(real), device=device)
            discriminator.zero_grad()
            real_loss = binary_cross_entropy_with_logits(discriminator(real), ones)
            real_loss.backward()  # type: ignore[no-untyped-call]
            fake = generator(torch.randn(len(real), generator.latent_dim, device=device))
            fake_loss = binary_cross_entropy_with_logits(discriminator(fake.detach()), zeros)
            fake_loss.backward()  # type: ignore[no-untyped-call]
            d_optimizer.step()
            generator.zero_grad()
            loss = binary_cross_entropy_with_logits(discriminator(fake), ones)
            loss.backward()  # type: ignore[no-untyped-call]
            g_optimizer.step()
            losses.append(((real_loss + fake_loss).item(), loss.item()))
            yield


def bare_loop(model: GAN, data: ImageDataModule, device: torch.device) -> Iterator[None]:
    """The mathematics of :class:`GAN`, with nothing around it: images on the device, fused optimizers, nothing logged.

    It has no option and no branch that the recipe does not use, and so is what the real command could come to at best.
    """
    model.to(device).train()
    generator, discriminator, loss, average = model.generator, model.discriminator, model.loss, model.ema
    g_optimizer, d_optimizer = model.configure_optimizers()
    images, labels = (None if tensor is None else tensor.to(device) for tensor in data.images("train"))
    assert images is not None
    assert labels is not None
    batch, conditional, together = data.batch_size, generator.conditional, discriminator.samples_are_independent
    trained = list(discriminator.parameters())
    update = 0

    def latents() -> Tensor:
        return torch.randn(batch, generator.latent_dim, device=device)

    while True:
        order = torch.randperm(len(images)).to(device)
        chunks = order[: len(order) // (batch * model.real_batches_per_step) * batch * model.real_batches_per_step]
        for chosen in chunks.view(-1, model.real_batches_per_step, batch):
            for part in chosen[: model.discriminator_steps]:
                real, classes = to_float(images[part]), labels[part] if conditional else None
                with torch.no_grad():
                    fake = generator(latents(), classes)
                if together:
                    both = discriminator(torch.cat([real, fake]), None if classes is None else classes.repeat(2))
                    real_logits, fake_logits = both.chunk(2)
                else:
                    real_logits, fake_logits = discriminator(real, classes), discriminator(fake, classes)
                total = loss.discriminator(real_logits, fake_logits)
                for penalty in model.penalties:
                    total = total + penalty(discriminator, Judged(real, fake, classes, real_logits, fake_logits, update))
                update += 1
                d_optimizer.zero_grad()
                total.backward()  # type: ignore[no-untyped-call]
                d_optimizer.step()
            for parameter in trained:
                parameter.requires_grad_(False)
            real, classes = to_float(images[chosen[-1]]), labels[chosen[-1]] if conditional else None
            fake_logits = discriminator(generator(latents(), classes), classes)
            g_loss = loss.generator(discriminator(real, classes) if loss.generator_sees_real else None, fake_logits)
            g_optimizer.zero_grad()
            g_loss.backward()  # type: ignore[no-untyped-call]
            for parameter in trained:
                parameter.requires_grad_(True)
            g_optimizer.step()
            if average is not None:
                ema.update(average, generator, ema.decay(batch, model.ema_halflife))
            yield


def flags(recipe: str, batch_size: int | None, steps: int) -> list[str]:
    """Of the train command: the recipe on synthetic images, logging as it does, with a grid and a checkpoint an epoch."""
    like = "cifar10" if "cifar10" in recipe else "mnist"
    return [
        *("--config", recipe, "--data", f"{SyntheticImages.__module__}.SyntheticImages", "--data.like", like),
        *([] if batch_size is None else ["--data.batch_size", str(batch_size)]),
        *("--max_steps", str(WARM_UP + steps), "--metrics.extractor", "none", "--enable_model_summary", "false"),
    ]


def run_loop(name: str, recipe: str, batch_size: int | None, steps: int, accelerator: str) -> None:
    """Run one loop in this process, and print its figures."""
    args = [*flags(recipe, batch_size, steps), "--accelerator", accelerator]
    if name == "ours":
        sys.exit(train.main([*args, "--trainer.callbacks+=" + f"{Stopwatch.__module__}.Stopwatch"]))
    parser = train.make_parser()
    objects = instantiate(parser, train.settings(parser, args)[0])
    device = torch.device("cuda" if accelerator == "gpu" else "cpu")
    torch.manual_seed(0)
    steps_of = {"tutorial": tutorial_loop, "bare": bare_loop}[name](objects.model, objects.data, device)
    for _ in range(WARM_UP):
        next(steps_of)
    begun = time.perf_counter()
    for _ in range(steps):
        next(steps_of)
    if device.type == "cuda":
        torch.cuda.synchronize()
    print(RESULT, json.dumps({"seconds": time.perf_counter() - begun, "peak_bytes": peak_bytes(device)}), flush=True)


def peak_bytes(device: torch.device) -> int:
    """The most memory that was taken: of the device, or of the process on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def benchmark_training(
    recipes: Sequence[str], batch_size: int | None, steps: int, rounds: int, accelerator: str
) -> dict[str, Any]:
    """Steps of each loop, by turns.

    Returns:
        {recipe: {loop: {"seconds_per_step": [of each round], "peak_bytes": the largest}}}
    """
    figures: dict[str, Any] = {recipe: {} for recipe in recipes}
    with tempfile.TemporaryDirectory() as folder, tqdm(total=rounds * len(recipes) * len(LOOPS), desc="Training") as bar:
        for recipe in recipes:
            for _ in range(rounds):
                for loop in LOOPS:
                    command = [sys.executable, "-m", __spec__.name, loop, recipe, str(batch_size or 0), str(steps), accelerator]
                    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
                    lines = [line for line in done.stdout.splitlines() if line.startswith(RESULT)]
                    if not lines:
                        reason = (done.stderr.strip().splitlines() or ["no reason"])[-1][:300]
                        raise InputError(f"{loop} of {recipe} failed: {reason}")
                    found = json.loads(lines[-1].removeprefix(RESULT))
                    row = figures[recipe].setdefault(loop, {"seconds_per_step": [], "peak_bytes": 0})
                    row["seconds_per_step"].append(found["seconds"] / steps)
                    row["peak_bytes"] = max(row["peak_bytes"], found["peak_bytes"])
                    bar.update()
    return figures


def table(figures: dict[str, Any]) -> str:
    """Medians and spread in milliseconds a step, and the ratios of medians, as Markdown."""
    lines = [
        "| recipe, ms a step | "
        + " | ".join(LOOPS.values())
        + " | against the tutorial | against the bare loop | peak memory |",
        "|---" * (len(LOOPS) + 4) + "|",
    ]
    for recipe, loops in figures.items():
        times = {loop: [1000 * seconds for seconds in row["seconds_per_step"]] for loop, row in loops.items()}
        medians = {loop: statistics.median(values) for loop, values in times.items()}
        cells = [f"{medians[loop]:.1f} ({min(times[loop]):.1f} to {max(times[loop]):.1f})" for loop in LOOPS]
        memory = " / ".join(f"{loops[loop]['peak_bytes'] / 2**20:,.0f}" for loop in LOOPS)
        ratios = [f"{medians[loop] / medians['ours']:.2f}" for loop in ("tutorial", "bare")]
        lines.append(f"| {recipe} | {' | '.join(cells)} | {' | '.join(ratios)} | {memory} MiB |")
    return "\n".join(lines)


if __name__ == "__main__":
    _, _loop, _recipe, _batch_size, _steps, _accelerator = sys.argv
    run_loop(_loop, _recipe, int(_batch_size) or None, int(_steps), _accelerator)
