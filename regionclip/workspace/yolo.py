"""Folders of YOLO: one text file a picture, and a file of YAML, Darknet or class names that says what is where."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from regionclip.data.annotations.annotation_files import Json, listed
from regionclip.errors import InputError
from regionclip.files import read_text
from regionclip.workspace.labelled import (
    Box,
    Found,
    Labelled,
    around,
    files_below,
    is_picture,
    number,
    spelled,
    stem,
    useless,
)

_SLACK = 0.01  # of the picture's side; as Ultralytics allows
_TWINS = {"val": "valid", "valid": "val"}
_LONGEST = 1_000_000  # letters of data.yaml, which PyYAML reads at 20 kB a second where they are one list
_MEND = "mend the line, or take it out"


class _AsWritten(yaml.BaseLoader):
    """YAML whose values all stay text: a class may be called on, null or 007."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        content = super().construct_mapping(node, deep)
        if len(content) < len(node.value):
            raise yaml.constructor.ConstructorError(None, None, "a key is there twice", node.start_mark)
        return content


def read_yolo(folder: Path, split: str | None) -> Found:
    """Read the pictures of a split and their label files.

    A picture's label file is looked for where the last ``images`` of its path is ``labels``, then beside it. A line
    holds a class and a box, a polygon of three or more points (four of them: a turned box), or a box and key points.

    Args:
        folder: Holds ``data.yaml`` as Ultralytics and Roboflow write it, ``obj.data`` as Darknet does, or only
            ``classes.txt`` as labelling tools do; or one such file.
        split: A key of the file: ``train`` (None), ``val``, ``test``.

    Raises:
        InputError: The file, or what it names, is missing or does not have this form.
    """
    about, content = _about(folder)
    # Names may start from the folder of that file, or from ``path`` as Ultralytics takes it.
    path = content.get("path")
    places = [about.parent / path, Path(path)] if isinstance(path, str) and path else []
    roots = list(dict.fromkeys(_plain(root) for root in [*filter(_exists, places), about.parent]))
    names = _names(content.get("names"), about, roots)
    found = Found(about.parent, relative=True)
    for i, name in names.items():
        if found.categories.setdefault(name, i + 1) != i + 1:
            found.notes["classes of one name, which are one class"].append(name)
    count = content.get("nc")
    if isinstance(count, str) and count.strip() != str(len(names)):
        found.notes[f"{about.name} counts {count[:20]} classes ('nc') and names {len(names)}"] = []
    pictures, places = _pictures(content, split or "train", about, roots, found)
    labels = _Labels()
    points = _key_points(content.get("kpt_shape"), about)
    for picture in pictures:
        file = labels.of(picture)
        if file and _key(file) in labels.read:
            found.notes["pictures that share a label file with another"].append(picture.name)
        labels.read |= {_key(file)} if file else set()
        _add(found, picture, file, names, points)
    _tell_others(found, places, labels)
    found.root = next((root for root in [about.parent, *roots] if all(p.is_relative_to(root) for p in pictures)), None)
    if found.root is None:
        found.root = Path(os.path.commonpath([_plain(picture.parent.absolute()) for picture in pictures]))
        for labelled in found.pictures:
            labelled.picture = _plain(labelled.picture.absolute())
    return found


def _about(folder: Path) -> tuple[Path, Json]:
    """Return the file that describes the set, and its content in the words of data.yaml, all values as text."""
    files = [folder] if folder.is_file() else []
    for pattern in ("data.yaml", "*.y*ml", "*.data", "classes.txt"):
        files = files or sorted(folder.glob(pattern))
    if not files:
        mend = "give the folder that holds data.yaml, or the file itself"
        raise InputError("the file does not exist", file=folder / "data.yaml", mend=mend)
    if len(files) > 1:
        problem = f"several files may describe the set: {listed(file.name for file in files)}"
        raise InputError(problem, file=folder, mend="give the right one in place of the folder")
    file = files[0]
    text = read_text(file)
    if file.suffix == ".data":
        pairs = dict(map(str.strip, line.split("=", 1)) for line in text.splitlines() if "=" in line)
        return file, pairs | {"nc": pairs.get("classes")}
    if file.suffix.lower() not in {".yaml", ".yml"}:
        return file, {"names": text.splitlines(), "train": "images" if (file.parent / "images").is_dir() else "."}
    try:
        if len(text) > _LONGEST:
            raise ValueError(f"more than {_LONGEST:,} letters")
        content = yaml.load(text, Loader=_AsWritten)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InputError(f"not YAML ({' '.join(str(error).split())})", file=file, mend="mend that line") from None
    if not isinstance(content, dict):
        raise InputError("no keys and values", file=file, mend="write names, train and val, as Ultralytics does")
    return file, content


