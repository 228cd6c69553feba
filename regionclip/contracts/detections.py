"""Contract of detections: of known images and classes, boxes with a size in their image, scores, a count an image."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd

from regionclip.contracts.gx import WARNING, Check, Expect
from regionclip.data.annotations.annotation_files import BORDER
from regionclip.data.annotations.truth import BoxArrays, Truth

MOST = 1_000_000
"""Detections that are looked at; LVIS's validation set has six million of them."""

_AGAIN = "run the stage `evaluate` again"
_HALF = 0.5


def detection_checks(
    file: Path, detections: BoxArrays, truth: Truth, categories: Collection[int], most: int
) -> list[Check]:
    """Return the checks of a detector's results.

    Args:
        file: The file, for messages; its path without suffix is the name of the suites.
        detections: The first million are looked at.
        truth: Its images, with their sizes, are those that were tested.
        categories: Ids of the classes of the vocabulary.
        most: Most detections of an image.
    """
    looked = detections.take(slice(MOST))
    images = pd.DataFrame(truth.images, columns=["id", "width", "height"])
    sizes = images.set_index("id").reindex(looked.image_ids).to_numpy(float)
    over = np.concatenate([-looked.boxes[:, :2], looked.boxes[:, :2] + looked.boxes[:, 2:] - sizes], axis=1)
    table = pd.DataFrame(
        {
            "file": str(file),
            "place": range(len(looked)),
            "image_id": looked.image_ids,
            "category_id": looked.category_ids,
            "score": looked.scores,
            "known_image": np.isin(looked.image_ids, images["id"]),
            "known_class": np.isin(looked.category_ids, list(categories)),
            "shorter_side": looked.boxes[:, 2:].min(axis=1),
            "outside": over.max(axis=1),
        }
    )
    name = f"detections {file.parent.name} {file.stem}"
    expectations = [
        Expect("nothing was detected", "look at the training", severity=WARNING).rows(),
        Expect("the image was not tested", _AGAIN, "image_id").among("known_image", [True]),
        Expect("the class is not in the vocabulary", _AGAIN, "category_id").among("known_class", [True]),
        # Results are rounded to 0.01 pixel, so a thin box may have a side of 0.
        Expect("the box has a negative size", _AGAIN, "bbox").between("shorter_side", 0),
        Expect("the box leaves its image", _AGAIN, "bbox").between("outside", most=BORDER),
        Expect("not a number", _AGAIN).some("score"),
        # Official scores multiply a raw logit and may exceed 1.
        Expect("the score is negative", _AGAIN).between("score", 0),
    ]
    # The last image may be cut, and those after it were not looked at.
    images = images if len(looked) < MOST else images.head(0)
    counts = table["image_id"].value_counts().reindex(images["id"], fill_value=0).to_numpy()
    lower = "lower the score threshold, or look at the training"
    of_images = [
        Expect(f"an image has more than {most} detections", _AGAIN).between("detections", most=most),
        Expect("most images have no detection", lower, severity=WARNING, mostly=_HALF).between("detections", 1),
    ]
    return [
        Check(name, table, ("file", "place", "image_id", "category_id"), expectations),
        Check(f"{name} images", images[["id"]].assign(file=str(file), detections=counts), ("file", "id"), of_images),
    ]
