"""Reports which class names a concept pool holds, under which spellings and how often, and which it lacks."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lemminflect import getInflection

from regionclip.files import atomic_path
from regionclip.text.words import lemma


def coverage(class_names: Iterable[str], counts: Mapping[str, int], minimum_count: int) -> dict[str, Any]:
    """Report which class names are concepts.

    A concept spells a name whatever its case, blanks, hyphens and underscores ("surf board", "surf-board",
    "surfboard"), and whatever the number of the last word ("skis", "ski"). Other words for the same thing do not.

    Args:
        class_names: Names of the classes.
        counts: Mentions of all concepts, those too rare for the pool among them.
        minimum_count: Mentions that a concept of the pool has at least.

    Returns:
        ``classes``, ``found`` (numbers) and ``fraction``; by class name ``counts`` (mentions in the pool, of all
        spellings; 0 where absent) and ``spellings`` (mentions of each spelling in the pool, most frequent first);
        ``too_rare`` (mentions of the classes that captions name too seldom for the pool) and ``absent`` (the classes
        that no caption names).
    """
    mentions = _spellings(class_names, counts)
    in_pool = {
        name: {spelling: count for spelling, count in found.items() if count >= minimum_count}
        for name, found in mentions.items()
    }
    missing = {name: sum(mentions[name].values()) for name, found in in_pool.items() if not found}
    found = len(in_pool) - len(missing)
    return {
        "classes": len(in_pool),
        "found": found,
        "fraction": found / len(in_pool) if in_pool else 0.0,
        "counts": {name: sum(spelled.values()) for name, spelled in in_pool.items()},
        "spellings": in_pool,
        "too_rare": {name: count for name, count in missing.items() if count},
        "absent": [name for name, count in missing.items() if not count],
    }


def _spellings(class_names: Iterable[str], counts: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Find the concepts that spell each name. The classes are indexed: there may be millions of concepts."""
    names = list(class_names)
    by_letters: dict[str, list[str]] = defaultdict(list)
    for name in names:
        *start, head = name.lower().replace("_", " ").replace("-", " ").split() or [""]
        # As it is, in the singular and in the plural.
        for form in {head, lemma(head, "NOUN"), *getInflection(head, "NNS")}:
            by_letters["".join([*start, form])].append(name)
    found: dict[str, dict[str, int]] = {name: {} for name in names}
    for concept, count in counts.items():
        for name in by_letters.get(concept.replace(" ", "").replace("-", ""), ()):
            found[name][concept] = count
    return {
        name: dict(sorted(spelled.items(), key=lambda item: (-item[1], item[0]))) for name, spelled in found.items()
    }


def write_table(reports: Mapping[str, Mapping[str, Mapping[str, Any]]], path: str | Path) -> None:
    """Write a CSV with a line for each class: what `coverage` says of it.

    Args:
        reports: Set of classes -> group ("base", "novel") -> what `coverage` returned.
        path: The file, with the columns dataset, group, class, status, mentions (of all captions), and spellings
            ("ski 5; skis 1").
    """
    with atomic_path(path) as beside, beside.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["dataset", "group", "class", "status", "mentions", "spellings"])
        for dataset, groups in reports.items():
            for group, report in groups.items():
                for name, count in report["counts"].items():
                    rare = report["too_rare"].get(name, 0)
                    status = "in the pool" if count else "too rare" if rare else "absent"
                    spelled = "; ".join(f"{spelling} {times}" for spelling, times in report["spellings"][name].items())
                    table.writerow([dataset, group, name, status, count or rare, spelled])
