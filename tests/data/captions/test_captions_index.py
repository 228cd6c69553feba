"""The index of shards is read once, follows changes of the shards, and tells what was left out as a reading does."""

from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path

import pytest

from regionclip.data.captions import open_captioned_images
from regionclip.data.captions.shards import ShardedCaptions
from regionclip.data.captions.table import index_file
from regionclip.data.rejects import Rejects
from regionclip.errors import InputError


def _shard(path: Path, samples: dict[str, str]) -> None:
    """A shard whose image bytes are the key repeated; no caption where the text is empty."""
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for key, text in samples.items():
            for suffix, data in (("jpg", key.encode() * 9), ("txt", text.encode())):
                about = tarfile.TarInfo(f"{key}.{suffix}")
                about.size = len(data)
                tar.addfile(about, io.BytesIO(data))


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """A folder of two shards with images a, b, c and one that has no caption."""
    _shard(tmp_path / "set/0.tar", {"a": "a moon", "b": "a star"})
    _shard(tmp_path / "set/1.tar", {"x": "", "c": "a fish"})
    return tmp_path / "set"


def _content(table) -> list[tuple[str, bytes, tuple[str, ...]]]:
    records = [table[i] for i in range(len(table))]
    return [(record.key, record.image.read(), record.captions) for record in records]


WANTED = [("a", b"a" * 9, ("a moon",)), ("b", b"b" * 9, ("a star",)), ("c", b"c" * 9, ("a fish",))]


def test_the_table_equals_the_reading_and_is_made_once(shards, monkeypatch):
    """First and later tables hold the records; later ones come from the index, which lies beside the folder."""
    source = open_captioned_images(shards)
    assert _content(source.table()) == [(r.key, r.image.read(), r.captions) for r in source] == WANTED
    assert sorted(path.name for path in shards.iterdir()) == ["0.tar", "1.tar"] and index_file(shards).exists()
    monkeypatch.setattr(ShardedCaptions, "_read", lambda self: pytest.fail("read again"))
    again = open_captioned_images(shards)
    assert _content(again.table()) == WANTED and again.skipped == {"image without caption": 1, "empty caption": 1}


def test_captions_are_read_from_the_index(shards, monkeypatch):
    """The concept pool of millions of pairs does not pass over the images' bytes again."""
    first = open_captioned_images(shards)
    assert list(first.iter_captions()) == ["a moon", "a star", "a fish"] and index_file(shards).exists()
    monkeypatch.setattr(ShardedCaptions, "_read", lambda self: pytest.fail("read again"))
    again = open_captioned_images(shards)
    assert list(again.iter_captions()) == ["a moon", "a star", "a fish"] and again.skipped == first.skipped
    assert again.listed == {"images": 3, "captions": 3}


def test_a_changed_or_new_shard_makes_the_index_again(shards):
    """Other bytes, and another shard, are seen."""
    open_captioned_images(shards).table()
    _shard(shards / "1.tar", {"d": "a sun"})
    assert [key for key, *_ in _content(open_captioned_images(shards).table())] == ["a", "b", "d"]
    _shard(shards / "2.tar", {"e": "a sun"})
    assert [key for key, *_ in _content(open_captioned_images(shards).table())] == ["a", "b", "d", "e"]


def test_the_index_moves_with_its_folder(shards, tmp_path):
    """Places are relative to the folder."""
    open_captioned_images(shards).table()
    (tmp_path / "moved").mkdir()
    for path in (shards, index_file(shards)):
        path.rename(tmp_path / "moved" / path.name)
    assert _content(open_captioned_images(tmp_path / "moved" / "set").table()) == WANTED


def test_a_pickled_table_holds_no_data(shards):
    """Loader workers map the file themselves."""
    pickled = pickle.dumps(open_captioned_images(shards).table())
    assert len(pickled) < 500
    assert _content(pickle.loads(pickled)) == WANTED  # noqa: S301  (written here)


def test_what_was_set_aside_is_told_again_from_the_index(shards):
    """The rejects of the reading that made the index come back, and the limit holds; a strict reading is another."""
    (shards / "2.tar").write_bytes((shards / "0.tar").read_bytes()[:700])
    files = []
    for _ in range(2):
        with Rejects(shards.parent / "s_rejected.jsonl", 0.5) as rejects:
            source = open_captioned_images(shards, rejects=rejects)
            assert len(source.table()) == 3 and len(source.rejected) == 3 and sum(source.skipped.values()) == 4
        files.append((shards.parent / "s_rejected.jsonl").read_text())
    assert files[0] == files[1] and len(files[0].splitlines()) == 3
    with pytest.raises(InputError, match="3 of 6 records"), Rejects(shards.parent / "s_rejected.jsonl", 0.3) as rejects:
        open_captioned_images(shards, rejects=rejects).table()
    with pytest.raises(InputError, match=r"2\.tar.*cannot be read"):
        open_captioned_images(shards).table()


def test_a_key_in_two_shards_is_refused(shards):
    """Regions are stored by key; nothing is kept of the refused index."""
    _shard(shards / "2.tar", {"b": "another"})
    with pytest.raises(InputError, match="record b: the key is there twice"):
        open_captioned_images(shards).table()
    assert not index_file(shards).exists()


def test_without_a_place_for_the_index_the_table_is_in_memory(shards, monkeypatch, caplog):
    """A read-only folder costs a reading at every start, and says so."""

    def refuse(path):
        raise PermissionError(f"read-only: {path.name}")

    monkeypatch.setattr("regionclip.data.captions.table.atomic_path", refuse)
    assert _content(open_captioned_images(shards).table()) == WANTED
    assert "no index is kept (read-only: .set.index.arrow)" in caplog.text


def test_a_damaged_index_is_made_again(shards):
    """A file cut short is not taken."""
    open_captioned_images(shards).table()
    file = index_file(shards)
    file.write_bytes(file.read_bytes()[:100])
    assert _content(open_captioned_images(shards).table()) == WANTED


def test_ids_are_integers_where_all_keys_are(tmp_path):
    """img2dataset's keys become integers; one other key makes all of them strings."""
    _shard(tmp_path / "0.tar", {"000000012": "a", "7": "b"})
    assert open_captioned_images(tmp_path / "0.tar").table().ids.to_pylist() == [12, 7]
    _shard(tmp_path / "0.tar", {"000000012": "a", "dog": "b"})
    assert open_captioned_images(tmp_path / "0.tar").table().ids.to_pylist() == ["000000012", "dog"]
