"""Folders of Pascal VOC, YOLO and Cityscapes to a COCO-style file; what is no use is set aside, listed and counted."""

from __future__ import annotations

import os
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Literal

from regionclip.data.annotations.annotation_files import BORDER, Json, listed
from regionclip.data.annotations.masks import mask_area
from regionclip.data.pictures import Looked, inside, look_at_files
from regionclip.data.rejects import SUFFIX, Rejects, reason
from regionclip.errors import InputError, printable
from regionclip.files import write_json
from regionclip.workspace.cityscapes import read_cityscapes
from regionclip.workspace.labelled import Box, Found, Labelled, useless
from regionclip.workspace.voc import read_voc
from regionclip.workspace.yolo import read_yolo

Form = Literal["voc", "yolo", "cityscapes", "foggy_cityscapes"]
_READERS = {
    "voc": read_voc,
    "yolo": read_yolo,
    "cityscapes": read_cityscapes,
    # The densest fog: most work on domain adaptation measures on it, some on all three.
    "foggy_cityscapes": partial(read_cityscapes, kind="leftImg8bit_foggy", fog="_beta_0.02"),
}
_SHOWN = 3  # files that a line of the account names
_CUT = "boxes cut at the border of their picture"


def convert(form: Form, folder: Path, out: Path, split: str | None = None) -> str:
    """Write the boxes of a folder as one COCO-style file; no picture is copied, the same folder gives the same bytes.

    Polygons and masks become ``segmentation``. What cannot be used is listed in ``NAME_rejected.jsonl`` beside the
    file: every picture, label file and line is either read, or there, or counted in the answer.

    Args:
        form: See the reader of each.
        folder: The folder.
        out: The file to write.
        split: ``voc``: a list in ``ImageSets/Main``, or None for all pictures; others: ``train`` (None), ``val`` ...

    Returns:
        What was written, what to know of it, and what was set aside by reason.

    Raises:
        InputError: The folder does not have its form, or no box is left of it.
    """
    if out.is_dir():
        raise InputError("the output is a folder", file=out, mend="name a JSON file")
    found = _READERS[form](folder, split)
    content, unlabelled = _coco(found)
    # Pictures that share a label file share its faults.
    faults = {str(fault): fault for fault in found.faults}.values()
    with Rejects(out.with_name(out.stem + SUFFIX), limit=1.0) as rejects:
        for fault in faults:
            rejects.add(fault)
    reasons: dict[str, list[str]] = defaultdict(list)
    for fault in faults:
        name = Path(fault.file).name
        reasons[reason(fault)].append(f"{name}, {fault.record}" if fault.record else name)
    account = _lines(reasons)
    if not content["annotations"]:
        mend = f"mend what {rejects.path} lists" if faults else "give the folder that holds the label files too"
        problem = f"no box is left, of {len(found.pictures)} pictures"
        raise InputError("; ".join([problem, *account]), file=folder, mend=mend)
    write_json(out, content, indent=None)
    counts = ", ".join(f"{len(content[part])} {part}" for part in ("images", "annotations", "categories"))
    rest = f"; {len(unlabelled)} without annotation file, kept as empty: {listed(unlabelled)}" if unlabelled else ""
    lines = [f"{out}: {counts}{rest}", f"file names start from {found.root}: give it as --images"]
    lines += [f"to know: {line}" for line in _lines(found.notes)]
    lines += [f"set aside, listed in {rejects.path}:", *(f"  {line}" for line in account)] if account else []
    return printable("\n".join(lines))


def _lines(account: dict[str, list[str]]) -> list[str]:
    """Return one line for each reason, the most frequent first: how often, and the first few."""
    ordered = sorted(account.items(), key=lambda entry: (-len(entry[1]), entry[0]))
    return [f"{len(names)} x {why}: {listed(names, _SHOWN)}" if names else why for why, names in ordered]


