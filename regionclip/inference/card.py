"""The model card: what a registered detector is, was made of and measured at, and where it fails, as Markdown."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from regionclip import artifacts
from regionclip.checkpoints.clip_folder import ClipFolder, image_tower
from regionclip.checkpoints.mmengine_files import read
from regionclip.data.sources import LICENCES, public_set
from regionclip.errors import printable
from regionclip.evaluation.detection_errors import KINDS
from regionclip.evaluation.protocols import PROTOCOLS
from regionclip.evaluation.summary import MODELS, Table, forgotten, mistakes, percent, spoken
from regionclip.files import read_json
from regionclip.inference.calibration import Calibration
from regionclip.inference.files import DetectorFiles
from regionclip.params import Params

_NAMES = 40  # of each group that are listed
_LEAKS = ("{} training boxes", "{} pictures across splits", "pictures across sets")  # checks that look for leakage
_USE = """```python
from regionclip import RegionCLIP
model = RegionCLIP.open("models:/{model}@candidate")  # or the folder that holds this file
for result in model.detect("pictures/", ["traffic cone", "forklift"], threshold=0.3):
    print(result.names, result.scores, result.boxes)
```"""


def model_card(files: DetectorFiles, root: Path, model: str, tags: Mapping[str, str]) -> str:
    """Write the card of a workspace's detector.

    What the workspace lacks, or has otherwise than dvc.lock names it, is said to be unknown.

    Args:
        files: Of the detector.
        root: The workspace.
        model: Name of the registered model.
        tags: Where it comes from: data.md5, git.sha, dvc.lock.md5, run ids, packages, and protocol.
    """
    locked = _locked_reports(root)
    measured = read_json(root / artifacts.metrics(f"evaluate@{files.dataset}"))
    sections = {
        "How to use it": [_USE.format(model=model)],
        "Data": _data(files, tags, locked),
        "Numbers": _numbers(files, tags, measured, locked),
        "Checks of the data": _checks(files.dataset, locked),
        "Scores": _scores(files.calibration),
        "Known failures": _failures(files, measured),
        "Where it comes from": _lineage(tags),
    }
    text = [f"# {model}", *_what(files, measured)]
    for heading, lines in sections.items():
        text += [f"## {heading}", *lines]
    return "\n\n".join(text) + "\n"


def shortened(card: str, most: int) -> str:
    """Return as many whole sections of a card as fit in so many letters, and say that there are more."""
    end = "\n\nThe whole card is README.md in the bundle.\n"
    if len(card) <= most:
        return card
    parts = card.split("\n\n## ")
    while len(parts) > 1 and len("\n\n## ".join(parts)) + len(end) > most:
        parts.pop()
    return "\n\n## ".join(parts)[: most - len(end)] + end


def _locked_reports(root: Path) -> dict[str, Any]:
    """Return the contents of the JSON reports that are the ones that dvc.lock names, by path."""
    found = {}
    for stage in yaml.safe_load((root / "dvc.lock").read_bytes())["stages"].values():
        for out in stage.get("outs", ()):
            file, reports = root / out["path"], artifacts.REPORTS.as_posix()
            if out["path"].startswith(reports) and out["path"].endswith(".json") and file.is_file():
                md5 = hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()
                if md5 == out["md5"]:
                    found[out["path"]] = read_json(file)
    return found


def _what(files: DetectorFiles, measured: Mapping[str, Any]) -> list[str]:
    clip, meta = ClipFolder.open(files.clip).model_cfg, read(files.detector)[1]
    vision, base, pseudo = clip["vision_cfg"], meta["classes"], meta.get("pseudo_box_classes", [])
    novel = [name for name in measured["regionclip"].get("per_class", ()) if name not in base + pseudo]
    weights = files.params.finetune.sets[files.dataset].weights
    made = "imported" if weights else f"fine-tuned on boxes of {files.dataset}'s base classes"
    groups = {
        "Trained on boxes of": base,
        "Trained on pseudo boxes of": pseudo,
        "Measured, but never trained, on boxes of": novel,
    }
    tower = f"{image_tower(vision)}; embeddings of {clip['embed_dim']}"
    return [
        "An open-vocabulary detector: it finds whatever is named in words. A Fast R-CNN on RegionCLIP's visual encoder "
        f"({tower}), {made}, with a region proposal network of base boxes. It is the work of the RegionCLIP "
        "pipeline, whose code is Apache-2.0.",
        *(f"{words} {len(names)} classes: {_listed(names)}." for words, names in groups.items() if names),
    ]


def _data(files: DetectorFiles, tags: Mapping[str, str], locked: Mapping[str, Any]) -> list[str]:
    counts = locked.get(artifacts.metrics("data").as_posix(), {}).get(files.dataset, {})
    boxes = locked.get(artifacts.metrics("check_data").as_posix(), {}).get("boxes", {}).get(files.dataset, {})
    rows = []
    for split, account in boxes.items():
        numbers = counts.get(f"{split}_images"), account["file"], account["used"]
        rows.append((split, *("–" if number is None else str(number) for number in numbers)))
    table = Table("lrrr", ("split", "pictures", "boxes in the file", "used"), rows)
    unknown = "How many pictures and boxes there were is not known here."
    return [
        str(table) if rows else unknown,
        f"Sum of data/sets/{files.dataset}: `{tags['data.md5']}`. Numbers below are of the split {tags['split']}.",
        *(f"- {line}" for line in _licences(files.params, files.dataset)),
    ]


def _licences(params: Params, dataset: str) -> Iterator[str]:
    of, captions, own = params.data.sets[dataset], params.data.captions, "of your own; you know its licence"
    drawn = "the generated demo world, free of others' rights"
    yield f"Boxes: {drawn if of.files is None else f'{of.public}, {LICENCES[of.public]}' if of.public else own}."
    public = None if captions is None else public_set(captions.file)
    if params.pretrain.weights:
        yield "Pretraining: imported weights; what they were made of is said where they come from."
    elif captions is None:
        yield f"Captions: {drawn if params.data.source == 'demo' else 'none'}."
    else:
        yield f"Captions: {f'{public[0]}, {LICENCES[public[0]]}' if public else own}."


def _numbers(
    files: DetectorFiles, tags: Mapping[str, str], measured: Mapping[str, Any], locked: Mapping[str, Any]
) -> list[str]:
    protocol, rows = files.params.data.sets[files.dataset].protocol, []
    for key in PROTOCOLS[protocol].headline:
        numbers = (percent(measured.get(model, {}).get(key)) for model in MODELS)
        rows.append((spoken(key), *numbers))
    zero_shot = locked.get(artifacts.metrics(f"zero_shot@{files.dataset}").as_posix(), {}).get("gt", {})
    kept = {
        model: {"before": zero_shot.get(model, {}), "after": of["true_boxes"]}
        for model, of in measured.items()
        if "true_boxes" in of
    }
    table = forgotten({"true_boxes": {files.dataset: kept}, "protocols": {files.dataset: protocol}})
    lines = [f"{tags['protocol']}. Percent.", str(Table("lrr", ("after fine-tuning", "CLIP", "RegionCLIP"), rows))]
    return [*lines, "What fine-tuning forgot, in percent:", str(table)] if kept else lines


def _checks(dataset: str, locked: Mapping[str, Any]) -> list[str]:
    report = locked.get((artifacts.CHECKS / "check_data.json").as_posix())
    if report is None:
        return ["Whether the data passed their gate is not known here."]
    verdict = "passed" if report["success"] else "FAILED"
    looked, found = {name.format(dataset) for name in _LEAKS}, Counter[str]()
    for result in report["results"]:
        if result["artefact"] in looked:
            found[f"{_plain(result['artefact'])}: {_plain(result['problem'])}"] += result["unexpected"]
    lines = (f"- {what}: {f'{count} records' if count else 'none'}" for what, count in found.items())
    counts = f"{report['expectations']} expectations, {report['failed']} failed, {report['warnings']} warnings"
    return [f"The gate on the data {verdict}: {counts}. Leakage, looked for before training:", "\n".join(lines)]


def _scores(file: Path | None) -> list[str]:
    if file is None:
        return ["Not calibrated: a score orders detections and is no chance. `regionclip calibrate` mends that."]
    made, rows = Calibration.load(file), []
    curves = {"base": made.base, "novel": made.novel}
    for precision in sorted({key for curve in curves.values() if curve for key in curve.thresholds}, key=float):
        least = (curve.thresholds.get(precision) if curve else None for curve in curves.values())
        rows.append((f"{float(precision):.0%}", *("–" if value is None else f"{value:.3f}" for value in least)))
    table = Table("rrr", ("of which so many are right", "base names from", "novel names from"), rows)
    return ["Calibrated. Thresholds for a wanted precision, at an overlap of 0.5:", str(table)]


def _failures(files: DetectorFiles, measured: Mapping[str, Any]) -> list[str]:
    errors = {model: of["errors"] for model, of in measured.items() if "errors" in of}
    if "regionclip" not in errors:
        return ["Its mistakes were not counted."]
    lost = {kind: of["all"] or 0 for kind, of in errors["regionclip"]["ap50_lost"].items()}
    worst = sorted(lost, key=lambda kind: -lost[kind])[:3]
    costs = ", ".join(f"{KINDS[kind]} ({100 * lost[kind]:.1f})" for kind in worst)
    table = mistakes({"errors": {files.dataset: errors}}, files.dataset)
    return [f"What costs most, in points of AP50 over all classes: {costs}.", str(table)]


def _lineage(tags: Mapping[str, str]) -> list[str]:
    dirty = ", with changes that are in no commit" if tags["git.dirty"] == "true" else ""
    facts = {
        "Git commit": f"`{tags['git.sha']}`{dirty}",
        "dvc.lock, MD5": f"`{tags['dvc.lock.md5']}`",
        "Profile and seed": f"{tags['profile']}, {tags['seed']}",
        **{f"MLflow run of {key.removesuffix('.run_id')}": f"`{tags[key]}`" for key in tags if key.endswith(".run_id")},
        "Packages": ", ".join(f"{key[8:]} {tags[key]}" for key in sorted(tags) if key.startswith("package.")),
    }
    return ["\n".join(f"- {what}: {value}" for what, value in facts.items())]


def _listed(names: Sequence[str]) -> str:
    more = f", and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    return ", ".join(map(_plain, names[:_NAMES])) + more


def _plain(text: str) -> str:
    """Return text of the data as one line that means nothing in Markdown or HTML."""
    line = " ".join(printable(text).split())
    return "".join(f"&#{ord(letter)};" if letter in "\\`*_[]<>|#&" else letter for letter in line)
