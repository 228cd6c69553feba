"""Bad records are kept once with their reason, counted by kind, and limited."""

from __future__ import annotations

import json

import pytest

from regionclip.data.rejects import Rejects
from regionclip.errors import InputError, printable


def _error(record: int, problem: str = "not JSON (at 3)") -> InputError:
    return InputError(problem, file="a.jsonl", record=record, key="caption", mend="mend it")


def test_the_file_tells_each_record_once(tmp_path):
    """A line has all that the error says; a record met twice is there once; characters stay readable."""
    path = tmp_path / "a_rejected.jsonl"
    with Rejects(path, 1) as rejects:
        for error in (_error(1), _error(1), _error(2, "caf\xe9")):
            rejects.add(error)
        assert len(rejects) == 2 and not path.exists()
    first, second = path.read_text(encoding="utf-8").splitlines()
    wanted = {"file": "a.jsonl", "record": "1", "key": "caption", "reason": "not JSON (at 3)", "mend": "mend it"}
    assert json.loads(first) == wanted and "caf\xe9" in second


@pytest.mark.parametrize("odd", ["\udcff", "\ud83d", "\u2028", "\x85", "\x1b[31m", "\x1c"])
def test_each_record_is_one_line_of_unicode(tmp_path, odd):
    """Whatever is in its name."""
    with Rejects(tmp_path / "a_rejected.jsonl", 1) as rejects:
        rejects.add(InputError(f"the id is odd ({odd})", file=f"{odd}.tar", record=odd, mend="mend it"))
    (line,) = (tmp_path / "a_rejected.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["record"] == printable(odd)


def test_the_file_is_written_when_the_run_fails_and_is_gone_when_all_is_well(tmp_path):
    """What was found up to the error is told; a later run without bad records leaves no file behind."""
    path = tmp_path / "a_rejected.jsonl"
    with pytest.raises(RuntimeError), Rejects(path, 1) as rejects:
        rejects.add(_error(1))
        raise RuntimeError
    assert len(path.read_text().splitlines()) == 1
    with Rejects(path, 1):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("rejected", "total", "fine"), [(0, 0, True), (1, 10, True), (2, 19, False), (1, 1, False)])
def test_the_limit_is_a_fraction(tmp_path, rejected, total, fine):
    """With a limit of a tenth, a tenth passes and more does not; nothing out of nothing passes."""
    rejects = Rejects(tmp_path / "a_rejected.jsonl", 0.1)
    if fine:
        rejects.check(rejected, total, "a")
        return
    with pytest.raises(InputError, match=f"{rejected} of {total} records .* limit of 10.00%"):
        rejects.check(rejected, total, "a")


def test_kinds_are_counted_without_their_details(tmp_path):
    """Details in brackets do not make a kind of their own; the most frequent kind stands first."""
    rejects = Rejects(tmp_path / "a_rejected.jsonl", 0.1)
    for error in (_error(1, "empty"), _error(2, "not JSON (at 3)"), _error(3, "not JSON (at 9)")):
        rejects.add(error)
    assert list(rejects.counts().items()) == [("not JSON", 2), ("empty", 1)]
