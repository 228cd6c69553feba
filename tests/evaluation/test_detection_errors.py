"""Mistakes are told apart, matched as the protocols match, and cost what AP50 gains without them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regionclip.data.annotations.truth import BoxArrays, BoxColumns, Truth
from regionclip.data.layout import ClassList
from regionclip.evaluation.detection_errors import KINDS, error_numbers, judge, worst_examples
from regionclip.evaluation.protocols import measure

CLASSES = ClassList(("star", "moon", "ring"), (1, 2, 3), ("star", "moon"), ("ring",), {})
STAR, MOON, RING = (1, [0, 0, 10, 10]), (2, [20, 0, 10, 10]), (3, [40, 0, 10, 10])
KIND_NAMES = (*KINDS, "ignored", "right")  # -2 and -1 count from the end


def _boxes(*rows: tuple[int, int, list[float], float], crowd: bool = False) -> BoxArrays:
    columns = BoxColumns()
    for image_id, category_id, box, score in rows:
        columns.add(image_id, category_id, box, score=score, crowd=crowd)
    return columns.arrays()


def _truth(objects: BoxArrays, **of_image: Any) -> Truth:
    images = [{"id": i, "file_name": f"{i}.png", "height": 99, "width": 99, **of_image} for i in (1, 2)]
    frequency = {"star": "f", "moon": "c", "ring": "r"}
    categories = [{"id": i, "name": name, "frequency": frequency[name]} for i, name in enumerate(CLASSES.names, 1)]
    return Truth(Path("truth.json"), images, categories, objects)


THREE = _boxes(*((1, *each, 1.0) for each in (STAR, MOON, RING)))


@pytest.mark.parametrize(
    ("found", "kind", "about"),
    [
        ((1, [0, 0, 10, 9]), "right", 0),
        ((1, [5, 0, 10, 10]), "localisation", 0),  # IoU 1/3
        ((1, [0, 0, 10, 1]), "localisation", 0),  # IoU 0.1
        ((2, [0, 0, 10, 9]), "confusion", 0),
        ((3, [0, 0, 10, 9]), "base_as_novel", 0),
        ((1, [40, 0, 10, 9]), "novel_as_base", 2),
        ((2, [5, 0, 10, 10]), "both", 0),
        ((1, [9, 0, 10, 10]), "background", -1),  # IoU 1/19
    ],
)
def test_kinds_by_hand(found: tuple[int, list[float]], kind: str, about: int) -> None:
    judged = judge("generalised", _truth(THREE), _boxes((1, *found, 0.5)), CLASSES)
    assert (KIND_NAMES[judged.kinds[0]], judged.objects[0]) == (kind, about)
    assert judge("generalised", _truth(THREE), _boxes((2, *found, 0.5)), CLASSES).objects[0] == -1


def test_the_surer_one_is_right_and_a_crowd_is_not_judged() -> None:
    objects = _boxes((1, *STAR, 1.0))
    found = _boxes((1, 1, [0, 0, 10, 9], 0.4), (1, *STAR, 0.3), (1, 1, [1, 0, 10, 10], 0.9))
    assert [KIND_NAMES[k] for k in judge("generalised", _truth(objects), found, CLASSES).kinds] == [
        "duplicate",
        "duplicate",
        "right",
    ]
    crowd = _truth(_boxes((1, 1, [0, 0, 50, 50], 1.0), crowd=True))
    judged = judge("generalised", crowd, _boxes((1, *STAR, 0.5), (1, *MOON, 0.5)), CLASSES)
    assert [KIND_NAMES[k] for k in judged.kinds] == ["ignored", "background"] and not judged.counted.any()


def test_what_lvis_does_not_know_is_not_judged() -> None:
    """Stars are there, moons are known to be absent, of rings nothing is known; of stars there may be more."""
    objects, found = _boxes((1, *STAR, 1.0)), _boxes(*((1, *each, 0.5) for each in (STAR, MOON, RING)))
    truth = _truth(objects, neg_category_ids=[2], not_exhaustive_category_ids=[])
    kinds = judge("federated", truth, found, CLASSES).kinds
    assert [KIND_NAMES[k] for k in kinds] == ["right", "background", "ignored"]
    truth = _truth(objects, neg_category_ids=[2], not_exhaustive_category_ids=[1])
    found = _boxes((1, 1, [60, 0, 10, 10], 0.5), (1, *STAR, 0.4))
    kinds = judge("federated", truth, found, CLASSES).kinds
    assert [KIND_NAMES[k] for k in kinds] == ["ignored", "right"]


def test_costs_by_hand() -> None:
    """Stars: one right, one found as a moon. Moons: a false alarm that is surer than the right one. Rings: missed.

    AP50 of stars is 51/101, the recalls up to 0.5; of moons with two wrong ones before the right one 1/3.
    """
    other_star = (1, [0, 50, 10, 10])
    objects = _boxes(*((1, *each, 1.0) for each in (STAR, other_star, MOON, RING)))
    found = _boxes(
        (1, *STAR, 0.9), (1, 2, other_star[1], 0.8), (1, 2, [80, 80, 9, 9], 0.7), (1, *MOON, 0.6), (1, *MOON, 0.5)
    )
    truth = _truth(objects)
    judged = judge("generalised", truth, found, CLASSES)
    numbers = error_numbers(judged, truth, found, CLASSES)
    star, moon = 51 / 101, 1 / 3
    assert numbers["ap50"] == pytest.approx({"base": (star + moon) / 2, "novel": 0.0, "all": (star + moon) / 3})
    lost = {kind: of["base"] for kind, of in numbers["ap50_lost"].items()}
    # Mended, the confusion is a star: the stars are whole, and one of two wrong moons is gone. Or the alarm alone is.
    mended = {"confusion": (1 + 1 / 2 - star - moon) / 2, "background": (1 / 2 - moon) / 2}
    assert lost == pytest.approx({kind: mended.get(kind, 0.0) for kind in KINDS})
    # Without rings to find, there is no mean over novel classes, and that over all has two.
    assert numbers["ap50_lost"]["missed"]["novel"] is None
    assert numbers["ap50_lost"]["missed"]["all"] == pytest.approx((star + moon) / 2 - (star + moon) / 3)
    assert numbers["surest"] == {
        **{"detections": 4, "score": 0.6, "right": 2}, **dict.fromkeys(KINDS, 0),
        **{"confusion": 1, "background": 1, "missed": 1},
    }  # fmt: skip
    worst = {example["kind"]: example for example in worst_examples(judged, truth, found, CLASSES, 2)}
    assert list(worst) == ["confusion", "duplicate", "background", "missed"]
    assert worst["confusion"]["found"] == {"name": "moon", "box": other_star[1], "score": 0.8}
    assert worst["confusion"]["object"]["name"] == "star" and "object" not in worst["background"]
    assert worst["missed"]["object"]["name"] == "ring" and worst["missed"]["picture"] == "1.png"


@pytest.mark.parametrize("protocol", ["generalised", "federated", "federated_labelled"])
@pytest.mark.parametrize("seed", range(4))
def test_ap50_is_that_of_the_protocol(protocol: str, seed: int) -> None:
    """On drawn boxes with equal scores, crowds, absent and not exhaustively annotated classes."""
    rng, columns = np.random.default_rng(seed), BoxColumns()
    images = [
        {"id": i, "file_name": f"{i}.png", "height": 99, "width": 99, "neg_category_ids": [int(rng.integers(1, 4))]}
        for i in range(1, 21)
    ]
    objects = [(int(rng.integers(1, 18)), int(rng.integers(1, 4)), rng.integers(5, 40, 4)) for _ in range(60)]
    for image_id, category_id, box in objects:
        columns.add(image_id, category_id, box.tolist(), crowd=protocol == "generalised" and rng.random() < 0.1)
    for image in images:
        there = {category for image_id, category, _ in objects if image_id == image["id"]}
        image["neg_category_ids"] = [key for key in image["neg_category_ids"] if key not in there]
        image["not_exhaustive_category_ids"] = [key for key in there if rng.random() < 0.3]
    truth = _truth(columns.arrays())._replace(images=images)
    columns = BoxColumns()
    for image_id, category_id, box in [*objects] * 4:
        category_id = category_id if rng.random() < 0.7 else int(rng.integers(1, 4))
        moved = (box + rng.integers(-6, 7, 4)).clip(1).tolist()
        columns.add(image_id if rng.random() < 0.8 else 19, category_id, moved, score=round(rng.random(), 1))
    found = columns.arrays()
    numbers = error_numbers(judge(protocol, truth, found, CLASSES), truth, found, CLASSES)
    official = measure(protocol, truth, found, CLASSES)
    assert numbers["ap50"]["all"] == pytest.approx(official["ap50"], abs=1e-9) and 0 < official["ap50"] < 1
    assert all(of["all"] > -0.05 for of in numbers["ap50_lost"].values())


def test_nothing_found_and_nothing_to_find() -> None:
    for objects, found in ((THREE, _boxes()), (_boxes(), THREE), (_boxes(), _boxes())):
        truth = _truth(objects)
        numbers = error_numbers(judge("closed_set", truth, found, CLASSES), truth, found, CLASSES)
        assert numbers["ap50"]["all"] == (0.0 if len(objects) else None)
        assert numbers["surest"]["missed"] == len(objects) and numbers["surest"]["detections"] == 0
