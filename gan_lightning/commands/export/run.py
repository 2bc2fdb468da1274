"""Export generators into a folder of files; load each file again and compare it with the original."""

import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from torch import Tensor
from torch.export import Dim, ExportedProgram

from gan_lightning import inference
from gan_lightning.commands.common.generators import load_model
from gan_lightning.errors import InputError
from gan_lightning.exported import WEIGHTS, read_config
from gan_lightning.files import folder_aside
from gan_lightning.image_translator import ImageTranslator
from gan_lightning.images import to_uint8
from gan_lightning.inference import Sampler
from gan_lightning.networks.base import Network, Translator
from gan_lightning.trained import TrainedModel

COMPARED = 64  # images
BATCHES = (1, 63)
"""Batch sizes for the check of an exported generator: one image alone, and several."""
SOURCES = (1, 3)
"""The same for a translation; its sources are noise, and may be large."""
ENDINGS = {"torch": ".pt2", "onnx": ".onnx"}
"""Formats of a network's graph -> ending of its file. The name is the network's."""

Inputs = dict[str, Tensor]
Draw = Callable[[Inputs], Tensor]
"""Maps the inputs of a network by name to images uint8 (B, C, H, W)."""


@dataclass(frozen=True)
class Variant:
    """A way to export a network.

    Attributes:
        inputs: example inputs.
        dynamic: dimensions of each input that may change.
        compared: inputs to compare with.
        note: a limit to report.
    """

    inputs: Inputs
    dynamic: dict[str, dict[int, Any]]
    compared: Sequence[Inputs]
    note: str = ""


@dataclass(frozen=True)
class Graph:
    """A network to export under a name, in the first way that works."""

    name: str
    network: Network
    variants: Sequence[Variant]


def export_generator(config: Namespace) -> None:
    """Write the folder, and print the difference of each of its files from the original.

    Raises:
        InputError: a file draws different pictures; the folder is removed.
    """
    model = load_model(config.checkpoint, config)
    graphs = [GRAPHS[type(model)](name, network, model) for name, network in model.networks.items()]
    picture = not config.no_picture
    rows: list[tuple[str, str, int, int]] = []
    notes: list[str] = []
    with folder_aside(config.output) as folder:
        model.write(folder, config.precision, picture)
        model.generate_model_card(config.formats, config.precision, picture).save(folder / "README.md")
        again = inference.load(folder, trust=config.trust)
        differences = [_difference(graph, _caller(again.networks[graph.name]), graph.variants[0]) for graph in graphs]
        rows.append(("safetensors", WEIGHTS, (folder / WEIGHTS).stat().st_size, max(differences)))
        for name in filter(WRITERS.__contains__, config.formats):
            for graph in graphs:
                path = folder / f"{graph.name}{ENDINGS[name]}"
                variant, difference = _write(name, graph, path)
                notes += [f"{path.name} {variant.note}"] if variant.note else []
                rows.append((name, path.name, path.stat().st_size, difference))
        for name, file, _, difference in rows:
            if difference > 1:
                advice = f"remove {name} from --formats" if name in WRITERS else "use --precision float32"
                raise InputError(
                    f"--formats {name} wrote nothing, because the images of {file} differ by up to {difference} grey levels "
                    f"from the original's (one is allowed): {advice}"
                )
    wide = max(19, *(len(file) + 2 for _, file, _, _ in rows))
    print(f"\n  {'format':<13}{'file':<{wide}}{'size':>9}  largest difference, in grey levels")
    for name, file, size, difference in rows:
        print(f"  {name:<13}{file:<{wide}}{size / 1e6:>6.2f} MB  {difference}")
    for note in notes:
        print(f"  {note}")
    count = sum(len(next(iter(inputs.values()))) for inputs in graphs[0].variants[0].compared)
    print(f"  Compared on {count} images. Written with a model card: {config.output}")
    if read_config(config.output)["metrics"] is None:
        print("  The card has no metrics. To add them, run evaluate.py on the checkpoint first")


def _of_sampler(name: str, network: Network, model: Any) -> Graph:
    """Make the graph of a generator from latents and labels, for any batch size."""
    assert isinstance(model, Sampler)
    z, labels = model.latents(torch.arange(COMPARED)), model.labels(COMPARED)
    both = {"z": z} | ({} if labels is None else {"labels": labels})
    parts = torch.arange(COMPARED).split_with_sizes(BATCHES)
    batch = Dim("batch")
    variant = Variant(
        {key: value[:2] for key, value in both.items()},
        {key: {0: batch} for key in both},
        [{key: value[part] for key, value in both.items()} for part in parts],
    )
    return Graph(name, network, [variant])


