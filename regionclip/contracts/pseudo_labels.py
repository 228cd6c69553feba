"""Contract of pseudo labels: boxes in their images, sane scores, concepts of the pool, enough regions kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from regionclip.contracts.checkpoint import Check
from regionclip.contracts.gx import gx, gxe, said

_BORDER = 0.1  # pixels; boxes are clipped in the resized image and scaled back in float32
_LARGEST = float(np.finfo(np.float32).max)
_AGAIN = "run the stage `pseudo_labels` again"


@dataclass(frozen=True)
class Demands:
    """What a store of pseudo labels must satisfy.

    Attributes:
        pool_size: Number of concepts; an index is below it.
        threshold: Teacher probability above which a region is kept.
        min_kept_fraction: Least share of regions that are kept.
        max_regions: Most regions of an image.
    """

    pool_size: int
    threshold: float
    min_kept_fraction: float
    max_regions: int


def pseudo_label_checks(store: Path, regions: pd.DataFrame, images: pd.DataFrame, demands: Demands) -> list[Check]:
    """Return the checks of a region store.

    Args:
        store: Its folder, for messages.
        regions: One row a region: image_id, x1, y1, x2, y2 (pixels), objectness (logit), top_concept, top_prob.
        images: One row an image that the store must hold: id, width, height (pixels).
        demands: Pool size and limits.
    """
    sizes = images.drop_duplicates("id").set_index("id").reindex(regions["image_id"])
    table = regions.assign(
        file=str(store),
        region=regions.groupby("image_id").cumcount(),
        image_width=sizes["width"].to_numpy(np.float64),
        over_left=-regions["x1"],
        over_top=-regions["y1"],
        over_right=regions["x2"].to_numpy(np.float64) - sizes["width"].to_numpy(np.float64),
        over_bottom=regions["y2"].to_numpy(np.float64) - sizes["height"].to_numpy(np.float64),
        box_width=regions["x2"] - regions["x1"],
        box_height=regions["y2"] - regions["y1"],
        kept=(regions["top_prob"] > demands.threshold).astype(np.float64),
    )
    counts = regions["image_id"].value_counts()
    by_image = images[["id"]].assign(file=str(store), regions=counts.reindex(images["id"], fill_value=0).to_numpy())
    suites: dict[str, tuple[list[Any], pd.DataFrame, tuple[str, ...]]] = {
        "regions": (_region_expectations(demands), table, ("file", "image_id", "region")),
        "images": (_image_expectations(demands), by_image, ("file", "id")),
    }
    return [
        Check(gx.ExpectationSuite(name=f"pseudo label {part}", expectations=expectations), rows, record)
        for part, (expectations, rows, record) in suites.items()
    ]


def _region_expectations(demands: Demands) -> list[Any]:
    kept = f"too few regions are above the threshold {demands.threshold:g}"
    return [
        gxe.ExpectTableRowCountToBeBetween(min_value=1, meta=said("the store holds no region", _AGAIN)),
        gxe.ExpectColumnValuesToNotBeNull(column="image_width", meta=said("the image is not among the scenes", _AGAIN)),
        *(
            gxe.ExpectColumnValuesToNotBeNull(column=column, meta=said("not a number", _AGAIN))
            for column in ("x1", "y1", "x2", "y2", "objectness", "top_concept", "top_prob")
        ),
        *(
            gxe.ExpectColumnValuesToBeBetween(
                column=column, max_value=_BORDER, meta=said("the box leaves the image", _AGAIN)
            )
            for column in ("over_left", "over_top", "over_right", "over_bottom")
        ),
        *(
            gxe.ExpectColumnValuesToBeBetween(
                column=column, min_value=0, strict_min=True, meta=said("the box is empty", _AGAIN)
            )
            for column in ("box_width", "box_height")
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="objectness", min_value=-_LARGEST, max_value=_LARGEST, meta=said("the logit is not finite", _AGAIN)
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="top_prob", min_value=0, max_value=1, meta=said("not a probability", _AGAIN)
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="top_concept",
            min_value=0,
            max_value=demands.pool_size - 1,
            meta=said(f"the index is outside the pool of {demands.pool_size} concepts", _AGAIN),
        ),
        gxe.ExpectColumnMeanToBeBetween(
            column="kept",
            min_value=demands.min_kept_fraction,
            meta=said(kept, "train the teacher longer, or lower check_pseudo_labels.min_kept_fraction"),
        ),
    ]


def _image_expectations(demands: Demands) -> list[Any]:
    return [
        gxe.ExpectColumnValuesToBeBetween(column="regions", min_value=1, meta=said("a scene has no region", _AGAIN)),
        gxe.ExpectColumnValuesToBeBetween(
            column="regions",
            max_value=demands.max_regions,
            meta=said(f"a scene has more than {demands.max_regions} regions", "lower pseudo_labels.proposals"),
        ),
    ]
