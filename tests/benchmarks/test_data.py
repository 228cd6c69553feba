"""The benchmarks of data run at a small size, and their page keeps the parts that were not measured again."""

from __future__ import annotations

import pytest

from benchmarks import data, data_evaluation, data_shards, data_store


def test_the_page_keeps_what_was_not_measured():
    """Parts stand in one order, whichever is measured first; a part measured again is replaced."""
    page = data.page("", {"shards": ["eight", "", "| nine |"]})
    page = data.page(page, {"concepts": ["one"]})
    assert page.index("## concepts") < page.index("one") < page.index("## shards") < page.index("eight")
    assert page == data.page(page, {"concepts": ["one"]}), "measuring again gives the same page"
    again = data.page(page, {"shards": ["ten"]})
    assert "one" in again and "ten" in again and "eight" not in again
    assert "`python -m benchmarks.data concepts` on" in again


def test_rows_say_what_holds():
    """A promise that is kept, one that is not, and a number without promise."""
    rows = data._table(("rate", 2500.4, ">= 2000", True), ("seconds", 2.0, "< 1", False), ("size", 3e9, "", None))
    assert rows[2:] == [
        "| rate | 2,500 | >= 2000 | yes |",
        "| seconds | 2 | < 1 | no |",
        "| size | 3,000,000,000 |  |  |",
    ]


@pytest.mark.slow
def test_the_benchmarks_run(monkeypatch):
    """At a small size each measures what its name says: as many images, indexed and decoded, ratios above one."""
    monkeypatch.setattr(data_shards, "ROUND", 8)
    found = data_shards.shards_benchmark(images=32)
    assert found["images"] == 32 and found["decode_microseconds"] > found["read_microseconds_at_random"] > 0
    monkeypatch.setattr(data_store, "NAMES", 10)
    found = data_store.store_benchmark(images=300, ids=500)
    assert found["regions"] == 30_000 and found["ids"] == 500
    # 20 bytes a region, and 16 labels of 2 + 4 bytes.
    assert 116 <= found["gigabytes"] * 1e9 / found["regions"] < 122
    assert found["images_a_second"] > 0 and found["memory_growth"] < 100
    for case in data_evaluation.CASES:
        small = case._replace(images=12, classes=9, found=20)
        found = data_evaluation.evaluation_benchmark(small)
        assert 0.05 < found["ap"] < 0.9 and 0 < found["gib"] < 1
    found = data_evaluation.turns_benchmark(data_evaluation.TURNS[0]._replace(images=12, classes=9, found=20), 1)
    assert found["difference"] <= 1e-6
    assert data_evaluation.times(found, files=False) > data_evaluation.times(found, files=True) > 0
