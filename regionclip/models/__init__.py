"""Components for MMDetection, registered under their class names when this package is imported."""

from __future__ import annotations

from regionclip.models import (  # noqa: F401
    attention_pool,
    clip_resnet_c4,
    logit_rpn_head,
    losses,
    region_encoder,
    region_text_pretrainer,
    roi_heads,
    text_embedding_classifier,
    text_tower,
    upper_clip_bbox_coder,
)
