"""Merges misspelled words of a concept count into the words that they were meant to be, by a strict rule."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from string import ascii_lowercase
from typing import NamedTuple

from textblob.en import lexicon

from regionclip.files import atomic_path
from regionclip.text.words import readings

_SHORTEST = 6
_RATIO = 100
_VOWELS = "aeiouy"


class Misspelling(NamedTuple):
    """A word that was read as another.

    Attributes:
        spelling: The word as captions have it.
        word: The word that it was merged into.
        mentions: How many mentions of concepts changed.
    """

    spelling: str
    word: str
    mentions: int


def mend_spellings(counts: Counter[str]) -> list[Misspelling]:
    """Merge misspelled words into their right spellings, in place, and return what was merged, by falling mentions.

    A word is taken for a misspelling only if all of this holds:

    - it has six letters or more, and no dictionary here knows it: neither lemminflect's word classes nor the
      tagger's lexicon, which has names too;
    - one edit makes a noun of the dictionary: a letter left out, added, or changed places with its neighbour, or a
      vowel written for another. The first and the last letter stay, so that no ending is taken for an error;
    - that noun has at least 100 times as many mentions;
    - there is only one such noun.

    Args:
        counts: Mentions of each concept; each word of a concept is looked at.
    """
    words: Counter[str] = Counter()
    for concept, mentions in counts.items():
        for word in concept.split(" "):
            words[word] += mentions
    right = _right_spellings(words)
    merged: Counter[str] = Counter()
    for concept in [concept for concept in counts if not right.keys().isdisjoint(concept.split(" "))]:
        mentions = counts.pop(concept)
        parts = concept.split(" ")
        counts[" ".join(right.get(part, part) for part in parts)] += mentions
        for part in right.keys() & set(parts):
            merged[part] += mentions
    found = [Misspelling(spelling, right[spelling], mentions) for spelling, mentions in merged.items()]
    return sorted(found, key=lambda misspelling: (-misspelling.mentions, misspelling.spelling))


def write_misspellings(misspellings: Iterable[Misspelling], path: str | Path) -> None:
    """Write a CSV with a line for each misspelling: spelling, word, mentions."""
    with atomic_path(path) as beside, beside.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([Misspelling._fields, *misspellings])


def _right_spellings(words: Mapping[str, int]) -> dict[str, str]:
    """Map each misspelled word to the only noun that it can stand for."""
    found: dict[str, set[str]] = {}
    for noun, mentions in words.items():
        # An edit may take a letter away, so a noun has one letter less than the shortest misspelling at least.
        if mentions < _RATIO or len(noun) < _SHORTEST - 1 or "NOUN" not in readings(noun):
            continue
        for spelling in words.keys() & _edits(noun):
            if words[spelling] * _RATIO <= mentions and _may_be_wrong(spelling):
                found.setdefault(spelling, set()).add(noun)
    return {spelling: nouns.pop() for spelling, nouns in found.items() if len(nouns) == 1}


def _may_be_wrong(word: str) -> bool:
    if len(word) < _SHORTEST or readings(word):
        return False
    return not any(form in lexicon for form in (word, word.capitalize(), word.upper()))


def _edits(word: str) -> Iterator[str]:
    """Yield the words, some twice, that one edit inside a word makes; its first and last letter stay."""
    inner = range(1, len(word) - 1)
    for i in inner:
        yield word[:i] + word[i + 1 :]
        if i + 1 in inner:
            yield word[:i] + word[i + 1] + word[i] + word[i + 2 :]
        if word[i] in _VOWELS:
            yield from (word[:i] + vowel + word[i + 1 :] for vowel in _VOWELS)
    for i in range(1, len(word)):
        yield from (word[:i] + letter + word[i:] for letter in ascii_lowercase)
