"""The default concept parser: a tagger with a bundled lexicon, and a dictionary that mends what it misreads.

The tagger gives each word its commonest tag, so "stop sign" comes as verb and noun. A word is read again from its
neighbours and from the word classes that lemminflect's dictionary knows for it, which gives its part in a noun phrase.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from importlib.metadata import version

from textblob.en import parser as _tagger

from regionclip.text.words import RULES, clean_caption, is_concept, lemma, readings

# Negations and contractions are tokens of their own; words keep inner hyphens until `_split_hyphens`.
_TOKEN = re.compile(r"n't\b|'(?:s|re|ve|ll|d|m)\b|[^\W_]+?(?=n't\b)|[^\W_]+(?:-[^\W_]+)*|[^\s]")

DETERMINER, ADJECTIVE, JOINT, NOUN, VERB, OTHER = "DAJNVX"

_CLITICS = frozenset(["n't", "'re", "'ve", "'ll", "'d", "'m"])
# The lexicon calls these adjectives.
_QUANTIFIERS = frozenset(["many", "several", "few", "some", "more", "most", "other", "same", "such", "all", "both"])
# "Some walk" and "these walk" are subjects with a verb; "a walk" is a noun.
_WEAK_DETERMINERS = _QUANTIFIERS | frozenset(["this", "that", "these", "those", "which"])
_OBJECT_FOLLOWS = frozenset(["DT", "PRP$", "PRP", "CD"])
_PHRASE_ENDS = frozenset(["", "IN", "TO", ".", ",", ":", ")", "DT", "CC"])

# Tagged as prepositions, but a verb may follow.
_CONJUNCTIONS = frozenset(["that", "while", "as", "if", "because", "when", "than", "so", "until", "though"])
_PLURAL_DETERMINERS = _QUANTIFIERS | frozenset(["these", "those"])

Tagged = list[tuple[str, str]]

_MARK = ":"  # the tag of a dash
# "Pneumonoultramicroscopicsilicovolcanoconiosis" has 45 letters.
_LONGEST_WORD = 45


class PatternParser:
    """TextBlob's copy of the pattern tagger, noun phrases as adjectives plus nouns, lemmas from lemminflect.

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
        tagged = _tag(clean_caption(caption))
        return [
            concept
            for adjectives, nouns in _phrases(tagged, _roles(tagged))
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


def _roles(tagged: Tagged) -> list[str]:
    """Give each word its part in a noun phrase, from left to right."""
    roles: list[str] = []
    for i, (word, tag) in enumerate(tagged):
        after = tagged[i + 1] if i + 1 < len(tagged) else ("", "")
        if word == "'s":
            roles.append(_possessive(roles, after[1]))
        elif word in _CLITICS or after[0] == "n't":
            roles.append(VERB)
        elif word[0].isdigit() or tag in {"CD", "DT", "PRP$", "PDT", "WP$"} or word in _QUANTIFIERS:
            roles.append(DETERMINER)
        elif tag in {"CC", ","} and roles[-1:] == [ADJECTIVE] and after[1].startswith("JJ"):
            roles.append(JOINT)  # "a red and blue star"
        elif tag.startswith("NN"):
            roles.append(_noun_tag(word, roles, after[1]))
        elif tag.startswith("JJ"):
            roles.append(_adjective_tag(word, roles, tagged[i + 1 : i + 3]))
        elif tag.startswith("VB") or tag == "CC":
            roles.append(_verb_tag(i, tagged, roles))
        else:
            roles.append(OTHER)
    return roles


def _possessive(roles: list[str], after: str) -> str:
    """Read 's: in "the woman's hat" the woman becomes part of the determiner; in "it's a hat" it is a verb."""
    if roles and roles[-1] == NOUN and after.startswith(("NN", "JJ", "VB")):
        roles[-1] = DETERMINER
        return DETERMINER
    return VERB


def _noun_tag(word: str, roles: list[str], after: str) -> str:
    known = readings(word)
    if "ADJ" in known and after.startswith("JJ"):
        return ADJECTIVE  # "light blue star"
    if roles and roles[-1] == NOUN and "VERB" in known and after in _OBJECT_FOLLOWS:
        return VERB  # "a man rides a horse"
    if not known or "NOUN" in known or (after.startswith("NN") and roles[-1:] in ([DETERMINER], [ADJECTIVE])):
        return NOUN  # also "a parking meter"
    return VERB if "VERB" in known else ADJECTIVE if "ADJ" in known else OTHER


def _adjective_tag(word: str, roles: list[str], after: Tagged) -> str:
    """Read an adjective as a noun where it ends a phrase that a determiner began: "an orange on a plate"."""
    following = after[0][1] if after else ""
    if following not in _PHRASE_ENDS and not (following == "VBZ" and "NOUN" not in readings(after[0][0])):
        return ADJECTIVE
    joined = following in {"CC", ","} and after[1:] and after[1][1].startswith("JJ")
    joined = joined or (after and after[0][0] in {"plus", "minus"})
    if not joined and "NOUN" in readings(word) and _after_determiner(roles):
        return NOUN
    return ADJECTIVE  # "a red and blue star", "the star is red"


def _after_determiner(roles: list[str]) -> bool:
    return next((role for role in reversed(roles) if role not in {ADJECTIVE, JOINT}), None) == DETERMINER


def _verb_tag(i: int, tagged: Tagged, roles: list[str]) -> str:
    """Read a word that the lexicon calls a verb (or "plus" a conjunction) in its place."""
    (word, tag), after = tagged[i], tagged[i + 1][1] if i + 1 < len(tagged) else ""
    before = roles[-1] if roles else ""
    known = readings(word)
    modifies = after.startswith(("NN", "JJ", "VB"))
    if tag in {"VBG", "VBN", "VBD"}:
        if before not in {DETERMINER, ADJECTIVE} and not (tag == "VBN" and not before):
            return VERB
        if modifies and ("NOUN" not in known or (tag != "VBG" and "ADJ" in known)):
            return ADJECTIVE  # "a dotted circle"
        return NOUN if "NOUN" in known and before else VERB  # "a living room", "the left"
    if "NOUN" not in known or "AUX" in known:
        return VERB
    if before in {DETERMINER, ADJECTIVE}:
        return VERB if tagged[i - 1][0] in _WEAK_DETERMINERS and not after.startswith("NN") else NOUN
    if not before and not after:
        return NOUN  # a caption of one word
    if tag == "CC" or after in _OBJECT_FOLLOWS:
        return VERB
    if lemma(word, "VERB") != word:
        return NOUN if _plural_fits(i, tagged, roles) else VERB
    if before == NOUN:
        singular = lemma(tagged[i - 1][0], "NOUN") == tagged[i - 1][0]
        return NOUN if singular else VERB  # "a teddy bear", but "children play"
    if not before:
        return NOUN if after.startswith("NN") else VERB  # "stop sign at a corner"
    if _preposition(tagged[i - 1]):
        return NOUN  # "a picture of cross"
    joined = tagged[i - 1][1] == "CC" and len(roles) > 1 and roles[-2] == NOUN
    return NOUN if joined else VERB  # "a toilet and sink"


def _plural_fits(i: int, tagged: Tagged, roles: list[str]) -> bool:
    """Say whether a verb in -s may be a plural: "two teddy bears", "leaves on a tree", "a branch of leaves"."""
    if roles[-1:] != [NOUN]:
        return i == 0 or _preposition(tagged[i - 1]) or tagged[i - 1][1].startswith("VB")
    phrase = {NOUN, ADJECTIVE, JOINT}
    start = next((place for place in range(len(roles) - 1, -1, -1) if roles[place] not in phrase), None)
    if start is None or roles[start] != DETERMINER:
        return False
    word, tag = tagged[start]
    return word in _PLURAL_DETERMINERS or (tag == "CD" and word not in {"one", "1"})


def _preposition(tagged: tuple[str, str]) -> bool:
    return tagged[1] == "IN" and tagged[0] not in _CONJUNCTIONS
