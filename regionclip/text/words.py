"""What both concept parsers share: clean text, the stop list, and lemmas from lemminflect's dictionary."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from html import unescape

from ftfy import fix_encoding
from lemminflect import getAllLemmas, getLemma
from textblob.en.inflect import singularize

RULES = 3
"""Part of the parsers' versions; raised when the same caption gives other concepts than before."""

# The official list is "pronouns, punctuation, 's, m, 1930"; punctuation and numbers never become concepts here.
STOP_WORDS = frozenset(
    """i me my mine myself you your yours yourself yourselves he him his himself she her hers herself it its itself
    we us our ours ourselves they them their theirs themselves who whom whose which what that this these those
    one ones other others another each anyone anybody anything someone somebody something everyone everybody
    everything nobody nothing none 's m 1930""".split()  # noqa: SIM905
)

_MARKS = {"\u2018": "'", "\u2019": "'", "\u02bc": "'", "`": "'", "_": " "}


class _Characters(dict[int, str]):
    """Table for `str.translate`: control, unassigned and separating characters are blanks. It fills as it is used."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        self[code] = " " if unicodedata.category(char)[0] in "CZ" else char
        return self[code]


_CHARACTERS = _Characters({ord(char): mark for char, mark in _MARKS.items()})


def clean_caption(caption: str) -> str:
    """Return the caption in lower case, NFKC form, without web addresses, control or invisible characters.

    As CLIP's tokenizer does, HTML entities are resolved, twice, and UTF-8 that was read as Latin-1 is mended.

    >>> clean_caption("A\\u200bRED  star\\n &amp; a caf\\u00c3\\u00a9")
    'a red star & a caf\u00e9'
    """
    text = unescape(unescape(caption)) if "&" in caption else caption
    if not text.isascii():
        text = unicodedata.normalize("NFKC", fix_encoding(text).replace("\u2122", " "))
    words = text.translate(_CHARACTERS).lower().split()
    return " ".join(word for word in words if "://" not in word and "www." not in word)


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
