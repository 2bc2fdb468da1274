"""Train small models as one of several processes, or alone, with random numbers drawn for the global batch.

python tests/training/two_processes.py OUTPUT BATCH_SIZE, under the environment that torchrun makes.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Callback, Trainer
from torch import Tensor
from torch.optim import SGD
from torch.overrides import TorchFunctionMode

from gan_lightning.augment import AdaptiveAugment, DiffAugment
from gan_lightning.callbacks import StopSignals, TrainingLog
from gan_lightning.cycle import CycleGAN
from gan_lightning.gan import GAN
from gan_lightning.losses import (
    AdversarialLoss,
    HingeLoss,
    NonSaturatingLoss,
    RelativisticAverageLoss,
    RelativisticPairingLoss,
    WassersteinLoss,
)
from gan_lightning.module import AdversarialModule
from gan_lightning.networks import (
    DCGANDiscriminator,
    DCGANGenerator,
    DropoutConvDiscriminator,
    MLPDiscriminator,
    MLPGenerator,
    PatchDiscriminator,
    R3GANDiscriminator,
    R3GANGenerator,
    SRResNet,
    UNetGenerator,
)
from gan_lightning.networks.base import Discriminator, Generator
from gan_lightning.regularizers import DRAGAN, R1, R2, WGANGP, LeCam, WeightClipping, _deviation
from gan_lightning.training import distributed
from gan_lightning.training.trainer import make_trainer
from gan_lightning.translation import PairedTranslation
from tests.helpers import TensorData
from tests.translators import PairData

SHAPE = (1, 16, 16)
STEPS = 3


def generator(**arguments: Any) -> MLPGenerator:
    return MLPGenerator(SHAPE, 10, latent_dim=4, hidden=[16], batch_norm=False, **arguments)


def discriminator(**arguments: Any) -> MLPDiscriminator:
    return MLPDiscriminator(SHAPE, 10, hidden=[16], **arguments)


def sgd(parameters: Any) -> SGD:
    return SGD(parameters, lr=0.02)


def make_gan(generator: Generator, discriminator: Discriminator, loss: AdversarialLoss, **arguments: Any) -> GAN:
    return GAN(generator, discriminator, loss, sgd, sgd, ema_halflife=100, **arguments)


GANS: dict[str, Callable[[], GAN]] = {
    "R1 and R2, dropout": lambda: make_gan(
        generator(), DropoutConvDiscriminator(SHAPE, width=4), NonSaturatingLoss(), penalty=[R1(), R2()]
    ),
    "WGANGP, five updates of D": lambda: make_gan(
        generator(), discriminator(), WassersteinLoss(), penalty=WGANGP(), discriminator_steps=5
    ),
    "clipping": lambda: make_gan(
        generator(), discriminator(), WassersteinLoss(), constraint=WeightClipping(0.1), discriminator_steps=2
    ),
    "conditional, DRAGAN": lambda: make_gan(
        generator(conditioning="concatenation"), discriminator(conditioning="projection"), HingeLoss(), penalty=DRAGAN()
    ),
    "auxiliary classifier": lambda: make_gan(
        generator(conditioning="concatenation"), discriminator(conditioning="classifier"), NonSaturatingLoss()
    ),
    "attributes, estimated, WGANGP": lambda: make_gan(
        generator(conditioning="concatenation", condition_dim=3),
        discriminator(conditioning="classifier", condition_dim=3),
        WassersteinLoss(),
        penalty=WGANGP(),
    ),
    "relativistic average, LeCam, ADA": lambda: make_gan(
        generator(),
        discriminator(),
        RelativisticAverageLoss(),
        penalty=LeCam(),
        augmentation=AdaptiveAugment(images=100, every=2, target=0.5),
    ),
    "R3GAN, DiffAugment": lambda: make_gan(
        R3GANGenerator(SHAPE, latent_dim=4, widths=[8, 8, 8], blocks=1, group_width=4),
        R3GANDiscriminator(SHAPE, widths=[8, 8, 8], blocks=1, group_width=4),
        RelativisticPairingLoss(),
        penalty=[R1(gamma=0.1), R2(gamma=0.1)],
        augmentation=DiffAugment(),
    ),
    "batch norm in both networks, R1": lambda: make_gan(
        DCGANGenerator(SHAPE, 10, latent_dim=4, width=4, conditioning="batch_norm"),
        DCGANDiscriminator(SHAPE, 10, width=4, batch_norm=True, conditioning="projection"),
        NonSaturatingLoss(),
        penalty=R1(gamma=0.1),
    ),
}
TRANSLATIONS: dict[str, Callable[[], AdversarialModule]] = {
    "pairs, WGANGP, dropout, DiffAugment": lambda: PairedTranslation(
        UNetGenerator(SHAPE, SHAPE, width=4, depth=2),
        PatchDiscriminator(SHAPE, source_shape=SHAPE, width=4, layers=1),
        HingeLoss(),
        sgd,
        sgd,
        l1_weight=10,
        penalty=WGANGP(weight=0.1),
        augmentation=DiffAugment(["flip", "color", "translation"]),
        ema_halflife=100,
    ),
    "super-resolution with batch norm": lambda: PairedTranslation(
        SRResNet(SHAPE, (1, 8, 8), width=4, blocks=2),
        PatchDiscriminator(SHAPE, source_shape=(1, 8, 8), width=4, layers=1, norm="spectral"),
        NonSaturatingLoss(),
        sgd,
        sgd,
        l1_weight=1,  # a linear output: larger steps amplify the rounding
        ema_halflife=100,
    ),
    "cycle without pools": lambda: CycleGAN(
        UNetGenerator(SHAPE, SHAPE, width=4, depth=2, dropout=0),
        PatchDiscriminator(SHAPE, width=4, layers=1),
        None,
        sgd,
        sgd,
        cycle_weight=2,
        identity_weight=1,
        pool_size=0,
        ema_halflife=100,
    ),
}
MODELS: dict[str, Callable[[], AdversarialModule]] = {**GANS, **TRANSLATIONS}


class GlobalDraws(TorchFunctionMode):
    """Draws random numbers for the images of all processes; each process uses those of its own images.

    Image i of process r is image i * count + r of the global batch, as in the loader. The same holds for the generated images
    after the real ones if both share a pass.
    """

    def __init__(self, batch_size: int) -> None:
        super().__init__()
        self.batch_sizes = (batch_size, 2 * batch_size)
        self.random = torch.Generator().manual_seed(0)
        self.draws = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (torch.rand, torch.randn):
            return self._draw(func, args, kwargs)
        if func is torch.randint:
            low, high, shape = args
            return self._draw(lambda *sizes, **given: torch.randint(low, high, sizes, **given), shape, kwargs)
        if func is torch.rand_like:
            return self._draw(torch.rand, args[0].shape, {})
        if func is Tensor.bernoulli_:  # dropout
            mask, keep = args
            return mask.copy_(self._draw(torch.rand, mask.shape, {}) < keep)
        return func(*args, **kwargs)

    def _draw(self, draw: Callable[..., Tensor], shape: Any, given: dict[str, Any]) -> Tensor:
        count, rank = distributed.world_size(), distributed.rank()
        (dim,) = [dim for dim, size in enumerate(shape) if size in self.batch_sizes][:1]
        sizes = [size * count if i == dim else size for i, size in enumerate(shape)]
        self.draws += 1
        mine: Tensor = draw(*sizes, generator=self.random, **given).movedim(dim, 0)[rank::count].movedim(0, dim)
        return mine


class Sent(Callback):
    """Counts the numbers sent from the first step to the last."""

    def __init__(self) -> None:
        self.numbers = 0
        self.before: dict[str, Any] = {}

    def on_train_start(self, *_: Any) -> None:
        self.before = {name: getattr(dist, name) for name in ("all_reduce", "broadcast", "all_gather", "barrier")}
        for name, function in self.before.items():
            setattr(dist, name, self._counting(function))

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == STEPS:
            for name, function in self.before.items():
                setattr(dist, name, function)

    def _counting(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.numbers += sum(value.numel() for value in args if isinstance(value, Tensor)) or 1
            return function(*args, **kwargs)

        return counted


def train(name: str, batch_size: int, world_size: int) -> dict[str, Any]:
    """Train a few steps, and return weights, gradients, averages and logged values."""
    torch.manual_seed(0)
    images = torch.randint(0, 256, (400, *SHAPE), dtype=torch.uint8) // torch.randint(1, 9, (400, 1, 1, 1))
    model, log, sent = MODELS[name](), TrainingLog(), Sent()
    labels = torch.arange(1200).view(400, 3) / 1200 if "attributes" in name else torch.arange(400) % 10
    data = TensorData(images.byte(), labels, batch_size=batch_size)
    if not isinstance(model, GAN):
        factor = getattr(model.generator, "factor", 1)
        data = PairData(images.byte(), 255 - images.byte()[:, :, ::factor, ::factor], batch_size=batch_size)
    trainer: Trainer = make_trainer(
        Path.cwd(),
        False,
        accelerator="cpu",
        devices=world_size,
        max_steps=STEPS,
        callbacks=[StopSignals(), log, sent],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with GlobalDraws(batch_size) as draws:
        trainer.fit(model, datamodule=data)
    share = images.float()[trainer.global_rank :: world_size] / 255
    deviation = _deviation(share)  # the gradient of a piecewise linear network hardly depends on it
    gradients = {f"gradient of {name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
    logged = {name: torch.tensor(value) for name, value in log.latest.items() if name != "images_per_second"}
    counts = {"draws": torch.tensor(draws.draws), "sent": torch.tensor(sent.numbers)}
    return {**model.state_dict(), **gradients, **logged, **counts, "deviation": deviation}


class Pools(Callback):
    """Compares the pools at the start of a resumed run with those of this process, and with those of the other one."""

    def __init__(self, mine: Tensor) -> None:
        self.mine = mine
        self.found: dict[str, Tensor] = {}

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        if not self.found:
            first, second = distributed.gather(pl_module.pool.images)
            self.found = {
                "restored": torch.tensor(torch.equal(pl_module.pool.images, self.mine)),
                "differ": torch.tensor(not torch.equal(first, second)),
                "filled": torch.tensor(bool((first.abs().amax(dim=(1, 2, 3)) > 0).all())),
            }


def resume_pools(folder: Path) -> dict[str, Tensor]:
    """Train CycleGAN, save a checkpoint, and resume from it. Returns what each process finds in its pool then."""
    torch.manual_seed(0)
    images = torch.randint(0, 256, (64, *SHAPE), dtype=torch.uint8)
    options: dict[str, Any] = {"accelerator": "cpu", "devices": 2, "enable_checkpointing": False, "enable_progress_bar": False}

    def make() -> CycleGAN:
        networks = UNetGenerator(SHAPE, SHAPE, width=2), PatchDiscriminator(SHAPE, width=2, layers=1)
        return CycleGAN(*networks, pool_size=6)

    model = make()
    trainer = make_trainer(Path.cwd(), False, max_steps=3, enable_model_summary=False, **options)
    trainer.fit(model, datamodule=PairData(images, 255 - images, batch_size=4))
    trainer.save_checkpoint(folder / "pools.ckpt", weights_only=False)
    look = Pools(model.pool.images.clone())
    trainer = make_trainer(Path.cwd(), False, max_steps=4, enable_model_summary=False, callbacks=[look], **options)
    trainer.fit(
        make(), datamodule=PairData(images, 255 - images, batch_size=4), ckpt_path=folder / "pools.ckpt", weights_only=True
    )
    return {name: distributed.gather(value.int()).min() for name, value in look.found.items()}


def main() -> None:
    output, batch_size = sys.argv[1], int(sys.argv[2])
    torch.set_num_threads(1)
    results = {name: train(name, batch_size, 2) for name in MODELS}
    results["pools"] = resume_pools(Path(output).parent)
    if distributed.rank() == 1:
        torch.save(results, output)


if __name__ == "__main__":
    main()
