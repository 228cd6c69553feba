"""Proposals of a trained RPN: kept in region stores, objectness as raw logits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from mmengine.dist import is_main_process
from mmengine.model import BaseModel
from torch.utils.data import Dataset

from regionclip.checkpoints.clip_folder import ClipFolder
from regionclip.checkpoints.loading import load_strictly
from regionclip.checkpoints.mmengine_files import read
from regionclip.engine.prediction import predict
from regionclip.models.assembly import build_rpn
from regionclip.params.stages import Rpn
from regionclip.regions.store_writer import RegionStoreWriter

if TYPE_CHECKING:
    from mmdet.structures import DetDataSample


def trained_rpn(file: Path, clip: ClipFolder, params: Rpn, *, nms_iou: float, proposals: int) -> BaseModel:
    """Read a checkpoint of the stage `rpn` into its model; see `build_rpn`.

    Raises:
        InputError: The file is broken, or of another architecture.
    """
    model = build_rpn(clip, params, nms_iou=nms_iou, proposals=proposals, filled=False)
    load_strictly(model, read(file)[0], file)
    return model


def valid_regions(sample: DetDataSample) -> tuple[np.ndarray, np.ndarray]:
    """Boxes float32 (N, 4) xyxy in original pixels and logits float32 (N,) of one picture, best first, no empty box."""
    boxes = sample.pred_instances.bboxes.numpy().astype(np.float32)
    logits = sample.pred_instances.scores.numpy().astype(np.float32)
    solid = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    order = np.argsort(-logits[solid], kind="stable")
    return boxes[solid][order], logits[solid][order]


def store_proposals(
    rpn: BaseModel, pictures: Dataset, path: Path, metadata: dict[str, str], batch_size: int
) -> dict[int, np.ndarray]:
    """Write the proposals of all pictures to a region store; processes of a group share the work, the first writes.

    Args:
        rpn: The trained RPN.
        pictures: Data set of a test pipeline without proposals.
        path: Folder of the store.
        metadata: What made the proposals.
        batch_size: Pictures at a time.

    Returns:
        Boxes of each picture by image id, best first; in the other processes of a group nothing.
    """
    boxes_by_image = {}
    samples = predict(rpn, pictures, title=f"proposals {path.parent.name} {path.name}", batch_size=batch_size)
    if not is_main_process():
        list(samples)
        return {}
    with RegionStoreWriter(path, metadata) as writer:
        for sample in samples:
            boxes, logits = valid_regions(sample)
            writer.add(sample.img_id, boxes, logits)
            boxes_by_image[sample.img_id] = boxes
    return boxes_by_image
