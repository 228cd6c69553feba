"""Recipes against each other: the committed pipeline with other params, in pairs of equal seed and data.

Run ``python -m benchmarks.recipes --split dev --seeds 0`` to choose, and without arguments to report: the validation
split of seeds 1 to 3. A seed decides everything: the world, which LVIS classes are rare, every initialisation and every
order. Each seed has one clone, where ``dvc repro`` makes one recipe after the other: what a recipe does not change is
not made again. A result that is there is not made again; ``--folder`` keeps the clones, to go on in.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray
from ruamel.yaml import YAML

from regionclip import artifacts
from regionclip.data.annotations.truth import BoxArrays, load_truth
from regionclip.data.layout import detection_set, load_classes
from regionclip.evaluation.detections import read_detections
from regionclip.evaluation.protocols import measure
from regionclip.files import atomic_path, read_json, write_json

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks/results"
RESAMPLED = 100  # times that the pictures are drawn again for an interval
REFERENCE = "plain"


class Recipe(NamedTuple):
    """A recipe: what it is, in words; what it changes in params.yaml, by dotted key; whose names it trains with."""

    words: str
    changes: Mapping[str, Any]
    names: str = "base"


def _each(**values: Any) -> dict[str, Any]:
    return {f"finetune.sets.{dataset}.{key}": value for dataset in ("coco", "lvis") for key, value in values.items()}


_RPN = {"rpn.objectness": "classification"}
_NMS = _each(nms_iou=0.5)
_QUALITY = _NMS | _each(fusion=None, box_voting=None)
_PLAIN = _RPN | _QUALITY
# CLIP's row does not depend on the view.
_ROI = {"pseudo_labels.view": "roi", "finetune.initialisations": ["regionclip"]}
RECIPES = {
    "demo": Recipe("the demo's: an RPN that learns quality, score fusion, box voting and NMS by an IoU of 0.3", {}),
    "pseudo_boxes": Recipe(
        "the demo's, and on COCO a split head that learns pseudo boxes of novel classes",
        {
            "finetune.sets.coco.pseudo_boxes": {"score_threshold": 0.6},
            "finetune.sets.coco.fusion": {"base": 1.0, "novel": 1.0},
        },
        names="novel",
    ),
    "nms": Recipe("the demo's, but with NMS by 0.5, as all below", _NMS),
    "quality": Recipe("an RPN that learns quality alone", _QUALITY),
    "plain": Recipe("without any of them", _PLAIN),
    "fusion": Recipe("score fusion alone", _RPN | _NMS | _each(box_voting=None)),
    "voting": Recipe("box voting alone", _RPN | _NMS | _each(fusion=None)),
    "roi": Recipe("without any of them, and the teacher sees the student's view, as in the paper", _PLAIN | _ROI),
}
"""Made in this order, so that what two recipes share is made once."""


class Row(NamedTuple):
    """A row: words, stage and path to the two models' numbers, key, and the least gain over CLIP that is promised."""

    words: str
    stage: str
    path: tuple[str, ...]
    key: str
    promised: float | None


ROWS = [
    Row(f"{name.upper()} zero-shot top-1, {group}", f"zero_shot_{name}", ("gt",), f"top1_{group}", promised)
    for name in ("coco", "lvis")
    for group, promised in (("base", None), ("novel", 0.15), ("all", 0.15))
] + [
    Row("COCO novel AP50", "evaluate_coco", (), "ap50_novel", 0.05),
    Row("COCO base AP50", "evaluate_coco", (), "ap50_base", 0.0),
    Row("COCO AP50", "evaluate_coco", (), "ap50_all", None),
    Row("LVIS rare AP", "evaluate_lvis", (), "apr", 0.0),
    Row("LVIS AP", "evaluate_lvis", (), "ap", None),
]
Result = dict[str, dict[str, Any]]
"""``numbers`` of both models by row, and ``drawn``, RegionCLIP's on pictures drawn again."""
Found = dict[str, list[Result]]
"""Recipe to its results, seed by seed."""
_PROTOCOLS = {"coco": "generalised", "lvis": "federated"}


