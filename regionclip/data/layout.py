"""Where the data folders keep what, and which classes they hold."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from regionclip.artifacts import DATA, SETS, annotations
from regionclip.errors import InputError
from regionclip.files import read_json

Split = Literal["train", "dev", "val"]

PICTURES, CAPTION_SOURCE = "pictures.json", "source.json"
"""Say where real pictures and captions lie, in data/sets/NAME and data/scenes; the demo world has none."""


class DetectionSet(NamedTuple):
    """A detection set.

    Attributes:
        images: The folder that file names start from (for LVIS: what follows the host in ``coco_url``).
        annotations: The COCO or LVIS JSON file.
    """

    images: Path
    annotations: Path


def data_sets(root: Path = SETS) -> tuple[str, ...]:
    """Return the names of the detection sets that there are, sorted."""
    return tuple(sorted(file.parent.name for file in root.glob("*/classes.json")))


def splits(name: str, root: Path = SETS) -> tuple[Split, ...]:
    """Return the splits of a detection set: the demo world's have "dev" beside "train" and "val"."""
    return ("train", "val") if (root / name / PICTURES).exists() else ("train", "dev", "val")


def detection_set(name: str, split: Split, root: Path = SETS) -> DetectionSet:
    """Return where a split lies: base boxes only for "train", all classes for "dev" and "val".

    Raises:
        InputError: There is no such set or split, or the record of where its pictures lie is broken.
    """
    folder, there = root / name, data_sets(root)
    if name not in there or split not in splits(name, root):
        mend = f"use {', '.join(splits(name, root) if name in there else there)}" if there else "run the stage 'data'"
        raise InputError(f"there is no set '{name}/{split}' in {root}", mend=mend)
    if (folder / PICTURES).exists():
        pictures = Path(_recorded(folder / PICTURES, split))
    else:
        pictures = folder if load_classes(name, root).federated else folder / split
    return DetectionSet(pictures, folder / annotations(split))


def captioned_scenes(root: Path = DATA) -> tuple[Path, Path | None]:
    """Return the captions and the folder of their images, for ``open_captioned_images``; None: the reader's default.

    Raises:
        InputError: The data have no captions.
    """
    folder = root / "scenes"
    if (folder / CAPTION_SOURCE).exists():
        images = _recorded(folder / CAPTION_SOURCE, "images")
        return Path(_recorded(folder / CAPTION_SOURCE, "captions")), None if images is None else Path(images)
    if not (folder / "captions.json").exists():
        raise InputError("there are no captions", file=folder, key="data.captions", mend="name them in the params")
    return folder / "captions.json", folder / "images"


def _recorded(file: Path, key: str) -> str | None:
    content = read_json(file)
    if not isinstance(content, dict) or key not in content:
        raise InputError("the key is missing", file=file, key=key, mend="run the stage 'data' again")
    return content[key]


@dataclass(frozen=True)
class ClassList:
    """The classes of a detection set, in the order of their ids.

    Attributes:
        names: Names as a person writes them.
        ids: Category ids of the annotations.
        base_names: Of the classes whose boxes may be used for training, by id.
        novel_names: Of the others.
        frequency: In LVIS's form: name -> "f", "c" or "r"; empty otherwise.
    """

    names: tuple[str, ...]
    ids: tuple[int, ...]
    base_names: tuple[str, ...]
    novel_names: tuple[str, ...]
    frequency: dict[str, str]

    @property
    def federated(self) -> bool:
        """Whether the annotations are in LVIS's form: each picture is labelled for some of the classes."""
        return bool(self.frequency)

    @property
    def groups(self) -> dict[str, frozenset[str]]:
        """Names of the groups that numbers are given for: base, novel, all."""
        return {"base": frozenset(self.base_names), "novel": frozenset(self.novel_names), "all": frozenset(self.names)}

    def ids_of(self, names: Collection[str]) -> frozenset[int]:
        """Category ids of some of the classes."""
        return frozenset(identity for identity, name in zip(self.ids, self.names, strict=True) if name in names)


def load_classes(name: str, root: Path = SETS) -> ClassList:
    """Read ROOT/NAME/classes.json; errors as `read_classes`."""
    entries = read_classes(root / name / "classes.json")
    return ClassList(
        names=tuple(entry["name"] for entry in entries),
        ids=tuple(entry["id"] for entry in entries),
        base_names=tuple(entry["name"] for entry in entries if entry["split"] == "base"),
        novel_names=tuple(entry["name"] for entry in entries if entry["split"] == "novel"),
        frequency={entry["name"]: entry["frequency"] for entry in entries if "frequency" in entry},
    )


def read_classes(path: Path) -> list[dict[str, Any]]:
    """Read the entries of a classes.json, by their ids: id, name, split, and for LVIS frequency.

    Raises:
        InputError: The file is absent, is not JSON, or an entry lacks a key, is there twice or has an unknown split.
    """
    mend = "run the stage 'data' again"
    content = read_json(path)
    entries = content.get("classes") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries:
        raise InputError("there is no list of classes", file=path, key="classes", mend=mend)
    for number, entry in enumerate(entries):
        for key, kind in (("id", int), ("name", str), ("split", str)):
            if not isinstance(entry, dict) or not isinstance(entry.get(key), kind):
                raise InputError("the key is missing", file=path, record=number, key=key, mend=mend)
            if key != "split" and any(other[key] == entry[key] for other in entries[:number]):
                raise InputError("another class has it too", file=path, record=number, key=key, mend=mend)
        if entry["split"] not in ("base", "novel"):
            problem = f"'{entry['split']}' is no split"
            raise InputError(problem, file=path, record=number, key="split", mend="use base or novel")
    return sorted(entries, key=lambda entry: entry["id"])
