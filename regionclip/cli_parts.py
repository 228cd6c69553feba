"""What all commands are made of: their parsers, and the terminal that they print to."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from regionclip.errors import printable

if TYPE_CHECKING:
    from rich.console import Console


def add_command(
    commands: argparse._SubParsersAction, name: str, run: Callable[[Any], int | None], *, resumes: bool = False
) -> argparse.ArgumentParser:
    """Add a command that is described by the docstring of its function: the first sentence says it in a list of all.

    What stands behind an empty line, such as examples, comes after the options, as it is. ``resumes``: a command that
    was interrupted goes on where it was.
    """
    about, _, examples = inspect.cleandoc(run.__doc__ or "").partition("\n\n")
    text = about.replace("\n", " ").partition(". ")[0].removesuffix(".")
    shown = argparse.RawDescriptionHelpFormatter if examples else argparse.HelpFormatter
    text = text[0].lower() + text[1:]
    parser = commands.add_parser(name, help=text, description=about, epilog=examples, formatter_class=shown)
    parser.set_defaults(run=run, resumes=resumes)
    return parser


def add_model(command: argparse.ArgumentParser) -> None:
    """Add the options that say which detector a command uses; `RegionCLIP.open` takes both."""
    command.add_argument(
        "--model",
        default=".",
        metavar="MODEL",
        help="folder where the pipeline has run, bundle, or models:/NAME@ALIAS of MLflow (default: this folder)",
    )
    command.add_argument("--dataset", metavar="NAME", help="that it was trained on (default: the first of the params)")


def add_address(command: argparse.ArgumentParser, port: int) -> None:
    """Add the options that say where a server listens."""
    command.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    text = "0: any that is free (default: %(default)s)"
    command.add_argument("--port", type=_port, metavar="PORT", default=port, help=text)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"'{text:.20}' is no port from 0 to 65535")
    return int(text)


def console() -> Console:
    """Return the terminal for tables and notes: what names and files hold is shown as text and commands nothing."""
    from rich import console

    class Plain(console.Console):
        def render_str(self, text: str, **options: Any) -> Any:
            return super().render_str(printable(text), **options)

    return Plain(highlight=False, markup=False, emoji=False)
