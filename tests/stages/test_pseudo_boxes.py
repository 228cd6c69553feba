"""Pseudo boxes are of novel classes and beside every true box, and a training has both."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from regionclip import artifacts
from regionclip.checkpoints.clip_folder import ClipFolder
from regionclip.checkpoints.mmengine_files import read
from regionclip.data.annotations.truth import BoxArrays, BoxColumns, Truth, boxes_by_image, load_truth
from regionclip.data.datasets.detection import build_dataset
from regionclip.data.layout import detection_set, load_classes
from regionclip.engine.detection import trained_detector
from regionclip.errors import InputError
from regionclip.evaluation.overlap import overlaps
from regionclip.stages import finetune, pseudo_boxes
from regionclip.text.text_bank import TextBank
from tests.stages.conftest import Context, propose

NOVEL, IMAGES = (3, 4), (7, 8)
SIDES = st.integers(1, 12)
BOXES = st.lists(
    st.tuples(st.sampled_from(IMAGES), st.integers(1, 4), st.tuples(SIDES, SIDES, SIDES, SIDES)), max_size=12
)


def _arrays(boxes: list[tuple[int, int, tuple[int, ...]]]) -> BoxArrays:
    columns = BoxColumns()
    for image_id, category_id, box in boxes:
        columns.add(image_id, category_id, box)
    return columns.arrays()


@given(found=BOXES, true=BOXES, iou=st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_kept_are_exactly_the_novel_ones_beside_all_true_boxes(found: list, true: list, iou: float) -> None:
    """In their order; true boxes of another picture do not matter."""

    def corners(box: tuple[int, ...]) -> tuple[int, ...]:
        return (*box[:2], box[0] + box[2], box[1] + box[3])

    truth = Truth(Path("t.json"), [{"id": key} for key in IMAGES], [], _arrays(true))
    wanted = [
        (image, kind, box)
        for image, kind, box in found
        if kind in NOVEL
        and all(overlaps([corners(box)], [corners(other)]) <= iou for key, _, other in true if key == image)
    ]
    kept = pseudo_boxes.beside(_arrays(found), truth, NOVEL, iou)
    rows = zip(kept.image_ids.tolist(), kept.category_ids.tolist(), map(tuple, kept.boxes.tolist()), strict=True)
    assert [*rows] == wanted


@pytest.fixture
def made(context: Context) -> SimpleNamespace:
    """The stage's context after it ran; what the CLIP sees looks like novel classes to it, and like no base class."""
    for split in ("train", "dev"):
        propose("coco", split)
    bank, novel = TextBank.load(artifacts.class_bank("coco")), load_classes("coco").novel_names
    with torch.no_grad():
        seen = ClipFolder.open(artifacts.TEACHER).model().encode_image(torch.zeros(1, 3, 64, 64), normalize=True)
    likeness = torch.tensor([1.0 if name in novel else -1.0 for name in bank.names])
    replace(bank, embeddings=likeness[:, None] * seen + 0.02 * bank.embeddings).save(artifacts.class_bank("coco"))
    stage = context({"interval": 2, "images": 6}, "coco", score_threshold=0.0)
    stage.metrics = pseudo_boxes.run(stage)["clip"]
    return stage


def test_a_training_has_true_and_pseudo_boxes_and_is_measured_on_base_classes(made: SimpleNamespace) -> None:
    """What the file holds is what the training adds; the checkpoint says which of its classes were found."""
    classes = load_classes("coco")
    found = boxes_by_image(load_truth(artifacts.pseudo_boxes("coco", "clip")))
    true = boxes_by_image(load_truth(detection_set("coco", "train").annotations))
    assert made.metrics["boxes"] == sum(len(boxes) for boxes, _ in found.values()) > 3
    assert made.metrics["pictures"] == len(found) and sum(made.metrics["by_class"].values()) == made.metrics["boxes"]
    names = np.array(classes.names)
    stream = build_dataset(finetune.training_set(made.params, "coco", "clip"))
    for index in range(len(stream)):
        record = stream.dataset.get_data_info(index)
        labels = names[[instance["bbox_label"] for instance in record["instances"]]]
        ids = [*true[record["img_id"]][1], *found.get(record["img_id"], ([], []))[1]]
        assert labels.tolist() == [dict(zip(classes.ids, classes.names, strict=True))[key] for key in ids]
    finetune.run(made)
    file = Path("artifacts/finetune/coco/clip.pth")
    meta = read(file)[1]
    assert (meta["classes"], meta["pseudo_box_classes"]) == (list(classes.base_names), list(classes.novel_names))
    assert read(file.parent / "best" / file.name)[1]["step"] in ("2", "4")
    head = trained_detector(file, ClipFolder.open(artifacts.TEACHER), made.params.finetune, "coco").roi_head
    maps, rois = (torch.rand(1, 256, 8, 8),), torch.tensor([[0.0, 9, 9, 90, 90]])
    with torch.no_grad():
        open_branch, closed = (
            head.frozen_embeddings(maps, rois),
            head.bbox_head.embed(head._bbox_forward(maps, rois)["bbox_feats"]),
        )
    assert not torch.equal(open_branch, closed), "both are as they were trained"


def test_a_set_without_novel_classes_is_refused(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    classes = load_classes("coco")
    everything = SimpleNamespace(**{**vars(classes), "novel_names": ()})
    monkeypatch.setattr(pseudo_boxes, "load_classes", lambda _: everything)
    with pytest.raises(InputError, match="coco has no novel class to find") as caught:
        pseudo_boxes.run(context(None, "coco", score_threshold=0.5))
    assert caught.value.key == "finetune.sets.coco.pseudo_boxes"
