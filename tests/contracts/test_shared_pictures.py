"""Pictures across sets: what is measured on must not be trained on elsewhere; of LVIS it is known, so a warning."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from regionclip.contracts.gate import run_checks
from regionclip.contracts.pictures import MOST_GRAY, Pictures, shared_picture_check
from regionclip.data.pictures import look


def _pictures(
    source: str, split: str, sums: Sequence[str | None], likeness: list[str | None] | None = None
) -> Pictures:
    files = [f"{source}/{split}/{number}.jpg" for number in range(len(sums))]
    table = pd.DataFrame(
        {"file": files, "id": range(len(sums)), "sha256": list(sums), "likeness": likeness}, dtype=object
    )
    return Pictures(source, split, table, trained=split == "train")


def _failed(*pictures: Pictures, known: frozenset[str] = frozenset()) -> list[tuple[str, str, list[tuple[str, str]]]]:
    results = run_checks([shared_picture_check(list(pictures), known=known)])
    return [
        (r["severity"], r["column"], [(row["file"], row[r["column"]]) for row in r["records"]])
        for r in results
        if not r["success"]
    ]


def test_sets_that_share_no_picture_pass() -> None:
    assert _failed(_pictures("scenes", "train", ["a", "b", None]), _pictures("coco", "val", ["c", None])) == []


def test_a_measured_picture_among_the_captioned_ones_is_an_error() -> None:
    found = _failed(_pictures("scenes", "train", ["a", "b"]), _pictures("coco", "val", ["c", "b"]))
    assert found == [("error", "leak", [("coco/val/1.jpg", "scenes/train/1.jpg")])]


def test_training_pictures_may_be_in_several_sets() -> None:
    assert _failed(_pictures("scenes", "train", ["a"]), _pictures("coco", "train", ["a"])) == []
    assert (
        _failed(_pictures("coco", "val", ["a"]), _pictures("lvis", "val", ["a"]), _pictures("coco", "train", [])) == []
    )


def test_of_a_set_that_is_known_for_it_it_is_a_warning() -> None:
    pictures = _pictures("coco", "train", ["a"]), _pictures("lvis", "val", ["a"]), _pictures("coco", "val", ["x"])
    assert _failed(*pictures, known=frozenset({"lvis"})) == [
        ("warning", "known_leak", [("lvis/val/0.jpg", "coco/train/0.jpg")])
    ]


def _saved(image: Image.Image, form: str = "PNG", **options: int) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


@pytest.mark.parametrize(("quality", "scale"), [(60, 1.0), (95, 0.5), (80, 0.75), (80, 1.5), (95, 2.0)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_copy_of_a_training_picture_is_a_warning_in_its_own_set_too(seed: int, quality: int, scale: float) -> None:
    cells = np.random.default_rng(seed).permutation(72).reshape(8, 9) * 3
    picture = Image.fromarray(cells.astype(np.uint8)).resize((180, 160), Image.Resampling.NEAREST)
    copy = _saved(picture.resize((round(180 * scale), round(160 * scale))), "JPEG", quality=quality)
    other = _saved(picture.transpose(Image.Transpose.ROTATE_180))
    likeness = [look(content).likeness for content in (_saved(picture), copy, other)]
    train, val = (
        _pictures("coco", "train", ["a", None], [likeness[0], None]),
        _pictures("coco", "val", "bc", likeness[1:]),
    )
    assert _failed(train, val) == [("warning", "likely_leak", [("coco/val/0.jpg", "coco/train/0.jpg")])]
    assert _failed(train, _pictures("coco", "val", ["a", None], [likeness[0], None])) == [], (
        "the same bytes are no copy"
    )


def test_pictures_that_differ_in_one_cell_are_not_alike() -> None:
    cells = np.arange(0, 216, 3, np.uint8)
    changed = cells.copy()
    changed[10] += MOST_GRAY + 1
    hexes = [values.tobytes().hex() for values in (cells, changed)]
    assert _failed(_pictures("coco", "train", ["a"], hexes[:1]), _pictures("coco", "val", ["b"], hexes[1:])) == []


def test_a_flat_picture_has_no_likeness() -> None:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), "gray").save(file, "PNG")
    assert look(file.getvalue()).likeness is None
