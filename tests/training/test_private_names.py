"""Private names of Lightning, torch and jsonargparse: docs/architecture.md lists each, and a test that needs it."""

import ast
import re
from pathlib import Path

from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop

ROOT = Path(__file__).parents[2]


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__") and name != "_"


def used_and_defined(tree: ast.AST) -> tuple[set[str], set[str]]:
    """The private names that a file uses, and those that it defines: functions, classes, variables and attributes of self."""
    used: set[str] = set()
    defined: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            defined.add(node.id)
        elif isinstance(node, ast.Attribute):
            of_self = isinstance(node.value, ast.Name) and node.value.id == "self"
            (defined if of_self and isinstance(node.ctx, ast.Store) else used).add(node.attr)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.module.startswith("gan_lightning"):
            used |= {*node.module.split("."), *(alias.name for alias in node.names)}
    return set(filter(is_private, used)), set(filter(is_private, defined))


def test_every_private_name_is_listed_with_its_test() -> None:
    found = [used_and_defined(ast.parse(path.read_text())) for path in (ROOT / "gan_lightning").rglob("*.py")]
    foreign = set().union(*(used for used, _ in found)) - set().union(*(defined for _, defined in found))
    _, _, section = (ROOT / "docs" / "architecture.md").read_text().partition("## Private names")
    section = section.partition("\n## ")[0]
    listed = set(re.findall(r"\b_[a-zA-Z]\w*", section))
    documented_elsewhere = {"_exit", "_asdict"}  # of os and of named tuples, documented by Python
    assert foreign - documented_elsewhere <= listed
    assert len(foreign) > 8
    tests = re.findall(r"`([\w/]+\.py)::(\w+)`", section)
    assert len(tests) > 12
    for path, name in tests:
        assert f"\ndef {name}(" in (ROOT / "tests" / path).read_text(), f"{path}::{name}"


def test_the_broadcast_that_stop_signals_replaces_exists() -> None:
    """Nothing else would show that it was renamed."""
    assert callable(_TrainingEpochLoop._broadcast_sigterm_tensor)