def main() -> None:
    """Make the results that there are not yet, then write tables and plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", choices=("dev", "val"), default="val", help="split to measure on")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="seeds to make the pipeline with")
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=[*RECIPES], help="which; default: all")
    parser.add_argument("--folder", type=Path, help="where the clones stay; default: they go")
    chosen = parser.parse_args()
    names = [name for name in RECIPES if name in {*chosen.recipes, REFERENCE}]
    found: dict[str, list[Result]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as temporary:
        for seed in chosen.seeds:
            clone = (chosen.folder or Path(temporary)).resolve() / str(seed)
            for name in names:
                file = RESULTS / f"recipes/{chosen.split}_{seed}_{name}.json"
                if not file.exists():
                    write_json(file, make(RECIPES[name], clone, seed, chosen.split))
                found[name].append(read_json(file))
    file = RESULTS / ("recipes.md" if chosen.split == "val" else "recipes_dev.md")
    plot(found, file.with_suffix(".png"))
    with atomic_path(file) as beside:
        beside.write_text(page(found, chosen.split, chosen.seeds, file.with_suffix(".png").name), encoding="utf-8")


def make(recipe: Recipe, clone: Path, seed: int, split: str) -> Result:
    """Make a recipe in a clone of the committed pipeline; return its numbers, and those of pictures drawn again."""
    if not clone.exists():
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    yaml, params = YAML(), clone / "params.yaml"
    subprocess.run(["git", "checkout", "--quiet", "--", "params.yaml"], cwd=clone, check=True)
    values = yaml.load(params)
    for key, value in {"seed": seed, "evaluation.split": split, **recipe.changes}.items():
        *path, last = key.split(".")
        section = values
        for part in path:
            section = section[part]
        section[last] = value
    yaml.dump(values, params)
    # DVC calls `regionclip`, which lies beside this Python, whether or not the environment is activated; it runs the
    # clone's code, so that edits made meanwhile do not reach it.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    settings = {**os.environ, "PATH": path, "PYTHONPATH": str(clone)}
    subprocess.run([sys.executable, "-m", "dvc", "repro", "zero_shot", "evaluate"], cwd=clone, check=True, env=settings)
    with chdir(clone):
        numbers = {stage: read_json(artifacts.metrics(stage)) for stage in {row.stage for row in ROWS}}
        result = {row.words: _pick(numbers[row.stage], row) for row in ROWS}
        return {"numbers": result, "drawn": {key: value for name in _PROTOCOLS for key, value in _drawn(name, split)}}


def _pick(numbers: dict[str, Any], row: Row) -> dict[str, float]:
    for part in row.path:
        numbers = numbers[part]
    return {model: of[row.key] for model, of in numbers.items() if row.key in of}


def _drawn(dataset: str, split: str) -> Iterator[tuple[str, list[float]]]:
    """Yield the numbers of RegionCLIP's detections on pictures that are drawn again and again, with replacement.

    The draws are the same for every recipe, so that they can be compared in pairs.
    """
    classes = load_classes(dataset)
    truth = load_truth(detection_set(dataset, split).annotations, lvis=classes.federated)
    found = read_detections(artifacts.DETECTIONS / dataset / "regionclip.json", truth)
    ids, rng = np.array([image["id"] for image in truth.images]), np.random.default_rng(0)
    rows, drawn = [row for row in ROWS if row.stage == f"evaluate_{dataset}"], []
    for _ in range(RESAMPLED):
        places = rng.integers(len(ids), size=len(ids))
        images = [{**truth.images[place], "id": number} for number, place in enumerate(places)]
        objects, again = (_again(boxes, ids[places]) for boxes in (truth.objects, found))
        drawn.append(measure(_PROTOCOLS[dataset], truth._replace(images=images, objects=objects), again, classes))
    for row in rows:
        yield row.words, [numbers[row.key] for numbers in drawn]


def _again(boxes: BoxArrays, ids: NDArray[np.int64]) -> BoxArrays:
    """Return the boxes of some pictures, any of which may come several times; their new ids are their places."""
    order = np.argsort(boxes.image_ids, kind="stable")
    first, stop = (np.searchsorted(boxes.image_ids[order], ids, side=side) for side in ("left", "right"))
    counts = stop - first
    rows = np.arange(counts.sum()) + np.repeat(first - (counts.cumsum() - counts), counts)
    return replace(boxes.take(order[rows]), image_ids=np.repeat(np.arange(len(ids)), counts))


def page(found: Found, split: str, seeds: Sequence[int], picture: str) -> str:
    """Write both tables as Markdown: RegionCLIP against CLIP by the demo's recipe, and the recipes."""
    each = ", ".join(map(str, seeds))
    options = "" if split == "val" else f" --split {split}"
    options += "" if len(found) == len(RECIPES) else f" --recipes {' '.join(found)}"
    lines = [
        "# Recipes",
        "",
        f"`python -m benchmarks.recipes{options} --seeds {each.replace(',', '')}`: percent, split {split}, means over "
        "seeds. What is not of the paper was chosen on the development split of seed 0.",
        "",
    ]
    if "demo" in found:
        lines += ["## The demo's recipe", "", *_against_clip(found["demo"], each), ""]
    lines += ["## Each recipe", "", "| recipe | is | names of the classes in training |", "|---|---|---|"]
    lines += [f"| {name} | {RECIPES[name].words} | {RECIPES[name].names} |" for name in found]
    lines += ["", f"RegionCLIP's mean, in brackets its difference from *{REFERENCE}*.", ""]
    novel = [name for name in found if RECIPES[name].names == "novel"]
    lines += _at_a_glance(found, [name for name in found if name not in novel])
    if novel:
        lines += ["", "With the *names* of novel classes in training, without their boxes:", ""]
        lines += _at_a_glance(found, [name for name in found if name == "demo" or name in novel])
    drawn = f"the intervals hold 95 % of the mean difference over {RESAMPLED} draws of each seed's pictures"
    lines += ["", f"![Differences]({picture})", "", f"Differences seed by seed; {drawn}."]
    others = [name for name in found if name != REFERENCE]
    lines += ["", f"| measured | recipe | by seed ({each}) | interval |", "|---|---|---:|---:|"]
    for row in ROWS:
        for name in others:
            (low, high), gains = _interval(found, name, row.words), _gains(found, name, row.words)
            interval = "" if low is None else f"{100 * low:+.1f} to {100 * high:+.1f}"
            cells = [row.words, name, ", ".join(f"{100 * gain:+.1f}" for gain in gains), interval]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _at_a_glance(found: Found, shown: Sequence[str]) -> list[str]:
    lines = [f"| measured | {' | '.join(shown)} |", f"|---|{'---:|' * len(shown)}"]
    for row in ROWS:
        cells = [row.words]
        for name in shown:
            mean = statistics.mean(result["numbers"][row.words]["regionclip"] for result in found[name])
            gain = "" if name == REFERENCE else f" ({100 * statistics.mean(_gains(found, name, row.words)):+.1f})"
            cells.append(f"{100 * mean:.1f}{gain}")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _against_clip(results: list[Result], each: str) -> list[str]:
    lines = [f"| measured | CLIP | RegionCLIP | gain | by seed ({each}) | promised | holds |"]
    lines.append("|---|---:|---:|---:|---:|---:|---|")
    for row in ROWS:
        pairs = [result["numbers"][row.words] for result in results]
        gains = [pair["regionclip"] - pair["clip"] for pair in pairs]
        before, after = (statistics.mean(pair[model] for pair in pairs) for model in ("clip", "regionclip"))
        gain, promised = statistics.mean(gains), row.promised
        wanted = ("", "") if promised is None else (f"≥ {100 * promised:.0f}", "yes" if gain >= promised else "no")
        by_seed = ", ".join(f"{100 * value:+.1f}" for value in gains)
        cells = [row.words, f"{100 * before:.1f}", f"{100 * after:.1f}", f"{100 * gain:+.1f}", by_seed, *wanted]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _gains(found: Found, name: str, words: str) -> list[float]:
    pairs = zip(found[name], found[REFERENCE], strict=True)
    return [ours["numbers"][words]["regionclip"] - theirs["numbers"][words]["regionclip"] for ours, theirs in pairs]


