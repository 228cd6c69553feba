"""The commands ``regionclip mlflow-sync`` and ``regionclip register``: what MLflow is told apart from the stages."""

from __future__ import annotations

import argparse
from pathlib import Path

from regionclip.cli_parts import add_command
from regionclip.errors import printable


def add_tracking_commands(commands: argparse._SubParsersAction) -> None:
    """Add the commands to the subparsers of ``regionclip``."""
    sync = add_command(commands, "mlflow-sync", _sync)
    sync.add_argument("--dry-run", action="store_true", help="only say what lies there")
    register = add_command(commands, "register", _register)
    register.add_argument("--dataset", metavar="NAME", required=True, help="one of data.sets")
    register.add_argument("--parent", metavar="RUN_ID", help="MLflow run of the pipeline that made it")


def _sync(chosen: argparse.Namespace) -> None:
    """Deliver to MLflow what stages kept in mlruns/undelivered while it was away. Running it again changes nothing."""
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
    """Put the workspace's detector into MLflow's registry as the candidate. The model is regionclip-NAME, tagged with
    its protocol's numbers; `models:/regionclip-NAME@candidate` loads it. The flow `promote` makes a candidate the
    champion.
    """
    from regionclip.inference.registry import register

    version = register(chosen.dataset, Path(), chosen.parent)
    print(f"{version.name}: version {version.version} is the candidate")