def _names(value: Any, about: Path, roots: list[Path]) -> dict[int, str]:
    """Return index -> class of a list, of a mapping, which may have holes, or of a file of names."""
    file = _find(value, roots) if isinstance(value, str) else None
    if file and file.is_file() and any(file.is_relative_to(root) for root in roots):
        value = read_text(file).splitlines()
    entries = dict(enumerate(value)) if isinstance(value, list) else value
    if not isinstance(entries, dict) or not all(isinstance(name, str) for name in entries.values()):
        mend = "write names: [CLASS, CLASS], or one INDEX: CLASS a line"
        raise InputError("there are no names of classes", file=about, key="names", mend=mend)
    odd = [key for key in entries if not re.fullmatch(r"\d{1,6}", str(key), re.ASCII)]
    names = {int(key): " ".join(name.split()) for key, name in entries.items() if key not in odd}
    odd += [name for name in names.values() if not name.isprintable()]
    if odd or not any(names.values()):
        shown = listed(ascii(key)[1:-1] for key in odd) or "nothing"
        mend = "write the index of each class, and its name"
        raise InputError(f"no index or no name of a class: {shown}", file=about, key="names", mend=mend)
    return {i: name for i, name in sorted(names.items()) if name}


def _key_points(shape: Any, about: Path) -> int:
    """Return how many numbers follow the box of a pose."""
    if shape is None:
        return 0
    if not isinstance(shape, list) or not all(isinstance(n, str) and re.fullmatch(r"\d{1,4}", n) for n in shape):
        raise InputError("no shape of key points", file=about, key="kpt_shape", mend="write [POINTS, NUMBERS OF EACH]")
    return math.prod(map(int, shape))


def _pictures(content: Json, split: str, about: Path, roots: list[Path], found: Found) -> tuple[list[Path], list[Path]]:
    """Return the pictures of a split, and the folders among what it names."""
    value = content.get(split) or content.get(_TWINS.get(split, split))
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(name, str) and name.strip() for name in values):
        offered = [key for key in ("train", "val", "valid", "test") if key in content]
        mend = f"name one of {', '.join(offered)}" if offered else "write train and val"
        raise InputError("there is no such split, or no folder of it", file=about, key=split, mend=mend)
    pictures, places = [], []
    for name in values:
        place = _find(name, roots)
        if place is None or not (place.is_dir() or place.is_file()):
            mend = f"mend '{split}' of {about.name}: a folder, a list of folders, or a text file of pictures"
            raise InputError("the folder does not exist", file=roots[0] / name, mend=mend)
        if place.is_dir():
            places.append(place)
            pictures += filter(is_picture, files_below(place))
        else:
            pictures += _list(place, roots, found)
    if not pictures and found.faults:
        raise found.faults[0]
    if not pictures:
        raise InputError("there is no picture in it", file=about, key=split, mend="name the folder of the pictures")
    return list({_key(picture): picture for picture in reversed(pictures)}.values())[::-1], places


def _list(file: Path, roots: list[Path], found: Found) -> Iterator[Path]:
    seen: set[Path] = set()
    for count, line in enumerate(read_text(file).splitlines(), 1):
        picture = _find(line, [file.parent, *roots]) if line.strip() else None
        problem = "the list names it twice" if picture in seen else None
        if line.strip() and (picture is None or not is_picture(picture) or picture.is_dir()):
            problem = f"the picture of the list is not there ('{line.strip()[:80]}')"
        if problem:
            found.faults.append(InputError(problem, file=file, record=f"line {count}", mend="mend the line"))
        elif picture:
            seen.add(picture)
            yield picture


def _find(name: str, roots: list[Path]) -> Path | None:
    """Return what a name of the user's file means, or None.

    Roboflow writes ``../train/images`` for what lies beside data.yaml, Darknet ``data/`` for its own folder, and a set
    that was moved keeps absolute paths, of Windows too: the end of such a path is looked for in the set.
    """
    name = name.strip().replace("\\", "/")
    inner = re.sub(r"^((\.\./)+|data/)", "", name)
    tried = [inner, name] if name.startswith("../") else [name, inner]
    if name.startswith("/") or re.match("[A-Za-z]:", name):
        parts = PurePosixPath(name).parts
        tried += ["/".join(parts[i:]) for i in range(1, len(parts) - 1)]
    return next((place for end in tried for root in roots if _exists(place := _plain(root / end))), None)


def _key(file: Path) -> tuple[Path, str]:
    """Return a file's folder without links, and its name: one file may be reached in several ways."""
    return file.parent.resolve(), file.name


