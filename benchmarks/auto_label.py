"""Pictures and names, no boxes: labelled, trained on, on a finished demo: ``python -m benchmarks.auto_label [FOLDER]``.

`regionclip label` labels the training pictures of coco with all 12 names, at the thresholds of two precisions, which
`regionclip calibrate` gave on the split dev for names that no training saw a box of. `regionclip data init` reads that
back, and a detector is fine-tuned on it as the demo's is, from the same RegionCLIP and with the same RPN. So is one on
the true boxes of the same pictures. All are measured on the true boxes of the split val.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.services import run
from regionclip import artifacts
from regionclip.data.layout import ClassList, detection_set, load_classes
from regionclip.demo_world import coco_files, plans
from regionclip.demo_world.scenes import SceneTask, render_scene
from regionclip.files import read_json, write_json, write_text
from regionclip.inference.calibration import Calibration
from regionclip.params import load_params
from regionclip.workspace.profiles import complete

RESULTS = Path(__file__).parent / "results"
DATASET = "coco"
STAGE = f"evaluate@{DATASET}"
PRECISIONS = (0.8, 0.5)
HELD_OUT = 0.001  # of the pictures; the command wants one, and nothing here is measured on it


def main() -> None:
    """Label, train twice, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path(), help="where the demo has run, calibrated")
    demo = parser.parse_args().folder.resolve()
    classes = load_classes(DATASET, demo / artifacts.SETS)
    pictures = detection_set(DATASET, "train", demo / artifacts.SETS).images
    calibration = Calibration.load(demo / artifacts.calibration(DATASET, "regionclip"))
    summary, files = read_json(demo / artifacts.SUMMARY), {}
    rows: dict[str, tuple[int | None, dict[str, float]]] = {
        "zero-shot": (None, summary["zero_shot"][DATASET]["rpn"]["regionclip"]),
        "what labels, trained on true base boxes": (None, summary["open_vocabulary"][DATASET]["regionclip"]),
    }
    with tempfile.TemporaryDirectory() as name:
        for precision in PRECISIONS:
            threshold = max(calibration.thresholds(classes.novel_names, precision).values())
            labels, names = Path(name) / f"labels_{precision}", ", ".join(classes.names)
            rules = ["--threshold", f"{threshold:.3f}", "--val", str(HELD_OUT), "--dataset", DATASET]
            regionclip(demo, "label", str(pictures), "--names", names, *rules, "--out", str(labels))
            files[f"its labels of a score from {threshold:.3f} on ({precision:.0%} right)"] = labels / "train.json"
        files["true boxes of all classes"] = Path(name) / "true.json"
        write_json(Path(name) / "true.json", true_boxes(demo), indent=None)
        for what, file in files.items():
            numbers = trained(demo, Path(name) / f"workspace_{len(rows)}", file, classes)
            rows[f"trained on {what}"] = len(read_json(file)["annotations"]), numbers
            print(what, rows[f"trained on {what}"], flush=True)
    keys = ("ap50_novel", "ap50_base", "ap50_all")
    found = {name: {"boxes": boxes} | {key: of[key] for key in keys} for name, (boxes, of) in rows.items()}
    write_json(RESULTS / "auto_label.json", found)
    lines = ["# Pictures and names, no boxes", "", *__doc__.splitlines()[2:], ""]
    lines += ["| detector | boxes | AP50 novel | AP50 base | AP50 all |", "|---|---:|---:|---:|---:|"]
    for name, of in found.items():
        values = " | ".join(f"{100 * of[key]:.1f}" for key in keys)
        lines.append(f"| {name} | {'' if of['boxes'] is None else of['boxes']} | {values} |")
    write_text(RESULTS / "auto_label.md", "\n".join([*lines, ""]))


def true_boxes(demo: Path) -> dict[str, Any]:
    """Draw the training pictures of the demo again; return the boxes of all 12 classes, of which it keeps 8."""
    params = load_params(demo / "params.yaml")
    world, name = params.data.demo, f"{DATASET}/train"
    look = (world.scene_size, tuple(world.object_size), tuple(world.distractors), world.jpeg_quality)
    plan = plans.even_plan(params.seed, name, world.coco_train, world.objects_per_scene)
    drawn = [render_scene(SceneTask(params.seed, name, place, kinds, *look)) for place, kinds in enumerate(plan)]
    files = sorted(detection_set(DATASET, "train", demo / artifacts.SETS).images.iterdir())
    if [record.jpeg for record in drawn] != [file.read_bytes() for file in files]:
        raise SystemExit("the pictures of this demo are others: run its stage `data` again")
    return coco_files.instances(1, world.scene_size, drawn)


def trained(demo: Path, workspace: Path, train: Path, classes: ClassList) -> dict[str, float]:
    """Make a workspace of pictures and boxes, fine-tune as the demo does; return AP50 on the split val."""
    regionclip(demo, "new", str(workspace), "--profile", "demo")
    val, clips = (
        detection_set(DATASET, "val", demo / artifacts.SETS),
        {"clip": artifacts.TEACHER, "regionclip": artifacts.PRETRAINED},
    )
    files = {
        "train": train,
        "val": val.annotations,
        "images": detection_set(DATASET, "train", demo / artifacts.SETS).images,
        "images-val": val.images,
    }
    given = files | {name: demo / folder for name, folder in clips.items()}
    options = [text for name, path in given.items() for text in (f"--{name}", str(path))]
    regionclip(workspace, "data", "init", *options, "--name", DATASET)
    own, of = (yaml.safe_load((folder / "params.yaml").read_text()) for folder in (workspace, demo))
    own |= {"detection": of["detection"], "rpn": of["rpn"] | {"weights": str(demo / artifacts.RPN)}}
    own["finetune"] = of["finetune"] | {
        "initialisations": ["regionclip"],
        "sets": {DATASET: of["finetune"]["sets"][DATASET]},
    }
    write_text(workspace / "params.yaml", yaml.safe_dump(complete(own, workspace / "params.yaml"), sort_keys=False))
    run(["dvc", "repro", STAGE], workspace, {})
    each = read_json(workspace / artifacts.metrics(STAGE))["regionclip"]["per_class"]
    groups = {"novel": classes.novel_names, "base": classes.base_names, "all": classes.names}
    return {f"ap50_{group}": float(np.mean([each[name] for name in names])) for group, names in groups.items()}


def regionclip(folder: Path, *command: str) -> None:
    """Run a command in a folder."""
    run([sys.executable, "-m", "regionclip", *command], folder, {})


if __name__ == "__main__":
    main()
