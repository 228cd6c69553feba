"""Mutated Cityscapes folders for `regionclip data convert`: one small set a call."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

from benchmarks.fuzzing.labels import SIZE, check, encoded, mangled, write

LABELS = ("car", "person", "cargroup", "road", "license plate", "group", "skygroup", "", "Möwe", "\x1b[31m", 7, None)
VALUES = (-5, 0, 7.5, "7", None, True, [], 1e999, float("nan"), 10**400, 99999)
KEYS = ("imgWidth", "imgHeight", "objects")


def run(folder: Path, rng: random.Random) -> str:
    """Make one set, convert it, and look whether all of it is in the file, in the rejects or counted.

    Returns:
        ``ok``, ``set aside`` or ``refused``.
    """
    root = folder / "set"
    form, kind, fog = rng.choice(
        [("cityscapes", "leftImg8bit", ""), ("foggy_cityscapes", "leftImg8bit_foggy", "_beta_0.02")]
    )
    car = {"label": "car", "polygon": [[1, 1], [9, 1], [9, 9]]}
    _write(root, kind, fog, "ulm/sound", json.dumps(dict(zip(KEYS, [*SIZE, [car]], strict=True))).encode())
    count = 1
    for i in range(rng.randint(1, 4)):
        name = rng.choice(["ulm/{}", "é/{}", "bad\udcff/{}", "{}", "a/b/{}"]).format(f"ulm_{i}")
        content = dict(zip(KEYS, [*SIZE, [_object(rng) for _ in range(rng.randrange(6))]], strict=True))
        if rng.random() < 0.1:
            content[rng.choice(KEYS)] = rng.choice(VALUES)
        text = mangled(json.dumps(content).encode(), rng, 0.15)
        labels, picture = _write(root, kind, fog, name, text)
        write(picture, mangled(picture.read_bytes(), rng, 0.05))
        lost = rng.choice([None] * 8 + [labels, picture])
        if lost:
            lost.unlink()
        else:
            count += _count(labels)
    outcome = check(form, root, None, lambda _: None)
    if outcome != "refused":
        _check_account(folder, form, root, count)
    return outcome


def _write(root: Path, kind: str, fog: str, name: str, text: bytes) -> tuple[Path, Path]:
    labels, picture = root / f"gtFine/train/{name}_gtFine_polygons.json", root / f"{kind}/train/{name}_{kind}{fog}.png"
    write(labels, text)
    write(picture, encoded("PNG"))
    return labels, picture


def _object(rng: random.Random) -> object:
    points = [[rng.randint(-3, SIZE[0] + 3), rng.randint(-3, SIZE[1] + 3)] for _ in range(rng.choice([3, 4, 5, 9]))]
    if rng.random() < 0.1:
        points[0] = rng.choice([[], [1], [rng.choice(VALUES), 1], None])
    if rng.random() < 0.1:
        points = [[0, 0], [SIZE[0], 0], [*SIZE], [0, SIZE[1]]]  # hides what came before
    polygon = points if rng.random() < 0.95 else rng.choice([points[:2], [], *VALUES])
    label = "car" if rng.random() < 0.5 else rng.choice(LABELS)
    return {"label": label, "polygon": polygon} if rng.random() < 0.97 else rng.choice([{}, [], *VALUES])


def _count(labels: Path) -> int:
    """Return how many objects a file has, counted by other code; 0 where it is not read."""
    try:
        content = json.loads(labels.read_bytes())
        sides = [content[key] for key in KEYS[:2]]
        read = all(type(side) is int and 0 < side <= 8192 for side in sides) and isinstance(content["objects"], list)
        return len(content["objects"]) if read else 0
    except Exception:
        return 0


def _check_account(folder: Path, form: str, root: Path, objects: int) -> None:
    from regionclip.workspace.convert import convert

    said = convert(form, root, folder / "out.json")
    rejects = folder / "out_rejected.jsonl"
    aside = [json.loads(line) for line in rejects.read_text().splitlines()] if rejects.exists() else []
    counted = sum(line["record"] is not None for line in aside)
    counted += len(json.loads((folder / "out.json").read_text())["annotations"])
    lines = [line for line in said.splitlines() if line.startswith("to know:")]
    counted += sum(int(n) for line in lines for n in re.findall(r"^to know: (\d+) x (?:objects|boxes set)", line))
    others = [line for line in lines if "of other labels" in line]
    counted += sum(int(n) for line in others for n in re.findall(r"(?:: |, )(\d+) x ", line))
    assert counted == objects, f"{objects} objects, {counted} counted: {said}"
