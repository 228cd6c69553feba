"""The command line: ``regionclip STAGE`` and commands on weight files, a thin shell; others are in ``cli_*.py``."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path

from regionclip import runtime
from regionclip.cli_data import add_data_commands
from regionclip.cli_detect import add_detect_commands
from regionclip.cli_params import add_params_commands
from regionclip.cli_parts import add_command, console
from regionclip.cli_serve import add_serving_commands
from regionclip.cli_status import add_status_command
from regionclip.cli_tracking import add_tracking_commands
from regionclip.errors import FAULT, InputError, Interrupted
from regionclip.files import full_disk_named

STAGES = {
    "data": "make the images, captions and boxes, or derive the splits",
    "check_data": "check data against its contracts (Great Expectations)",
    "concepts": "captions to the concept pool",
    "teacher": "train or import the CLIP that labels regions",
    "text_bank": "concept and class names to text embeddings",
    "rpn": "train the region proposal network on base boxes, or import one",
    "proposals": "region proposals of a data set, and their recall",
    "pseudo_labels": "label regions of the captioned scenes with concepts",
    "check_pseudo_labels": "check the pseudo labels against their contract",
    "pretrain": "region-text pretraining of the student",
    "zero_shot": "CLIP and RegionCLIP without fine-tuning, on true and proposed boxes",
    "pseudo_boxes": "objects of novel classes in the training pictures, where a transfer wants them",
    "finetune": "transfer CLIP and RegionCLIP to open-vocabulary detection",
    "evaluate": "detections of the fine-tuned, measured by the data set's protocol",
    "report": "the summary, its table and its pictures",
}
BY_DATASET = {"proposals", "zero_shot", "pseudo_boxes", "finetune", "evaluate"}
# Their trainings and passes over pictures can be shared by several processes; pseudo labels have shards instead.
SHARED = {"teacher", "rpn", "proposals", "pretrain", "zero_shot", "pseudo_boxes", "finetune", "evaluate"}
_SETTINGS = (
    "Settings of the machine come from the environment: REGIONCLIP_DEVICE, REGIONCLIP_WORKERS, REGIONCLIP_PRECISION, "
    "REGIONCLIP_CHECKPOINT_INTERVAL (iterations between resume points), REGIONCLIP_PROCESSES (processes, one a GPU, "
    f"that share each of {', '.join(sorted(SHARED))}), REGIONCLIP_TORCHRUN (further arguments of torchrun, such as "
    "those that name other machines), REGIONCLIP_PARENT_RUN_ID and REGIONCLIP_FLOW_RUN_ID (MLflow run and Prefect "
    "flow run that a stage's run belongs to), MLFLOW_TRACKING_URI, REGIONCLIP_API_KEY and REGIONCLIP_SERVE_HOSTS (of "
    "`serve`), REGIONCLIP_APP_LOGIN (user:password, of `app`). "
)

# What PyTorch, its launcher and databases say, with one kind of exception for all, where another time or machine helps.
_MACHINE = re.compile(
    "CUDA|cuDNN|NCCL|gloo|out of memory|allocate memory|DataLoader worker|terminated abruptly|[Cc]onnection|timed out"
    "|database is locked|disk I/O"
)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the ``regionclip`` command."""
    parser = argparse.ArgumentParser(
        prog="regionclip",
        description="Run one stage of the pipeline in the current folder (`dvc repro` runs them all, as needed), or "
        "look at and convert official checkpoints.",
        epilog=f"{_SETTINGS}Exit codes: 0 done, 1 the machine failed, 2 wrong input or full disk, 3 data check failed, "
        "4 interrupted and resumable, 5 a fault of the program.",
    )
    parser.set_defaults(resumes=False, extra="pipeline")
    commands = parser.add_subparsers(dest="stage", required=True, metavar="STAGE")
    for name, text in STAGES.items():
        stage = commands.add_parser(name, help=text, description=f"Stage {name}: {text}.")
        stage.set_defaults(run=_run_stage, resumes=True)
        if name in BY_DATASET:
            stage.add_argument("--dataset", metavar="NAME", required=True, help="one of data.sets")
        if name == "data":
            add_data_commands(stage)
        if name == "pseudo_labels":
            stage.add_argument("--shard", type=_shard, metavar="I/N", help="only label share I, from 1, of N")
    raw = add_command(commands, "raw", _raw)
    raw.add_argument("name", metavar="NAME", nargs="?", help="of the section raw of params.yaml; none: only folders")
    raw.add_argument("--set", metavar="NAME", help="only make the folders of a data set")
    _add_file_commands(commands)
    add_params_commands(commands)
    add_tracking_commands(commands)
    add_detect_commands(commands)
    add_status_command(commands)
    add_serving_commands(commands)
    return parser


