"""The box head of F-ViT."""

from __future__ import annotations

from typing import Any

from mmdet.models.roi_heads.bbox_heads import ConvFCBBoxHead
from mmdet.registry import MODELS

from regionclip.models.region_embedding_head import RegionEmbeddingHead


@MODELS.register_module()
class FViTBBoxHead(RegionEmbeddingHead, ConvFCBBoxHead):
    """MMDetection's ``ConvFCBBoxHead`` with four shared convolutions, two shared layers and one a branch.

    Losses are over the joint batch, and one set of deltas serves all classes, as in `RegionEmbeddingHead`.

    Args:
        **kwargs: Arguments of ``ConvFCBBoxHead``.
    """

    def __init__(self, **kwargs: Any) -> None:
        layers = dict(num_shared_convs=4, num_shared_fcs=2, num_cls_fcs=1, num_reg_fcs=1)
        ConvFCBBoxHead.__init__(self, **layers, reg_class_agnostic=True, **kwargs)

    forward = ConvFCBBoxHead.forward
