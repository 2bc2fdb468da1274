"""Batch norm over the images of all processes."""

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gan_lightning.training.distributed import mean, world_size


class SynchronizedBatchNorm(_BatchNorm):
    """Normalises each channel by its mean and variance over the images of all processes (Ioffe and Szegedy 2015, algorithm 1).

    In place of torch's ``SyncBatchNorm``: it waits for no device, has second derivatives, so that gradient penalties work, and
    runs on the CPU too. Each process must have the same number of images. In evaluation it is an ordinary batch norm.

    Shapes are (B, C) or (B, C, ...).
    """

    def forward(self, features: Tensor) -> Tensor:
        if not self.training:
            return super().forward(features)
        dims = [dim for dim in range(features.ndim) if dim != 1]
        shape = [1, -1, *[1] * (features.ndim - 2)]
        values = features.float() if features.element_size() < 4 else features
        center = mean(values.mean(dims))
        deviations = values - center.view(shape)
        variance = mean(deviations.square().mean(dims))
        self._follow(center.detach(), variance.detach(), values.numel() // len(center) * world_size())
        normalised = deviations * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            normalised = normalised * self.weight.view(shape) + self.bias.view(shape)
        return normalised.to(features.dtype)

    def _follow(self, center: Tensor, variance: Tensor, count: int) -> None:
        """Move the running moments towards those of this batch; the variance is the unbiased one, as in torch."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        dtype = self.running_mean.dtype
        share = (1 / self.num_batches_tracked).to(dtype) if self.momentum is None else self.momentum
        self.running_mean.lerp_(center.to(dtype), share)
        self.running_var.lerp_((variance * (count / (count - 1))).to(self.running_var.dtype), share)

    def _check_input_dim(self, input: Tensor) -> None:
        """Take any number of dimensions."""


def synchronize_batch_norm(network: nn.Module) -> None:
    """Replace each batch norm in ``network`` by a synchronized one with the same parameters and buffers."""
    for name, module in network.named_children():
        if isinstance(module, _BatchNorm):
            setattr(network, name, _synchronized(module))
        else:
            synchronize_batch_norm(module)


def _synchronized(norm: _BatchNorm) -> SynchronizedBatchNorm:
    replacement = SynchronizedBatchNorm(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        setattr(replacement, name, getattr(norm, name))
    return replacement.train(norm.training)
