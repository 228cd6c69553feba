"""Pictures across sets: what is measured on must not be trained on elsewhere; of LVIS it is known, so a warning."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from regionclip.contracts.checkpoint import run_checks
from regionclip.contracts.shared_pictures import MOST_BITS, Pictures, shared_picture_check
from regionclip.data.image_files import look


def _pictures(source: str, split: str, sums: list[str | None], likeness: list[str | None] | None = None) -> Pictures:
    files = [f"{source}/{split}/{number}.jpg" for number in range(len(sums))]
    table = pd.DataFrame({"file": files, "id": range(len(sums)), "sha256": sums, "likeness": likeness}, dtype=object)
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


def test_a_picture_that_looks_like_a_training_picture_is_a_warning_in_its_own_set_too() -> None:
    train, val = (
        _pictures("coco", "train", ["a", "b"], ["00", "ff"]),
        _pictures("coco", "val", ["c", "d"], ["ff", None]),
    )
    assert _failed(train, val) == [("warning", "likely_leak", [("coco/val/0.jpg", "coco/train/1.jpg")])]


@given(st.integers(0, 2**32 - 1), st.integers(40, 100), st.floats(0.4, 2))
@settings(max_examples=25, deadline=None)
def test_a_scaled_and_recompressed_copy_is_alike_and_another_picture_is_not(
    seed: int, quality: int, scale: float
) -> None:
    cells = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 9, 3), np.uint8))
    picture, copy, other = cells.resize((180, 160), Image.Resampling.NEAREST), io.BytesIO(), io.BytesIO()
    original = io.BytesIO()
    picture.save(original, "PNG")
    picture.resize((round(180 * scale), round(160 * scale))).save(copy, "JPEG", quality=quality)
    picture.transpose(Image.Transpose.ROTATE_180).save(other, "PNG")
    first, second, third = (look(file.getvalue()) for file in (original, copy, other))
    bits = [bin(int(first.likeness, 16) ^ int(look_.likeness, 16)).count("1") for look_ in (second, third)]
    assert first.sha256 != second.sha256 and bits[0] <= MOST_BITS < bits[1]


def test_a_flat_picture_has_no_likeness() -> None:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), "gray").save(file, "PNG")
    assert look(file.getvalue()).likeness is None
