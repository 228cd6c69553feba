"""The default concept parser: a small bundled network gives each word its part in a noun phrase.

The network is three convolutions over word vectors, in whole numbers, so that every machine gives the same concepts. A
word's vector is the sum of those of the word, its ending, the classes that lemminflect's dictionary knows for it, and
its tag in TextBlob's lexicon; so unknown words have one too. `benchmarks/parser_training.py` made it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from importlib.metadata import version
from itertools import islice
from pathlib import Path

import numpy as np
from lemminflect import getAllLemmas
from textblob.en import parser as _lexicon

from regionclip.text.words import RULES, clean_caption, is_concept, lemma, readings

# spaCy's tokens, since it labelled the text that the network learned from: negations, contractions and hyphens are
# tokens of their own, hyphens after a digit are not.
_TOKEN = re.compile(
    r"n't\b|'(?:s|re|ve|ll|d|m)\b|can(?=not\b)|[^\W_]+?(?=n't\b)|\d[\d.,]*\d(?:-[^\W_]+)?|\d+-[^\W_]+|[^\W_]+|\.+|[^\s]"
)

LABELS = "OHCA"
"""What a word is: nothing, the head of a noun phrase, before it in a compound, or its adjective."""
OFFSETS = ((-2, -1, 0, 1, 2), (-1, 0, 1), (-2, 0, 2))
"""The neighbours that each layer sees."""
APART = 2
"""Rows between two captions, so that none sees the other."""
LARGEST = 255
"""Of a number in a word's vector or a layer. With weights up to 127, float32 holds each layer's sums exactly."""
MODEL = Path(__file__).with_name("pattern_parser.npz")

_BATCH = 256
# "Pneumonoultramicroscopicsilicovolcanoconiosis" has 45 letters.
_LONGEST_WORD = 45
# An adjective and the noun, or the words of a compound, may have these between them: "a red and blue star", "t-shirt".
_JOINTS = frozenset(["-", ",", "and", "or", "/", "&"])


class PatternParser:
    """Labels of the bundled network, and lemmas from lemminflect.

    Needs no download. Heads of one letter and of digits name nothing.

    Args:
        modifiers: See `regionclip.text.parser.build_parser`.
    """

    def __init__(self, modifiers: Collection[str] = ("compound",)) -> None:
        self._compound = "compound" in modifiers
        self._adjective = "adjective" in modifiers
        libraries = " ".join(f"{name} {version(name)}" for name in ("textblob", "lemminflect"))
        self.version = f"pattern rules {RULES} {libraries}"

    def parse(self, caption: str) -> list[str]:
        """Return the concepts of one caption."""
        return next(self.parse_all([caption]))

    def parse_all(self, captions: Iterable[str]) -> Iterator[list[str]]:
        """Yield the concepts of each caption; the network reads many at a time."""
        rest = iter(captions)
        while batch := [_TOKEN.findall(clean_caption(caption)) for caption in islice(rest, _BATCH)]:
            for words, labels in zip(batch, label(batch), strict=True):
                yield self._concepts(words, labels)

    def _concepts(self, words: list[str], labels: str) -> list[str]:
        concepts: list[str] = []
        before, adjectives = "", []
        for word, part in zip(words, labels, strict=True):
            if not word[0].isalnum() or len(word) > _LONGEST_WORD:
                part = "O"
            if len(words) == 1 and readings(word) >= {"NOUN", "VERB"}:
                part = "H"  # nothing tells which it is: a caption of one word names what there is
            if part == "H":
                concepts += self._of_phrase(word, before, adjectives)
            # spaCy calls "orange" in "an orange house" a noun; who wants adjectives wants the house too.
            if part == "A" or (part == "C" and self._adjective and "ADJ" in readings(word)):
                adjectives.append(word)
            elif part == "C":
                before = word
            elif part == "H":
                before, adjectives = "", []
            elif word not in _JOINTS:
                # What stands before no noun is one itself.
                concepts += self._of_phrase(before, "", adjectives) if before else []
                before, adjectives = "", []
        return concepts + (self._of_phrase(before, "", adjectives) if before else [])

    def _of_phrase(self, head: str, before: str, adjectives: list[str]) -> list[str]:
        name = lemma(head, "NOUN")
        if not is_concept(name):
            return []
        if before and self._compound:
            name = f"{lemma(before, 'NOUN')} {name}"
        return [name, *(f"{adjective} {name}" for adjective in adjectives if self._adjective)]


def features(word: str) -> tuple[str, ...]:
    """Return what the network knows of a lower-case word."""
    known = getAllLemmas(word) if word.isascii() else {}
    # "rides" is "NOUN+ VERB+": in both readings another word's form.
    classes = " ".join(f"{name}{'=' if word in lemmas else '+'}" for name, lemmas in sorted(known.items()))
    return word, f"-{word[-3:]}", f"-{word[-2:]}", f"={classes}", f"/{_lexicon.lexicon.get(word) or ''}"


def label(captions: list[list[str]]) -> list[str]:
    """Return a letter of `LABELS` for each word of each caption."""
    network = _network()
    gap = [np.zeros((APART, network["vectors"].shape[1]), np.int16)]
    rows, at, parts = [], APART, list(gap)
    for words in captions:
        rows.append(np.arange(at, at + len(words)))
        at += len(words) + APART
        parts += [*(_vector(word)[None] for word in words), *gap]
    words_at = np.concatenate(rows)
    values = np.concatenate(parts).astype(np.float32)
    layer = np.zeros(0, np.float32)
    for i, offsets in enumerate(OFFSETS):
        seen = values[words_at[:, None] + np.array(offsets)].reshape(len(words_at), len(offsets) * values.shape[1])
        found = np.rint((seen @ network[f"weight_{i}"] + network[f"bias_{i}"]) * network[f"scale_{i}"]).clip(0, LARGEST)
        layer = (found + layer).clip(0, LARGEST) if i else found
        values = np.zeros((at, layer.shape[1]), np.float32)
        values[words_at] = layer
    best = (layer @ network["weight_out"] + network["bias_out"]).argmax(1)
    letters = np.frombuffer(LABELS.encode(), np.uint8)[best].tobytes().decode()
    return [letters[row[0] - APART * (i + 1) :][: len(row)] if len(row) else "" for i, row in enumerate(rows)]


@lru_cache(maxsize=1 << 16)
def _vector(word: str) -> np.ndarray:
    """Return a word's vector; for emoji, unknown signs and what is too long for a word that of a full stop."""
    network = _network()
    sign = len(word) > _LONGEST_WORD or (not word[0].isalnum() and word not in network["rows"])
    rows = [network["rows"][name] for name in features("." if sign else word) if name in network["rows"]]
    return network["vectors"][rows].sum(0, dtype=np.int16).clip(-LARGEST, LARGEST)


@lru_cache(maxsize=1)
def _network() -> dict:
    """Read the bundled network: `rows` of the features in `vectors`, and the layers as floats of whole numbers."""
    with np.load(MODEL) as file:
        network = {name: value.astype(np.float32) for name, value in file.items() if "_" in name}
        names = file["features"].tobytes().decode().split("\n")
        return network | {"rows": {name: row for row, name in enumerate(names)}, "vectors": file["vectors"]}
