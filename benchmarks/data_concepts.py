"""Concept pool at scale: millions of captions from a grammar, counted by two processes; minutes and peak memory.

Run ``python -m benchmarks.data_concepts`` (3,300,000 captions, two workers); it writes ``results/concepts.md``.

The captions have the statistics that the paper of CC3M (Sharma et al. 2018, table 1) gives for its training set:
3.3 million captions, 10.3 tokens each (standard deviation 4.5, median 9), 51,201 different tokens. Words are those of
TextBlob's lexicon, in the order of its list of word frequencies, drawn by Zipf's law; phrases are determiners, up to
two adjectives, and one or two nouns, joined by prepositions, verbs and commas. A few captions in a thousand have what
real ones have: names that no dictionary knows, typing errors, emoji, HTML entities, capitals, a control character, UTF-8
read as Latin-1, and one in 100,000 has 10,000 characters.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import statistics
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

from textblob.en import lexicon, spelling

from regionclip.data.captions import open_captioned_images
from regionclip.files import atomic_path, write_json
from regionclip.text.concepts import ConceptPool, count_concepts
from regionclip.text.parser import build_parser
from regionclip.text.spelling import mend_spellings

RESULTS = Path(__file__).parent / "results"
CAPTIONS, WORKERS, MINIMUM_COUNT = 3_300_000, 2, 100
_DETERMINERS = ["a"] * 6 + ["the"] * 4 + ["an", "two", "three", "his", "her", "their", "some", "several", "this"]
_PREPOSITIONS = ["in", "on", "of", "with", "at", "near", "by", "from", "for", "under", "over", "during", "behind"]
_JOINTS = [",", "and", "and", "while", "as", "-"]
_EMOJI = ["\U0001f436", "\u2764\ufe0f", "\u2605", "\U0001f600"]
_BLOCK = 1 << 14


class Grammar:
    """Captions without end, the same ones for the same seed."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)
        by_tag: dict[str, list[str]] = {}
        for word in sorted(lexicon, key=lambda word: (-spelling.get(word, 0), word)):
            if word.isascii() and word.isalpha() and word.islower() and len(word) > 2:
                by_tag.setdefault(lexicon[word], []).append(word)
        letters = string.ascii_lowercase
        # Names of people and places: a fifth of CC3M's tokens are in no dictionary.
        names = ["".join(self._random.choices(letters, k=self._random.randint(4, 9))) for _ in range(12_000)]
        nouns = _interleave(by_tag["NN"], by_tag["NNS"], names)
        self._nouns = self._zipf(nouns)
        self._adjectives = self._zipf(by_tag["JJ"])
        self._verbs = self._zipf(_interleave(by_tag["VBG"], by_tag["VBZ"], by_tag["VBN"]))

    def _zipf(self, words: list[str]) -> Iterator[str]:
        """Draw words without end, by Zipf's law with Mandelbrot's offset."""
        weights = list(accumulate(1 / (rank + 2.7) for rank in range(len(words))))
        while True:
            yield from self._random.choices(words, cum_weights=weights, k=_BLOCK)

    def __iter__(self) -> Iterator[str]:
        """Yield captions."""
        while True:
            words: list[str] = []
            # Log-normal: mean 10.3, standard deviation 4.5, without the half phrase by which captions overshoot.
            length = self._random.lognormvariate(2.115, 0.48)
            while len(words) < length:
                if words:
                    words.append(self._link())
                words.extend(self._phrase())
            yield self._soil(words)

    def _phrase(self) -> list[str]:
        chance = self._random.random
        phrase = [self._random.choice(_DETERMINERS)] if chance() < 0.75 else []
        while chance() < 0.3 and len(phrase) < 3:
            phrase.append(next(self._adjectives))
        phrase.append(next(self._nouns))
        return [*phrase, next(self._nouns)] if chance() < 0.15 else phrase

    def _link(self) -> str:
        chance = self._random.random()
        if chance < 0.55:
            return self._random.choice(_PREPOSITIONS)
        return next(self._verbs) if chance < 0.8 else self._random.choice(_JOINTS)

    def _soil(self, words: list[str]) -> str:
        """Return the caption as people write it: one in fifty is not clean."""
        chance = self._random.random()
        if chance > 0.02:
            return " ".join(words)
        if chance < 1e-5:
            return " ".join(words * (10_000 // sum(map(len, words)) + 1))[:10_000]
        if chance < 0.012:  # a typing error: two letters change places
            word = next(i for i in range(len(words)) if i + 1 == len(words) or len(words[i]) > 5)
            text, place = words[word], len(words[word]) // 2
            words[word] = text[: place - 1] + text[place] + text[place - 1] + text[place + 1 :]
            return " ".join(words)
        text = " ".join(words)
        spoilt = [text.upper(), f"{text} {self._random.choice(_EMOJI)}", f"{text}\x00\u200b", f"{text} &amp; more"]
        return self._random.choice([*spoilt, f"{text} at the caf\u00c3\u00a9", f"{text} http://example.org/a.jpg"])


def _interleave(*lists: list[str]) -> list[str]:
    """Mix lists so that each is spread evenly over the ranks."""
    ranked = [((i + 0.5) / len(words), word) for words in lists for i, word in enumerate(words)]
    return [word for _, word in sorted(ranked)]
