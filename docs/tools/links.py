"""A hook of MkDocs: links from a page to files of the repository, which the site does not hold, become their names.

On a page of the repository such a link works as it stands. What leads nowhere is left as it is, and ends the build.
"""

import re
from pathlib import Path, PurePosixPath
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\[([^\]]*)\]\(\.\./([^)#]+)\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by MkDocs with the text of each page."""
    return LINK.sub(_name, markdown)


def _name(link: re.Match[str]) -> str:
    text, path = link[1].strip("`"), str(PurePosixPath(link[2]))
    if not (ROOT / path).exists():
        return link[0]
    return f"`{path}`" if text in (path, path.rpartition("/")[2]) else f"{text} (`{path}`)"
