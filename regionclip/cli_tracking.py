"""The commands ``regionclip mlflow-sync`` and ``regionclip register``: what MLflow is told apart from the stages."""

from __future__ import annotations

import argparse
from pathlib import Path

from regionclip.errors import printable


def add_tracking_commands(commands: argparse._SubParsersAction) -> None:
    """Add the commands to the subparsers of ``regionclip``."""
    text = "deliver to MLflow what stages kept in mlruns/undelivered while it was away"
    parser = commands.add_parser(
        "mlflow-sync", help=text, description=f"{text.capitalize()}. Running it again changes nothing."
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what lies there")
    parser.set_defaults(run=_sync)
    text = "put the workspace's detector into MLflow's registry as the candidate"
    parser = commands.add_parser(
        "register",
        help=text,
        description=f"{text.capitalize()}: regionclip-NAME, tagged with its protocol's numbers. "
        "`models:/regionclip-NAME@candidate` then loads it. The flow `promote` makes a candidate the champion.",
    )
    parser.add_argument("--dataset", metavar="NAME", required=True, help="one of data.sets")
    parser.add_argument("--parent", metavar="RUN_ID", help="MLflow run of the pipeline that made it")
    parser.set_defaults(run=_register)


def _sync(chosen: argparse.Namespace) -> None:
    from regionclip.tracking.record import FOLDER
    from regionclip.tracking.undelivered import sync

    empty, waiting = True, None
    for done in sync(dry_run=chosen.dry_run):
        empty = False
        what = f"{done.records} records of {done.stage}, run {done.run_id or 'not opened'}: " if done.stage else ""
        print(f"{done.file}: {what}{done.outcome}")
        for refusal in done.refused:
            print(printable(f"  refused by MLflow, left out: {refusal}"))
        if done.error and (done.outcome == "set aside" or waiting):
            print(printable(f"  {done.error}"))
        elif done.error:
            waiting = done.error
    if empty:
        print(f"{FOLDER} holds nothing.")
    if waiting:
        raise waiting


def _register(chosen: argparse.Namespace) -> None:
    from regionclip.inference.registry import register

    version = register(chosen.dataset, Path(), chosen.parent)
    print(f"{version.name}: version {version.version} is the candidate")
