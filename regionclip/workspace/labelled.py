"""What the readers of folders share: pictures, their boxes as the label files give them, and what is wrong."""

from __future__ import annotations

import math
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from regionclip.data.annotations.masks import Rle
from regionclip.errors import InputError

_PICTURE = re.compile(
    r"\.(jpe?g|jpe|jfif|a?png|webp|gif|bmp|dib|tiff?|mpo|avif|hei[cf]|jp2|jxl|p[pgbn]m|tga|ico|dng|qoi)", re.IGNORECASE
)
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.IGNORECASE | re.ASCII)


class Box(NamedTuple):
    """An object as a label file gives it.

    Attributes:
        record: Which one of the file, for messages.
        category: Name of its class.
        corners: Left, top, right, bottom; see `Found.relative`.
        polygon: x and y of each point in turn, or None.
        mask: What is seen of it, in place of a polygon, or None.
        crowd: It is a group of objects.
    """

    record: str
    category: str
    corners: tuple[float, float, float, float]
    polygon: tuple[float, ...] | None = None
    mask: Rle | None = None
    crowd: bool = False


@dataclass
class Labelled:
    """A picture, its label file (None: it has none), the boxes of it, and the size that it says the picture has."""

    picture: Path
    file: Path | None = None
    boxes: list[Box] = field(default_factory=list)
    size: tuple[float, float] | None = None


@dataclass
class Found:
    """What a folder holds.

    Attributes:
        root: The folder that the pictures' names start from.
        pictures: Those whose label file could be read.
        categories: Class -> id.
        relative: Boxes are in parts of the picture's width and height; else in pixels from the picture's corner.
        faults: What is set aside.
        notes: What the user should know -> the files or records concerned.
    """

    root: Path
    relative: bool
    pictures: list[Labelled] = field(default_factory=list)
    categories: dict[str, int] = field(default_factory=dict)
    faults: list[InputError] = field(default_factory=list)
    notes: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add_read(self, labelled: Labelled, faults: list[InputError]) -> None:
        """Take a picture whose label file was read, with the faults in it.

        A picture none of whose boxes is sound is set aside as well: kept, it would say that there is nothing on it.
        """
        self.faults += faults
        if faults and not labelled.boxes:
            self.faults.append(useless(labelled.picture))
        else:
            self.pictures.append(labelled)


def useless(picture: Path) -> InputError:
    """Return why a picture is set aside with what its label file says of it."""
    problem = "left out with what its label file says, for without boxes it would pass for background"
    return InputError(problem, file=picture, mend="mend its label file")


def files_below(folder: Path) -> list[Path]:
    """Return all files of a folder and of those in it, sorted; links are followed, each folder is entered once.

    Raises:
        InputError: One of the folders cannot be read.
    """

    def refuse(error: OSError) -> None:
        problem = f"the folder cannot be read ({error.strerror})"
        raise InputError(problem, file=error.filename, mend="mend its rights, or take it out")

    found, seen = [], set()
    for place, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        real = Path(place).resolve()
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        found += [Path(place, name) for name in names]
    return sorted(found)


def is_picture(file: Path) -> bool:
    """Whether a file is a picture by its name; macOS writes hidden ``._NAME.jpg`` that are none."""
    return bool(_PICTURE.fullmatch(file.suffix)) and not file.name.startswith(".")


def spelled(name: str) -> str:
    """Return a name with its accents in one spelling: macOS and Windows write them in two."""
    return unicodedata.normalize("NFC", name)


def stem(name: str) -> str:
    """Return the name of a picture without its suffix, spelled as `spelled` does."""
    return spelled(Path(name).stem if _PICTURE.fullmatch(Path(name).suffix) else name)


def number(text: str | None) -> float:
    """Return a decimal number.

    Raises:
        ValueError: The text is none, such as ``nan``, ``1e999``, ``1_000`` or nothing.
    """
    text = (text or "").strip()
    if not _NUMBER.fullmatch(text) or math.isinf(float(text)):
        raise ValueError(f"a value is no number ('{text[:40]}')")
    return float(text)


def around(points: Iterable[float]) -> tuple[float, float, float, float]:
    """Return the box around a polygon."""
    points = list(points)
    return min(points[::2]), min(points[1::2]), max(points[::2]), max(points[1::2])
