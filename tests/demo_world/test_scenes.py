"""Scenes hold the objects asked for, well visible, described truly by their records."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from regionclip.demo_world.pairs import PairTask, render_pair
from regionclip.demo_world.plans import even_plan
from regionclip.demo_world.scenes import SceneTask, render_scene
from regionclip.demo_world.vocabulary import KINDS


def _task(index: int, count: int = 6) -> SceneTask:
    kinds = tuple(KINDS[(17 * index + 7 * i) % len(KINDS)] for i in range(count))
    return SceneTask(5, "test", index, kinds, 192, (28, 64), (0, 3), 92)


@pytest.mark.parametrize("index", range(12))
def test_objects_are_the_ones_asked_for_and_at_least_half_visible(index: int) -> None:
    record = render_scene(_task(index))
    assert [item.kind for item in record.objects] == list(_task(index).kinds)
    for item in record.objects:
        x, y, width, height = item.box
        assert 0 <= x < x + width <= 192
        assert 0 <= y < y + height <= 192
        assert 0 < item.area <= width * height
        assert item.visible >= 0.5
        assert max(width, height) <= 66


def test_a_scene_decodes_to_its_size_and_is_not_flat() -> None:
    image = cv2.imdecode(np.frombuffer(render_scene(_task(0)).jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (192, 192, 3)
    assert image.std() > 15


def test_what_lies_behind_is_partly_hidden() -> None:
    items = [item for index in range(12) for item in render_scene(_task(index)).objects]
    hidden = [item for item in items if item.behind]
    assert hidden, "no scene of twelve has an overlap"
    assert all(item.visible < 1 for item in hidden)


def test_an_object_is_behind_later_ones_only() -> None:
    for index in range(12):
        for number, item in enumerate(render_scene(_task(index)).objects):
            assert all(other > number for other in item.behind)


def test_even_plan_keeps_the_bounds_and_uses_every_shape() -> None:
    plan = even_plan(0, "scenes", 200, (2, 6))
    assert {len(kinds) for kinds in plan} == {2, 3, 4, 5, 6}
    assert len({kind.shape for kinds in plan for kind in kinds}) == 12


def test_pairs_have_their_size_and_name_their_shape() -> None:
    for index in range(20):
        pair = render_pair(PairTask(0, "test", index, 64, 92))
        assert cv2.imdecode(np.frombuffer(pair.jpeg, np.uint8), cv2.IMREAD_COLOR).shape == (64, 64, 3)
        assert pair.kind.shape in pair.caption.replace(".", "").split()
