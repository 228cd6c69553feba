"""Sections detection, rpn, pseudo_labels, check_pseudo_labels and pretrain."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from regionclip.params.section import (
    Distinct,
    Fraction,
    Pixels,
    Relation,
    Section,
    Stages,
    Temperature,
    Text,
    Weight,
)
from regionclip.params.training import ValidatedSchedule

Regions = Annotated[int, Field(ge=1, le=100_000)]
Batch = Annotated[int, Field(ge=1, le=1024)]


def _short_first(short: int, longest: int) -> None:
    if short > longest:
        raise Relation("max_size", f"{longest}, less than a short side, {short}")


class Detection(Section):
    """Picture sizes of the detectors, in pixels, and how many pictures a test takes at a time.

    Pictures of several sizes are padded to one, which changes features near the border; the paper's tests take one.
    ``group_by_aspect``: all pictures of a training's batch are wide, or all are tall, as Detectron2 groups them.
    """

    train_short_sides: Annotated[list[Pixels], Field(min_length=1, max_length=64)]
    test_short_side: Pixels
    max_size: Pixels
    test_batch: Batch
    test_proposals: Regions
    group_by_aspect: bool = True

    @model_validator(mode="after")
    def _sides(self) -> Self:
        _short_first(max(*self.train_short_sides, self.test_short_side), self.max_size)
        return self


class Rpn(Section):
    """Region proposal network: trained on the base boxes of one data set, or taken from ``weights``.

    Teacher and student are measured on ``dataset`` too, on true boxes, where one number is enough.

    ``clip_c4`` shares CLIP's first stages; the others are the official offline RPNs on a ResNet-50 of their own, which
    starts from ``backbone_weights``.
    """

    architecture: Literal["clip_c4", "r50_c4", "r50_fpn", "r50_fpn_lsj"]
    weights: Text | None
    backbone_weights: Text | None
    dataset: Text
    augmentation: Literal["multi_scale", "large_scale_jitter"]
    repeat_threshold: Fraction | None
    anchor_scales: Annotated[Distinct[Annotated[float, Field(ge=0.1, le=1000)]], Field(min_length=1, max_length=64)]
    pre_nms: Regions
    nms_iou: Fraction
    proposals: Regions
    frozen_stages: Stages
    schedule: ValidatedSchedule


class PseudoLabels(Section):
    """Regions of the captioned scenes, labelled by the teacher."""

    regions: Literal["rpn", "random"]
    view: Literal["roi", "crop", "both"]
    crop_context: Annotated[float, Field(ge=1, le=16)]
    proposals: Regions
    nms_iou: Fraction
    temperature: Temperature
    threshold: Fraction
    top_k: Regions


class CheckPseudoLabels(Section):
    """What the gate before pretraining demands.

    ``min_proposal_recall`` is of the proposals' average recall with 300 an image, over IoU 0.5 to 0.95, on each
    held-out split.
    """

    min_kept_fraction: Fraction
    max_regions: Regions
    min_proposal_recall: Fraction


class LossWeights(Section):
    """Weights of the three pretraining losses; 0 switches a loss off."""

    contrastive: Weight
    distillation: Weight
    image_text: Weight

    @model_validator(mode="after")
    def _something_to_learn(self) -> Self:
        if not any(self.model_dump().values()):
            raise Relation("", "all are 0, and nothing would be learned")
        return self


class Pretrain(Section):
    """Region-text pretraining, or a student that ``weights`` holds already.

    ``whole_image_box``: what the image-text loss takes for the whole picture: its own size, or the canvas that the
    batch is padded to, as the official code does.
    """

    weights: Text | None
    regions_per_image: Regions
    scales: Annotated[list[Pixels], Field(min_length=1, max_length=64)]
    max_size: Pixels
    interpolation: Literal["bilinear", "bicubic"]
    whole_image_box: Literal["image", "canvas"] = "canvas"
    frozen_stages: Stages
    temperature: Temperature
    threshold: Fraction
    losses: LossWeights
    schedule: ValidatedSchedule

    @model_validator(mode="after")
    def _sides(self) -> Self:
        _short_first(max(self.scales), self.max_size)
        return self
