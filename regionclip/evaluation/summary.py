"""The summary of a pipeline run: one JSON with every headline number, and its table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from regionclip.evaluation.detection_errors import KINDS
from regionclip.evaluation.protocols import PROTOCOLS

MODELS = ("clip", "regionclip")
Numbers = Mapping[str, Any]

_TOP1 = ("top1_base", "top1_novel", "top1_all")
TUNED = "after fine-tuning on base boxes"
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
    profile: str,
    seed: int,
    split: str,
    protocols: Mapping[str, str],
    seconds: Mapping[str, float],
    metrics: Mapping[str, Numbers],
) -> dict[str, Any]:
    """Pick the headline numbers out of the stages' metrics. Fractions 0..1; None where nothing could be measured.

    Args:
        profile: Name of the params file.
        seed: The run's seed.
        split: The measured split, ``dev`` or ``val``.
        protocols: Data set to the name of its protocol, in the order to show them.
        seconds: Stage to seconds.
        metrics: Contents of ``reports/metrics`` by stage: check_data, text_bank, pseudo_labels,
            and of each data set proposals_*, zero_shot_* and evaluate_*.
    """
    headlines = {dataset: PROTOCOLS[protocol].headline for dataset, protocol in protocols.items()}
    zero_shot = {
        dataset: {
            boxes: {
                model: _pick(of_model, (*(_TOP1 if boxes == "gt" else ()), *dict.fromkeys(("ap", "ap50", *keys))))
                for model, of_model in metrics[f"zero_shot_{dataset}"][boxes].items()
            }
            for boxes in ("gt", "rpn")
        }
        for dataset, keys in headlines.items()
    }
    transfer = {
        dataset: {model: _pick(numbers, keys) for model, numbers in metrics[f"evaluate_{dataset}"].items()}
        for dataset, keys in headlines.items()
    }
    true_boxes, errors = {}, {}
    for dataset in protocols:
        before, after = metrics[f"zero_shot_{dataset}"]["gt"], metrics[f"evaluate_{dataset}"]
        errors[dataset] = {model: of["errors"] for model, of in after.items()}
        true_boxes[dataset] = {
            model: {"before": _pick(before.get(model, {}), _TOP1), "after": _pick(of["true_boxes"], _TOP1)}
            for model, of in after.items()
        }
    return {
        "profile": profile,
        "seed": seed,
        "split": split,
        "protocols": dict(protocols),
        "seconds": dict(seconds),
        "teacher": _pick(metrics["text_bank"]["teacher"], ("image_top1", "crop_top1")),
        "rpn": {dataset: _pick(metrics[f"proposals_{dataset}"][split], _RECALL) for dataset in protocols},
        "pseudo_labels": _pick(metrics["pseudo_labels"], _PSEUDO_LABELS),
        "zero_shot": zero_shot,
        "open_vocabulary": transfer,
        "true_boxes": true_boxes,
        "errors": errors,
        "mean": dict(_means(protocols, zero_shot, transfer)),
        "boxes": metrics["check_data"]["boxes"],
    }


def _means(protocols: Mapping[str, str], zero_shot: Numbers, transfer: Numbers) -> Iterator[tuple[str, Any]]:
    """Yield, for each protocol that several data sets share, the means of its number over all classes."""
    for protocol, count in Counter(protocols.values()).items():
        key, sets = PROTOCOLS[protocol].overall, [name for name, of in protocols.items() if of == protocol]
        if count > 1:
            found = {"zero_shot": {name: of["rpn"] for name, of in zero_shot.items()}, "open_vocabulary": transfer}
            means = {of: {model: _mean(found[of], sets, model, key) for model in MODELS} for of in found}
            yield protocol, {"sets": count, "number": key, **means}


def _mean(numbers: Numbers, sets: list[str], model: str, key: str) -> float | None:
    """Return a mean over data sets, which stands for all of them or is none."""
    values = [numbers[name].get(model, {}).get(key) for name in sets]
    return None if None in values else sum(values) / len(values)


class Table(NamedTuple):
    """Rows of text under their columns; those that ``align`` calls "r" are numbers."""

    align: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]

    def __str__(self) -> str:
        """Return it as Markdown."""
        marks = "|".join("---:" if letter == "r" else "---" for letter in self.align)
        lines = (f"| {' | '.join(row)} |" for row in self.rows)
        return "\n".join([f"| {' | '.join(self.columns)} |", f"|{marks}|", *lines])


def summary_table(summary: Numbers) -> str:
    """Write the summary as Markdown: what was measured, what fine-tuning forgot, where boxes went."""
    lead = f"# {title(summary)}\n\n{lead_text(summary)}"
    return "\n\n".join([lead, *map(str, (measured(summary), forgotten(summary), boxes_used(summary)))]) + "\n"


def measured(summary: Numbers) -> Table:
    """Return what was measured: CLIP, RegionCLIP, the gain, in percent."""
    rows = []
    for dataset, what, models, key in _rows(summary):
        clip, regionclip = (models.get(model, {}).get(key) for model in MODELS)
        gain = "–" if None in (clip, regionclip) else f"{100 * (regionclip - clip):+.1f}"
        rows.append((dataset, what, percent(clip), percent(regionclip), gain))
    return Table("llrrr", ("set", "measured", "CLIP", "RegionCLIP", "gain"), rows)


def forgotten(summary: Numbers) -> Table:
    """Return how many true boxes are named right, among all classes, before and after fine-tuning, in percent."""
    rows = []
    for dataset, models in summary["true_boxes"].items():
        for key in _TOP1[:2] if PROTOCOLS[summary["protocols"][dataset]].has_novel else _TOP1[2:]:
            of = [models.get(model, {}).get(when, {}).get(key) for model in MODELS for when in ("before", "after")]
            rows.append((dataset, f"{key.removeprefix('top1_')} classes", *map(percent, of)))
    words = ("true boxes named right", "CLIP", "CLIP, fine-tuned", "RegionCLIP", "RegionCLIP, fine-tuned")
    return Table("llrrrr", ("set", *words), rows)


def mistakes(summary: Numbers, dataset: str) -> Table:
    """Return of as many detections as there are objects, the surest, how many are right, and which mistakes there are.

    Mistakes that do not occur are left out.
    """
    found = [summary["errors"][dataset].get(model, {}).get("surest", {}) for model in MODELS]
    words = {"right": "right", **KINDS}
    there = [key for key in words if key == "right" or any(of.get(key) for of in found)]
    rows = [(words[key], *(str(of.get(key, "–")) for of in found)) for key in there]
    scores = ("–" if of.get("score") is None else f"{of['score']:.2f}" for of in found)
    rows.append(("score from which they are the surest", *scores))
    return Table("lrr", ("of as many detections as objects", "CLIP", "RegionCLIP"), rows)


def boxes_used(summary: Numbers) -> Table:
    """Return the account of boxes: each one of the user's files is used, or there is a reason."""
    rows = []
    for dataset, of_split in summary["boxes"].items():
        for split, account in of_split.items():
            reasons = ", ".join(f"{count} {why}" for why, count in account["not_used"].items())
            rows.append((dataset, split, str(account["file"]), str(account["used"]), reasons))
    return Table("llrrl", ("set", "split", "boxes in the file", "used", "not used"), rows)


