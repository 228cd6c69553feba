"""Concept counts: hand counts, the same in processes, and memory that does not grow with the captions."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import repeat

import pytest

from regionclip.text import parser
from regionclip.text.parser import count_concepts
from regionclip.text.pattern_parser import PatternParser

CAPTIONS = ["two red stars", "a star and a ring", "", "the ring, a stop sign"]


class Words:
    """Takes every word for a concept: a worker that loads the lexicon takes seconds to start."""

    version = "words"

    def parse(self, caption: str) -> list[str]:
        """Return the words."""
        return caption.split()

    def parse_all(self, captions: Iterable[str]) -> Iterator[list[str]]:
        """Yield the words of each caption."""
        return map(self.parse, captions)


class Unpicklable(Words):
    """Counts how often it is sent to another process; the third time it refuses."""

    sent = 0

    def __reduce__(self) -> tuple:
        """Count the sending."""
        Unpicklable.sent += 1
        return (Words, ())


def test_mentions_are_counted() -> None:
    parser = PatternParser(["compound", "adjective"])
    assert count_concepts(iter(CAPTIONS), parser) == Counter({"star": 2, "red star": 1, "ring": 2, "stop sign": 1})


def test_processes_give_the_same_counts_and_get_the_parser_once_each() -> None:
    """Nine batches for two workers: a parser with a model of megabytes must not travel with each."""
    captions = ["a star", "a b"] * 32_000
    counts = count_concepts(captions, Unpicklable(), workers=2)
    assert counts == count_concepts(captions, Words()) == {"a": 64_000, "star": 32_000, "b": 32_000}
    assert 1 <= Unpicklable.sent <= 2


def test_an_error_in_a_process_is_raised_here() -> None:
    with pytest.raises(AttributeError, match="split"):
        count_concepts([None] * 2, Words(), workers=2)


def test_captions_are_not_read_far_ahead_of_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most `waiting` batches and the one in hand have been read when a result is taken."""
    read = 0

    def batches() -> Iterator[list[str]]:
        nonlocal read
        for read in range(1, 21):
            yield [f"w{read}"]

    class Pool:
        def submit(self, function: object, batch: list[str]) -> object:
            class Done:
                def result(self) -> Counter[str]:
                    return Counter(batch)

            return Done()

    for taken, counted in enumerate(parser._in_order(batches(), Pool(), waiting=4), 1):
        assert counted == {f"w{taken}": 1}
        assert read <= taken + 4
    assert taken == 20


def test_memory_does_not_grow_with_the_captions() -> None:
    """Ten times as many captions of the same words take far from twice the memory, whatever other threads take."""

    def peak(number: int) -> int:
        captions = (f"a star number {i % 100}" for i, _ in zip(range(number), repeat(None)))
        tracemalloc.start()
        try:
            count_concepts(captions, Words())
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(200_000) < 1.5 * peak(20_000)
