"""Coverage: class names found under each spelling, those too rare, those absent; the table."""

from __future__ import annotations

from pathlib import Path

import pytest

from regionclip.text.coverage import coverage, write_table

COUNTS = {"star": 9, "ski": 5, "red star": 2, "surf board": 4, "surfboard": 6, "t-shirt": 3, "boat": 1, "knife": 8}


def test_names_are_found_as_they_are_and_in_the_singular_and_the_rest_is_told_apart() -> None:
    assert coverage(["star", "skis", "Red star", "boat", "zebra"], COUNTS, minimum_count=2) == {
        "classes": 5,
        "found": 3,
        "fraction": 0.6,
        "counts": {"star": 9, "skis": 5, "Red star": 2, "boat": 0, "zebra": 0},
        "spellings": {"star": {"star": 9}, "skis": {"ski": 5}, "Red star": {"red star": 2}, "boat": {}, "zebra": {}},
        "too_rare": {"boat": 1},
        "absent": ["zebra"],
    }


@pytest.mark.parametrize(
    ("name", "spellings"),
    [
        ("surfboard", {"surfboard": 6, "surf board": 4}),
        ("surf_board", {"surfboard": 6, "surf board": 4}),
        ("surf-boards", {"surfboard": 6, "surf board": 4}),
        ("T shirt", {"t-shirt": 3}),
        ("knives", {"knife": 8}),
        ("board", {}),
        ("stars and ski", {}),
        ("starfish", {}),
        ("", {}),
    ],
)
def test_spellings_of_a_name(name: str, spellings: dict[str, int]) -> None:
    report = coverage([name], COUNTS, minimum_count=2)
    assert report["spellings"][name] == spellings
    assert list(report["spellings"][name]) == list(spellings), "most frequent first"
    assert report["counts"][name] == sum(spellings.values())


def test_spellings_below_the_minimum_do_not_count() -> None:
    report = coverage(["surfboard"], COUNTS, minimum_count=5)
    assert report["spellings"] == {"surfboard": {"surfboard": 6}}
    rare = coverage(["surfboard"], COUNTS, minimum_count=7)
    assert (rare["found"], rare["too_rare"], rare["absent"]) == (0, {"surfboard": 10}, [])


def test_a_plural_in_the_captions_is_found_for_a_singular_class() -> None:
    assert coverage(["scissor", "mouse"], {"scissors": 3, "mice": 2}, 1)["counts"] == {"scissor": 3, "mouse": 2}


def test_no_class_is_no_division_by_zero() -> None:
    assert coverage([], COUNTS, 1)["fraction"] == 0.0


def test_the_table_has_a_line_for_each_class(tmp_path: Path) -> None:
    report = coverage(["surfboard", "boat", "zebra, plains"], COUNTS, minimum_count=2)
    write_table({"coco": {"novel": report}}, tmp_path / "coverage.csv")
    assert (tmp_path / "coverage.csv").read_text().splitlines() == [
        "dataset,group,class,status,mentions,spellings",
        "coco,novel,surfboard,in the pool,10,surfboard 6; surf board 4",
        "coco,novel,boat,too rare,1,",
        'coco,novel,"zebra, plains",absent,0,',
    ]
