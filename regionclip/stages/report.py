"""Stage report: summary, table, pictures, the page of them all, and the data of curves and bars for ``dvc plots``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from regionclip import artifacts
from regionclip.artifacts import DETECTIONS, HISTORIES, PAGE, PLOTS, SIDECARS, SUMMARY, SUMMARY_TABLE
from regionclip.data.annotations.annotation_files import picture_name
from regionclip.data.annotations.truth import load_truth
from regionclip.data.captions import decode_image
from regionclip.data.layout import detection_set, load_classes
from regionclip.evaluation.detection_errors import KINDS
from regionclip.evaluation.detections import read_detections
from regionclip.evaluation.plots import (
    detection_sheet,
    error_bars,
    learning_curves,
    mistake_sheet,
    per_class_bars,
    pseudo_label_quality,
    scene_boxes,
    summary_picture,
)
from regionclip.evaluation.protocols import PROTOCOLS
from regionclip.evaluation.summary import build_summary, summary_table
from regionclip.files import atomic_dir, atomic_path, parse_json, read_json, read_text, write_json
from regionclip.stages.context import StageContext
from regionclip.stages.report_page import report_page
from regionclip.tracking.sidecar import read_sidecars

GATES = ("check_data", "check_pseudo_labels")
MEASURED = (*GATES, "text_bank", "pseudo_labels")
OF_EACH_SET = ("proposals", "zero_shot", "evaluate")
MODELS = {"clip": "CLIP", "regionclip": "RegionCLIP"}
SCENES, BOXES_A_SCENE, LEAST_SCORE = 4, 8, 0.3


def run(context: StageContext) -> None:
    """Write reports/summary.{json,md}, reports/plots and reports/index.html."""
    params = context.params
    protocols = {dataset: of.protocol for dataset, of in params.data.sets.items()}
    stages = (*MEASURED, *(f"{stage}@{dataset}" for stage in OF_EACH_SET for dataset in protocols))
    metrics = {artifacts.file_name(stage): read_json(artifacts.metrics(stage)) for stage in stages}
    seconds = {stage: sidecar["seconds"] for stage, sidecar in read_sidecars(SIDECARS).items() if stage != "report"}
    summary = build_summary(params.profile, params.seed, params.evaluation.split, protocols, seconds, metrics)
    write_json(SUMMARY, summary)
    with atomic_path(SUMMARY_TABLE) as beside:
        beside.write_text(summary_table(summary), encoding="utf-8")
    with atomic_dir(PLOTS) as folder:
        _draw(folder, summary, metrics, params.evaluation.split)
    pictures = sorted(PLOTS.glob("*.png"))
    text = report_page(summary, {file.name for file in pictures}, {gate: metrics[gate] for gate in GATES})
    with atomic_path(PAGE) as beside:
        # JSON may hold halves of characters.
        beside.write_text(text, encoding="utf-8", errors="backslashreplace")
    for file in (SUMMARY, SUMMARY_TABLE, PAGE, *pictures):
        context.tracker.log_artifact(file)
    numbers = ("teacher", "rpn", "pseudo_labels", "zero_shot", "open_vocabulary", "true_boxes")
    context.tracker.log_metrics({key: summary[key] for key in numbers})


def _draw(folder: Path, summary: dict[str, Any], metrics: dict[str, Any], split: str) -> None:
    summary_picture(summary, folder / "summary.png")
    if "by_confidence" in metrics["pseudo_labels"]:
        pseudo_label_quality(metrics["pseudo_labels"]["by_confidence"], folder / "pseudo_labels.png")
    histories = _histories()
    learning_curves(histories, folder / "learning_curves.png")
    for name, records in histories.items():
        _write_table(folder / f"curves/{name}.csv", [record for record in records if "loss" in record])
    for dataset, protocol in summary["protocols"].items():
        novel = load_classes(dataset).novel_names
        boxes, transfer = metrics[f"zero_shot_{dataset}"]["gt"], metrics[f"evaluate_{dataset}"]
        title = f"{dataset}: zero-shot top-1 on true boxes"
        classes = [boxes[model]["top1_per_class"] for model in MODELS]
        per_class_bars(*classes, novel, folder / f"zero_shot_{dataset}.png", title)
        _write_classes(folder / f"per_class/zero_shot_{dataset}.csv", classes)
        title = f"{dataset}: {PROTOCOLS[protocol].per_class} after fine-tuning on base boxes"
        classes = [transfer.get(model, {}).get("per_class", {}) for model in MODELS]
        per_class_bars(*classes, novel, folder / f"per_class_{dataset}.png", title)
        _write_classes(folder / f"per_class/finetuned_{dataset}.csv", classes)
        errors = {title: summary["errors"][dataset].get(model) for model, title in MODELS.items()}
        errors = {title: of for title, of in errors.items() if of}
        error_bars(errors, folder / f"errors_{dataset}.png", f"{dataset}: what goes wrong after fine-tuning")
        _mistakes(folder / f"worst_{dataset}.png", dataset, split, max(transfer))  # RegionCLIP where it is there
    dataset = next(iter(summary["protocols"]))
    _sheet(folder / f"detections_{dataset}.png", dataset, split)


def _write_classes(file: Path, numbers: list[dict[str, float | None]]) -> None:
    """Write a row a class with a number a model; one that has no boxes has none."""
    rows = [
        {"class": name} | {title: of.get(name) for title, of in zip(MODELS.values(), numbers, strict=True)}
        for name in numbers[-1]
    ]
    _write_table(file, rows)


def _write_table(file: Path, rows: list[dict[str, Any]]) -> None:
    """Write what ``dvc plots`` draws: a CSV file with every key of the rows as a column."""
    file.parent.mkdir(exist_ok=True)
    pd.DataFrame(rows, dtype=object).to_csv(file, index=False)


def _histories() -> dict[str, list[dict[str, float]]]:
    """Return the learning curve of each training by name; where a result was imported there is none."""
    files = {"_".join(file.relative_to(HISTORIES).with_suffix("").parts): file for file in HISTORIES.rglob("*.jsonl")}
    lines = {name: read_text(file).splitlines() for name, file in sorted(files.items())}
    return {name: [parse_json(line, file=files[name]) for line in of] for name, of in lines.items() if of}


def _sheet(path: Path, dataset: str, split: str) -> None:
    """Draw the first scenes of the split that hold two novel objects, as found from each initialisation.

    Where there are too few of them, scenes with fewer novel objects follow.
    """
    scenes, classes = detection_set(dataset, split), load_classes(dataset)
    truth = load_truth(scenes.annotations)
    names = dict(zip(classes.ids, classes.names, strict=True))
    novel = truth.objects.image_ids[np.isin(truth.objects.category_ids, list(classes.ids_of(classes.novel_names)))]
    counts = Counter(novel.tolist())
    chosen = sorted(truth.images, key=lambda image: max(0, 2 - counts[image["id"]]))[:SCENES]
    pictures = [np.asarray(decode_image(scenes.images / picture_name(image))) for image in chosen]
    files = {title: DETECTIONS / dataset / f"{model}.json" for model, title in MODELS.items()}
    truths = [scene_boxes(truth.objects, image["id"], names) for image in chosen]
    columns = {}
    for title, file in files.items():
        if file.exists():
            found = read_detections(file, truth)
            columns[title] = [scene_boxes(found, image["id"], names, BOXES_A_SCENE, LEAST_SCORE) for image in chosen]
    detection_sheet(pictures, truths, columns, classes.novel_names, path)


def _mistakes(path: Path, dataset: str, split: str, model: str) -> None:
    """Draw the worst mistakes of each kind of one fine-tuned detector."""
    folder, rows = detection_set(dataset, split).images, {}
    for example in read_json(artifacts.worst_mistakes(dataset, model)):
        pixels = np.asarray(decode_image(folder / example["picture"]))
        rows.setdefault(KINDS[example["kind"]], []).append((pixels, example))
    mistake_sheet(rows, load_classes(dataset).novel_names, path, f"{dataset}: the worst mistakes of {MODELS[model]}")
