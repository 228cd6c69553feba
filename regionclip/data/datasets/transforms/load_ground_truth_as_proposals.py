"""LoadGroundTruthAsProposals: the annotated boxes as proposals, to measure classification apart from localisation."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import get_box_tensor


@TRANSFORMS.register_module()
class LoadGroundTruthAsProposals(BaseTransform):
    """Take the boxes of ``LoadAnnotations`` as proposals, with scores 0.

    Boxes that the annotation says to ignore (crowds) are left out, so that proposal i is the box of
    ``data_sample.gt_instances[i]``, which has its label.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add ``proposals`` float32 [n, 4] and ``proposals_scores`` float32 [n]."""
        boxes = get_box_tensor(results["gt_bboxes"]).numpy().astype(np.float32).reshape(-1, 4)
        kept = boxes[~np.asarray(results["gt_ignore_flags"], dtype=bool)]
        results["proposals"] = kept
        results["proposals_scores"] = np.zeros(len(kept), np.float32)
        return results

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"
