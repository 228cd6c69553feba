"""The summary picks the headline numbers and its table shows what was gained."""

from __future__ import annotations

import copy
from typing import Any, get_args

import pytest

from regionclip.evaluation.protocols import PROTOCOLS as PROTOCOLS_BY_NAME
from regionclip.evaluation.summary import build_summary, mistakes, summary_table
from regionclip.params.data import DataSet

TOP1 = {"top1_base": 0.5, "top1_novel": 0.25, "top1_all": 0.4, "top1_per_class": {"star": 0.5}, "protocol": "words"}
COCO = {"ap": 0.3, "ap50": 0.6, "ap50_base": 0.7, "ap50_novel": 0.4, "ap50_all": 0.6, "per_class": {"star": 0.7}}
LVIS = {"ap": 0.2, "ap50": 0.3, "apr": 0.1, "apc": 0.2, "apf": 0.3, "per_class": {}}
ERRORS = {"surest": {"detections": 9, "score": 0.25, "right": 4, "confusion": 2, "duplicate": 0, "missed": 3}}
AFTER = {"errors": ERRORS, "true_boxes": {"top1_base": 0.75, "top1_novel": 0.125, "per_class": {}}}
ACCOUNT = {"file": 9, "used": 6, "not_used": {"a crowd": 1, "the box is empty": 2}, "unexplained": 0}
RECALL = {"ar100_base": 0.8, "ar100_novel": 0.6, "ar300_base": 0.9, "ar300_novel": 0.7, "objects": {"base": 3}}


def _better(numbers: dict[str, Any]) -> dict[str, Any]:
    """RegionCLIP's numbers: a tenth above CLIP's."""
    return {key: value + 0.1 if isinstance(value, float) else value for key, value in numbers.items()}


@pytest.fixture
def metrics() -> dict[str, Any]:
    """What the stages measure, each number in the form the stage writes it."""
    zero_shot = {
        "gt": {"coco": TOP1 | COCO, "lvis": TOP1 | LVIS},
        "rpn": {"coco": COCO, "lvis": LVIS},
    }
    return copy.deepcopy(
        {
            "check_data": {"warnings": 0, "boxes": {"coco": {"train": ACCOUNT}}},
            "text_bank": {"concepts_names": 9, "teacher": {"image_top1": 0.95, "crop_top1": 0.85}},
            **{f"proposals_{name}": {"dev": {}, "val": RECALL} for name in ("coco", "lvis")},
            "pseudo_labels": {"regions": 9, "kept_fraction": 0.75, "precision": 0.5, "by_confidence": []},
            **{
                f"zero_shot_{name}": {
                    boxes: {"clip": of[name], "regionclip": _better(of[name])} for boxes, of in zero_shot.items()
                }
                for name in ("coco", "lvis")
            },
            "evaluate_coco": {"clip": COCO | AFTER, "regionclip": _better(COCO) | AFTER},
            "evaluate_lvis": {"clip": LVIS | AFTER, "regionclip": _better(LVIS) | AFTER},
        }
    )


PROTOCOLS = {"coco": "generalised", "lvis": "federated"}


def _summary(metrics: dict[str, Any], protocols: dict[str, str] = PROTOCOLS) -> dict[str, Any]:
    return build_summary("demo", 3, "val", protocols, {"data": 30.0, "teacher": 90.0}, metrics)


def test_summary_holds_the_headline_numbers_only(metrics: dict[str, Any]) -> None:
    summary = _summary(metrics)
    assert (summary["profile"], summary["seed"], summary["split"]) == ("demo", 3, "val")
    assert summary["seconds"] == {"data": 30.0, "teacher": 90.0}
    assert summary["teacher"] == {"image_top1": 0.95, "crop_top1": 0.85}
    assert summary["rpn"]["coco"] == {key: value for key, value in RECALL.items() if key != "objects"}
    assert summary["pseudo_labels"] == {"kept_fraction": 0.75, "precision": 0.5}
    shot = summary["zero_shot"]
    assert shot["coco"]["gt"]["clip"] == {
        key: value for key, value in (TOP1 | COCO).items() if isinstance(value, float)
    }
    assert set(shot["lvis"]["rpn"]["regionclip"]) == {"ap", "ap50", "apr", "apc", "apf"}
    assert summary["open_vocabulary"]["coco"]["clip"] == {
        "ap50_novel": 0.4,
        "ap50_base": 0.7,
        "ap50_all": 0.6,
        "ap": 0.3,
    }
    assert summary["open_vocabulary"]["lvis"]["regionclip"]["apr"] == pytest.approx(0.2)


def test_measured_split_is_the_one_reported(metrics: dict[str, Any]) -> None:
    metrics["proposals_coco"]["dev"] = {"ar100_base": 0.1}
    assert build_summary("demo", 0, "dev", PROTOCOLS, {}, metrics)["rpn"]["coco"] == {"ar100_base": 0.1}


