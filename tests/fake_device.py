"""A device for tests that computes on the CPU, refuses what CUDA refuses and records what makes the host wait.

A tensor of the device ``fakegpu`` wraps a tensor of the CPU. An operation unwraps its arguments, runs on the CPU, and wraps
the results. Before that it checks two rules of CUDA: all tensors with a dimension are on one device, and a generator belongs
to the device of what it fills. Like a GPU, the device has random numbers of its own.

The host would wait for these operations: reading a value, results whose shape depends on values, copies to and from the
device. :func:`watching` records them, with the line that asked for them. A copy to the device that is asked not to block is
no wait: CUDA has read the host's memory when it returns.

torch's Python back end of PrivateUse1 makes this possible. It is experimental, so only tests of a process of their own use it
(tests/test_fake_device.py). These tests say nothing about kernels, memory, determinism and ``device.type == "cuda"``.
"""

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.accelerators import Accelerator
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

import gan_lightning

NAME = "fakegpu"
PACKAGE = f"{Path(gan_lightning.__file__).parent}{os.sep}"
aten = torch.ops.aten

COPIES = {aten._to_copy.default, aten.copy_.default, aten._foreach_copy_.default}
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
BELOW_PYTHON = [aten.empty_strided.default, aten.empty.memory_format, aten.copy_.default, aten._to_copy.default]
"""Operations that ``torch.tensor`` calls in C++."""
LOW_PRECISION = [
    *(aten.conv2d.default, aten.conv_transpose2d.input, aten.linear.default, aten.matmul.default, aten.mm.default),
    *(aten.addmm.default, aten.bmm.default, aten.baddbmm.default),
]
"""Operations that CUDA's autocast runs in the lower precision, among those of this project."""


class DeviceError(RuntimeError):
    """An operation that CUDA refuses."""


class FakeGPUTensor(Tensor):
    """A tensor of the device.

    Attributes:
        wrapped: the same tensor on the CPU.
    """

    wrapped: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, inner: Tensor) -> "FakeGPUTensor":
        made: FakeGPUTensor = Tensor._make_wrapper_subclass(
            cls, inner.shape, inner.stride(), inner.storage_offset(), dtype=inner.dtype, device=DEVICE
        )
        made.wrapped = inner
        return made

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["wrapped"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], context: None, size: Any, stride: Any) -> "FakeGPUTensor":
        return FakeGPUTensor(inner["wrapped"])

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        return _run(function, *args, **(kwargs or {}))

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def numpy(self, **_: Any) -> Any:
        raise TypeError(f"can't convert {NAME} device type tensor to numpy. Use Tensor.cpu() first")

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.wrapped.__reduce_ex__(protocol)  # files have tensors of the CPU

    def __repr__(self, *_: Any, **__: Any) -> str:  # type: ignore[override]
        return f"FakeGPUTensor({self.wrapped!r})"


class Backend:
    """The module ``torch.fakegpu``.

    Attributes:
        random_state: state of the device's random numbers.
    """

    def __init__(self) -> None:
        self.random_state = torch.Generator().manual_seed(0).get_state()

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return True

    def current_device(self) -> int:
        return 0

    def set_device(self, device: Any) -> None: ...

    def device_count(self) -> int:
        return 1

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed(self, seed: int) -> None:
        self.random_state = torch.Generator().manual_seed(seed).get_state()

    manual_seed_all = manual_seed

    def get_rng_state(self, device: Any = None) -> Tensor:
        return self.random_state

    def set_rng_state(self, state: Tensor, device: Any = None) -> None:
        self.random_state = state

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16]

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Within the block the CPU draws the device's random numbers."""
        before = torch.default_generator.get_state()
        torch.default_generator.set_state(self.random_state)
        try:
            yield
        finally:
            self.random_state = torch.default_generator.get_state()
            torch.default_generator.set_state(before)


class Watch:
    """Operations on the device.

    Attributes:
        launches: operation -> how often it ran. Views are not counted.
        waits: "reason, at line of the package" -> how often the host would have waited.
        copies: number of copies to the device that the host does not wait for.
    """

    def __init__(self) -> None:
        self.copies = 0
        self.launches: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()

    def wait(self, reason: str) -> None:
        frame: Any = sys._getframe()
        while frame and not frame.f_code.co_filename.startswith(PACKAGE):
            frame = frame.f_back
        line = f"{frame.f_code.co_filename.removeprefix(PACKAGE)}:{frame.f_lineno}" if frame else "another package"
        self.waits[f"{reason}, at {line}"] += 1


_watch = Watch()


@contextmanager
def watching() -> Iterator[Watch]:
    """Record the operations of the block."""
    global _watch
    before, _watch = _watch, Watch()
    try:
        yield _watch
    finally:
        _watch = before


