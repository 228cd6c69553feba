"""``data fetch`` and ``data status``: verified, recorded, fetched once, from an address or a mirror."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from regionclip import cli
from regionclip.data.sources import SOURCES, Archive
from regionclip.errors import InputError
from regionclip.workspace.fetch.fetching import RECORD, fetch, look, status


def _zip(members: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as content:
        for name, value in members.items():
            content.writestr(name, value)
    return buffer.getvalue()


BOXES = _zip({"annotations/boxes.json": '{"images": []}', "annotations/more.json": "{}"})
PICTURES = _zip({"train/1.jpg": "one", "train/2.jpg": "two"})


def _archive(name: str, content: bytes, gives: dict[str, int], url: str) -> Archive:
    checksum = f"md5:{hashlib.md5(content).hexdigest()}"
    return Archive(name, url, len(content), checksum, "the tests; not published", "toy", gives)


@pytest.fixture
def toy(served: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Archive]:
    """A data set of two archives, served from its official addresses; one is reached by a redirect."""
    served.files = {"/boxes.zip": BOXES, "/moved/pictures.zip": PICTURES}
    served.redirects = {"/pictures.zip": "/moved/pictures.zip"}
    archives = {
        "boxes": _archive("boxes.zip", BOXES, {"toy/annotations/boxes.json": 1}, f"{served.address}/boxes.zip"),
        "pictures": _archive("pictures.zip", PICTURES, {"toy/train": 2}, f"{served.address}/pictures.zip"),
    }
    monkeypatch.setitem(SOURCES, "toy", tuple(archives.values()))
    return archives


def _set(monkeypatch: pytest.MonkeyPatch, *archives: Archive) -> None:
    monkeypatch.setitem(SOURCES, "toy", archives)


def _states(root: Path) -> tuple[list[str], bool]:
    table, everything = status(["toy"], root)
    return list(table.columns[2].cells), everything


def test_a_set_is_fetched_once_and_lies_in_its_folders(toy: Any, served: Any, tmp_path: Path) -> None:
    assert _states(tmp_path) == (["missing", "missing"], False)
    assert [line.split(":")[0] for line in fetch("toy", tmp_path)] == ["boxes.zip", "pictures.zip"]
    files = {file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*") if file.is_file()}
    assert files == {RECORD, "toy/annotations/boxes.json", "toy/annotations/more.json", "toy/train/1.jpg"} | {
        "toy/train/2.jpg"
    }
    assert _states(tmp_path) == (["there", "there"], True)
    requests = len(served.log)
    assert all("there already (2 files as fetched)" in line for line in fetch("toy", tmp_path))
    assert len(served.log) == requests


def test_the_record_holds_address_size_and_sha256(toy: Any, tmp_path: Path) -> None:
    fetch("toy", tmp_path)
    entry = json.loads((tmp_path / RECORD).read_text())["archives"]["boxes.zip"]
    assert entry["url"] == toy["boxes"].url and entry["bytes"] == len(BOXES)
    assert entry["sha256"] == hashlib.sha256(BOXES).hexdigest()
    assert entry["files"] == {"toy/annotations/boxes.json": 14, "toy/annotations/more.json": 2}
    assert entry["sums"]["toy/annotations/more.json"] == hashlib.sha256(b"{}").hexdigest()


def test_a_connection_that_breaks_in_the_middle_is_gone_on_from(toy: Any, served: Any, tmp_path: Path) -> None:
    content = _zip({"train/1.jpg": "x" * 200_000, "train/2.jpg": "y"})
    archive = _archive("pictures.zip", content, {"toy/train": 2}, toy["pictures"].url)
    SOURCES["toy"] = (archive,)
    served.files["/moved/pictures.zip"], served.cut_after, served.cuts = content, 150_000, 1
    fetch("toy", tmp_path)
    assert (tmp_path / "toy/train/1.jpg").stat().st_size == 200_000
    assert ("/moved/pictures.zip", "bytes=131072-") in served.log


def test_a_part_of_another_version_is_thrown_away(toy: Any, served: Any, tmp_path: Path) -> None:
    """Half of the old file and half of the new one have the right size; the next call fetches the new one."""
    (tmp_path / "boxes.zip.part").write_bytes(bytes(20))
    with pytest.raises(InputError, match=r"its md5 is"):
        fetch("toy", tmp_path)
    assert ("/boxes.zip", "bytes=20-") in served.log and not list(tmp_path.iterdir())
    assert "verified and unpacked" in fetch("toy", tmp_path)[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"checksum": f"md5:{'0' * 32}"}, r"its md5 is \w{32}, not 0{32} \(known from the tests"),
        ({"checksum": f"sha256:{'0' * 64}"}, r"its sha256 is \w{64}, not 0{64}"),
        ({"size": 7}, rf"the server offers {len(BOXES)} bytes, not 7"),
    ],
)
def test_other_bytes_than_the_official_ones_are_thrown_away(
    toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], message: str
) -> None:
    _set(monkeypatch, replace(toy["boxes"], **change))
    with pytest.raises(InputError, match=message):
        fetch("toy", tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_archive_without_known_checksum_must_stay_what_it_was(
    toy: Any, served: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _set(monkeypatch, replace(toy["boxes"], checksum=None, size=None))
    fetch("toy", tmp_path)
    (tmp_path / "toy/annotations/boxes.json").unlink()
    served.files["/boxes.zip"] = _zip({"annotations/boxes.json": "another"})
    with pytest.raises(InputError, match=r"when first fetched it was \w{64}"):
        fetch("toy", tmp_path)
    served.files["/boxes.zip"] = BOXES
    assert "verified and unpacked" in fetch("toy", tmp_path)[0]
    assert _states(tmp_path) == (["there"], True)


def test_what_is_lost_or_changed_later_is_named_and_mended(toy: Any, tmp_path: Path) -> None:
    """A picture is known by its size, an annotation file by its bytes."""
    fetch("toy", tmp_path)
    (tmp_path / "toy/train/2.jpg").unlink()
    (tmp_path / "toy/annotations/boxes.json").write_text('{"images": {}}')
    assert _states(tmp_path) == (["differs", "missing"], False)
    assert look(tmp_path, toy["pictures"])[1] == "1 of 2 files missing: toy/train/2.jpg"
    assert look(tmp_path, toy["boxes"])[1] == "1 of 2 files not as fetched: toy/annotations/boxes.json"
    fetch("toy", tmp_path)
    assert _states(tmp_path) == (["there", "there"], True)


@pytest.mark.parametrize("by", ["folder", "address"])
def test_a_mirror_takes_the_place_of_the_address(toy: Any, served: Any, tmp_path: Path, by: str) -> None:
    if by == "folder":
        mirror = tmp_path / "mirror"
        mirror.mkdir()
        (mirror / "boxes.zip").write_bytes(BOXES)
        (mirror / "pictures.zip").write_bytes(PICTURES)
    else:
        served.files |= {"/copy/boxes.zip": BOXES, "/copy/pictures.zip": PICTURES}
        mirror = f"{served.address}/copy/"
    root = tmp_path / "sets"
    fetch("toy", root, str(mirror))
    assert _states(root) == (["there", "there"], True)
    asked = [path for path, _ in served.log]
    assert asked == ([] if by == "folder" else ["/copy/boxes.zip", "/copy/pictures.zip"])
    if by == "folder":
        assert sorted(file.name for file in mirror.iterdir()) == ["boxes.zip", "pictures.zip"]


def test_a_mirror_is_verified_and_left_as_it_is(toy: Any, tmp_path: Path) -> None:
    (tmp_path / "boxes.zip").write_bytes(BOXES[:-1] + b"\1")
    with pytest.raises(InputError, match=r"boxes\.zip: its md5 is"):
        fetch("toy", tmp_path / "sets", str(tmp_path))
    assert (tmp_path / "boxes.zip").exists()
    (tmp_path / "boxes.zip").unlink()
    with pytest.raises(InputError, match=r"boxes\.zip: the mirror lacks the file"):
        fetch("toy", tmp_path / "sets", str(tmp_path))


def test_a_verified_archive_whose_unpacking_was_stopped_is_not_fetched_again(
    toy: Any, served: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr("regionclip.workspace.fetch.fetching.unpack", killed)
        with pytest.raises(KeyboardInterrupt):
            fetch("toy", tmp_path)
    requests = len(served.log)
    assert "verified and unpacked" in fetch("toy", tmp_path)[0]
    assert not any(path == "/boxes.zip" for path, _ in served.log[requests:])
    assert not list(tmp_path.glob("boxes.zip*"))


def test_another_archive_of_the_same_name_is_not_recorded(
    toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _set(monkeypatch, replace(toy["boxes"], gives={"toy/annotations/other.json": 1}))
    with pytest.raises(InputError, match=r"it has no toy/annotations/other\.json"):
        fetch("toy", tmp_path)
    assert not (tmp_path / RECORD).exists()


def test_what_was_put_there_by_hand_is_kept_and_said_to_be_unverified(toy: Any, served: Any, tmp_path: Path) -> None:
    (tmp_path / "toy/train").mkdir(parents=True)
    (tmp_path / "toy/train/1.jpg").touch()
    assert look(tmp_path, toy["pictures"]) == ("differs", "toy/train has 1 files, not 2")
    (tmp_path / "toy/train/2.jpg").touch()
    assert look(tmp_path, toy["pictures"])[1] == "by count only; put here by hand, not verified"
    assert "not verified" in fetch("toy", tmp_path)[1]
    assert not any("pictures" in path for path, _ in served.log)


def test_what_is_not_public_is_said_and_taken_from_where_the_user_has_it(
    toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = replace(toy["pictures"], name="p.tar.gz", url=None, size=None, checksum=None, ask_at="a form")
    _set(monkeypatch, toy["boxes"], asked)
    line = fetch("toy", tmp_path)[1]
    assert "not public. Ask for it at a form" in line and "--mirror" in line and "toy/train" in line
    assert _states(tmp_path) == (["there", "missing"], False)
    with tarfile.open(tmp_path / "p.tar", "w") as content:
        for name in ("train/1.jpg", "train/2.jpg"):
            content.addfile(tarfile.TarInfo(name))
    (tmp_path / "here").mkdir()
    (tmp_path / "p.tar").rename(tmp_path / "here/p.tar.gz")
    fetch("toy", tmp_path, str(tmp_path / "here"))
    assert _states(tmp_path) == (["there", "there"], True)


def test_a_broken_record_is_named(toy: Any, tmp_path: Path) -> None:
    (tmp_path / RECORD).write_text("[]")
    with pytest.raises(InputError, match=r"regionclip-data\.json, key 'archives'"):
        fetch("toy", tmp_path)


def test_the_commands_fetch_and_tell(
    toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(SOURCES, "flickr30k", SOURCES["toy"])
    for line in ("fetched from", "there already"):
        assert cli.main(["data", "fetch", "flickr30k", "--root", str(tmp_path)]) == 0
        assert capsys.readouterr().out.count(line) == 2
    assert cli.main(["data", "status", "flickr30k", "--root", str(tmp_path)]) == 0
    (tmp_path / "toy/train/1.jpg").write_text("other")
    assert cli.main(["data", "status", "flickr30k", "--root", str(tmp_path)]) == 1
    assert "differs" in capsys.readouterr().out


def test_a_stopped_fetch_says_that_it_goes_on(
    toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("regionclip.workspace.fetch.fetching.download", stopped)
    assert cli.main(["data", "fetch", "flickr30k", "--root", str(tmp_path)]) == 4
    assert "run it again to go on" in capsys.readouterr().err
