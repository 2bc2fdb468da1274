"""Lightning's callbacks and strategies that do not work with two optimizers: refused before a run starts."""

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Callback
from lightning.pytorch.callbacks import (
    BackboneFinetuning,
    BatchSizeFinder,
    EMAWeightAveraging,
    GradientAccumulationScheduler,
    LearningRateFinder,
    ModelCheckpoint,
    ModelPruning,
    SpikeDetection,
    StochasticWeightAveraging,
    WeightAveraging,
)
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy, Strategy
from lightning.pytorch.strategies.launchers.multiprocessing import _MultiProcessingLauncher

from gan_lightning.errors import InputError

_AVERAGE = "would average the discriminator, too: use --model.ema_halflife, the average of the generator"
REFUSED: dict[type[Callback], str] = {
    GradientAccumulationScheduler: "needs one optimizer, and a GAN has two: use a larger --data.batch_size",
    LearningRateFinder: "needs one learning rate, and a GAN has two: compare some with compare.py",
    BatchSizeFinder: "would change the result, because a GAN's depends on its batch size: --dry_run reports the memory of one",
    StochasticWeightAveraging: _AVERAGE,
    WeightAveraging: _AVERAGE,
    EMAWeightAveraging: _AVERAGE,
    ModelPruning: "would change the names of the weights, and no checkpoint could be loaded: prune an exported generator",
    SpikeDetection: "needs one loss, and a GAN has two: the health monitor watches both",
    BackboneFinetuning: "needs a model with a backbone: start from the weights of a checkpoint with --init_from",
}
"""Callbacks -> the reason why they are refused, and what to use instead."""
STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_false", "ddp_find_unused_parameters_true")


def require_supported_callbacks(callbacks: Sequence[Callback]) -> None:
    """Refuse callbacks that fail, do nothing, or silently spoil a GAN.

    Raises:
        InputError: one of them is among :data:`REFUSED`, or saves checkpoints by the time.
    """
    for callback in callbacks:
        name = type(callback).__name__
        for refused, reason in REFUSED.items():
            if isinstance(callback, refused):  # or a subclass, as Lightning's documentation makes one of WeightAveraging
                raise InputError(f"--trainer.callbacks {name} {reason}")
        if isinstance(callback, ModelCheckpoint) and callback._train_time_interval is not None:
            raise InputError(
                f"--trainer.callbacks {name}: Lightning ignores train_time_interval if a model has two optimizers: use "
                "every_n_train_steps, or --checkpoints.every_n_steps"
            )


def require_supported_strategy(strategy: Any) -> None:
    """Refuse all strategies except one device and DDP with a script for each device.

    Args:
        strategy: the name of a strategy, or the strategy itself.

    Raises:
        InputError: the strategy shards networks, or starts processes whose results Lightning loses.
    """
    if isinstance(strategy, Strategy):
        launched = isinstance(strategy.launcher, _MultiProcessingLauncher)  # ddp_spawn, ddp_fork, ddp_notebook
        supported = isinstance(strategy, SingleDeviceStrategy | DDPStrategy) and not launched
    else:
        supported = strategy in STRATEGIES
    if not supported:
        name = strategy if isinstance(strategy, str) else getattr(strategy, "strategy_name", type(strategy).__name__)
        raise InputError(
            f"--strategy {name} is not supported: two optimizers need this project's own version of ddp. Use --strategy ddp, "
            "in a script and not in a notebook, or leave it out"
        )