def _interval(found: Found, name: str, words: str) -> tuple[float, float] | tuple[None, None]:
    """Return between what 95 % of the mean differences lie, where pictures were drawn again."""
    if words not in found[name][0]["drawn"]:
        return None, None
    ours, theirs = (np.mean([result["drawn"][words] for result in found[of]], axis=0) for of in (name, REFERENCE))
    return tuple(np.percentile(ours - theirs, [2.5, 97.5]).tolist())


def plot(found: Found, file: Path) -> None:
    """Draw each recipe's differences in what was detected, with their intervals."""
    rows = [row.words for row in ROWS if row.words in next(iter(found.values()))[0]["drawn"]]
    others = [name for name in found if name != REFERENCE]
    figure, axes = plt.subplots(1, len(rows), figsize=(2.6 * len(rows), 1 + 0.4 * len(others)), sharey=True)
    for axis, words in zip(axes, rows, strict=True):
        for place, name in enumerate(others):
            mean = 100 * statistics.mean(_gains(found, name, words))
            low, high = (100 * end for end in _interval(found, name, words))
            axis.plot([low, high], [place, place], color="0.6")
            axis.plot(mean, place, "o", color="C0")
        axis.axvline(0, color="0.8", zorder=0)
        axis.set_title(words, fontsize=9)
    axes[0].set_yticks(range(len(others)), others)
    axes[0].invert_yaxis()
    figure.supxlabel(f"points more than {REFERENCE}", fontsize=9)
    figure.tight_layout()
    figure.savefig(file, dpi=120)


if __name__ == "__main__":
    main()
