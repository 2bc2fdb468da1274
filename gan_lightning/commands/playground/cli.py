"""Open a page to explore a generator: samples by seed, class and truncation, and walks between two samples.

python scripts/playground.py lightning_logs/version_0/checkpoints/last.ckpt
python scripts/playground.py last.ckpt --port 8000
python scripts/playground.py last.ckpt --host 0.0.0.0    # open to everyone who can reach this machine, without a password
"""

import errno
import os
import socket
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec

from jsonargparse import ArgumentParser

from gan_lightning.commands.common.arguments import arrange
from gan_lightning.commands.common.flags import add_accelerator, add_checkpoint, parse_drawing
from gan_lightning.commands.common.numbers import Port
from gan_lightning.commands.verbs import Verb
from gan_lightning.errors import InputError, one_line

PORTS = range(7860, 7960)
"""Ports to try if ``--port`` is not given."""


def add_flags(parser: ArgumentParser) -> None:
    """Add all flags of the command."""
    add_checkpoint(parser)
    add_accelerator(parser)
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 is open to everyone, without a password"
    )
    parser.add_argument(
        "--port",
        type=Port | None,
        help=f"port to listen on; by default {PORTS[0]}, or the next free one; 0 takes any free port",
    )


def run(args: Sequence[str]) -> None:
    """Refuse invalid flags and take the port; then import torch and gradio, and serve the page."""
    config = parse_drawing(Verb.playground.make_parser(), arrange(args))
    if find_spec("gradio") is None:
        raise InputError("the playground needs the package gradio: run pip install -e '.[playground]'")
    with (
        listen(config.host, config.port) as listener,
        tempfile.TemporaryDirectory(prefix="playground_", ignore_cleanup_errors=True) as folder,
    ):
        os.environ["GRADIO_TEMP_DIR"] = folder  # gradio reads this and the next variable at import
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # otherwise gradio sends usage data and looks for a newer version
        from gan_lightning.commands.playground.run import serve

        serve(config, listener)


def listen(host: str, port: int | None) -> socket.socket:
    """Open a socket that listens at ``host``: on the port, or by default on the first of :data:`PORTS` that is free.

    Raises:
        InputError: the port is in use or not permitted, or the address does not exist.
    """
    for number in PORTS if port is None else [port]:
        try:
            family, _, _, _, address = socket.getaddrinfo(host, int(number), type=socket.SOCK_STREAM)[0]
            return socket.create_server(address, family=family)
        except (OSError, UnicodeError) as error:  # UnicodeError: an invalid host name
            if getattr(error, "errno", None) != errno.EADDRINUSE:
                raise InputError(
                    f"--host {host} --port {number} cannot be opened ({one_line(error)}): use another host or port"
                ) from error
    taken = f"--port {port} is" if port is not None else f"ports {PORTS[0]} to {PORTS[-1]} are"
    raise InputError(f"{taken} in use by another program: use another --port, or --port 0 for any free one")
