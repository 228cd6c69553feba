"""Fetching one file over HTTP: goes on after a broken connection or a stop, from where it was."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import requests

from regionclip.errors import InputError

_CHUNK = 1 << 16  # what a broken connection loses at most
_TIMEOUT = (15, 60)  # seconds to connect, and between two pieces
_PASSING = {429, 500, 502, 503, 504}  # statuses that pass by themselves
_TRIES = 6

Report = Callable[[int, int | None], None]


class _Passing(Exception):
    """The connection broke, or the server is busy: worth another try."""


_PASSING_ERRORS = (_Passing, requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)


def download(url: str, part: Path, size: int | None, report: Report, pause: float = 1.0) -> None:
    """Fetch ``url`` to the file ``part``; redirects are followed.

    What is there already is kept where the server can go on from it; else the file is fetched from its start. Whether
    the whole is of one version is for its checksum to say.

    Args:
        url: Address.
        part: The file, which holds a part as long as not all has come.
        size: Bytes that it must have; None takes any.
        report: Called with the bytes fetched so far and their total, if known.
        pause: Seconds before the second try; each failure without progress doubles it.

    Raises:
        InputError: The server refuses, offers another size, or breaks off again and again without progress. What was
            fetched stays.
    """
    if _size(part) == size:
        return
    part.parent.mkdir(parents=True, exist_ok=True)
    failures = 0
    with requests.Session() as session:
        while True:
            before = _size(part)
            try:
                _go_on(session, url, part, size, report)
                return
            except _PASSING_ERRORS as error:
                failures = 0 if _size(part) > before else failures + 1
                if failures == _TRIES:
                    problem = f"given up after {_TRIES} tries at {_size(part)} bytes ({error})"
                    raise InputError(problem, file=url, mend="run the command again: it goes on from there") from None
            except requests.RequestException as error:
                raise InputError(f"cannot be fetched ({error})", file=url, mend="mend the address") from None
            time.sleep(pause * 2 ** max(failures - 1, 0))


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _go_on(session: requests.Session, url: str, part: Path, size: int | None, report: Report) -> None:
    """Fetch what is missing of ``part`` in one request."""
    have = _size(part)
    # Compression on the way would make the lengths those of other bytes.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with session.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            # There is nothing behind byte `have`: the part is whole, or another file's.
            if response.headers.get("Content-Range") != f"bytes */{have}":
                part.unlink()
                raise _Passing("the file on the server became shorter")
            return
        start, total = _place(response, url, have)
        if None not in (size, total) and total != size:
            mend = "fetch from a --mirror that has the file"
            raise InputError(f"the server offers {total} bytes, not {size}", file=url, mend=mend)
        with part.open("ab" if start else "wb") as handle:
            for chunk in response.iter_content(_CHUNK):
                handle.write(chunk)
                report(handle.tell(), total)
    if total is not None and _size(part) != total:
        raise _Passing(f"{_size(part)} of {total} bytes came")


def _place(response: requests.Response, url: str, have: int) -> tuple[int, int | None]:
    """Return from which byte the answer starts, and the length of the whole file if the server says it."""
    if response.status_code in _PASSING:
        raise _Passing(f"status {response.status_code}")
    if response.status_code == requests.codes.partial_content:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if found is None or int(found[1]) != have:
            problem = "the server answers with other bytes than asked for"
            raise InputError(problem, file=url, mend="remove the .part file beside")
        return have, None if found[2] == "*" else int(found[2])
    if not response.ok:
        problem = f"status {response.status_code} ({response.reason})"
        raise InputError(problem, file=url, mend="look for the file's new address")
    length = response.headers.get("Content-Length")
    return 0, None if length is None else int(length)
