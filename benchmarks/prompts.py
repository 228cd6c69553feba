"""Example pictures beside words, on a finished demo: ``python -m benchmarks.prompts [FOLDER]``.

Novel classes are looked for by their names, by three boxes of the split dev each, and by both; base classes by their
names. All are measured on the split val.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from regionclip import Example, RegionCLIP, artifacts
from regionclip.data.annotations.annotation_files import picture_name
from regionclip.data.annotations.truth import boxes_by_image
from regionclip.data.layout import detection_set
from regionclip.files import write_json, write_text
from regionclip.inference.measuring import Subject, detect_classes, measure_found, read_subject

RESULTS = Path(__file__).parent / "results"
DATASET = "coco"
EXAMPLES = 3
LEAST_SIDE = 24  # pixels: an example that a person would choose


def subject_of(model: RegionCLIP, root: Path, split: str) -> Subject:
    """Read a split of the demo."""
    place = detection_set(DATASET, split, root / artifacts.SETS)
    return read_subject(model, place.annotations, place.images)


def examples(subject: Subject) -> dict[str, list[Example]]:
    """Return the first boxes of each novel class that are large enough, of different pictures."""
    truth, images, classes, _ = subject
    found: dict[str, list[Example]] = {name: [] for name in classes.novel_names}
    names, objects = dict(zip(classes.ids, classes.names, strict=True)), boxes_by_image(truth)
    for picture in truth.images:
        seen = set()
        for box, label in zip(*objects[picture["id"]], strict=True):
            name, large = names[int(label)], min(box[2] - box[0], box[3] - box[1]) >= LEAST_SIDE
            if large and name not in seen and name in found and len(found[name]) < EXAMPLES:
                seen.add(name)
                found[name].append(Example(images / picture_name(picture), tuple(box.tolist())))
    return found


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path(), help="where the demo has run")
    root = parser.parse_args().folder
    model = RegionCLIP.open(root, DATASET)
    shown, val = examples(subject_of(model, root, "dev")), subject_of(model, root, "val")
    classes = val.classes
    words: dict[str, Any] = {name: name for name in classes.names}
    ways = {
        "names": words,
        f"{EXAMPLES} example boxes": words | shown,
        "both, the nearest counts": words | {name: [name, *of] for name, of in shown.items()},
    }
    keys = ("ap50_novel", "ap50_base", "ap50_all")
    rows = {}
    for way, meanings in ways.items():
        numbers = measure_found(val, detect_classes(model, val, meanings))
        rows[way] = {key: numbers[key] for key in keys}
        print(way, rows[way])
    write_json(RESULTS / "prompts.json", rows)
    lines = ["# Example pictures beside words", "", *__doc__.splitlines()[2:], ""]
    lines += ["| novel classes by | AP50 novel | AP50 base | AP50 all |", "|---|---:|---:|---:|"]
    lines += [f"| {way} | " + " | ".join(f"{100 * row[key]:.1f}" for key in keys) + " |" for way, row in rows.items()]
    write_text(RESULTS / "prompts.md", "\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
