"""Contract of any region store, proposals among them: boxes in their images, with a size and a finite logit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from regionclip.contracts.gx import Check, Expect, check

BORDER = 0.1  # pixels; boxes are clipped in the resized image and scaled back in float32
_LARGEST = float(np.finfo(np.float32).max)


def region_table(store: str, regions: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    """Join the regions of a store (see `RegionStore.to_pandas`) with their images' id, width and height (pixels)."""
    sizes = images.drop_duplicates("id").set_index("id").reindex(regions["image_id"])
    return regions.assign(
        file=store,
        region=regions.groupby("image_id").cumcount(),
        image_width=sizes["width"].to_numpy(np.float64),
        over_left=-regions["x1"],
        over_top=-regions["y1"],
        over_right=regions["x2"].to_numpy(np.float64) - sizes["width"].to_numpy(np.float64),
        over_bottom=regions["y2"].to_numpy(np.float64) - sizes["height"].to_numpy(np.float64),
        box_width=regions["x2"] - regions["x1"],
        box_height=regions["y2"] - regions["y1"],
    )


def region_expectations(again: str, numbers: tuple[str, ...] = ()) -> list[Any]:
    """Expect rows, known images, boxes within them and finite logits.

    Args:
        again: The mend.
        numbers: More columns that must hold numbers.
    """
    leaves = Expect("the box leaves the image", again)
    return [
        Expect("the store holds no region", again).rows(),
        Expect("the image is not listed", again).some("image_width"),
        *(Expect("not a number", again).some(column) for column in ("x1", "y1", "x2", "y2", "objectness", *numbers)),
        *(leaves.between(f"over_{side}", most=BORDER) for side in ("left", "top", "right", "bottom")),
        *(Expect("the box is empty", again).between(side, 0, above=True) for side in ("box_width", "box_height")),
        Expect("the logit is not finite", again).between("objectness", -_LARGEST, _LARGEST),
    ]


def count_check(
    name: str, store: str, regions: pd.DataFrame, images: pd.DataFrame, most: int, lower: str, tolerance: float = 0.0
) -> Check:
    """Return the check that each image has a region or more, but for a fraction ``tolerance``, and ``most`` at most.

    Where there are more, the mend is to ``lower`` something.
    """
    counts = regions["image_id"].value_counts()
    table = images[["id"]].assign(file=store, regions=counts.reindex(images["id"], fill_value=0).to_numpy())
    again = "run the stage that writes the store again"
    expectations = [
        Expect("an image has no region", again, mostly=1 - tolerance).between("regions", 1),
        Expect(f"an image has more than {most} regions", lower).between("regions", most=most),
    ]
    return check(name, table, ("file", "id"), expectations)


def proposal_checks(store: Path, regions: pd.DataFrame, images: pd.DataFrame, most: int) -> list[Check]:
    """Return the checks of a store of proposals.

    Args:
        store: Its folder, of a split in that of its data set; they name the suites.
        regions: See `RegionStore.to_pandas`.
        images: One row an image that the store must hold: id, width, height (pixels).
        most: Most proposals of an image.
    """
    table, name = region_table(str(store), regions, images), f"proposals {store.parent.name} {store.name}"
    expectations = region_expectations("run the stage `proposals` again")
    return [
        check(f"{name} regions", table, ("file", "image_id", "region"), expectations),
        count_check(f"{name} images", str(store), regions, images, most, "lower rpn.proposals"),
    ]
