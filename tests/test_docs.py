"""README and docs: commands have the flags shown, links exist, code runs."""

import ast
import importlib
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

import gan_lightning
from gan_lightning import checkpoint
from gan_lightning.commands.common.arguments import arrange, given, parse
from gan_lightning.commands.common.measuring_flags import data_flags
from gan_lightning.commands.common.real_images import make_data
from gan_lightning.commands.common.recipes import config_path
from gan_lightning.commands.train import trial
from gan_lightning.commands.train.methods import METHODS
from gan_lightning.commands.train.settings import method_of
from gan_lightning.commands.verbs import Verb
from tests.helpers import refuses

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NOTEBOOK = ROOT / "docs" / "sampling.ipynb"
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    """Fenced blocks of a page in a language; '' is none."""
    return [text for named, text in FENCED.findall(page.read_text(encoding="utf-8")) if named == language]


def commands(page: Path) -> Iterator[list[str]]:
    """Words of every command of scripts/ on a page, from the script's name on."""
    text = page.read_text(encoding="utf-8")
    lines = [line for block in blocks(page, "") for line in block.replace("\\\n", " ").splitlines()]
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", FENCED.sub("", text))]
    for line in [*lines, *spans]:
        if found := re.search(r"(?:^|\s)scripts/(?:benchmark/)?\w+\.py .*", line):
            yield shlex.split(found[0], comments=True)


def written_files(page: Path) -> dict[str, str]:
    """Files that a page shows: a block with a file name in its first line, and later blocks of the same language."""
    found: dict[str, str] = {}
    for language in ("python", "yaml"):
        name = ""  # of the block before
        for block in blocks(page, language):
            if named := re.match(r"# (\w+\.(?:py|yaml))\b", block):
                name = named[1]
            if name:
                found[name] = found.get(name, "") + block
    return found


SHOWN = [(page, words) for page in PAGES for words in commands(page)]


