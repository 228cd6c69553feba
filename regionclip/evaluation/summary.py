"""The summary of a pipeline run: one JSON with every headline number, and its table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

MODELS = ("clip", "regionclip")
Numbers = Mapping[str, Any]

_ZERO_SHOT = {
    "coco": ("ap", "ap50", "ap50_base", "ap50_novel", "ap50_all"),
    "lvis": ("ap", "ap50", "apr", "apc", "apf"),
}
_DETECTED = {"coco": ("ap50_novel", "ap50_all"), "lvis": ("apr", "ap")}
_TOP1 = ("top1_base", "top1_novel", "top1_all")
OPEN_VOCABULARY = {"coco": ("ap50_novel", "ap50_base", "ap50_all", "ap"), "lvis": ("ap", "apr", "apc", "apf")}
"""Data set to the headline numbers of its protocol."""

_RECALL = ("ar100_base", "ar100_novel", "ar300_base", "ar300_novel")
_PSEUDO_LABELS = (
    "kept_fraction",
    "precision",
    "precision_novel",
    "precision_all_kept",
    "on_object_fraction",
    "colour_precision",
)


def build_summary(
    profile: str, seed: int, split: str, seconds: Mapping[str, float], metrics: Mapping[str, Numbers]
) -> dict[str, Any]:
    """Pick the headline numbers out of the stages' metrics. Fractions 0..1; None where nothing could be measured.

    Args:
        profile: Name of the params file.
        seed: The run's seed.
        split: The measured split, ``dev`` or ``val``.
        seconds: Stage to seconds.
        metrics: Contents of ``reports/metrics`` by stage: check_data, text_bank, rpn, pseudo_labels, zero_shot,
            evaluate_*.
    """
    zero_shot = {
        dataset: {
            boxes: {
                model: _pick(metrics["zero_shot"][dataset][boxes][model], (*(_TOP1 if boxes == "gt" else ()), *keys))
                for model in MODELS
            }
            for boxes in ("gt", "rpn")
        }
        for dataset, keys in _ZERO_SHOT.items()
        if dataset in metrics["zero_shot"]
    }
    transfer = {
        dataset: {model: _pick(numbers, keys) for model, numbers in metrics[f"evaluate_{dataset}"].items()}
        for dataset, keys in OPEN_VOCABULARY.items()
        if f"evaluate_{dataset}" in metrics
    }
    return {
        "profile": profile,
        "seed": seed,
        "split": split,
        "seconds": dict(seconds),
        "teacher": _pick(metrics["text_bank"]["teacher"], ("image_top1", "crop_top1")),
        "rpn": {dataset: _pick(recall[split], _RECALL) for dataset, recall in metrics["rpn"].items()},
        "pseudo_labels": _pick(metrics["pseudo_labels"], _PSEUDO_LABELS),
        "zero_shot": zero_shot,
        "open_vocabulary": transfer,
        "boxes": metrics["check_data"]["boxes"],
    }


def summary_table(summary: Numbers) -> str:
    """Write the summary as Markdown: what was measured, CLIP, RegionCLIP, the gain, in percent; where boxes went."""
    lines = ["| set | measured | CLIP | RegionCLIP | gain |", "|---|---|---:|---:|---:|"]
    for dataset, what, models, key in _rows(summary):
        clip, regionclip = (models.get(model, {}).get(key) for model in MODELS)
        lines.append(
            f"| {dataset.upper()} | {what} | {_percent(clip)} | {_percent(regionclip)} | {_gain(clip, regionclip)} |"
        )
    return "\n".join([*_header(summary), "", *lines, "", *_boxes(summary), ""])


def _boxes(summary: Numbers) -> Iterator[str]:
    """Yield the account of boxes: each one of the user's files is used, or there is a reason."""
    yield from ("| set | split | boxes in the file | used | not used |", "|---|---|---:|---:|---|")
    for dataset, of_split in summary["boxes"].items():
        for split, account in of_split.items():
            reasons = ", ".join(f"{count} {why}" for why, count in account["not_used"].items())
            yield f"| {dataset.upper()} | {split} | {account['file']} | {account['used']} | {reasons} |"


def _rows(summary: Numbers) -> Iterator[tuple[str, str, Numbers, str]]:
    """Yield data set, what is measured, the models' numbers and the key of one of them, for each row of the table."""
    for dataset, boxes in summary["zero_shot"].items():
        for key in _TOP1:
            what = f"zero-shot top-1 on true boxes, {key.removeprefix('top1_')} classes"
            yield dataset, what, boxes["gt"], key
    for dataset, boxes in summary["zero_shot"].items():
        for key in _DETECTED[dataset]:
            yield dataset, f"zero-shot detection, {_spoken(key)}", boxes["rpn"], key
    for dataset, models in summary["open_vocabulary"].items():
        for key in OPEN_VOCABULARY[dataset]:
            yield dataset, f"after fine-tuning on base boxes, {_spoken(key)}", models, key


def _header(summary: Numbers) -> list[str]:
    teacher, labels = summary["teacher"], summary["pseudo_labels"]
    dataset, recall = next(iter(summary["rpn"].items()))
    minutes = sum(summary["seconds"].values()) / 60
    crops, images = _percent(teacher["crop_top1"]), _percent(teacher.get("image_top1"))
    base, novel = _percent(recall["ar100_base"]), _percent(recall["ar100_novel"])
    kept, right = _percent(labels.get("kept_fraction")), _percent(labels.get("precision"))
    return [
        f"# RegionCLIP against CLIP: profile {summary['profile']}, seed {summary['seed']}, split {summary['split']}",
        "",
        f"Percent. All stages took {minutes:.1f} minutes. The teacher names {images} of whole images and {crops} of "
        f"true crops right. The RPN's AR@100 on {dataset.upper()} is {base} (base) and {novel} (novel). The teacher "
        f"kept {kept} of the regions; {right} of those on an object are named right.",
    ]


def _pick(numbers: Numbers, keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: numbers[key] for key in keys if key in numbers}


def _spoken(key: str) -> str:
    names = {"apr": "AP rare", "apc": "AP common", "apf": "AP frequent", "ap": "AP"}
    return names.get(key) or key.replace("ap50_", "AP50 ")


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _gain(before: float | None, after: float | None) -> str:
    return "–" if before is None or after is None else f"{100 * (after - before):+.1f}"
