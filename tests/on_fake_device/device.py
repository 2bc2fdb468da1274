"""The fake device itself: it has the CPU's numbers, refuses what CUDA refuses and records waits."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import embedding

from gan_lightning.training.randomness import preserved_random_state, seed_device
from tests.fake_device import DEVICE, NAME, DeviceError, FakeGPUTensor, watching

REFUSED: dict[str, Callable[[Tensor], Tensor]] = {
    "a tensor of the CPU": lambda images: images + torch.arange(4),
    "noise of the CPU": lambda images: images * torch.rand(2, 4),
    "labels of the CPU": lambda images: embedding(torch.zeros(2, dtype=torch.long), images),
    "a table on the CPU": lambda images: embedding(images.long(), torch.ones(9, 1)),
    "a mask of the CPU": lambda images: torch.where(torch.ones(2, 4, dtype=torch.bool), images, 0.0),
    "parts of two devices": lambda images: torch.cat([images, torch.ones(1, 4)]),
    "an image of the CPU": lambda images: torch.rand(2, 4)[images.long()],
    "values of the CPU": lambda images: images.clone().index_put_((torch.arange(2, device=DEVICE),), torch.ones(2, 4)),
    "a generator of the CPU": lambda images: torch.rand(2, device=DEVICE, generator=torch.Generator()),
}
WAITS: dict[str, Callable[[Tensor], object]] = {
    "item": lambda images: images.mean().item(),
    "float": lambda images: float(images.mean()),
    "a branch": lambda images: 1 if images.mean() > 9 else 2,
    "equal": lambda images: torch.equal(images, images),
    "a mask": lambda images: images[images > 0],
    "an assignment by a mask": lambda images: images.clone().index_put_((images > 0,), images[0, :1]),
    "nonzero": lambda images: images.nonzero(),
    "where with one argument": lambda images: torch.where(images > 0),
    "unique": lambda images: images.unique(),
    "from the device": lambda images: images.cpu(),
    "list": lambda images: images.tolist(),
    "to the device": lambda images: torch.ones(2).to(DEVICE),
    "a new tensor": lambda images: torch.tensor([1.0, 2.0], device=DEVICE),
    "a copy": lambda images: images.clone().copy_(torch.ones(4)),
    "a copy to the CPU": lambda images: torch.ones(2, 4).copy_(images),
    "to the CPU, without blocking": lambda images: images.to("cpu", non_blocking=True),
    "indices of the CPU": lambda images: images[torch.tensor([0, 1])],
}
FREE: dict[str, Callable[[Tensor], Tensor]] = {
    "a number": lambda images: images * 2 + torch.tensor(1.0),
    "random numbers": lambda images: images + torch.randn(2, 4, device=DEVICE),
    "a generator": lambda images: images + torch.rand(4, device=DEVICE, generator=torch.Generator(DEVICE).manual_seed(1)),
    "indices": lambda images: images[torch.arange(2, device=DEVICE)],
    "a choice": lambda images: torch.where(images > 0, images, images.flip(1)),
    "clamping": lambda images: images.clamp_(-0.5, 0.5),
    "another type": lambda images: images.to(torch.bfloat16).float(),
    "to the device, without blocking": lambda images: torch.ones(2).to(DEVICE, non_blocking=True),
    "a copy, without blocking": lambda images: images.clone().copy_(torch.ones(4), non_blocking=True),
    "dropout": lambda images: torch.dropout(images, 0.5, train=True),
}


@pytest.fixture
def images() -> Tensor:
    return torch.linspace(-1, 1, 8).view(2, 4).to(DEVICE)


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str, images: Tensor) -> None:
    with pytest.raises(DeviceError):
        REFUSED[case](images)


@pytest.mark.parametrize("case", WAITS)
def test_waits(case: str, images: Tensor) -> None:
    with watching() as watch:
        WAITS[case](images)
    assert watch.waits


@pytest.mark.parametrize("case", FREE)
def test_without_waits(case: str, images: Tensor) -> None:
    with watching() as watch:
        result = FREE[case](images)
    assert isinstance(result, FakeGPUTensor)
    assert result.device == DEVICE
    assert watch.launches
    assert not watch.waits


def test_numbers_are_the_cpus() -> None:
    def gradients(device: torch.device | str) -> list[Tensor]:
        torch.manual_seed(1)
        weight = torch.randn(3, 2, 3, 3, device=device, requires_grad=True)
        images = torch.randn(4, 2, 6, 6, device=device, requires_grad=True)
        logits = torch.nn.functional.leaky_relu(torch.conv2d(images, weight), 0.2).flatten(1).sum(1).square()
        (gradient,) = torch.autograd.grad(logits.sum(), [images], create_graph=True)
        gradient.square().sum().backward()
        assert weight.grad is not None
        return [gradient.detach(), weight.grad]

    for mine, theirs in zip(gradients(DEVICE), gradients("cpu"), strict=True):
        assert mine.device == DEVICE
        assert torch.equal(mine.cpu(), theirs)


def test_random_numbers_are_the_devices_own() -> None:
    """Draws on the CPU do not move them, and the other way round."""
    torch.manual_seed(1)
    first = torch.randn(3, device=DEVICE), torch.randn(3, device=DEVICE)
    torch.manual_seed(1)
    torch.randn(5)
    second = torch.randn(3, device=DEVICE), torch.randn(3, device=DEVICE)
    assert all(torch.equal(one.cpu(), other.cpu()) for one, other in zip(first, second, strict=True))
    assert torch.equal(first[0].cpu(), torch.randn(3, generator=torch.Generator().manual_seed(1)))


def test_random_numbers_are_seeded_and_preserved() -> None:
    """The functions of the package do not name the device."""
    seed_device(1, DEVICE)
    with preserved_random_state(DEVICE):
        drawn = torch.rand(3, device=DEVICE)
    assert torch.equal(torch.rand(3, device=DEVICE).cpu(), drawn.cpu())
    seed_device(1, DEVICE)
    assert torch.equal(torch.rand(3, device=DEVICE).cpu(), drawn.cpu())


def test_modules_move() -> None:
    module = torch.nn.Linear(2, 2).to(DEVICE)
    assert {parameter.device for parameter in module.parameters()} == {DEVICE}
    assert {parameter.device.type for parameter in module.cpu().parameters()} == {"cpu"}


def test_autocast() -> None:
    module, inputs = torch.nn.Linear(2, 2).to(DEVICE), torch.ones(1, 2, device=DEVICE)
    with torch.autocast(NAME, torch.bfloat16):
        assert module(inputs).dtype == torch.bfloat16
    assert module(inputs).dtype == torch.float32
