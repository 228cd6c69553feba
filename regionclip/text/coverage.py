"""Reports which class names a concept pool holds, under which spellings and how often, and which it lacks."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lemminflect import getInflection

from regionclip.files import atomic_path
from regionclip.text.concepts import ConceptPool
from regionclip.text.words import lemma

IN_POOL, TOO_RARE, ABSENT = "in the pool", "too rare", "absent"
_SEPARATORS = re.compile(r"[\s_-]+")


class Spellings:
    """Finds a name among concepts however it is spelled.

    Case, blanks, hyphens and underscores make no difference ("surf board", "surf-board", "surfboard"), nor does the
    number of the last word ("skis", "ski"). Other words for the same thing are not found.

    Args:
        counts: Mentions of each concept.
    """

    def __init__(self, counts: Mapping[str, int]) -> None:
        self._counts = counts
        self._by_letters: dict[str, list[str]] = {}
        for concept in counts:
            self._by_letters.setdefault(_letters(concept), []).append(concept)

    def find(self, name: str) -> dict[str, int]:
        """Return the concepts that spell a name and their mentions, by falling mentions."""
        *start, head = _SEPARATORS.split(name.strip().lower())
        heads = {head, lemma(head, "NOUN"), *getInflection(head, "NNS")}
        letters = sorted({"".join([*start, form]) for form in heads})
        found = {concept: self._counts[concept] for key in letters for concept in self._by_letters.get(key, [])}
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def coverage(pool: ConceptPool, class_names: Iterable[str], vocabulary: Mapping[str, int]) -> dict[str, Any]:
    """Report which class names are concepts; see `Spellings` for what counts as the same name.

    Args:
        pool: The concept pool.
        class_names: Names of the classes.
        vocabulary: Mentions of all concepts, those too rare for the pool among them.

    Returns:
        ``classes``, ``found`` (numbers) and ``fraction``; by class name ``counts`` (mentions in the pool, of all
        spellings; 0 where absent) and ``spellings`` (mentions of each spelling in the pool); ``too_rare`` (mentions of
        the classes that captions name too seldom for the pool) and ``absent`` (the classes that no caption names).
    """
    names = list(class_names)
    in_pool = Spellings(dict(zip(pool.concepts, pool.counts, strict=True)))
    spellings = {name: in_pool.find(name) for name in names}
    everywhere = Spellings(vocabulary)
    mentions = {name: sum(everywhere.find(name).values()) for name in names if not spellings[name]}
    found = len(names) - len(mentions)
    return {
        "classes": len(names),
        "found": found,
        "fraction": found / len(names) if names else 0.0,
        "counts": {name: sum(spellings[name].values()) for name in names},
        "spellings": spellings,
        "too_rare": {name: count for name, count in mentions.items() if count},
        "absent": [name for name, count in mentions.items() if not count],
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
                table.writerows([dataset, group, *row] for row in _rows(report))


def _rows(report: Mapping[str, Any]) -> Iterable[tuple[str, str, int, str]]:
    for name, count in report["counts"].items():
        if count:
            spelled = "; ".join(f"{spelling} {times}" for spelling, times in report["spellings"][name].items())
            yield name, IN_POOL, count, spelled
        else:
            rare = report["too_rare"].get(name, 0)
            yield name, TOO_RARE if rare else ABSENT, rare, ""


def _letters(name: str) -> str:
    return _SEPARATORS.sub("", name.lower())
