"""The model card, and the files next to a checkpoint that it is made from."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from gan_lightning import Sampler
from gan_lightning.model_card import MAX_BYTES, metrics, model_card, recipe
from gan_lightning.networks import MLPGenerator

CHECKPOINT = Path("run/checkpoints/last.ckpt")


@pytest.fixture(autouse=True)
def _run() -> None:
    CHECKPOINT.parent.mkdir(parents=True)


def write_config(text: str) -> None:
    Path("run/config.yaml").write_text(text)


def write_record(name: str, seconds: int, **entries: Any) -> None:
    """Write a record of the average after 8 steps, with a modification time."""
    protocol = {"global_step": 8, "weights": "ema", "num_images": 5000, "real": "mnist", "versions": {"torch": "2.11"}}
    record = {"metrics": {"fd": 3.25, "kd": 0.5, "kd_std": 0.125}, "protocol": protocol} | entries
    path = CHECKPOINT.with_name(name)
    path.write_text(json.dumps(record))
    os.utime(path, (seconds, seconds))


def config(**entries: Any) -> dict[str, Any]:
    return Sampler(MLPGenerator((1, 8, 8), 10, latent_dim=4, hidden=[8], conditioning="concatenation")).config() | entries


def test_the_recipe_has_the_relevant_settings_without_private_folders() -> None:
    write_config(
        "seed_everything: 0\nckpt_path: /home/me/last.ckpt\n"
        "trainer: {max_steps: 8, precision: null, logger: tensorboard, default_root_dir: /home/me}\n"
        r"data: {class_path: my_module.Own, init_args: {root: /home/me/photos, other: 'C:\me\more', split: [/home/me/a, 1]}}"
        "\nmodel: {penalty: null, loss: {init_args: {}}, generator: {init_args: {hidden: [8], slope: 0.2, deep: false}}}"
    )
    assert recipe(CHECKPOINT) == {
        "seed_everything": 0,
        "trainer": {"max_steps": 8},
        "data": {"class_path": "my_module.Own", "init_args": {"root": "photos", "other": "more", "split": ["a", 1]}},
        "model": {"generator": {"init_args": {"hidden": [8], "slope": 0.2, "deep": False}}},
    }


@pytest.mark.parametrize(
    "text",
    ["", "[]", "5", "data: [", "[" * 10_000, "data: &a [*a]", "a: &a [x]\nb: [*a]", "data: !!python/name:os.system", "\x00"]
    + ["ckpt_path: x", f"data: {'x' * MAX_BYTES}"],
)
def test_an_unreadable_config_is_omitted(text: str) -> None:
    write_config(text)
    assert recipe(CHECKPOINT) is None


def test_no_config() -> None:
    assert recipe(CHECKPOINT) is None
    Path("run/config.yaml").mkdir()
    assert recipe(CHECKPOINT) is None


def test_the_newest_record_of_these_weights() -> None:
    assert metrics(CHECKPOINT, 8, "ema") is None
    write_record("last_metrics.json", 100)
    write_record("last_metrics_1.json", 200, metrics={"fd": 2, "modes": "ten"})
    write_record("last_metrics_2.json", 300, protocol={"global_step": 9, "weights": "ema"})
    write_record("last_metrics_3.json", 400, metrics=5)
    CHECKPOINT.with_name("last_metrics_4.json").write_text("{")
    write_record("best_metrics.json", 500, metrics={"fd": 1})
    protocol = {"num_images": 5000, "weights": "ema", "real": "mnist"}
    assert metrics(CHECKPOINT, 8, "ema") == {"values": {"fd": 2}, "protocol": protocol}
    assert metrics(CHECKPOINT, 8, "raw") is None
    CHECKPOINT.with_name("last_metrics_1.json").unlink()
    found = metrics(CHECKPOINT, 8, "ema")
    assert found is not None
    assert found["values"] == {"fd": 3.25, "kd": 0.5, "kd_std": 0.125}


def test_the_card() -> None:
    measured = {"values": {"fd": 3.25, "kd": 0.5, "kd_std": 0.125}, "protocol": {"num_images": 5000, "real": "mnist"}}
    made = {"model": {"generator": {"init_args": {"hidden": [8]}}}, "data": {"class_path": "gan_lightning.data.MNIST"}}
    text = model_card(config(global_step=1234, weights="ema", metrics=measured, recipe=made), ["safetensors", "onnx"])
    card = ModelCard(text)
    assert card.data.to_dict() == {"library_name": "gan_lightning", "tags": ["gan", "image-generation", "onnx"]}
    for line in (
        "# MLPGenerator, trained on MNIST",
        "| images | 8 x 8 pixels, 1 channel |",
        "| classes | 10, numbered from 0 |",
        "| latent | 4 values, standard normal |",
        "| training | 1,234 updates of the generator |",
        "| fd | 3.25 |",
        "| kd | 0.5 ± 0.125 |",
        "Measured by gan_lightning's `evaluate.py`: num_images 5,000, real mnist.",
    ):
        assert line in text.splitlines(), line
    assert yaml.safe_load(text.split("```yaml\n")[1].split("```")[0]) == made
    assert "onnxruntime" in text
    assert "torch.export" not in text


def test_the_card_of_a_generator_without_facts() -> None:
    sampler = Sampler(MLPGenerator((3, 8, 8), latent_dim=4, hidden=[8]))
    text = str(sampler.generate_model_card())
    assert ModelCard(text).data.to_dict()["pipeline_tag"] == "unconditional-image-generation"
    assert "# MLPGenerator\n" in text
    assert "| classes | none |" in text
    assert "labels" not in text
    assert "## Metrics" not in text
    assert "## Recipe" not in text


@pytest.mark.parametrize("data", [5, None, [], {}, {"class_path": None}, {"class_path": ["x"]}, "gan_lightning.data.MNIST"])
@pytest.mark.parametrize("values", [{}, {"fd": 1}, "x", {"fd": "low"}, {"fd": [1]}, None])
def test_the_card_of_an_invented_config(data: Any, values: Any) -> None:
    """Folders may come from another person: any recipe and metrics give a card."""
    text = model_card(config(recipe={"data": data}, metrics={"values": values, "protocol": values}))
    assert text.startswith("---\nlibrary_name: gan_lightning\n")
