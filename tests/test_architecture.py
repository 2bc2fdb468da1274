"""Rules of imports: which module may import which. docs/architecture.md has the map."""

import ast
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

import gan_lightning

PACKAGE = Path(gan_lightning.__file__).parent

LEAVES = {"errors", "training.distributed"}
"""Modules that any numerical code may import. Besides them and torch it imports nothing."""
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "home": {"errors"},
    "units": set(),
    "training.allocator": set(),
    "training.devices": set(),
    "training.randomness": set(),
    "training.cuda_graphs": set(),
    "training.distributed": {"errors"},
    "training.watchdog": set(),
    "training.synchronized_batch_norm": {"training.distributed"},
    "training.strategy": {"training.distributed", "training.synchronized_batch_norm", "training.watchdog"},
    "training.checkpoint_io": {"checkpoint", "errors", "files"},
    "training.compatibility": {"errors"},
    "training.loggers": {"errors", "files"},
    "training.runs": {"errors"},
    "training.trainer": {"errors", "training"},
    "efficientnet": {"files"},
    "exported": {"errors"},
    "files": LEAVES,
    "checkpoint": {"errors", "exported", "files"},
    "images": {"errors"},
    "latents": {"errors"},
    "losses": LEAVES,
    "regularizers": LEAVES | {"training.randomness"},
    "augment": LEAVES | {"training.randomness"},
    "schedules": LEAVES,
    "ema": LEAVES,
    "pictures": {"errors", "files", "images"},
    "health": {"losses"},
    "lookup": {"errors"},
    "model_card": set(),
    "networks.base": {"errors"},
    "networks.layers": {"errors", "training.randomness"},
    "networks": {"efficientnet", "errors", "networks.base", "networks.convolution", "networks.layers"},
    "perceptual": {"efficientnet", "errors"},
    "module": LEAVES
    | {"augment", "checkpoint", "ema", "losses", "networks.base", "regularizers", "schedules", "training.randomness"},
    "translation": LEAVES | {"augment", "images", "losses", "module", "networks.base", "perceptual", "regularizers"},
    "cycle": LEAVES | {"images", "losses", "module", "networks.base"},
    "gan": LEAVES
    | {"augment", "images", "losses", "module", "networks.base", "networks.fine_tuning", "regularizers"}
    | {"training.cuda_graphs", "training.randomness"},
    "data": {"data", "errors", "files", "home", "images", "training.devices", "training.randomness", "units"},
    "metrics.functional": LEAVES,
    "metrics": LEAVES | {"efficientnet", "files", "images", "metrics", "training.devices", "training.randomness"},
    "metrics.translation": LEAVES | {"data.base", "data.translation", "images", "metrics", "perceptual", "training.devices"},
    "metrics.measurement": LEAVES | {"data.base", "data.stored", "files", "home", "images", "metrics", "training.devices"},
    "callbacks": LEAVES
    | {
        "callbacks",
        "cycle",
        "data.base",
        "data.translation",
        "files",
        "gan",
        "health",
        "images",
        "latents",
        "metrics",
        "module",
        "pictures",
        "schedules",
        "training.devices",
        "training.randomness",
        "training.trainer",
        "translation",
    },
    "translation_card": {"model_card"},
    "pretrained": {"errors", "exported", "files", "networks.base"},
    "trained": {"checkpoint", "errors", "exported", "lookup", "model_card", "networks.base", "pretrained"},
    "image_translator": {"errors", "exported", "images", "networks.base", "trained", "training.devices", "translation_card"},
    "inference": {
        "errors",
        "image_translator",
        "images",
        "latents",
        "model_card",
        "networks.base",
        "pictures",
        "trained",
        "training.devices",
    },
    "inversion": {"errors", "inference"},
    "commands": LEAVES
    | {"callbacks", "checkpoint", "commands", "data", "exported", "files", "gan", "home", "images", "inference", "inversion"}
    | {"augment", "ema", "losses", "metrics", "module", "networks", "pictures", "pretrained", "regularizers"}
    | {"cycle", "image_translator", "latents", "lookup", "schedules", "trained", "training", "translation", "units"},
}
WITHOUT_LIGHTNING = {
    "errors",
    "home",
    "training.allocator",
    "training.devices",
    "training.distributed",
    "training.randomness",
    "training.synchronized_batch_norm",
    "training.watchdog",
    "images",
    "losses",
    "regularizers",
    "augment",
    "schedules",
    "ema",
    "efficientnet",
    "perceptual",
    "files",
    "checkpoint",
    "health",
    "pictures",
    "networks",
    "networks.base",
    "networks.layers",
    "model_card",
    "translation_card",
    "pretrained",
    "trained",
    "image_translator",
    "inference",
    "inversion",
    "latents",
    "lookup",
    "metrics",
    "metrics.functional",
}
WITHOUT_TORCH = {
    "errors",
    "exported",
    "home",
    "lookup",
    "metrics.table",
    "commands.verbs",
    "commands.common.arguments",
    "commands.common.classes",
    "commands.common.conditions",
    "commands.common.console",
    "commands.common.exit_codes",
    "commands.common.flags",
    "commands.common.measuring_flags",
    "commands.common.numbers",
    "commands.common.outputs",
    "commands.common.parser_errors",
    "commands.common.paths",
    "commands.common.recipes",
    "commands.common.suggestions",
    "commands.common.trust",
    *(f"commands.{path.parent.name}.cli" for path in PACKAGE.glob("commands/*/cli.py")),
}
"""The modules that answer --help and refuse flags: at their top they import the standard library, LIGHT, and each other."""
LIGHT = {"jsonargparse", "jsonargparse.typing", "yaml"}


