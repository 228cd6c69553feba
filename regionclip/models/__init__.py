"""Components for MMDetection, registered under their class names when this package is imported."""

from __future__ import annotations

from regionclip.models import (  # noqa: F401
    attention_pool,
    clip_patch_map,
    clip_resnet_c4,
    fused_roi_head,
    fvit_bbox_head,
    fvit_pyramid,
    fvit_roi_head,
    joint_mask_head,
    learned_text_classifier,
    logit_rpn_head,
    losses,
    proposal_score_roi_head,
    quality_rpn_head,
    region_embedding_head,
    region_encoder,
    region_extractor,
    region_text_pretrainer,
    split_roi_head,
    text_embedding_classifier,
    upper_clip_bbox_coder,
)
