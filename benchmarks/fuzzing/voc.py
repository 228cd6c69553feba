"""Mutated Pascal VOC folders for `regionclip data convert`: one small set a call."""

from __future__ import annotations

import random
from pathlib import Path
from xml.etree import ElementTree

from benchmarks.fuzzing.labels import check, mangled, pictures, write

NUMBERS = ("1", "5", "60", "0", "-3", "12.0", "1e3", "nan", "inf", "", " 7 ", "1_0", "9" * 400, "０", "7,5", "<x/>")
NAMES = (
    "dog",
    "hot dog",
    " cat\n",
    "",
    "__background__",
    "salt & pepper",
    "Möwe",
    "猫",
    "a" * 300,
    "<b>",
    "{x}",
    "\x07",
)
ENCODINGS = ("utf-8", "utf-8", "utf-8", "utf-16", "utf-8-sig", "latin-1", "cp1252", "utf-32", "gbk")
WHOLE = (
    "", "<annotation/>", "<project/>", "<annotation>", "<a>" * 5000,
    '<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]><annotation>&b;</annotation>',
    '<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>', "\x00", "\ufeff", "<annotation/>trailing",
)  # fmt: skip


def run(folder: Path, rng: random.Random) -> str:
    """Make one set, convert it, and look whether all of it is in the file, in the rejects or counted.

    Returns:
        ``ok``, ``set aside`` or ``refused``.
    """
    root = folder / "set"
    places = rng.choice([("JPEGImages", "Annotations")] * 8 + [("images", "annotations"), (".", "."), ("images", ".")])
    stems = pictures(root / places[0], rng)
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    sound = f"<annotation><object><name>dog</name>{box}</object></annotation>"
    write(root / places[1] / "sound.xml", sound.encode())
    for stem in stems:
        if rng.random() < 0.9:
            write(root / places[1] / f"{_renamed(stem, rng)}.xml", _content(stem, rng))
    if rng.random() < 0.2:
        write(
            root / places[1] / rng.choice(["pom.xml", "notes.txt", "x/0.xml", ".hidden.xml", "0.XML"]),
            _content("0", rng),
        )
    split = None
    if rng.random() < 0.3:
        split = "val"
        lines = [rng.choice(["{}", "{}  1", "{} -1", "{}.jpg", "JPEGImages\\{}", "no", "../{}", ""]) for _ in stems]
        text = "\r\n".join(["sound", *(line.format(stem) for line, stem in zip(lines, stems, strict=True))])
        write(root / "ImageSets/Main/val.txt", mangled(text.encode("utf-8", "replace"), rng, 0.1))
    return check("voc", root, split, _records)


def _content(stem: str, rng: random.Random) -> bytes:
    if rng.random() < 0.06:
        return rng.choice(WHOLE).encode()
    encoding = rng.choice(ENCODINGS)
    declared = rng.choice([*ENCODINGS, "rot13", "x"])
    name = rng.choice([stem, f"{stem}.jpg", f"C:\\x\\{stem}.png", f"../../{stem}.jpg", "0.jpg", "", "." * 9, "/" * 3])
    size = rng.choice(["", "<size><width>40</width><height>30</height></size>"] * 5 + [
        "<size><width>0</width></size>", "<size><width>30</width><height>40</height></size>", "<size>x</size>",
    ])  # fmt: skip
    space = rng.choice([""] * 9 + [' xmlns="http://example.org/voc"'])
    inner = "".join(_object(rng) for _ in range(rng.randrange(4)))
    text = f'<?xml version="1.0" encoding="{declared}"?><annotation{space}><filename>{name}</filename>'
    text = f"{text}{size}<segmented>0</segmented>{inner}</annotation>"
    return mangled(text.encode(encoding, "replace"), rng, 0.15)


def _object(rng: random.Random) -> str:
    name = "dog" if rng.random() < 0.7 else rng.choice(NAMES)
    left, top = rng.randint(1, 20), rng.randint(1, 15)
    corners = [str(left), str(top), str(left + rng.randint(0, 20)), str(top + rng.randint(0, 15))]
    if rng.random() < 0.2:
        corners[rng.randrange(4)] = rng.choice(NUMBERS)
    tags = ["xmin", "ymin", "xmax", "ymax"]
    box = "".join(f"<{tag}>{value}</{tag}>" for tag, value in zip(tags, corners, strict=True))
    box = rng.choice([f"<bndbox>{box}</bndbox>"] * 8 + ["", "<bndbox/>", box, f"<part><bndbox>{box}</bndbox></part>"])
    points = "".join(f"<{a}{i}>{rng.randint(0, 30)}</{a}{i}>" for i in range(rng.randrange(5)) for a in "xy")
    polygon = f"<polygon>{points}</polygon>" if rng.random() < 0.2 else ""
    return f"<object><name>{name}</name><difficult>{rng.choice('01x')}</difficult>{box}{polygon}</object>"


def _renamed(stem: str, rng: random.Random) -> str:
    return stem if rng.random() < 0.9 else rng.choice([f"{stem}.jpg", stem.upper(), f"sub/{stem}", "other", f"{stem} "])


def _records(file: Path) -> int | None:
    """Return how many objects a file has, counted by other code; None where it is not read."""
    try:
        root = ElementTree.fromstring(file.read_bytes())
    except Exception:
        return None
    return sum(child.tag.endswith("object") for child in root)
