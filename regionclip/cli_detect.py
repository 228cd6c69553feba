"""The commands that use a detector: ``regionclip detect``, ``label``, ``val``, ``calibrate``, ``export``, ``embed``."""

from __future__ import annotations

import argparse
import hashlib
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from regionclip.cli_parts import add_command, add_model, console
from regionclip.errors import InputError
from regionclip.inference import BATCH_SIZE, THRESHOLD

if TYPE_CHECKING:
    from regionclip.inference.calibration import Calibration
    from regionclip.inference.outputs import Journal, Pictures

T = TypeVar("T")
_SHOWN = 20  # names of a table


def add_detect_commands(commands: argparse._SubParsersAction) -> None:
    """Add the commands to the subparsers of ``regionclip``."""
    sources = "pictures, folders, globs or videos"
    detect = add_command(commands, "detect", _detect, resumes=True)
    detect.add_argument("sources", metavar="SOURCE", nargs="+", help=f"{sources}; or a camera's number: Ctrl-C ends it")
    _add_search(detect)
    detect.add_argument("--out", metavar="DIR", required=True, help="folder to write into")
    forms = ["json", "coco", "yolo", "csv"]
    detect.add_argument("--format", choices=forms, default="json", help="of what is written (default: %(default)s)")
    detect.add_argument("--pictures", action="store_true", help="draw the boxes on each picture, too")
    label = add_command(commands, "label", _label, resumes=True)
    label.add_argument("folder", metavar="FOLDER", help="pictures, at any depth")
    _add_search(label)
    label.add_argument("--out", metavar="SET", required=True, help="folder for train.json and val.json")
    label.add_argument("--val", type=float, default=0.1, help="share of the pictures in val.json (default: 0.1)")
    val = add_command(commands, "val", _val)
    val.add_argument("file", metavar="FILE.json", help="COCO or LVIS annotations")
    val.add_argument("--images", metavar="DIR", required=True, help="folder that its file names start from")
    add_model(val)
    _add_batch_size(val)
    val.add_argument("--out", metavar="JSON", help="file for all numbers, those of each class too")
    calibrate = add_command(commands, "calibrate", _calibrate)
    calibrate.add_argument("--truth", metavar="FILE.json", help="COCO or LVIS file; default: the split dev")
    calibrate.add_argument("--images", metavar="DIR", help="folder that its file names start from")
    add_model(calibrate)
    export = add_command(commands, "export", _export)
    export.add_argument("-o", "--out", metavar="DIR", required=True, help="folder to write")
    export.add_argument("--names", help="whose embeddings are written beside: with commas between them, or a file")
    add_model(export)
    export.set_defaults(extra="export")
    embed = add_command(commands, "embed", _embed)
    embed.add_argument("sources", metavar="SOURCE", nargs="+", help=sources)
    add_model(embed)
    embed.add_argument(
        "--boxes",
        default="proposals",
        metavar="WHICH",
        help="proposals, the default: what the RPN takes for objects; picture: the whole of each; "
        "or a COCO or LVIS file that has the boxes",
    )
    embed.add_argument("--most", type=int, default=100, metavar="N", help="proposals a picture (default: %(default)s)")
    embed.add_argument("--out", metavar="PARQUET", required=True, help="file to write")


def _add_batch_size(command: argparse.ArgumentParser) -> None:
    text = "pictures at a time (default: %(default)s)"
    command.add_argument("--batch-size", type=int, default=BATCH_SIZE, metavar="N", help=text)


