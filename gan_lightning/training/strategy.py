"""Lightning's strategy for several processes, adapted to two optimizers."""

import os
from collections.abc import Callable
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from torch import nn
from torch.optim import Optimizer

from gan_lightning.training.distributed import average_, broadcast_
from gan_lightning.training.synchronized_batch_norm import synchronize_batch_norm
from gan_lightning.training.watchdog import Watchdog, end_process


class GANStrategy(DDPStrategy):
    """Trains a model with two optimizers in several processes: averages each gradient once, right before its use.

    Lightning's own strategy wraps the model and averages gradients within ``backward``. A GAN calls ``backward`` several
    times, and each call leaves out the other network. This strategy does not wrap the model: before each optimizer's step, one
    message averages all of its gradients.

    Batch norm computes its moments over the images of all processes.

    Attributes:
        lost: after a failure, an error message that names the dead process that caused it; else None.
    """

    lost: str | None = None
    _watchdog: Watchdog | None = None

    def setup_environment(self) -> None:
        super().setup_environment()
        if isinstance(self._launcher, _SubprocessScriptLauncher):
            # Lightning's observer kills this process as soon as a child has died, before it can report why. Give the
            # observer an empty list to observe.
            self._launcher.procs, observed = list(self._launcher.procs), self._launcher.procs
            observed.clear()
        if self.world_size > 1:
            address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
            self._watchdog = Watchdog(
                address, port, self.global_rank, self.world_size, end=lambda message: end_process(f"error: {message}")
            )
            self._watchdog.start()

    def setup(self, trainer: Trainer) -> None:
        model = self.lightning_module
        assert isinstance(model, nn.Module)
        if self.world_size > 1:
            synchronize_batch_norm(model)
        super().setup(trainer)

    def configure_ddp(self) -> None:
        """Start all processes from the weights of the first, instead of wrapping the model."""
        assert isinstance(self.model, nn.Module)
        broadcast_([*self.model.parameters(), *self.model.buffers()])

    def optimizer_step(self, optimizer: Optimizer, closure: Callable[[], Any], model: Any = None, **kwargs: Any) -> Any:
        parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
        average_([parameter.grad for parameter in parameters if parameter.grad is not None])
        return super().optimizer_step(optimizer, closure, model, **kwargs)

    def on_exception(self, exception: BaseException) -> None:
        if self._watchdog is not None and isinstance(exception, RuntimeError):
            self.lost = self._watchdog.find_cause()

    def teardown(self) -> None:
        if self._watchdog is not None:
            self._watchdog.stop()
        super().teardown()
