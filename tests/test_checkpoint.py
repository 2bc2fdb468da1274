"""Contents of checkpoints, and refusals that name the wrong entry."""

from pathlib import Path
from typing import Any

import pytest
import torch

from gan_lightning import checkpoint, files
from tests.helpers import refuses

NETWORK = {"class_path": "gan_lightning.networks.mlp.MLPGenerator", "arguments": {}}
WHOLE: dict[str, Any] = {
    "gan_lightning": {
        "format_version": checkpoint.FORMAT_VERSION,
        "generator": NETWORK,
        "discriminator": NETWORK,
        "ema": False,
    },
    "state_dict": {},
    "global_step": 3,
    "pytorch-lightning_version": "2.6.6",
}


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"state_dict": {}}, "gan_lightning"),
        ([1, 2], "gan_lightning"),
        ({"gan_lightning": {"format_version": checkpoint.FORMAT_VERSION}}, "gan_lightning"),
        ({"gan_lightning": {"format_version": 99, "generator": {}, "discriminator": {}, "ema": False}}, "99"),
        (
            {"gan_lightning": {"format_version": checkpoint.FORMAT_VERSION, "generator": 5, "discriminator": {}, "ema": False}},
            "networks",
        ),
        (
            {
                "gan_lightning": {
                    "format_version": checkpoint.FORMAT_VERSION,
                    "generator": NETWORK,
                    "discriminator": NETWORK,
                    "ema": False,
                }
            },
            "global_step",
        ),
        (
            {
                "gan_lightning": {
                    "format_version": torch.ones(2),
                    "generator": NETWORK,
                    "discriminator": NETWORK,
                    "ema": False,
                }
            },
            "unknown",
        ),
        *(
            ({**WHOLE, **{name: value}}, named)
            for name, value, named in (
                ("hyper_parameters", {"_instantiator": "os.system"}, "hyper_parameters"),
                ("datamodule_hyper_parameters", {"_instantiator": "os.system"}, "datamodule_hyper_parameters"),
                ("hparams_name", "kwargs", "hparams_name"),
                ("state_dict", [1], "state_dict"),
                ("state_dict", {1: torch.ones(1)}, "state_dict"),
                ("global_step", "7", "global_step"),
            )
        ),
    ],
)
def test_a_foreign_file_is_refused(tmp_path: Path, content: object, named: str) -> None:
    files.save(content, tmp_path / "file.ckpt")
    with refuses("file.ckpt", named):
        checkpoint.load_gan(tmp_path / "file.ckpt")


def test_a_complete_checkpoint_is_accepted(tmp_path: Path) -> None:
    files.save(WHOLE, tmp_path / "file.ckpt")
    assert checkpoint.load_gan(tmp_path / "file.ckpt") == WHOLE


RESUMABLE: dict[str, Any] = {
    "epoch": 1,
    "global_step": 3,
    "optimizer_states": [{"state": {}, "param_groups": []}] * 2,
    "loops": {"fit_loop": {}},
    "callbacks": {},
}


def test_a_resumable_checkpoint_is_accepted() -> None:
    checkpoint.require_resumable(RESUMABLE, "last.ckpt")


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("epoch", -1),
        ("epoch", None),
        ("global_step", -1),
        ("optimizer_states", RESUMABLE["optimizer_states"][:1]),
        ("optimizer_states", [{}, {}]),
        ("loops", {}),
        ("callbacks", {"Timer": 5}),
    ],
)
def test_the_entry_that_prevents_resuming_is_named(entry: str, value: object) -> None:
    with refuses("last.ckpt", entry):
        checkpoint.require_resumable({**RESUMABLE, entry: value}, "last.ckpt")
