"""SIGKILL at random instants of the tiny pipeline: does the next ``dvc repro`` end with the numbers of a quiet run?

Run ``python -m benchmarks.kills --kills 200 --seed 0 --out FILE``. A quiet run of the graph is made and committed. Then
each stage in turn is forced to run again, and DVC, the stage and all they started are killed; the rerun is killed too,
up to three times in a row, before one may end. Its outputs and numbers are compared with those of the quiet run. At
last the whole graph is reproduced once more. Every stage gets the same number of kills. DVC writes dvc.lock and
.dvc/tmp/rwlock in place: what a kill has cut is taken back as docs/scale-out.md says, and counted.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from voluptuous import Invalid

from benchmarks.services import QUIET
from regionclip.files import read_json, sweep, write_json
from regionclip.workspace.profiles import profile_text

ROOT = Path(__file__).parents[1]
# The code is copied because dvc.yaml names its files as dependencies; params and state are the workspace's own.
COPIED = ("dvc.yaml", ".dvcignore", ".gitignore", "regionclip")
IN_A_ROW = 3
NUMBERS = ("reports/metrics", "reports/summary.json", "reports/checks")
# What differs from run to run: which MLflow run it was, and how long it took.
CHANGING = ("artifacts/runs/", "reports/summary.md", "reports/plots", "reports/summary.json")
_QUIET_KEYS = {"seconds", "run_id", "runs"}


@dataclass
class Workspace:
    """A repository with the tiny pipeline.

    Attributes:
        folder: Where it lies.
        quiet: Stage to the seconds that it takes when nobody disturbs it.
        outs: Stage to its outputs' checksums, of the quiet run.
        numbers: The numbers of the quiet run.
    """

    folder: Path
    quiet: dict[str, float] = field(default_factory=dict)
    outs: dict[str, dict[str, str]] = field(default_factory=dict)
    numbers: dict[str, Any] = field(default_factory=dict)

    def set_up(self) -> None:
        """Copy the code and run the graph once, stage by stage."""
        for name in COPIED:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, self.folder / name)
        (self.folder / "params.yaml").write_text(profile_text("tiny"), encoding="utf-8")
        self.run("git", "init", "--quiet")
        self.run("dvc", "init", "--quiet")
        for stage in self.run("dvc", "stage", "list", "--name-only").split():
            begin = time.perf_counter()
            self.repro(stage)
            self.quiet[stage] = time.perf_counter() - begin
            print(f"{stage}: {self.quiet[stage]:.1f} s undisturbed", flush=True)

    def remember(self) -> None:
        """Take what is there for the result of the quiet run, and commit it."""
        self.outs, self.numbers = self.checksums(), self.read_numbers()
        self.run("git", "add", "--all")
        person = ("-c", "user.name=kills", "-c", "user.email=kills@localhost")
        self.run("git", *person, "commit", "--quiet", "--message", "Quiet run")

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a program here, as the leader of a process group."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("REGIONCLIP_", "MLFLOW_"))}
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        settings = {
            "PATH": path, "PYTHONPATH": str(self.folder), "OMP_NUM_THREADS": "1", "REGIONCLIP_DEVICE": "cpu",
            "REGIONCLIP_WORKERS": "0", "REGIONCLIP_CHECKPOINT_INTERVAL": "1", "HF_HUB_OFFLINE": "1",
            "GX_ANALYTICS_ENABLED": "false", "DVC_SITE_CACHE_DIR": str(self.folder.parent / "dvc_site"),
        }  # fmt: skip
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, cwd=self.folder, env=kept | QUIET | settings, start_new_session=True, **pipes)

    def run(self, *command: str) -> str:
        """Run a program to its end and return what it says."""
        with self.start(*command) as process:
            said = process.communicate()[0]
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{said[-3000:]}")
        return said

    def repro(self, stage: str) -> str:
        """Reproduce one stage; what an earlier run made of the same inputs is not taken from the cache."""
        return self.run("dvc", "repro", "--single-item", "--no-run-cache", stage)

    def killed(self, stage: str, after: float, *, force: bool) -> bool:
        """Start a stage and kill all of it after some seconds; False where it has ended before."""
        process = self.start("dvc", "repro", "--single-item", "--no-run-cache", *(["--force"] if force else []), stage)
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=after)
            return False
        family = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGKILL)
        for child in family:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        process.communicate()
        psutil.wait_procs(family)
        return True

    def checksums(self) -> dict[str, dict[str, str]]:
        """Return dvc.lock's checksums of what each stage writes, but for what changes from run to run."""
        stages = yaml.safe_load((self.folder / "dvc.lock").read_text(encoding="utf-8"))["stages"]
        return {
            stage: {out["path"]: out["md5"] for out in body.get("outs", []) if not out["path"].startswith(CHANGING)}
            for stage, body in stages.items()
        }

    def read_numbers(self) -> dict[str, Any]:
        """Return the numbers of all metrics, checks and the summary, by file and key."""
        found: dict[str, Any] = {}
        for place in NUMBERS:
            path = self.folder / place
            for file in sorted(path.glob("*.json")) if path.is_dir() else [path]:
                _flatten(read_json(file), file.relative_to(self.folder).as_posix(), found)
        return found

    def mend(self) -> list[str]:
        """Take back what DVC was writing in place when it was killed, and refuses since; return the files."""
        cut = []
        try:
            COMPILED_LOCKFILE_SCHEMA(yaml.safe_load((self.folder / "dvc.lock").read_text(encoding="utf-8")))
        except (yaml.YAMLError, Invalid):
            self.run("git", "checkout", "--quiet", "--", "dvc.lock")
            cut.append("dvc.lock")
        held = self.folder / ".dvc/tmp/rwlock"
        try:
            json.loads(held.read_text(encoding="utf-8") if held.exists() else "{}")
        except ValueError:
            held.unlink()
            cut.append("rwlock")
        return cut

    def restore(self) -> None:
        """Put the quiet run's outputs back."""
        self.run("git", "checkout", "--quiet", "--", ".")
        self.run("dvc", "checkout", "--force")


