"""Detectron2's box coder: a delta may not enlarge a box beyond measure, but may shrink it to nothing."""

from __future__ import annotations

import math
import sys
from typing import Any

from mmdet.models.task_modules.coders import DeltaXYWHBBoxCoder
from mmdet.registry import TASK_UTILS
from torch import Tensor


@TASK_UTILS.register_module()
class UpperClipBBoxCoder(DeltaXYWHBBoxCoder):
    """``DeltaXYWHBBoxCoder`` that bounds log-sizes from above only, as Detectron2's ``Box2BoxTransform``.

    The stock coder bounds them from both sides, so that no box loses more than 98.4 % of its width or height.
    """

    def decode(
        self, bboxes: Tensor, pred_bboxes: Tensor, max_shape: Any = None, wh_ratio_clip: float = 16 / 1000
    ) -> Tensor:
        """Apply deltas (N, 4) to boxes (N, 4) xyxy; arguments and result as in ``DeltaXYWHBBoxCoder``."""
        largest = -math.log(wh_ratio_clip)
        limit = [
            math.inf,
            math.inf,
            *((largest - mean) / std for mean, std in zip(self.means[2:], self.stds[2:], strict=True)),
        ]
        pred_bboxes = pred_bboxes.minimum(pred_bboxes.new_tensor(limit))
        return super().decode(bboxes, pred_bboxes, max_shape, wh_ratio_clip=sys.float_info.min)
