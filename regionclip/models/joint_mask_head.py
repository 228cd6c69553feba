"""A mask head whose loss is its process's share of the joint batch's."""

from __future__ import annotations

from typing import Any

from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.registry import MODELS
from torch import Tensor

from regionclip.models.losses import joint_mean


@MODELS.register_module()
class JointMaskHead(FCNMaskHead):
    """``FCNMaskHead``; the mean of its loss over the processes is the mean over the regions of all."""

    def loss_and_target(self, mask_preds: Tensor, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Compute loss and targets as ``FCNMaskHead`` does, for the masks (N, 1, H, W) of N regions."""
        result = super().loss_and_target(mask_preds, *args, **kwargs)
        # A picture without a true box has no mask, but others of the joint batch may have.
        share = len(mask_preds) / (joint_mean(len(mask_preds)) or 1)
        result["loss_mask"] = {name: value * share for name, value in result["loss_mask"].items()}
        return result
