"""The COCO lists are the official splits, in the order of category ids."""

from __future__ import annotations

from mmdet.registry import DATASETS

from regionclip.text.class_names import COCO_80, COCO_ALL65, COCO_BASE, COCO_NOVEL


def test_all_80_are_mmdetections() -> None:
    assert DATASETS.get("mmdet.CocoDataset").METAINFO["classes"] == COCO_80


def test_splits_have_the_published_sizes_and_share_nothing() -> None:
    assert [len(names) for names in (COCO_BASE, COCO_NOVEL, COCO_ALL65)] == [48, 17, 65]
    assert set(COCO_BASE) | set(COCO_NOVEL) == set(COCO_ALL65) < set(COCO_80)
    assert not set(COCO_BASE) & set(COCO_NOVEL)


def test_every_list_is_in_the_order_of_ids() -> None:
    for names in (COCO_BASE, COCO_NOVEL, COCO_ALL65):
        rows = [COCO_80.index(name) for name in names]
        assert rows == sorted(rows)


def test_labels_of_the_generalised_test_by_hand() -> None:
    """The official split: numbers of novel classes among the 65."""
    novel = {COCO_ALL65.index(name) for name in COCO_NOVEL}
    assert novel == {4, 5, 11, 12, 15, 16, 21, 23, 27, 29, 32, 34, 45, 47, 54, 58, 63}
    assert COCO_BASE[0] == "person" and COCO_BASE[16] == "suitcase" and COCO_BASE[47] == "toothbrush"
