"""A hook of MkDocs: wrap code at its joints.

A flag stays in one piece with its dashes, and ``a_long.name/of::parts`` may continue on the next line after each joint.
"""

import re
from typing import Any

CODE = re.compile(r"<code\b.*?</code>", re.DOTALL)
PIECE = re.compile(r"(?P<markup><[^>]*>|&[^;]*;)|(?P<flag>(?<![\w-])--[a-zA-Z]+)|(?P<joint>(?<=\w)(?:[_./]|::)(?=[a-zA-Z]))")


def on_page_content(html: str, **_: Any) -> str:
    """Mark the joints of all code of a page. MkDocs calls this with the HTML of each page."""
    return CODE.sub(lambda code: PIECE.sub(_mark, code[0]), html)


def _mark(piece: re.Match[str]) -> str:
    if piece["flag"]:
        return f'<span class="unbroken">{piece[0]}</span>'
    return f"{piece[0]}<wbr>" if piece["joint"] else piece[0]
