"""Checks by Great Expectations in few words; it is imported here first, and asks no server."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

# Read when the package is imported.
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")

import great_expectations.expectations as gxe
from great_expectations.expectations.expectation import Expectation

WARNING = "warning"


class Check(NamedTuple):
    """A suite and the table that it is about.

    Attributes:
        name: The artefact.
        table: One row a record.
        record: Columns that name a record to a person: ``file``, then what finds it in there.
        expectations: See `Expect`.
    """

    name: str
    table: pd.DataFrame
    record: tuple[str, ...]
    expectations: Sequence[Expectation]


@dataclass(frozen=True)
class Expect:
    """What is wrong where an expectation fails, and what to do about it; a method a kind of expectation.

    Attributes:
        problem: What is wrong.
        mend: What to do about it.
        key: The key of the file that is at fault, where the table's column has another name.
        severity: "critical", or "warning": counted and shown, and stops nothing.
        mostly: Fraction of the rows that must meet it.
    """

    problem: str
    mend: str
    key: str | None = None
    severity: str = "critical"
    mostly: float = 1

    def _of(self, kind: type[Expectation], **facts: Any) -> Expectation:
        meta = {"problem": self.problem, "mend": self.mend, "key": self.key}
        return kind(severity=self.severity, meta=meta, **facts)

    def rows(self, least: int = 1) -> Expectation:
        """So many rows or more."""
        return self._of(gxe.ExpectTableRowCountToBeBetween, min_value=least)

    def between(
        self, column: str, least: float | None = None, most: float | None = None, *, above: bool = False
    ) -> Expectation:
        """Values from ``least``, or above it, to ``most``."""
        kind, limits = gxe.ExpectColumnValuesToBeBetween, {"min_value": least, "max_value": most, "strict_min": above}
        return self._of(kind, column=column, mostly=self.mostly, **limits)

    def among(self, column: str, values: Collection[Any]) -> Expectation:
        """One of these values."""
        return self._of(gxe.ExpectColumnValuesToBeInSet, column=column, value_set=list(values), mostly=self.mostly)

    def not_among(self, column: str, values: Collection[Any]) -> Expectation:
        """None of these values."""
        return self._of(gxe.ExpectColumnValuesToNotBeInSet, column=column, value_set=list(values))

    def none(self, column: str) -> Expectation:
        """No value."""
        return self._of(gxe.ExpectColumnValuesToBeNull, column=column, mostly=self.mostly)

    def some(self, column: str) -> Expectation:
        """A value."""
        return self._of(gxe.ExpectColumnValuesToNotBeNull, column=column, mostly=self.mostly)

    def equal(self, first: str, second: str) -> Expectation:
        """The same in two columns, where both have a value."""
        kind, skip = gxe.ExpectColumnPairValuesToBeEqual, "either_value_is_missing"
        return self._of(kind, column_A=first, column_B=second, ignore_row_if=skip)

    def unique(self, *columns: str) -> Expectation:
        """No two rows that are the same in these columns."""
        if len(columns) == 1:
            return self._of(gxe.ExpectColumnValuesToBeUnique, column=columns[0])
        return self._of(gxe.ExpectCompoundColumnsToBeUnique, column_list=list(columns))

    def set_of(self, column: str, values: Collection[Any]) -> Expectation:
        """Each of these values, and no other."""
        return self._of(gxe.ExpectColumnDistinctValuesToEqualSet, column=column, value_set=list(values))

    def mean(self, column: str, least: float) -> Expectation:
        """A mean of ``least`` or more."""
        return self._of(gxe.ExpectColumnMeanToBeBetween, column=column, min_value=least)

    def like(self, column: str, pattern: str) -> Expectation:
        """Texts in which the pattern is found."""
        return self._of(gxe.ExpectColumnValuesToMatchRegex, column=column, regex=pattern, mostly=self.mostly)
