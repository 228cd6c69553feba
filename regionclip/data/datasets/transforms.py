"""Steps of MMDetection pipelines; importing this module registers them."""

from __future__ import annotations

from typing import Any

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.datasets.transforms import ResizeShortestEdge
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import get_box_tensor

from regionclip.data.pictures import thick, to_bgr
from regionclip.regions.store import RegionStore


@TRANSFORMS.register_module()
class LoadPicture(BaseTransform):
    """Read ``img_path`` as the stage `data` and the gate read it; MMCV's loader has other rules for odd pictures."""

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add ``img`` uint8 (H, W, 3) BGR, ``img_shape`` and ``ori_shape``; raises InputError."""
        results["img"] = to_bgr(results["img_path"])
        results["img_shape"] = results["ori_shape"] = results["img"].shape[:2]
        return results


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


@TRANSFORMS.register_module()
class LoadGroundTruthAsProposals(BaseTransform):
    """Take the boxes of ``LoadAnnotations`` as proposals, with scores 0: classification apart from localisation.

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


@TRANSFORMS.register_module()
class ResizeShortSide(ResizeShortestEdge):
    """MMDetection's ``ResizeShortestEdge``, its sizes made `thick`: it rounds a thin picture's side to nothing."""

    def _get_output_shape(self, img: np.ndarray, short_edge_length: int | tuple[int, int]) -> tuple[int, int]:
        short = short_edge_length if isinstance(short_edge_length, int) else min(short_edge_length)
        return thick(super()._get_output_shape(img, short), short)


@TRANSFORMS.register_module()
class ResizeWithin(ResizeShortestEdge):
    """MMDetection's ``Resize`` with ``keep_ratio``, its sizes made `thick`."""

    def _get_output_shape(self, img: np.ndarray, short_edge_length: tuple[int, int]) -> tuple[int, int]:
        height, width = img.shape[:2]
        return thick(mmcv.rescale_size((width, height), short_edge_length), min(short_edge_length))
