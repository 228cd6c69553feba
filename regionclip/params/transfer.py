"""Sections zero_shot, finetune and evaluation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from regionclip.params.regions import Regions
from regionclip.params.section import Distinct, Fraction, Section, Stages, Temperature, Text, Weight
from regionclip.params.training import ValidatedSchedule


class ScoreThresholds(Section):
    """Least score of a detection on true boxes and on proposals."""

    gt: Fraction
    rpn: Fraction


class ZeroShot(Section):
    """Detection without fine-tuning."""

    temperature: Temperature
    score_mode: Literal["official", "sigmoid"]
    score_threshold: dict[str, ScoreThresholds]
    nms_iou: Fraction


class DatasetFinetune(Section):
    """Transfer to one data set, or a detector that ``weights`` holds already."""

    weights: Text | None
    masks: bool
    repeat_threshold: Fraction | None
    background_weight: Weight
    focal_gamma: Annotated[float, Field(ge=0, le=100)]
    score_threshold: Fraction
    nms: Literal["hard", "soft"]
    nms_iou: Fraction
    max_detections: Regions
    score_mode: Literal["none", "official", "sigmoid"]
    schedule: ValidatedSchedule


class Finetune(Section):
    """Transfer to open-vocabulary detection from each of ``initialisations``."""

    initialisations: Annotated[Distinct[Literal["clip", "regionclip"]], Field(min_length=1)]
    regions_per_image: Regions
    frozen_stages: Stages
    temperature: Temperature
    sets: dict[str, DatasetFinetune]


class Evaluation(Section):
    """What is measured: ``val`` for reports, ``dev`` while hyperparameters are chosen."""

    split: Literal["dev", "val"]
