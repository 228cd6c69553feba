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

_METHODS = ("naive", "linear", "gaussian")  # mmcv's names of the soft-NMS methods, in the order of its numbers


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
    """Fill the first rows of ``dets`` (N, 5) in place and return the kept indices; see :func:`soft_nms`."""
    one_class = torch.zeros_like(scores, dtype=torch.long)
    kept, decayed = soft_nms(
        boxes, scores, one_class, len(boxes), iou_threshold, sigma, min_score, _METHODS[method], offset
    )
    dets[: len(kept)] = torch.cat([boxes[kept], decayed[:, None]], dim=1)
    return kept


def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    classes: Tensor,
    limit: int,
    iou_threshold: float = 0.3,
    sigma: float = 0.5,
    min_score: float = 1e-3,
    method: str = "linear",
    offset: int = 0,
) -> tuple[Tensor, Tensor]:
    """Soft-NMS (arXiv:1704.04503) of all classes at once: in each step every class takes its best box.

    Classes end as soon as nothing of theirs can be among the ``limit`` best any more, which changes no result.

    Args:
        boxes: (N, 4) xyxy.
        scores: (N,).
        classes: (N,) int64; boxes of different classes do not see each other.
        limit: How many boxes are wanted at most.
        iou_threshold: From which overlap on ``linear`` and ``naive`` decay.
        sigma: Of ``gaussian``: a score is multiplied by exp(-overlap^2 / sigma).
        min_score: A box whose decayed score is below it goes; the best of each class always stays.
        method: ``linear``: multiplied by 1 - overlap; ``naive``: by 0; or ``gaussian``.
        offset: 1 counts pixels inclusively.

    Returns:
        Indices of the kept boxes and their decayed scores, best first.

    Raises:
        InputError: A box ends before it begins.
    """
    _refuse_inverted(boxes)
    if not len(boxes):
        return classes, scores
    rows = _by_class(scores, classes)
    # One row a class, best first; where a class has fewer boxes than the fullest, -inf.
    rest = torch.cat([scores, scores.new_full((1,), -torch.inf)])[rows]
    places = torch.cat([boxes, boxes.new_zeros(1, 4)])[rows]
    kept, found = rows.new_zeros(0), scores.new_zeros(0)
    while True:
        best, column = rest.max(dim=1)
        # What the limit-th best has so far; no score grows, so what is below it now stays out.
        needed = found.topk(limit).values[-1] if len(found) >= limit else scores.new_tensor(-torch.inf)
        going = (best >= needed) & (best > -torch.inf)
        if not going.any():
            break
        wide = int((rest >= needed).any(dim=0).nonzero().max()) + 1
        rows, rest, places = rows[going, :wide], rest[going, :wide], places[going, :wide]
        best, column = best[going], column[going, None]
        found = torch.cat([found, best])
        kept = torch.cat([kept, rows.gather(1, column).squeeze(1)])
        box = places.gather(1, column[..., None].expand(-1, -1, 4))
        rest = rest * _decay(_overlap(box, places, offset), iou_threshold, sigma, method)
        rest = rest.masked_fill(~(rest >= min_score), -torch.inf).scatter(1, column, -torch.inf)
    order = found.argsort(descending=True, stable=True)[:limit]
    return kept[order], found[order]


def _decay(overlap: Tensor, iou_threshold: float, sigma: float, method: str) -> Tensor:
    """What a score is multiplied by because of its overlap (...) with a better box."""
    if method == "gaussian":
        return torch.exp(-overlap.square() / sigma)
    return torch.where(overlap >= iou_threshold, 1 - overlap if method == "linear" else 0.0, 1.0)


def _by_class(scores: Tensor, classes: Tensor) -> Tensor:
    """Return the indices (K, M) of each class's boxes, best first; N fills the rows up."""
    order = scores.argsort(descending=True, stable=True)
    order = order[classes[order].argsort(stable=True)]
    counts = torch.unique_consecutive(classes[order], return_counts=True)[1]
    rows = order.new_full((len(counts), int(counts.max())), len(scores))
    rows[torch.arange(rows.shape[1], device=rows.device) < counts[:, None]] = order
    return rows


def _overlap(box: Tensor, boxes: Tensor, offset: int) -> Tensor:
    """IoU of boxes (..., 4) and (..., 4); 0 where both have no area."""
    left, top, right, bottom = box.unbind(-1)
    lefts, tops, rights, bottoms = boxes.unbind(-1)
    width = (torch.minimum(right, rights) - torch.maximum(left, lefts) + offset).clamp(min=0)
    height = (torch.minimum(bottom, bottoms) - torch.maximum(top, tops) + offset).clamp(min=0)
    inter = width * height
    areas = (rights - lefts + offset) * (bottoms - tops + offset)
    return (inter / ((right - left + offset) * (bottom - top + offset) + areas - inter)).nan_to_num(0.0)


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
