"""The laboratory's draws of pictures keep their boxes together, and its tables hold differences seed by seed."""

from __future__ import annotations

import numpy as np

from benchmarks.recipes import REFERENCE, ROWS, Found, _again, page
from regionclip.data.annotations.truth import BoxColumns

WORDS = "COCO novel AP50"


def test_a_picture_drawn_twice_has_its_boxes_twice() -> None:
    """Under two new ids, in the order given; one that is not drawn has none, one without boxes stays without."""
    columns = BoxColumns()
    for image_id, left in ((7, 1.0), (5, 2.0), (7, 3.0), (9, 4.0)):
        columns.add(image_id, 1, (left, 0.0, 5.0, 5.0), score=left / 10)
    drawn = _again(columns.arrays(), np.array([7, 6, 7, 5]))
    assert drawn.image_ids.tolist() == [0, 0, 2, 2, 3]
    assert drawn.boxes[:, 0].tolist() == [1, 3, 1, 3, 2] and drawn.scores.tolist() == [0.1, 0.3, 0.1, 0.3, 0.2]


def _found(**recipes: tuple[float, float]) -> Found:
    """Recipes with these numbers of RegionCLIP in two seeds, and CLIP's 0.1; draws lie 0.02 to both sides."""
    return {
        name: [
            {
                "numbers": {row.words: {"clip": 0.1, "regionclip": value} for row in ROWS},
                "drawn": {WORDS: [value - 0.02 * (name != REFERENCE), value + 0.02 * (name != REFERENCE)]},
            }
            for value in values
        ]
        for name, values in recipes.items()
    }


def test_differences_are_taken_seed_by_seed() -> None:
    """By hand: 0.70 - 0.60 and 0.64 - 0.66 are +10 and -2, +4 in the mean; draws two points to both sides."""
    lines = page(_found(demo=(0.70, 0.64), **{REFERENCE: (0.60, 0.66)}), "val", [1, 2], "x.png").splitlines()
    assert "| measured | demo | plain |" in lines and f"| {WORDS} | 67.0 (+4.0) | 63.0 |" in lines
    assert f"| {WORDS} | demo | +10.0, -2.0 | +2.1 to +5.9 |" in lines
    assert f"| {WORDS} | 10.0 | 67.0 | +57.0 | +60.0, +54.0 | ≥ 5 | yes |" in lines
    assert "| COCO base AP50 | demo | +10.0, -2.0 |  |" in lines, "drawn for detections alone"


def test_recipes_with_novel_names_have_a_table_of_their_own() -> None:
    """So that nobody compares them with those that never saw the names."""
    lines = page(_found(pseudo_boxes=(0.8, 0.8), **{REFERENCE: (0.6, 0.6)}), "val", [1, 2], "x.png").splitlines()
    assert "| measured | plain |" in lines
    own = lines.index("| measured | pseudo_boxes |")
    assert f"| {WORDS} | 80.0 (+20.0) |" in lines[own:]
