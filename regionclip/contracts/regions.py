"""Contracts of what labels regions: the RPN, its proposals, and pseudo labels."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from regionclip import artifacts
from regionclip.contracts.gx import WARNING, Check, Expect

BORDER = 0.1  # pixels; boxes are clipped in the resized image and scaled back in float32
RECALL = "ar300_all"
_LARGEST = float(np.finfo(np.float32).max)
_BINS = 20  # of the confidence histogram
_LARGEST_SHARE = 0.5  # of one concept among the kept regions, above which the labels say little
_AGAIN = "run the stage `pseudo_labels` again"
_TRAIN = "train the RPN on base classes only, or take weights that were"


def rpn_class_check(file: Path, classes: Iterable[str], own: str, novel: Mapping[str, Collection[str]]) -> Check:
    """Return the check that no novel class trained the RPN.

    A novel class of the RPN's own data set is an error. One of another data set is a warning: an RPN of LVIS's base
    classes, which name some of COCO's novel ones, is what the paper proposes with on COCO.

    Args:
        file: The checkpoint, for messages.
        classes: Names that it says it was trained on; empty where an imported file does not say.
        own: The data set whose boxes the RPN learns from.
        novel: Data set -> its novel class names.
    """
    names = list(dict.fromkeys(classes))
    others = {name: dataset for dataset, group in novel.items() if dataset != own for name in group}
    table = pd.DataFrame(
        {
            "file": str(file),
            "class_name": names,
            "novel_in_own": [own if name in novel.get(own, ()) else None for name in names],
            "novel_in_other": [others.get(name) for name in names],
        },
        dtype=object,
    )
    other = "the RPN was trained on a class that is novel in another data set"
    unknown = "the checkpoint does not say which classes trained it"
    expectations = [
        Expect("the RPN was trained on a novel class", _TRAIN, "classes").none("novel_in_own"),
        Expect(other, _TRAIN, "classes", WARNING).none("novel_in_other"),
        Expect(unknown, "convert it with its classes", "classes", WARNING).rows(),
    ]
    return Check("rpn classes", table, ("file", "class_name"), expectations)


def recall_check(recall: Mapping[str, Mapping[str, Mapping[str, Any]]], floor: float) -> Check:
    """Return the check that proposals find enough of the held-out objects.

    In ``recall`` (data set -> split -> what ``average_recall`` gives) ``ar300_all`` is ``floor``, 0 to 1, or more.
    """
    rows = [
        (str(artifacts.recall(dataset)), dataset, split, found[RECALL])
        for dataset, splits in recall.items()
        for split, found in splits.items()
    ]
    table = pd.DataFrame(rows, columns=["file", "data_set", "split", RECALL])
    mend = "train the RPN longer, propose more, or lower check_pseudo_labels.min_proposal_recall"
    expectations = [
        Expect("no recall was measured", "run the stage `proposals` again").rows(),
        Expect(f"the proposals' average recall is below {floor:g}", mend).between(RECALL, floor),
    ]
    return Check("proposal recall", table, ("file", "data_set", "split"), expectations)


def proposal_checks(store: Path, regions: pd.DataFrame, images: pd.DataFrame, most: int) -> list[Check]:
    """Return the checks of a store of proposals, at most so many an image; other arguments as `pseudo_label_checks`.

    The suites are named by the store's folder, of a split in that of its data set.
    """
    table, name = _region_table(str(store), regions, images), f"proposals {store.parent.name} {store.name}"
    expectations = _region_expectations("run the stage `proposals` again")
    return [
        Check(f"{name} regions", table, ("file", "image_id", "region"), expectations),
        _count_check(f"{name} images", str(store), regions, images, most, "lower rpn.proposals"),
    ]


def origin_check(store: Path, metadata: Mapping[str, str], wanted: Mapping[str, str]) -> Check:
    """Return the check that a store's metadata name the teacher, the text bank and the RPN that are there now."""
    rows = [(str(store), key, metadata.get(key, "unknown"), value) for key, value in wanted.items()]
    expect = Expect("the store was made with another teacher, text bank or RPN", _AGAIN, "made_with")
    table = pd.DataFrame(rows, columns=["file", "made_with", "found", "wanted"])
    return Check("pseudo label origin", table, ("file", "made_with"), [expect.equal("found", "wanted")])


