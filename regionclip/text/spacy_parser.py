"""The paper's concept parser: spaCy noun chunks, compound child plus root."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING

from regionclip.errors import InputError
from regionclip.text.words import RULES, clean_caption, is_concept

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc, Span


class SpacyParser:
    """Noun chunks of a spaCy model.

    A concept is the lemma of the chunk's root, after the lemma of its ``compound`` child if it has one; chunks whose
    root is a pronoun or a number are dropped. Source: the authors' preparation of the COCO and CC3M noun pools.

    Args:
        model: Name of an installed spaCy model with a dependency parser, for example ``en_core_web_sm``.
        modifiers: See `regionclip.text.parser.build_parser`.

    Raises:
        InputError: spaCy or the model is not installed.
    """

    def __init__(self, model: str, modifiers: Collection[str] = ("compound",)) -> None:
        self._language = _load(model)
        self._modifiers = frozenset(modifiers)
        meta = self._language.meta
        self.version = f"spacy:{model} rules {RULES} {meta.get('version', 'unknown')}"

    def parse_all(self, captions: Iterable[str]) -> Iterator[list[str]]:
        """Yield the concepts of each caption; the model reads many at a time."""
        return map(self.concepts, self._language.pipe(map(clean_caption, captions)))

    def concepts(self, doc: Doc) -> list[str]:
        """Return the concepts of a parsed caption."""
        return [concept for chunk in doc.noun_chunks for concept in self._of_chunk(chunk)]

    def _of_chunk(self, chunk: Span) -> list[str]:
        root = chunk.root
        name = root.lemma_.lower()
        if root.pos_ in {"PRON", "NUM"} or not is_concept(name):
            return []
        compounds = [child.lemma_.lower() for child in root.children if child.dep_ == "compound"]
        if compounds and "compound" in self._modifiers:
            name = f"{compounds[-1]} {name}"
        if "adjective" not in self._modifiers:
            return [name]
        return [name] + [f"{child.text.lower()} {name}" for child in root.children if child.dep_ == "amod"]


def _load(model: str) -> Language:
    try:
        import spacy
    except ImportError:
        mend = "install the extra `spacy` of this package and the model, or use the parser `pattern`"
        raise InputError("spaCy is not installed", key="concepts.parser", mend=mend) from None
    try:
        return spacy.load(model, exclude=["ner"])
    except OSError:
        mend = f"install the model ({model}) beside spaCy, or use the parser `pattern`"
        raise InputError(f"spaCy has no model '{model}'", key="concepts.parser", mend=mend) from None
