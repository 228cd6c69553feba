"""An RoI head of two branches, so that pseudo boxes teach names and no places (SAS-Det)."""

from __future__ import annotations

import copy
from typing import Any

import torch
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.utils import ConfigType, InstanceList
from torch import Tensor

from regionclip.models.fused_roi_head import FusedRoIHead
from regionclip.models.proposal_score_roi_head import ProposalScoreRoIHead


@MODELS.register_module()
class SplitRoIHead(FusedRoIHead):
    """`FusedRoIHead` whose second head trains too, from the same start: the open branch, beside the closed one.

    The closed branch, the head itself, learns names and places of true boxes. The open branch learns names alone, of
    true boxes and pseudo boxes, on proposals sampled anew. A test mixes their class probabilities.

    Args:
        fusion: ``base`` and ``novel``: the open branch's share for such classes, from 0 to 1.
        pseudo_labels: Labels of the classes whose boxes are pseudo boxes, among those of all that the data have; the
            closed branch's classes are the others, in their order.
        **kwargs: Arguments of `ProposalScoreRoIHead`.
    """

    def __init__(self, *args: Any, fusion: dict[str, float], pseudo_labels: list[int], **kwargs: Any) -> None:
        ProposalScoreRoIHead.__init__(self, *args, **copy.deepcopy(kwargs))
        self.fusion, self.pseudo_labels = fusion, pseudo_labels
        known = self.bbox_head.fc_cls.embeddings
        head = {**kwargs["bbox_head"], "num_classes": len(known) + len(pseudo_labels), "with_reg": False}
        parts = {key: kwargs.get(key) for key in ("bbox_roi_extractor", "shared_head", "train_cfg", "test_cfg")}
        self.open_branch = MODELS.build({"type": "StandardRoIHead", "bbox_head": head, **parts})
        self.register_buffer("frozen_classes", torch.zeros_like(known))

    def freeze(self) -> None:
        """Let the open branch start where the closed one is, and keep the closed one's vocabulary as base classes."""
        self.open_branch.shared_head.load_state_dict(self.shared_head.state_dict())
        self.open_branch.bbox_head.attention_pool.load_state_dict(self.bbox_head.attention_pool.state_dict())
        self.frozen_classes.copy_(self.bbox_head.fc_cls.embeddings)

    def frozen_embeddings(self, maps: tuple[Tensor, ...], rois: Tensor) -> Tensor:
        """Embed regions (N, 5), picture and xyxy, by the open branch: (N, D), un-normalised."""
        return self.open_branch.bbox_head.embed(self.open_branch.shared_head(self.bbox_roi_extractor(maps, rois)))

    def loss(self, x: tuple[Tensor, ...], rpn_results_list: InstanceList, batch_data_samples: SampleList) -> ConfigType:
        """Return the losses of both branches, those of the open one as ``open_*``."""
        closed = []
        for sample in batch_data_samples:
            labels = sample.gt_instances.labels
            true = ~torch.isin(labels, labels.new_tensor(self.pseudo_labels))
            closed.append(sample.clone())
            closed[-1].gt_instances = sample.gt_instances[true]
            lower = labels[true, None] > labels.new_tensor(self.pseudo_labels)
            closed[-1].gt_instances.labels = labels[true] - lower.sum(dim=1)
        # `StandardRoIHead` renames what it is given.
        again = [proposals.clone() for proposals in rpn_results_list]
        losses = super().loss(x, rpn_results_list, closed)
        more = self.open_branch.loss(x, again, batch_data_samples)
        return losses | {f"open_{name}": value for name, value in more.items()}
