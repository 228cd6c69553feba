"""The box head that classifies and refines regions from their CLIP embedding."""

from __future__ import annotations

from typing import Any

import torch
from mmdet.models.layers import multiclass_nms
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from mmdet.registry import MODELS
from mmdet.utils import ConfigType
from mmengine.structures import InstanceData
from torch import Tensor

from regionclip.mmcv_ops import soft_nms
from regionclip.models.losses import joint_mean


@MODELS.register_module()
class RegionEmbeddingHead(BBoxHead):
    """``BBoxHead`` on embeddings: classifier and box deltas read the same un-normalised vector.

    The pool lives here and not in the shared head, so that a mask head can still read the maps of layer4.
    One set of deltas serves all classes (``reg_class_agnostic``), which lets the vocabulary change at test time.
    ``num_classes`` is the number of training classes; it only marks the background label in the loss.
    Only the deltas are initialised, N(0, 0.001) with bias 0; ``BBoxHead``'s default would write into the classifier.

    Args:
        attention_pool: Arguments of :class:`AttentionPool`: spacial_dim, embed_dim, num_heads, output_dim. None: the
            regions are embeddings already, of ``in_channels``.
        **kwargs: Arguments of ``BBoxHead``. ``with_reg=False`` leaves the boxes as they are (zero-shot).
    """

    def __init__(self, attention_pool: dict[str, Any] | None = None, **kwargs: Any) -> None:
        deltas = dict(type="Normal", std=0.001, override=dict(name="fc_reg"))
        if attention_pool is not None:
            kwargs["in_channels"] = attention_pool["output_dim"]
        super().__init__(
            roi_feat_size=1,
            reg_class_agnostic=True,
            init_cfg=deltas if kwargs.get("with_reg", True) else [],
            **kwargs,
        )
        self.attention_pool = MODELS.build({"type": "AttentionPool", **attention_pool}) if attention_pool else None

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor | None]:
        """Score and refine regions.

        Args:
            maps: Output of layer4, (N, C, S, S), or embeddings (N, D, 1, 1).

        Returns:
            Logits (N, K + 1), background last, and deltas (N, 4), or None without regression.
        """
        embeddings = self.embed(maps)
        return self.fc_cls(embeddings), self.fc_reg(embeddings) if self.with_reg else None

    def embed(self, maps: Tensor) -> Tensor:
        """Return the embeddings (N, D), un-normalised, of what `forward` takes."""
        return maps.flatten(1) if self.attention_pool is None else self.attention_pool(maps)

    def loss(self, cls_score: Tensor, bbox_pred: Tensor, rois: Tensor, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Compute the losses as ``BBoxHead`` does; the mean over the processes of each is that of the joint batch."""
        losses = super().loss(cls_score, bbox_pred, rois, *args, **kwargs)
        share = len(rois) / joint_mean(len(rois))
        # The classification loss divides by the regions of all processes itself.
        return {name: value if name == "loss_cls" else value * share for name, value in losses.items()}

    def _predict_by_feat_single(
        self, *args: Any, rcnn_test_cfg: ConfigType | None = None, **kwargs: Any
    ) -> InstanceData:
        # Without its settings `BBoxHead` gives all boxes and class scores, in the proposals' order.
        raw = super()._predict_by_feat_single(*args, rcnn_test_cfg=None, **kwargs)
        return raw if rcnn_test_cfg is None else best_detections(raw.bboxes, raw.scores, rcnn_test_cfg)


def best_detections(boxes: Tensor, scores: Tensor, cfg: ConfigType) -> InstanceData:
    """Apply threshold, NMS of each class and limit.

    Args:
        boxes: (N, 4) xyxy, of all classes.
        scores: (N, K + 1), background last.
        cfg: ``score_thr``, ``nms`` and ``max_per_img`` of ``test_cfg.rcnn``; ``nms.class_agnostic``: a box of one class
            suppresses those of the others.

    Returns:
        bboxes (n, 4), scores and labels (n,), best first, without boxes that have no area, as Detectron2's
        ``detector_postprocess``: boxes are clipped to the picture, so one that lies outside becomes a line. It takes
        part in NMS and counts among the best; only the answer lacks it.
    """
    if cfg.nms.type == "soft_nms":
        rows, labels = (scores[:, :-1] > cfg.score_thr).nonzero(as_tuple=True)
        places, found = boxes[rows], scores[rows, labels]
        # Classes are told apart by themselves, so that nothing need be split.
        settings = {key: value for key, value in cfg.nms.items() if key not in ("type", "split_thr", "class_agnostic")}
        groups = torch.zeros_like(labels) if cfg.nms.get("class_agnostic") else labels
        kept, found = soft_nms(places, found, groups, cfg.max_per_img, **settings)
        results = InstanceData(bboxes=places[kept], scores=found, labels=labels[kept])
    else:
        found, labels = multiclass_nms(boxes, scores, cfg.score_thr, cfg.nms, cfg.max_per_img)
        results = InstanceData(bboxes=found[:, :4], scores=found[:, 4], labels=labels)
    left, top, right, bottom = results.bboxes.unbind(dim=1)
    return results[(right > left) & (bottom > top)]
