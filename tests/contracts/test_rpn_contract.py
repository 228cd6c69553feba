"""Contract of the RPN: a novel class among those that trained it is an error, what is only doubtful a warning."""

from __future__ import annotations

from pathlib import Path

import pytest

from regionclip.contracts.gate import run_checks
from regionclip.contracts.regions import recall_check, rpn_class_check

NOVEL = {"coco": ("cat", "bus"), "lvis": ("abacus",)}


def _failed(classes: list[str], own: str) -> list[tuple[str, str]]:
    results = run_checks([rpn_class_check(Path("rpn.pth"), classes, own, NOVEL)])
    return [(r["severity"], str((r["records"] or [{}])[0].get("class_name"))) for r in results if not r["success"]]


@pytest.mark.parametrize(
    ("classes", "own", "failed"),
    [
        (["dog", "person"], "coco", []),
        (["dog", "bus"], "coco", [("error", "bus")]),
        (["dog", "cat"], "lvis", [("warning", "cat")]),
        (["abacus", "cat"], "lvis", [("error", "abacus"), ("warning", "cat")]),
        ([], "coco", [("warning", "None")]),
    ],
)
def test_novel_classes_are_found(classes: list[str], own: str, failed: list[tuple[str, str]]) -> None:
    assert _failed(classes, own) == failed


def test_recall_is_checked_on_each_split() -> None:
    recall = {"coco": {"dev": {"ar300_all": 0.31}, "val": {"ar300_all": 0.29}}, "lvis": {"val": {"ar300_all": 0.5}}}
    failed = [r for r in run_checks([recall_check(recall, 0.3)]) if not r["success"]]
    assert [r["records"] for r in failed] == [
        [{"file": "artifacts/proposals/coco/recall.json", "data_set": "coco", "split": "val", "ar300_all": 0.29}]
    ]
    assert not run_checks([recall_check({}, 0.3)])[0]["success"], "nothing measured is no pass"
