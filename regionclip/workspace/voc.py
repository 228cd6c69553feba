"""Folders of Pascal VOC: XML files beside pictures, as the many tools write them."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path, PureWindowsPath
from typing import NamedTuple
from xml.etree import ElementTree

from regionclip.errors import InputError
from regionclip.files import read_text, text_encoding
from regionclip.workspace.labelled import Box, Found, Labelled, around, files_below, is_picture, number, stem, useless

_FOLDERS = (("JPEGImages", "Annotations"), ("images", "annotations"))
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_LARGEST = 1 << 22  # bytes of an annotation file; a hundred times as much memory where it is all tags
_MEND_BOX, _MEND_FILE = "mend the object, or take it out", "mend the file, or take it out with its picture"


class _Annotation(NamedTuple):
    """What an XML file says; ``notes`` are its odd objects by what is odd."""

    filename: str
    size: tuple[float, float] | None
    boxes: list[Box]
    faults: list[InputError]
    notes: list[tuple[str, str]]


def read_voc(folder: Path, split: str | None) -> Found:
    """Read ``JPEGImages`` and ``Annotations``, or ``images`` and ``annotations``, or both kinds of file in one folder.

    Corners count pixels from 1 and include the last one, as Pascal VOC's do; polygons are taken as they are. An
    annotation file belongs to the picture of its own name, else to the one that its ``filename`` names.

    Args:
        folder: The folder.
        split: A list in ``ImageSets/Main``; None: all pictures. The classes are those of the whole folder.

    Raises:
        InputError: The folder does not have this form, or the list cannot be read.
    """
    pictures, annotations = _places(folder)
    found, index = Found(folder, relative=False), _Index(pictures)
    chosen = set(index.pictures) if split is None else _chosen(folder, split, index, found)
    files = [file for file in files_below(annotations) if file.suffix.lower() == ".xml" and file.name[0] != "."]
    taken: set[Path] = set()
    # Those whose name names a picture come first: a `filename` that was copied must not take it from them.
    for file in sorted(files, key=lambda file: index.closeness(file.relative_to(annotations)), reverse=True):
        try:
            read: _Annotation | InputError = _annotation(file)
        except InputError as error:
            read = error
        if isinstance(read, _Annotation):
            found.categories |= {box.category: 0 for box in read.boxes}
        fitting = index.fitting(file.relative_to(annotations), getattr(read, "filename", ""))
        if fitting and chosen.isdisjoint(fitting):
            continue
        if not fitting and split is not None and isinstance(read, _Annotation):
            continue  # of another split, perhaps: what is missing of this one is told by its list
        _add(found, file, read, fitting, taken)
    found.pictures += [Labelled(picture) for picture in sorted(chosen - taken)]
    found.categories = {name: i for i, name in enumerate(sorted(found.categories), 1)}
    if index.others:
        found.notes["other files, not read"] += [file.name for file in index.others]
    return found


def _add(found: Found, file: Path, read: _Annotation | InputError, fitting: list[Path], taken: set[Path]) -> None:
    """Take an annotation file with its picture, or set it aside with the pictures that it may be of."""
    free = [picture for picture in fitting if picture not in taken]
    taken.update(fitting)
    if isinstance(read, _Annotation) and len(fitting) == len(free) == 1:
        found.add_read(Labelled(fitting[0], file, read.boxes, read.size), read.faults)
        for note, record in read.notes:
            found.notes[note].append(f"{file.name}, {record}")
        return
    if isinstance(read, InputError):
        fault = read
    elif not fitting:
        fault = InputError("there is no picture of the file", file=file, mend="add the picture")
    elif not free:
        fault = InputError("another file is of the same picture", file=file, mend="keep one of them")
    else:
        names = ", ".join(picture.name for picture in fitting[:3])
        mend = "give each picture a name of its own, and its file the same"
        fault = InputError(f"several pictures fit the file ({names})", file=file, mend=mend)
    found.faults += [fault, *map(useless, free)]


def _places(folder: Path) -> tuple[Path, Path]:
    """Return the folders of pictures and of annotations."""
    for names in _FOLDERS:
        places = [folder / name for name in names]
        if any(place.is_dir() for place in places):
            break
    else:
        places = [folder, folder]
    for place in places:
        if not place.is_dir():
            raise InputError("the folder does not exist", file=place, mend="give a folder in the form of Pascal VOC")
    return places[0], places[1]


class _Index:
    """The pictures below a folder, by their names without suffix."""

    def __init__(self, folder: Path) -> None:
        files = files_below(folder)
        self.pictures = [file for file in files if is_picture(file)]
        self.others = [file for file in files if not is_picture(file) and file.suffix.lower() != ".xml"]
        self._beside: dict[tuple[Path, str], list[Path]] = defaultdict(list)
        self._anywhere: dict[str, list[Path]] = defaultdict(list)
        for picture in self.pictures:
            self._beside[picture.relative_to(folder).parent, stem(picture.name)].append(picture)
            self._anywhere[stem(picture.name)].append(picture)

    def closeness(self, file: Path) -> int:
        """Return 2 where a picture of the same name lies in the same subfolder, 1 where one lies anywhere, else 0."""
        return 2 if (file.parent, stem(file.stem)) in self._beside else int(stem(file.stem) in self._anywhere)

    def named(self, file: Path) -> list[Path]:
        """Return the pictures of the same name in the same subfolder, else anywhere."""
        name = stem(file.stem if file.suffix.lower() == ".xml" else file.name)
        return self._beside.get((file.parent, name)) or self._anywhere.get(name, [])

    def fitting(self, file: Path, filename: str) -> list[Path]:
        """Return the pictures that an annotation file may be of; only the last part of its ``filename`` counts."""
        filename = PureWindowsPath(filename).name
        found = self.named(file) or self.named(file.parent / filename)
        exact = [picture for picture in found if picture.name == filename]
        return exact if len(exact) == 1 else found


def _chosen(folder: Path, split: str, index: _Index, found: Found) -> set[Path]:
    tried = [folder / "ImageSets" / part / f"{split}.txt" for part in ("Main", "")]
    file = next((place for place in tried if place.is_file()), None)
    if file is None:
        mend = "name a list of ImageSets/Main, or leave out --split"
        raise InputError("the list does not exist", file=tried[0], mend=mend)
    chosen: set[Path] = set()
    for count, line in enumerate(read_text(file).splitlines(), 1):
        # VOC's lists of one class have a second column; a name may hold blanks too.
        names = [line.strip().replace("\\", "/"), re.sub(r"\s+-?[01]$", "", line.strip())]
        fitting = next(filter(None, (index.named(Path(name)) for name in names)), [])
        if line.strip() and not fitting:
            problem = f"the picture of the list is not there ('{names[1][:80]}')"
            found.faults.append(InputError(problem, file=file, record=f"line {count}", mend="add the picture"))
        chosen.update(fitting)
    return chosen


def _annotation(file: Path) -> _Annotation:
    text, notes = _xml_text(file)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        # Entities can name files of this machine, and grow to gigabytes.
        raise InputError("it declares a document type or entities", file=file, mend="take the declaration out")
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, RecursionError) as error:
        hint = "; a bare & is written &amp;" if "&" in text else ""
        raise InputError(f"not XML ({error})", file=file, mend=f"{_MEND_FILE}{hint}") from None
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]  # without namespace
    if root.tag.lower() != "annotation":
        problem = f"no annotation of Pascal VOC (its first tag is '{root.tag[:40]}')"
        raise InputError(problem, file=file, mend="move it elsewhere")
    annotation = _Annotation(root.findtext("filename") or "", _size(root), [], [], notes)
    for count, entry in enumerate(root.findall("object"), 1):
        try:
            annotation.boxes.append(_box(entry, f"object {count}", notes))
        except InputError as error:
            error = InputError(error.problem, file=file, record=f"object {count}", key=error.key, mend=_MEND_BOX)
            annotation.faults.append(error)
    return annotation


def _xml_text(file: Path) -> tuple[str, list[tuple[str, str]]]:
    """Return the text of a file by its mark, by what it declares, or as Windows writes it."""
    try:
        if not file.is_file() or file.stat().st_size > _LARGEST:
            raise InputError(f"no file of at most {_LARGEST >> 20} MB", file=file, mend=_MEND_FILE)
        content = file.read_bytes()
    except OSError as error:
        raise InputError(f"the file cannot be read ({error.strerror})", file=file, mend=_MEND_FILE) from None
    encoding = text_encoding(file)
    declared = re.match(rb"""\s*<\?xml[^>]*?encoding\s*=\s*["']([\w.-]+)""", content)
    if declared and encoding in {"utf-8", "cp1252"}:
        try:
            return content.decode(declared[1].decode("ascii", "replace")).strip(), []
        except (LookupError, ValueError):
            pass
    try:
        text = content.decode(encoding).strip()
    except ValueError as error:
        raise InputError(f"not text ({error})", file=file, mend="save it in the encoding that it declares") from None
    odd = encoding == "cp1252"
    return text, [("not in UTF-8 or what they declare, so read as Windows' cp1252", "whole file")] if odd else []


