"""What it costs to run under Prefect: the flow beside plain `dvc repro`, with nothing to do too; the servers' start.

Run ``python -m benchmarks.ops`` on an idle machine; it takes about six minutes and writes ``results/ops.md`` and
``results/ops.json``. The graph is a chain of stages that copy one line, so that nothing runs side by side and every
second beyond plain `dvc repro` is overhead; and a fan of stages that share one slot, which they hand on. The servers
are those of `make serve`.
"""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from benchmarks.services import run, serving
from regionclip.files import atomic_path, write_json

RESULTS = Path(__file__).parent / "results/ops.md"
STAGES, ROUNDS, STARTS = 8, 5, 3
FAN, HOLD_SECONDS = 6, 10
PROMISED_SECONDS = 2.0  # of overhead, a stage
FLOW = "from flows.pipeline import pipeline; pipeline(workspace='.')"
ONE_SLOT = ["prefect", "global-concurrency-limit", "create", "one", "--limit", "1"]


def ops_benchmark(stages: int = STAGES, rounds: int = ROUNDS, starts: int = STARTS) -> dict[str, Any]:
    """Start the servers several times, then run the graph in pairs, either first in half of the rounds.

    Args:
        stages: Length of the chain.
        rounds: How many pairs.
        starts: How many times the servers are started on nothing, and again on what they left.

    Returns:
        ``stages``, and the seconds of every measurement: ``starts`` by server and ``first`` or ``again``; ``runs`` by
        ``made`` or ``nothing to do``, and ``plain``, ``singles`` (one `dvc repro --single-item` a stage) or ``flow``;
        ``handovers`` of a slot.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        begun: dict[str, dict[str, list[float]]] = {name: {"first": [], "again": []} for name in ("mlflow", "prefect")}
        for number in range(starts):
            for when in ("first", "again"):
                with serving(folder / f"servers-{number}") as (_, seconds):
                    for server, took in seconds.items():
                        begun[server][when].append(took)
        untouched = make_chain(folder / "untouched", stages)
        arms = ("plain", "singles", "flow")
        runs = {what: {arm: [] for arm in arms} for what in ("made", "nothing to do")}
        with serving(folder / "servers-0") as (environment, _):
            for number in range(rounds):
                for arm in arms if number % 2 == 0 else arms[::-1]:
                    workspace = shutil.copytree(untouched, folder / f"{arm}-{number}")
                    for what in runs:
                        runs[what][arm].append(run_arm(arm, workspace, stages, environment))
            run(ONE_SLOT, folder, environment)
            handovers = hand_on(make_fan(folder / "fan", FAN, HOLD_SECONDS), environment)
        return {"stages": stages, "starts": begun, "runs": runs, "handovers": handovers}


def make_chain(folder: Path, stages: int) -> Path:
    """Make a Git and DVC repository with a chain of stages that copy one line; return its folder."""
    chain: dict[str, Any] = {"s1": {"cmd": "echo one line > s1.txt", "outs": ["s1.txt"]}}
    for number in range(2, stages + 1):
        before, out = f"s{number - 1}.txt", f"s{number}.txt"
        chain[f"s{number}"] = {"cmd": f"cp {before} {out}", "deps": [before], "outs": [out]}
    return _make_repository(folder, chain)


def make_fan(folder: Path, stages: int, seconds: float) -> Path:
    """Make a repository with stages that hold the one slot for a while and write when; return its folder."""
    clock = "date +%s.%N"
    return _make_repository(
        folder,
        {
            f"s{number}": {
                "cmd": f"{clock} > s{number}.txt && sleep {seconds} && {clock} >> s{number}.txt",
                "outs": [f"s{number}.txt"],
                "meta": {"limit": "one"},
            }
            for number in range(1, stages + 1)
        },
    )


def hand_on(fan: Path, environment: Mapping[str, str]) -> list[float]:
    """Run a fan by the flow; return the seconds from each stage's end to the start of the next.

    Raises:
        RuntimeError: Two stages ran at the same time.
    """
    run([sys.executable, "-c", FLOW], fan, environment)
    times = sorted([float(line) for line in file.read_text().split()] for file in fan.glob("s*.txt"))
    between = [after[0] - before[1] for before, after in pairwise(times)]
    if min(between) < 0:
        raise RuntimeError("two stages held the one slot at the same time")
    return between


def _make_repository(folder: Path, stages: Mapping[str, Any]) -> Path:
    folder.mkdir()
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": dict(stages)}), encoding="utf-8")
    (folder / ".gitignore").write_text("/*.txt\n/.scratch\n/mlruns\n", encoding="utf-8")
    for command in (["git", "init", "--quiet"], ["dvc", "init", "--quiet"], ["git", "add", "."]):
        run(command, folder, {})
    identity = ["-c", "user.name=benchmark", "-c", "user.email=benchmark@localhost"]
    run(["git", *identity, "commit", "--quiet", "-m", "Stages"], folder, {})
    return folder


def run_arm(arm: str, folder: Path, stages: int, environment: Mapping[str, str]) -> float:
    """Bring a chain up to date in one of the three ways; return the seconds.

    Raises:
        RuntimeError: A stage was not made.
    """
    commands = {
        "plain": [["dvc", "repro"]],
        "singles": [["dvc", "--wait-for-lock", "repro", "--single-item", f"s{n}"] for n in range(1, stages + 1)],
        "flow": [[sys.executable, "-c", FLOW]],
    }[arm]
    begin = time.perf_counter()
    for command in commands:
        run(command, folder, environment)
    seconds = time.perf_counter() - begin
    lock = yaml.safe_load((folder / "dvc.lock").read_text(encoding="utf-8"))
    if len(lock["stages"]) != stages or (folder / f"s{stages}.txt").read_text(encoding="utf-8") != "one line\n":
        raise RuntimeError(f"{arm} did not make all stages in {folder}")
    return seconds


def summarise(measured: Mapping[str, Any]) -> dict[str, float]:
    """Return the medians of `ops_benchmark`'s seconds by name; differences are medians over pairs."""
    made, idle, stages = measured["runs"]["made"], measured["runs"]["nothing to do"], measured["stages"]
    found = {
        "overhead a stage": statistics.median(
            (flow - plain) / stages for flow, plain in zip(made["flow"], made["plain"], strict=True)
        ),
        "overhead a stage over single items": statistics.median(
            (flow - singles) / stages for flow, singles in zip(made["flow"], made["singles"], strict=True)
        ),
    }
    found["handover"] = statistics.median(measured["handovers"])
    for what, arms in (("made", made), ("nothing to do", idle)):
        found |= {f"{what}, {arm}": statistics.median(seconds) for arm, seconds in arms.items()}
    for server, starts in measured["starts"].items():
        found |= {f"{server}, {when}": statistics.median(seconds) for when, seconds in starts.items()}
    return found


