"""The commands on params: ``regionclip new``, ``profile``, whole params by name, and ``config``, for MMDetection."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

_PARAMS = "params.yaml"
CONFIGS = ("rpn", "pretrain", "finetune", "zero_shot")


def add_params_commands(commands: argparse._SubParsersAction) -> None:
    """Add ``new``, ``profile`` and ``config``."""
    _add_new(commands)
    _add_profile(commands)
    _add_config(commands)


def _add_new(commands: argparse._SubParsersAction) -> None:
    text = "make a workspace, or bring one to the installed version of the package"
    parser = commands.add_parser(
        "new",
        help=text,
        description=f"{text.capitalize()}. It has Git, DVC, dvc.yaml and params.yaml of its own; its stages depend on "
        "the version of the package in the place of its code.",
    )
    parser.add_argument("folder", metavar="FOLDER", help="one that is empty or not there, or a workspace")
    parser.add_argument("--profile", metavar="NAME", default="demo", help="of its params (default: %(default)s)")
    parser.set_defaults(run=_new)


def _new(chosen: argparse.Namespace) -> None:
    from regionclip.runtime import VERSION
    from regionclip.workspace.new import bring_up_to_date, new_workspace

    folder = Path(chosen.folder)
    if (folder / VERSION).exists():
        kept = bring_up_to_date(folder)
        note = f"; what was there is in {kept}" if kept else ""
        print(f"{folder}: dvc.yaml and {VERSION} are those of the installed package{note}")
    else:
        new_workspace(folder, chosen.profile)
        print(f"{folder}: a workspace with the params of the profile {chosen.profile}")
        print(f"next: cd {folder} && dvc repro && git add . && git commit")


def _add_profile(commands: argparse._SubParsersAction) -> None:
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


def _add_config(commands: argparse._SubParsersAction) -> None:
    text = "write a stage's training and test as a config for MMDetection's own tools"
    parser = commands.add_parser(
        "config",
        help=text,
        description=f"{text.capitalize()}, with the settings of {_PARAMS} and with what the stages before it left. "
        "`python -m regionclip.engine.mmdet_tools train FILE` (or test) runs it. The weights it starts from "
        "are written beside it.",
    )
    parser.add_argument("of", metavar="STAGE", choices=CONFIGS, help=", ".join(CONFIGS))
    parser.add_argument("--dataset", metavar="NAME", help="of finetune and zero_shot: one of data.sets")
    parser.add_argument(
        "--model", choices=["clip", "regionclip"], default="regionclip", help="they start from (default: %(default)s)"
    )
    parser.add_argument("--boxes", choices=["gt", "rpn"], default="rpn", help="of zero_shot (default: %(default)s)")
    parser.add_argument("-o", "--out", metavar="FILE.py", help="file to write; by default it is shown")
    parser.set_defaults(run=_config)


def _config(chosen: argparse.Namespace) -> None:
    from regionclip.files import write_text
    from regionclip.params import load_params
    from regionclip.stages.config import export

    weights = Path(chosen.out or f"{chosen.of}.py").with_suffix(".pth")
    text = export(chosen.of, load_params(), weights, chosen.dataset, chosen.model, chosen.boxes)
    if chosen.out is None:
        print(text)
    else:
        write_text(chosen.out, text)
    print(f"the model's weights are in {weights}", file=sys.stderr)


def _profile(chosen: argparse.Namespace) -> None:
    from regionclip.errors import InputError
    from regionclip.workspace.profiles import profile_text, profile_titles, replace_file

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
    replaced = replace_file(text, Path(chosen.write))
    print(f"{chosen.write}: {chosen.name}{f'; what was there is in {replaced}' if replaced else ''}")
