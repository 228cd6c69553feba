"""Gives each word of a tagged caption its part in a noun phrase, and mends what the tagger's lexicon misreads.

The tagger gives each word its commonest tag, so "stop sign" comes as verb and noun. A word is read again from its
neighbours and from the word classes that lemminflect's dictionary knows for it.
"""

from __future__ import annotations

from regionclip.text.words import lemma, readings

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


def phrase_roles(tagged: Tagged) -> list[str]:
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
