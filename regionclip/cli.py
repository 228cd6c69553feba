"""The command line: ``regionclip STAGE`` and commands on data and weight files, a thin shell."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from regionclip.errors import InputError, Interrupted

STAGES = {
    "data": "make the images, captions and boxes, or derive the splits",
    "check_data": "check data against its contracts (Great Expectations)",
    "concepts": "captions to the concept pool",
    "teacher": "train or import the CLIP that labels regions",
    "text_bank": "concept and class names to text embeddings",
    "rpn": "train the region proposal network on base boxes, store proposals",
    "pseudo_labels": "label regions of the captioned scenes with concepts",
    "check_pseudo_labels": "check the pseudo labels against their contract",
    "pretrain": "region-text pretraining of the student",
    "zero_shot": "CLIP and RegionCLIP without fine-tuning, on true and proposed boxes",
    "finetune": "transfer CLIP and RegionCLIP to open-vocabulary detection",
    "evaluate": "the generalised open-vocabulary protocol",
    "report": "the summary, its table and its pictures",
}
BY_DATASET = {"finetune", "evaluate"}
SETS = ("coco2017", "lvis_v1", "coco_captions", "flickr30k")


_FILE = "weight file: .pth, .pt, .bin, .safetensors, .npy; no code in it is run"


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the ``regionclip`` command."""
    parser = argparse.ArgumentParser(
        prog="regionclip",
        description="Run one stage of the pipeline in the current folder (`dvc repro` runs them all, as needed), or "
        "look at and convert official checkpoints.",
        epilog="Settings of the machine come from the environment: REGIONCLIP_DEVICE, REGIONCLIP_WORKERS, "
        "REGIONCLIP_PRECISION, REGIONCLIP_CHECKPOINT_INTERVAL, MLFLOW_TRACKING_URI. "
        "Exit codes: 0 done, 2 wrong input, 3 data check failed, 4 interrupted and resumable.",
    )
    commands = parser.add_subparsers(dest="stage", required=True, metavar="STAGE")
    for name, text in STAGES.items():
        stage = commands.add_parser(name, help=text, description=f"Stage {name}: {text}.")
        stage.set_defaults(run=_run_stage)
        if name in BY_DATASET:
            stage.add_argument("--dataset", choices=["coco", "lvis"], required=True, help="the target data set")
        if name == "data":
            _add_data_commands(stage)
    _add_inspect(commands)
    _add_convert(commands)
    return parser


def _add_data_commands(stage: argparse.ArgumentParser) -> None:
    """Beside running the stage, ``data`` fetches public data sets and takes in the user's own."""
    commands = stage.add_subparsers(dest="command", metavar="COMMAND", title="commands, instead of running the stage")
    _add_fetch(commands)
    _add_status(commands)
    _add_init(commands)
    _add_voc_and_yolo(commands)


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
    parser.set_defaults(run=_fetch)


def _add_status(commands: argparse._SubParsersAction) -> None:
    text = "tell what is there of the public data sets, what is missing, and what does not match"
    parser = commands.add_parser(
        "status", help=text, description=f"{text.capitalize()}. Exit code 0 if all is there, else 1."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(SETS)}; default: all of them")
    parser.add_argument("--root", metavar="DIR", required=True, help="folder of data sets")
    parser.set_defaults(run=_status)


def _add_init(commands: argparse._SubParsersAction) -> None:
    text = "check your own COCO-style data and write a profile for them"
    parser = commands.add_parser(
        "init", help=text, description=f"{text.capitalize()}; docs/your-data.md walks through."
    )
    parser.add_argument("--train", metavar="JSON", required=True, help="COCO-style boxes of the training pictures")
    parser.add_argument("--val", metavar="JSON", required=True, help="the same of the pictures to measure on")
    parser.add_argument("--images", metavar="DIR", required=True, help="folder that the file names start from")
    parser.add_argument("--images-val", metavar="DIR", help="the same for --val, where it is another one")
    parser.add_argument("--base", metavar="TXT", help="classes to train on, one a line; default: all but --novel")
    parser.add_argument("--novel", metavar="TXT", help="classes to find without a box of them in training")
    parser.add_argument("--clip", metavar="PATH", help="the teacher: a CLIP folder, or weights of a CLIP ResNet")
    parser.add_argument("--captions", metavar="PATH", help="captioned pictures to pretrain on")
    parser.add_argument("--captions-images", metavar="DIR", help="folder of their pictures, if it is not beside them")
    parser.add_argument("--regionclip", metavar="PATH", help="a pretrained RegionCLIP, instead of --captions")
    parser.add_argument("-o", "--out", metavar="YAML", default="params.yaml", help="default: params.yaml")
    parser.set_defaults(run=_init)


