"""What both concept parsers share: clean text, the stop list, and lemmas from lemminflect's dictionary."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from lemminflect import getAllLemmas, getLemma
from textblob.en.inflect import singularize

# The official list is "pronouns, punctuation, 's, m, 1930"; punctuation and numbers never become concepts here.
STOP_WORDS = frozenset(
    """i me my mine myself you your yours yourself yourselves he him his himself she her hers herself it its itself
    we us our ours ourselves they them their theirs themselves who whom whose which what that this these those
    one ones other others another each anyone anybody anything someone somebody something everyone everybody
    everything nobody nothing none 's m 1930""".split()  # noqa: SIM905
)

_ADDRESS = re.compile(r"\S*(?:://|www\.)\S*")
_QUOTES = str.maketrans({"\u2018": "'", "\u2019": "'", "\u02bc": "'", "`": "'"})


def clean_caption(caption: str) -> str:
    """Return the caption in lower case, NFKC form, without web addresses, control or invisible characters.

    >>> clean_caption("A\\u200bRED  star\\n")
    'a red star'
    """
    text = unicodedata.normalize("NFKC", caption).translate(_QUOTES)
    text = "".join(" " if unicodedata.category(char)[0] in "CZ" else char for char in text)
    return " ".join(_ADDRESS.sub(" ", text).lower().split())


@lru_cache(maxsize=1 << 16)
def readings(word: str) -> frozenset[str]:
    """Return the classes (NOUN, VERB, ADJ, ADV, AUX) that the dictionary knows for a lower-case word, if any."""
    return frozenset(getAllLemmas(word))


@lru_cache(maxsize=1 << 16)
def lemma(word: str, reading: str) -> str:
    """Return the dictionary form of a lower-case word read as NOUN or VERB.

    Unknown words go through lemminflect's rules, which are for ASCII. Where the dictionary has several forms ("leaves":
    leave, leaf), pattern's singular decides.
    """
    if not word.isascii():
        return word
    found = getLemma(word, reading)
    if not found:
        return word
    single = singularize(word) if len(found) > 1 else found[0]
    return single if single in found else found[0]


def is_concept(head: str) -> bool:
    """Say whether a head noun may name a concept: two or more characters, a letter first, not on the stop list."""
    return len(head) > 1 and head[0].isalpha() and head not in STOP_WORDS
