"""Whatever a record holds, it is read, set aside by name or refused; each image is once, with all its captions."""

from __future__ import annotations

import io
import json
import random
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from benchmarks.fuzzing import captions as fuzzing
from regionclip.data.captions import CaptionTable, open_captioned_images, write_caption_source
from regionclip.data.rejects import Rejects
from regionclip.errors import InputError
from regionclip.params.data import CaptionFiles

IMAGE = {"id": 1, "file_name": "a.jpg"}
CAPTION = {"image_id": 1, "caption": "a cat"}
SENTENCES = {"filename": "a.jpg", "split": "train", "sentences": [{"raw": "a cat"}]}
LINE = {"image": "a.jpg", "caption": "a cat"}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with the pictures a.jpg and b.jpg."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("a.jpg", "b.jpg"):
        Image.new("RGB", (8, 8)).save(folder / name)
    return folder


def _read(file: Path, images: Path) -> tuple[dict[str, tuple[str, ...]], list[dict[str, Any]]]:
    """Return the captions by key and the lines of the rejects."""
    out = file.parent / "x_rejected.jsonl"
    with Rejects(out, 1.0) as rejects:
        table = open_captioned_images(file, images, rejects).table()
    lines = out.read_text(encoding="utf-8").splitlines() if out.exists() else []
    return _captions(table), [json.loads(line) for line in lines]


def _captions(table: CaptionTable) -> dict[str, tuple[str, ...]]:
    records = [table[row] for row in range(len(table))]
    return {record.key: record.captions for record in records}


def _written(file: Path, content: Any) -> Path:
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("image", "caption", "reasons"),
    [
        ({"id": [1], "file_name": "a.jpg"}, None, ["the id is neither an integer nor a short text"]),
        ({"id": 10**30, "file_name": "a.jpg"}, None, ["the id is neither an integer nor a short text"]),
        ({"id": True, "file_name": "a.jpg"}, None, ["the id is neither an integer nor a short text"]),
        ({"id": "x" * 256, "file_name": "a.jpg"}, None, ["the id is neither an integer nor a short text"]),
        ({"id": 2, "file_name": 3}, None, ["the value is not text"]),
        ({"id": 2}, {"image_id": 2, "caption": "x"}, ["the key is missing", "its image is not among the images (2)"]),
        ("b.jpg", {"image_id": {}, "caption": "x"}, ["the key is missing", "the id is neither"]),
        ({"id": 2, "file_name": "../a.jpg"}, {"image_id": 2, "caption": "x"}, ["the file name leads out"]),
        ({"id": 2, "file_name": "a" * 300}, {"image_id": 2, "caption": "x"}, ["no file can have the name"]),
        ({"id": 2, "file_name": "b.jpg"}, {"image_id": 2, "caption": "half \ud83d"}, ["the caption was not UTF-8"]),
        ({"id": 2, "file_name": "b.jpg"}, {"image_id": 2, "caption": {"raw": "x"}}, ["a caption is not text"]),
    ],
)
def test_odd_records_of_coco_are_set_aside(
    tmp_path: Path, images: Path, image: Any, caption: Any, reasons: list[str]
) -> None:
    content = {"images": [IMAGE, image], "annotations": [CAPTION] + ([caption] if caption else [])}
    file = _written(tmp_path / "c.json", content)
    found, lines = _read(file, images)
    assert found == {"1": ("a cat",)}
    assert all(line["file"] == str(file) and line["record"] and line["key"] and line["mend"] for line in lines)
    assert all(line["reason"].startswith(reason) for line, reason in zip(lines, reasons, strict=True))
    with pytest.raises(InputError, match=r"c\.json.*To mend"):
        assert not open_captioned_images(file, images).table()


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ({"filename": 1}, "filename"),
        ({"filename": "/etc/passwd"}, "filename"),
        ({"filepath": 5}, "filepath"),
        ({"filepath": ".."}, "filename"),
        ({"sentences": 5}, "sentences"),
        ({"sentences": [5]}, "raw"),
        ({"sentences": [{"raw": 5}]}, "sentences"),
        ({"split": ["train"]}, "split"),
    ],
)
def test_odd_records_of_karpathy_are_set_aside(tmp_path: Path, images: Path, more: dict[str, Any], key: str) -> None:
    file = _written(tmp_path / "k.json", {"images": [SENTENCES, {**SENTENCES, **more}, 5]})
    found, lines = _read(file, images)
    assert found == {"a.jpg": ("a cat",)}
    assert [(line["record"], line["key"]) for line in lines] == [("images[1]", key), ("images[2]", "split")]


