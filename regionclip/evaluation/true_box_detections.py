"""Detections on true boxes from their class scores: the step from region classification to AP over true boxes."""

from __future__ import annotations

from collections.abc import Sequence

from mmdet.models.layers import multiclass_nms
from torch import Tensor, nn

from regionclip.data.layout import DatasetName
from regionclip.evaluation.detections import Detection, results_of_image

SETTINGS: dict[DatasetName, tuple[float, int]] = {"coco": (0.001, 100), "lvis": (0.0001, 300)}
"""Least score and most detections an image of the official runs on true boxes (test_zeroshot_inference.sh)."""

NMS_IOU = 0.5


def with_background(logits: Tensor, *, zero_row: bool) -> Tensor:
    """Turn region logits into probabilities.

    Args:
        logits: (N, K), already over the temperature.
        zero_row: Whether a background of logit 0 takes part, as the official classifier's zero embedding does.

    Returns:
        (N, K + 1), the background last; without ``zero_row`` its probability is 0.
    """
    if zero_row:
        return nn.functional.pad(logits, (0, 1)).softmax(dim=1)
    return nn.functional.pad(logits.softmax(dim=1), (0, 1))


def true_box_detections(
    image_id: int, boxes: Tensor, probabilities: Tensor, category_ids: Sequence[int], dataset: DatasetName
) -> list[Detection]:
    """Detect with the true boxes of one image as proposals and no box regression.

    Every pair of box and class above the least score counts, then NMS at IoU 0.5 by class, then the highest scores
    (RegionCLIP, roi_heads/fast_rcnn.py, fast_rcnn_inference_single_image).

    Args:
        image_id: The image.
        boxes: (N, 4) xyxy in original pixels.
        probabilities: (N, K + 1), the background last; see `with_background`.
        category_ids: The category id of each of the K classes.
        dataset: Whose ``SETTINGS`` hold.

    Returns:
        COCO result dicts.
    """
    least, most = SETTINGS[dataset]
    nms = {"type": "nms", "iou_threshold": NMS_IOU}
    found, labels = multiclass_nms(boxes.float(), probabilities.float(), least, nms, most)
    found, labels = found.numpy(force=True), labels.numpy(force=True)
    return results_of_image(image_id, found[:, :4], labels, found[:, 4], category_ids)
