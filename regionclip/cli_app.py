"""The command ``regionclip app``: the page."""

from __future__ import annotations

import argparse
from contextlib import suppress

from regionclip.cli_parts import add_address, add_command, add_model


def add_app_command(commands: argparse._SubParsersAction) -> None:
    """Add ``app``."""
    app = add_command(commands, "app", _app)
    app.set_defaults(extra="app")
    add_model(app)
    add_address(app, 7860)


def _app(chosen: argparse.Namespace) -> None:
    """Open the page: drop a picture, type names, see where they are. Only this machine may ask, unless
    REGIONCLIP_APP_LOGIN is a login, user:password; then --host may let others in. Behind it belongs an own TLS proxy.

    examples:
      regionclip app
      regionclip app --model models:/regionclip-coco@champion --port 8000
      REGIONCLIP_APP_LOGIN=anna:secret regionclip app --model bundle --host 0.0.0.0
    """
    from regionclip.inference.app import serve

    with suppress(KeyboardInterrupt):  # the way to end it
        serve(chosen.model, chosen.dataset, chosen.host, chosen.port)
