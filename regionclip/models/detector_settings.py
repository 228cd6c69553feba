"""What params.yaml says of a detector, as changes to its MMEngine config."""

from __future__ import annotations

from typing import Any

from regionclip.params.stages import DatasetFinetune, Finetune, ZeroShot

# From 1001 boxes on NMS goes class by class, as torchvision's does: the offsets that keep many classes apart in one run
# cost 0.03 pixel of precision.
_HARD = {"type": "nms", "split_thr": 1001}
# Official soft-NMS (layers/soft_nms.py).
_SOFT = {"type": "soft_nms", "method": "gaussian", "sigma": 0.5, "min_score": 0.001}
_NMS = {"hard": _HARD, "soft": _SOFT}


def zero_shot_settings(
    params: ZeroShot, num_classes: int, max_detections: int, score_threshold: float, *, use_objectness: bool
) -> dict[str, Any]:
    """Settings of detection without fine-tuning: no box regression (official ``NO_BOX_DELTA``).

    True boxes have no objectness to multiply the class scores by.
    """
    return {
        "roi_head.bbox_head.with_reg": False,
        "roi_head.bbox_head.num_classes": num_classes,
        "roi_head.bbox_head.cls_predictor_cfg.temperature": params.temperature,
        **_roi_head(params.score_mode if use_objectness else "none"),
        **_test(score_threshold, _HARD | {"iou_threshold": params.nms_iou}, max_detections),
    }


def finetune_settings(params: Finetune, target: DatasetFinetune, num_classes: int) -> dict[str, Any]:
    """Settings of a detector that is trained on K base classes; ``target`` is the data set's part of ``params``."""
    return {
        "roi_head.bbox_head.num_classes": num_classes,
        "roi_head.bbox_head.cls_predictor_cfg.temperature": params.temperature,
        "roi_head.bbox_head.loss_cls": {
            "type": "FocalScaledCrossEntropy",
            "gamma": target.focal_gamma,
            "background_weight": target.background_weight,
            # The official plain weighted loss (no focal scale) is PyTorch's, averaged over weights.
            "average": "regions" if target.focal_gamma else "weights",
        },
        "train_cfg.rcnn.sampler.num": params.regions_per_image,
        **_roi_head(target.score_mode),
        **_test(target.score_threshold, _NMS[target.nms] | {"iou_threshold": target.nms_iou}, target.max_detections),
    }


def detection_settings(target: DatasetFinetune) -> dict[str, Any]:
    """Further settings for a test: the pretrained head's share in scores, and boxes that vote; both may be left out."""
    more: dict[str, Any] = {"score_mode": target.score_mode, "box_voting": target.box_voting}
    if target.fusion is not None:
        more |= {"type": "FusedRoIHead", "fusion": target.fusion.model_dump()}
    elif target.box_voting is not None:
        more["type"] = "ProposalScoreRoIHead"
    else:
        return {}
    return {f"roi_head.{key}": value for key, value in more.items()}


def split_settings(target: DatasetFinetune, pseudo_labels: list[int]) -> dict[str, Any]:
    """Further settings where there are pseudo boxes: two branches, in training and test."""
    fusion = {"type": "SplitRoIHead", "fusion": target.fusion.model_dump(), "score_mode": target.score_mode}
    return {f"roi_head.{key}": value for key, value in (fusion | {"pseudo_labels": pseudo_labels}).items()}


def _roi_head(score_mode: str) -> dict[str, Any]:
    if score_mode == "none":
        return {}
    return {"roi_head.type": "ProposalScoreRoIHead", "roi_head.score_mode": score_mode}


def _test(score_threshold: float, nms: dict[str, Any], max_detections: int) -> dict[str, Any]:
    return {
        "test_cfg.rcnn.score_thr": score_threshold,
        "test_cfg.rcnn.nms": nms,
        "test_cfg.rcnn.max_per_img": max_detections,
    }
