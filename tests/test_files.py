"""Files appear whole or not at all; JSON and text are read as others write them; checksums see names and bytes."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import save_file

from regionclip import files
from regionclip.errors import InputError
from regionclip.files import (
    atomic_dir,
    atomic_path,
    full_disk_named,
    is_gone,
    parse_json,
    read_json,
    read_json_list,
    read_text,
    sha256_file,
    sha256_tree,
    sweep,
    temporary_dir,
    write_json,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FORK = multiprocessing.get_context("fork")


def test_file_appears_at_the_end_with_ordinary_rights(tmp_path: Path) -> None:
    path, ordinary = tmp_path / "new" / "a.txt", tmp_path / "ordinary.txt"
    with atomic_path(path) as beside:
        beside.write_text("one")
        assert not path.exists() and beside.parent == path.parent and beside.suffix == ".tmp"
    ordinary.touch()
    assert path.read_text() == "one" and path.stat().st_mode == ordinary.stat().st_mode
    assert list(path.parent.iterdir()) == [path]


def test_failed_block_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(path) as beside:
        beside.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    for name in ("old", "new"):
        with atomic_dir(path) as beside:
            (beside / name).touch()
    assert [file.name for file in path.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [path] and path.stat().st_mode & 0o500 == 0o500


def test_failed_block_leaves_the_old_folder(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").touch()
    with pytest.raises(RuntimeError), atomic_dir(path) as beside:
        (beside / "new").touch()
        raise RuntimeError
    assert [file.name for file in path.iterdir()] == ["old"] and list(tmp_path.iterdir()) == [path]


def _write_file(path: Path) -> None:
    with atomic_path(path) as beside:
        beside.write_text("new" * 1000)


def _write_folder(path: Path) -> None:
    with atomic_dir(path) as beside:
        (beside / "below").mkdir()
        for name in ("a", "below/b"):
            (beside / name).write_text("new")


def _content(path: Path) -> object:
    if path.is_dir():
        return {file.relative_to(path).as_posix(): file.read_text() for file in path.rglob("*") if file.is_file()}
    return path.read_text() if path.exists() else None


def _fork(act: Callable[[], object]) -> BaseProcess:
    """Start a function in a process of its own, which leaves out what other tests have registered for its end."""

    def run() -> None:
        act()
        os._exit(0)

    child = FORK.Process(target=run)
    child.start()
    return child


def _killed_at(wanted: int, act: Callable[[], object]) -> bool:
    """Run a function in a process that is killed before a change of the disk; False where it ended before."""

    def run() -> None:
        changes = itertools.count(1)

        def see(event: str, _: object) -> None:
            if event in {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"} and next(changes) == wanted:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(see)
        act()

    child = _fork(run)
    child.join()
    assert child.exitcode in (0, -signal.SIGKILL)
    return child.exitcode != 0


@pytest.mark.parametrize("disk", ["exchanges", "does not exchange"])
@pytest.mark.parametrize("write", [_write_file, _write_folder])
@pytest.mark.parametrize("before", [False, True])
def test_kill_at_any_instant_leaves_the_old_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], None], before: bool, disk: str
) -> None:
    """At each step in turn; then the next writer in the folder sweeps what was left, and nothing else."""
    if disk != "exchanges":
        monkeypatch.setattr(files, "_libc", object())
    seen = set()
    for step in itertools.count(1):
        folder = tmp_path / str(step)
        path = folder / "x"
        if before:
            write(path)
            (path / "old" if path.is_dir() else path).write_text("old")
        old = _content(path)
        if not _killed_at(step, lambda: write(path)):  # noqa: B023
            break
        if disk != "exchanges":
            # Between two renamings the folder is aside, and put back.
            sweep(folder)
        left = _content(path)
        seen.add("old" if left == old else "new")
        with atomic_path(folder / "y"):
            pass
        assert sorted(place.name for place in folder.iterdir()) == sorted({"y", *(["x"] if left is not None else [])})
        assert _content(path) == left
        write(tmp_path / "wanted")
        assert left in (old, _content(tmp_path / "wanted"))
    assert seen == {"old", "new"} and step > 5


def test_two_writers_of_one_folder_both_succeed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a disk that exchanges names and on one that does not; the folder is whole after each."""
    for number, library in enumerate((files._libc, object())):
        monkeypatch.setattr(files, "_libc", library)
        path = tmp_path / str(number) / "x"

        def write_often(path: Path = path) -> None:
            for _ in range(50):
                _write_folder(path)

        writers = [_fork(write_often) for _ in range(2)]
        for writer in writers:
            writer.join()
        assert [writer.exitcode for writer in writers] == [0, 0]
        assert _content(path) == {"a": "new", "below/b": "new"} and list(path.parent.iterdir()) == [path]