def imports(path: Path) -> set[str]:
    """List the modules that a file imports, by their dotted names."""
    return names_in(ast.walk(ast.parse(path.read_text())), path)


def imports_at_once(path: Path) -> set[str]:
    """List the modules that a file imports at its own import."""
    return names_in(ast.parse(path.read_text()).body, path)


def names_in(nodes: Iterable[ast.AST], path: Path) -> set[str]:
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: a relative import"
            if node.module == "gan_lightning" or (
                node.module.startswith("gan_lightning.") and (PACKAGE.parent / node.module.replace(".", "/")).is_dir()
            ):
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
            else:
                found.add(node.module)
    return found


def room(module: str) -> str:
    """Find the key in ALLOWED of a module, given without the package's name."""
    return module if module in ALLOWED else module.partition(".")[0]


def is_allowed(module: str, target: str) -> bool:
    return any(target == name or target.startswith(f"{name}.") for name in ALLOWED[room(module)])


def test_imports_point_one_way() -> None:
    checked = 0
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        if module == "__init__" or path.name == "__init__.py":
            continue
        for name in imports(path):
            if name.startswith("gan_lightning."):
                target = name.removeprefix("gan_lightning.")
                assert is_allowed(module, target), f"{path.name} ({room(module)}) may not import {name}"
                checked += 1
            if name.split(".")[0] == "lightning":
                assert room(module) not in WITHOUT_LIGHTNING, f"{path.name} may not import lightning"
    assert checked > 40


@pytest.mark.parametrize("module", sorted(WITHOUT_TORCH))
def test_flags_are_read_without_torch(module: str) -> None:
    allowed = {f"gan_lightning.{name}" for name in WITHOUT_TORCH} | LIGHT | sys.stdlib_module_names
    found = imports_at_once(PACKAGE / f"{module.replace('.', '/')}.py")
    assert not {name for name in found if name not in allowed and name.partition(".")[0] not in allowed}


def test_the_check_finds_a_forbidden_import() -> None:
    assert not is_allowed("networks.mlp", "networks.dcgan")
    assert not is_allowed("gan", "data.base")
    assert not is_allowed("module", "gan")
    assert not is_allowed("translation", "cycle")
    assert not is_allowed("cycle", "translation")
    assert is_allowed("networks.mlp", "networks.base")
    assert not is_allowed("losses", "training.trainer")


def test_parts_of_training_do_not_import_lightning() -> None:
    assert not (PACKAGE / "training" / "__init__.py").read_text()