def _run(function: Any, *args: Any, **kwargs: Any) -> Any:
    """Check an operation, record it, and run it on the CPU."""
    if torch._C._dispatch_has_kernel_for_dispatch_key(function.name(), "CompositeImplicitAutograd"):  # in inference mode
        made = function.decompose(*args, **kwargs)
        if made is not NotImplemented:
            return made
    tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
    target = torch.device(kwargs["device"]).type if kwargs.get("device") is not None else None
    own = any(isinstance(tensor, FakeGPUTensor) for tensor in tensors)
    if function in COPIES and own and (target not in (None, NAME) or _is_on_cpu(args[0])):
        _watch.wait("copy from the device")
        result = function(*tree_map(_unwrapped, args), **{name: kwargs[name] for name in kwargs if name != "non_blocking"})
        return args[0] if function is aten.copy_.default else result
    if not own and target != NAME:
        return function(*args, **kwargs)
    _check(function, tensors, args, kwargs, target)
    random = torch.Tag.nondeterministic_seeded in function.tags and kwargs.get("generator") is None
    if not function.is_view and function not in (aten.detach.default, aten.alias.default):
        _watch.launches[str(function)] += 1
    inner = tree_map(_unwrapped, kwargs)
    inner.pop("pin_memory", None)
    if "device" in inner:
        inner["device"] = torch.device("cpu")
    inner_args = tree_map(_unwrapped, args)
    with BACKEND.drawing() if random else nullcontext():
        result = function(*inner_args, **inner)
    if function is aten._to_copy.default and result is inner_args[0]:
        result = result.clone()
    wrapped = tree_map(lambda value: FakeGPUTensor(value) if type(value) is Tensor else value, result)
    return return_and_correct_aliasing(function, args, kwargs, wrapped)


def _is_on_cpu(value: Any) -> bool:
    return isinstance(value, Tensor) and not isinstance(value, FakeGPUTensor)


def _unwrapped(value: Any) -> Any:
    return value.wrapped if isinstance(value, FakeGPUTensor) else value


def _check(function: Any, tensors: list[Tensor], args: Any, kwargs: Any, target: str | None) -> None:
    """Refuse what CUDA refuses, and record what the host would wait for."""
    generator = kwargs.get("generator")
    if generator is not None and generator._cdata not in _generators:
        raise DeviceError(f"{function}: expected a generator of {NAME}, not of the CPU")
    others = list(filter(_is_on_cpu, tensors))
    if function in COPIES or target is not None:
        if others and (kwargs.get("non_blocking") or (function in COPIES and args[2:3] == (True,))):
            _watch.copies += 1
        elif others:
            _watch.wait("copy to the device")
        return
    if function in INDEXING and isinstance(args[0], FakeGPUTensor):
        indices = [index for index in args[1] if isinstance(index, Tensor)]
        if any(index.dtype in (torch.bool, torch.uint8) for index in indices):
            _watch.wait(f"{function} by a mask")
        if any(map(_is_on_cpu, indices)):
            _watch.wait(f"{function} by indices of the CPU")
        others = list(filter(_is_on_cpu, args[2:3]))  # the values
    elif {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(function.tags):
        _watch.wait(str(function))
    if any(tensor.dim() > 0 or "_foreach_" in function.name() for tensor in others):
        places = ", ".join(f"{tuple(tensor.shape)} on {tensor.device.type}" for tensor in tensors)
        raise DeviceError(f"{function}: expected all tensors on the same device, but got {places}")


_generators: dict[int, torch.Generator] = {}
"""Generators of the device, by address; kept, so that no generator of the CPU gets the address of one."""


class _Generator(torch.Generator):
    def __new__(cls, device: Any = "cpu") -> "_Generator":
        own = torch.device(device).type == NAME
        made: _Generator = super().__new__(cls, "cpu" if own else device)  # type: ignore[call-arg]
        if own:
            _generators[made._cdata] = made  # type: ignore[attr-defined]
        return made


def _in_low_precision(operation: Any) -> Callable[..., Any]:
    """Make the version of an operation that runs under autocast."""

    def run(*args: Any, **kwargs: Any) -> Any:
        def cast(value: Any) -> Any:
            is_wide = isinstance(value, Tensor) and value.dtype == torch.float32
            return value.to(torch.get_autocast_dtype(NAME)) if is_wide else value

        autocast = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)  # type: ignore[attr-defined]
        with torch._C._ExcludeDispatchKeyGuard(autocast):
            return operation(*tree_map(cast, args), **tree_map(cast, kwargs))

    return run


def _set_up() -> list[torch.library.Library]:
    """Set up the device. The first backward pass of a process counts the devices, so call this before it."""
    _setup_privateuseone_for_python_backend(NAME, backend_module=BACKEND)
    torch.Generator = _Generator  # type: ignore[misc]
    anything, operations = (
        torch.library.Library("_", "IMPL", "PrivateUse1"),
        torch.library.Library("aten", "IMPL", "PrivateUse1"),
    )
    anything.fallback(_run)
    for operation in BELOW_PYTHON:
        operations.impl(operation, lambda *args, operation=operation, **kwargs: _run(operation, *args, **kwargs))
    key = "AutocastPrivateUse1"
    any_autocast, autocast = torch.library.Library("_", "IMPL", key), torch.library.Library("aten", "IMPL", key)
    any_autocast.fallback(torch.library.fallthrough_kernel)
    for operation in LOW_PRECISION:
        autocast.impl(operation, _in_low_precision(operation))
    return [anything, operations, any_autocast, autocast]


BACKEND = Backend()
LIBRARIES = _set_up()
DEVICE = torch.device(NAME, 0)


class FakeAccelerator(Accelerator):
    """The device as Lightning sees it."""

    def setup_device(self, device: torch.device) -> None: ...

    def teardown(self) -> None: ...

    @staticmethod
    def parse_devices(devices: Any) -> Any:
        return [0]

    @staticmethod
    def get_parallel_devices(devices: Any) -> Any:
        return [DEVICE]

    @staticmethod
    def auto_device_count() -> int:
        return 1

    @staticmethod
    def is_available() -> bool:
        return True

    @staticmethod
    def name() -> str:
        return NAME


def strategy() -> SingleDeviceStrategy:
    """Make the strategy of a Trainer that trains on the device."""
    return SingleDeviceStrategy(DEVICE, accelerator=FakeAccelerator())
