"""The one door to Great Expectations: quiet, offline, without a project folder."""

from __future__ import annotations

import os
import shutil

# Read when the package is imported.
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")

import great_expectations as gx
import great_expectations.expectations as gxe
from great_expectations.data_context import EphemeralDataContext
from great_expectations.data_context.types.base import ProgressBarsConfig

__all__ = ["EphemeralDataContext", "gx", "gxe", "quiet_context", "said"]


def quiet_context() -> EphemeralDataContext:
    """Return a context that lives in memory and draws no progress bars."""
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    # The site that it comes with is in a temporary folder that nothing would remove.
    site = context.variables.data_docs_sites.pop("local_site")
    shutil.rmtree(site["store_backend"]["base_directory"], ignore_errors=True)
    return context


def said(problem: str, mend: str, key: str | None = None) -> dict[str, str | None]:
    """Return an expectation's ``meta``.

    Args:
        problem: What is wrong where it fails.
        mend: What to do about it.
        key: The key of the file that is at fault, where the table's column has another name.
    """
    return {"problem": problem, "mend": mend, "key": key}
