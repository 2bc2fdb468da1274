"""The discriminator on frozen features: what is frozen, what the backbone sees, what its logits mean, and whole commands."""

from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.datasets import load_sample_images
from torch import Tensor, nn
from torch.nn.functional import interpolate

from gan_lightning import checkpoint
from gan_lightning.augment import DiffAugment
from gan_lightning.commands.verbs import Verb
from gan_lightning.efficientnet import load_backbone
from gan_lightning.errors import InputError
from gan_lightning.gan import GAN
from gan_lightning.images import on_white, to_float
from gan_lightning.losses import HingeLoss, NonSaturatingLoss
from gan_lightning.metrics.imagenet import prepare
from gan_lightning.networks import DCGANGenerator, ProjectedDiscriminator, VisionAidedDiscriminator
from gan_lightning.regularizers import R1, DiscriminatorBatch
from tests.helpers import Outputs, TensorData, assert_same_state, fit, interrupted, refusal, refuses

SHAPE = (3, 16, 16)
RUN = [
    *("--config", "digits", "--model.discriminator", "ProjectedDiscriminator", "--model.discriminator.resolution", "32"),
    *("--model.discriminator.width", "4", "--model.discriminator.conditioning", "projection", "--model.loss", "HingeLoss"),
    *("--model.penalty", "null", "--model.augmentation", "DiffAugment", "--data.batch_size", "8", "--max_steps", "6"),
    *("--accelerator", "cpu", "--enable_progress_bar", "false", "--log_every_n_steps", "2"),
]
UNMEASURED = ["--metrics.extractor", "none", "--health.every_n_steps", "0"]


def small(shape: tuple[int, int, int] = SHAPE, **arguments: Any) -> ProjectedDiscriminator:
    return ProjectedDiscriminator(shape, **({"resolution": 32, "width": 4} | arguments))


def colours() -> TensorData:
    images = torch.randint(0, 256, (32, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return TensorData(images, batch_size=4)


def model(batch_norm: bool = True, **arguments: Any) -> GAN:
    generator = DCGANGenerator(SHAPE, latent_dim=4, width=4)
    return GAN(generator, small(batch_norm=batch_norm), HingeLoss(), augmentation=DiffAugment(), **arguments)


class Looks:
    """Records the inputs of the backbone at each of its passes."""

    def __init__(self, discriminator: ProjectedDiscriminator) -> None:
        self.seen: list[Tensor] = []
        self.modes: set[bool] = set()
        discriminator.backbone.register_forward_pre_hook(self._record)

    def _record(self, backbone: nn.Module, inputs: tuple[Tensor]) -> None:
        self.seen.append(inputs[0])
        self.modes |= {module.training for module in backbone.modules()}


# What it computes


@pytest.mark.parametrize(
    ("resolution", "maps", "positions"),
    [(32, [8, 4, 2, 1], 37), (64, [16, 8, 4, 2], 52), (96, [24, 12, 6, 3], 36), (100, [25, 13, 7, 4], 43)],
)
def test_every_scale_has_logits(resolution: int, maps: list[int], positions: int) -> None:
    d = small(resolution=resolution)
    seen: list[Tensor] = []
    d.mixing.register_forward_hook(lambda mixing, inputs, mixed: seen.extend(mixed))
    assert d(torch.zeros(2, *SHAPE)).shape == (2, positions)
    assert [tuple(mixed.shape[1:]) for mixed in seen] == [(4 * 2**i, side, side) for i, side in enumerate(maps)]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(28, 28), (64, 48), (300, 301)])
def test_the_backbone_sees_what_the_extractor_would_see(channels: int, size: tuple[int, int]) -> None:
    images = torch.randint(0, 256, (2, channels, *size), dtype=torch.uint8)
    d = small((channels, *size), resolution=224)
    looks = Looks(d)
    with torch.no_grad():
        d(to_float(images))
    assert torch.allclose(looks.seen[0], prepare(images), atol=1e-4)


@pytest.mark.parametrize("resolution", [64, 224])
def test_mixed_features_have_a_mean_square_near_one(resolution: int) -> None:
    """On the two photographs that scikit-learn ships, at every scale."""
    photographs = torch.stack([torch.from_numpy(image.copy()) for image in load_sample_images().images]).permute(0, 3, 1, 2)
    d = small((3, 128, 128), resolution=resolution, width=16)
    with torch.no_grad():
        mixed = d.mixing(d.backbone(d._prepare(to_float(interpolate(photographs, (128, 128))))))
    for features in mixed:
        assert 1 / 3 < float(features.square().mean()) < 3


