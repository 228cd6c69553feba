"""The box head that classifies and refines regions from their CLIP embedding."""

from __future__ import annotations

from typing import Any

from mmdet.models.roi_heads.bbox_heads import BBoxHead
from mmdet.registry import MODELS
from mmdet.utils import ConfigType
from mmengine.structures import InstanceData
from torch import Tensor

from regionclip.models.losses import joint_mean


@MODELS.register_module()
class RegionEmbeddingHead(BBoxHead):
    """``BBoxHead`` on attention-pooled embeddings: classifier and box deltas read the same un-normalised vector.

    The pool lives here and not in the shared head, so that a mask head can still read the maps of layer4.
    One set of deltas serves all classes (``reg_class_agnostic``), which lets the vocabulary change at test time.
    ``num_classes`` is the number of training classes; it only marks the background label in the loss.
    Only the deltas are initialised, N(0, 0.001) with bias 0; ``BBoxHead``'s default would write into the classifier.

    Args:
        attention_pool: Arguments of :class:`AttentionPool`: spacial_dim, embed_dim, num_heads, output_dim.
        **kwargs: Arguments of ``BBoxHead``. ``with_reg=False`` leaves the boxes as they are (zero-shot).
    """

    def __init__(self, attention_pool: dict[str, Any], **kwargs: Any) -> None:
        deltas = dict(type="Normal", std=0.001, override=dict(name="fc_reg"))
        super().__init__(
            in_channels=attention_pool["output_dim"],
            roi_feat_size=1,
            reg_class_agnostic=True,
            init_cfg=deltas if kwargs.get("with_reg", True) else [],
            **kwargs,
        )
        self.attention_pool = MODELS.build({"type": "AttentionPool", **attention_pool})

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor | None]:
        """Score and refine regions.

        Args:
            maps: Output of layer4, (N, C, S, S).

        Returns:
            Logits (N, K + 1), background last, and deltas (N, 4), or None without regression.
        """
        embeddings = self.attention_pool(maps)
        return self.fc_cls(embeddings), self.fc_reg(embeddings) if self.with_reg else None

    def loss(self, cls_score: Tensor, bbox_pred: Tensor, rois: Tensor, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Compute the losses as ``BBoxHead`` does; the mean over the processes of each is that of the joint batch."""
        losses = super().loss(cls_score, bbox_pred, rois, *args, **kwargs)
        share = len(rois) / joint_mean(len(rois))
        # The classification loss divides by the regions of all processes itself.
        return {name: value if name == "loss_cls" else value * share for name, value in losses.items()}

    def _predict_by_feat_single(
        self, *args: Any, rcnn_test_cfg: ConfigType | None = None, **kwargs: Any
    ) -> InstanceData:
        results = super()._predict_by_feat_single(*args, rcnn_test_cfg=rcnn_test_cfg, **kwargs)
        return results if rcnn_test_cfg is None else drop_empty(results)


def drop_empty(results: InstanceData) -> InstanceData:
    """Leave out detections whose ``bboxes`` (n, 4) xyxy have no area, as Detectron2's ``detector_postprocess``.

    Boxes are clipped to the picture, so one that lies outside becomes a line. It has taken part in NMS and counts
    among the best; only the answer lacks it.
    """
    left, top, right, bottom = results.bboxes.unbind(dim=1)
    return results[(right > left) & (bottom > top)]