def _plain(path: Path) -> Path:
    return Path(os.path.normpath(path))


def _exists(path: Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110  (`Path.exists` raises where a name is too long)


class _Labels:
    """Label files by folder and name, and which of them were read."""

    def __init__(self) -> None:
        self._folders: dict[Path, dict[str, Path]] = {}
        self.read: set[tuple[Path, str]] = set()

    def of(self, picture: Path) -> Path | None:
        """Return the label file of a picture: ``a.txt``, or ``a.jpg.txt``."""
        for place in self.places(picture.parent):
            if place not in self._folders:
                files = sorted(place.iterdir()) if place.is_dir() else []
                self._folders[place] = {spelled(file.stem): file for file in files if _is_text(file) and file.is_file()}
            names = self._folders[place]
            file = names.get(stem(picture.name)) or names.get(spelled(picture.name))
            if file is not None:
                return file
        return None

    @staticmethod
    def places(pictures: Path) -> list[Path]:
        """Return where the label files of a folder of pictures may be, the likeliest first."""
        places = []
        for path in (pictures, pictures.resolve()):
            parts = path.parts
            if "images" in parts:
                last = len(parts) - 1 - parts[::-1].index("images")
                places.append(Path(*parts[:last], "labels", *parts[last + 1 :]))
        return [*dict.fromkeys(places), pictures]


def _is_text(file: Path) -> bool:
    return file.suffix.lower() == ".txt" and not file.name.startswith(".")


def _add(found: Found, picture: Path, file: Path | None, names: dict[int, str], points: int) -> None:
    labelled, faults = Labelled(picture, file), []
    try:
        lines = read_text(file).splitlines() if file else []
    except InputError as error:
        found.faults += [error, useless(picture)]
        return
    for count, line in enumerate(lines, 1):
        try:
            if line.strip():
                box, scored = _box(line, f"line {count}", names, points)
                labelled.boxes.append(box)
                if scored:
                    note = "lines with a score, as predictions have, kept as the others"
                    found.notes[note].append(f"{file.name}, line {count}")
        except ValueError as error:
            faults.append(InputError(str(error), file=file, record=f"line {count}", mend=_MEND))
    found.add_read(labelled, faults)


def _box(line: str, record: str, names: dict[int, str], points: int) -> tuple[Box, bool]:
    """Return the object of a line, and whether a score follows it; a ValueError says what is wrong."""
    index, *values = map(number, _columns(line))
    scored = points == 0 and len(values) == 5
    count = len(values)
    if points and count in {4 + points, 4}:
        values = values[:4]
    elif points or count < 4 or (count > 5 and count % 2):
        raise ValueError(f"neither box nor polygon nor pose ({1 + count} numbers)")
    outside = [value for value in values[: 4 if scored else None] if not -_SLACK <= value <= 1 + _SLACK]
    if outside:
        raise ValueError(f"not in parts of the picture, 0 to 1 ({outside[0]:g})")
    if index not in names:
        raise ValueError(f"there is no class of this index ({index:g})")
    if len(values) > 5:
        return Box(record, names[int(index)], around(values), tuple(values)), False
    x, y, width, height = values[:4]
    return Box(record, names[int(index)], (x - width / 2, y - height / 2, x + width / 2, y + height / 2)), scored


def _columns(line: str) -> list[str]:
    """Return the columns of a line: between blanks, tabs, commas or semicolons, with a decimal point or comma."""
    columns = [column.strip(",;") for column in line.split()]
    if len(columns) >= 5 and "." not in line:
        return [column.replace(",", ".") for column in columns]
    return [column for part in columns for column in re.split("[,;]", part)]


def _tell_others(found: Found, places: list[Path], labels: _Labels) -> None:
    """Set label files aside that no picture was found for, and tell of other files."""
    folders = {folder for place in places for folder in labels.places(place) if folder.is_dir()}
    files = {_key(file): file for folder in sorted(folders, reverse=True) for file in files_below(folder)}
    for file in sorted(file for key, file in files.items() if key not in labels.read):
        if _is_text(file) and _is_label_file(file):
            found.faults.append(InputError("no picture belongs to the label file", file=file, mend="add the picture"))
        elif not is_picture(file):
            found.notes["other files, not read"].append(file.name)


def _is_label_file(file: Path) -> bool:
    """Tell a label file from ``classes.txt``, lists and notes by its first line."""
    try:
        line = next(filter(str.strip, read_text(file).splitlines()), None)
        return line is None or len([number(column) for column in _columns(line)]) > 4
    except (InputError, ValueError):
        return False
