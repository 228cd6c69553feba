"""Contract of captions: odd ones and pictures that do not decode are found in JSON and shards; sizes by headers."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from regionclip.contracts.captions import captioned_check, header_sizes, read_captioned
from regionclip.contracts.gate import gate, run_checks
from regionclip.data.captions import CaptionedImage, open_captioned_images
from regionclip.errors import DataCheckFailed


def test_captions_that_are_odd_are_warnings(data: Path, edit: Callable[[Path, Callable[[Any], None]], None]) -> None:
    file = data / "scenes/captions.json"
    texts = ["star", "звезда и лодка", "une étoile et un bateau", "zwei Sterne", "einige rote Boote", "a star " * 30]
    edit(file, lambda c: [row.update(caption=text) for row, text in zip(c["annotations"], texts, strict=True)])
    check = captioned_check("scenes", read_captioned(open_captioned_images(file), None))
    failed = [result for result in gate("captions", [check], data / "reports") if not result["success"]]
    assert {result["severity"] for result in failed} == {"warning"}
    assert {result["problem"]: {row["key"] for row in result["records"]} for result in failed} == {
        "the caption has not 2 to 50 words": {"1", "3"},
        "the caption has no Latin letter, so is not English": {"2"},
        "most captions have none of the commonest English words": {"1", "2", "3"},
    }


@pytest.mark.parametrize("form", ["jsonl", "tar"])
def test_what_readers_read_is_checked_whatever_its_form(tmp_path: Path, data: Path, form: str) -> None:
    if form == "tar":
        source = open_captioned_images(data / "pairs/train")
    else:
        lines = [json.dumps({"image": f"{n:012d}.jpg", "captions": ["a star", f"a boat {n}"]}) for n in (1, 2, 3)]
        (tmp_path / "set.jsonl").write_text("\n".join(lines))
        (data / "scenes/images/000000000002.jpg").write_bytes(b"no picture")
        source = open_captioned_images(tmp_path / "set.jsonl", data / "scenes/images")
    table = read_captioned(source, None)
    assert table["key"].nunique() == 3 and len(read_captioned(source, 2)["key"].unique()) == 2
    failed = [r for r in run_checks([captioned_check("scenes", table)]) if not r["success"]]
    if form == "tar":
        assert failed == [] and table["sha256"].notna().all()
        return
    assert [(r["problem"], r["unexpected"]) for r in failed] == [("the image does not decode", 2)]
    assert all(r["success"] for r in run_checks([captioned_check("scenes", table, tolerance=0.4)]))


def _add(shard: Path, name: str, content: bytes) -> None:
    with tarfile.open(shard, "a") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))


def test_clean_shards_pass(data: Path) -> None:
    table = read_captioned(open_captioned_images(data / "pairs/train"), None)
    assert table["key"].tolist() == ["000000000", "000000001", "000000002"]
    assert all(result["success"] for result in gate("pairs", [captioned_check("pairs", table)], data))


def test_a_picture_in_a_shard_that_does_not_decode_is_named(data: Path) -> None:
    shard = data / "pairs/train/00000.tar"
    for name, content in (("9.jpg", b"no picture"), ("9.txt", b"a star")):
        _add(shard, name, content)
    table = read_captioned(open_captioned_images(shard.parent), None)
    with pytest.raises(DataCheckFailed, match="the image does not decode") as caught:
        gate("pairs", [captioned_check("pairs", table)], data)
    assert caught.value.file == str(shard) and caught.value.record.startswith("key 9, ")


def test_sizes_come_from_headers_of_files_and_shards(clean_data: Path, tmp_path: Path) -> None:
    shards = header_sizes(open_captioned_images(clean_data / "pairs/train"), str)
    assert shards["id"].tolist() == ["000000000", "000000001", "000000002"] and set(shards["width"]) == {40}
    image = Image.new("RGB", (20, 10))
    exif = image.getexif()
    exif[0x0112] = 8
    image.save(tmp_path / "a.jpg", exif=exif)
    record = CaptionedImage("7", tmp_path / "a.jpg", ("a star",))
    assert header_sizes([record], int).to_numpy().tolist() == [[7, 10, 20]], "after the EXIF turn"
    (tmp_path / "a.jpg").write_bytes(b"")
    assert header_sizes([record], int)[["width", "height"]].isna().all(axis=None)
