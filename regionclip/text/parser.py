"""Caption parsers: their interface, how params name one, and the mentions that one finds in a stream of captions."""

from __future__ import annotations

import multiprocessing
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import chain, islice
from typing import Protocol

from regionclip.errors import InputError

_BATCH = 8192


class ConceptParser(Protocol):
    """Turns captions into the concepts that they mention.

    Attributes:
        version: Name of the parser and the versions of what decides its output; kept beside a concept pool.
    """

    version: str

    def parse_all(self, captions: Iterable[str]) -> Iterator[list[str]]:
        """Yield the concepts of each caption in their order, lower case, lemmatised; one item a mention."""
        ...


def build_parser(name: str, modifiers: Collection[str] = ("compound",)) -> ConceptParser:
    """Build a parser by its name in params.

    Args:
        name: ``pattern``, or ``spacy:<model>`` (the paper's: ``spacy:en_core_web_sm``).
        modifiers: What may stand before the head noun. With ``compound`` "stop sign" is one concept, as in the paper;
            without it only the head "sign" is. With ``adjective`` "red star" is a concept besides "star".

    Raises:
        InputError: Unknown name, or spaCy or its model is not installed.
    """
    if name == "pattern":
        from regionclip.text.pattern_parser import PatternParser

        return PatternParser(modifiers)
    library, _, model = name.partition(":")
    if library == "spacy" and model:
        from regionclip.text.spacy_parser import SpacyParser

        return SpacyParser(model, modifiers)
    mend = "use pattern or spacy:<model>, for example spacy:en_core_web_sm"
    raise InputError(f"unknown parser '{name}'", key="concepts.parser", mend=mend)


_parser: ConceptParser
"""The parser of a helper process; unset in the process that counts."""


def count_concepts(captions: Iterable[str], parser: ConceptParser, workers: int = 0) -> Counter[str]:
    """Count the mentions of each concept; below two workers, which give the same counts, this process parses.

    Captions are streamed, so memory grows with the vocabulary and not with the captions.
    """
    batches = _batches(captions)
    total: Counter[str] = Counter()
    if workers < 2:
        for batch in batches:
            total.update(_count(batch, parser))
        return total
    # Processes are spawned, not forked: the caller may have threads of torch or Arrow.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_set_parser, initargs=(parser,)) as pool:
        for counted in _in_order(batches, pool, waiting=2 * workers):
            total.update(counted)
    return total


def _in_order(batches: Iterator[list[str]], pool: ProcessPoolExecutor, waiting: int) -> Iterator[Counter[str]]:
    """Yield the counts of the batches; at most ``waiting`` are read ahead (`pool.map` would read all captions)."""
    running: deque[Future[Counter[str]]] = deque()
    for batch in batches:
        if len(running) == waiting:
            yield running.popleft().result()
        running.append(pool.submit(_count, batch))
    while running:
        yield running.popleft().result()


def _set_parser(parser: ConceptParser) -> None:
    global _parser
    _parser = parser


def _count(captions: list[str], parser: ConceptParser | None = None) -> Counter[str]:
    return Counter(chain.from_iterable((parser or _parser).parse_all(captions)))


def _batches(captions: Iterable[str]) -> Iterator[list[str]]:
    iterator = iter(captions)
    while batch := list(islice(iterator, _BATCH)):
        yield batch
