"""The module ``mmcv._ext`` where mmcv-lite lacks it: the operators that detection uses, from torchvision's kernels.

The wheel of mmcv-lite holds ``mmcv.ops`` as Python but not the compiled module behind it. ``regionclip/__init__.py``
lets this file be found under that name, after a compiled one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torchvision
from torch import Tensor

from regionclip.errors import InputError

_LINEAR, _GAUSSIAN = 1, 2  # mmcv's numbers of the soft-NMS methods; 0 is hard NMS


class UnsupportedOperator(NotImplementedError):
    """An mmcv operator was called that torchvision cannot stand in for."""


def __getattr__(name: str) -> Callable[..., Any]:
    """Every other operator can be imported but not called."""
    if name.startswith("__"):
        raise AttributeError(name)

    def unsupported(*args: Any, **kwargs: Any) -> Any:
        raise UnsupportedOperator(
            f"mmcv's operator '{name}' needs a compiled mmcv. This environment has mmcv-lite, where torchvision "
            "gives only nms, softnms and RoIAlign. To mend: install mmcv 2.1 from source, or choose another layer."
        )

    return unsupported


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Hard NMS of (N, 4) xyxy boxes: indices of the kept ones, best first. ``offset`` 1 counts pixels inclusively.

    mmcv compares in float32, torchvision with a threshold in float64, where float32's 0.3 is more than 0.3.
    """
    _refuse_inverted(boxes)
    threshold = float(torch.tensor(iou_threshold, dtype=torch.float32))
    if not offset:
        return torchvision.ops.nms(boxes, scores, threshold)
    rest, kept = scores.argsort(descending=True), []
    while len(rest):
        kept.append(rest[0])
        rest = rest[1:][~(_overlap(boxes[rest[0]], boxes[rest[1:]], offset) > threshold)]
    return torch.stack(kept) if kept else rest


def _refuse_inverted(boxes: Tensor) -> None:
    inverted = (boxes[:, 2:] < boxes[:, :2]).any(dim=1)
    if inverted.any():
        place = int(inverted.nonzero()[0])
        problem = (
            f"{int(inverted.sum())} of {len(boxes)} boxes end before they begin, the first {boxes[place].tolist()}"
        )
        raise InputError(problem, record=place, key="boxes", mend="give x1, y1, x2, y2 with x1 <= x2 and y1 <= y2")


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Soft-NMS (arXiv:1704.04503). Fills the first rows of ``dets`` (N, 5) in place and returns the kept indices."""
    _refuse_inverted(boxes)
    scores, rest, kept = scores.clone(), torch.arange(len(boxes)), []
    while len(rest):
        best = int(rest[scores[rest].argmax()])
        dets[len(kept), :4], dets[len(kept), 4] = boxes[best], scores[best]
        kept.append(best)
        rest = rest[rest != best]
        overlap = _overlap(boxes[best], boxes[rest], offset)
        if method == _GAUSSIAN:
            decay = torch.exp(-overlap.square() / sigma)
        else:
            floor = 1 - overlap if method == _LINEAR else torch.zeros_like(overlap)
            decay = torch.where(overlap >= iou_threshold, floor, 1.0)
        scores[rest] *= decay
        rest = rest[scores[rest] >= min_score]
    return torch.tensor(kept, dtype=torch.long)


def _overlap(box: Tensor, boxes: Tensor, offset: int) -> Tensor:
    """IoU of one box (4,) with boxes (N, 4)."""
    size = (torch.minimum(box[2:], boxes[:, 2:]) - torch.maximum(box[:2], boxes[:, :2]) + offset).clamp(min=0)
    inter = size.prod(dim=1)
    return inter / ((box[2:] - box[:2] + offset).prod() + (boxes[:, 2:] - boxes[:, :2] + offset).prod(dim=1) - inter)


def roi_align_forward(
    features: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Fill ``output`` (R, C, h, w) from ``features`` (N, C, H, W) and ``rois`` (R, 5) of batch index and xyxy."""
    _average_only(pool_mode)
    size = (aligned_height, aligned_width)
    pooled = torchvision.ops.roi_align(features.to(rois.dtype), rois, size, spatial_scale, sampling_ratio, aligned)
    output.copy_(pooled)


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Fill ``grad_input`` (N, C, H, W), the gradient that :func:`roi_align_forward` sends to its features."""
    _average_only(pool_mode)
    size = (aligned_height, aligned_width)
    grad = torch.ops.torchvision._roi_align_backward(
        grad_output.to(rois.dtype), rois, spatial_scale, *size, *grad_input.shape, sampling_ratio, aligned
    )
    grad_input.copy_(grad)


def _average_only(pool_mode: int) -> None:
    if pool_mode != 1:
        raise UnsupportedOperator("RoIAlign with pool_mode 'max' needs a compiled mmcv; torchvision has only 'avg'.")
