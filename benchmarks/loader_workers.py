"""What a loader's helper processes cost or give on this machine: the demo's teacher trained with and without, in turns.

Run ``python -m benchmarks.loader_workers`` in a folder where ``dvc repro data`` has run; about two minutes.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import tempfile
import time
from pathlib import Path

import open_clip
import torch

from regionclip.checkpoints.clip_folder import build_clip
from regionclip.data.datasets.pairs import PairsDataset
from regionclip.engine.history_hook import HistoryHook
from regionclip.engine.training import train
from regionclip.files import atomic_path
from regionclip.models.clip_pretrainer import ClipPretrainer
from regionclip.params import load_params

RESULT = Path(__file__).parent / "results/loader_workers.md"
HELPERS = (0, 1, 2)


def main() -> None:
    """Train in turns and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=40, help="of each training")
    parser.add_argument("--rounds", type=int, default=3, help="trainings with each number of helpers")
    chosen = parser.parse_args()
    logging.disable(logging.WARNING)
    seconds: dict[int, list[float]] = {helpers: [] for helpers in HELPERS}
    for _ in range(chosen.rounds):
        for helpers in HELPERS:
            seconds[helpers].append(step_seconds(helpers, chosen.iterations))
    with atomic_path(RESULT) as beside:
        beside.write_text(table(seconds, chosen.iterations), encoding="utf-8")
    print(RESULT.read_text())


def step_seconds(helpers: int, iterations: int) -> float:
    """Train the demo's teacher and return the seconds of one iteration, start and resume points included."""
    os.environ["REGIONCLIP_WORKERS"] = str(helpers)
    teacher = load_params().teacher
    architecture = teacher.architecture.open_clip()
    torch.manual_seed(0)
    model = ClipPretrainer(build_clip(architecture).to(memory_format=torch.channels_last))
    tokenizer = open_clip.SimpleTokenizer(context_length=architecture["text_cfg"]["context_length"])
    pairs = PairsDataset("data/pairs/train", tokenizer, seed=0)
    schedule = teacher.schedule.model_copy(update={"iterations": iterations, "milestones": [iterations - 1]})
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder) / "scratch"
        started = time.perf_counter()
        hooks = [HistoryHook(Path(folder) / "history.jsonl")]
        train(model, pairs, schedule, title="teacher", seed=0, scratch=scratch, hooks=hooks)
        return (time.perf_counter() - started) / iterations


def table(seconds: dict[int, list[float]], iterations: int) -> str:
    """Write the medians and the paired ratios to training without helpers."""
    lines = [
        "# Helper processes of the loader",
        "",
        f"`python -m benchmarks.loader_workers --iterations {iterations} --rounds {len(seconds[0])}`: the demo's",
        f"teacher on {os.cpu_count()} cores without GPU, in turns. `regionclip.runtime.loader_workers` follows it.",
        "",
        "| helpers | seconds an iteration, median | ratio to none, by round |",
        "|---:|---:|---:|",
    ]
    for helpers, values in seconds.items():
        ratios = ", ".join(f"{value / none:.2f}" for value, none in zip(values, seconds[0], strict=True))
        lines.append(f"| {helpers} | {statistics.median(values):.3f} | {ratios} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
