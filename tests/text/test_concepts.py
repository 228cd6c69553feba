"""The concept pool: order, threshold, the official text format, files that are refused."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from regionclip.errors import InputError
from regionclip.text.concepts import ConceptPool

COUNTS = Counter({"star": 2, "red star": 1, "ring": 2, "stop sign": 1})


def _pool(**changes: object) -> ConceptPool:
    values = {"parser": "pattern", "minimum_count": 1, "sources": {"captions.json": "ab"}} | changes
    return ConceptPool.from_counts(COUNTS, **values)


def test_the_pool_is_sorted_by_falling_count_then_name_and_cut() -> None:
    assert _pool().concepts == ("ring", "star", "red star", "stop sign")
    assert _pool(minimum_count=2).concepts == ("ring", "star")
    assert _pool(minimum_count=2).counts == (2, 2)


def test_the_csv_is_the_official_text_format_and_loads_again(tmp_path: Path) -> None:
    pool = _pool()
    pool.save(tmp_path / "concepts.csv")
    assert (tmp_path / "concepts.csv").read_text() == "ring,2\nstar,2\nred star,1\nstop sign,1\n"
    assert ConceptPool.load(tmp_path / "concepts.csv") == pool
    about = json.loads((tmp_path / "concepts.json").read_text())
    assert about["concepts"] == 4 and about["sources"] == {"captions.json": "ab"}


@pytest.mark.parametrize("lines", ["ring,2\nstar,2\n", "ring,2\nstar\n", "ring,2\nring,1\n", ""])
def test_a_pool_that_is_not_as_it_was_saved_is_refused(tmp_path: Path, lines: str) -> None:
    file = tmp_path / "concepts.csv"
    _pool().save(file)
    file.write_text(lines)
    with pytest.raises(InputError, match=r"concepts\.csv: it does not fit the checksum in concepts\.json.*To mend"):
        ConceptPool.load(file)
    file.unlink()
    with pytest.raises(InputError, match=r"concepts\.csv: the file does not exist"):
        ConceptPool.load(file)


def test_a_missing_file_or_key_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "concepts.csv"
    with pytest.raises(InputError, match="concepts.json.*does not exist"):
        ConceptPool.load(file)
    _pool().save(file)
    (tmp_path / "concepts.json").write_text('{"parser": "pattern"}')
    with pytest.raises(InputError, match="concepts.json, key 'minimum_count'"):
        ConceptPool.load(file)