def _add_search(command: argparse.ArgumentParser) -> None:
    """Add what is looked for and what is kept; defaults are those of `RegionCLIP.detect`."""
    command.add_argument(
        "--names",
        required=True,
        help="what to look for: names with commas between them, in double quotes those that have commas; or a file: "
        "text of one a line, COCO's JSON, or a text bank",
    )
    command.add_argument("--background", metavar="NAMES", help="what is only there to take false alarms away")
    command.add_argument("--threshold", type=float, metavar="SCORE", help=f"least score (default: {THRESHOLD})")
    command.add_argument("--top-k", type=int, metavar="N", help="the best of each name only")
    command.add_argument("--max-detections", type=int, metavar="N", help="the best of each picture only")
    command.add_argument("--iou", type=float, help="overlap from which the weaker of two boxes of one name goes")
    command.add_argument("--agnostic", action="store_true", help="of two boxes of different names, too")
    add_model(command)
    _add_batch_size(command)


def _names(text: str) -> list[str] | Path:
    file = Path(text)
    if len(text) < 256 and file.is_file():
        return file
    if file.suffix in (".txt", ".json", ".safetensors"):
        raise InputError("the file of names does not exist", file=file, key="--names", mend="put it there")
    return _split(text, "--names")


def _split(text: str, option: str) -> list[str]:
    from regionclip.inference.vocabulary import split_names

    names = split_names(text)
    if "" in names:
        mend = 'give names with commas between them, such as "red car, dog"'
        raise InputError(f"name {names.index('') + 1} of {text!r:.80} is empty", key=option, mend=mend)
    return names


def _detect(chosen: argparse.Namespace) -> None:
    """Find objects by their names on pictures and videos. Run again with the same arguments, it goes on where it was.
    Pictures that cannot be decoded are set aside and listed in DIR/rejected.jsonl.

    json writes DIR/detections.jsonl, a picture a line, its objects as transformers' dicts; coco DIR/detections.json,
    with images, categories, and annotations that have a score; yolo DIR/labels and DIR/data.yaml; csv
    DIR/detections.csv, an object a line.

    examples:
      regionclip detect photos/ --names "traffic cone, forklift" --out found/
      regionclip detect "photos/*.jpg" film.mp4 --names names.txt --out found/ --pictures --threshold 0.5
      regionclip detect photos/ --names "red star" --background "sky, grass" --out found/ --format coco
      regionclip detect photos/ --names "dog" --model models:/regionclip-coco@champion --out found/
    """
    _search(chosen, chosen.sources, chosen.format, drawn=chosen.pictures)


def _label(chosen: argparse.Namespace) -> None:
    """Label a folder of pictures and make a data set of it. `regionclip data init` reads it back. Pictures stay where
    they are; each box keeps its score, which no training reads. Run again with the same arguments, it goes on where it
    was.

    examples:
      regionclip label photos/ --names "forklift, pallet" --threshold 0.5 --out labels/
      regionclip data init --train labels/train.json --val labels/val.json --images photos/ -o params.labels.yaml
    """
    if not 0 < chosen.val < 1:
        raise InputError(f"{chosen.val} is no share between 0 and 1", key="--val", mend="give one such as 0.1")
    if not Path(chosen.folder).is_dir():
        raise InputError("there is no such folder", file=chosen.folder, mend="name a folder of pictures")
    _search(chosen, [chosen.folder], "set", val=chosen.val)