def page(measured: Mapping[str, Any]) -> str:
    """Return the page of results."""
    found, stages, rounds = summarise(measured), measured["stages"], len(measured["runs"]["made"]["flow"])
    holds = {what: "yes" if found[what] < PROMISED_SECONDS else "no" for what in ("overhead a stage", "handover")}
    names = {
        "plain": "`dvc repro`",
        "singles": f"`dvc repro --single-item`, {stages} times",
        "flow": "the flow `pipeline`, started as a program",
    }
    lines = [
        "# Overheads of running under Prefect",
        "",
        f"`python -m benchmarks.ops` on {machine()}.",
        "",
        f"A chain of {stages} stages that copy one line, {rounds} rounds; medians, in seconds of the clock. The flow",
        "runs against the servers of `make serve` (SQLite), opens its run in MLflow, and its time holds the start of",
        "Python and Prefect. In each round the ways follow each other, in turns from either end. The slot is of a",
        f"limit of one, which {len(measured['handovers']) + 1} stages that need nothing else share, each for",
        f"{HOLD_SECONDS} seconds.",
        "",
        "| measured | seconds | promised | holds |",
        "|---|---:|---:|---|",
        f"| flow over `dvc repro`, a stage | {found['overhead a stage']:.2f} | < {PROMISED_SECONDS:g} | "
        f"{holds['overhead a stage']} |",
        f"| flow over `dvc repro --single-item`, a stage | {found['overhead a stage over single items']:.2f} | | |",
        f"| a slot from one stage's end to the start of the next | {found['handover']:.2f} | < {PROMISED_SECONDS:g} | "
        f"{holds['handover']} |",
        *(f"| {stages} stages made: {text} | {found[f'made, {arm}']:.2f} | | |" for arm, text in names.items()),
        *(f"| nothing to do: {text} | {found[f'nothing to do, {arm}']:.2f} | | |" for arm, text in names.items()),
        *(
            f"| start of {title}, {text} | {found[f'{server}, {when}']:.2f} | | |"
            for server, title in (("prefect", "the Prefect server"), ("mlflow", "the MLflow server"))
            for when, text in (("first", "on nothing"), ("again", "on its database"))
        ),
        "",
    ]
    return "\n".join(lines)


def machine() -> str:
    """Return the machine and the versions in words."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("prefect", "dvc", "mlflow"))
    cores = len(os.sched_getaffinity(0))
    return f"{platform.machine()}, {cores} cores, Python {platform.python_version()}, {packages}"


def main() -> None:
    """Measure, and write the page and the numbers."""
    measured = ops_benchmark()
    write_json(RESULTS.with_suffix(".json"), {"machine": machine(), "medians": summarise(measured), **measured})
    with atomic_path(RESULTS) as beside:
        beside.write_text(page(measured), encoding="utf-8")
    print(page(measured))


if __name__ == "__main__":
    main()
