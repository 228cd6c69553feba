"""The commands on params: ``regionclip profile``, whole params by name, and ``config``, for MMDetection's own tools."""

from __future__ import annotations

import argparse
from pathlib import Path

_PARAMS = "params.yaml"


def add_params_commands(commands: argparse._SubParsersAction) -> None:
    """Add ``profile``."""
    text = "list the profiles; show the whole params of one, or write them"
    parser = commands.add_parser(
        "profile",
        help=text,
        description=f"{text.capitalize()}. A folder `profiles` beside {_PARAMS} may hold your own, which name under "
        "`defaults` what it changes, such as `defaults: [transfer_coco48_rn50, _self_]`.",
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="of a profile; none: list them, a line each")
    parser.add_argument(
        "-o", "--write", metavar="FILE", nargs="?", const=_PARAMS,
        help=f"write FILE, by default {_PARAMS}; one that is there is kept as FILE.before",
    )  # fmt: skip
    parser.set_defaults(run=_profile)


def _profile(chosen: argparse.Namespace) -> None:
    from regionclip.errors import InputError
    from regionclip.workspace.profiles import profile_text, profile_titles, write_params

    if chosen.name is None:
        if chosen.write:
            raise InputError("no profile is named", mend="name one of those that `regionclip profile` lists")
        titles = profile_titles()
        for name, title in titles.items():
            print(f"{name:<{max(map(len, titles))}}  {title}")
        return
    text = profile_text(chosen.name)
    if chosen.write is None:
        print(text, end="")
        return
    replaced = write_params(text, Path(chosen.write))
    print(f"{chosen.write}: {chosen.name}{f'; what was there is in {replaced}' if replaced else ''}")
