"""Contract of captions: JSON and shards; empty lines, unknown images and damaged shards are found."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regionclip.contracts.captions import (
    caption_checks,
    captioned_check,
    read_caption_tables,
    read_captioned,
    read_shards,
)
from regionclip.contracts.gate import gate, run_checks
from regionclip.data.captions import open_captioned_images
from regionclip.errors import DataCheckFailed, InputError

FILE = "scenes/captions.json"
Edit = Callable[[Path, Callable[[Any], None]], None]


def _check(data: Path) -> list[dict[str, Any]]:
    return gate("captions", caption_checks("scenes", read_caption_tables(data / FILE)), data / "reports")


def test_clean_captions_pass(data: Path) -> None:
    assert all(result["success"] for result in _check(data))
    assert read_caption_tables(data / FILE).images["captions"].tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("caption", "", "the caption is empty"),
        ("caption", " \n\t", "the caption is empty"),
        ("caption", "a star\x07 and a boat", "the caption has control characters"),
        ("caption", "une \x8etoile", "the caption has control characters"),
        ("caption", "une \ufffdtoile", "the caption was not UTF-8"),
        ("caption", "a" * 10_000, "more than 1000 characters"),
        ("caption", "a star " * 200, "more than 1000 characters"),
        ("image_id", 99, "there is no such image"),
        ("id", 1, "an id occurs twice"),
    ],
)
def test_a_planted_fault_is_named(data: Path, edit: Edit, key: str, value: Any, problem: str) -> None:
    edit(data / FILE, lambda content: content["annotations"][4].__setitem__(key, value))
    with pytest.raises(DataCheckFailed, match=problem) as caught:
        _check(data)
    assert caught.value.file == str(data / FILE) and key in caught.value.key and caught.value.mend
    assert ("id 1" if key == "id" else "id 4") in caught.value.record


def test_an_image_without_caption_is_named(data: Path, edit: Edit) -> None:
    edit(data / FILE, lambda content: [row.__setitem__("image_id", 1) for row in content["annotations"]])
    with pytest.raises(DataCheckFailed, match=r"id 2.*an image has no caption \(2 records\)"):
        _check(data)


def test_a_missing_key_is_named(data: Path, edit: Edit) -> None:
    edit(data / FILE, lambda content: content["annotations"][4].pop("caption"))
    with pytest.raises(
        DataCheckFailed, match=r"captions\.json, record annotations 4, key 'caption': the key is missing"
    ):
        _check(data)


def test_emoji_accents_and_ends_of_lines_are_no_fault(data: Path, edit: Edit) -> None:
    text = "a café 🌟 by the sea,\n\tits sign says été ★"
    edit(data / FILE, lambda content: content["annotations"][4].update(caption=text))
    assert all(result["success"] for result in _check(data))


def test_captions_that_are_odd_are_warnings(data: Path, edit: Edit) -> None:
    texts = ["star", "звезда и лодка", "une étoile et un bateau", "zwei Sterne", "einige rote Boote", "a star " * 30]
    edit(data / FILE, lambda c: [row.update(caption=text) for row, text in zip(c["annotations"], texts, strict=True)])
    failed = [result for result in _check(data) if not result["success"]]
    assert {result["severity"] for result in failed} == {"warning"}
    assert {result["problem"]: [row["id"] for row in result["records"]] for result in failed} == {
        "the caption has not 2 to 50 words": [0, 5],
        "the caption has no Latin letter, so is not English": [1],
        "most captions have none of the commonest English words": [0, 1, 2, 3, 4],
    }


def test_a_file_in_latin_1_is_refused(data: Path) -> None:
    file = data / FILE
    file.write_bytes(file.read_text().replace("boat", "étoile").encode("latin-1"))
    with pytest.raises(InputError, match=r"captions\.json: not JSON \('utf-8' codec"):
        read_caption_tables(file)


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


def test_clean_shards_pass_and_may_be_sampled(data: Path) -> None:
    table = read_shards(data / "pairs/train")
    assert table["key"].tolist() == ["000000000", "000000001", "000000002"]
    assert all(result["success"] for result in gate("pairs", [captioned_check("pairs", table)], data))
    assert len(read_shards(data / "pairs/train", limit=2)) == 2


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("9.txt", b"a star", "no image"),
        ("9.jpg", b"", "image without caption"),
        ("000000002.jpg", b"no picture", "the file is there twice"),
        ("000000001.txt", b" ", "no image"),
    ],
)
def test_a_fault_in_a_shard_is_named(data: Path, name: str, content: bytes, problem: str) -> None:
    shard = data / "pairs/train/00000.tar"
    _add(shard, name, content)
    with pytest.raises(DataCheckFailed, match=problem) as caught:
        read_shards(shard.parent)
    assert caught.value.file == shard
    assert str(caught.value.record).startswith(name.split(".")[0])


def test_a_picture_in_a_shard_that_does_not_decode_is_named(data: Path) -> None:
    shard = data / "pairs/train/00000.tar"
    for name, content in (("9.jpg", b"no picture"), ("9.txt", b"a star")):
        _add(shard, name, content)
    with pytest.raises(DataCheckFailed, match="the image does not decode") as caught:
        gate("pairs", [captioned_check("pairs", read_shards(shard.parent))], data)
    assert caught.value.file == str(shard) and caught.value.record.startswith("key 9, ")


def test_a_cut_shard_and_an_empty_folder_are_refused(data: Path) -> None:
    shard = data / "pairs/train/00000.tar"
    shard.write_bytes(shard.read_bytes()[:700])
    with pytest.raises(DataCheckFailed, match=r"00000\.tar: the shard cannot be read \(unexpected end of data\)"):
        read_shards(shard.parent)
    shard.unlink()
    with pytest.raises(InputError, match=r"pairs/train: the folder holds no captions"):
        read_shards(shard.parent)
