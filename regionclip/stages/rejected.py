"""Where a stage that reads captioned images sets bad records aside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from regionclip.data.rejects import SUFFIX, Rejects

if TYPE_CHECKING:
    from regionclip.stages.runner import StageContext

FOLDER = Path("reports/rejected")


def set_aside(context: StageContext, stage: str) -> Rejects:
    """Return the rejects of a stage, limited by ``quarantine.max_fraction``; the file is written when they close.

    Every stage reads captions in this way, because the index of shards is of one way of reading.
    """
    return Rejects(FOLDER / f"{stage}{SUFFIX}", context.params.quarantine.max_fraction)