def kill_often(place: Workspace, kills: int, seed: int) -> list[dict[str, Any]]:
    """Kill each stage equally often, at random instants; return a record of each kill, and of what came of it."""
    draw, records = random.Random(seed), list[dict[str, Any]]()
    for stage, seconds in place.quiet.items():
        left = -(-kills // len(place.quiet))
        while left:
            row: list[float] = []
            while len(row) < min(IN_A_ROW, left):
                # DVC's own beginning is a part of it; the time with an output half written is short.
                after = seconds * draw.uniform(0.1, 1.05)
                if not place.killed(stage, after, force=not row):
                    break
                row.append(round(after, 2))
            if not row:
                continue
            left -= len(row)
            records.append({"stage": stage, "killed after": row, **_outcome(place, stage)})
            print(records[-1], flush=True)
    return records


def _outcome(place: Workspace, stage: str) -> dict[str, Any]:
    """Let the stage end, and compare."""
    cut = place.mend()
    try:
        place.repro(stage)
    except RuntimeError as error:
        place.restore()
        return {"ends": False, "cut": cut, "says": str(error)[-2000:]}
    bytes_equal = place.checksums()[stage] == place.outs[stage]
    differ = differences(place.read_numbers(), place.numbers)
    if not bytes_equal:
        place.restore()
    return {"ends": True, "cut": cut, "bytes equal": bytes_equal, "numbers that differ": differ}


def differences(got: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Return the keys whose numbers differ by more than rounding."""
    return [key for key in sorted(got.keys() | wanted.keys()) if not _alike(got.get(key), wanted.get(key))]


def _alike(got: Any, wanted: Any) -> bool:
    if isinstance(got, float) and isinstance(wanted, float):
        return math.isclose(got, wanted, rel_tol=1e-5, abs_tol=1e-7) or (math.isnan(got) and math.isnan(wanted))
    return bool(got == wanted)


def _flatten(value: Any, key: str, found: dict[str, Any]) -> None:
    if isinstance(value, dict | list):
        for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
            if name not in _QUIET_KEYS:
                _flatten(inner, f"{key}: {name}", found)
    else:
        found[key] = value


def summarise(place: Workspace, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Reproduce the whole graph, and say what all kills came to."""
    said = place.run("dvc", "repro")
    status = place.run("dvc", "status")
    kills = Counter[str]()
    for record in records:
        kills[record["stage"]] += len(record["killed after"])
    return {
        "kills": sum(kills.values()),
        "kills of the stage least often killed": min(kills.values()),
        "reruns": len(records),
        "times that a file of DVC's was cut": dict(Counter(file for record in records for file in record["cut"])),
        "reruns that did not end": sum(not record["ends"] for record in records),
        "reruns with other bytes": sum(not record.get("bytes equal", True) for record in records),
        "reruns with other numbers": sum(bool(record.get("numbers that differ")) for record in records),
        "stages that the last dvc repro ran": said.count("Running stage"),
        "numbers that differ at the end": differences(place.read_numbers(), place.numbers),
        "up to date at the end": "up to date" in status,
        "temporaries left at the end": [
            path.relative_to(place.folder).as_posix() for path in sweep(place.folder, below=True)
        ],
        "seconds undisturbed": {stage: round(seconds, 1) for stage, seconds in place.quiet.items()},
        "records": list(records),
    }


def sound(summary: dict[str, Any]) -> bool:
    """Whether every rerun ended, with the numbers of the quiet run."""
    bad = ("reruns that did not end", "reruns with other numbers", "numbers that differ at the end")
    return not any(summary[key] for key in bad) and summary["up to date at the end"]


def main() -> int:
    """Return 0 where kills change nothing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="how many, at least, over all stages")
    parser.add_argument("--seed", type=int, default=0, help="of the instants")
    parser.add_argument("--out", type=Path, required=True, help="JSON file of what came of them")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Workspace(Path(folder) / "workspace")
        place.folder.mkdir()
        place.set_up()
        place.remember()
        summary = summarise(place, kill_often(place, chosen.kills, chosen.seed))
    write_json(chosen.out, summary)
    for key, value in summary.items():
        if key != "records":
            print(f"{key}: {value}")
    return 0 if sound(summary) else 1


if __name__ == "__main__":
    sys.exit(main())
