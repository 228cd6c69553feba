"""The protocol of each data set: detections of a model on a split, and their numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from mmengine.dist import is_main_process
from mmengine.model import BaseModel

from regionclip import runtime
from regionclip.data.datasets.detection import boxes_dataset, test_pipeline
from regionclip.data.layout import ClassList, detection_set, load_classes
from regionclip.engine.prediction import over_batches, predict
from regionclip.errors import InputError
from regionclip.evaluation.average_precision import IouType
from regionclip.evaluation.coco import evaluate_coco, evaluate_coco_constrained
from regionclip.evaluation.detections import Detection, detections_from_samples
from regionclip.evaluation.lvis import LvisImages, evaluate_lvis
from regionclip.evaluation.region_classification import RegionRecipe, classify_regions, templates_in_words
from regionclip.models.region_encoder import RegionEncoder
from regionclip.params import Detection as PictureSizes
from regionclip.regions.similarity import cosine_logits
from regionclip.text.text_bank import TextBank

Group = Literal["all", "base", "novel"]

MAX_DETECTIONS = {"coco": 100, "lvis": 300}


def detect(
    model: BaseModel,
    dataset: str,
    split: str,
    sizes: PictureSizes,
    proposals: Path | Literal["truth"],
    bank: TextBank,
    title: str,
    group: Group = "all",
) -> list[Detection]:
    """Detect the classes of a group in a split, all at once.

    Args:
        model: An open-vocabulary Fast R-CNN.
        dataset: ``coco`` or ``lvis``.
        split: ``dev`` or ``val``.
        sizes: Picture sizes.
        proposals: Region store, or ``truth`` for the true boxes.
        bank: One embedding a class, in the order of the class list.
        title: Shown by the progress bar.
        group: The vocabulary: all classes; or the base or the novel ones alone (the constrained protocol).

    Returns:
        COCO result dicts; processes of a group share the pictures, and the first has the detections of all.
    """
    classes = load_classes(dataset)
    bank.require(names=classes.names)
    known = _vocabulary(classes, group)
    model.roi_head.bbox_head.fc_cls.set_vocabulary(bank.subset(tuple(known)).embeddings)
    pictures = boxes_dataset(
        detection_set(dataset, split), tuple(known), test_pipeline(sizes, proposals), training=False
    )
    return detections_from_samples(
        predict(model, pictures, title=title, batch_size=sizes.test_batch), tuple(known.values())
    )


def measure(
    dataset: str, split: str, detections: list[Detection], group: Group = "all", lvis_images: LvisImages = "all"
) -> dict[str, Any]:
    """Measure detections by the data set's protocol: COCO generalised or constrained, or LVIS; see those modules.

    Args:
        dataset: ``coco`` or ``lvis``.
        split: ``dev`` or ``val``.
        detections: Of `detect` with the same ``group``.
        group: ``base`` or ``novel``: COCO's constrained protocol.
        lvis_images: LVIS: see ``images`` of `evaluate_lvis`.

    Returns:
        The numbers of the boxes; and under ``segm`` those of the masks, if every detection has one.

    Raises:
        InputError: The constrained protocol is wanted of LVIS, which has none.
    """
    if dataset == "lvis" and group != "all":
        raise InputError(f"LVIS has no constrained protocol ('{group}')", key="group", mend="use all")
    numbers = _measure(dataset, split, detections, group, lvis_images, "bbox")
    if detections and all("segmentation" in detection for detection in detections):
        numbers["segm"] = _measure(dataset, split, detections, group, lvis_images, "segm")
    return numbers


def _measure(
    dataset: str, split: str, detections: list[Detection], group: Group, lvis_images: LvisImages, iou_type: IouType
) -> dict[str, Any]:
    annotations, most = detection_set(dataset, split).annotations, MAX_DETECTIONS[dataset]
    if dataset == "lvis":
        return evaluate_lvis(annotations, detections, most, iou_type=iou_type, images=lvis_images)
    classes = load_classes(dataset)
    if group == "all":
        return evaluate_coco(annotations, detections, classes, most, iou_type=iou_type)
    return evaluate_coco_constrained(
        annotations, detections, _vocabulary(classes, group), group, most, iou_type=iou_type
    )


def _vocabulary(classes: ClassList, group: Group) -> dict[str, int]:
    """Category id by name, for the classes of a group in the order of their ids."""
    pairs = zip(classes.names, classes.ids, strict=True)
    return {name: identity for name, identity in pairs if name in classes.groups[group]}


def true_box_top1(
    encoder: RegionEncoder, preprocessor: BaseModel, dataset: str, split: str, sizes: PictureSizes, bank: TextBank
) -> dict[str, Any]:
    """Top-1 and top-5 accuracy of the true boxes' RoI features among all classes; see `classify_regions`.

    Args:
        encoder: Embeds regions.
        preprocessor: Normalises and batches pictures (MMDetection's ``DetDataPreprocessor``).
        dataset: ``coco`` or ``lvis``.
        split: ``dev`` or ``val``.
        sizes: Picture sizes.
        bank: One embedding a class, in the order of the class list.

    Returns:
        The numbers; processes of a group share the pictures, and the others than the first have nothing.
    """
    classes, device = load_classes(dataset), runtime.device()
    pictures = boxes_dataset(
        detection_set(dataset, split), classes.names, test_pipeline(sizes, "truth"), training=False
    )
    encoder, preprocessor, text = encoder.to(device).eval(), preprocessor.to(device), bank.embeddings.to(device)

    def step(batch: dict[str, Any]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        data = preprocessor(batch, False)
        features = encoder.forward_features(data["inputs"])
        regions = encoder.encode(features, [sample.proposals.bboxes for sample in data["data_samples"]])
        labels = torch.cat([sample.gt_instances.labels for sample in data["data_samples"]])
        return [(cosine_logits(regions, text, 1.0).cpu(), labels.cpu())]

    found = list(over_batches(step, pictures, title=f"{dataset} top-1", batch_size=sizes.test_batch))
    if not is_main_process():
        return {}
    scores, labels = (torch.cat(parts).numpy() for parts in zip(*found, strict=True))
    recipe = RegionRecipe("roi_align", templates_in_words(bank.templates), "none")
    return classify_regions(scores, labels, classes.names, classes.groups, recipe)
