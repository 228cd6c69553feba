"""The protocol of each data set: detections of a model on a split, and their numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from mmengine.model import BaseModel

from regionclip import runtime
from regionclip.data.detection import boxes_dataset, test_pipeline
from regionclip.data.layout import detection_set, load_classes
from regionclip.engine.prediction import predict
from regionclip.evaluation.coco import evaluate_coco
from regionclip.evaluation.detections import Detection, detections_from_samples
from regionclip.evaluation.lvis import evaluate_lvis
from regionclip.evaluation.region_classification import top1_by_split
from regionclip.models.region_encoder import RegionEncoder
from regionclip.params import Detection as PictureSizes
from regionclip.regions.similarity import cosine_logits
from regionclip.text.text_bank import TextBank

MAX_DETECTIONS = {"coco": 100, "lvis": 300}


def detect(
    model: BaseModel,
    dataset: str,
    split: str,
    sizes: PictureSizes,
    proposals: Path | Literal["truth"],
    bank: TextBank,
    title: str,
) -> list[Detection]:
    """Detect the classes of ``bank`` in a split, all at once.

    Args:
        model: An open-vocabulary Fast R-CNN.
        dataset: ``coco`` or ``lvis``.
        split: ``dev`` or ``val``.
        sizes: Picture sizes.
        proposals: Region store, or ``truth`` for the true boxes.
        bank: One embedding a class, in the order of the class list.
        title: Shown by the progress bar.

    Returns:
        COCO result dicts.
    """
    classes = load_classes(dataset)
    bank.require(names=classes.names)
    model.roi_head.bbox_head.fc_cls.set_vocabulary(bank.embeddings)
    pictures = boxes_dataset(
        detection_set(dataset, split), classes.names, test_pipeline(sizes, proposals), training=False
    )
    return detections_from_samples(predict(model, pictures, title=title), classes.ids)


def measure(dataset: str, split: str, detections: list[Detection]) -> dict[str, Any]:
    """Measure detections by the data set's protocol: COCO generalised, or LVIS federated; see those modules."""
    annotations = detection_set(dataset, split).annotations
    if dataset == "coco":
        return evaluate_coco(annotations, detections, load_classes(dataset), MAX_DETECTIONS["coco"])
    return evaluate_lvis(annotations, detections, MAX_DETECTIONS["lvis"])


@torch.inference_mode()
def true_box_top1(
    encoder: RegionEncoder, preprocessor: BaseModel, dataset: str, split: str, sizes: PictureSizes, bank: TextBank
) -> dict[str, Any]:
    """Top-1 accuracy of the true boxes' RoI features among all classes; see `top1_by_split`.

    Args:
        encoder: Embeds regions.
        preprocessor: Normalises and batches pictures (MMDetection's ``DetDataPreprocessor``).
        dataset: ``coco`` or ``lvis``.
        split: ``dev`` or ``val``.
        sizes: Picture sizes.
        bank: One embedding a class, in the order of the class list.
    """
    from mmengine.dataset import pseudo_collate
    from torch.utils.data import DataLoader

    classes, device = load_classes(dataset), runtime.device()
    pictures = boxes_dataset(
        detection_set(dataset, split), classes.names, test_pipeline(sizes, "truth"), training=False
    )
    encoder, preprocessor, text = encoder.to(device).eval(), preprocessor.to(device), bank.embeddings.to(device)
    labels, predictions = [], []
    for batch in DataLoader(pictures, batch_size=8, num_workers=runtime.workers(), collate_fn=pseudo_collate):
        data = preprocessor(batch, False)
        features = encoder.forward_features(data["inputs"])
        regions = encoder.encode(features, [sample.proposals.bboxes for sample in data["data_samples"]])
        predictions.append(cosine_logits(regions, text, 1.0).argmax(dim=1).cpu())
        labels += [sample.gt_instances.labels.cpu() for sample in data["data_samples"]]
    true, best = ([classes.names[label] for label in torch.cat(part).tolist()] for part in (labels, predictions))
    return top1_by_split(true, best, classes.groups)
