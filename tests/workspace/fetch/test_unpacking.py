"""Unpacking: archives land whole beside what is there, and none of their members outside the folder."""

from __future__ import annotations

import io
import random
import shutil
import tarfile
import zipfile
from collections import Counter, namedtuple
from pathlib import Path

import pytest

from benchmarks.fuzzing.archives import run
from regionclip.errors import InputError
from regionclip.workspace.fetch.unpacking import unpack


def _zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as content:
        for name, value in members.items():
            content.writestr(name, value)
    return path


def _tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as content:
        for name, value in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(value)
            content.addfile(entry, io.BytesIO(value))
    return path


@pytest.mark.parametrize("make", [_zip, _tar])
def test_it_joins_what_is_there(tmp_path: Path, make: object) -> None:
    """COCO's annotations come from one archive into a folder that may hold others."""
    folder = tmp_path / "coco"
    (folder / "annotations").mkdir(parents=True)
    (folder / "annotations/own.json").write_text("mine")
    (folder / "annotations/a.json").write_text("old")
    archive = make(tmp_path / "a.zip", {"annotations/a.json": b"new", "train/1.jpg": b"12345"})
    assert unpack(archive, folder) == {"annotations/a.json": 3, "train/1.jpg": 5}
    assert {file.relative_to(folder).as_posix(): file.read_text() for file in folder.rglob("*.*")} == {
        "annotations/own.json": "mine",
        "annotations/a.json": "new",
        "train/1.jpg": "12345",
    }


@pytest.mark.parametrize(
    ("make", "name"),
    [(_zip, "/evil.txt"), *((make, name) for make in (_zip, _tar) for name in ("../evil.txt", "a/../../evil.txt"))],
)
def test_a_member_that_leaves_the_folder_is_refused(tmp_path: Path, make: object, name: str) -> None:
    archive = make(tmp_path / "a.zip", {"good.txt": b"1", name: b"2"})
    with pytest.raises(InputError, match=r"a\.zip.*leaves the folder"):
        unpack(archive, tmp_path / "in")
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == ["a.zip"]


def test_tar_strips_the_root_of_absolute_names(tmp_path: Path) -> None:
    assert unpack(_tar(tmp_path / "a.tar.gz", {"/evil/a.txt": b"2"}), tmp_path / "in") == {"evil/a.txt": 1}


@pytest.mark.parametrize("name", ["..\\evil.txt", "C:\\evil.txt"])
def test_names_of_other_systems_are_refused_too(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="leaves the folder"):
        unpack(_zip(tmp_path / "a.zip", {name: b"2"}), tmp_path / "in")


def test_links_that_lead_out_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as content:
        entry = tarfile.TarInfo("link")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc"
        content.addfile(entry)
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as content:
        content.writestr(link, "/etc")
    for name in ("a.tar", "a.zip"):
        with pytest.raises(InputError, match="'link' is a link"):
            unpack(tmp_path / name, tmp_path / "in")


@pytest.mark.parametrize("make", [_zip, _tar])
def test_a_damaged_archive_leaves_nothing(tmp_path: Path, make: object) -> None:
    archive = make(tmp_path / "a.zip", {"a.bin": bytes(range(256)) * 400})
    content = bytearray(archive.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 40] = bytes(40)
    archive.write_bytes(content if make is _zip else content[:middle])
    (tmp_path / "in").mkdir()
    with pytest.raises(InputError, match="no whole archive"):
        unpack(archive, tmp_path / "in")
    assert not list((tmp_path / "in").iterdir())


def test_a_page_instead_of_an_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_text("<html>login</html>")
    with pytest.raises(InputError, match="no whole archive"):
        unpack(tmp_path / "a.zip", tmp_path / "in")


@pytest.mark.parametrize("make", [_zip, _tar])
def test_what_does_not_fit_on_the_disk_is_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: object
) -> None:
    archive = make(tmp_path / "a.zip", {"a.bin": bytes(5000)})
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, 4999))
    with pytest.raises(InputError, match="at least 5000 bytes, and the disk has 4999 left"):
        unpack(archive, tmp_path / "in")
    assert not list((tmp_path / "in").iterdir())


