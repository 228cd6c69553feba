"""Contract of captions: JSON and shards; empty lines, unknown images and damaged shards are found."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regionclip.contracts.captions import caption_checks, read_caption_tables, read_shards, shard_check
from regionclip.contracts.checkpoint import gate
from regionclip.errors import DataCheckFailed

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
        ("caption", "123 !", "no Latin letter"),
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


def _add(shard: Path, name: str, content: bytes) -> None:
    with tarfile.open(shard, "a") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))


def test_clean_shards_pass_and_may_be_sampled(data: Path) -> None:
    table = read_shards(data / "pairs/train")
    assert table["key"].tolist() == ["000000000", "000000001", "000000002"]
    assert all(result["success"] for result in gate("pairs", [shard_check("pairs", table)], data))
    assert len(read_shards(data / "pairs/train", limit=2)) == 2


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("9.txt", b"a star", "there is no image"),
        ("9.jpg", b"", "the image does not decode|there is no caption"),
        ("000000001.jpg", b"no picture", "the image does not decode"),
        ("000000001.txt", b" ", "the caption is empty"),
    ],
)
def test_a_fault_in_a_shard_is_named(data: Path, name: str, content: bytes, problem: str) -> None:
    shard = data / "pairs/train/00000.tar"
    _add(shard, name, content)
    with pytest.raises(DataCheckFailed, match=problem) as caught:
        gate("pairs", [shard_check("pairs", read_shards(shard.parent))], data)
    assert caught.value.file == str(shard) and caught.value.record.startswith(f"key {name.split('.')[0]}")


def test_a_cut_shard_and_an_empty_folder_are_refused(data: Path) -> None:
    shard = data / "pairs/train/00000.tar"
    shard.write_bytes(shard.read_bytes()[:700])
    with pytest.raises(DataCheckFailed, match=r"00000\.tar: not a tar file, or cut short"):
        read_shards(shard.parent)
    shard.unlink()
    with pytest.raises(DataCheckFailed, match=r"pairs/train: there is no \.tar shard"):
        read_shards(shard.parent)