def _search(
    chosen: argparse.Namespace, sources: list[str], form: str, *, drawn: bool = False, val: float = 0.0
) -> None:
    from regionclip.files import sha256_file
    from regionclip.inference import RegionCLIP
    from regionclip.inference.api import SETTINGS
    from regionclip.inference.outputs import FORMATS, PICTURES, REJECTED, Journal, Pictures, search, write_results
    from regionclip.inference.results import normal

    names, background = _names(chosen.names), _split(chosen.background, "--background") if chosen.background else []
    pictures, out = Pictures.of(sources), Path(chosen.out)
    pictures.require_names(form)
    searched = [normal(source) for source in sources if Path(source).is_dir()]
    if drawn and any(map(normal(out).is_relative_to, searched)):
        mend = "name a folder elsewhere with --out, or drawings would be taken for pictures"
        raise InputError("it lies in a folder that is searched", file=out, key="--pictures", mend=mend)
    settings = {key: value for key in SETTINGS if (value := getattr(chosen, key)) is not None}
    settings["batch_size"] = chosen.batch_size
    model = RegionCLIP.open(chosen.model, chosen.dataset)
    vocabulary = model.vocabulary(names, background)
    model.detect([], vocabulary, **settings)  # wrong ones are refused before a folder is made
    arguments = {
        "source": [str(Path(source).absolute()) for source in sources],
        "model": _model_sum(model),
        "names": [*vocabulary.names, sha256_file(names)] if isinstance(names, Path) else names,
        "background": background,
        **settings,
        "format": form,
        "pictures": drawn,
        "val": val,
        # What a camera saw does not come again.
        **({"camera": time.time()} if isinstance(pictures.source, int) else {}),
    }
    files = [*FORMATS[form], REJECTED, *([PICTURES] if drawn else [])]
    with Journal(out, arguments, files) as journal:
        new = _say(journal, pictures, out)
        started, count = time.perf_counter(), 0
        found = search(model, pictures, vocabulary, journal, out / PICTURES if drawn else None, **settings)
        try:
            for _ in _watched(found, new):
                count += 1
        except KeyboardInterrupt:
            # Else a camera would never end.
            if not isinstance(pictures.source, int):
                raise
        seconds = (time.perf_counter() - started) / count if count else None
        write_results(form, out, pictures, journal, vocabulary.names, val)
        _tell(journal, vocabulary.names, seconds, [out / name for name in files])


def _model_sum(model: Any) -> str:
    """Return one checksum of the detector's files and params."""
    from regionclip.checkpoints.clip_folder import ClipFolder
    from regionclip.files import sha256_file

    files = model.files
    parts = (ClipFolder.open(files.clip).weights_sha256, *map(sha256_file, (files.detector, files.rpn)))
    return hashlib.sha256(" ".join((*parts, files.params.model_dump_json())).encode()).hexdigest()


def _say(journal: Journal, pictures: Pictures, out: Path) -> int | None:
    """Say what an earlier run left; return how many pictures are to be searched, where that is known."""
    terminal = console()
    if journal.changed:
        what = ", ".join(journal.changed)
        terminal.print(f"{out}: an earlier run had another {what}; starting anew.", soft_wrap=True)
    if not pictures.counted:
        return None
    files = {*pictures.files}
    known = sum(map(journal.knows, files))
    if known:
        terminal.print(f"{out}: {known} of {len(files)} pictures are done already.", soft_wrap=True)
    return len(files) - known


def _tell(journal: Journal, names: tuple[str, ...], seconds: float | None, files: list[Path]) -> None:
    """Print what was found, with what earlier runs of the same arguments found.

    Raises:
        InputError: No picture could be used.
    """
    from rich.table import Column, Table

    objects, pictures, rejected = Counter[str](), 0, list(journal.rejected())
    for one in journal.results(names):
        pictures += 1
        objects.update(one.names)
    table = Table("", Column("count", justify="right"), box=None)
    table.add_row("pictures", str(pictures))
    table.add_row("set aside", str(len(rejected)))
    table.add_row("objects", str(objects.total()))
    for name, count in objects.most_common(_SHOWN):
        table.add_row(f"  {name}", str(count))
    if len(objects) > _SHOWN:
        table.add_row(f"  {len(objects) - _SHOWN} other names", str(sum(sorted(objects.values())[:-_SHOWN])))
    if seconds is not None:
        table.add_row("seconds a picture", f"{seconds:.2f}")
    terminal = console()
    terminal.print(table)
    terminal.print(*(f"{file} is written." for file in files if file.exists()), sep="\n", soft_wrap=True)
    if rejected and not pictures:
        problem = f"none of {len(rejected)} pictures can be used; the first: {rejected[0].problem}"
        raise InputError(problem, file=rejected[0].file, mend=rejected[0].mend)


