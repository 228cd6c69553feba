"""Pascal VOC and YOLO folders to a COCO-style file, read by the supervision library."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from regionclip.data.annotations.annotation_files import Json, listed
from regionclip.errors import InputError
from regionclip.files import read_json, write_json

if TYPE_CHECKING:
    from supervision import DetectionDataset


def convert(form: Literal["voc", "yolo"], folder: Path, out: Path, split: str | None = None) -> str:
    """Write the boxes of a folder as one COCO-style file; file names start from ``folder``, no picture is copied.

    Pascal VOC's corners count pixels from 1 and include the last one; its flag ``difficult`` is not kept. Of YOLO's
    polygons and poses the boxes are kept. The same folder gives the same bytes.

    Args:
        form: ``voc``: ``JPEGImages`` and ``Annotations``; ``yolo``: ``data.yaml`` as Ultralytics and Roboflow write it.
        folder: The folder.
        out: The file to write.
        split: ``voc``: a list in ``ImageSets/Main``, or None for all pictures; ``yolo``: ``train`` (None), ``val`` ...

    Returns:
        What was written, in one line.

    Raises:
        InputError: The library is not installed, or the folder does not have its form.
    """
    try:
        import supervision
    except ImportError:
        raise InputError(
            "this needs the library supervision", mend="install it: pip install 'regionclip[convert]'"
        ) from None
    read = {"voc": _voc, "yolo": _yolo}[form]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            pictures, labels, dataset = read(supervision.DetectionDataset, folder, split)
            content = _coco(dataset)
        except (ValueError, OSError, SyntaxError) as error:
            raise InputError(f"not in the form of {form} ({error})", file=folder, mend="mend the file named") from None
    unlabelled = [name for name in _names(content) if not (labels / name).with_suffix(_SUFFIX[form]).exists()]
    content = _sorted(content, pictures.resolve().relative_to(folder.resolve()))
    write_json(out, content, indent=None)
    rest = f"; {len(unlabelled)} without annotation file, kept as empty: {listed(unlabelled)}" if unlabelled else ""
    counts = {part: len(content[part]) for part in ("images", "annotations", "categories")}
    return f"{out}: {', '.join(f'{count} {part}' for part, count in counts.items())}{rest}"


_SUFFIX = {"voc": ".xml", "yolo": ".txt"}


def _voc(kind: type[DetectionDataset], folder: Path, split: str | None) -> tuple[Path, Path, DetectionDataset]:
    pictures, labels = _folder(folder / "JPEGImages"), _folder(folder / "Annotations")
    whole = kind.from_pascal_voc(str(pictures), str(labels))
    if split is None:
        return pictures, labels, whole
    file = folder / "ImageSets/Main" / f"{split}.txt"
    if not file.is_file():
        raise InputError(
            "the list does not exist", file=file, mend="name a list of ImageSets/Main, or leave out --split"
        )
    # VOC's lists of one class have a second column.
    stems = {line.split()[0] for line in file.read_text(encoding="utf-8").splitlines() if line.strip()}
    chosen = [path for path in whole.image_paths if Path(path).stem in stems]
    lost = stems - {Path(path).stem for path in chosen}
    if lost:
        raise InputError(f"pictures of the list are not there: {listed(sorted(lost))}", file=pictures, mend="add them")
    # The classes stay those of the whole folder, so that every split has the same ones.
    return pictures, labels, kind(whole.classes, chosen, {path: whole.annotations[path] for path in chosen})


def _yolo(kind: type[DetectionDataset], folder: Path, split: str | None) -> tuple[Path, Path, DetectionDataset]:
    about = folder / "data.yaml"
    if not about.is_file():
        raise InputError("the file does not exist", file=about, mend="give the folder that holds data.yaml")
    content, key = yaml.safe_load(about.read_text(encoding="utf-8")), split or "train"
    value = content.get(key) if isinstance(content, dict) else None
    if not isinstance(value, str):
        raise InputError(
            "there is no such split, or no folder of it", file=about, key=key, mend="name train, val or test"
        )
    # Roboflow writes ../train/images for what lies beside data.yaml.
    tried = [folder / value, folder / value.removeprefix("../"), folder / str(content.get("path", "")) / value]
    pictures = next((place for place in tried if place.is_dir()), tried[0])
    parts = list(_folder(pictures).parts)
    if "images" not in parts:
        raise InputError("YOLO's pictures lie in a folder 'images'", file=pictures, mend="move them, beside 'labels'")
    parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    labels = _folder(Path(*parts))
    return pictures, labels, kind.from_yolo(str(pictures), str(labels), str(about))


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise InputError("the folder does not exist", file=path, mend="give a folder of that form")
    return path


def _coco(dataset: DetectionDataset) -> Json:
    if not len(dataset):
        raise ValueError("no picture in it")
    with tempfile.TemporaryDirectory() as beside:
        file = Path(beside) / "boxes.json"
        dataset.as_coco(annotations_path=str(file))
        return read_json(file)


def _names(content: Json) -> list[str]:
    return sorted(image["file_name"] for image in content["images"])


def _sorted(content: Json, pictures: Path) -> Json:
    """Number images and boxes by file name, and leave out what is not known: licence and date."""
    images = sorted(content["images"], key=lambda image: image["file_name"])
    number = {image["id"]: i for i, image in enumerate(images, 1)}
    boxes = sorted(content["annotations"], key=lambda box: (number[box["image_id"]], box["id"]))
    return {
        "images": [
            {
                "id": number[image["id"]],
                "file_name": (pictures / image["file_name"]).as_posix(),
                "width": image["width"],
                "height": image["height"],
            }
            for image in images
        ],
        "annotations": [_box(i, number[box["image_id"]], box) for i, box in enumerate(boxes, 1)],
        "categories": [{"id": category["id"], "name": category["name"]} for category in content["categories"]],
    }


def _box(identity: int, image: int, box: dict[str, Any]) -> dict[str, Any]:
    # Relative single-precision numbers leave noise behind the second decimal, COCO's own precision.
    corners = [round(value, 2) for value in box["bbox"]]
    return {
        "id": identity,
        "image_id": image,
        "category_id": box["category_id"],
        "bbox": corners,
        "area": round(corners[2] * corners[3], 2),
        "iscrowd": 0,
    }
