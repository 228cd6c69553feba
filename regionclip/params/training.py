"""Schedules, which every section that trains holds."""

from __future__ import annotations

from typing import Literal

from regionclip.params.section import Count, Positive, Rate, Section, Weight


class GradientClip(Section):
    """Largest L2 norm of the gradients: of all together, or of each parameter's, as in the paper's pretraining."""

    norm: Rate
    per: Literal["model", "parameter"]


class Schedule(Section):
    """Optimiser and schedule of one training."""

    iterations: Positive
    batch_size: Positive
    optimizer: Literal["SGD", "AdamW"]
    learning_rate: Rate
    weight_decay: Weight
    warmup_iterations: Count
    milestones: list[Positive]
    clip_gradients: GradientClip | None
