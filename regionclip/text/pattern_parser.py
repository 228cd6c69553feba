"""The default concept parser: a tagger with a bundled lexicon, and a dictionary that mends what it misreads."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from importlib.metadata import version

from textblob.en import parser as _tagger

from regionclip.text.roles import ADJECTIVE, JOINT, NOUN, OTHER, Tagged, phrase_roles
from regionclip.text.words import RULES, clean_caption, is_concept, lemma, readings

# Negations and contractions are tokens of their own; words keep inner hyphens until `_split_hyphens`.
_TOKEN = re.compile(r"n't\b|'(?:s|re|ve|ll|d|m)\b|[^\W_]+?(?=n't\b)|[^\W_]+(?:-[^\W_]+)*|[^\s]")

_MARK = ":"  # the tag of a dash
# "Pneumonoultramicroscopicsilicovolcanoconiosis" has 45 letters.
_LONGEST_WORD = 45


class PatternParser:
    """TextBlob's copy of the pattern tagger, noun phrases as adjectives plus nouns, lemmas from lemminflect.

    Needs no download. See `regionclip.text.roles` for the rules. Heads of one letter and of digits name nothing.

    Args:
        modifiers: See `regionclip.text.parser.build_parser`.
    """

    def __init__(self, modifiers: Collection[str] = ("compound",)) -> None:
        self._compound = "compound" in modifiers
        self._adjective = "adjective" in modifiers
        libraries = " ".join(f"{name} {version(name)}" for name in ("textblob", "lemminflect"))
        self.version = f"pattern rules {RULES} {libraries}"

    def parse(self, caption: str) -> list[str]:
        """Return the concepts of one caption; see `regionclip.text.parser.ConceptParser`."""
        tagged = _tag(clean_caption(caption))
        return [
            concept
            for adjectives, nouns in _phrases(tagged, phrase_roles(tagged))
            for concept in self._of_phrase(adjectives, nouns)
        ]

    def parse_all(self, captions: Iterable[str]) -> Iterator[list[str]]:
        """Yield the concepts of each caption."""
        return map(self.parse, captions)

    def _of_phrase(self, adjectives: list[str], nouns: list[str]) -> list[str]:
        name = lemma(nouns[-1], "NOUN")
        if not is_concept(name):
            return []
        if self._compound and len(nouns) > 1:
            name = f"{lemma(nouns[-2], 'NOUN')} {name}"
        return [name] + [f"{adjective} {name}" for adjective in adjectives if self._adjective]


def _tag(text: str) -> Tagged:
    words = [part for token in _TOKEN.findall(text) for part in _split_hyphens(token)]
    return [(word, _tag_word(word)) for word in words]


@lru_cache(maxsize=1 << 16)
def _tag_word(word: str) -> str:
    """Return the tag of a lower-case word; TextBlob's tagger looks at no neighbours.

    It takes what it does not know for a noun; emoji and other signs, and what is too long for a word, are marks here.
    """
    if len(word) > _LONGEST_WORD:
        return _MARK
    tag = _tagger.find_tags([word])[0][1]
    return _MARK if tag.startswith("NN") and not word[0].isalnum() else tag


def _split_hyphens(token: str) -> list[str]:
    if "-" not in token or len(token) == 1 or token in _tagger.lexicon or readings(token):
        return [token]
    return token.split("-")


def _phrases(tagged: Tagged, roles: list[str]) -> Iterator[tuple[list[str], list[str]]]:
    """Yield (adjectives, nouns) of each run of adjectives and then nouns."""
    adjectives: list[str] = []
    nouns: list[str] = []
    for (word, _), role in zip([*tagged, ("", "")], [*roles, OTHER], strict=True):
        if role == JOINT:
            continue
        if role == NOUN:
            nouns.append(word)
            continue
        if nouns:
            yield adjectives, nouns
        if nouns or role != ADJECTIVE:
            adjectives, nouns = [], []
        if role == ADJECTIVE:
            adjectives.append(word)
