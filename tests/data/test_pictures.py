"""Looking at image files: what was seen is kept by its bytes, and a picture of a smooth ramp is like no other."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from regionclip.data.pictures import Looked, inside, load_seen, look, look_at_files, save_seen
from regionclip.errors import InputError


def _saved(pixels: np.ndarray) -> bytes:
    file = BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def test_what_was_seen_comes_back_from_its_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    content = {"a.png": _saved(rng.integers(0, 256, (16, 18, 3))), "b.png": b"no picture", "c.png": b""}
    paths = [tmp_path / name for name in (*content, "absent.png")]
    for name, data in content.items():
        (tmp_path / name).write_bytes(data)
    seen: dict[Path, Looked] = {}
    found = look_at_files(paths, seen=seen)
    assert list(seen.values()) == found and [looked.error is None for looked in found] == [True, False, False, True]
    for copy in ("first.arrow", "second.arrow"):
        save_seen(tmp_path / copy, seen)
    assert load_seen([tmp_path / "first.arrow", tmp_path / "no.arrow"]) == seen
    assert (tmp_path / "first.arrow").read_bytes() == (tmp_path / "second.arrow").read_bytes()


def test_what_was_seen_counts_for_the_same_bytes_only() -> None:
    content = _saved(np.full((9, 9, 3), 7))
    whole = look(content)
    told = Looked("told", 1, 2, whole.sha256)
    assert look(content, told) is told
    assert look(content, told._replace(sha256="0" * 64)) == whole and whole[:3] == (None, 9, 9)


@pytest.mark.parametrize("slope", [(1.0, 0.0), (0.0, -1.0), (0.5, 0.7)])
def test_a_smooth_ramp_has_no_likeness(slope: tuple[float, float]) -> None:
    """Its cells are those of any other ramp: only what stands out of it tells pictures apart."""
    rows, columns = np.mgrid[:160, :180]
    ramp = 120 + 0.5 * (slope[0] * columns + slope[1] * rows) - 20
    assert look(_saved(ramp)).likeness is None
    ramp[40:120, 20:100] = 250
    assert look(_saved(ramp)).likeness is not None


@pytest.mark.parametrize(
    "name", ["a.jpg", "./a.jpg", "sub/a b.jpg", "sub//a..jpg", "ä/é" + "x" * 240, "...", "a:b.jpg"[1:]]
)
def test_names_of_the_folder_are_taken(name: str) -> None:
    assert inside(Path("pictures"), name) == Path("pictures") / name


@pytest.mark.parametrize(
    "name",
    ["../a.jpg", "sub/../../a.jpg", "..", "a/..", "/etc/passwd", "//host/a.jpg", "C:/a.jpg", "c:a.jpg", "..\\a.jpg"]
    + [
        "sub\\a.jpg",
        "\\\\host\\a",
        "a\0.jpg",
        "x" * 256,
        "ä" * 128,
        "x/" * 2100 + "a",
        "\ud83d.jpg",
        "",
        " ",
        "/",
        None,
        7,
    ],
)
def test_names_that_lead_out_or_that_no_file_has_are_refused(name: object) -> None:
    with pytest.raises(InputError):
        inside(Path("pictures"), name)


@given(st.text(st.sampled_from("./\\:aC \0\ud800ä")) | st.text())
def test_whatever_the_name_it_stays_inside_or_is_refused(name: str) -> None:
    folder = Path("/pictures")
    try:
        place = inside(folder, name)
    except InputError:
        return
    assert Path(os.path.normpath(place)).is_relative_to(folder)
    place.exists()  # the system takes it


def test_links_of_the_user_are_followed(tmp_path: Path) -> None:
    for folder in ("elsewhere", "pictures"):
        (tmp_path / folder).mkdir()
    (tmp_path / "elsewhere/a.jpg").write_bytes(b"x")
    (tmp_path / "pictures/more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "link").symlink_to(tmp_path / "pictures")
    assert inside(tmp_path / "link", "more/a.jpg").read_bytes() == b"x"
