"""The command line: ``regionclip STAGE``, a thin shell over the stages."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import warnings
from collections.abc import Sequence

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


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the ``regionclip`` command."""
    parser = argparse.ArgumentParser(
        prog="regionclip",
        description="Run one stage of the pipeline in the current folder. `dvc repro` runs them all, as needed.",
        epilog="Settings of the machine come from the environment: REGIONCLIP_DEVICE, REGIONCLIP_WORKERS, "
        "REGIONCLIP_PRECISION, REGIONCLIP_CHECKPOINT_INTERVAL, MLFLOW_TRACKING_URI. "
        "Exit codes: 0 done, 2 wrong input, 3 data check failed, 4 interrupted and resumable.",
    )
    commands = parser.add_subparsers(dest="stage", required=True, metavar="STAGE")
    for name, text in STAGES.items():
        stage = commands.add_parser(name, help=text, description=f"Stage {name}: {text}.")
        if name in BY_DATASET:
            stage.add_argument("--dataset", choices=["coco", "lvis"], required=True, help="the target data set")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    chosen = build_parser().parse_args(arguments)
    # KeyboardInterrupt, because libraries catch every Exception: MLflow would make it a failed delivery.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Warnings of MMEngine, GX and MLflow about each other would bury the lines that matter, in loader workers too.
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    warnings.simplefilter("ignore")
    from regionclip.stages.runner import run_stage

    try:
        run_stage(chosen.stage, getattr(chosen, "dataset", None))
    except InputError as error:
        print(f"regionclip {chosen.stage}: {error}", file=sys.stderr)
        return error.exit_code
    except (KeyboardInterrupt, Interrupted):
        print(
            f"regionclip {chosen.stage}: interrupted; run it again to go on from the last resume point.",
            file=sys.stderr,
        )
        return Interrupted.exit_code
    return 0
