"""Devices: copies without waiting, and float64."""

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor of host memory to ``device``; the host does not wait for what the device still computes.

    CUDA has read the host's memory when this returns. MPS has not, so there the host waits.
    """
    return tensor.to(device, non_blocking=tensor.device.type == "cpu" and device.type != "mps")


def float64_device(device: torch.device) -> torch.device:
    """Choose where to compute in float64: on ``device``, or on the CPU if it is MPS, which has no float64."""
    return torch.device("cpu") if device.type == "mps" else device
