"""The command ``regionclip status``: one screen of a workspace."""

from __future__ import annotations

import argparse
import json
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regionclip import artifacts
from regionclip.cli_parts import add_command, console
from regionclip.errors import InputError, redacted
from regionclip.runtime import SCRATCH

if TYPE_CHECKING:
    from rich.table import Table

_HELD = re.compile(r"process (\d+) on (.*), since (.*)\n")
_OF_LOCK = "%Y-%m-%d %H:%M:%S %z"  # how `alone` writes when a stage began


def add_status_command(commands: argparse._SubParsersAction) -> None:
    """Add the command to the subparsers of ``regionclip``."""
    add_command(commands, "status", _status)


def _status(chosen: argparse.Namespace) -> None:
    """Show this workspace on one screen. Stages that are built, stale or were never run; what runs now; the last
    numbers; and the models in MLflow's registry, if a store is at hand.

    examples:
      regionclip status
      MLFLOW_TRACKING_URI=http://mlflow:5000 regionclip status
    """
    terminal = console()
    for part in (_stages, _numbers, _models):
        terminal.print(shown := part(), soft_wrap=isinstance(shown, str))


def _stages() -> Table | str:
    from rich.table import Table

    if find_spec("dvc") is None:
        return "stages: DVC is not installed (pip install 'regionclip[pipeline]')"
    from regionclip.stages.graph import read_graph

    graph, locked, running = read_graph(), _locked(), dict(_running())
    changes, trouble = _changes()
    table = Table("stage", "state", "", box=None, caption=trouble)
    table.columns[2].no_wrap = True
    behind: set[str] = set()  # stages that are not up to date, and those that stand behind them
    for name, stage in graph.items():
        why = "" if changes is None else _why(changes.get(name, []))
        why = why or next((f"behind {need}" for need in stage.needs if need in behind), "")
        state = "built" if changes is not None else "?"
        if name not in locked or why:
            state = "stale" if name in locked else "never"
            behind.add(name)
        why = _resume_point(name) or (why if state == "stale" else "")
        if (file := artifacts.file_name(name)) in running:
            state, why = "runs", running[file]
        # What is raw is summed for the others, which say what changed.
        if not name.startswith("raw"):
            table.add_row(name, state, why)
    return table


def _locked() -> dict[str, Any]:
    import yaml

    try:
        return yaml.safe_load(Path("dvc.lock").read_text(encoding="utf-8")).get("stages", {})
    except (OSError, yaml.YAMLError, AttributeError):
        return {}


def _changes() -> tuple[dict[str, Any] | None, str]:
    """Return what ``dvc status`` says of each stage that is not up to date, or why it says nothing."""
    command = [sys.executable, "-m", "dvc", "status", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        return json.loads(done.stdout), ""
    except ValueError:
        last = (done.stderr.strip() or "it says nothing").splitlines()[-1]
        return None, f"which are stale is not known: `dvc status` failed ({last[:200]})"


def _why(changes: list[Any]) -> str:
    """Return what changed, in one line: the first thing, and how many others."""
    found = []
    for change in changes:
        if isinstance(change, str):
            found.append(change)
            continue
        for what, files in change.items():
            if isinstance(files, dict):
                found += [f"{file} {how if isinstance(how, str) else 'modified'}" for file, how in files.items()]
            else:
                found.append(what)
    return f"{found[0]}{f' and {len(found) - 1} more' if len(found) > 1 else ''}" if found else ""


def _running() -> Iterator[tuple[str, str]]:
    """Yield the stages whose locks a living process of this machine holds."""
    import psutil

    for file in sorted((SCRATCH / "locks").glob("*.run")):
        held = _HELD.fullmatch(file.read_text(encoding="utf-8", errors="replace"))
        if held is None or held[2] != platform.node():
            continue
        began = time.mktime(time.strptime(held[3], _OF_LOCK))
        try:
            # The number may be another process's by now, which began later.
            if psutil.Process(int(held[1])).create_time() > began + 1:
                continue
        except psutil.NoSuchProcess:
            continue
        minutes = (time.time() - began) / 60
        yield file.stem, f"process {held[1]}, for {minutes:.0f} minutes"


def _resume_point(stage: str) -> str:
    """Say from where an interrupted training would go on."""
    points = list((SCRATCH / artifacts.file_name(stage)).rglob("iter_*.pth"))
    if not points:
        return ""
    newest = max(points, key=lambda path: path.stat().st_mtime)
    return f"was interrupted; goes on from iteration {newest.stem.removeprefix('iter_')}"


def _numbers() -> Table | str:
    """Return the last numbers of the fine-tuned detectors."""
    from rich.table import Table

    from regionclip.evaluation.protocols import PROTOCOLS
    from regionclip.evaluation.summary import TUNED, percent, spoken
    from regionclip.files import read_json

    if not artifacts.SUMMARY.is_file():
        return f"numbers: there is no {artifacts.SUMMARY} yet; the stage report writes it"
    summary = read_json(artifacts.SUMMARY)
    table = Table("set", "percent", "CLIP", "RegionCLIP", box=None)
    try:
        for dataset, models in summary["open_vocabulary"].items():
            for key in PROTOCOLS[summary["protocols"][dataset]].headline:
                values = [percent(models.get(model, {}).get(key)) for model in ("clip", "regionclip")]
                table.add_row(dataset, spoken(key), *values)
        table.title = f"{TUNED}, profile {summary['profile']}, seed {summary['seed']}, split {summary['split']}"
    except (KeyError, TypeError, AttributeError) as error:
        mend = "run `dvc repro report`"
        raise InputError(f"this is no summary ({error!r})", file=artifacts.SUMMARY, mend=mend) from None
    return table


def _models() -> Table | str:
    """Return the versions in MLflow's registry that have an alias, with the numbers of their protocol."""
    from rich.table import Table

    from regionclip.tracking.store import (
        all_found,
        connect,
        delivery_errors,
        one_line,
        require_answer,
        sqlite_file,
        tracking_uri,
    )

    if find_spec("mlflow") is None:
        return "models: MLflow is not installed (pip install 'regionclip[pipeline]')"
    uri = tracking_uri()
    if (file := sqlite_file(uri)) is not None and not file.is_file():
        return f"models: there is no {file}, so nothing is registered here"
    table = Table("model", "version", "alias", "numbers", box=None)
    try:
        require_answer(uri)
        client = connect(uri)
        for model in all_found(client.search_registered_models, None):
            for alias, version in sorted(model.aliases.items()):
                tags = client.get_model_version(model.name, str(version)).tags
                keys = filter(None, tags.get("headline", "").split(","))
                numbers = ", ".join(f"{key} {float(tags[key]):.3f}" for key in keys if key in tags)
                table.add_row(model.name, str(version), alias, numbers)
    except delivery_errors() as error:
        return f"models: {redacted(uri)} does not answer ({one_line(error)})"
    return table if table.rows else f"models: none is registered in {redacted(uri)}"