def _add_file_commands(commands: argparse._SubParsersAction) -> None:
    file = "weight file: .pth, .pt, .bin, .safetensors, .npy; no code in it is run"
    inspect = add_command(commands, "inspect", _inspect)
    inspect.add_argument("file", metavar="FILE", help=f"{file}; or a CLIP folder")
    convert = add_command(commands, "convert", _convert)
    convert.add_argument("file", metavar="FILE", help=file)
    convert.add_argument(
        "--to",
        choices=["mmdet", "open_clip", "text-bank"],
        required=True,
        help="mmdet: a checkpoint by MMDetection's names; open_clip: a folder for "
        "open_clip.create_model_from_pretrained('local-dir:OUT'); text-bank: embeddings with their names",
    )
    convert.add_argument("-o", "--out", metavar="OUT", required=True, help="file to write, or folder for open_clip")
    convert.add_argument(
        "--names",
        metavar="FILE",
        help="for text-bank: coco48, coco17, coco65, coco80, a text file of one `name[,count]` a line, "
        "or a COCO or LVIS JSON",
    )
    convert.add_argument(
        "--part",
        choices=["student", "teacher", "rpn", "detector"],
        help="for mmdet and open_clip: which model of FILE; by default the one that it was published for",
    )
    retrieval = add_command(commands, "retrieval", _retrieval)
    retrieval.add_argument("clip", metavar="CLIP", help="CLIP folder, such as artifacts/pretrain")
    retrieval.add_argument("--captions", metavar="FILE", required=True, help="Karpathy JSON, or COCO captions JSON")
    retrieval.add_argument("--images", metavar="DIR", required=True, help="folder that file names start from")
    retrieval.add_argument("--split", default="test", help="split of a Karpathy JSON (default: %(default)s)")


def _raw(chosen: argparse.Namespace) -> None:
    """Sum a raw file or folder that params.yaml names, for the stages that depend on it. `dvc repro` calls it."""
    from regionclip.params import load_params
    from regionclip.stages.graph import read_stage

    if chosen.name is None:
        folders = read_stage("raw_sets", chosen.set) if chosen.set else read_stage("raw_folders")
        for out in map(Path, folders.outs):
            out.parent.mkdir(parents=True, exist_ok=True)
            out.touch()
        return
    from regionclip.stages.inputs import require_raw, write_raw

    params = load_params()
    require_raw(params)
    if chosen.name not in params.raw:
        mend = "name one of the section"
        raise InputError("no such raw input", file="params.yaml", key=f"raw.{chosen.name}", mend=mend)
    write_raw(chosen.name, Path(params.raw[chosen.name]))