def _coco(found: Found) -> tuple[Json, list[str]]:
    """Return the file, and the pictures in it that have no label file; adds to the faults and notes."""
    pictures = sorted(found.pictures, key=lambda labelled: labelled.picture.relative_to(found.root).as_posix())
    looked = look_at_files([labelled.picture for labelled in pictures], os.cpu_count() or 1)
    content: Json = {"images": [], "annotations": []}
    without = []
    for labelled, seen in zip(pictures, looked, strict=True):
        name = labelled.picture.relative_to(found.root).as_posix()
        fault = _picture_fault(labelled, seen, name)
        if fault and labelled.boxes:
            found.notes["boxes set aside with their picture"] += [labelled.picture.name] * len(labelled.boxes)
        boxes = [] if fault else _boxes(found, labelled, (seen.width, seen.height))
        if fault or (labelled.boxes and not boxes):
            found.faults.append(fault or useless(labelled.picture))
            continue
        image, first = len(content["images"]) + 1, len(content["annotations"]) + 1
        content["images"].append({"id": image, "file_name": name, "width": seen.width, "height": seen.height})
        content["annotations"] += [{"id": i, "image_id": image} | box for i, box in enumerate(boxes, first)]
        without += [labelled.picture.name] if labelled.file is None else []
    categories = sorted(found.categories.items(), key=lambda entry: entry[1])
    return content | {"categories": [{"id": i, "name": name} for name, i in categories]}, without


def _picture_fault(labelled: Labelled, seen: Looked, name: str) -> InputError | None:
    picture, size = labelled.picture, labelled.size
    try:
        inside(picture.parent, name)
    except InputError as error:
        return InputError(error.problem, file=picture, mend="give it a name in UTF-8, without backslash")
    if seen.error or seen.sha256 is None:
        problem = f"the picture does not decode ({seen.error})" if seen.error else "the picture cannot be read"
        return InputError(problem, file=picture, mend="mend it, or take it out with its label file")
    if size and size != (seen.width, seen.height):
        problem = f"its label file is of another size ({size[0]:g} x {size[1]:g}, not {seen.width} x {seen.height})"
        mend = "give the picture that was labelled, and of one that an EXIF tag turns the size as it is seen"
        return InputError(problem, file=picture, mend=mend)
    return None


def _boxes(found: Found, labelled: Labelled, size: tuple[int, int]) -> list[Json]:
    """Return the boxes of a picture in COCO's form, without ids; sets aside what is none."""
    boxes: dict[str, Json] = {}
    for box in labelled.boxes:
        try:
            fitted, moved = _fitted(box, size, found.relative)
            fitted = {"category_id": found.categories[box.category]} | fitted
            if str(fitted) in boxes:
                raise InputError("the box is there twice", mend="keep one of them")
        except InputError as error:
            mend = error.mend or "mend the box, or take it out"
            found.faults.append(InputError(error.problem, file=labelled.file, record=box.record, mend=mend))
            continue
        boxes[str(fitted)] = fitted
        if moved > BORDER:
            found.notes[_CUT].append(f"{labelled.picture.name}, {box.record}")
    return list(boxes.values())


def _fitted(box: Box, size: tuple[int, int], relative: bool) -> tuple[Json, float]:
    """Return a box cut to its picture, to COCO's precision of 1/100 pixel, and by how many pixels it was cut.

    It must not be empty, nor leave a picture whose pixels it counts by more than a rounding.
    """
    values = [*box.corners, *(box.polygon or ())]
    pixels = [value * size[i % 2] if relative else value for i, value in enumerate(values)]
    cut = [min(max(value, 0.0), float(size[i % 2])) for i, value in enumerate(pixels)]
    if not relative and max(abs(a - b) for a, b in zip(pixels[:4], cut[:4], strict=True)) > BORDER:
        raise InputError(f"the box leaves its picture ({', '.join(f'{value:g}' for value in pixels[:4])})")
    left, top, right, bottom = cut[:4]
    sides = [round(right - left, 2), round(bottom - top, 2)]
    polygon = [round(value, 2) for value in cut[4:]]
    area = mask_area(box.mask) if box.mask else round(_area(polygon) if polygon else sides[0] * sides[1], 2)
    if min(sides) <= 0 or area <= 0:
        raise InputError(f"the {'polygon' if polygon else 'box'} is empty")
    fitted = {"bbox": [round(left, 2), round(top, 2), *sides], "area": area, "iscrowd": int(box.crowd)}
    moved = max(abs(a - b) for a, b in zip(pixels, cut, strict=True))
    segmentation = box.mask or ([polygon] if polygon else None)
    return fitted | ({"segmentation": segmentation} if segmentation else {}), moved


def _area(polygon: list[float]) -> float:
    """Return the area within a polygon (x, y of each point in turn), by the shoelace formula."""
    x, y = polygon[::2], polygon[1::2]
    return abs(sum(x[i - 1] * y[i] - x[i] * y[i - 1] for i in range(len(x)))) / 2
