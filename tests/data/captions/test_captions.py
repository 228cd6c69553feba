"""Captioned images come from COCO JSON, JSON Lines and shards alike; bad input is named."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from regionclip.data.captions import decode_image, open_captioned_images
from regionclip.data.rejects import Rejects
from regionclip.errors import InputError
from regionclip.files import write_json


def _jpeg() -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (32, 24), (200, 30, 30)).save(data, "JPEG")
    return data.getvalue()


def _tar(path: Path, parts: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in parts.items():
            about = tarfile.TarInfo(name)
            about.size = len(data)
            tar.addfile(about, io.BytesIO(data))
    return path


def _coco(path: Path, annotations: list[dict]) -> Path:
    images = [{"id": 7, "file_name": "a.jpg"}, {"id": 9, "file_name": "b.jpg"}]
    write_json(path, {"images": images, "annotations": annotations})
    return path


def test_coco_captions_are_grouped_by_image_and_empty_ones_counted(tmp_path: Path) -> None:
    captions = [(9, "two stars"), (7, "a moon"), (9, " a fish \n"), (7, "  ")]
    path = _coco(tmp_path / "captions.json", [{"image_id": image, "caption": text} for image, text in captions])
    source = open_captioned_images(path)
    first, second = source
    assert (first.key, first.image, first.captions) == ("7", tmp_path / "images/a.jpg", ("a moon",))
    assert second.captions == ("two stars", "a fish")
    assert source.skipped == {"empty caption": 1}


def test_images_without_any_caption_are_left_out_and_counted(tmp_path: Path) -> None:
    source = open_captioned_images(_coco(tmp_path / "captions.json", [{"image_id": 7, "caption": ""}]))
    assert list(source.iter_captions()) == []
    assert source.skipped == {"empty caption": 1, "image without caption": 2}
    list(source)
    assert source.skipped == {"empty caption": 1, "image without caption": 2}, "counts are of one reading"


def test_json_lines_take_caption_or_captions(tmp_path: Path) -> None:
    lines = [
        '{"image": "a.jpg", "caption": "a moon"}',
        "",
        '{"image": "b/c.png", "captions": ["a star", "", "a red star"]}',
    ]
    path = tmp_path / "set.jsonl"
    path.write_text("\n".join(lines))
    source = open_captioned_images(path)
    assert [(record.key, record.image, record.captions) for record in source] == [
        ("a.jpg", tmp_path / "a.jpg", ("a moon",)),
        ("b/c.png", tmp_path / "b/c.png", ("a star", "a red star")),
    ]
    assert source.skipped == {"blank line": 1, "empty caption": 1}


def test_shards_are_read_in_order_and_their_json_stands_in_for_text(tmp_path: Path) -> None:
    _tar(tmp_path / "00001.tar", {"c.jpg": _jpeg(), "c.json": b'{"captions": ["one", "two"]}', "d.json": b"{}"})
    _tar(tmp_path / "00000.tar", {"a.jpg": _jpeg(), "a.txt": b"a moon", "b.jpg": _jpeg()})
    source = open_captioned_images(tmp_path)
    assert [(record.key, record.captions) for record in source] == [("a", ("a moon",)), ("c", ("one", "two"))]
    assert source.skipped == {"image without caption": 1, "no image": 1}
    assert decode_image(next(iter(source)).image).size == (32, 24)


def test_the_demo_world_is_read(world: Path) -> None:
    scenes, pairs = open_captioned_images(world / "scenes"), open_captioned_images(world / "pairs/train")
    assert len(list(scenes)) == 24
    assert len(list(scenes.iter_captions())) == 48
    records = list(pairs)
    assert [record.key for record in records[:2]] == ["000000000", "000000001"]
    assert decode_image(records[0].image).size == (64, 64)
    assert not scenes.skipped + pairs.skipped


def test_reading_captions_decodes_no_image(tmp_path: Path) -> None:
    shard = _tar(tmp_path / "0.tar", {"a.jpg": b"no image", "a.txt": b"a moon"})
    assert list(open_captioned_images(shard).iter_captions()) == ["a moon"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"images": []}, "key 'annotations'"),
        ([], "key 'images'"),
        ({"images": [{"id": 1}], "annotations": []}, r"images\[0\].*key 'file_name'"),
        ({"images": [], "annotations": [{"caption": "a"}]}, r"annotations\[0\].*key 'image_id'"),
        (
            {"images": [], "annotations": [{"image_id": 5, "caption": "a"}]},
            r"annotations\[0\].*not among the images \(5\)",
        ),
        (
            {"images": [{"id": 1, "file_name": "a"}], "annotations": [{"image_id": 1}]},
            r"annotations\[0\].*key 'caption'",
        ),
    ],
)
def test_broken_coco_captions_are_named(tmp_path: Path, content: object, words: str) -> None:
    write_json(tmp_path / "captions.json", content)
    with pytest.raises(InputError, match=rf"captions\.json.*{words}.*To mend"):
        open_captioned_images(tmp_path / "captions.json")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a moon", "line 2: not JSON"),
        ('{"caption": "a moon"}', "line 2, key 'image'"),
        ('{"image": "a.jpg"}', "line 2, key 'caption'"),
        ('{"image": "a.jpg", "caption": 5}', "line 2, key 'caption'"),
    ],
)
def test_broken_lines_are_named(tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "set.jsonl"
    path.write_text('{"image": "a.jpg", "caption": "a moon"}\n' + line)
    with pytest.raises(InputError, match=words):
        list(open_captioned_images(path))


def test_broken_shards_are_named(tmp_path: Path) -> None:
    whole = _tar(tmp_path / "0.tar", {"a.jpg": _jpeg(), "a.txt": b"a moon"})
    (tmp_path / "cut.tar").write_bytes(whole.read_bytes()[:700])
    with pytest.raises(InputError, match=r"cut\.tar.*cannot be read"):
        list(open_captioned_images(tmp_path / "cut.tar"))
    bad = _tar(tmp_path / "bad.tar", {"a.jpg": _jpeg(), "a.json": json.dumps("text").encode()[:-1]})
    with pytest.raises(InputError, match=r"bad\.tar, record a"):
        list(open_captioned_images(bad))


def test_unknown_sources_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there are no captions"):
        open_captioned_images(tmp_path / "none.json")
    with pytest.raises(InputError, match="holds no captions"):
        open_captioned_images(tmp_path)
    (tmp_path / "a.csv").write_text("x")
    with pytest.raises(InputError, match=r"'\.csv'"):
        open_captioned_images(tmp_path / "a.csv")


def test_broken_images_are_named(tmp_path: Path) -> None:
    cut, text = tmp_path / "cut.jpg", tmp_path / "text.jpg"
    cut.write_bytes(_jpeg()[:-60])
    text.write_text("no image")
    for file, words in ((cut, "cannot be decoded"), (text, "not an image"), (tmp_path / "none.jpg", "does not exist")):
        with pytest.raises(InputError, match=rf"{file.name}.*{words}.*To mend"):
            decode_image(file)
    with pytest.raises(InputError, match="shard 0, key a"):
        decode_image(b"no image", name="shard 0, key a")


def test_grey_and_transparent_images_become_rgb(tmp_path: Path) -> None:
    for mode in ("L", "RGBA", "P"):
        Image.new(mode, (8, 6)).save(tmp_path / f"{mode}.png")
        assert decode_image(tmp_path / f"{mode}.png").mode == "RGB"


def _rejected(path: Path) -> dict[str, str]:
    """Reasons of a rejects file by record."""
    return {line["record"]: line["reason"] for line in map(json.loads, path.read_text().splitlines())}


def test_bad_lines_are_set_aside_and_the_good_ones_read(tmp_path: Path) -> None:
    """Each bad line has its reason: Latin-1 amid UTF-8, no JSON, no caption, an image that is absent or empty.

    Emoji are no fault; a caption with control characters or of 10,000 characters goes, the image's others stay.
    """
    for name in ("good.jpg", "odd.jpg", "bell.jpg", "long.jpg"):
        (tmp_path / name).write_bytes(_jpeg())
    (tmp_path / "zero.jpg").touch()
    odd = "a \U0001f415 in a caf\xe9"
    lines = [
        b'{"image": "good.jpg", "caption": "a moon"}',
        '{"image": "good.jpg", "caption": "caf\xe9"}'.encode("latin-1"),
        b'{"image": "good.jpg", "caption": ',
        b'{"image": "good.jpg"}',
        b'{"image": "good.jpg", "caption": "  "}',
        b'{"image": "none.jpg", "caption": "a moon"}',
        b'{"image": "zero.jpg", "caption": "a moon"}',
        json.dumps({"image": "odd.jpg", "captions": [odd, ""]}, ensure_ascii=False).encode(),
        json.dumps({"image": "bell.jpg", "captions": ["a bell", "a \x07"]}).encode(),
        json.dumps({"image": "long.jpg", "captions": ["x" * 10_000, "a word"]}).encode(),
    ]
    path = tmp_path / "set.jsonl"
    path.write_bytes(b"\n".join(lines))
    with Rejects(tmp_path / "set_rejected.jsonl", limit=0.9) as rejects:
        source = open_captioned_images(path, rejects=rejects)
        assert [record.captions for record in source] == [("a moon",), (odd,), ("a bell",), ("a word",)]
    lines = (tmp_path / "set_rejected.jsonl").read_text().splitlines()
    assert [json.loads(line)["record"] for line in lines] == [f"line {number}" for number in range(2, 11)]
    words = ["not UTF-8", "not JSON", "there is no caption", "without caption", "does not exist"]
    words += ["no bytes", "empty caption", "control characters", "more than 1000 characters"]
    assert all(word in json.loads(line)["reason"] for word, line in zip(words, lines, strict=True))


def test_bad_coco_records_are_set_aside(tmp_path: Path) -> None:
    """Broken records of the JSON and images without a caption are set aside at each reading, and kept once."""
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.jpg").write_bytes(_jpeg())
    annotations = [{"image_id": 5, "caption": "a"}, {"image_id": 7}, {"image_id": 7, "caption": "a moon"}]
    path = _coco(tmp_path / "captions.json", [*annotations, {"image_id": 7, "caption": 3}])
    with Rejects(tmp_path / "c_rejected.jsonl", limit=0.8) as rejects:
        source = open_captioned_images(path, rejects=rejects)
        for _ in range(2):
            assert [record.key for record in source] == ["7"]
            assert len(source.rejected) == 4 and sum(source.skipped.values()) == 4
    reasons = _rejected(tmp_path / "c_rejected.jsonl")
    assert list(reasons) == ["annotations[0]", "annotations[1]", "image 7", "image 9"]
    assert reasons["image 7"] == "a caption is not text" and reasons["image 9"] == "image without caption"


def test_of_a_cut_shard_the_whole_samples_are_kept(tmp_path: Path) -> None:
    """A shard cut in the middle of an image or of a header, with Latin-1 text and with broken JSON, is read as far."""
    parts = {"a.jpg": _jpeg(), "a.txt": b"a moon", "b.jpg": _jpeg(), "b.txt": "caf\xe9".encode("latin-1")}
    parts |= {"c.jpg": _jpeg(), "c.json": b'{"caption": ', "d.jpg": _jpeg(), "d.json": b'{"captions": "a moon"}'}
    parts |= {
        "e.txt": b"no picture",
        "e.TXT": b"twice",
        "f.jpg": _jpeg(),
        "f.txt": b"a star",
        "g.jpg": _jpeg(),
        "g.txt": b"a fish",
    }
    whole = _tar(tmp_path / "whole.tar", parts).read_bytes()
    with tarfile.open(tmp_path / "whole.tar") as tar:
        header = tar.getmember("g.jpg").offset
    for cut in (header + 600, header + 100, header):
        path = tmp_path / f"{cut}.tar"
        path.write_bytes(whole[:cut])
        with Rejects(tmp_path / "t_rejected.jsonl", limit=0.75) as rejects:
            source = open_captioned_images(path, rejects=rejects)
            assert [(record.key, decode_image(record.image).size) for record in source] == [
                ("a", (32, 24)), ("f", (32, 24)),
            ]  # fmt: skip
        reasons = _rejected(tmp_path / "t_rejected.jsonl")
        assert list(reasons) == ["b", "c", "d", "e.TXT", "e", "after f.txt"]
        assert "cannot be read (unexpected end of data)" in reasons["after f.txt"] and reasons["e"] == "no image"
        with pytest.raises(InputError, match="record b, key 'txt'"):
            list(open_captioned_images(path))


def test_a_shard_that_ends_between_two_members_is_refused(tmp_path: Path) -> None:
    """Without the blocks of zeros at its end the shard was cut, although every member in it is whole."""
    path = _tar(tmp_path / "0.tar", {"a.jpg": _jpeg(), "a.txt": b"a moon", "b.jpg": _jpeg(), "b.txt": b"a star"})
    with tarfile.open(path) as tar:
        cut = tar.getmember("b.jpg").offset
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(InputError, match="after a.txt: the shard cannot be read"):
        list(open_captioned_images(path))


def test_too_many_bad_records_stop_the_reading(tmp_path: Path) -> None:
    """Two of three above a limit of a half: the error counts the reasons, and the file tells the records."""
    path = tmp_path / "set.jsonl"
    (tmp_path / "a.jpg").write_bytes(_jpeg())
    path.write_text('{"image": "a.jpg", "caption": "a moon"}\nx\n{"image": "b.jpg", "caption": "a moon"}')
    words = "2 of 3 records were set aside, more than the limit of 50.00%: 1 x not JSON, 1 x the image does not exist"
    with pytest.raises(InputError, match=words), Rejects(tmp_path / "set_rejected.jsonl", limit=0.5) as rejects:
        list(open_captioned_images(path, rejects=rejects))
    assert list(_rejected(tmp_path / "set_rejected.jsonl")) == ["line 2", "line 3"]
    with Rejects(tmp_path / "set_rejected.jsonl", limit=2 / 3) as rejects:
        assert len(list(open_captioned_images(path, rejects=rejects))) == 1
