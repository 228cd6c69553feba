"""Fetching over HTTP: the same bytes after a broken connection, a stop, a redirect or a busy server, and no others."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from regionclip.errors import InputError
from regionclip.workspace.fetch.download import download

CONTENT = random.Random(0).randbytes(300_000)


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "sets" / "a.zip.part"


def _get(served: Any, part: Path, size: int | None = len(CONTENT), path: str = "/a.zip") -> list[int]:
    seen: list[int] = []
    download(f"{served.address}{path}", part, size, lambda done, _: seen.append(done), pause=0.001)
    return seen


def test_a_file_comes_whole(served: Any, part: Path) -> None:
    served.files["/a.zip"] = CONTENT
    seen = _get(served, part)
    assert seen[-1] == len(CONTENT)
    assert part.read_bytes() == CONTENT


def test_broken_connections_are_gone_on_from_where_they_broke(served: Any, part: Path) -> None:
    """Three answers end after 70,000 bytes; whole pieces of 65,536 bytes are kept and asked for once only."""
    served.files["/a.zip"], served.cut_after, served.cuts = CONTENT, 70_000, 3
    _get(served, part)
    assert part.read_bytes() == CONTENT
    assert [asked for _, asked in served.log] == [None, "bytes=65536-", "bytes=131072-", "bytes=196608-"]


def test_a_stopped_command_is_gone_on_from_where_it_stopped(served: Any, part: Path) -> None:
    served.files["/a.zip"] = CONTENT

    class Stopped(Exception):
        pass

    def stop(done: int, _: int | None) -> None:
        raise Stopped

    served.cut_after, served.cuts = 140_000, 1
    with pytest.raises(Stopped):
        download(f"{served.address}/a.zip", part, None, stop)
    have = part.stat().st_size
    assert 0 < have < len(CONTENT)
    _get(served, part)
    assert part.read_bytes() == CONTENT and served.log[-1] == ("/a.zip", f"bytes={have}-")


def _fail_from_now(served: Any) -> Any:
    """After the first bytes the server is down for good."""

    def report(done: int, _: int | None) -> None:
        served.statuses["/a.zip"] = [503] * 99

    return report


def test_where_going_on_is_not_possible_it_starts_anew(served: Any, part: Path) -> None:
    served.files["/a.zip"], served.cut_after, served.cuts, served.ranges = CONTENT, 140_000, 2, False
    _get(served, part)
    assert part.read_bytes() == CONTENT


def test_a_whole_part_left_by_a_stop_is_not_fetched_again(served: Any, part: Path) -> None:
    served.files["/a.zip"] = CONTENT
    _get(served, part)
    assert _get(served, part) == _get(served, part, size=None) == []
    assert [asked for _, asked in served.log] == [None, "bytes=300000-"]
    assert part.read_bytes() == CONTENT


def test_a_longer_part_is_thrown_away(served: Any, part: Path) -> None:
    served.files["/a.zip"] = CONTENT
    _get(served, part)
    served.files["/a.zip"] = CONTENT[:100]
    _get(served, part, size=100)
    assert part.read_bytes() == CONTENT[:100]


def test_redirects_are_followed_when_going_on_too(served: Any, part: Path) -> None:
    served.files["/far/b"], served.cut_after, served.cuts = CONTENT, 70_000, 1
    served.redirects = {"/a.zip": "/near", "/near": f"{served.address}/far/b"}
    _get(served, part)
    assert part.read_bytes() == CONTENT
    assert ("/far/b", "bytes=65536-") in served.log


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again(served: Any, part: Path, status: int) -> None:
    served.files["/a.zip"], served.statuses = CONTENT, {"/a.zip": [status, status]}
    _get(served, part)
    assert part.read_bytes() == CONTENT and len(served.log) == 3


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_final_and_named(served: Any, part: Path, status: int) -> None:
    served.statuses["/a.zip"] = [status]
    with pytest.raises(InputError, match=rf"/a\.zip: status {status}.*address"):
        _get(served, part)
    assert len(served.log) == 1 and not list(part.parent.iterdir())


def test_another_size_is_refused_before_a_byte_is_kept(served: Any, part: Path) -> None:
    served.files["/a.zip"] = CONTENT
    with pytest.raises(InputError, match="offers 300000 bytes, not 299999"):
        _get(served, part, size=299_999)
    assert not list(part.parent.iterdir())


def test_a_server_that_never_answers_is_given_up_and_the_part_stays(served: Any, part: Path) -> None:
    served.files["/a.zip"], served.cut_after, served.cuts = CONTENT, 70_000, 1
    with pytest.raises(InputError, match=r"given up after 6 tries at 65536 bytes.*goes on from there"):
        download(f"{served.address}/a.zip", part, None, _fail_from_now(served), pause=0.0001)
    assert part.stat().st_size == 65_536


def test_no_server_is_given_up(part: Path) -> None:
    with pytest.raises(InputError, match="given up after 6 tries at 0 bytes"):
        download("http://127.0.0.1:9/a.zip", part, None, lambda *_: None, pause=0.0001)


def test_no_address_is_named(part: Path) -> None:
    with pytest.raises(InputError, match="cannot be fetched"):
        download("nowhere/a.zip", part, None, lambda *_: None)