def _size(root: ElementTree.Element) -> tuple[float, float] | None:
    """Return width and height in pixels; None where the file does not know them: absent, 0, no numbers."""
    try:
        width, height = (number(root.findtext(f"size/{key}")) for key in ("width", "height"))
    except ValueError:
        return None
    return (width, height) if width > 0 and height > 0 else None


def _box(entry: ElementTree.Element, record: str, notes: list[tuple[str, str]]) -> Box:
    category = " ".join((entry.findtext("name") or "").split())
    if category in {"", "__background__"}:
        raise InputError(f"the object has no class ('{category}')", key="name")
    boxes, polygon = entry.findall("bndbox"), _polygon(entry, record, notes)
    if len(boxes) > 1 or not (boxes or polygon):
        others = ", ".join(child.tag for child in entry if child.tag != "name")[:80]
        raise InputError(f"the object has {len(boxes) or 'no'} bndbox (it has {others or 'a name only'})", key="bndbox")
    notes += [("parts of objects, not read", record)] * len(entry.findall("part"))
    if entry.findtext("difficult", "").strip() in {"1", "true", "True"}:
        notes.append(("objects marked difficult, kept as the others", record))
    if not boxes:
        return Box(record, category, around(polygon), polygon)
    try:
        left, top, right, bottom = (number(boxes[0].findtext(key)) for key in _CORNERS)
    except ValueError as error:
        raise InputError(f"a corner is missing or no number ({error})", key="bndbox") from None
    if left > right or top > bottom:
        problem = f"the corners are the wrong way round ({left:g}, {top:g}, {right:g}, {bottom:g})"
        raise InputError(problem, key="bndbox")
    return Box(record, category, (left - 1, top - 1, right, bottom), polygon)


def _polygon(entry: ElementTree.Element, record: str, notes: list[tuple[str, str]]) -> tuple[float, ...] | None:
    """Return a polygon as Roboflow (x1, y1, x2, ...) or LabelMe (points of x and y) write it."""
    values = [e for part in entry.findall("polygon") for e in part.iter() if re.fullmatch(r"[xy]\d*", e.tag)]
    if not values:
        return None
    try:
        if len(values) % 2 or len(values) < 6 or any(e.tag[0] != "xy"[i % 2] for i, e in enumerate(values)):
            raise ValueError
        return tuple(number(e.text) for e in values)
    except ValueError:
        notes.append(("polygons that are none, left out", record))
        return None