def _rows(summary: Numbers) -> Iterator[tuple[str, str, Numbers, str]]:
    """Yield data set, what is measured, the models' numbers and the key of one of them, for each row of the table."""
    protocols = {dataset: PROTOCOLS[protocol] for dataset, protocol in summary["protocols"].items()}
    for dataset, boxes in summary["zero_shot"].items():
        for key in _TOP1 if protocols[dataset].has_novel else _TOP1[-1:]:
            yield dataset, f"zero-shot top-1 on true boxes, {key.removeprefix('top1_')} classes", boxes["gt"], key
    for dataset, boxes in summary["zero_shot"].items():
        for key in dict.fromkeys((protocols[dataset].headline[0], protocols[dataset].overall)):
            yield dataset, f"zero-shot detection, {spoken(key)}", boxes["rpn"], key
    for dataset, models in summary["open_vocabulary"].items():
        for key in protocols[dataset].headline:
            yield dataset, f"{TUNED}, {spoken(key)}", models, key
    for mean in summary["mean"].values():
        name, key = f"mean of {mean['sets']} sets", mean["number"]
        for of, what in (("zero_shot", "zero-shot detection"), ("open_vocabulary", TUNED)):
            yield name, f"{what}, {spoken(key)}", {model: {key: value} for model, value in mean[of].items()}, key


def title(summary: Numbers) -> str:
    """Return the title of the table and the page."""
    return f"RegionCLIP against CLIP: profile {summary['profile']}, seed {summary['seed']}, split {summary['split']}"


def lead_text(summary: Numbers) -> str:
    """Return what is said before the numbers: the minutes, and how good the teacher, RPN and pseudo labels are."""
    teacher, labels = summary["teacher"], summary["pseudo_labels"]
    dataset, recall = next(iter(summary["rpn"].items()))
    minutes = sum(summary["seconds"].values()) / 60
    crops, images = percent(teacher["crop_top1"]), percent(teacher.get("image_top1"))
    base, novel = percent(recall["ar100_base"]), percent(recall["ar100_novel"])
    kept, right = percent(labels.get("kept_fraction")), percent(labels.get("precision"))
    return (
        f"Percent. All stages took {minutes:.1f} minutes. The teacher names {images} of whole images and {crops} of "
        f"true crops right. The RPN's AR@100 on {dataset} is {base} (base) and {novel} (novel). The teacher "
        f"kept {kept} of the regions; {right} of those on an object are named right."
    )


def _pick(numbers: Numbers, keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: numbers[key] for key in keys if key in numbers}


def spoken(key: str) -> str:
    """Return the name of a number as tables and pictures write it."""
    names = {"apr": "AP rare", "apc": "AP common", "apf": "AP frequent", "ap": "AP", "ap50": "AP50"}
    return names.get(key) or key.replace("ap50_", "AP50 ")


def percent(value: float | None) -> str:
    """Return a fraction as a percentage with one decimal, or a dash for None."""
    return "–" if value is None else f"{100 * value:.1f}"