def test_mixing_depends_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    one = small(seed=5).mixing.state_dict()
    torch.manual_seed(2)
    for name, weight in small(seed=5).mixing.state_dict().items():
        assert torch.equal(weight, one[name])
        assert not torch.equal(weight, small(seed=6).mixing.state_dict()[name])
    assert len(one) == 4 + 3
    assert not list(small().mixing.parameters())


def test_every_scale_sees_the_coarsest_one() -> None:
    """Mixing across scales: a change of the coarsest map changes all mixed maps, one of the finest map only the finest."""
    d = small(resolution=64)
    maps = d.backbone(torch.randn(1, 3, 64, 64))
    for changed, expected in ((3, [True] * 4), (0, [True, False, False, False])):
        other = [features + float(i == changed) for i, features in enumerate(maps)]
        pairs = zip(d.mixing(maps), d.mixing(other), strict=True)
        assert [not torch.equal(before, after) for before, after in pairs] == expected


@pytest.mark.parametrize("size", [32, 64, 128, 256])
def test_gradients_reach_images_of_every_size(size: int) -> None:
    images = torch.rand(2, 3, size, size).requires_grad_()
    small((3, size, size), resolution=64)(images).mean().backward()
    assert images.grad is not None
    assert images.grad.isfinite().all()
    assert (images.grad.flatten(1).norm(dim=1) > 0).all()


def test_logits_of_an_image_depend_on_that_image_alone() -> None:
    images = torch.rand(3, *SHAPE).requires_grad_()
    small(batch_norm=False).train()(images)[1].sum().backward()
    assert images.grad is not None
    assert [bool(gradient.any()) for gradient in images.grad] == [False, True, False]


