"""Detections: data samples to COCO results and back through a file; ground-truth files that are unsound."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from mmengine.structures import BaseDataElement, InstanceData
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from regionclip.data.annotations.annotation_files import sort_records
from regionclip.data.annotations.masks import encode_masks
from regionclip.data.annotations.truth import Truth, boxes_by_image, load_truth, truth_of
from regionclip.errors import InputError
from regionclip.evaluation.detections import coco_results, detections_from_samples, read_detections, save_detections

CONTENT: dict[str, Any] = {
    "images": [{"id": 5}, {"id": 6}],
    "annotations": [
        {"id": 1, "image_id": 5, "category_id": 11, "bbox": [1, 2, 3, 4]},
        {"id": 2, "image_id": 5, "category_id": 12, "bbox": [0, 0, 9, 9], "iscrowd": 1},
    ],
    "categories": [{"id": 11, "name": "star"}, {"id": 12, "name": "moon"}],
}


def truth_from(**changes: Any) -> Truth:
    return truth_of(sort_records(CONTENT | changes, Path("truth.json"), "coco", ()))


TRUTH = truth_from()


def sample(image_id: int, boxes: list[list[float]], labels: list[int], scores: list[float]) -> BaseDataElement:
    data = BaseDataElement(metainfo={"img_id": image_id})
    data.pred_instances = InstanceData(
        bboxes=torch.tensor(boxes, requires_grad=True).reshape(-1, 4),
        labels=torch.tensor(labels),
        scores=torch.tensor(scores),
    )
    return data


def test_samples_become_coco_results() -> None:
    samples = [sample(5, [[1.004, 2, 4, 7.5]], [1], [0.123456789]), sample(6, [], [], [])]
    assert [*coco_results(detections_from_samples(samples, [11, 12]))] == [
        {"image_id": 5, "category_id": 12, "bbox": [1.0, 2.0, 3.0, 5.5], "score": 0.123457}
    ]


def test_a_saved_file_reads_back_the_same(tmp_path: Path) -> None:
    results = detections_from_samples([sample(5, [[1, 2, 4, 7.5], [0, 0, 1, 1]], [1, 0], [0.5, 1e-5])], [11, 12])
    save_detections(tmp_path / "found.json", results)
    assert json.loads((tmp_path / "found.json").read_text()) == [*coco_results(results)]
    assert [*coco_results(read_detections(tmp_path / "found.json", TRUTH))] == [*coco_results(results)]
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]


@pytest.mark.parametrize("label", [-1, 2])
def test_a_label_without_category_is_refused(label: int) -> None:
    with pytest.raises(InputError, match=r"image 5.*do not fit 2 categories"):
        detections_from_samples([sample(5, [[0.0, 0, 1, 1]], [label], [1.0])], [11, 12])


def test_a_score_that_is_not_finite_is_refused() -> None:
    with pytest.raises(InputError, match="not finite"):
        detections_from_samples([sample(5, [[0.0, 0, 1, 1]], [0], [float("nan")])], [11, 12])


def test_masks_of_samples_survive_a_file(tmp_path: Path) -> None:
    """A bool tensor as MMDetection gives it, or RLEs; the pixels come back, and the sample without masks has none."""
    pixels = torch.zeros(2, 8, 9, dtype=torch.bool)
    pixels[0, 1:4, 2:5], pixels[1, 0, 0] = True, True
    first, second = (
        sample(5, [[0.0, 0, 4, 4], [0, 0, 1, 1]], [0, 1], [0.5, 0.25]),
        sample(6, [[0.0, 0, 1, 1]], [0], [0.5]),
    )
    first.pred_instances.masks = pixels
    found = detections_from_samples([first, second], [11, 12])
    results = [*coco_results(found)]
    assert "segmentation" not in results[2] and found.masked().tolist() == [True, True, False]
    as_rle = sample(5, [[0.0, 0, 4, 4], [0, 0, 1, 1]], [0, 1], [0.5, 0.25])
    as_rle.pred_instances.masks = [results[0]["segmentation"], results[1]["segmentation"]]
    assert [*coco_results(detections_from_samples([as_rle], [11, 12]))] == results[:2]
    save_detections(tmp_path / "found.json", found)
    truth = truth_from(images=[{"id": 5, "height": 8, "width": 9}, {"id": 6}])
    read = [*coco_results(read_detections(tmp_path / "found.json", truth))]
    assert read == results
    decoded = coco_mask.decode([item["segmentation"] for item in read[:2]]).transpose(2, 0, 1)
    np.testing.assert_array_equal(decoded, pixels.numpy())


def test_a_mask_of_another_picture_is_refused() -> None:
    pixels = np.zeros((1, 8, 9), bool)
    result = {"image_id": 5, "category_id": 11, "bbox": [0, 0, 1, 1], "score": 1.0}
    results = [result | {"segmentation": encode_masks(pixels)[0]}]
    with pytest.raises(InputError, match=r"detection 0, key 'segmentation'.*its picture \(9, 8\)"):
        read_detections(results, truth_from(images=[{"id": 5, "height": 9, "width": 8}, {"id": 6}]))


def test_a_detection_without_a_key_is_refused_with_file_and_key(tmp_path: Path) -> None:
    (tmp_path / "found.json").write_text('[{"image_id": 5, "category_id": 11, "bbox": [0, 0, 1, 1]}]')
    with pytest.raises(InputError, match=r"found\.json, record detection 0, key 'score'"):
        read_detections(tmp_path / "found.json", TRUTH)


@given(arrays.arrays(bool, (20, 30)), st.sampled_from([{}, {"bbox": []}, {"bbox": None}]))
def test_a_mask_without_its_box_is_read_as_coco_reads_it(pixels: np.ndarray, empty: dict[str, Any]) -> None:
    """Results of masks have no box in COCO's form: box and size are those of the mask, as in pycocotools' loader."""
    images = [{"id": 5, "height": 20, "width": 30}, {"id": 6}]
    result = {"image_id": 5, "category_id": 11, "score": 0.5, "segmentation": encode_masks(pixels[None])[0]}
    coco = COCO()
    coco.dataset = {**CONTENT, "images": images}
    coco.createIndex()
    (wanted,) = coco.loadRes([dict(result)]).dataset["annotations"]
    found = read_detections([result | empty], truth_from(images=images))
    assert [*coco_results(found)] == [result | {"bbox": list(wanted["bbox"])}]
    assert found.areas.tolist() == [wanted["area"]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bbox": "abcd"}, "could not convert"),
        ({"bbox": {"x": 1}}, "could not convert"),
        ({"bbox": [1, 2, None, 4]}, "None"),
        ({"score": [0.5]}, "list"),
        ({"image_id": [5]}, "unhashable"),
        ({"bbox": []}, "the box or score is not finite"),
    ],
)
def test_a_value_of_another_type_is_refused(change: dict[str, Any], message: str) -> None:
    sound = {"image_id": 5, "category_id": 11, "score": 0.5, "bbox": [1, 2, 3, 4]}
    for rows in ([sound, sound | change], [sound, 7]):
        with pytest.raises(InputError, match=message if rows[1] != 7 else "not a detection") as caught:
            read_detections(rows, TRUTH)
        assert caught.value.record == "detection 1"


def test_truth_boxes_are_xyxy_without_crowds() -> None:
    objects = boxes_by_image(TRUTH)
    np.testing.assert_array_equal(objects[5][0], [[1, 2, 4, 6]])
    assert (objects[5][1].tolist(), objects[6][0].shape) == ([11], (0, 4))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": None}, "key 'images'"),
        ({"images": [{"id": 5}, {"id": 5}]}, r"images\[1\].*an id occurs twice"),
        ({"images": [{"id": [5]}]}, "there is no id"),
        ({"categories": [{"id": 11}]}, r"categories\[0\].*'name'"),
        (
            {"annotations": [{"id": 1, "image_id": 99, "category_id": 11, "bbox": [0, 0, 1, 1]}]},
            r"annotation 1, key 'image_id': there is no such image \(99\)",
        ),
    ],
)
def test_an_unsound_truth_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(CONTENT | change))
    with pytest.raises(InputError, match=message):
        load_truth(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, r"image 5, key 'width'"),
        ({"images": [{"id": 5, "height": 9, "width": 9}, {"id": 6, "height": 9}]}, r"image 6, key 'width'"),
        ({"images": [{"id": i, "height": 9, "width": 9} for i in (5, 6)]}, r"annotation 1, key 'segmentation'"),
    ],
)
def test_a_truth_without_masks_is_refused_where_they_are_wanted(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(CONTENT | change))
    assert load_truth(path).categories == CONTENT["categories"]
    with pytest.raises(InputError, match=message):
        load_truth(path, masks=True)


def test_an_empty_mask_is_refused(tmp_path: Path) -> None:
    annotations = [item | {"segmentation": []} for item in CONTENT["annotations"]]
    images = [{"id": i, "height": 9, "width": 9} for i in (5, 6)]
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(CONTENT | {"annotations": annotations, "images": images}))
    with pytest.raises(InputError, match=r"annotation 1, key 'segmentation': the mask is empty"):
        load_truth(path, masks=True)