def _shard(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    number, shards = map(int, match.groups()) if match else (0, 0)
    if not 1 <= number <= shards:
        raise argparse.ArgumentTypeError(f"'{text}' is no share such as 1/4 or 4/4")
    return number, shards


def _run_stage(chosen: argparse.Namespace) -> int | None:
    name, dataset = chosen.stage, getattr(chosen, "dataset", None)
    if getattr(chosen, "shard", None):
        from regionclip.stages.runner import run_shard

        return run_shard(name, *chosen.shard)
    if runtime.inside_group():
        return _run_in_group(name, dataset)
    if name in SHARED and (runtime.processes() > 1 or runtime.torchrun_options()):
        from regionclip.engine.launch import launch, sharable

        if sharable(name):
            return launch([name] if dataset is None else [name, "--dataset", dataset])
        print(f"regionclip {name}: one process, because on the CPU batch norm cannot train in several", file=sys.stderr)
    from regionclip.stages.runner import run_stage

    return run_stage(name, dataset)


def _run_in_group(name: str, dataset: str | None) -> None:
    if name not in SHARED:
        mend = f"run it without torchrun; {', '.join(sorted(SHARED))} can be shared"
        raise InputError(f"processes cannot share the stage {name}", mend=mend)
    from regionclip.stages.runner import run_together

    run_together(name, dataset)


def _inspect(chosen: argparse.Namespace) -> None:
    """Say what a weight file is and what can be made of it. Shows kind, tensors by module, embeddings and sha256."""
    from regionclip.checkpoints.inspect import inspect

    found, terminal = inspect(chosen.file), console()
    for name, value in found.facts.items():
        terminal.print(f"{name + ':':<20}{value}", soft_wrap=True)
    terminal.print(found.table())
    for command in found.commands:
        terminal.print(f"  {command}", soft_wrap=True)


def _convert(chosen: argparse.Namespace) -> None:
    """Turn an official checkpoint, one of our pretraining, or an embedding file into a format used here.
    What is in FILE is told by its keys; a wrong file is refused.

    examples:
      regionclip convert regionclip_pretrained-cc_rn50.pth --to open_clip -o weights/regionclip_rn50
      regionclip convert regionclip_finetuned-coco_rn50.pth --to mmdet -o weights/coco_rn50.pth
      regionclip convert rpn_coco_48.pth --to mmdet -o weights/rpn_coco.pth
      regionclip convert coco_65_cls_emb.pth --to text-bank --names coco65 -o banks/coco65.safetensors
      regionclip convert lvis_1203_cls_emb.pth --to text-bank --names lvis_v1_val.json -o banks/lvis.safetensors
    """
    if chosen.to == "text-bank":
        from regionclip.text.text_bank import import_bank

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


def _retrieval(chosen: argparse.Namespace) -> None:
    """Measure image-text retrieval, R@1/5/10 both ways, of a CLIP or RegionCLIP.

    examples:
      regionclip retrieval artifacts/pretrain --captions datasets/flickr30k/dataset_flickr30k.json \\
        --images datasets/flickr30k/flickr30k-images
      regionclip retrieval weights/clip_rn50 --captions datasets/coco/annotations/captions_val2017.json \\
        --images datasets/coco/val2017
    """
    import open_clip

    from regionclip.checkpoints.clip_folder import ClipFolder
    from regionclip.data.captions import open_captioned_images
    from regionclip.evaluation.retrieval import evaluate_retrieval

    file, images = Path(chosen.captions), Path(chosen.images)
    source = open_captioned_images(file, images, splits=(chosen.split,))
    clip = ClipFolder.open(chosen.clip)
    preprocess = open_clip.image_transform(clip.model_cfg["vision_cfg"]["image_size"], is_train=False)
    device = runtime.device()
    found = evaluate_retrieval(clip.model().to(device), clip.tokenizer(), preprocess, source, device=device)
    print(json.dumps(found, indent=2))


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
        with full_disk_named(Path.cwd()):
            return chosen.run(chosen) or 0
    except InputError as error:
        print(f"regionclip {chosen.stage}: {error}", file=sys.stderr)
        return error.exit_code
    except (KeyboardInterrupt, Interrupted):
        resume = "; run it again to go on from the last resume point" if chosen.resumes else ""
        if runtime.is_first():
            print(f"regionclip {chosen.stage}: interrupted{resume}.", file=sys.stderr)
        return Interrupted.exit_code
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "regionclip"):
            return _unknown(error, chosen.stage)
        mend = f"pip install 'regionclip[{chosen.extra}]'"
        print(f"regionclip {chosen.stage}: the package '{package}' is not installed. To mend: {mend}.", file=sys.stderr)
        return InputError.exit_code
    except Exception as error:
        return _unknown(error, chosen.stage)


def _unknown(error: Exception, command: str) -> int:
    """Say in short what nobody foresaw, keep its traceback in a file, and return the exit code."""
    machine = isinstance(error, MemoryError) or bool(_MACHINE.search(str(error)))
    if isinstance(error, OSError):
        # The same again finds the same file missing, but perhaps not the same disk or network away.
        machine = not isinstance(error, (FileNotFoundError, FileExistsError, PermissionError, NotADirectoryError))
    whose = "the machine failed" if machine else "a fault of the program"
    text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    folder = runtime.SCRATCH if runtime.SCRATCH.is_dir() else Path(tempfile.gettempdir())
    kept = folder / f"traceback-{command}-{os.getpid()}.txt"
    try:
        kept.write_text("".join(traceback.format_exception(error)), encoding="utf-8", errors="backslashreplace")
        where = f"the traceback is in {kept}"
    except OSError:
        traceback.print_exception(error)
        where = "the traceback stands above"
    print(f"regionclip {command}: {whose} ({text}); {where}.", file=sys.stderr)
    return 1 if machine else FAULT