def _watched(items: Iterable[T], total: int | None) -> Iterator[T]:
    """Show a progress bar of pictures with the time left, on the error stream."""
    from rich import progress
    from rich.console import Console

    columns = [progress.TextColumn("{task.description}"), progress.BarColumn(), progress.MofNCompleteColumn()]
    columns += [progress.TimeElapsedColumn(), progress.TimeRemainingColumn()]
    with progress.Progress(*columns, console=Console(stderr=True)) as bar:
        yield from bar.track(items, total=total, description="pictures")


def _val(chosen: argparse.Namespace) -> None:
    """Measure a detector on a COCO or LVIS file. The file's classes are looked for, all at once. LVIS files go by its
    federated protocol; others by COCO's, with base and novel classes apart where the detector was trained on boxes of
    some of them only.

    examples:
      regionclip val annotations/instances_val.json --images val/
      regionclip val lvis_v1_val.json --images coco/ --model models:/regionclip-lvis@champion --out numbers.json
    """
    from rich.table import Column, Table

    from regionclip.evaluation.protocols import PROTOCOLS
    from regionclip.evaluation.summary import percent, spoken
    from regionclip.files import write_json
    from regionclip.inference import RegionCLIP
    from regionclip.inference.measuring import detect_classes, measure_found, read_subject

    model = RegionCLIP.open(chosen.model, chosen.dataset)
    subject = read_subject(model, Path(chosen.file), Path(chosen.images))
    numbers = measure_found(subject, detect_classes(model, subject, batch_size=chosen.batch_size, watch=_watched))
    of = PROTOCOLS[numbers["protocol_name"]]
    table = Table("", Column("percent", justify="right"), box=None)
    for key in dict.fromkeys((*of.headline, "ap", "ap50", "ap75", "aps", "apm", "apl")):
        table.add_row(spoken(key), percent(numbers[key]))
    terminal = console()
    terminal.print(table)
    ranked = sorted(numbers["per_class"].items(), key=lambda item: -item[1])
    for what, part in (("best", ranked[:_SHOWN]), ("worst", ranked[_SHOWN:][-_SHOWN:])):
        if part:
            classes = ", ".join(f"{name} {percent(value)}" for name, value in part)
            terminal.print(f"{of.per_class} of classes, {what}: {classes}", soft_wrap=True)
    terminal.print(f"By the protocol {numbers['protocol_name']}: {numbers['protocol']}.", soft_wrap=True)
    if chosen.out:
        write_json(chosen.out, numbers)
        terminal.print(f"{chosen.out} is written.", soft_wrap=True)


def _calibrate(chosen: argparse.Namespace) -> None:
    """Find out how often a detector is right at which score. Base and novel names are told apart. It is told by
    pictures with truth that no training and no test looks at; without --truth by the split dev, and checked on val.
    From then on results have a confidence, in bundles and registered versions too, and
    `RegionCLIP.thresholds(names, precision=0.8)` gives thresholds.

    examples:
      regionclip calibrate
      regionclip calibrate --truth dev.json --images photos/
    """
    from regionclip import artifacts
    from regionclip.data.layout import detection_set
    from regionclip.files import sha256_file
    from regionclip.inference import RegionCLIP
    from regionclip.inference.calibration import FLOOR, check, fit, judged
    from regionclip.inference.measuring import detect_classes, read_subject

    if (chosen.truth is None) != (chosen.images is None):
        raise InputError("a file and its folder go together", key="--truth", mend="give both, or none")
    root = Path(chosen.model).absolute()
    if not (root / "params.yaml").is_file():
        raise InputError("this is no workspace", file=root, key="--model", mend="calibrate before a bundle is made")
    model = RegionCLIP.open(root, chosen.dataset)
    files = model.files

    def seen(file: Path, images: Path) -> Any:
        subject = read_subject(model, file, images)
        found = detect_classes(model, subject, threshold=FLOOR, watch=_watched)
        return judged(subject.protocol, subject.truth, found, subject.classes), subject.classes.base_names

    def of_split(split: str) -> tuple[Path, Path]:
        place = detection_set(files.dataset, split, root / artifacts.SETS)
        return root / place.annotations, root / place.images

    truth, images = (Path(chosen.truth), Path(chosen.images)) if chosen.truth else of_split("dev")
    made = fit(*seen(truth, images), sha256_file(files.detector), sha256_file(truth))
    if not chosen.truth:
        made = replace(made, checked=check(made, seen(*of_split("val"))[0]))
    out = root / artifacts.calibration(files.dataset, files.initialisation)
    out.parent.mkdir(parents=True, exist_ok=True)
    made.save(out)
    _show_calibration(made)
    console().print(f"{out} is written.", soft_wrap=True)


