"""LoadStoredProposals: proposals of a region store in an MMDetection pipeline."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS

from regionclip.regions.store import RegionStore


@TRANSFORMS.register_module()
class LoadStoredProposals(BaseTransform):
    """Look the image's proposals up in a region store.

    It leaves what ``mmdet.LoadProposals`` leaves: ``proposals`` float32 [n, 4] (xyxy, original pixels) and
    ``proposals_scores`` float32 [n]; the scores are raw objectness logits. Wrap the geometric transforms that follow in
    ``ProposalBroadcaster``.

    Args:
        store: Folder of the region store; its keys are the data set's ``img_id``.
        num_max_proposals: Keep those of highest objectness; None keeps all.
    """

    def __init__(self, store: str, num_max_proposals: int | None = None) -> None:
        self.store = RegionStore.open(store)
        self.num_max_proposals = num_max_proposals

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add ``proposals`` and ``proposals_scores``; raises InputError when the store lacks the image."""
        regions = self.store[results["img_id"]]
        order = np.argsort(-regions.objectness, kind="stable")[: self.num_max_proposals]
        results["proposals"] = regions.boxes[order]
        results["proposals_scores"] = regions.objectness[order]
        return results

    def __repr__(self) -> str:
        return f"{type(self).__name__}(store={str(self.store.path)!r}, num_max_proposals={self.num_max_proposals})"
