"""From images and boxes to region embeddings: the visual side of RegionCLIP, for student, teacher and zero-shot."""

from __future__ import annotations

from collections.abc import Sequence

from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox2roi
from mmengine.model import BaseModule
from open_clip.modified_resnet import ModifiedResNet
from torch import Tensor

from regionclip.models.visual_weights import describe, load_visual, part_configs, visual_state


@MODELS.register_module()
class RegionEncoder(BaseModule):
    """Backbone, RoIAlign, layer4 and attention pool of a CLIP ResNet.

    Args:
        backbone: Config of :class:`CLIPResNetC4`.
        roi_extractor: Config of MMDetection's ``SingleRoIExtractor``: aligned, sampling_ratio 0, stride 16.
        res5: Config of :class:`CLIPRes5`.
        attention_pool: Config of :class:`AttentionPool`.
    """

    def __init__(self, backbone: dict, roi_extractor: dict, res5: dict, attention_pool: dict) -> None:
        super().__init__()
        self.backbone = MODELS.build(backbone)
        self.roi_extractor = MODELS.build(roi_extractor)
        self.res5 = MODELS.build(res5)
        self.attention_pool = MODELS.build(attention_pool)

    @classmethod
    def from_clip(cls, visual: ModifiedResNet) -> RegionEncoder:
        """Copy the image tower of a built open_clip model, ``model.visual`` of a ResNet CLIP."""
        encoder = cls(**part_configs(*describe(visual)))
        encoder.load_visual_state_dict(visual.state_dict())
        return encoder

    @property
    def embed_dim(self) -> int:
        """Width of the embeddings."""
        return self.attention_pool.c_proj.out_features

    def forward_features(self, images: Tensor) -> Tensor:
        """Map normalised RGB images (B, 3, H, W) to features (B, C, ~H / 16, ~W / 16)."""
        return self.backbone(images)[0]

    def encode(self, features: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """Embed regions.

        Args:
            features: Of :meth:`forward_features`, one map an image.
            boxes: For each image (n_i, 4) float xyxy, in pixels of the images that the features come from.

        Returns:
            (sum of n_i, D), un-normalised, images in order.
        """
        regions = self.roi_extractor((features,), bbox2roi(list(boxes)))
        return self.attention_pool(self.res5(regions))

    def forward(self, images: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """Embed the regions ``boxes`` of ``images``; see :meth:`encode`."""
        return self.encode(self.forward_features(images), boxes)

    def load_visual_state_dict(self, state: dict[str, Tensor]) -> None:
        """Fill the parts from the state of a ``ModifiedResNet``; see :func:`load_visual`."""
        load_visual(state, self.backbone, self.res5, self.attention_pool)

    def to_visual_state_dict(self) -> dict[str, Tensor]:
        """Return the weights under the keys of open_clip's ``ModifiedResNet`` (add ``visual.`` for a whole CLIP)."""
        return visual_state(self.backbone, self.res5, self.attention_pool)
