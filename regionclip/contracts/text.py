"""Contracts of the concept pool and of text banks: unique names, counts above the threshold, one sound row a name."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from regionclip.contracts.gx import WARNING, Check, Expect

if TYPE_CHECKING:
    from regionclip.text.concepts import ConceptPool
    from regionclip.text.text_bank import TextBank

FEW = 10  # concepts of a pool below which matching says little
_CONCEPTS, _BANK = "run the stage `concepts` again", "run the stage `text_bank` again"


def concept_check(file: Path, pool: ConceptPool) -> Check:
    """Return the check of a concept pool; how many concepts there are is a warning."""
    table = pd.DataFrame({"file": str(file), "concept": pool.concepts, "count": pool.counts})
    rare = f"a concept occurs fewer than {pool.minimum_count} times"
    more = "lower concepts.minimum_count, or give more captions"
    expectations = [
        Expect("the concept occurs twice", _CONCEPTS).unique("concept"),
        Expect("the name is empty, or has spaces around it", _CONCEPTS).like("concept", r"^\S(.*\S)?$"),
        Expect(rare, _CONCEPTS).between("count", pool.minimum_count),
        Expect(f"the pool has fewer than {FEW} concepts", more, severity=WARNING).rows(FEW),
    ]
    return Check("concept pool", table, ("file", "concept"), expectations)


def overlap_with_novel(pool: ConceptPool, novel: Collection[str]) -> dict[str, int]:
    """Return the novel class names that are concepts, with their counts: reported, for captions may name them."""
    counts = dict(zip(pool.concepts, pool.counts, strict=True))
    return {name: counts[name] for name in novel if name in counts}


def twin_check(name: str, classes: pd.DataFrame, twins: Mapping[str, str]) -> Check:
    """Return the check, a warning, that CLIP can tell classes (file, id, name) apart; ``twins`` as `same_to_clip`."""
    table = classes[["file", "id", "name"]].assign(twin=classes["name"].map(twins).astype(object))
    table["twin"] = table["twin"].where(table["twin"].notna(), None)
    problem = "CLIP cannot tell the class from another one: their prompts have the same tokens"
    expect = Expect(problem, "rename one", "name", WARNING)
    return Check(f"{name} class names", table, ("file", "id", "name"), [expect.none("twin")])


def bank_check(file: Path, bank: TextBank, wanted: Sequence[str], width: int) -> Check:
    """Return the check that a text bank holds the wanted names in their order, by embeddings of a width.

    That it is finite and has a row a name is checked when it is loaded; ``file`` is for messages.
    """
    rows = list(zip_longest(range(max(len(bank.names), len(wanted))), bank.names, wanted, bank.embeddings.norm(dim=1)))
    table = pd.DataFrame(rows, columns=["row", "name", "wanted", "norm"]).astype({"norm": float})
    table = table.assign(file=str(file), width=bank.width)
    table["same"] = table["name"].fillna("") == table["wanted"].fillna("")
    other_width = f"the embeddings are not {width} wide, as the teacher's are"
    expectations = [
        Expect("the bank has another name in this row", _BANK, "names").among("same", [True]),
        Expect("the embedding is zero", _BANK, "embeddings").between("norm", 0, above=True),
        Expect(other_width, _BANK, "embeddings").among("width", [width]),
    ]
    return Check(f"text bank {file.stem}", table, ("file", "row", "name", "wanted"), expectations)
