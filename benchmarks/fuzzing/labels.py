"""What the fuzzing of labelled folders shares: pictures, mutated bytes, and the account that must add up."""

from __future__ import annotations

import io
import json
import math
import random
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from benchmarks.fuzzing.mutation import mutated
from regionclip.errors import InputError, printable
from regionclip.workspace.convert import convert
from regionclip.workspace.labelled import is_picture

SIZE = (40, 30)


def encoded(kind: str) -> bytes:
    """Return a sound picture."""
    content = io.BytesIO()
    Image.new("RGB", SIZE, (90, 120, 30)).save(content, kind)
    return content.getvalue()


_SOUND = {kind: encoded(kind) for kind in ("JPEG", "PNG", "TIFF", "WEBP")}


def write(path: Path, content: bytes) -> None:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def pictures(folder: Path, rng: random.Random) -> list[str]:
    """Write one to four pictures, some damaged, of odd names and suffixes; return their names without suffix.

    Beside them lies a sound one, ``sound.png``, so that something is left of most sets.
    """
    write(folder / "sound.png", _SOUND["PNG"])
    stems = [
        rng.choice(["{}", "my {}", "cam/{}", "{}.a", "é{}", "\x1b[31m{}", "\udcff{}", "back\\{}"]).format(i)
        for i in range(rng.randint(1, 4))
    ]
    for stem in stems:
        kind = rng.choice(list(_SOUND))
        suffix = rng.choice([".jpg", ".jpg", ".JPG", ".jfif", ".tif", ".png", ".webp", ".xyz"])
        write(folder / f"{stem}{suffix}", mangled(_SOUND[kind], rng, 0.05))
        if rng.random() < 0.05:
            write(folder / f"{stem}.jpeg", _SOUND["JPEG"])
    return stems


def mangled(content: bytes, rng: random.Random, share: float) -> bytes:
    """Return bytes as they are, or in a ``share`` of the calls mutated."""
    return mutated(content, rng) if rng.random() < share else content


def check(form: str, root: Path, split: str | None, records: Callable[[Path], int | None]) -> str:
    """Convert a set and compare what is said of it with what is in it.

    Args:
        form: See ``convert``.
        root: The set; the output goes beside it.
        split: See ``convert``.
        records: Counts the records of a label file, None where it cannot be read.

    Raises:
        AssertionError: A box is none, or a picture or record is neither in the file nor set aside.
    """
    out = root.parent / "out.json"
    try:
        said = convert(form, root, out, split)
    except InputError as error:
        assert not out.exists(), "refused, and written all the same"
        assert error.file is not None and error.mend, f"no file or mend in: {error}"
        return "refused"
    content = json.loads(out.read_text())
    rejects = root.parent / "out_rejected.jsonl"
    aside = [json.loads(line) for line in rejects.read_text().splitlines()] if rejects.exists() else []
    assert sum(map(int, re.findall(r"^  (\d+) x", said, re.MULTILINE))) == len(aside), f"another number is said: {said}"
    start = Path(re.search(r"file names start from (.*): give", said)[1])
    _check_boxes(content, start)
    kept = {(start / image["file_name"]).resolve(): image["id"] for image in content["images"]}
    named = {str(Path(line["file"]).resolve()) for line in aside}
    counted = Counter(annotation["image_id"] for annotation in content["annotations"])
    odd = Counter(line["file"] for line in aside if line["record"])
    files = [file.resolve() for file in root.rglob("*") if file.is_file()]
    files = [Path(str(file).encode("utf-8", "backslashreplace").decode()) for file in files]
    for file in files:
        if split is None and is_picture(file):
            assert file in kept or printable(str(file)) in named, f"a picture is lost: {file}"
    twins = Counter(file.stem for file in files if is_picture(file))
    for picture, image in kept.items():
        labels = [file for file in files if file.suffix in {".xml", ".txt"} and file.stem == picture.stem]
        alone = len(labels) == 1 and printable(labels[0].name) not in said and twins[picture.stem] == 1
        count = records(labels[0]) if alone and split is None else None
        shown = printable(str(labels[0])) if labels else ""
        if count is not None and shown not in {line["file"] for line in aside if not line["record"]}:
            assert counted[image] + odd[shown] == count, f"{count} records in {labels[0]}, {said}"
    return "set aside" if aside else "ok"


def _check_boxes(content: dict, start: Path) -> None:
    sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    assert len(sizes) == len(content["images"]) and all((start / i["file_name"]).is_file() for i in content["images"])
    categories = {category["id"]: category["name"] for category in content["categories"]}
    assert len(categories) == len(content["categories"]) == len(set(categories.values()))
    for annotation in content["annotations"]:
        left, top, width, height = annotation["bbox"]
        limits = sizes[annotation["image_id"]]
        assert annotation["category_id"] in categories
        assert all(map(math.isfinite, annotation["bbox"])) and min(width, height, annotation["area"]) > 0
        assert min(left, top) >= 0 and left + width <= limits[0] + 0.02 and top + height <= limits[1] + 0.02
