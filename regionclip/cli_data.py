"""The commands of ``regionclip data``: fetch public data sets and tell what is there, take in the user's own."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regionclip.errors import InputError, printable

if TYPE_CHECKING:
    from rich.console import Console

SETS = ("coco2017", "lvis_v1", "coco_captions", "flickr30k")
"""The data sets of ``regionclip.workspace.fetch``, named here because importing them costs time."""


def add_data_commands(stage: argparse.ArgumentParser) -> None:
    """Beside running the stage, ``data`` fetches public data sets and takes in the user's own."""
    commands = stage.add_subparsers(dest="command", metavar="COMMAND", title="commands, instead of running the stage")
    _add_fetch(commands)
    _add_status(commands)
    _add_init(commands)
    _add_convert(commands)


def _add_fetch(commands: argparse._SubParsersAction) -> None:
    text = "fetch a public data set from its official address, verify and unpack it"
    parser = commands.add_parser(
        "fetch",
        help=text,
        description=f"{text.capitalize()}. A broken or stopped download goes on from where it was. "
        "What is fetched is recorded in DIR/.regionclip-data.json.",
    )
    parser.add_argument("name", choices=SETS, metavar="NAME", help=", ".join(SETS))
    parser.add_argument("--root", metavar="DIR", required=True, help="folder of data sets; the profiles use 'datasets'")
    parser.add_argument("--mirror", metavar="DIR_OR_URL", help="folder or address that holds the same files")
    parser.set_defaults(run=_fetch, resumes=True)


def _add_status(commands: argparse._SubParsersAction) -> None:
    text = "tell what is there of the public data sets, what is missing, and what does not match"
    parser = commands.add_parser(
        "status", help=text, description=f"{text.capitalize()}. Exit code 0 if all is there, else 1."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(SETS)}; default: all of them")
    parser.add_argument("--root", metavar="DIR", required=True, help="folder of data sets")
    parser.set_defaults(run=_status, resumes=False)


def _add_init(commands: argparse._SubParsersAction) -> None:
    text = "check your own COCO-style data and write a profile for them"
    parser = commands.add_parser(
        "init", help=text, description=f"{text.capitalize()}; docs/your-data.md walks through."
    )
    parser.add_argument("--train", metavar="JSON", required=True, help="COCO-style boxes of the training pictures")
    parser.add_argument("--val", metavar="JSON", required=True, help="the same of the pictures to measure on")
    parser.add_argument("--images", metavar="DIR", required=True, help="folder that the file names start from")
    parser.add_argument("--images-val", metavar="DIR", help="the same for --val, where it is another one")
    parser.add_argument("--name", default="own", help="of the data set, in tables and models: forklifts; default: own")
    parser.add_argument("--base", metavar="TXT", help="classes to train on, one a line; default: all but --novel")
    parser.add_argument("--novel", metavar="TXT", help="classes to find without a box of them in training")
    parser.add_argument("--clip", metavar="PATH", help="the teacher: a CLIP folder, or weights of a CLIP ResNet")
    parser.add_argument("--captions", metavar="PATH", help="captioned pictures to pretrain on")
    parser.add_argument("--captions-images", metavar="DIR", help="folder of their pictures, if it is not beside them")
    parser.add_argument("--regionclip", metavar="PATH", help="a pretrained RegionCLIP, instead of --captions")
    parser.add_argument("-o", "--out", metavar="YAML", default="params.yaml", help="default: params.yaml")
    parser.set_defaults(run=_init, resumes=False)


def _add_convert(commands: argparse._SubParsersAction) -> None:
    text = "turn a folder of Pascal VOC, YOLO or Cityscapes into a COCO-style file"
    parser = commands.add_parser(
        "convert",
        help=text,
        description=f"{text[0].upper()}{text[1:]}. What cannot be used is set aside, listed beside OUT and counted.",
    )
    forms = ["voc", "yolo", "cityscapes", "foggy_cityscapes"]
    parser.add_argument("--from", dest="form", choices=forms, required=True, help="form of the folder")
    parser.add_argument(
        "folder",
        metavar="DIR",
        help="voc: holds JPEGImages and Annotations; yolo: holds data.yaml, or is it; "
        "cityscapes: holds gtFine and leftImg8bit; foggy_cityscapes: gtFine and leftImg8bit_foggy, of which beta 0.02",
    )
    parser.add_argument(
        "--split", metavar="NAME", help="voc: a list in ImageSets/Main (default: all); the others: train (default), val"
    )
    parser.add_argument("-o", "--out", metavar="JSON", required=True, help="file to write")
    parser.set_defaults(run=_convert_boxes, resumes=False)


def console() -> Console:
    """Return the terminal for tables and notes: what names and files hold is shown as text and commands nothing."""
    from rich import console

    class Plain(console.Console):
        def render_str(self, text: str, **options: Any) -> Any:
            return super().render_str(printable(text), **options)

    return Plain(highlight=False, markup=False, emoji=False)


def _fetch(chosen: argparse.Namespace) -> None:
    from regionclip.workspace.fetch.fetching import fetch

    for line in fetch(chosen.name, Path(chosen.root), chosen.mirror):
        print(printable(line))


def _status(chosen: argparse.Namespace) -> int:
    from regionclip.workspace.fetch.fetching import status

    unknown = [name for name in chosen.names if name not in SETS]
    if unknown:
        raise InputError(f"there is no data set '{unknown[0]}'", mend=f"name one of {', '.join(SETS)}")
    found, everything = status(chosen.names or SETS, Path(chosen.root))
    console().print(found)
    return 0 if everything else 1


def _init(chosen: argparse.Namespace) -> None:
    from regionclip.workspace.init import init, table

    own, notes = init(chosen, Path(chosen.out))
    terminal = console()
    terminal.print(table(own))
    terminal.print(f"{own.images['train']} pictures in train, {own.images['val']} in val; all of them are there.")
    for title, lines in (
        ("Wrong; it is set aside, and too much of it stops the run", own.faults),
        ("To know", [*own.notes, *notes]),
    ):
        if lines:
            terminal.print(f"{title}:", *(f"  - {line}" for line in lines), sep="\n", soft_wrap=True)
    terminal.print(f"{chosen.out} is written. Next:", *_next_commands(chosen.out), sep="\n", soft_wrap=True)


def _next_commands(out: str) -> list[str]:
    copy = [] if Path(out) == Path("params.yaml") else [f"  cp {out} params.yaml"]
    return [*copy, "  dvc repro check_data    # boxes, pictures, splits", "  dvc repro               # everything"]


def _convert_boxes(chosen: argparse.Namespace) -> None:
    from regionclip.workspace.convert import convert

    print(printable(convert(chosen.form, Path(chosen.folder), Path(chosen.out), chosen.split)))