def _of_translator(name: str, network: Network, model: Any) -> Graph:
    """Make the graph of a translation, for any batch size and, if possible, all sides that the network allows."""
    assert isinstance(network, Translator)
    channels, height, width = network.source_shape
    larger = [side + 2 * network.multiple for side in (height, width)]
    random = torch.Generator().manual_seed(0)
    own, other = (
        {"source": torch.rand(count, channels, *sides, generator=random) * 2 - 1}
        for count, sides in zip(SOURCES, ((height, width), larger), strict=True)
    )
    batch = Dim("batch")
    sides = {2: _side("rows", height, network.multiple), 3: _side("columns", width, network.multiple)}
    fixed = f"takes sources of {height}x{width} pixels only (height, width): its graph depends on their size"
    return Graph(
        name,
        network,
        [
            Variant(other, {"source": {0: batch, **sides}}, [own, other]),
            Variant({"source": own["source"].expand(2, -1, -1, -1)}, {"source": {0: batch}}, [own], fixed),
        ],
    )


def _side(name: str, side: int, multiple: int) -> Any:
    """Make a dimension of at least this side that differs from it by multiples."""
    count, missing = Dim(name, min=-(-side // multiple)), -side % multiple
    return multiple * count - missing if multiple > 1 else count


GRAPHS: dict[type[TrainedModel], Callable[[str, Network, Any], Graph]] = {Sampler: _of_sampler, ImageTranslator: _of_translator}


def _difference(graph: Graph, draw: Draw, variant: Variant) -> int:
    """Compute the largest difference from the images of the original, in grey levels."""
    original = _caller(graph.network)
    return max(int((draw(inputs).int() - original(inputs).int()).abs().max()) for inputs in variant.compared)


def _caller(network: Callable[..., Tensor]) -> Draw:
    @torch.inference_mode()
    def draw(inputs: Inputs) -> Tensor:
        return to_uint8(network(*inputs.values()))

    return draw


def _write(name: str, graph: Graph, path: Path) -> tuple[Variant, int]:
    """Write a graph in a format, in the first way that works. Returns it, and the largest difference."""
    *earlier, last = graph.variants
    for variant in earlier:
        with suppress(Exception):  # the exporters raise many kinds for sizes that they cannot leave open
            WRITERS[name](program_of(graph.network, variant), path)
            if (difference := _difference(graph, READERS[name](path), variant)) <= 1:
                return variant, difference
    WRITERS[name](program_of(graph.network, last), path)
    return last, _difference(graph, READERS[name](path), last)


def program_of(network: Network, variant: Variant) -> ExportedProgram:
    """Export the graph of a network.

    Raises:
        Exception: any error of torch.export, if its dimensions cannot change like this.
    """
    program = torch.export.export(network, tuple(variant.inputs.values()), dynamic_shapes=variant.dynamic)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it contains paths of this machine
    return program


def _write_torch(program: ExportedProgram, path: Path) -> None:
    with path.open("wb") as file:  # torch ends the process if it gets a path that is not UTF-8
        torch.export.save(program, file)


def _write_onnx(program: ExportedProgram, path: Path) -> None:
    names = list(program.graph_signature.user_inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns about its own functions
        exported = torch.onnx.export(program, input_names=names, output_names=["images"], verbose=False)
    assert exported is not None
    exported.save(path, external_data=False)


def _read_torch(path: Path) -> Draw:
    with warnings.catch_warnings(), path.open("rb") as file:
        warnings.simplefilter("ignore")  # torch 2.11 warns about its own buffers
        return _caller(torch.export.load(file).module())


def _read_onnx(path: Path) -> Draw:
    from onnxruntime import InferenceSession

    session = InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])

    def draw(inputs: Inputs) -> Tensor:
        (images,) = session.run(None, {name: value.numpy() for name, value in inputs.items()})
        return to_uint8(torch.from_numpy(images))

    return draw


WRITERS = {"torch": _write_torch, "onnx": _write_onnx}
READERS = {"torch": _read_torch, "onnx": _read_onnx}
