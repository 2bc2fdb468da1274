"""Near misses: each answer names the right spelling."""

import shlex
from pathlib import Path

import pytest

from gan_lightning.commands.common.parser_errors import parameters_of
from gan_lightning.commands.common.suggestions import MEANT
from gan_lightning.commands.verbs import Verb
from gan_lightning.data import HubDataset, ImageFolder
from gan_lightning.errors import nearest
from gan_lightning.networks import DCGANGenerator
from gan_lightning.regularizers import R1
from tests.helpers import refusal

LEARNING_RATE = "--model.generator_optimizer.lr"


@pytest.mark.parametrize(
    ("line", "right"),
    [
        ("train --epochs 3", "--max_epochs?"),
        ("train --trainer.epochs 3", "--max_epochs?"),
        ("train --batch_size 3", "--data.batch_size?"),
        ("train --batch-size 3", "--data.batch_size?"),
        ("train --num_workers 2", "--data.num_workers?"),
        ("train --seed 1", "--seed_everything?"),
        ("train --lr 0.1", LEARNING_RATE),
        ("train --model.lr 0.1", LEARNING_RATE),
        ("train --learning-rate=0.1", LEARNING_RATE),
        ("train --gpus 1", "--accelerator gpu --devices"),
        ("train --cuda", "--accelerator gpu?"),
        ("train --iterations 10", "--max_steps?"),
        ("train --Max-Steps 3", "--max_steps?"),
        ("train -max_steps 3", "--max_steps?"),
        ("train max_steps=3", "--max_steps=3?"),
        ("train -c digits", "--config?"),
        ("train --resume last", "--ckpt_path?"),
        ("train --z_dim 10", "--model.generator.latent_dim?"),
        ("train --n_critic 5", "--model.discriminator_steps?"),
        ("train --data_dir x", "--data.root?"),
        ("train --output x", "--default_root_dir?"),
        ("train --fp16", "--precision?"),
        ("train --wandb", "--logger wandb?"),
        ("train --dry-run", "--dry_run?"),
        ("train --checkpoints.save_every 10", "--checkpoints.every_n_steps?"),
        ("train --data.path x", "--data.root?"),
        ("train --data.workers 2", "root, batch_size"),
        ("train --model.generator.z_dim 7", "--model.generator.latent_dim?"),
        ("train --data mnist", "MNIST?"),
        ("train --data cifar-10", "CIFAR10?"),
        ("train --data fashion_mnist", "FashionMNIST?"),
        ("train --data 'my photos'", "--data ImageFolder --data.root 'my photos'?"),
        ("train --model.generator dcgan", "DCGANGenerator?"),
        ("train --model.loss hinge", "HingeLoss?"),
        ("train --model.loss wgan", "WassersteinLoss"),
        ("train --model.generator_optimizer adam", "Adam?"),
        ("train --model.generator_optimizer.lr fast", "a number"),
        ("train --model.generator_optimizer.betas 0.5", "[1, 2]"),
        ("train --metrics fid", "--metrics.metrics fid"),
        ("train --model dcgan", "--config"),
        ("train --config digits --gradient_clip_val 1", "--gradient_clip_val 1"),
        ("train --config digits --gradient_clip_algorithm norm", "--model.gradient_clip"),
        ("train --config digits --accumulate_grad_batches 4", "--data.batch_size"),
        ("train digits", "--config digits?"),
        ("train own.YAML", "--config own.YAML?"),
        ("train last.ckpt", "--ckpt_path last.ckpt?"),
        ("train fit --max_steps 3", "remove"),
        ("train validate --ckpt_path last.ckpt", "evaluate.py"),
        ("train test --ckpt_path last.ckpt", "evaluate.py"),
        ("train --data ImageFolder --data.root my photos", "quotes"),
        ("evaluate digits --data mnist", "MNIST?"),
        ("evaluate digits --num_samples 10", "--num_images?"),
        ("evaluate digits --batch 10", "--batch_size?"),
        ("evaluate digits --real_images x", "--real?"),
        ("evaluate --checkpoint digits", "without a flag"),
        ("evaluate --ckpt_path digits", "without a flag"),
        ("sample --checkpoint digits", "without a flag"),
        ("sample digits -o x.png", "--output?"),
        ("sample digits -n 3", "--num_images?"),
        ("sample digits --label 1", "--class?"),
        ("sample digits --psi 0.5", "--truncation?"),
        ("sample Digits", "digits?"),
        ("invert digits b.npz --iterations 3", "--steps?"),
        ("export digits --fp16", "--precision?"),
        ("compare --recipes digit", "--recipes digit"),
        ("compare --config digits", "--recipes?"),
        ("compare --batch_size 3", "--data.batch_size?"),
        ("compare --epochs 3", "--max_steps?"),
        ("compute_reference --dataset MNIST", "--data?"),
    ],
)
def test_an_answer_names_the_right_spelling(line: str, right: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("b.npz").touch()
    Path("my photos").mkdir()
    verb, *args = shlex.split(line)
    refusal(Verb[verb].main, args, capsys, right)


@pytest.mark.parametrize(
    ("config", "right"),
    [
        ("recipes/dcgan_mnist.YAML", "dcgan_mnist?"),
        ("gan_lightning/recipes/dcgan_mnist.yaml", "dcgan_mnist?"),
        ("dcgan_mnist.yaml", "dcgan_mnist?"),
        ("DCGAN-MNIST", "dcgan_mnist?"),
        ("configs/mine.YAML", "configs/mine.yaml?"),
        ("configs/mine", "configs/mine.yaml?"),
        ("other.txt", "must end in .yaml"),
        ("lightning_logs/version_0", "lightning_logs/version_0/config.yaml?"),
        ("configs", ".yaml"),
        ("", ".yaml"),
    ],
)
def test_a_config_that_does_not_exist(config: str, right: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("configs/mine.yaml", "other.txt", "lightning_logs/version_0/config.yaml"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("data: Digits\n")
    refusal(Verb.train.main, ["--config", config], capsys, f"--config {config}", right)


def test_a_relative_config_from_another_folder(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = tmp_path / "recipes" / "mine.yaml"
    config.parent.mkdir()
    config.write_text("data: Digits\n")
    (tmp_path / "work" / "here").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work" / "here")
    refusal(Verb.train.main, ["--config", "recipes/mine.yaml"], capsys, f"{config}?")


def test_the_newest_checkpoint_is_suggested(capsys: pytest.CaptureFixture[str]) -> None:
    path = Path("lightning_logs/version_3/checkpoints/last.ckpt")
    path.parent.mkdir(parents=True)
    path.touch()
    for name in ("last", "last.ckpt", "version_3/last.ckpt"):
        refusal(Verb.sample.main, [name], capsys, f"{path}?")


def test_suggested_flags_exist() -> None:
    """Each of them is a flag of some command, or an argument of a class that a folder, a set or the default recipe has."""
    parsers = [verb.make_parser() for verb in Verb]
    known = {action.dest.removeprefix("trainer.") for parser in parsers for action in parser._actions}
    classes = [("data", ImageFolder), ("data", HubDataset), ("model.generator", DCGANGenerator), ("model.penalty", R1)]
    known |= {f"{group}.{name}" for group, owner in classes for name in parameters_of(f"{owner.__module__}.{owner.__name__}")}
    known |= {f"model.{network}_optimizer.lr" for network in ("generator", "discriminator")}
    assert not [word for words in MEANT for word in words.split() if word.startswith("--") and word[2:] not in known]


@pytest.mark.parametrize(
    ("name", "known", "found"),
    [
        ("cifar-10", ["CIFAR10", "MNIST"], "CIFAR10"),
        ("DCGAN", ["DCGANGenerator", "DCGANDiscriminator"], "DCGANGenerator"),
        ("folder", ["ImageFolder"], "ImageFolder"),
        ("max_step", ["max_steps", "min_steps"], "max_steps"),
    ],
)
def test_spelling_is_compared_without_case_and_joints(name: str, known: list[str], found: str) -> None:
    assert nearest(name, known) == f"; did you mean {found}?"
    assert nearest("xyz", known) == ""
