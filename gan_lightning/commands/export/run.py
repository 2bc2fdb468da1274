"""Export a generator into a folder of files; load each file again and compare it with the original."""

import warnings
from collections.abc import Callable, Collection
from pathlib import Path

import torch
from jsonargparse import Namespace
from torch import Tensor
from torch.export import Dim, ExportedProgram

from gan_lightning import inference
from gan_lightning.commands.common.generators import load_sampler
from gan_lightning.errors import InputError
from gan_lightning.exported import WEIGHTS, read_config
from gan_lightning.files import folder_aside
from gan_lightning.images import to_uint8
from gan_lightning.inference import Sampler
from gan_lightning.networks.base import Generator

COMPARED = 64  # images
BATCHES = (1, 63)
"""Batch sizes for the check of the exported model: one image alone, and several."""
FILES = {"safetensors": WEIGHTS, "torch": "generator.pt2", "onnx": "generator.onnx"}

Draw = Callable[[Tensor, Tensor | None], Tensor]
"""Maps latents (B, latent_dim) and labels (B,), or None, to images uint8 (B, C, H, W)."""


def export_generator(config: Namespace) -> None:
    """Write the folder, and print the difference of each of its files from the original.

    Raises:
        InputError: a file draws different pictures; the folder is removed.
    """
    sampler = load_sampler(config.checkpoint, config)
    picture = not config.no_picture
    rows = []
    with folder_aside(config.output) as folder:
        sampler.write(folder, config.precision, picture)
        sampler.generate_model_card(config.formats, config.precision, picture).save(folder / "README.md")
        for name in config.formats:
            path = folder / FILES[name]
            if name in WRITERS:
                WRITERS[name](sampler.generator, path)
            rows.append((name, path.name, path.stat().st_size, _difference(sampler, READERS[name](path, config.trust))))
            if rows[-1][-1] > 1:
                advice = f"remove {name} from --formats" if name in WRITERS else "use --precision float32"
                raise InputError(
                    f"--formats {name} wrote nothing, because the images of {path.name} differ by up to {rows[-1][-1]} grey "
                    f"levels from the original's (one is allowed): {advice}"
                )
    print(f"\n  {'format':<13}{'file':<19}{'size':>9}  largest difference, in grey levels")
    for name, file, size, difference in rows:
        print(f"  {name:<13}{file:<19}{size / 1e6:>6.2f} MB  {difference}")
    print(f"  Compared on {COMPARED} images. Written with a model card: {config.output}")
    if read_config(config.output)["metrics"] is None:
        print("  The card has no metrics. To add them, run evaluate.py on the checkpoint first")


def _difference(sampler: Sampler, draw: Draw) -> int:
    """Compute the largest difference from the images of the original, in grey levels."""
    z, labels = sampler.latents(torch.arange(COMPARED)), sampler.labels(COMPARED)
    parts = torch.arange(COMPARED).split_with_sizes(BATCHES)
    drawn = torch.cat([draw(z[part], None if labels is None else labels[part]) for part in parts])
    return int((drawn.int() - sampler.draw(z, labels).int()).abs().max())


def _program(generator: Generator) -> ExportedProgram:
    """Export the graph of a generator, for any batch size."""
    batch = Dim("batch")
    inputs = {"z": torch.zeros(2, generator.latent_dim)}
    if generator.conditional:
        inputs["labels"] = torch.zeros(2, dtype=torch.long)
    program = torch.export.export(generator, tuple(inputs.values()), dynamic_shapes={name: {0: batch} for name in inputs})
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it contains paths of this machine
    return program


def _write_torch(generator: Generator, path: Path) -> None:
    program = _program(generator)
    with path.open("wb") as file:  # torch ends the process if it gets a path that is not UTF-8
        torch.export.save(program, file)


def _write_onnx(generator: Generator, path: Path) -> None:
    names = ["z", "labels"] if generator.conditional else ["z"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns about its own functions
        program = torch.onnx.export(_program(generator), input_names=names, output_names=["images"], verbose=False)
    assert program is not None
    program.save(path, external_data=False)


def _read_safetensors(path: Path, trust: Collection[str]) -> Draw:
    return inference.load(path.parent, trust=trust).draw


def _read_torch(path: Path, trust: Collection[str]) -> Draw:
    with warnings.catch_warnings(), path.open("rb") as file:
        warnings.simplefilter("ignore")  # torch 2.11 warns about its own buffers
        generator = torch.export.load(file).module()
    return lambda z, labels: to_uint8(generator(z) if labels is None else generator(z, labels))


def _read_onnx(path: Path, trust: Collection[str]) -> Draw:
    from onnxruntime import InferenceSession

    session = InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])

    def draw(z: Tensor, labels: Tensor | None) -> Tensor:
        inputs = {"z": z.numpy()} | ({} if labels is None else {"labels": labels.numpy()})
        (images,) = session.run(None, inputs)
        return to_uint8(torch.from_numpy(images))

    return draw


WRITERS = {"torch": _write_torch, "onnx": _write_onnx}
READERS = {"safetensors": _read_safetensors, "torch": _read_torch, "onnx": _read_onnx}