def _add_voc_and_yolo(commands: argparse._SubParsersAction) -> None:
    text = "turn a Pascal VOC or YOLO folder into a COCO-style file"
    parser = commands.add_parser(
        "convert", help=text, description=f"{text.capitalize()}. It needs the extra: pip install 'regionclip[convert]'."
    )
    parser.add_argument("--from", dest="form", choices=["voc", "yolo"], required=True, help="form of the folder")
    parser.add_argument("folder", metavar="DIR", help="voc: holds JPEGImages and Annotations; yolo: holds data.yaml")
    parser.add_argument(
        "--split", metavar="NAME", help="voc: a list in ImageSets/Main (default: all); yolo: train (default), val"
    )
    parser.add_argument("-o", "--out", metavar="JSON", required=True, help="file to write")
    parser.set_defaults(run=_convert_boxes)


def _add_inspect(commands: argparse._SubParsersAction) -> None:
    text = "say what a weight file is and what can be made of it"
    parser = commands.add_parser(
        "inspect",
        help=text,
        description=f"{text.capitalize()}: kind, architecture, tensors by module, embeddings, sha256.",
    )
    parser.add_argument("file", metavar="FILE", help=f"{_FILE}; or a CLIP folder")
    parser.set_defaults(run=_inspect)


def _add_convert(commands: argparse._SubParsersAction) -> None:
    text = "turn an official checkpoint, one of our pretraining, or an embedding file into a format used here"
    parser = commands.add_parser(
        "convert",
        help=text,
        description=f"{text.capitalize()}. What is in FILE is told by its keys; a wrong file is refused.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples:\n"
        "  regionclip convert regionclip_pretrained-cc_rn50.pth --to open_clip -o weights/regionclip_rn50\n"
        "  regionclip convert regionclip_finetuned-coco_rn50.pth --to mmdet -o weights/coco_rn50.pth\n"
        "  regionclip convert rpn_coco_48.pth --to mmdet -o weights/rpn_coco.pth\n"
        "  regionclip convert coco_65_cls_emb.pth --to text-bank --names coco65 -o banks/coco65.safetensors\n"
        "  regionclip convert lvis_1203_cls_emb.pth --to text-bank --names lvis_v1_val.json -o banks/lvis.safetensors",
    )
    parser.add_argument("file", metavar="FILE", help=_FILE)
    parser.add_argument(
        "--to",
        choices=["mmdet", "open_clip", "text-bank"],
        required=True,
        help="mmdet: a checkpoint by MMDetection's names; open_clip: a folder for "
        "open_clip.create_model_from_pretrained('local-dir:OUT'); text-bank: embeddings with their names",
    )
    parser.add_argument("-o", "--out", metavar="OUT", required=True, help="file to write, or folder for open_clip")
    parser.add_argument(
        "--names",
        metavar="FILE",
        help="for text-bank: coco48, coco17, coco65, coco80, a text file of one `name[,count]` a line, "
        "or a COCO or LVIS JSON",
    )
    parser.add_argument(
        "--part",
        choices=["student", "teacher", "rpn", "detector"],
        help="for mmdet and open_clip: which model of FILE; by default the one that it was published for",
    )
    parser.set_defaults(run=_convert)


def _run_stage(chosen: argparse.Namespace) -> None:
    from regionclip.stages.runner import run_stage

    run_stage(chosen.stage, getattr(chosen, "dataset", None))


