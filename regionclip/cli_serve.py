"""The commands ``regionclip serve`` and ``app``: the detector behind HTTP, and the page."""

from __future__ import annotations

import argparse
from contextlib import suppress
from dataclasses import fields
from functools import partial

from regionclip.cli_parts import add_address, add_command, add_model
from regionclip.inference import Limits


def add_serving_commands(commands: argparse._SubParsersAction) -> None:
    """Add the commands to the subparsers of ``regionclip``."""
    serve, app = add_command(commands, "serve", _serve), add_command(commands, "app", _app)
    for name, command, port in (("serve", serve, 8080), ("app", app, 7860)):
        command.set_defaults(extra=name)
        add_model(command)
        add_address(command, port)
    for one in fields(Limits):
        flag, text = f"--{one.name.replace('_', '-')}", f"{one.metadata['help']} (default: %(default)s)"
        serve.add_argument(flag, metavar="N", type=type(one.default), default=one.default, help=text)


def _serve(chosen: argparse.Namespace) -> None:
    """Answer over HTTP what a detector finds on pictures that clients send. Clients send the key that the environment
    holds as REGIONCLIP_API_KEY; without one, only programs of this machine can ask. REGIONCLIP_SERVE_HOSTS names the
    hosts, with commas between, whose pictures may be asked for by address. The schema is at /openapi.json.

    examples:
      regionclip serve
      curl --form image=@street.jpg --form names=forklift --form "names=traffic cone" http://127.0.0.1:8080/detect
      REGIONCLIP_API_KEY=... regionclip serve --model models:/regionclip-coco@champion --host 0.0.0.0
    """
    from regionclip.inference.api import RegionCLIP
    from regionclip.inference.service import serve

    limits = Limits(**{one.name: getattr(chosen, one.name) for one in fields(Limits)})
    with suppress(KeyboardInterrupt):  # the way to end it
        serve(partial(RegionCLIP.open, chosen.model, chosen.dataset), chosen.host, chosen.port, limits)


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
