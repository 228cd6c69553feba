"""The interface of caption parsers, and how params name one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Protocol

from regionclip.errors import InputError

MODIFIERS = ("compound", "adjective")


class ConceptParser(Protocol):
    """Turns captions into the concepts that they mention.

    Attributes:
        version: Name of the parser and the versions of what decides its output; kept beside a concept pool.
    """

    version: str

    def parse(self, caption: str) -> list[str]:
        """Return the concepts of one caption in their order, lower case, lemmatised; one item a mention."""
        ...

    def parse_all(self, captions: Iterable[str]) -> Iterator[list[str]]:
        """Yield what `parse` returns of each caption; a parser that is faster on many at a time takes them so."""
        ...


def build_parser(name: str, modifiers: Collection[str] = ("compound",)) -> ConceptParser:
    """Build a parser by its name in params.

    Args:
        name: ``pattern``, or ``spacy:<model>`` (the paper's: ``spacy:en_core_web_sm``).
        modifiers: What may stand before the head noun. With ``compound`` "stop sign" is one concept, as in the paper;
            without it only the head "sign" is. With ``adjective`` "red star" is a concept besides "star".

    Raises:
        InputError: Unknown name or modifier, or spaCy or its model is not installed.
    """
    unknown = [modifier for modifier in modifiers if modifier not in MODIFIERS]
    if unknown:
        mend = f"use {' or '.join(MODIFIERS)}"
        raise InputError(f"unknown modifier '{unknown[0]}'", key="concepts.modifiers", mend=mend)
    if name == "pattern":
        from regionclip.text.pattern_parser import PatternParser

        return PatternParser(modifiers)
    library, _, model = name.partition(":")
    if library == "spacy" and model:
        from regionclip.text.spacy_parser import SpacyParser

        return SpacyParser(model, modifiers)
    mend = "use pattern or spacy:<model>, for example spacy:en_core_web_sm"
    raise InputError(f"unknown parser '{name}'", key="concepts.parser", mend=mend)
