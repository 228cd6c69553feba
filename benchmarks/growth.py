"""How cost grows with regions, classes, pictures a batch and processes: ``python -m benchmarks.growth``.

On the CPU pictures are small, and it takes five minutes; ``--device cuda`` takes the paper's sizes, a process a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from mmengine.model import MMDistributedDataParallel

from benchmarks import cuda, paired
from regionclip import runtime
from regionclip.engine.launch import process_group
from regionclip.evaluation.plots.style import QUIET, REGIONCLIP, headline, picture
from regionclip.files import atomic_path, write_json

SMALL = cuda.Sizes(picture=(224, 224), regions=20, finetune=(1, 50))
_BOTH = {"regions": (100, 300, 600, 1000), "classes": (65, 1203, 5000, 20_000)}
AXES: dict[str, dict[str, tuple[int, ...]]] = {
    "cpu": {**_BOTH, "pictures": (1, 2, 4, 8), "processes": (1, 2)},
    "cuda": {**_BOTH, "pictures": (1, 2, 4, 8, 16, 32, 64), "processes": (1, 2)},
}
WORDS = {
    "regions": "detection in one picture, by proposals",
    "classes": "detection among 100 proposals, by classes",
    "pictures": "a pretraining step, by pictures",
    "processes": "a pretraining step of 4 pictures in all, by processes",
}
_JOINT = 4  # pictures that processes share


def grow(device: torch.device, sizes: cuda.Sizes, axes: dict[str, tuple[int, ...]]) -> Iterator[tuple[str, int, float]]:
    """Yield each axis, its value and the seconds."""
    with tempfile.TemporaryDirectory() as folder:
        clip = cuda.clip_folder(sizes.model, Path(folder) / "clip")
        for regions in axes["regions"]:
            yield "regions", regions, _seconds(cuda.testing(clip, device, sizes, regions), device)
        for classes in axes["classes"]:
            work = cuda.testing(clip, device, sizes._replace(classes=classes), 100)
            yield "classes", classes, _seconds(work, device)
        for pictures in axes["pictures"]:
            yield "pictures", pictures, _seconds(cuda.pretraining(clip, device, sizes, pictures), device)
        for processes in axes["processes"]:
            launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
            worker = ["-m", "benchmarks.growth", "--worker", str(clip.path), json.dumps(sizes._asdict())]
            command = [sys.executable, *launcher, *worker]
            # One thread each, so that a process more is a core more.
            done = subprocess.run(
                command, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True, capture_output=True, text=True
            )
            yield "processes", processes, float(done.stdout)


def work_together(folder: Path, sizes: cuda.Sizes) -> None:
    """Print the seconds of a step that the launcher's processes share."""
    with process_group():
        pictures = _JOINT // torch.distributed.get_world_size()
        clip = cuda.ClipFolder.open(folder)
        work = cuda.pretraining(clip, runtime.device(), sizes, pictures, wrap=MMDistributedDataParallel)
        seconds = _seconds(work, runtime.device())
        if torch.distributed.get_rank() == 0:
            print(seconds)


def _seconds(work: cuda.Work, device: torch.device) -> float:
    """Return the lesser of two times, after one that is not counted."""
    return min([paired.seconds(work.act, device) for _ in range(3)][1:])


def draw(found: dict[str, dict[str, float]], file: Path) -> None:
    """Draw a panel an axis, from zero."""
    with picture(file, 10, 7) as figure:
        headline(figure, "How cost grows", "seconds; dashed: in proportion to the first")
        for axes, (name, points) in zip(figure.subplots(2, 2).flat, found.items(), strict=True):
            values, seconds = [int(value) for value in points], list(points.values())
            axes.plot(values, seconds, color=REGIONCLIP, marker="o", linewidth=2)
            slope = seconds[0] / values[0]
            line = [seconds[0] * values[0] / value if name == "processes" else slope * value for value in values]
            if name != "classes":
                axes.plot(values, line, color=QUIET, linestyle="--", linewidth=1)
            axes.set_title(WORDS[name], fontsize=10)
            axes.set_ylim(bottom=0)


def page(device: str, found: dict[str, dict[str, float]]) -> str:
    """Return the numbers as a page."""
    lines = [
        "# How cost grows",
        "",
        f"`python -m benchmarks.growth --device {device.split(':')[0]}`, {device}; the lesser",
    ]
    lines += ["of two times.", "", f"![growth](growth_{device.split(':')[0]}.png)"]
    for name, points in found.items():
        lines += ["", f"| {WORDS[name]} | {' | '.join(f'{int(value):,}' for value in points)} |"]
        lines += ["|---|" + "---:|" * len(points), f"| seconds | {' | '.join(f'{s:.3g}' for s in points.values())} |"]
    return "\n".join([*lines, ""])


def main(arguments: list[str] | None = None) -> None:
    """Measure, and write JSON, a page and a picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=AXES, default="cpu")
    parser.add_argument("--out", type=Path, default=paired.RESULTS, help="folder of growth_DEVICE.json, .md and .png")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.worker:
        work_together(Path(chosen.worker[0]), cuda.Sizes(**json.loads(chosen.worker[1])))
        return
    os.environ |= {
        "REGIONCLIP_DEVICE": chosen.device,
        "REGIONCLIP_PRECISION": "fp32" if chosen.device == "cpu" else "bf16",
    }
    sizes, found = SMALL if chosen.device == "cpu" else cuda.Sizes(), {name: {} for name in WORDS}
    for name, value, seconds in grow(torch.device(chosen.device), sizes, AXES[chosen.device]):
        found[name][str(value)] = seconds
        print(f"{name} {value}: {seconds:.3g} s")
    write_results(chosen.out / f"growth_{chosen.device}", chosen.device, found)


def write_results(stem: Path, device: str, found: dict[str, Any]) -> None:
    """Write JSON, the page and the picture."""
    write_json(stem.with_suffix(".json"), {"device": device, "torch": torch.__version__, "seconds": found})
    draw(found, stem.with_suffix(".png"))
    with atomic_path(stem.with_suffix(".md")) as beside:
        beside.write_text(page(device, found), encoding="utf-8")


if __name__ == "__main__":
    main()