@pytest.mark.parametrize(
    "line",
    [
        "[" * 100_000,
        json.dumps(LINE)[:-1] + ', "n": ' + "9" * 5000 + "}",
        json.dumps({**LINE, "image": "a" * 300}),
        json.dumps({**LINE, "image": "../images/a.jpg"}),
        json.dumps({**LINE, "image": "\ud800.jpg"}),
        json.dumps({**LINE, "image": 5}),
        '{"image": "a.jpg", "caption": "a cat", "caption": "a dog"}',
    ],
)
def test_odd_lines_are_set_aside(tmp_path: Path, images: Path, line: str) -> None:
    other = json.dumps({**LINE, "image": "b.jpg"})
    found, lines = _read(_written(tmp_path / "c.jsonl", f"{json.dumps(LINE)}\n{line}\n{other}\n"), images)
    assert found == {"a.jpg": ("a cat",), "b.jpg": ("a cat",)}
    assert [one["record"] for one in lines] == ["line 2"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
def test_lines_are_read_in_every_encoding_of_windows(tmp_path: Path, images: Path, encoding: str) -> None:
    lines = [
        {"image": "a.jpg", "caption": "a caf\xe9"},
        {"image": "b.jpg", "caption": "\u201ca\u201d"},
    ]
    text = "\r\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    (tmp_path / "c.jsonl").write_bytes(text.encode(encoding))
    assert _read(tmp_path / "c.jsonl", images) == ({"a.jpg": ("a caf\xe9",), "b.jpg": ("\u201ca\u201d",)}, [])


def test_captions_of_one_image_on_many_lines_are_joined(tmp_path: Path, images: Path) -> None:
    """In the order of first lines, wherever the others stand; the stage `data` counts images, not lines."""
    lines = [{"image": f"{'ab'[i % 2]}.jpg", "caption": f"text {i}"} for i in range(5)]
    file = _written(tmp_path / "c.jsonl", "\n".join(map(json.dumps, lines)))
    found, aside = _read(file, images)
    assert list(found.items()) == [("a.jpg", ("text 0", "text 2", "text 4")), ("b.jpg", ("text 1", "text 3"))]
    assert not aside and len(list(open_captioned_images(file, images))) == 5
    with Rejects(tmp_path / "y_rejected.jsonl", 0.0) as rejects:
        counts = write_caption_source(tmp_path, CaptionFiles(file=str(file), images=str(images)), rejects)
    assert counts == {"images": 2, "captions": 5, "rejected": 0}


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=30))
@settings(max_examples=50)
def test_joining_loses_no_caption_and_keeps_their_order(tmp_path: Path, rows: list[tuple[int, int]]) -> None:
    """Against a dictionary: any images in any order, each line with some captions."""
    lines = [
        {"image": f"{image}", "captions": [f"{line}.{number}" for number in range(count)]}
        for line, (image, count) in enumerate(rows)
    ]
    wanted: dict[str, tuple[str, ...]] = {}
    for line in lines:
        if line["captions"]:
            wanted[line["image"]] = (*wanted.get(line["image"], ()), *line["captions"])
    file = _written(tmp_path / "c.jsonl", "\n".join(map(json.dumps, lines)))
    table = open_captioned_images(file).table()
    assert list(_captions(table).items()) == list(wanted.items())
    assert list(table.iter_captions()) == [caption for captions in wanted.values() for caption in captions]


