"""An RoI head that asks the pretrained layer4 and attention pool too, so that fine-tuning forgets no class."""

from __future__ import annotations

import copy
from typing import Any

import torch
from mmdet.registry import MODELS
from torch import Tensor

from regionclip.models.proposal_score_roi_head import ProposalScoreRoIHead

_SAME = 1 - 1e-4  # cosine from which two embeddings are of one name; those of two names stay below 0.99


@MODELS.register_module()
class FusedRoIHead(ProposalScoreRoIHead):
    """`ProposalScoreRoIHead` that mixes the fine-tuned class probabilities with the frozen head's when it tests.

    The frozen head is a copy of layer4 and attention pool from before the training, on the same map: what the whole
    pretrained encoder says where the stages before layer4 do not train. ``frozen_classes`` are the embeddings of the
    training's classes: a class whose text has one of these is a base class, any other one is novel.

    Args:
        fusion: ``base`` and ``novel``: the frozen head's share for such classes, from 0 to 1; see `fuse`.
        **kwargs: Arguments of `ProposalScoreRoIHead`.
    """

    def __init__(self, *args: Any, fusion: dict[str, float], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fusion, pool = fusion, self.bbox_head.attention_pool
        self.frozen_layers, self.frozen_pool = (
            copy.deepcopy(part).requires_grad_(False) for part in (self.shared_head, pool)
        )
        self.register_buffer("frozen_classes", torch.zeros(self.bbox_head.num_classes, pool.c_proj.out_features))

    def freeze(self) -> None:
        """Keep the head as it is now, and its vocabulary as the base classes."""
        self.frozen_layers.load_state_dict(self.shared_head.state_dict())
        self.frozen_pool.load_state_dict(self.bbox_head.attention_pool.state_dict())
        self.frozen_classes.copy_(self.bbox_head.fc_cls.embeddings)

    def frozen_embeddings(self, maps: tuple[Tensor, ...], rois: Tensor) -> Tensor:
        """Embed regions (N, 5), picture and xyxy, as before the training: (N, D), un-normalised."""
        return self.frozen_pool(self.frozen_layers(self.bbox_roi_extractor(maps, rois)))

    def shares(self, cosines: Tensor) -> Tensor:
        """Return the frozen head's share in each of K classes by the cosines (base classes, K) of these with them."""
        base = cosines.amax(dim=0) > _SAME
        return torch.where(base, self.fusion["base"], self.fusion["novel"])

    def _bbox_forward(self, x: tuple[Tensor, ...], rois: Tensor) -> dict[str, Tensor]:
        found = super()._bbox_forward(x, rois)
        if not self.training:
            classify = self.bbox_head.fc_cls
            shares = self.shares(classify(self.frozen_classes)[:, :-1] * classify.temperature)
            found["cls_score"] = fuse(found["cls_score"], classify(self.frozen_embeddings(x, rois)), shares)
        return found


def fuse(tuned: Tensor, frozen: Tensor, shares: Tensor) -> Tensor:
    """Mix the class probabilities of two heads: ``tuned^(1 - w) * frozen^w`` with w by class, as F-VLM does.

    Args:
        tuned, frozen: Logits (N, K + 1), background last.
        shares: w (K,), from 0 to 1.

    Returns:
        Logits (N, K + 1) float32 whose softmax is the mixed probabilities, with what is left for the background;
        where they sum to more than 1, they are divided by their sum.
    """
    logs, others = (logits.float().log_softmax(dim=-1)[:, :-1] for logits in (tuned, frozen))
    mixed = torch.lerp(logs, others, shares)
    rest = 1 - mixed.exp().sum(dim=-1, keepdim=True)
    return torch.cat([mixed, rest.clamp(min=1e-7).log()], dim=-1)
