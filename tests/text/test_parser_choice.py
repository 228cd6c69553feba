"""build_parser: params name a parser; what is not there is refused with the mend."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Iterable, Iterator
from types import SimpleNamespace

import pytest

from regionclip.errors import InputError
from regionclip.text import spacy_parser
from regionclip.text.parser import build_parser, count_concepts

SPACY = importlib.util.find_spec("spacy") is not None


def test_pattern_is_built_with_its_modifiers() -> None:
    parser = build_parser("pattern", ["compound", "adjective"])
    assert parser.parse("a big stop sign") == ["stop sign", "big stop sign"]
    assert "textblob" in parser.version


@pytest.mark.parametrize("name", ["nltk", "spacy", "spacy:", ""])
def test_unknown_parser_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"concepts\.parser.*unknown parser.*To mend: use pattern"):
        build_parser(name)


@pytest.mark.skipif(SPACY, reason="spaCy is installed")
def test_absent_spacy_is_refused_with_what_to_install() -> None:
    with pytest.raises(InputError, match=r"spaCy is not installed.*install the extra `spacy`"):
        build_parser("spacy:en_core_web_sm")


@pytest.mark.skipif(not SPACY, reason="spaCy is not installed")
def test_absent_model_is_refused_with_what_to_install() -> None:
    with pytest.raises(InputError, match=r"has no model 'no_such_model'"):
        build_parser("spacy:no_such_model")


@pytest.mark.skipif(not SPACY, reason="spaCy is not installed")
def test_spacy_concepts_are_compound_and_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hand-annotated parse of "He sees two red stop signs" needs no model."""
    import spacy
    from spacy.tokens import Doc

    monkeypatch.setattr(spacy, "load", lambda name, exclude: spacy.blank("en"))
    parser = build_parser("spacy:hand", ["compound", "adjective"])
    doc = Doc(
        spacy.blank("en").vocab,
        words=["he", "sees", "two", "red", "stop", "signs"],
        lemmas=["he", "see", "two", "red", "stop", "sign"],
        pos=["PRON", "VERB", "NUM", "ADJ", "NOUN", "NOUN"],
        heads=[1, 1, 5, 5, 5, 1],
        deps=["nsubj", "ROOT", "nummod", "amod", "compound", "dobj"],
    )
    assert parser.concepts(doc) == ["stop sign", "red stop sign"]


def test_spacy_reads_many_captions_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model is called through its ``pipe``, once for all captions of a batch, and never for a single one."""
    batches: list[list[str]] = []

    class Language:
        meta = {"version": "0"}

        def pipe(self, texts: Iterable[str]) -> Iterator[SimpleNamespace]:
            batches.append(list(texts))
            words = [text.split()[-1] for text in batches[-1]]
            roots = [SimpleNamespace(lemma_=word, pos_="NOUN", children=[]) for word in words]
            return iter(SimpleNamespace(noun_chunks=[SimpleNamespace(root=root)]) for root in roots)

    monkeypatch.setattr(spacy_parser, "_load", lambda name: Language())
    parser = build_parser("spacy:hand")
    assert count_concepts(["A red  star", "two cats\u200b", "the star"], parser) == Counter({"star": 2, "cats": 1})
    assert len(batches) == 1 and len(batches[0]) == 3
