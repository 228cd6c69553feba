"""The offline RPNs end to end: runs ``rpn_coco`` (C4) and ``rpn_lvis`` (FPN)."""

from __future__ import annotations

import json

import numpy as np
import torch
from mmengine.model import BaseModel

from benchmarks.parity import detector
from benchmarks.parity.golden_folder import PICTURES, Arrays, GoldenFolder, through_a_file
from benchmarks.parity.probes import described, summary
from regionclip.checkpoints.official import OfficialCheckpoint
from regionclip.models.assembly import read_config

_CONFIGS = {"c4": "rpn_r50_c4.py", "fpn": "rpn_r50_fpn.py", "fpn_lsj": "rpn_r50_fpn_lsj.py"}
# By run: the key lists that may hold the offline RPN, the IoU of NMS, and Detectron2's names of the levels.
_RUNS = {
    "coco": (["ft_coco"], 0.7, ["res4"]),
    "lvis": (["zs_lvis_rpn", "zs_coco_rpn", "pretrain"], 0.9, ["p2", "p3", "p4", "p5", "p6"]),
}
# Proposals before and after NMS in training, of which only the written settings tell.
_TRAINING = {"coco": (12000, 2000), "lvis": (2000, 1000)}


@torch.no_grad()
def run(golden: GoldenFolder, dataset: str) -> Arrays:
    """Return every documented output of ``rpn_<dataset>``."""
    lists, nms_iou, levels = _RUNS[dataset]
    name = next(name for name in lists if (golden.path / f"keys_{name}.json").is_file())
    keys = {key: entry for key, entry in golden.keys(name).items() if key.startswith("offline_")}
    model = build_rpn(through_a_file(golden.state(keys, {})), nms_iou).eval()
    images, data_samples = detector.preprocess(model, golden)
    features = model.extract_feat(images)
    scores, deltas = model.bbox_head(features)
    proposals = model.bbox_head.predict_by_feat(scores, deltas, batch_img_metas=[s.metainfo for s in data_samples])
    arrays: Arrays = {
        "preproc_summary": summary(images),
        "preproc_shape": np.array(images.shape, dtype=np.int64),
        "preproc_slice": images[:, :, :16, :16].numpy().copy(),
    }
    for level, maps, logits, offsets in zip(levels, features, scores, deltas, strict=True):
        arrays |= described(f"feat_{level}", maps, channels=16, side=12)
        arrays |= {f"logits_{level}": logits.numpy(), f"deltas_{level}": offsets.numpy()}
    for picture, found in zip(PICTURES, proposals, strict=True):
        arrays |= {f"prop_boxes{picture}": found.bboxes.numpy(), f"prop_logits{picture}": found.scores.numpy()}
    return arrays | {"settings": _settings(model, *_TRAINING[dataset])}


def build_rpn(checkpoint: OfficialCheckpoint, nms_iou: float) -> BaseModel:
    """Build the RPN of an official checkpoint and load it strictly."""
    config = read_config(_CONFIGS[checkpoint.rpn_architecture]).model
    config.test_cfg.rpn.nms.iou_threshold = nms_iou
    model = detector.build(config)
    model.load_state_dict(checkpoint.rpn())
    return model


def _settings(model: BaseModel, pre: int, post: int) -> np.ndarray:
    test = model.bbox_head.test_cfg
    settings = {
        "nms": test.nms.iou_threshold,
        "pre": {"true": pre, "false": test.nms_pre},
        "post": {"true": post, "false": test.max_per_img},
        "min_size": float(test.min_bbox_size),
    }
    return np.array(json.dumps(settings))