def test_the_folder_itself_may_be_a_member(tmp_path: Path) -> None:
    assert unpack(_zip(tmp_path / "a.zip", {"./": b"", "./a.txt": b"x"}), tmp_path / "in") == {"a.txt": 1}


def _changed(file: Path, local: int, central: int, value: int) -> Path:
    """Set a byte of a member's header, in both places where a zip has it."""
    content = bytearray(file.read_bytes())
    content[local] = content[content.rfind(b"PK\x01\x02") + central] = value
    file.write_bytes(content)
    return file


@pytest.mark.parametrize(("local", "central", "value"), [(6, 8, 1), (8, 10, 97), (8, 10, 14)])
def test_encryption_and_other_compressions_are_refused(tmp_path: Path, local: int, central: int, value: int) -> None:
    archive = _changed(_zip(tmp_path / "a.zip", {"a.txt": b"x"}), local, central, value)
    with pytest.raises(InputError, match="encrypted|compressed by method"):
        unpack(archive, tmp_path / "in")


@pytest.mark.parametrize("make", [_zip, _tar])
@pytest.mark.parametrize(("have", "member"), [("a/b/c.txt", "a/b"), ("a/b", "a/b/c.txt")])
def test_a_file_is_not_put_where_a_folder_is(tmp_path: Path, make: object, have: str, member: str) -> None:
    """Nor a folder where a file is; and no other member is put in place before that is found."""
    (tmp_path / "in" / have).parent.mkdir(parents=True)
    (tmp_path / "in" / have).write_text("mine")
    with pytest.raises(InputError, match="the archive has it otherwise"):
        unpack(make(tmp_path / "a.zip", {"0.txt": b"x", member: b"x"}), tmp_path / "in")
    assert [file.name for file in (tmp_path / "in").rglob("*") if file.is_file()] == [Path(have).name]


def test_no_member_behind_a_damaged_header_is_lost(tmp_path: Path) -> None:
    """tarfile takes it for the end."""
    with tarfile.open(tmp_path / "a.tar", "w") as content:
        for name in "abc":
            content.addfile(tarfile.TarInfo(name))
    raw = bytearray((tmp_path / "a.tar").read_bytes())
    raw[512] ^= 1
    (tmp_path / "a.tar").write_bytes(raw)
    with pytest.raises(InputError, match="unexpected end of data"):
        unpack(tmp_path / "a.tar", tmp_path / "in")


def test_a_tar_whose_last_member_is_a_zip_is_a_tar(tmp_path: Path) -> None:
    inner = _zip(tmp_path / "inner.zip", {"inner.txt": b"1"}).read_bytes()
    with tarfile.open(tmp_path / "a.tar", "w") as content:
        entry = tarfile.TarInfo("b.zip")
        entry.size = len(inner)
        content.addfile(entry, io.BytesIO(inner))
    assert unpack(tmp_path / "a.tar", tmp_path / "in") == {"b.zip": len(inner)}


def test_gzips_checksum_is_looked_at(tmp_path: Path) -> None:
    archive = _tar(tmp_path / "a.tar.gz", {"a.bin": bytes(10)})
    raw = bytearray(archive.read_bytes())
    raw[-8] ^= 1
    archive.write_bytes(raw)
    with pytest.raises(InputError, match="CRC"):
        unpack(archive, tmp_path / "in")


def test_damaged_archives_are_refused_or_whole(tmp_path: Path) -> None:
    """The fuzz of benchmarks/fuzzing, some hundred times."""
    for seed in range(200):
        (tmp_path / str(seed)).mkdir()
    found = Counter(run(tmp_path / str(seed), random.Random(seed)) for seed in range(200))
    assert found.keys() == {"ok", "refused"} and min(found.values()) > 20
