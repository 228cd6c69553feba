"""The commands of ``regionclip data``: fetch public data sets and tell what is there, take in the user's own."""

from __future__ import annotations

import argparse
from pathlib import Path

from regionclip.cli_parts import add_command, console
from regionclip.errors import InputError, printable

SETS = ("coco2017", "lvis_v1", "coco_captions", "flickr30k")
"""The data sets of ``regionclip.workspace.fetch``, named here because importing them costs time."""


def add_data_commands(stage: argparse.ArgumentParser) -> None:
    """Beside running the stage, ``data`` fetches public data sets and takes in the user's own."""
    commands = stage.add_subparsers(dest="command", metavar="COMMAND", title="commands, instead of running the stage")
    fetch = add_command(commands, "fetch", _fetch, resumes=True)
    fetch.add_argument("name", choices=SETS, metavar="NAME", help=", ".join(SETS))
    fetch.add_argument("--root", metavar="DIR", required=True, help="folder of data sets; the profiles use 'datasets'")
    fetch.add_argument("--mirror", metavar="DIR_OR_URL", help="folder or address that holds the same files")
    status = add_command(commands, "status", _status)
    status.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(SETS)}; default: all of them")
    status.add_argument("--root", metavar="DIR", required=True, help="folder of data sets")
    init = add_command(commands, "init", _init)
    init.add_argument("--train", metavar="JSON", required=True, help="COCO-style boxes of the training pictures")
    init.add_argument("--val", metavar="JSON", required=True, help="the same of the pictures to measure on")
    init.add_argument("--images", metavar="DIR", required=True, help="folder that the file names start from")
    init.add_argument("--images-val", metavar="DIR", help="the same for --val, where it is another one")
    init.add_argument("--name", default="own", help="of the data set, in tables and models: forklifts; default: own")
    init.add_argument("--base", metavar="TXT", help="classes to train on, one a line; default: all but --novel")
    init.add_argument("--novel", metavar="TXT", help="classes to find without a box of them in training")
    init.add_argument("--clip", metavar="PATH", help="the teacher: a CLIP folder, or weights of a CLIP ResNet")
    init.add_argument("--captions", metavar="PATH", help="captioned pictures to pretrain on")
    init.add_argument("--captions-images", metavar="DIR", help="folder of their pictures, if it is not beside them")
    init.add_argument("--regionclip", metavar="PATH", help="a pretrained RegionCLIP, instead of --captions")
    init.add_argument("-o", "--out", metavar="YAML", default="params.yaml", help="default: params.yaml")
    convert = add_command(commands, "convert", _convert)
    forms = ["voc", "yolo", "cityscapes", "foggy_cityscapes"]
    convert.add_argument("--from", dest="form", choices=forms, required=True, help="form of the folder")
    convert.add_argument(
        "folder",
        metavar="DIR",
        help="voc: holds JPEGImages and Annotations; yolo: holds data.yaml, or is it; "
        "cityscapes: holds gtFine and leftImg8bit; foggy_cityscapes: gtFine and leftImg8bit_foggy, of which beta 0.02",
    )
    convert.add_argument(
        "--split", metavar="NAME", help="voc: a list in ImageSets/Main (default: all); the others: train (default), val"
    )
    convert.add_argument("-o", "--out", metavar="JSON", required=True, help="file to write")


def _fetch(chosen: argparse.Namespace) -> None:
    """Fetch a public data set from its official address, verify and unpack it. A broken or stopped download goes on
    from where it was. What is fetched is recorded in DIR/.regionclip-data.json.
    """
    from regionclip.workspace.fetch.fetching import fetch

    for line in fetch(chosen.name, Path(chosen.root), chosen.mirror):
        print(printable(line))


def _status(chosen: argparse.Namespace) -> int:
    """Tell what is there of the public data sets, what is missing, and what does not match. Exit code 0 if all is
    there, else 1.
    """
    from regionclip.workspace.fetch.fetching import status

    unknown = [name for name in chosen.names if name not in SETS]
    if unknown:
        raise InputError(f"there is no data set '{unknown[0]}'", mend=f"name one of {', '.join(SETS)}")
    found, everything = status(chosen.names or SETS, Path(chosen.root))
    console().print(found)
    return 0 if everything else 1


def _init(chosen: argparse.Namespace) -> None:
    """Check your own COCO-style data and write a profile for them. docs/your-data.md walks through."""
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
    copy = [] if Path(chosen.out) == Path("params.yaml") else [f"  cp {chosen.out} params.yaml"]
    after = ["  dvc repro check_data    # boxes, pictures, splits", "  dvc repro               # everything"]
    terminal.print(f"{chosen.out} is written. Next:", *copy, *after, sep="\n", soft_wrap=True)


def _convert(chosen: argparse.Namespace) -> None:
    """Turn a folder of Pascal VOC, YOLO or Cityscapes into a COCO-style file. What cannot be used is set aside, listed
    beside OUT and counted.
    """
    from regionclip.workspace.convert import convert

    print(printable(convert(chosen.form, Path(chosen.folder), Path(chosen.out), chosen.split)))
