"""What the RPN finds of a class without boxes in a set of three classes, by what its objectness is trained as.

Run ``python -m benchmarks.own_recall`` where ``dvc repro teacher`` has made the demo's teacher; several minutes a
training on a core. It draws the set of docs/your-data.md anew for each seed, with other pictures, and takes the profile
that ``regionclip data init`` writes.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from regionclip import artifacts
from regionclip.files import atomic_path, read_json
from tests.workspace.make_set import make_set

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks/results/own_recall.md"
KINDS = ("classification", "quality")
GROUPS = ("base", "novel")
STAGES = (("data",), ("check_data",), ("teacher",), ("rpn",), ("proposals", "--dataset", "toys"))


def main() -> None:
    """Train both RPNs on every seed's set and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="seeds of pictures and trainings")
    parser.add_argument("--clip", type=Path, default=artifacts.TEACHER, help="CLIP folder of the demo's teacher")
    chosen = parser.parse_args()
    found: dict[tuple[str, str], list[float]] = {(kind, group): [] for kind in KINDS for group in GROUPS}
    for seed in chosen.seeds:
        for kind in KINDS:
            recall = measure(seed, kind, chosen.clip.resolve())
            for group in GROUPS:
                found[kind, group].append(100 * recall[f"ar100_{group}"])
            print(f"seed {seed}, {kind}: {recall}", flush=True)
    with atomic_path(RESULT) as beside:
        beside.write_text(table(chosen.seeds, found), encoding="utf-8")
    print(RESULT.read_text())


def measure(seed: int, kind: str, clip: Path) -> dict[str, float]:
    """Return the average recall of an RPN's proposals on the validation pictures of a seed's set."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_set(folder / "toys", seed=seed)
        for link in ("dvc.yaml", "regionclip"):
            (folder / link).symlink_to(ROOT / link)
        files = ["--train", "toys/train.json", "--val", "toys/val.json", "--images", "toys/pictures"]
        _call(folder, "data", "init", *files, "--novel", "toys/novel.txt", "--name", "toys", "--clip", str(clip))
        params = folder / "params.yaml"
        text = re.sub(r"(?m)^seed: \d+", f"seed: {seed}", params.read_text())
        params.write_text(re.sub(r"objectness: \w+", f"objectness: {kind}", text))
        for stage in STAGES:
            _call(folder, *stage)
        return read_json(folder / artifacts.recall("toys"))["val"]


def _call(folder: Path, *arguments: str) -> None:
    settings = {**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    command = [sys.executable, "-m", "regionclip", *arguments]
    subprocess.run(command, cwd=folder, env=settings, check=True, stdout=subprocess.DEVNULL)


def table(seeds: list[int], found: dict[tuple[str, str], list[float]]) -> str:
    """Write the Markdown table: AR@100 of each seed and their mean, and what quality gains."""
    head = [str(seed) for seed in seeds]
    lines = [
        "# Recall of proposals on a class without boxes",
        "",
        "AR@100 in percent on held-out pictures of sets as in docs/your-data.md, base star and heart, novel ring,",
        "by seed; `python -m benchmarks.own_recall`.",
        "",
        f"| classes | `rpn.objectness` | {' | '.join(head)} | mean |",
        f"|---|---|{'---:|' * (len(head) + 1)}",
    ]
    for group in GROUPS:
        rows = {kind: found[kind, group] for kind in KINDS}
        rows["gain"] = [new - old for old, new in zip(*rows.values(), strict=True)]
        for kind, values in rows.items():
            sign = "+" if kind == "gain" else ""
            numbers = [f"{value:{sign}.1f}" for value in (*values, statistics.mean(values))]
            lines.append(f"| {group} | {kind} | {' | '.join(numbers)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
