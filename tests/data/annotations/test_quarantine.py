"""Quarantine: each kind of bad record is set aside with its reason, the rest goes on, and too many stop the stage."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from regionclip.data.annotations.annotation_files import read_boxes, sort_records
from regionclip.data.annotations.splits import quarantine_pictures
from regionclip.data.captions import decode_image
from regionclip.data.pictures import look
from regionclip.data.rejects import Rejects
from regionclip.errors import InputError

FILE = Path("instances.json")
NAN, INF = float("nan"), float("inf")


@pytest.fixture
def content() -> dict[str, Any]:
    """Three images of 40 x 30 with two boxes each, of two categories; nothing is wrong with it."""
    images = [{"id": i, "file_name": f"{i}.png", "width": 40, "height": 30} for i in (1, 2, 3)]
    boxes = [
        {"id": 10 * i + c, "image_id": i, "category_id": c, "bbox": [1.0, 2, 10, 12], "area": 120, "iscrowd": 0}
        for i in (1, 2, 3)
        for c in (1, 2)
    ]
    return {"images": images, "annotations": boxes, "categories": [{"id": c, "name": f"c{c}"} for c in (1, 2)]}


def _lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _quarantine(content: dict[str, Any], folder: Path, limit: float = 0.5) -> tuple[dict[str, Any], list[dict]]:
    with Rejects(folder / "coco_rejected.jsonl", limit) as rejects:
        kept = sort_records(content, FILE, "coco").sound(rejects)
    return kept, _lines(folder / "coco_rejected.jsonl")


def test_sound_content_is_passed_on_untouched(content: dict[str, Any], tmp_path: Path) -> None:
    content["annotations"][0] |= {"bbox": [-0.5, 0, 41, 30.9], "iscrowd": 1}
    kept, lines = _quarantine(content, tmp_path)
    assert kept == content and lines == []


BOXES = [
    ({"bbox": [1, 2, -3, 4]}, "bbox", "the box has a negative size"),
    ({"bbox": [1, 2, 3, 0]}, "bbox", "the box is empty"),
    ({"bbox": [1, 2, NAN, 4]}, "bbox", "the box holds a value that is not finite"),
    ({"bbox": [1, 2, INF, 4]}, "bbox", "the box holds a value that is not finite"),
    ({"bbox": ["1", "2", "3", "4"]}, "bbox", "the box is not a list of four numbers"),
    ({"bbox": [1, 2, 3]}, "bbox", "the box is not a list of four numbers"),
    ({"bbox": None}, "bbox", "the box is not a list of four numbers"),
    ({"bbox": [-2, 2, 3, 4]}, "bbox", "the box leaves its image"),
    ({"bbox": [1, 28, 3, 4]}, "bbox", "the box leaves its image"),
    ({"bbox": [100, 100, 3, 4]}, "bbox", "the box leaves its image"),
    ({"bbox": [-1, 2, 1, 4]}, "bbox", "the box has no pixel of its image"),
    ({"bbox": [1, 2, 10**400, 4]}, "bbox", "the box holds a value that is not finite"),
    ({"iscrowd": 7}, "iscrowd", "iscrowd is neither 0 nor 1"),
    ({"ignore": "difficult"}, "ignore", "ignore is neither 0 nor 1 ('difficult')"),
    ({"image_id": 99}, "image_id", "there is no such image"),
    ({"image_id": [1]}, "image_id", "there is no such image"),
    ({"category_id": 9}, "category_id", "there is no such category"),
    ({"image_id": True}, "image_id", "there is no such image (True)"),
    ({"id": 11}, "id", "an id occurs twice (11)"),
    ({"id": "11"}, "id", "an id occurs twice ('11')"),
    ({"id": None}, "id", "there is no id"),
    ({"id": {"a": [1]}}, "id", "there is no id"),
]


@pytest.mark.parametrize(("fault", "key", "problem"), BOXES)
def test_a_bad_box_is_set_aside(
    content: dict[str, Any], tmp_path: Path, fault: dict[str, Any], key: str, problem: str
) -> None:
    content["annotations"][3] |= fault
    kept, lines = _quarantine(content, tmp_path)
    assert [a["id"] for a in kept["annotations"]] == [11, 12, 21, 31, 32] and kept["images"] == content["images"]
    assert [(line["file"], line["record"], line["key"]) for line in lines] == [
        (str(FILE), "annotations[3]" if key == "id" else "annotation 22", key)
    ]
    assert lines[0]["reason"].startswith(problem) and lines[0]["mend"]


OUT = "the file name leads out of its folder, or no file can have it"
IMAGES = [
    ({"width": 0}, "width", "no width in whole pixels (0)"),
    ({"height": "30"}, "height", "no height in whole pixels ('30')"),
    ({"width": 10**30}, "width", "no width in whole pixels (1000000000000000000000000000000)"),
    ({"file_name": " "}, "file_name", "there is no file name (' ')"),
    ({"file_name": ["2.png"]}, "file_name", "there is no file name (['2.png'])"),
    ({"file_name": "../2.png"}, "file_name", f"{OUT} ('../2.png')"),
    ({"file_name": "/etc/2.png"}, "file_name", f"{OUT} ('/etc/2.png')"),
    ({"file_name": "2" * 300}, "file_name", f"{OUT} ({'2' * 300!r:.28}...{'2' * 28}')"),
    ({"file_name": "./1.png"}, "file_name", "an image occurs twice ('./1.png')"),
    ({"id": 1}, "id", "an id occurs twice (1)"),
]


@pytest.mark.parametrize(("fault", "key", "problem"), IMAGES)
def test_a_bad_image_goes_with_its_boxes(
    content: dict[str, Any], tmp_path: Path, fault: dict[str, Any], key: str, problem: str
) -> None:
    content["images"][1] |= fault
    kept, lines = _quarantine(content, tmp_path)
    assert [image["id"] for image in kept["images"]] == [1, 3]
    assert [a["id"] for a in kept["annotations"]] == [11, 12, 31, 32]
    orphans = "there is no such image (2)" if key == "id" else "its image was set aside"
    assert [line["reason"] for line in lines] == [problem, orphans, orphans] and lines[0]["key"] == key


def test_records_that_are_no_objects_are_told_by_their_place(content: dict[str, Any], tmp_path: Path) -> None:
    content["annotations"][1] = "box"
    kept, lines = _quarantine(content, tmp_path)
    assert len(kept["annotations"]) == 5 and lines[0]["record"] == "annotations[1]"


def test_what_is_left_passes_the_reader(content: dict[str, Any], tmp_path: Path) -> None:
    content["annotations"] += [content["annotations"][i] | fault for i, (fault, *_) in enumerate(BOXES[:4])]
    kept, _ = _quarantine(content, tmp_path)
    path = tmp_path / "kept.json"
    path.write_text(json.dumps(kept))
    assert read_boxes(path).sound() == kept and len(kept["annotations"]) == 6


def test_too_many_stop_and_the_list_stays(content: dict[str, Any], tmp_path: Path) -> None:
    for at in (0, 1):
        content["annotations"][at]["bbox"] = [1, 2, -3, 4]
    assert len(_quarantine(content, tmp_path, limit=2 / 6)[0]["annotations"]) == 4
    with pytest.raises(
        InputError, match=r"2 of 6 records .* limit of 20\.00%: 2 x the box has a negative size"
    ) as stop:
        _quarantine(content, tmp_path, limit=0.2)
    assert stop.value.file == FILE and len(_lines(tmp_path / "coco_rejected.jsonl")) == 2


def _bytes(image: Image.Image, form: str = "JPEG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def _exif_turned() -> bytes:
    image = Image.new("RGB", (30, 40))
    exif = image.getexif()
    exif[0x0112] = 6
    return _bytes(image, exif=exif)


def _png(width: int, height: int, bits: int, rows: bytes) -> bytes:
    """An RGB PNG, written by hand: Pillow writes none of 16 bits, and none that lies about its size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0)
    parts = (b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def _bomb() -> bytes:
    return _png(20_000, 20_000, 8, b"")


NOISE = Image.effect_noise((40, 30), 50)
FRAMES = [Image.new("RGB", (40, 30), colour) for colour in ("red", "blue")]
PICTURES = [
    ("PNG named .jpg", lambda: _bytes(NOISE.convert("RGB"), "PNG"), None),
    ("grayscale", lambda: _bytes(NOISE), None),
    ("CMYK", lambda: _bytes(NOISE.convert("CMYK")), None),
    ("16-bit colour", lambda: _png(40, 30, 16, b"\0" * 30 * 241), None),
    ("alpha", lambda: _bytes(Image.new("RGBA", (40, 30)), "PNG"), None),
    ("palette with transparency", lambda: _bytes(Image.new("P", (40, 30)), "PNG", transparency=0), None),
    ("EXIF-rotated", _exif_turned, None),
    ("animated GIF", lambda: _bytes(FRAMES[0], "GIF", save_all=True, append_images=FRAMES[1:]), None),
    ("animated WebP", lambda: _bytes(FRAMES[0], "WEBP", save_all=True, append_images=FRAMES[1:]), None),
    ("truncated JPEG", lambda: _bytes(NOISE)[:-200], "the image does not decode (image file is truncated"),
    ("truncated PNG", lambda: _bytes(NOISE, "PNG")[:-200], "the image does not decode ("),
    ("zero-byte file", lambda: b"", "the image does not decode (the file has no bytes)"),
    ("a web page", lambda: b"<html>404</html>", "the image does not decode (not an image of JPEG"),
    ("decompression bomb", _bomb, "the image does not decode (Image size (400000000 pixels) exceeds"),
    ("16-bit gray", lambda: _bytes(Image.new("I;16", (40, 30)), "PNG"), "the image does not decode (I;16 pixels,"),
    ("another size", lambda: _bytes(Image.new("RGB", (41, 30))), "the image has another size than its record (41 x "),
    ("absent", None, "the image file does not exist"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "make", "problem"), PICTURES, ids=[picture[0] for picture in PICTURES])
def test_each_form_of_picture_passes_or_is_set_aside(
    content: dict[str, Any], tmp_path: Path, name: str, make: Callable[[], bytes] | None, problem: str | None
) -> None:
    for image in content["images"]:
        (tmp_path / image["file_name"]).write_bytes(_bytes(NOISE))
    picture = tmp_path / "2.png"
    picture.unlink() if make is None else picture.write_bytes(make())
    with Rejects(tmp_path / "coco_rejected.jsonl", 0.5) as rejects:
        kept = quarantine_pictures(content, tmp_path, FILE).sound(rejects)
    lines = _lines(tmp_path / "coco_rejected.jsonl")
    if problem is None:
        assert kept is content and lines == [], name
        return
    assert [image["id"] for image in kept["images"]] == [1, 3]
    assert [a["id"] for a in kept["annotations"]] == [11, 12, 31, 32]
    assert (lines[0]["file"], lines[0]["record"], lines[0]["key"]) == (str(picture), "image 2", "file_name")
    assert (
        lines[0]["reason"].startswith(problem)
        and [line["reason"] for line in lines[1:]] == ["its image was set aside"] * 2
    )


@pytest.mark.parametrize(("name", "make", "problem"), PICTURES, ids=[picture[0] for picture in PICTURES])
def test_loaders_read_what_passes_and_refuse_what_is_set_aside(
    tmp_path: Path, name: str, make: Callable[[], bytes] | None, problem: str | None
) -> None:
    """Of captioned pictures too, of which the gate looks at the first ones only."""
    picture = tmp_path / "2.jpg"
    if make is not None:
        picture.write_bytes(make())
    if problem is None or name == "another size":
        assert decode_image(picture).mode == "RGB" and decode_image(picture).size == look(make())[1:3]
        return
    words = {"absent": "does not exist", "zero-byte file": "no bytes", "a web page": "not an image"}
    with pytest.raises(InputError, match=words.get(name, "the image cannot be decoded")) as stop:
        decode_image(picture)
    assert stop.value.file == picture and stop.value.mend


def test_a_bomb_takes_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused from its header: its 1.2 GB of pixels are never asked for."""
    monkeypatch.setattr(Image.core, "new", lambda *_: pytest.fail("memory for pixels was taken"))
    assert "exceeds limit" in look(_bomb()).error
