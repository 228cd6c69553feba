"""Evaluation at the size of COCO and LVIS: seconds and peak memory of reading a results file and measuring it.

Run by ``python -m benchmarks.data evaluation``; beside pycocotools and the package lvis, which gets an environment of
its own, by ``python -m benchmarks.data turns``. Truth and detections are generated: half of the detections lie on true
objects, the others anywhere, of a class that is in their image or not; masks are polygons of forty corners.
"""

from __future__ import annotations

import contextlib
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from regionclip.data.annotations.truth import load_truth
from regionclip.evaluation.average_precision import mean_precisions
from regionclip.evaluation.coco import evaluate_coco
from regionclip.evaluation.detections import read_detections
from regionclip.evaluation.lvis import evaluate_lvis

HEIGHT, WIDTH, SHAPES = 480, 640, 2000


class Case(NamedTuple):
    """What is measured, and how much memory it may take.

    Attributes:
        name: For the page.
        lvis: LVIS's protocol, COCO's generalised one otherwise.
        images: Pictures.
        classes: Classes.
        objects: True objects of a picture.
        found: Detections of a picture.
        masks: Whether masks are measured.
        promised: GiB.
        before: What it took when each box was a dict (commit 3e273e6).
    """

    name: str
    lvis: bool
    images: int
    classes: int
    objects: int
    found: int
    masks: bool
    promised: float
    before: str


CASES = (
    Case("COCO, boxes", False, 5_000, 65, 7, 100, False, 2.0, "23 s, 1.14 GiB"),
    Case("COCO, masks", False, 5_000, 65, 7, 100, True, 4.0, "59 s, 1.85 GiB"),
    Case("LVIS, boxes", True, 20_000, 1_203, 12, 300, False, 2.0, "301 s, 6.21 GiB"),
    Case("LVIS, masks", True, 20_000, 1_203, 12, 300, True, 4.0, "about 12.6 GiB, from 500"),
)


TURNS = (CASES[0], CASES[2]._replace(images=5_000))
PROMISED_TIMES, PROMISED_TURNS_GIB, ROUNDS = 6, 2.0, 3
LVIS_PACKAGES = ("lvis==0.5.3", "numpy==1.23.5", "pycocotools==2.0.7", "opencv-python-headless==4.8.1.78")
"""The package lvis needs a numpy before 1.24."""
_LVIS = """
import json, resource, sys, time
from lvis import LVIS, LVISEval, LVISResults
start = time.perf_counter()
truth = LVIS(sys.argv[1])
opened = time.perf_counter()
evaluator = LVISEval(truth, LVISResults(truth, sys.argv[2]), "bbox")
evaluator.run()
seconds = {"truth_seconds": opened - start, "seconds": time.perf_counter() - opened}
gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
keys = {key: "AP" + key.removeprefix("ap") for key in ("ap", "ap50", "ap75", "aps", "apm", "apl", "apr", "apc", "apf")}
print(json.dumps(seconds | {"gib": gib, "numbers": {key: evaluator.results[name] for key, name in keys.items()}}))
"""


class _Split(NamedTuple):
    base_names: tuple[str, ...]
    novel_names: tuple[str, ...]


def evaluation_benchmark(case: Case) -> dict[str, float]:
    """Generate a case and measure it in a process of its own; return seconds to read and to measure, and GiB."""
    with tempfile.TemporaryDirectory() as folder:
        truth, found = (Path(folder) / name for name in ("truth.json", "found.json"))
        generate(case, truth, found)
        with get_context("spawn").Pool(1) as pool:
            return pool.apply(_measure, (case, truth, found))


def _measure(case: Case, truth_file: Path, found_file: Path) -> dict[str, Any]:
    start = time.perf_counter()
    truth = load_truth(truth_file, lvis=case.lvis, masks=case.masks)
    opened = time.perf_counter()
    found = read_detections(found_file, truth)
    read = time.perf_counter()
    iou_type = "segm" if case.masks else "bbox"
    if case.lvis:
        numbers = evaluate_lvis(truth, found, iou_type=iou_type)
    else:
        names = tuple(truth.names)
        numbers = evaluate_coco(truth, found, _Split(names[:48], names[48:]), iou_type=iou_type)
    seconds = time.perf_counter() - read
    return {
        "ap": numbers["ap"],
        "truth_seconds": opened - start,
        "read_seconds": read - opened,
        "seconds": seconds,
        "gib": _peak(),
        "numbers": {key: value for key, value in numbers.items() if key[:2] == "ap"},
    }


def _peak() -> float:
    """Return this process's largest RSS in GiB; `getrusage` would count the one that it was forked from."""
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 2**20


def turns_benchmark(case: Case, rounds: int = ROUNDS) -> dict[str, Any]:
    """Measure a case's boxes by the reference and by this project: in turns from either end, each in a new process.

    Returns:
        rounds: of each, by side what `_measure` gives; the reference's seconds hold the reading of results, which it
        has as dicts. gib: the most of each side. difference: the largest of a number.
    """
    with tempfile.TemporaryDirectory() as folder, get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        files = [Path(folder) / name for name in ("truth.json", "found.json")]
        generate(case, *files)
        arguments = (case, *files, _lvis_python(Path(folder)) if case.lvis else None)
        taken = []
        for number in range(rounds):
            order = list(SIDES) if number % 2 else reversed(SIDES)
            taken.append({side: pool.apply(SIDES[side], arguments) for side in order})
    numbers = [[of[side]["numbers"] for side in SIDES] for of in taken]
    difference = max(abs(value - ours[key]) for reference, ours in numbers for key, value in reference.items())
    gib = {side: max(of[side]["gib"] for of in taken) for side in SIDES}
    return {"rounds": taken, "gib": gib, "difference": difference}