def test_an_id_as_number_and_as_text_is_one(tmp_path: Path, images: Path) -> None:
    content = {"images": [IMAGE], "annotations": [CAPTION, {"image_id": "1", "caption": "a dog"}]}
    assert _read(_written(tmp_path / "c.json", content), images) == ({"1": ("a cat", "a dog")}, [])


@pytest.mark.parametrize("other", [1, "1"])
def test_of_two_images_with_one_id_nobody_knows_the_captions(tmp_path: Path, images: Path, other: object) -> None:
    """Both are set aside with what may be theirs; the same image listed twice is kept once."""
    second = {"id": other, "file_name": "b.jpg"}
    content = {
        "images": [IMAGE, second, {"id": 2, "file_name": "b.jpg"}],
        "annotations": [CAPTION, CAPTION, {"image_id": 2, "caption": "a dog"}],
    }
    file = _written(tmp_path / "c.json", content)
    found, lines = _read(file, images)
    assert found == {"2": ("a dog",)}
    assert sorted(line["record"] for line in lines) == ["annotations[0]", "annotations[1]", "image 1", "images[1]"]
    with pytest.raises(InputError, match=r"images\[1\], key 'id': an image before has its id"):
        open_captioned_images(file, images)
    second["file_name"] = "a.jpg"
    found, lines = _read(_written(file, content), images)
    assert found == {"1": ("a cat", "a cat"), "2": ("a dog",)} and [line["record"] for line in lines] == ["images[1]"]


def test_ids_that_the_store_would_take_for_one_are_told(tmp_path: Path, images: Path) -> None:
    """Where all keys are integers the store's ids are: then 01 is 1."""
    pictures = [{"id": "1", "file_name": "a.jpg"}, {"id": "01", "file_name": "b.jpg"}]
    captions = [{"image_id": picture["id"], "caption": f"of {picture['file_name']}"} for picture in pictures]
    file = _written(tmp_path / "c.json", {"images": pictures, "annotations": captions})
    found, lines = _read(file, images)
    assert found == {"1": ("of a.jpg",)} and [line["record"] for line in lines] == ["01"]
    with pytest.raises(InputError, match="record 01: the key is there twice"):
        open_captioned_images(file, images).table()


def _tar(file: Path, samples: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(file, "w") as tar:
        for name, data in samples:
            about = tarfile.TarInfo(name)
            about.size = len(data)
            tar.addfile(about, io.BytesIO(data))
    return file


def test_odd_samples_of_a_shard_are_set_aside(tmp_path: Path, images: Path) -> None:
    """Nested JSON, a key that is no Unicode or too long, a text too large, and a key that an earlier sample has."""
    picture = (images / "a.jpg").read_bytes()
    texts = {"1": b"[" * 100_000, "\udcff": b'{"caption": "a"}', "k" * 256: b'{"caption": "a"}', "2": b" " * (2 << 20)}
    samples = [("good.jpg", picture), ("good.txt", b"a cat")]
    samples += [part for key, text in texts.items() for part in ((f"{key}.jpg", picture), (f"{key}.json", text))]
    samples += [("good.jpg", picture), ("good.txt", b"a dog")]
    file = _tar(tmp_path / "s.tar", samples)
    for _ in range(2):
        found, lines = _read(file, images)
        assert found == {"good": ("a cat",)}
        assert [line["record"] for line in lines] == ["1", "\\udcff", "k" * 256, "2", "good"]
        assert json.dumps(lines, ensure_ascii=False).encode()


@pytest.mark.parametrize("seed", range(40))
def test_mutated_caption_files_lose_no_record(tmp_path: Path, seed: int) -> None:
    """As `benchmarks/fuzz.py` does by the thousand."""
    assert fuzzing.run(tmp_path, random.Random(seed)) in {"ok", "set aside", "refused"}