def pseudo_label_checks(
    store: Path,
    regions: pd.DataFrame,
    images: pd.DataFrame,
    *,
    pool_size: int,
    threshold: float,
    min_kept_fraction: float,
    max_regions: int,
    tolerance: float = 0.0,
) -> list[Check]:
    """Return the checks of a store of pseudo labels.

    Args:
        store: Its folder, for messages.
        regions: See `RegionStore.to_pandas`.
        images: One row an image that the store must hold: id, width, height (pixels).
        pool_size: Number of concepts; an index is below it.
        threshold: Teacher probability above which a region is kept.
        min_kept_fraction: Least share of regions that are kept.
        max_regions: Most regions of an image.
        tolerance: Fraction of the images that may have no region, because they were set aside.
    """
    file = str(store)
    table = _region_table(file, regions, images).assign(kept=(regions["top_prob"] > threshold).astype(np.float64))
    train = "train the teacher longer, or lower check_pseudo_labels.min_kept_fraction"
    outside = f"the index is outside the pool of {pool_size} concepts"
    expectations = [
        *_region_expectations(_AGAIN, ("top_concept", "top_prob")),
        Expect("not a probability", _AGAIN).between("top_prob", 0, 1),
        Expect(outside, _AGAIN).between("top_concept", 0, pool_size - 1),
        Expect(f"too few regions are above the threshold {threshold:g}", train).mean("kept", min_kept_fraction),
    ]
    counts = label_profile(regions, threshold)["concepts"]
    concepts = pd.DataFrame({"file": file, "concept": list(counts), "regions": list(counts.values())})
    concepts = concepts.assign(share=concepts["regions"] / max(concepts["regions"].sum(), 1))
    problem = f"more than {_LARGEST_SHARE:.0%} of the kept regions have one concept"
    one = Expect(problem, "look at the teacher: it may see one thing everywhere", severity=WARNING)
    share = one.between("share", most=_LARGEST_SHARE)
    lower = "lower pseudo_labels.proposals"
    return [
        Check("pseudo label regions", table, ("file", "image_id", "region"), expectations),
        _count_check("pseudo label images", file, regions, images, max_regions, lower, tolerance),
        Check("pseudo label concepts", concepts, ("file", "concept", "regions"), [share]),
    ]


def label_profile(regions: pd.DataFrame, threshold: float) -> dict[str, Any]:
    """Return the histograms of a store of pseudo labels.

    Returns:
        ``confidence``: regions by the teacher's probability, in 20 equal bins of 0 to 1; ``concepts``: index of a
        concept -> kept regions with it, most frequent first.
    """
    confidence, _ = np.histogram(regions["top_prob"].clip(0, 1), bins=_BINS, range=(0, 1))
    kept = regions.loc[regions["top_prob"] > threshold, "top_concept"]
    counts = kept.value_counts(sort=False).sort_index().sort_values(ascending=False, kind="stable")
    return {"confidence": confidence.tolist(), "concepts": {int(index): int(n) for index, n in counts.items()}}


def _region_table(store: str, regions: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
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


def _region_expectations(again: str, numbers: tuple[str, ...] = ()) -> list[Any]:
    """Expect rows, known images, boxes within them and finite logits; numbers also in more columns."""
    leaves = Expect("the box leaves the image", again)
    return [
        Expect("the store holds no region", again).rows(),
        Expect("the image is not listed", again).some("image_width"),
        *(Expect("not a number", again).some(column) for column in ("x1", "y1", "x2", "y2", "objectness", *numbers)),
        *(leaves.between(f"over_{side}", most=BORDER) for side in ("left", "top", "right", "bottom")),
        *(Expect("the box is empty", again).between(side, 0, above=True) for side in ("box_width", "box_height")),
        Expect("the logit is not finite", again).between("objectness", -_LARGEST, _LARGEST),
    ]


def _count_check(
    name: str, store: str, regions: pd.DataFrame, images: pd.DataFrame, most: int, lower: str, tolerance: float = 0.0
) -> Check:
    """Expect a region or more of each image, but for a fraction ``tolerance``, and ``most`` at most."""
    counts = regions["image_id"].value_counts()
    table = images[["id"]].assign(file=store, regions=counts.reindex(images["id"], fill_value=0).to_numpy())
    again = "run the stage that writes the store again"
    expectations = [
        Expect("an image has no region", again, mostly=1 - tolerance).between("regions", 1),
        Expect(f"an image has more than {most} regions", lower).between("regions", most=most),
    ]
    return Check(name, table, ("file", "id"), expectations)
