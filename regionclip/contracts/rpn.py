"""Contract of the region proposal network: which classes trained it, and how many true objects it finds."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from regionclip import artifacts
from regionclip.contracts.gx import WARNING, Check, Expect, check

RECALL = "ar300_all"
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
    others = {dataset: group for dataset, group in novel.items() if dataset != own}
    table = pd.DataFrame(
        {
            "file": str(file),
            "class_name": names,
            "novel_in_own": [_first(name, {own: novel.get(own, ())}) for name in names],
            "novel_in_other": [_first(name, others) for name in names],
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
    return check("rpn classes", table, ("file", "class_name"), expectations)


def recall_check(recall: Mapping[str, Mapping[str, Mapping[str, Any]]], floor: float) -> Check:
    """Return the check that proposals find enough of the held-out objects.

    Args:
        recall: Data set -> split -> what ``average_recall`` gives; its ``ar300_all`` is checked.
        floor: Least value, 0 to 1.
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
    return check("proposal recall", table, ("file", "data_set", "split"), expectations)


def _first(name: str, groups: Mapping[str, Collection[str]]) -> str | None:
    return next((dataset for dataset, names in groups.items() if name in names), None)