def test_temporaries_of_the_living_and_of_other_hosts_stay(tmp_path: Path) -> None:
    """Those of another host, whose processes cannot be seen, go when nothing has touched them for a day."""
    folder = tmp_path / "below"
    with temporary_dir(folder / "x") as living:
        digits = "0" if living.name[3] != "0" else "1"
        foreign = living.with_name(f".x.{digits}{living.name[4:]}")
        foreign.mkdir()
        assert sweep(folder) == [] and sorted(folder.iterdir()) == sorted([living, foreign])
        os.utime(foreign, (0, 0))
        assert sweep(tmp_path, below=True) == [foreign] and list(folder.iterdir()) == [living]


def test_process_that_nobody_has_waited_for_is_gone() -> None:
    """A zombie, as under a PID 1 that collects none; and a number that was given out again."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        started = psutil.Process(process.pid).create_time()
        assert not is_gone(process.pid, started) and is_gone(process.pid, started - 60)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert is_gone(process.pid, started)
    assert is_gone(process.pid, started)


def test_temporaries_are_no_content(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    before = sha256_tree(tmp_path)
    with temporary_dir(tmp_path / "b") as beside, atomic_path(tmp_path / "c"):
        (beside / "d").touch()
        assert sha256_tree(tmp_path) == before
        # But a folder that is being written has its own.
        assert sha256_tree(beside) != sha256_tree(tmp_path / "none")


def test_umask_of_other_threads_is_left_alone(tmp_path: Path) -> None:
    """Files of other threads get the rights that they ask for while this one writes."""
    stop, seen = threading.Event(), set()

    def look() -> None:
        for number in itertools.count():
            if stop.is_set():
                return
            (tmp_path / f"{number % 100}").unlink(missing_ok=True)
            (tmp_path / f"{number % 100}").touch()
            seen.add((tmp_path / f"{number % 100}").stat().st_mode & 0o777)

    before = os.umask(0o077)
    other = threading.Thread(target=look)
    try:
        other.start()
        for _ in range(50):
            write_json(tmp_path / "out" / "a.json", 1)
    finally:
        stop.set()
        other.join()
        os.umask(before)
    assert seen == {0o600} and (tmp_path / "out" / "a.json").stat().st_mode & 0o777 == 0o600


def test_long_names_have_room_for_what_is_added(tmp_path: Path) -> None:
    for name in ("n" * 255, "\N{SNOWMAN}" * 85):
        with atomic_path(tmp_path / name) as beside:
            beside.write_text("x")
        assert (tmp_path / name).read_text() == "x"


@settings(max_examples=30)
@given(JSON)
def test_json_comes_back(tmp_path: Path, value: object) -> None:
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value


def test_json_keeps_the_order_of_keys_and_readable_letters(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": "é", "a": [1]}, indent=None)
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{"b": "é", "a": [1]}\n'


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe{}", b"{'a': 1}"])
def test_what_is_no_json_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match="not JSON") as caught:
        read_json(path)
    assert caught.value.file == path


def test_absent_json_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.json: the file does not exist\. To mend: "):
        read_json(tmp_path / "a.json")


WINDOWS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32")


@pytest.mark.parametrize("encoding", WINDOWS)
def test_json_is_read_in_every_encoding_of_windows(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.json").write_bytes('{"name": "caf\xe9 \U0001f600"}'.encode(encoding))
    assert read_json(tmp_path / "a.json") == {"name": "caf\xe9 \U0001f600"}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("[" * 100_000, "brackets within each other"),
        ('{"n": ' + "9" * 5000 + "}", "4300 digits"),
        ('{"images": [1], "images": [2]}', "the key 'images' twice, with two values"),
        ('["caf\xe9"]'.encode("cp1252"), "'utf-8' codec"),
        (b"\xff\xfe[\xd8\x00", "codec"),
        (b"\0" * 100, "Expecting value"),
    ],
)
def test_json_that_would_end_a_stage_or_lose_data_is_refused(content: str | bytes, why: str) -> None:
    """What json.loads answers with another error, or with a value that is not what the file says."""
    with pytest.raises(InputError, match=r"a\.json, record line 3: not JSON \(.*To mend") as caught:
        parse_json(content, file="a.json", record="line 3")
    assert why in caught.value.problem


def test_a_key_given_twice_with_one_value_is_read() -> None:
    assert parse_json('[{"area": 5, "area": 5.0}]', file="a.json") == [{"area": 5}]


@given(st.lists(st.sampled_from([r"\ud83d", r"\ude00", r"\uD83D\uDE00", r"\\ud83d", r"\\", r"\n", "a", r"\u00e9"])))
def test_half_a_surrogate_pair_becomes_the_mark_of_a_lost_letter(parts: list[str]) -> None:
    """All else comes out as json.loads reads it."""
    text = f'"{"".join(parts)}"'
    wanted = "".join("\ufffd" if "\ud800" <= letter <= "\udfff" else letter for letter in json.loads(text))
    assert parse_json(text, file="a.json") == wanted


@given(st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode()), st.data())
def test_parsing_gives_a_value_or_the_error_of_the_input(content: bytes, data: st.DataObject) -> None:
    """Whatever bytes: nothing but InputError leaves."""
    cut = data.draw(st.integers(0, len(content)))
    changed = content[:cut] + data.draw(st.binary(max_size=3)) + content[cut:]
    for encoded in (changed, changed.decode("latin-1").encode("utf-16")):
        try:
            parse_json(encoded, file="a.json")
        except InputError as error:
            assert error.mend


@pytest.mark.parametrize("encoding", [*WINDOWS, "cp1252"])
@pytest.mark.parametrize("names", ["heart\r\n", "caf\xe9\r\nna\xefve", "\u010desk\xe1 \u0161kola\r\n", "h"])
def test_text_is_read_in_every_encoding_of_windows(tmp_path: Path, encoding: str, names: str) -> None:
    try:
        content = names.encode(encoding)
    except UnicodeEncodeError:
        pytest.skip("cp1252 has no such letter")
    (tmp_path / "names.txt").write_bytes(content)
    assert read_text(tmp_path / "names.txt") == names


@pytest.mark.parametrize("content", [b"caf\xc3\xa9 caf\xe9", b"a\x81b", b"a" * 50 + b"\0", b"\xff\xfea"])
def test_what_is_no_text_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "names.txt").write_bytes(content)
    with pytest.raises(InputError, match=r"names\.txt: not text \(.*save the file as UTF-8"):
        read_text(tmp_path / "names.txt")


@pytest.mark.parametrize("name", [".", "a" * 300, "a\0b"])
@pytest.mark.parametrize("read", [read_json, read_text])
def test_paths_that_cannot_be_read_are_named(tmp_path: Path, read: Callable[[Path], object], name: str) -> None:
    with pytest.raises(InputError, match="the file cannot be read"):
        read(tmp_path / name)


def test_unwritable_value_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"x": object()})
    assert list(tmp_path.iterdir()) == []


def test_checksum_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_file(tmp_path / "a") == sha256_tree(tmp_path / "a") == expected


def test_checksum_of_a_folder_sees_names_and_bytes(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "a").write_bytes(b"abc")
    first = sha256_tree(tmp_path)
    assert first == hashlib.sha256(f"b/a\0{sha256_file(tmp_path / 'b' / 'a')}\n".encode()).hexdigest()
    (tmp_path / "b" / "__pycache__").mkdir()
    (tmp_path / "b" / "__pycache__" / "a.pyc").touch()
    assert sha256_tree(tmp_path) == first
    (tmp_path / "b" / "a").rename(tmp_path / "b" / "c")
    renamed = sha256_tree(tmp_path)
    (tmp_path / "b" / "c").write_bytes(json.dumps(1).encode())
    assert len({first, renamed, sha256_tree(tmp_path)}) == 3


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_full_disk_is_named_with_folder_and_mend(tmp_path: Path, number: int) -> None:
    with pytest.raises(InputError, match=os.strerror(number)) as caught, full_disk_named(tmp_path):
        raise OSError(number, os.strerror(number))
    assert caught.value.file == tmp_path and "make room there" in caught.value.mend
    with pytest.raises(InputError) as caught, full_disk_named(tmp_path):
        try:
            raise OSError(number, os.strerror(number), "/elsewhere/file")
        except OSError as error:
            raise ValueError("wrapped") from error
    assert caught.value.file == Path("/elsewhere")


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), full_disk_named(tmp_path):
        raise PermissionError(errno.EACCES, "no")
    with pytest.raises(InputError, match="^mine"), full_disk_named(tmp_path):
        raise InputError("mine")


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file of this process may be larger than 50 kB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


NUMBERS = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)


@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize(
    "write",
    [
        lambda path: save_file({"a": NUMBERS}, path),
        lambda path: torch.save({"a": torch.from_numpy(NUMBERS)}, path),
        lambda path: pa.OSFile(str(path), "wb").write(NUMBERS.tobytes()),
        lambda path: np.save(path, NUMBERS),
        lambda path: Image.fromarray(NUMBERS).save(path, format="png"),
        lambda path: path.write_bytes(NUMBERS.tobytes()),
        lambda path: write_json(path, NUMBERS.tolist()),
    ],
    ids=["safetensors", "torch", "arrow", "numpy", "pillow", "bytes", "json"],
)
def test_a_full_disk_is_known_in_the_words_of_each_library(tmp_path: Path, write: Callable[[Path], Any]) -> None:
    with pytest.raises(InputError, match="the disk takes no more") as caught, full_disk_named(tmp_path):
        write(tmp_path / "file")
    assert caught.value.file == tmp_path and caught.value.exit_code == 2


LISTS = st.lists(st.recursive(st.none() | st.integers() | st.text(max_size=4), st.lists, max_leaves=4), max_size=6)


@given(LISTS, st.sampled_from([None, 1]), st.integers(1, 9))
def test_a_list_is_read_item_by_item_whatever_the_pieces_are(
    value: list[object], indent: int | None, piece: int
) -> None:
    """Whatever the pieces are that the file is read in."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path = Path(folder) / "list.json"
        path.write_text(json.dumps(value, indent=indent) + "\n", encoding="utf-8")
        patch.setattr(files, "_START", piece)
        assert [*read_json_list(path, "give a list")] == value


@pytest.mark.parametrize("content", ["", "{}", "[1", "[1,", "[1 2]", "[1,]", "[1] 2", '[{"a": 1, "a": 2}]', "[" * 9999])
def test_what_is_no_list_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "list.json").write_text(content)
    with pytest.raises(InputError, match=r"list\.json: not a list in JSON.*To mend: give a list"):
        list(read_json_list(tmp_path / "list.json", "give a list"))


def test_keys_can_be_left_out(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", [{"id": 1, "mask": [1, 2]}, {"mask": {"id": 3}}])
    assert read_json(tmp_path / "a.json", without=("mask",)) == [{"id": 1}, {}]
