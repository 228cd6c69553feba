"""The captions of the concept benchmark: their statistics, that they are the same each time, and the page."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from benchmarks.data_concepts import CAPTIONS, Grammar, scores, table, write_captions
from regionclip.text.pattern_parser import PatternParser, _vector
from regionclip.text.words import lemma, readings


@pytest.fixture(scope="module")
def captions() -> list[str]:
    """Twenty thousand captions."""
    return list(islice(Grammar(), 20_000))


def test_lengths_and_words_are_those_of_real_captions(captions: list[str]) -> None:
    """CC3M: mean 10.3, standard deviation 4.5, median 9; Zipf: a tenth of the words makes most of the text."""
    lengths = [len(caption.split()) for caption in captions if len(caption) < 1000]
    assert statistics.fmean(lengths) == pytest.approx(10.3, abs=0.2)
    assert statistics.stdev(lengths) == pytest.approx(4.5, abs=0.3)
    assert statistics.median(lengths) == 9
    tokens = Counter(word for caption in captions for word in caption.split())
    frequent = sum(count for _, count in tokens.most_common(len(tokens) // 10))
    assert frequent > 0.7 * tokens.total()


def test_one_caption_in_fifty_is_not_clean(captions: list[str]) -> None:
    plain = sum(caption.isascii() and caption.islower() and "&" not in caption for caption in captions)
    assert 0.985 < plain / len(captions) < 0.999
    assert sum("\U0001f436" in caption or "\u2605" in caption for caption in captions) > 0


def test_the_same_seed_writes_the_same_captions(tmp_path: Path) -> None:
    for name in ("a", "b"):
        written = write_captions(tmp_path / name, 500)
    assert (tmp_path / "a").read_text() == (tmp_path / "b").read_text()
    lines = (tmp_path / "a").read_text().splitlines()
    assert written["captions"] == len(lines) == 500
    assert [json.loads(line)["caption"] for line in lines] == list(islice(Grammar(), 500))


def test_concepts_do_not_depend_on_what_was_read_before(captions: list[str]) -> None:
    """Vectors, lemmas and word classes are kept between captions; kept or not, the concepts are the same."""
    parser = PatternParser(["compound", "adjective"])
    warm = [parser.parse(caption) for caption in captions[:300]]
    cold = []
    for caption in captions[:300]:
        for kept in (_vector, lemma, readings):
            kept.cache_clear()
        cold.append(parser.parse(caption))
    assert warm == cold


@pytest.mark.parametrize(
    ("captions", "seconds", "gib", "holds"),
    [
        (CAPTIONS, 599.0, 1.9, "yes"),
        (CAPTIONS, 601.0, 1.9, "no"),
        (CAPTIONS, 599.0, 2.1, "no"),
        (CAPTIONS - 1, 1.0, 0.1, "not measured, these are fewer captions"),
    ],
)
def test_the_page_says_whether_the_promise_holds(captions: int, seconds: float, gib: float, holds: str) -> None:
    page = table({"captions": captions, "seconds": seconds, "peak_gib": gib})
    assert f"\nHolds: {holds}.\n" in page
    assert f"| seconds | {seconds:.2f} |" in page


def test_agreement_is_by_mention() -> None:
    """Two of three mentions are right, of four wanted: a concept named twice is to be found twice."""
    found, wanted = [["dog", "dog"], ["cat"]], [["dog"], ["cat", "mat", "mat"]]
    assert scores(found, wanted) == pytest.approx((2 / 3, 2 / 4, 4 / 7))
