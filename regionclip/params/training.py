"""Schedules, which every section that trains holds."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from regionclip.params.section import Count, Positive, Rate, Relation, Rising, Section, Steps


class GradientClip(Section):
    """Largest L2 norm of the gradients: of all together, or of each parameter's, as in the paper's pretraining."""

    norm: Rate
    per: Literal["model", "parameter"]


class Validation(Section):
    """How a training measures itself on a development split, by a number that each stage fixes.

    Every ``interval`` iterations and after the last one, on at most ``images`` pictures; it stops early after
    ``patience`` validations without a gain; null: never.
    """

    interval: Steps
    images: Positive = 1000
    patience: Positive | None = None


class Schedule(Section):
    """Optimiser and schedule of one training; milestones beyond its end do not come into play.

    The rate starts at ``warmup_factor`` times itself and rises in a straight line for ``warmup_iterations``.
    """

    iterations: Steps
    batch_size: Annotated[int, Field(ge=1, le=65536)]
    optimizer: Literal["SGD", "AdamW"]
    learning_rate: Annotated[float, Field(ge=1e-12, le=10)]
    weight_decay: Annotated[float, Field(ge=0, le=10)]
    warmup_iterations: Count
    warmup_factor: Annotated[float, Field(ge=1e-12, le=1)] = 0.001
    milestones: Rising
    clip_gradients: GradientClip | None

    @model_validator(mode="after")
    def _warm_in_time(self) -> Self:
        if self.warmup_iterations > self.iterations:
            problem = f"{self.warmup_iterations}, more than all iterations, {self.iterations}"
            raise Relation("warmup_iterations", problem)
        return self


class ValidatedSchedule(Schedule):
    """The schedule of a training that can validate; null: it does not."""

    validation: Validation | None = None