@pytest.fixture
def own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Write the files that the pages put next to the command."""
    for page in PAGES:
        for name, text in written_files(page).items():
            (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in ("my_parts", "my_module"):
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("own_files")
def test_every_shown_command_parses() -> None:
    (Path.cwd() / "my_module.py").write_text("from gan_lightning.networks import MLPGenerator as MyGenerator\n")
    wrong = []
    for page, (script, *args) in SHOWN:
        try:
            read(script, args)
        except (Exception, SystemExit) as error:
            if isinstance(error, SystemExit) and error.code == 0:  # a command that asks for help
                continue
            wrong.append(f"{page.name}: {' '.join([script, *args])}: {error}")
    assert not wrong, "\n".join(wrong)
    assert len(SHOWN) > 60
    programs = [path for path in (ROOT / "scripts").rglob("*.py") if path.read_text().endswith("main())\n")]
    assert {str(path.relative_to(ROOT)) for path in programs} <= {script for _, (script, *_) in SHOWN}
    assert len(programs) > 12


def read(script: str, args: list[str]) -> None:
    """Parse the flags of a script, without reading the files that they name."""
    if script == "scripts/minimal.py":  # has no flags
        return
    name, benchmark = Path(script).stem, "benchmark" in script
    parser = importlib.import_module(name).make_parser() if benchmark else Verb[name].make_parser()
    if script == "scripts/train.py":
        short = [action.dest.removeprefix("trainer.") for action in parser._actions if action.dest.startswith("trainer.")]
        there = ["dcgan_mnist" if word.endswith("/config.yaml") else word for word in args]
        groups = arrange(there, "trainer", short)
        if given(groups, "config") is None:
            method = given(groups, "method") or "GAN"
            groups = [["--config", config_path(METHODS[method].recipe)], *groups]
        else:
            method = method_of(there)
        parse(Verb.train.make_parser(method=method), groups, "trainer")
        return
    groups = arrange(args)
    has_data = not benchmark and any(action.dest == "data" for action in parser._actions)
    of_data = data_flags(groups) if has_data else []
    if of_data and given(of_data, "data.root") is None:
        make_data(of_data)
    parse(parser, [group for group in groups if not (has_data and group[0].startswith("--data."))])


def test_the_check_of_commands_finds_a_wrong_flag() -> None:
    for script, args in (
        ("scripts/train.py", "--max_stesp 3"),
        ("scripts/evaluate.py", "last.ckpt --raww"),
        ("scripts/sample.py", "last.ckpt --seed x"),
        ("scripts/benchmark/train.py", "--max_steps 3"),
    ):
        with pytest.raises(gan_lightning.errors.InputError):
            read(script, args.split())


def test_every_link_of_the_readme_exists() -> None:
    """MkDocs checks those of docs/ (make docs)."""
    text = re.sub(r"`[^`]*`", "", FENCED.sub("", (ROOT / "README.md").read_text(encoding="utf-8")))
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    assert len(links) > 20
    assert not [link for link in links if not (ROOT / link).exists()]


def test_links_of_pages_to_the_repository_become_names() -> None:
    """Broken links stay, so that MkDocs refuses them."""
    rewritten = runpy.run_path(str(ROOT / "docs" / "tools" / "links.py"))["on_page_markdown"]
    assert rewritten("[checkpoint.py](../gan_lightning/checkpoint.py)") == "`gan_lightning/checkpoint.py`"
    assert rewritten("the [README](../README.md).") == "the README (`README.md`)."
    for left in ("[x](../gan_lightning/nowhere.py)", "[metrics](metrics.md#names)", "![grid](images/grid.png)"):
        assert rewritten(left) == left


def test_code_of_pages_wraps_between_parts_of_names() -> None:
    """Markup, entities, numbers and everything outside code are unchanged."""
    marked = runpy.run_path(str(ROOT / "docs" / "tools" / "code.py"))["on_page_content"]
    assert marked("<code>a_b/c.d::e --max_steps</code>") == (
        '<code>a_<wbr>b/<wbr>c.<wbr>d::<wbr>e <span class="unbroken">--max</span>_<wbr>steps</code>'
    )
    for left in ("a_b --flag", '<a href="x_y.html">a_b</a>', '<code class="a_b">0.5 _c x--y kid_50k &quot;</code>'):
        assert marked(left) == left
    text = "<pre><code>python scripts/train.py --model.loss HingeLoss\n</code></pre>"
    assert re.sub("<[^>]*>", "", marked(text)) == re.sub("<[^>]*>", "", text)


def test_every_page_is_in_the_navigation() -> None:
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in [*(ROOT / "docs").glob("*.md"), NOTEBOOK]:
        assert f": {page.name}\n" in settings, page.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.name))
def test_code_can_be_parsed(page: Path) -> None:
    for block in blocks(page, "python"):
        ast.parse(block)


@pytest.mark.usefixtures("own_files")
def test_the_custom_code_of_the_docs_trains_and_loads(capsys: pytest.CaptureFixture[str]) -> None:
    """Run the last command of docs/extending.md."""
    (command,) = (words for words in commands(ROOT / "docs" / "extending.md") if "my_parts.Bars" in words)
    short = ["--max_steps", "101", "--enable_progress_bar", "false", "--logger", "csv", "--metrics.num_images", "100"]
    assert Verb.train.main([*command[1:], *short]) == 0, capsys.readouterr().err
    path = Path("lightning_logs/version_0/checkpoints/last.ckpt")
    content = checkpoint.load_gan(path)[checkpoint.KEY]
    assert content["generator"]["class_path"] == "my_parts.UpsampleGenerator"
    assert content["discriminator"]["class_path"] == "my_parts.StridedDiscriminator"
    with refuses("trust=['my_parts']"):
        gan_lightning.load(path)
    assert gan_lightning.load(path, trust=["my_parts"]).sample(4, labels=1).shape == (4, 1, 16, 16)
    header, *rows = Path("lightning_logs/version_0/metrics.csv").read_text().splitlines()
    for name in ("own/brightness", "metrics/blurred_fd_100", "train/penalty"):
        assert name in header.split(","), header
    assert rows


@pytest.mark.usefixtures("own_files")
def test_the_dry_run_in_the_docs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The report in docs/data.md is right for the folder that its code makes, except figures of networks and times."""
    subprocess.run([sys.executable, "make_photos.py"], check=True, timeout=120)
    page = ROOT / "docs" / "data.md"
    (words, *_) = (words for words in commands(page) if "--dry_run" in words)
    (shown, *_) = (block for block in blocks(page, "text") if "Data: ImageFolder" in block)
    small = "--model.generator.width 4 --model.discriminator.width 4 --data.batch_size 8 --accelerator cpu"
    monkeypatch.setattr(trial, "STEPS", 1)
    assert Verb.train.main([*words[1:], *small.split()]) == 2
    printed, error = capsys.readouterr()
    other = ("  generator", "  discriminator", "  networks", "  peak", "  a step", "  an epoch", "  the run")
    lines = [line for line in shown.splitlines() if not line.startswith(other) and " is long: " not in line]
    assert len(lines) > 25
    for line in lines:
        assert line in [*printed.splitlines(), *error.splitlines()], line


def test_the_notebook_holds_no_output() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) > 8
    assert [(cell["outputs"], cell["execution_count"]) for cell in code] == [([], None)] * len(code)


@pytest.mark.timeout(200)
def test_the_notebook_runs(tmp_path: Path) -> None:
    """It includes training. In its last figures, images are more diverse with less truncation."""
    notebook: Any = nbformat.read(NOTEBOOK, as_version=4)
    os.environ.pop("GAN_LIGHTNING_CHECKPOINT", None)
    client = NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    data = [output["data"] for output in outputs if "data" in output]
    assert sum("image/png" in found for found in data) == 5
    texts = [found["text/plain"] for found in data]
    (spread,) = (ast.literal_eval(text) for text in texts if re.match(r"\[\d+\.", text))
    assert len(spread) == 4
    assert spread == sorted(spread)
    assert spread[-1] > 1.5 * spread[0]
    assert "['threes.png', 'walk.gif']" in texts
