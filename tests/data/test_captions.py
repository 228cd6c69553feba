"""Captioned images come from COCO JSON, JSON Lines and shards alike; bad input is named."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from regionclip.data.captions import decode_image, open_captioned_images
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
        ({"images": [], "annotations": [{"image_id": 5, "caption": "a"}]}, r"annotations\[0\].*image 5 is not among"),
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