def _fetch(chosen: argparse.Namespace) -> None:
    from regionclip.data.fetch import fetch

    for line in fetch(chosen.name, Path(chosen.root), chosen.mirror):
        print(line)


def _status(chosen: argparse.Namespace) -> int:
    from rich.console import Console

    from regionclip.data.fetch import status

    unknown = [name for name in chosen.names if name not in SETS]
    if unknown:
        raise InputError(f"there is no data set '{unknown[0]}'", mend=f"name one of {', '.join(SETS)}")
    found, everything = status(chosen.names or SETS, Path(chosen.root))
    Console(highlight=False, markup=False).print(found)
    return 0 if everything else 1


def _init(chosen: argparse.Namespace) -> None:
    from rich.console import Console

    from regionclip.data.foreign.init import InitOptions, init, table

    options = {field: getattr(chosen, field) for field in InitOptions.__dataclass_fields__}
    own, notes = init(InitOptions(**options), Path(chosen.out))
    console = Console(highlight=False, markup=False)
    console.print(table(own))
    console.print(f"{own.images['train']} pictures in train, {own.images['val']} in val; all of them are there.")
    for title, lines in (
        ("Wrong; it is set aside, and too much of it stops the run", own.faults),
        ("To know", [*own.notes, *notes]),
    ):
        if lines:
            console.print(f"{title}:", *(f"  - {line}" for line in lines), sep="\n", soft_wrap=True)
    console.print(f"{chosen.out} is written. Next:", *_next_commands(chosen.out), sep="\n", soft_wrap=True)


def _next_commands(out: str) -> list[str]:
    copy = [] if Path(out) == Path("params.yaml") else [f"  cp {out} params.yaml"]
    return [*copy, "  dvc repro check_data    # boxes, pictures, splits", "  dvc repro               # everything"]


def _convert_boxes(chosen: argparse.Namespace) -> None:
    from regionclip.data.foreign.convert import convert

    print(convert(chosen.form, Path(chosen.folder), Path(chosen.out), chosen.split))


def _inspect(chosen: argparse.Namespace) -> None:
    from rich.console import Console

    from regionclip.checkpoints.inspect import inspect

    found, console = inspect(chosen.file), Console(highlight=False, markup=False)
    for name, value in found.facts.items():
        console.print(f"{name + ':':<20}{value}", soft_wrap=True)
    console.print(found.table())
    for command in found.commands:
        console.print(f"  {command}", soft_wrap=True)


def _convert(chosen: argparse.Namespace) -> None:
    if chosen.to == "text-bank":
        from regionclip.text.text_bank_import import import_bank

        if chosen.names is None or chosen.part is not None:
            raise InputError("a text bank needs --names and has no --part", mend="give --names coco65 or a file")
        bank = import_bank(chosen.file, chosen.names)
        bank.save(chosen.out)
        print(f"{chosen.out}: {len(bank)} embeddings of width {bank.width}")
        return
    from regionclip.checkpoints import convert

    if chosen.names is not None:
        raise InputError("--names is for text banks only", mend="leave it out")
    to = {"mmdet": convert.to_mmdet, "open_clip": convert.to_open_clip}[chosen.to]
    print(to(chosen.file, chosen.out, chosen.part))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    chosen = build_parser().parse_args(arguments)
    # KeyboardInterrupt, because libraries catch every Exception: MLflow would make it a failed delivery.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Warnings of MMEngine, GX and MLflow about each other would bury the lines that matter, in loader workers too.
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    warnings.simplefilter("ignore")
    try:
        # A command may say with its code what it found; most have only one way to end well.
        return chosen.run(chosen) or 0
    except InputError as error:
        print(f"regionclip {chosen.stage}: {error}", file=sys.stderr)
        return error.exit_code
    except (KeyboardInterrupt, Interrupted):
        resumes = chosen.run in (_run_stage, _fetch)
        resume = "; run it again to go on from the last resume point" if resumes else ""
        print(f"regionclip {chosen.stage}: interrupted{resume}.", file=sys.stderr)
        return Interrupted.exit_code
