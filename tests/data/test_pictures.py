"""The one opener: the gate, the loaders and the API see one picture, of listed formats only; names stay inside."""

from __future__ import annotations

import os
import random
import struct
from collections import Counter
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from benchmarks.fuzzing.pictures import agreed, run, samples
from regionclip.data.pictures import (
    ImageSpan,
    Looked,
    decode_image,
    header_size,
    inside,
    load_seen,
    look,
    look_at_files,
    save_seen,
    to_bgr,
)
from regionclip.errors import InputError

RGB = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [10, 20, 30]]], np.uint8)


def _encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    file = BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


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


def test_channels_are_turned_round() -> None:
    """Red is last, in an array, a Pillow image, and bytes."""
    for picture in (RGB, Image.fromarray(RGB), _encoded(Image.fromarray(RGB))):
        np.testing.assert_array_equal(to_bgr(picture), RGB[..., ::-1])


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_camera_orientation_is_followed_alike(tmp_path: Path, form: str, turn: int) -> None:
    """By the look, from the header, and by each reader, as Pillow's own ``exif_transpose`` turns it."""
    image = Image.effect_noise((20, 12), 50).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = turn
    content = _encoded(image, form, exif=exif)
    file = tmp_path / "a.jpg"
    file.write_bytes(content)
    wanted = ImageOps.exif_transpose(Image.open(file)).convert("RGB")
    assert wanted.size == (look(content)[1:3]) == header_size(file) == ((20, 12) if turn < 5 else (12, 20))
    np.testing.assert_array_equal(np.asarray(decode_image(file)), np.asarray(wanted))
    for picture in (content, Image.open(file)):
        np.testing.assert_array_equal(to_bgr(picture), np.asarray(wanted)[..., ::-1])


@pytest.mark.parametrize(
    ("tag", "kind", "count", "value"),
    [
        (0x011A, 10, 1, struct.pack("<ll", -1, 1)),  # a resolution below zero
        (0x011A, 2, 6, b"72/1\0\0"),  # one that is text
        (0x011A, 5, 1, b""),  # one that lies behind the end
        (0x9286, 2, 2**31, b"x"),  # a comment of two gigabytes
        (0x8769, 4, 1, b"\xff\xff\xff\xff"),  # a directory that is not there
    ],
)
def test_odd_tags_beside_the_orientation_do_not_matter(tag: int, kind: int, count: int, value: bytes) -> None:
    """Pillow cannot write such tags again, which its own turning does."""
    entries = struct.pack("<HHLL", 0x0112, 3, 1, 6) + struct.pack("<HHLL", tag, kind, count, 38)
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 2) + entries + struct.pack("<L", 0) + value
    content = _encoded(Image.effect_noise((60, 40), 50).convert("RGB"), "JPEG", exif=exif)
    assert look(content)[:3] == (None, 40, 60)
    assert decode_image(content).size == (40, 60) and to_bgr(content).shape == (60, 40, 3)


def test_damaged_exif_turns_nothing() -> None:
    content = _encoded(Image.fromarray(RGB), "JPEG", exif=b"Exif\0\0no directory")
    assert look(content)[:3] == (None, 2, 2) and to_bgr(content).shape == (2, 2, 3)


def test_no_other_format_is_read_and_no_program_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow hands PostScript to the Ghostscript of the PATH."""
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    contents = {name.split()[0]: content for name, content in samples().items()}
    for name in ("PostScript", "PPM", "QOI", "AVIF", "ICO", "JPEG2000"):
        (tmp_path / "a.jpg").write_bytes(contents[name])
        assert look(contents[name]).error == "not an image of JPEG, PNG, WEBP, GIF, BMP or TIFF"
        for picture in (contents[name], tmp_path / "a.jpg"):
            with pytest.raises(InputError, match="not an image"):
                to_bgr(picture)
    assert not (tmp_path / "started").exists()


def test_pictures_of_phones_with_a_second_one_inside_are_jpegs() -> None:
    content = samples()["MPO 0"]
    assert Image.open(BytesIO(content)).format == "MPO"
    assert look(content)[:3] == (None, 40, 30) and decode_image(content).size == (40, 30)


def test_more_pixels_than_the_limit_are_refused_from_the_header(recwarn: pytest.WarningsRecorder) -> None:
    """A file of 50 kilobytes; below Pillow's own limit, and at the project's."""
    content = _encoded(Image.new("1", (10_000, 5_001)))
    assert look(content).error == "10000 x 5001 pixels, more than 50,000,000" and not recwarn.list
    with pytest.raises(InputError, match="more than 50,000,000"):
        to_bgr(Image.open(BytesIO(content)))


@pytest.mark.parametrize(
    "array", [RGB.astype(float), RGB[..., 0], np.zeros((2, 2, 4), np.uint8), np.zeros((0, 2, 3), np.uint8)]
)
def test_array_of_another_form_is_refused(array: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"wanted uint8 \(H, W, 3\)"):
        to_bgr(array)


@pytest.mark.parametrize("picture", [7, None, [1, 2], bytearray(b"x"), b"", "no.png", "a\0.png", "x" * 300, "."])
def test_what_is_no_picture_is_named(picture: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="To mend"):
        to_bgr(picture)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    assert look_at_files([tmp_path / "a.jpg"]) == [Looked(None, None, None, None)]
    with pytest.raises(InputError, match="no file"):
        decode_image(tmp_path / "a.jpg")


def test_files_that_cannot_be_looked_at_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that no file can have, a file that is larger than any picture, and a place behind the end of a shard."""
    monkeypatch.setattr("regionclip.data.pictures.MOST_BYTES", 10)
    (tmp_path / "a.jpg").write_bytes(bytes(11))
    long, large = look_at_files([tmp_path / ("x" * 300), tmp_path / "a.jpg"])
    assert long == Looked(None, None, None, None) and large.error == "a file of 11 bytes, more than 10"
    assert look(ImageSpan(tmp_path / "a.jpg", 20, 5)).error == "the file has no bytes"
    assert look(ImageSpan(tmp_path / "no.tar", 0, 5)).error == "No such file or directory"


def test_damaged_pictures_are_seen_alike_by_all(tmp_path: Path) -> None:
    """The fuzz of benchmarks/fuzzing, a few hundred times."""
    found = Counter(run(tmp_path, random.Random(seed)) for seed in range(300))
    assert found.keys() == {"ok", "refused"} and min(found.values()) > 30


def test_every_form_is_read_or_refused_with_its_reason(tmp_path: Path) -> None:
    found = {name: agreed(content, tmp_path / "a") for name, content in samples().items()}
    refused = {name for name, verdict in found.items() if verdict == "refused"}
    deep = {"PNG 3", "TIFF 2", "TIFF 3", "TIFF 6"}  # 16-bit gray, floats, LAB
    assert refused == deep | {"PPM 0", "QOI 0", "AVIF 0", "ICO 0", "JPEG2000 0", "PostScript"}
