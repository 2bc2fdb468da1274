"""Doors: which room may import which. The map stands in the README."""

import ast
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

import gan_lightning

PACKAGE = Path(gan_lightning.__file__).parent

LEAVES = {"errors", "memory", "processes", "randomness"}
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "memory": set(),
    "processes": set(),
    "randomness": set(),
    "images": LEAVES,
    "latents": {"errors"},
    "losses": LEAVES,
    "regularizers": LEAVES,
    "augment": LEAVES,
    "schedules": LEAVES,
    "ema": LEAVES,
    "checkpoint": LEAVES,
    "pictures": LEAVES | {"checkpoint"},
    "health": {"losses"},
    "lookup": {"errors"},
    "model_card": LEAVES,
    "networks.base": LEAVES,
    "networks.layers": LEAVES,
    "networks": LEAVES | {"networks.base", "networks.layers"},
    "gan": LEAVES | {"augment", "checkpoint", "ema", "images", "losses", "networks.base", "regularizers"},
    "data": LEAVES | {"checkpoint", "images", "data"},
    "metrics.functional": set(),
    "metrics": LEAVES | {"checkpoint", "metrics"},
    "measure": LEAVES | {"checkpoint", "data.base", "metrics"},
    "callbacks": LEAVES
    | {
        "callbacks",
        "checkpoint",
        "data.base",
        "gan",
        "health",
        "images",
        "latents",
        "measure",
        "metrics",
        "pictures",
        "schedules",
        "trainer",
    },
    "trainer": LEAVES | {"checkpoint", "regularizers"},
    "pretrained": LEAVES | {"checkpoint", "networks.base"},
    "inference": LEAVES
    | {"checkpoint", "images", "latents", "lookup", "model_card", "networks.base", "pictures", "pretrained"},
    "inversion": {"errors", "inference"},
    "commands": LEAVES
    | {"callbacks", "checkpoint", "commands", "data", "gan", "images", "inference", "inversion", "latents", "lookup", "losses"}
    | {"augment", "ema", "measure", "metrics", "networks", "pictures", "pretrained", "regularizers", "schedules", "trainer"},
}
WITHOUT_LIGHTNING = {
    "errors",
    "memory",
    "processes",
    "randomness",
    "images",
    "losses",
    "regularizers",
    "augment",
    "schedules",
    "ema",
    "checkpoint",
    "health",
    "pictures",
    "networks",
    "model_card",
    "pretrained",
    "inference",
    "inversion",
    "latents",
    "lookup",
    "metrics",
}
WITHOUT_TORCH = {
    "errors",
    "lookup",
    "metrics.request",
    "commands.arguments",
    "commands.trust",
    "commands.measuring_flags",
    "commands.drawing_flags",
    "commands.sample",
    "commands.interpolate",
    "commands.invert",
    "commands.export",
    "commands.evaluate",
    "commands.compute_reference",
    "commands.compare",
    "commands.playground",
}
"""What answers --help and refuses flags: at its top it imports the standard library, these two, and its like."""
LIGHT = {"jsonargparse", "yaml"}


def imports(path: Path) -> set[str]:
    """The modules that a file imports, by their dotted names."""
    return names_in(ast.walk(ast.parse(path.read_text())), path)


def imports_at_once(path: Path) -> set[str]:
    """Those that it imports as soon as it is imported itself."""
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
    """The name under which a module, without the package's name, stands in ALLOWED."""
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
                assert room(module).partition(".")[0] not in WITHOUT_LIGHTNING, f"{path.name} may not import lightning"
    assert checked > 40


@pytest.mark.parametrize("module", sorted(WITHOUT_TORCH))
def test_flags_are_read_without_torch(module: str) -> None:
    allowed = {f"gan_lightning.{name}" for name in WITHOUT_TORCH} | LIGHT | sys.stdlib_module_names
    found = imports_at_once(PACKAGE / f"{module.replace('.', '/')}.py")
    assert not {name for name in found if name not in allowed and name.partition(".")[0] not in allowed}


def test_the_check_finds_a_wrong_door() -> None:
    assert not is_allowed("networks.mlp", "networks.dcgan")
    assert not is_allowed("gan", "data.base")
    assert is_allowed("networks.mlp", "networks.base")
