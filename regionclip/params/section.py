"""What a section of params.yaml is made of: the base of all, the kinds of numbers and texts, and their bounds.

Bounds are where a stage would end in a traceback, a crash or absurd memory, or train on nothing; not where it is wise.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Item = TypeVar("Item")


class Relation(ValueError):
    """Values that do not fit each other.

    Args:
        key: The key to name, from the section that the check stands in; "" for the section itself.
        problem: What is wrong.
    """

    def __init__(self, key: str, problem: str) -> None:
        self.key, self.problem = key, problem
        super().__init__(problem)


def _distinct(values: list[Item]) -> list[Item]:
    # Without sets: an item may be unhashable.
    if twice := [value for place, value in enumerate(values) if value in values[:place]]:
        raise Relation("", f"{twice[0]} stands twice")
    return values


def _rising(values: list[int]) -> list[int]:
    if values != sorted(set(values)):
        raise Relation("", f"not rising: {values}")
    return values


def _ordered(limits: tuple[int, int]) -> tuple[int, int]:
    if limits[0] > limits[1]:
        raise Relation("", f"the least comes first, then the most; got {list(limits)}")
    return limits


Positive = Annotated[int, Field(ge=1, le=1_000_000)]
Count = Annotated[int, Field(ge=0, le=1_000_000)]
Steps = Annotated[int, Field(ge=1, le=100_000_000)]
Pixels = Annotated[int, Field(ge=32, le=4096)]
Stages = Annotated[int, Field(ge=0, le=4)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(ge=1e-12, le=1000)]
Weight = Annotated[float, Field(ge=0, le=1000)]
# CLIP itself keeps its own above 0.01; below this bound a softmax in half precision overflows.
Temperature = Annotated[float, Field(ge=0.001, le=100)]
Text = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00-\x1f\x7f]*$")]
Distinct = Annotated[list[Item], AfterValidator(_distinct)]
Rising = Annotated[list[Steps], Field(max_length=1000), AfterValidator(_rising)]
Ordered = AfterValidator(_ordered)


class Section(BaseModel):
    """A part of params.yaml: immutable, no unknown keys, no silent conversion, no infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