@pytest.mark.parametrize("conditioning", [None, "concatenation", "projection", "classifier"])
def test_logits_are_float32_under_autocast(conditioning: Any) -> None:
    d = small(num_classes=3, conditioning=conditioning)
    images, labels = torch.rand(3, *SHAPE), torch.arange(3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits, classes = d.judge(images, labels)
    assert logits.dtype == torch.float32
    assert classes is None or (classes.dtype, classes.shape) == (torch.float32, (3, 3))


# What is frozen


def test_only_the_small_discriminators_train() -> None:
    gan = model(ema_halflife=10.0)
    assert isinstance(gan.discriminator, ProjectedDiscriminator)
    d = gan.discriminator
    mixing = {name: weight.clone() for name, weight in d.mixing.state_dict().items()}
    before = {name: parameter.detach().clone() for name, parameter in gan.named_parameters()}
    fit(gan, colours(), max_steps=2)
    for mine, original in zip(d.backbone.buffers(), load_backbone().buffers(), strict=True):
        assert torch.equal(mine, original)
        assert mine.grad is None
    assert all(torch.equal(weight, mixing[name]) for name, weight in d.mixing.state_dict().items())
    for name, parameter in gan.named_parameters():
        if parameter.dim() < 2:  # while all logits are within the margin, a bias of the hinge has no gradient
            continue
        assert not torch.equal(parameter, before[name]), name
        if not name.startswith("ema"):
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.any(), name


def test_the_backbone_is_in_no_checkpoint() -> None:
    fit(model(), colours(), max_steps=1).save_checkpoint("last.ckpt")
    weights = checkpoint.load_gan(Path("last.ckpt"))["state_dict"]
    assert not [name for name in weights if "backbone" in name]
    assert [name for name in weights if "mixing" in name]
    assert Path("last.ckpt").stat().st_size < 2_000_000  # the backbone alone has 13 MB


@pytest.mark.parametrize(("batch_norm", "sizes"), [(True, [4, 4, 4]), (False, [8, 4])])
def test_the_backbone_runs_once_for_each_image_and_update(batch_norm: bool, sizes: list[int]) -> None:
    """Once for the real and the generated images of D's update, without a graph; once for those of G's, with one."""
    gan = model(batch_norm)
    assert isinstance(gan.discriminator, ProjectedDiscriminator)
    looks = Looks(gan.discriminator)
    fit(gan, colours(), max_steps=2)
    assert [len(images) for images in looks.seen] == sizes * 2
    assert [images.requires_grad for images in looks.seen] == ([False] * (len(sizes) - 1) + [True]) * 2
    assert looks.modes == {False}


# With the rest of the method


def test_the_hinge_loss_is_the_mean_over_all_logits_of_all_scales() -> None:
    gan = model(batch_norm=False)
    shown: list[Tensor] = []
    gan.discriminator.head.register_forward_hook(lambda head, inputs, logits: shown.append(logits.detach()))
    outputs = Outputs()
    fit(gan, colours(), [outputs], max_steps=1)
    both, fake = shown
    discriminator = sum(max(0.0, 1 - x) for x in both[:4].flatten().tolist()) / (4 * 37)
    discriminator += sum(max(0.0, 1 + x) for x in both[4:].flatten().tolist()) / (4 * 37)
    assert outputs.seen[0]["discriminator_loss"] == pytest.approx(discriminator, rel=1e-5)
    assert outputs.seen[0]["generator_loss"] == pytest.approx(-sum(fake.flatten().tolist()) / (4 * 37), rel=1e-4)


def test_r1_is_that_of_the_mean_logit() -> None:
    """Its value, and its derivative by the weights against a finite difference."""
    gan = model(batch_norm=False, penalty=R1(gamma=3.0))
    gan.augmentation = None
    gan.double().eval()
    real = torch.rand(2, *SHAPE, dtype=torch.float64)
    batch = DiscriminatorBatch(real, real, None, torch.zeros(2, 37), torch.zeros(2, 37))

    def penalty() -> Tensor:
        return gan.penalties[0](gan._logits_for_penalties, batch)  # type: ignore[no-any-return]

    points = real.clone().requires_grad_()
    (gradients,) = torch.autograd.grad(gan.discriminator(points).mean(dim=1).sum(), points)
    assert float(penalty().detach()) == pytest.approx(1.5 * float(gradients.square().sum(dim=(1, 2, 3)).mean()), rel=1e-9)
    weights = [parameter for parameter in gan.discriminator.parameters() if parameter.dim() == 4]
    slopes = torch.autograd.grad(penalty(), weights)
    directions = [torch.randn_like(weight) for weight in weights]
    with torch.no_grad():
        values = []
        for step in (1e-6, -2e-6):
            for weight, direction in zip(weights, directions, strict=True):
                weight.add_(direction, alpha=step)
            with torch.enable_grad():
                values.append(float(penalty().detach()))
    expected = sum(float((slope * direction).sum()) for slope, direction in zip(slopes, directions, strict=True))
    assert (values[0] - values[1]) / 2e-6 == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    "flags", [[], ["--model.discriminator", "VisionAidedDiscriminator", "--model.penalty", "R1", "--model.penalty.every", "2"]]
)
def test_a_run_is_measured_resumed_sampled_and_exported(flags: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A resumed run ends with the same bits."""
    run = [*RUN, *UNMEASURED, *flags]
    monkeypatch.setattr("gan_lightning.metrics.classifier.FEWEST_IMAGES_SEEN", 1)  # a poor classifier, but fast
    assert Verb.train.main([*run, "--default_root_dir", "straight"]) == 0
    interrupted([*run, "--default_root_dir", "stopped"], 4, monkeypatch)
    torch.manual_seed(3)
    assert Verb.train.main(["--ckpt_path", "last", "--default_root_dir", "stopped"]) == 0
    straight, stopped = (Path(root) / "lightning_logs" / "version_0" for root in ("straight", "stopped"))
    assert_same_state(straight, stopped)
    path = str(straight / "checkpoints" / "last.ckpt")
    assert Verb.sample.main([path, "--output", "grid.png", "--num_images", "10", "--accelerator", "cpu"]) == 0
    assert Verb.export.main([path, "--formats", "safetensors,torch"]) == 0
    measured = ["--num_images", "32", "--extractor", "classifier", "--metrics", "fid", "--accelerator", "cpu"]
    assert Verb.evaluate.main([path, *measured]) == 0


def test_health_and_dry_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert Verb.train.main([*RUN, "--dry_run"]) == 0
    assert "ProjectedDiscriminator" in capsys.readouterr().out
    measured = ["--metrics.extractor", "none", "--health.every_n_steps", "3", "--logger", "csv"]
    assert Verb.train.main([*RUN, *measured]) == 0
    header, *_ = Path("lightning_logs/version_0/metrics.csv").read_text().splitlines()
    assert {"health/separation", "health/overfitting", "health/feature_diversity"} <= set(header.split(","))


@pytest.mark.parametrize(
    ("flag", "value"),
    [("resolution", "8"), ("resolution", "4096"), ("width", "0"), ("seed", "-1"), ("conditioning", "batch_norm")],
)
def test_bad_arguments_get_one_line(flag: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    refusal(Verb.train.main, [*RUN, f"--model.discriminator.{flag}", value], capsys, flag, value)


def test_another_seed_is_refused_on_resuming(capsys: pytest.CaptureFixture[str]) -> None:
    assert Verb.train.main([*RUN, *UNMEASURED]) == 0
    changed = ["--ckpt_path", "last", "--max_steps", "8", "--model.discriminator.seed", "1"]
    refusal(Verb.train.main, changed, capsys, "seed 0 there, 1 here")


def test_a_damaged_backbone_gets_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cut.pth").write_bytes(b"PK")
    monkeypatch.setattr("gan_lightning.efficientnet.weights_file", lambda: tmp_path / "cut.pth")
    with pytest.raises(InputError, match=r"cut\.pth"):
        small()


# Beside a discriminator of the pixels


def vision_aided(**arguments: Any) -> VisionAidedDiscriminator:
    return VisionAidedDiscriminator(SHAPE, **({"resolution": 32, "width": 4, "pixel_width": 4, "hidden": 8} | arguments))


def test_pixels_and_features_count_equally() -> None:
    d = vision_aided(batch_norm=False).eval()
    images = torch.rand(3, *SHAPE)
    logits = d(images)
    assert logits.shape == (3, 2, 37)
    pixels, frozen = d.head.pixels(d.pixels(images)), d.head.frozen(ProjectedDiscriminator.features(d, images))  # type: ignore
    assert torch.allclose(logits.mean(dim=(1, 2)), (pixels + frozen.mean(dim=1)) / 2, atol=1e-6)


@pytest.mark.parametrize("size", [(8, 8), (28, 28), (30, 17), (64, 96)])
@pytest.mark.parametrize("conditioning", [None, "concatenation", "projection", "classifier"])
def test_it_takes_sizes_and_labels(conditioning: Any, size: tuple[int, int]) -> None:
    d = VisionAidedDiscriminator((1, *size), 3, resolution=32, width=4, pixel_width=2, hidden=8, conditioning=conditioning)
    images, labels = torch.rand(3, 1, *size).requires_grad_(), torch.arange(3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits, classes = d.judge(images, labels)
        penalized = d.penalized_logits(images, labels)
    assert (logits.shape, logits.dtype, penalized.shape, penalized.dtype) == ((3, 2, 37), torch.float32, (3,), torch.float32)
    assert classes is None or (classes.shape, classes.dtype) == ((3, 3), torch.float32)
    assert torch.equal(d.eval()(images, labels)[:, 0, 0], d.penalized_logits(images, labels))


def test_the_frozen_network_sees_transparent_images_on_white() -> None:
    d = VisionAidedDiscriminator((4, *SHAPE[1:]), resolution=32, width=4, pixel_width=4, hidden=8)
    images = torch.randint(0, 256, (3, 4, *SHAPE[1:]), dtype=torch.uint8)
    looks = Looks(d)
    with torch.no_grad():
        d(to_float(images))
    assert torch.allclose(looks.seen[0], d._prepare(to_float(on_white(images))), atol=0.02)  # of 2: on_white rounds


def test_penalties_see_the_pixels_alone() -> None:
    """R1 passes the frozen network by: the only passes are those of the losses."""
    gan = GAN(DCGANGenerator(SHAPE, latent_dim=4, width=4), vision_aided(), NonSaturatingLoss(), penalty=R1(gamma=3.0))
    looks = Looks(gan.discriminator)  # type: ignore[arg-type]
    outputs = Outputs()
    before = [parameter.detach().clone() for parameter in gan.discriminator.scales.parameters()]  # type: ignore[union-attr]
    fit(gan, colours(), [outputs], max_steps=1)
    assert [len(images) for images in looks.seen] == [4, 4, 4]
    assert outputs.seen[0]["penalty"] > 0
    assert all(
        not torch.equal(old, new)
        for old, new in zip(before, gan.discriminator.scales.parameters(), strict=True)  # type: ignore[union-attr]
    )


@pytest.mark.parametrize(("batch_norm", "independent"), [(True, False), (False, True)])
def test_it_declares_whether_samples_are_independent(batch_norm: bool, independent: bool) -> None:
    d = vision_aided(batch_norm=batch_norm).train()
    images = torch.rand(3, *SHAPE).requires_grad_()
    d(images)[1].sum().backward()
    assert images.grad is not None
    assert d.samples_are_independent == independent
    assert [bool(gradient.any()) for gradient in images.grad] == [not independent, True, not independent]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [({"pixel_width": 0}, "pixel_width is 0"), ({"hidden": 0}, "hidden is 0"), ({"width": 0}, "width is 0")],
)
def test_impossible_numbers_are_refused(arguments: dict[str, Any], parts: str) -> None:
    with refuses(parts):
        vision_aided(**arguments)


def test_images_of_a_few_pixels_are_refused() -> None:
    with refuses("16x7", "8"):
        VisionAidedDiscriminator((3, 16, 7), resolution=32)
