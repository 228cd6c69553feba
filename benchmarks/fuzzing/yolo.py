"""Mutated YOLO folders for `regionclip data convert`: one small set a call."""

from __future__ import annotations

import random
from pathlib import Path

from benchmarks.fuzzing.labels import check, mangled, pictures, write

NUMBERS = (
    "0.5",
    "0.2",
    "1",
    "0",
    "-0.1",
    "1.005",
    "1.3",
    "nan",
    "inf",
    "1e-9",
    "1e999",
    "0,5",
    "",
    "x",
    "５",
    "0x1",
    "1_0",
)
NAMES = (
    "[cat, dog]", "[on, off]", "{{0: cat, 1: dog}}", "{{1: dog}}", "{{cat: 0}}", "[cat, cat]", "cat", "classes.txt",
    "", "[]", "[null, ~, 1]", "[[a]]", "[cat, '']", "{{0: [a]}}", '["\\ud83d"]', "&a [*a]", "{{-1: a}}", "[Möwe, 猫]",
    "!!python/name:os.system [a]",
)  # fmt: skip
PLACES = (
    "images", "./images", "../images", "[images]", "[images, images]", "list.txt", "{folder}/images", "images\\\\",
    "no", "", "[]", "{{a: b}}", "/etc", "..", ".", "'C:\\x\\images'", "labels", "data.yaml", "[images, list.txt]",
    "a" * 300, "'\\0'",
)  # fmt: skip
PATHS = (
    "",
    "path: .\n",
    "path: {folder}\n",
    "path: no\n",
    "path: ..\n",
    "path: [a]\n",
    "path: /nowhere/set\n",
    "nc: 7\n",
    "kpt_shape: [1, 2]\n",
)
LINES = (
    "images/{}.jpg",
    "./images/{}.jpg",
    "images\\{}.jpg",
    "{}.jpg",
    "/x/set/images/{}.jpg",
    "data/images/{}.jpg",
    "",
    "no",
    "../../etc/{}",
)


def run(folder: Path, rng: random.Random) -> str:
    """Make one set, convert it, and look whether all of it is in the file, in the rejects or counted.

    Returns:
        ``ok``, ``set aside`` or ``refused``.
    """
    root = folder / "set"
    labels = rng.choice(["labels"] * 5 + ["images", "other"])
    stems = pictures(root / "images", rng)
    write(root / labels / "sound.txt", b"0 0.5 0.5 0.3 0.4\n")
    for stem in stems:
        if rng.random() < 0.9:
            write(root / labels / f"{_renamed(stem, rng)}.txt", _content(rng))
    if rng.random() < 0.3:
        name = rng.choice(["classes.txt", "notes.json", "0.txt~", ".0.txt", "lost.txt", "train.cache", "0.TXT"])
        write(root / labels / name, _content(rng))
    lines = [rng.choice(LINES).format(stem) for stem in [*stems, *stems]]
    write(root / "list.txt", mangled("\r\n".join(lines).encode("utf-8", "replace"), rng, 0.1))
    write(root / rng.choice(["classes.txt", "obj.names"]), b"cat\ndog\n")
    plain = rng.random() < 0.6
    names, place = ("[cat, dog]", "images") if plain else (rng.choice(NAMES), rng.choice(PLACES))
    more = "" if plain else rng.choice(PATHS)
    text = f"{more}train: {place}\nnames: {names}\n".format(folder=root.absolute())
    about = "data.yaml" if rng.random() < 0.9 else rng.choice(["a.yml", "obj.data", "nothing"])
    if about == "obj.data":
        lists, classes = rng.choice(["data/list.txt", "list.txt"]), rng.choice(["obj.names", "classes.txt"])
        text = f"classes = 2\ntrain = {lists}\nnames = data/{classes}"
    text = text.encode(rng.choice(["utf-8"] * 5 + ["utf-16", "utf-8-sig", "cp1252"]), "replace")
    write(root / about, mangled(text, rng, 0.0 if plain else 0.2))
    # Only of a plain set it is known which pictures are asked for.
    return check("yolo", root, None if plain and about == "data.yaml" else "train", _records)


def _content(rng: random.Random) -> bytes:
    text = rng.choice(["\n", "\r\n", "\n\n"]).join(_line(rng) for _ in range(rng.randrange(5)))
    encoding = rng.choice(["utf-8"] * 6 + ["utf-16", "utf-8-sig", "utf-16-le"])
    return mangled(text.encode(encoding), rng, 0.1)


def _line(rng: random.Random) -> str:
    index = "0" if rng.random() < 0.8 else rng.choice(["1", "1.0", "7", "-1", "cat", "0.5", "1e300", ""])
    values = [f"{rng.uniform(0.3, 0.7):.6f}", f"{rng.uniform(0.3, 0.7):.6f}", "0.2", f"{rng.uniform(0, 0.5):.3f}"]
    if rng.random() < 0.3:
        values += [f"{rng.random():.3f}" for _ in range(rng.randrange(8))]
    if rng.random() < 0.2:
        values[rng.randrange(len(values))] = rng.choice(NUMBERS)
    if rng.random() < 0.05:
        values = values[: rng.randrange(len(values))]
    return rng.choice([" "] * 6 + ["\t", ", ", ",", ";"]).join([index, *values])


def _renamed(stem: str, rng: random.Random) -> str:
    return stem if rng.random() < 0.9 else rng.choice([f"{stem}.jpg", stem.upper(), f"sub/{stem}", "other", f"{stem} "])


def _records(file: Path) -> int | None:
    """Return how many lines a file has, counted by other code; None where it is not read."""
    try:
        lines = file.read_bytes().decode("ascii").splitlines()
    except ValueError:
        return None
    return sum(bool(line.strip()) for line in lines) if all(line.isprintable() for line in lines) else None
