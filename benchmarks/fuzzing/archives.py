"""Archives, damaged: unpacked whole, or refused with nothing left of them."""

from __future__ import annotations

import io
import random
import tarfile
import zipfile
from functools import cache
from pathlib import Path

from benchmarks.fuzzing.mutation import mutated
from regionclip.errors import InputError
from regionclip.workspace.fetch.unpacking import unpack

_FILES = {"a/one.txt": b"one " * 300, "a/b/two.bin": bytes(range(256)) * 4, "three.txt": b"", "x" * 120: b"long name"}
_NAMES = ("./", "a/", "a", "../out", "/out", "..\\out", "C:/out", "a/one.txt/under", "y" * 300, "\udc80", "a\0b", "")
_TYPES = (tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE)


@cache
def samples() -> dict[str, bytes]:
    """Return a sound archive of each kind by suffix; all hold the same files."""
    return {suffix: _packed(suffix, list(_FILES.items()), random.Random(0)) for suffix in (".zip", ".tar", ".tar.gz")}


def run(folder: Path, rng: random.Random) -> str:
    """Damage an archive, or write one with an odd member, and unpack it into a folder that holds something."""
    suffix = rng.choice(sorted(samples()))
    odd = rng.random() < 0.3
    members = [*_FILES.items()]
    members.insert(rng.randrange(len(members) + 1), (rng.choice(_NAMES), rng.randbytes(rng.randrange(40))))
    archive, target = folder / f"archive{suffix}", folder / "target"
    archive.write_bytes(_packed(suffix, members, rng) if odd else mutated(samples()[suffix], rng))
    (target / "a").mkdir(parents=True)
    (target / "a/mine.txt").write_text("mine")
    if rng.random() < 0.2:
        (target / "three.txt").mkdir()
    before = _content(folder)
    try:
        sizes = unpack(archive, target)
    except InputError as error:
        assert error.mend and _content(folder) == before, "something of a refused archive stays"
        return "refused"
    after = _content(folder)
    assert set(after) == set(before) | {f"target/{name}" for name in sizes}, "the count is not of what is there"
    assert all(after[name] == content for name, content in before.items()), "a file of the user's has changed"
    return "ok"


def _content(folder: Path) -> dict[str, bytes]:
    files = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*")}
    return {name: file.read_bytes() for name, file in files.items() if file.is_file()}


def _packed(suffix: str, members: list[tuple[str, bytes]], rng: random.Random) -> bytes:
    buffer = io.BytesIO()
    if suffix == ".zip":
        with zipfile.ZipFile(buffer, "w") as content:
            for name, data in members:
                entry = zipfile.ZipInfo(name.encode("utf-8", "replace").decode())
                entry.external_attr = 0 if name in _FILES else rng.choice([0, 0o120777, 0o100644]) << 16
                content.writestr(entry, data, rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
        return buffer.getvalue()
    with tarfile.open(fileobj=buffer, mode="w:gz" if suffix.endswith("gz") else "w") as content:
        for name, data in members:
            entry = tarfile.TarInfo(name)
            entry.type = tarfile.REGTYPE if name in _FILES else rng.choice(_TYPES)
            entry.size = len(data) if entry.isreg() else 0
            entry.linkname = rng.choice(["a/one.txt", "../../etc/passwd", "/etc/passwd", ".", "nowhere"])
            content.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()