def _show_calibration(made: Calibration) -> None:
    from rich.table import Table

    table = Table("names", "precision", "threshold", "on val", "false alarms", box=None)
    for group, curve in (("base", made.base), ("novel", made.novel)):
        at = made.checked.get(group, {}).get("at", {})
        for precision, least in ({} if curve is None else curve.thresholds).items():
            measured = [at.get(precision, {}).get(key) for key in ("precision", "false_alarms")]
            shown = ("" if value is None else f"{value:.1%}" for value in measured)
            table.add_row(group, f"{float(precision):.0%}", f"{least:.3f}", *shown)
    terminal = console()
    terminal.print(table)
    for group, measured in made.checked.items():
        errors = f"{measured['ece_score']:.3f} of the score, {measured['ece']:.3f} of the confidence"
        terminal.print(f"Expected calibration error on val, {group} names: {errors}.", soft_wrap=True)


def _export(chosen: argparse.Namespace) -> None:
    """Write the detector as ONNX files for onnxruntime. Text embeddings are an input; pictures of any size and number.
    DIR/README.md tells how to use them.

    examples:
      regionclip export -o onnx/
      regionclip export -o onnx/ --names "traffic cone, forklift" --model models:/regionclip-coco@champion
    """
    from regionclip.inference import RegionCLIP

    model = RegionCLIP.open(chosen.model, chosen.dataset)
    model.export(chosen.out, _names(chosen.names) if chosen.names else None)
    terminal = console()
    for file in sorted(Path(chosen.out).iterdir()):
        terminal.print(f"{file}: {file.stat().st_size / 1e6:.1f} MB", soft_wrap=True)


def _embed(chosen: argparse.Namespace) -> None:
    """Write features of regions, or of whole pictures, to Parquet. Columns are source, box (x1, y1, x2, y2 in pixels)
    and feature; `RegionCLIP.similarity` compares features with names. Pictures that cannot be used are set aside and
    listed beside PARQUET.

    examples:
      regionclip embed photos/ --out regions.parquet
      regionclip embed photos/ --boxes picture --out pictures.parquet
      regionclip embed photos/ --boxes annotations.json --model bundle/ --out objects.parquet
    """
    from regionclip.data.rejects import SUFFIX, Rejects
    from regionclip.inference import RegionCLIP
    from regionclip.inference.outputs import Pictures, write_features
    from regionclip.inference.sources import boxes_of_file, open_source

    if chosen.most < 1:
        raise InputError(f"{chosen.most} is no whole number from 1 on", key="--most", mend="give 1 or more")
    pictures, out = Pictures.of(chosen.sources), Path(chosen.out)
    boxes = chosen.boxes if chosen.boxes in ("proposals", "picture") else boxes_of_file(chosen.boxes)
    model = RegionCLIP.open(chosen.model, chosen.dataset)
    with Rejects(out.with_name(f"{out.stem}{SUFFIX}"), limit=1.0) as rejects:
        rows = write_features(model, open_source(pictures.source), boxes, chosen.most, out, rejects)
        features = sum(_watched(rows, len(pictures.files) if pictures.counted else None))
    aside = f"; {len(rejects)} pictures are set aside in {rejects.path}" if rejects else ""
    console().print(f"{out}: {features} features{aside}", soft_wrap=True)