def times(found: dict[str, Any], *, files: bool) -> float:
    """Return how many times as long the reference takes, the median of rounds.

    From files is all that either does; else the truth is open, the reference has its results as a file, and this
    project as arrays, as its stages do.
    """
    before = ("truth_seconds", "read_seconds") if files else ()
    taken = (
        [sum(turn.get(key, 0) for key in ("seconds", *before)) for turn in (of["reference"], of["ours"])]
        for of in found["rounds"]
    )
    return statistics.median(reference / ours for reference, ours in taken)


def _reference(case: Case, truth_file: Path, found_file: Path, python: Path | None) -> dict[str, Any]:
    """Measure a case's boxes as users of pycocotools or of the package lvis do."""
    if python is not None:
        command = [python, "-c", _LVIS, truth_file, found_file]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(truth_file)
        opened = time.perf_counter()
        evaluator = COCOeval(truth, truth.loadRes(str(found_file)), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
    seconds = time.perf_counter() - opened
    numbers = mean_precisions(evaluator.eval["precision"][..., -1])
    return {"truth_seconds": opened - start, "seconds": seconds, "gib": _peak(), "numbers": numbers}


def _ours(case: Case, truth_file: Path, found_file: Path, _: Path | None) -> dict[str, Any]:
    return _measure(case, truth_file, found_file)


SIDES: dict[str, Callable[..., dict[str, Any]]] = {"reference": _reference, "ours": _ours}


def _lvis_python(folder: Path) -> Path:
    """Make an environment for the package lvis and return its Python."""
    subprocess.run([sys.executable, "-m", "venv", folder / "lvis"], check=True)
    python = folder / "lvis/bin/python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", *LVIS_PACKAGES], check=True)
    return python


def generate(case: Case, truth_file: Path, found_file: Path) -> None:
    """Write the truth of a case and its detections."""
    rng = np.random.default_rng(0)
    shapes = [_shape(rng) for _ in range(SHAPES)]
    classes, chosen = (rng.integers(0, most, (case.images, case.objects)) for most in (case.classes, SHAPES))
    truth_file.write_text(json.dumps(_truth(case, shapes, classes, chosen, rng)))
    with found_file.open("w") as file:
        for number, image in enumerate(range(case.images)):
            part = [*_found(case, shapes, image, classes[image], chosen[image], rng)]
            file.write((", " if number else "[") + json.dumps(part)[1:-1])
        file.write("]\n")


def _shape(rng: np.random.Generator) -> dict[str, Any]:
    """Return a blob: its outline, its run lengths, its box and its area."""
    size = float(np.exp(rng.uniform(np.log(8), np.log(150))))
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    radii = size * rng.uniform(0.7, 1.0, 40)
    centre = rng.uniform(size, (WIDTH - size, HEIGHT - size))
    outline = (centre[:, None] + radii * np.array([np.cos(angles), np.sin(angles)])).round(2).T
    rle = coco_mask.merge(coco_mask.frPyObjects([outline.ravel().tolist()], HEIGHT, WIDTH))
    low, high = outline.min(axis=0), outline.max(axis=0)
    box = [*low.round(2).tolist(), *(high - low).round(2).tolist()]
    mask = {"size": [HEIGHT, WIDTH], "counts": rle["counts"].decode()}
    return {"segmentation": [outline.ravel().tolist()], "rle": mask, "bbox": box, "area": float(coco_mask.area(rle))}


def _truth(
    case: Case, shapes: list[dict[str, Any]], classes: np.ndarray, chosen: np.ndarray, rng: np.random.Generator
) -> dict[str, Any]:
    images = [
        {
            "id": image,
            "file_name": f"{image}.jpg",
            "height": HEIGHT,
            "width": WIDTH,
            "neg_category_ids": sorted(
                {int(kind) + 1 for kind in rng.integers(0, case.classes, case.objects)}
                - set((classes[image] + 1).tolist())
            ),
            "not_exhaustive_category_ids": (classes[image][:1] + 1).tolist(),
        }
        for image in range(case.images)
    ]
    keys = ("segmentation", "bbox", "area")
    places = ((image, place) for image in range(case.images) for place in range(case.objects))
    annotations = [
        {"id": number, "image_id": image, "category_id": int(classes[image, place]) + 1, "iscrowd": 0}
        | {key: shapes[chosen[image, place]][key] for key in keys}
        for number, (image, place) in enumerate(places, start=1)
    ]
    categories = [{"id": i + 1, "name": f"class {i}", "frequency": "rcf"[i % 3]} for i in range(case.classes)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _found(
    case: Case,
    shapes: list[dict[str, Any]],
    image: int,
    classes: np.ndarray,
    chosen: np.ndarray,
    rng: np.random.Generator,
) -> Iterator[dict[str, Any]]:
    near = rng.random(case.found) < 0.5
    place = rng.integers(0, case.objects, case.found)
    kinds = np.where(rng.random(case.found) < 0.7, classes[place], rng.integers(0, case.classes, case.found))
    picked = np.where(near, chosen[place], rng.integers(0, SHAPES, case.found))
    for kind, shape, score, shift in zip(
        kinds, picked, rng.random(case.found), rng.normal(0, 3, case.found), strict=True
    ):
        x, y, width, height = shapes[shape]["bbox"]
        box = [round(x + shift, 2), y, width, height]
        result = {"image_id": image, "category_id": int(kind) + 1, "bbox": box, "score": float(f"{score:.6g}")}
        yield result | ({"segmentation": shapes[shape]["rle"]} if case.masks else {})
