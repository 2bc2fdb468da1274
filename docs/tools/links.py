"""A hook of MkDocs: replace links to files of the repository by the names of the files, because the site does not have them.

On a page of the repository such a link works. A broken one stays as it is, and ends the build.
"""

import re
from pathlib import Path, PurePosixPath
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\[([^\]]*)\]\(\.\./([^)#]+)\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the links of a page. MkDocs calls this with the text of each page."""
    return LINK.sub(_name, markdown)


def _name(link: re.Match[str]) -> str:
    text, path = link[1].strip("`"), str(PurePosixPath(link[2]))
    if not (ROOT / path).exists():
        return link[0]
    return f"`{path}`" if text in (path, path.rpartition("/")[2]) else f"{text} (`{path}`)"
