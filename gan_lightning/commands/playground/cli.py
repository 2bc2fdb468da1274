"""Open a page to play with a checkpoint on: its samples by seed, class and truncation, and walks between two of them.

python scripts/playground.py lightning_logs/version_0/checkpoints/last.ckpt
python scripts/playground.py last.ckpt --port 8000
python scripts/playground.py last.ckpt --host 0.0.0.0    # for all who reach this machine; there is no password
"""

import errno
import os
import socket
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from jsonargparse import ArgumentParser

from gan_lightning.commands.arguments import add_device, arrange, run_command
from gan_lightning.commands.drawing_flags import add_checkpoint, parse_drawing
from gan_lightning.errors import InputError, one_line

PORTS = range(7860, 7960)
"""Where a port is looked for if none is named."""


def main(args: Sequence[str] | None = None) -> int:
    """Run the command until Ctrl-C, for which the exit code is 130; it is 2 for bad input."""
    sys.path.append(str(Path.cwd()))  # networks of one's own are named by module and class
    return run_command("playground", lambda: playground(list(sys.argv[1:] if args is None else args)))


def make_parser() -> ArgumentParser:
    """All that can be said on the command line."""
    parser = ArgumentParser(
        prog="playground",
        description="Open a page to play with a checkpoint on, in the browser of this machine; Ctrl-C ends it.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    add_checkpoint(parser)
    add_device(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 is open to all, without a password")
    parser.add_argument("--port", type=int | None, help="by default 7860, or the next that is free; 0 is any that is free")
    return parser


def playground(args: Sequence[str]) -> None:
    """Refuse flags that cannot be right, and take the port; then import torch and gradio, and serve the page."""
    config = parse_drawing(make_parser(), arrange(args))
    if config.port is not None and not 0 <= config.port < 2**16:
        raise InputError(f"--port {config.port}: give a number from 0 to {2**16 - 1}")
    if find_spec("gradio") is None:
        raise InputError("the page needs the package gradio: run pip install gradio")
    with listen(config.host, config.port) as listener, tempfile.TemporaryDirectory(prefix="playground_") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder  # gradio reads this and the next line when it is imported
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # else it tells its makers, and asks for its newest version
        from gan_lightning.commands.page import serve

        serve(config, listener)


def listen(host: str, port: int | None) -> socket.socket:
    """A socket that listens at ``host``: on the port, or where it is None on the first of :data:`PORTS` that is free.

    Raises:
        InputError: the port is taken, or may not be taken, or there is no such address.
    """
    for number in PORTS if port is None else [port]:
        try:
            family, _, _, _, address = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)[0]
            return socket.create_server(address, family=family)
        except (OSError, UnicodeError) as error:  # the latter for a name that cannot be one
            if getattr(error, "errno", None) != errno.EADDRINUSE:
                raise InputError(f"--host {host} --port {number}: no page can be there ({one_line(error)})") from error
    what = f"--port {port}: another program is" if port is not None else f"ports {PORTS[0]} to {PORTS[-1]}: other programs are"
    raise InputError(f"{what} listening there already; name another by --port, or --port 0 for any that is free")