def test_table_is_in_percent_with_the_gain(metrics: dict[str, Any]) -> None:
    lines = summary_table(_summary(metrics)).splitlines()
    assert lines[0] == "# RegionCLIP against CLIP: profile demo, seed 3, split val"
    assert (
        "2.0 minutes" in lines[2] and "95.0 of whole images" in lines[2] and "80.0 (base) and 60.0 (novel)" in lines[2]
    )
    rows = [line for line in lines if line.startswith(("| coco", "| lvis"))]
    assert rows[1] == "| coco | zero-shot top-1 on true boxes, novel classes | 25.0 | 35.0 | +10.0 |"
    assert "| coco | after fine-tuning on base boxes, AP50 novel | 40.0 | 50.0 | +10.0 |" in rows
    assert "| lvis | after fine-tuning on base boxes, AP rare | 10.0 | 20.0 | +10.0 |" in rows
    gained = [row for row in rows if " | +" in row or " | -" in row]
    assert len(gained) == 18 and all(row.count("|") == 6 for row in gained)


def test_a_loss_is_shown_as_one(metrics: dict[str, Any]) -> None:
    metrics["evaluate_lvis"]["regionclip"]["apf"] = 0.255
    assert "AP frequent | 30.0 | 25.5 | -4.5 |" in summary_table(_summary(metrics))


@pytest.mark.parametrize("model", ["clip", "regionclip"])
def test_what_could_not_be_measured_is_a_dash(metrics: dict[str, Any], model: str) -> None:
    metrics["evaluate_lvis"][model]["apf"] = None
    metrics["text_bank"]["teacher"].pop("image_top1")
    metrics["pseudo_labels"]["precision"] = None
    table = summary_table(_summary(metrics))
    (row,) = [line for line in table.splitlines() if "AP frequent" in line]
    assert row.endswith(" | – |") and row.count("–") == 2
    assert "The teacher names – of whole images" in table and "; – of those on an object" in table


def test_sets_of_one_protocol_have_a_mean_of_all_of_them(metrics: dict[str, Any]) -> None:
    """0.3 and 0.5 make 0.4; where one of the sets could not be measured, there is none."""
    second = {"ap": 0.5, "ap50": 0.8, "ap50_base": 0.8, "ap50_novel": None, "ap50_all": 0.8}
    metrics["proposals_toys"] = metrics["proposals_coco"]
    metrics["zero_shot_toys"] = {"gt": {"clip": TOP1 | second}, "rpn": {"clip": second}}
    metrics["evaluate_toys"] = {"clip": second | AFTER, "regionclip": second | AFTER | {"ap": None}}
    summary = _summary(metrics, {"coco": "closed_set", "lvis": "federated", "toys": "closed_set"})
    assert list(summary["mean"]) == ["closed_set"] and summary["mean"]["closed_set"]["sets"] == 2
    assert summary["mean"]["closed_set"]["open_vocabulary"]["regionclip"] is None
    rows = [line for line in summary_table(summary).splitlines() if line.startswith("| mean of 2 sets")]
    assert rows == [
        "| mean of 2 sets | zero-shot detection, AP | 40.0 | – | – |",
        "| mean of 2 sets | after fine-tuning on base boxes, AP | 40.0 | – | – |",
    ]
    assert "mean" not in summary_table(_summary(metrics)), "of one set there is none"
    rows = [line for line in summary_table(summary).splitlines() if line.startswith("| toys | zero-shot top-1")]
    assert [row.split("|")[2].strip() for row in rows] == ["zero-shot top-1 on true boxes, all classes"]


def test_each_protocol_that_params_may_name_is_there() -> None:
    assert PROTOCOLS_BY_NAME.keys() == set(get_args(DataSet.model_fields["protocol"].annotation))


def test_the_account_of_boxes_stands_below(metrics: dict[str, Any]) -> None:
    assert summary_table(_summary(metrics)).splitlines()[-1] == (
        "| coco | train | 9 | 6 | 1 a crowd, 2 the box is empty |"
    )
    assert _summary(metrics)["boxes"]["coco"]["train"] == ACCOUNT


def test_what_was_forgotten_stands_beside_what_was_known(metrics: dict[str, Any]) -> None:
    """Before: top-1 of the stage zero_shot, here 0.25 and 0.35 of novel classes; after: of the fine-tuned encoder."""
    lines = summary_table(_summary(metrics)).splitlines()
    assert "| coco | novel classes | 25.0 | 12.5 | 35.0 | 12.5 |" in lines
    assert "| lvis | base classes | 50.0 | 75.0 | 60.0 | 75.0 |" in lines


def test_mistakes_that_occur_are_counted(metrics: dict[str, Any]) -> None:
    del metrics["evaluate_coco"]["clip"]
    assert mistakes(_summary(metrics), "coco").rows == [
        ("right", "–", "4"),
        ("right box, another name of its group", "–", "2"),
        ("object with no detection on or near it", "–", "3"),
        ("score from which they are the surest", "–", "0.25"),
    ]
