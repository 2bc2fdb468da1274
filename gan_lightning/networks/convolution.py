"""Convolutions whose second derivative is made of whole convolutions (as StyleGAN2's are, Karras et al. 2020).

torch's own second derivative of a grouped convolution runs one convolution for each group: on a GPU, thousands of launches in
an update with a gradient penalty. Here both first derivatives are functions that whole convolutions differentiate again.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d


class GroupedConv2d(nn.Conv2d):
    """A convolution in groups, with zeros around the image and without dilation, for networks under a gradient penalty.

    On a GPU it is :func:`convolve`, except in compiled code and under autocast, where the operands have different types.
    """

    def forward(self, images: Tensor) -> Tensor:
        if self.has_fast_derivatives(images):
            return convolve(images, self.weight, self.bias, self.stride, self.padding, self.groups)
        return super().forward(images)

    @staticmethod
    def has_fast_derivatives(images: Tensor) -> bool:
        """Tell if :func:`convolve` is used. It is no faster on a CPU."""
        return images.is_cuda and not torch.is_autocast_enabled("cuda") and not torch.compiler.is_compiling()


def convolve(images: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, groups: int) -> Tensor:
    """``conv2d`` (B, C, H, W) to (B, C', H', W') with the same values and derivatives of every order."""
    result: Tensor = _Convolution.apply(images, weight, bias, stride, padding, groups)
    return result


def _first_derivative(gradient: Tensor, images: Tensor, weight: Tensor, settings: Sequence[Any], of: int) -> Tensor:
    """torch's kernel for the derivative of a convolution by its images (``of`` 0) or its weight (1)."""
    stride, padding, groups = settings
    mask = [of == 0, of == 1, False]
    results: Sequence[Tensor] = torch.ops.aten.convolution_backward(
        gradient, images, weight, None, stride, padding, [1, 1], False, [0, 0], groups, mask
    )
    return results[of]


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None, *settings: Any) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.settings = settings
        stride, padding, groups = settings
        return conv2d(images, weight, bias, stride, padding, 1, groups)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (gradient,), (images, weight) = gradients, ctx.saved_tensors
        by_images, by_weight, by_bias = ctx.needs_input_grad[:3]
        return (
            _ByImages.apply(gradient, images, weight, *ctx.settings) if by_images else None,
            _ByWeight.apply(gradient, images, weight, *ctx.settings) if by_weight else None,
            gradient.sum((0, 2, 3)) if by_bias else None,
            *[None] * 3,
        )


class _ByImages(torch.autograd.Function):
    """Derivative by the images: linear in the gradient and in the weight, independent of the images."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, images: Tensor, weight: Tensor, *settings: Any) -> Tensor:
        ctx.save_for_backward(gradient, weight)
        ctx.settings = settings
        return _first_derivative(gradient, images, weight, settings, of=0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (outer,), (gradient, weight) = gradients, ctx.saved_tensors
        by_gradient, _, by_weight = ctx.needs_input_grad[:3]
        return (
            convolve(outer, weight, None, *ctx.settings) if by_gradient else None,
            None,
            _ByWeight.apply(gradient, outer, weight, *ctx.settings) if by_weight else None,
            *[None] * 3,
        )


class _ByWeight(torch.autograd.Function):
    """Derivative by the weight: linear in the gradient and in the images, independent of the weight."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, images: Tensor, weight: Tensor, *settings: Any) -> Tensor:
        ctx.save_for_backward(gradient, images)
        ctx.settings = settings
        return _first_derivative(gradient, images, weight, settings, of=1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (outer,), (gradient, images) = gradients, ctx.saved_tensors
        by_gradient, by_images, _ = ctx.needs_input_grad[:3]
        return (
            convolve(images, outer, None, *ctx.settings) if by_gradient else None,
            _ByImages.apply(gradient, images, outer, *ctx.settings) if by_images else None,
            *[None] * 4,
        )
