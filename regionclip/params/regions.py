"""Sections detection, rpn, pseudo_labels, check_pseudo_labels and pretrain."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from regionclip.params.section import Fraction, Positive, Rate, Section, Weight
from regionclip.params.training import Schedule


class Detection(Section):
    """Picture sizes of the detectors, in pixels, and how many pictures a test takes at a time.

    Pictures of several sizes are padded to one, which changes features near the border; the paper's tests take one.
    """

    train_short_sides: Annotated[list[Positive], Field(min_length=1)]
    test_short_side: Positive
    max_size: Positive
    test_batch: Positive
    test_proposals: Positive


class Rpn(Section):
    """Region proposal network: trained on the base boxes of one data set, or taken from ``weights``.

    ``clip_c4`` shares CLIP's first stages; the others are the official offline RPNs on a ResNet-50 of their own, which
    starts from ``backbone_weights``.
    """

    architecture: Literal["clip_c4", "r50_c4", "r50_fpn", "r50_fpn_lsj"]
    weights: str | None
    backbone_weights: str | None
    dataset: Literal["coco", "lvis"]
    augmentation: Literal["multi_scale", "large_scale_jitter"]
    repeat_threshold: Fraction | None
    anchor_scales: Annotated[list[Rate], Field(min_length=1)]
    pre_nms: Positive
    nms_iou: Fraction
    proposals: Positive
    frozen_stages: Annotated[int, Field(ge=0, le=4)]
    schedule: Schedule


class PseudoLabels(Section):
    """Regions of the captioned scenes, labelled by the teacher."""

    regions: Literal["rpn", "random"]
    view: Literal["roi", "crop", "both"]
    crop_context: Annotated[float, Field(ge=1)]
    proposals: Positive
    nms_iou: Fraction
    temperature: Rate
    threshold: Fraction
    top_k: Positive


class CheckPseudoLabels(Section):
    """What the gate before pretraining demands.

    ``min_proposal_recall`` is of the proposals' average recall with 300 an image, over IoU 0.5 to 0.95, on each
    held-out split.
    """

    min_kept_fraction: Fraction
    max_regions: Positive
    min_proposal_recall: Fraction


class LossWeights(Section):
    """Weights of the three pretraining losses; 0 switches a loss off."""

    contrastive: Weight
    distillation: Weight
    image_text: Weight


class Pretrain(Section):
    """Region-text pretraining, or a student that ``weights`` holds already."""

    weights: str | None
    regions_per_image: Positive
    scales: Annotated[list[Positive], Field(min_length=1)]
    max_size: Positive
    interpolation: Literal["bilinear", "bicubic"]
    frozen_stages: Annotated[int, Field(ge=0, le=4)]
    temperature: Rate
    threshold: Fraction
    losses: LossWeights
    schedule: Schedule
