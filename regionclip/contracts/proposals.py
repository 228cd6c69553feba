"""Contract of stored proposals: one entry an image, boxes in bounds, finite logits, a count in range."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from regionclip.contracts.gate import Check
from regionclip.contracts.gx import gx
from regionclip.contracts.regions import count_check, region_expectations, region_table

_AGAIN = "run the stage `rpn` again"


def proposal_checks(store: Path, regions: pd.DataFrame, images: pd.DataFrame, most: int) -> list[Check]:
    """Return the checks of a store of proposals.

    Args:
        store: Its folder; its name is the name of the suites.
        regions: One row a proposal: image_id, x1, y1, x2, y2 (pixels), objectness (logit).
        images: One row an image that the store must hold: id, width, height (pixels).
        most: Most proposals of an image.
    """
    table, name = region_table(str(store), regions, images), f"proposals {store.name}"
    suite = gx.ExpectationSuite(name=f"{name} regions", expectations=region_expectations(_AGAIN))
    return [
        Check(suite, table, ("file", "image_id", "region")),
        count_check(f"{name} images", str(store), regions, images, most, "lower rpn.proposals"),
    ]
