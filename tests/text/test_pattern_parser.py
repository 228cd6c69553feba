"""PatternParser: hand cases of what a caption's concepts are."""

from __future__ import annotations

import pickle
import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textblob.en import lexicon
from textblob.en import parser as tagger

from regionclip.text.pattern_parser import PatternParser, _tag_word
from regionclip.text.words import lemma

PAPER = PatternParser(["compound"])
DEMO = PatternParser(["compound", "adjective"])


@pytest.mark.parametrize(
    ("caption", "concepts"),
    [
        ("Two red stars next to a stop sign.", ["star", "stop sign"]),
        ("two teddy bears sit on a bed", ["teddy bear", "bed"]),
        ("a teddy bear with a tennis racket", ["teddy bear", "tennis racket"]),
        ("a traffic light hangs over the street", ["traffic light", "street"]),
        ("two parking meters and a living room", ["parking meter", "living room"]),
        ("STOP sign", ["stop sign"]),
        ("a stop-sign", ["stop sign"]),
        ("children eat hot dogs on the bus stop bench", ["child", "dog", "stop bench"]),
        ("A bathroom with a toilet and sink", ["bathroom", "toilet", "sink"]),
    ],
)
def test_compound_and_head_make_one_concept(caption: str, concepts: list[str]) -> None:
    assert PAPER.parse(caption) == concepts


def test_without_compounds_the_head_alone_is_the_concept() -> None:
    assert PatternParser([]).parse("a stop sign beside two teddy bears") == ["sign", "bear"]


@pytest.mark.parametrize(
    ("caption", "concepts"),
    [
        ("Two red stars", ["star", "red star"]),
        ("a red stop sign", ["stop sign", "red stop sign"]),
        ("a big red cross", ["cross", "big cross", "red cross"]),
        ("a red and blue star", ["star", "red star", "blue star"]),
        ("a red, striped circle", ["circle", "red circle", "striped circle"]),
        ("a dotted red square", ["square", "dotted square", "red square"]),
        ("a light blue ring", ["ring", "light ring", "blue ring"]),
        ("red plus and green cross", ["plus", "red plus", "cross", "green cross"]),
        ("the star is red", ["star"]),
    ],
)
def test_with_adjectives_noun_and_adjective_noun_are_concepts(caption: str, concepts: list[str]) -> None:
    assert DEMO.parse(caption) == concepts


@pytest.mark.parametrize(
    ("caption", "concepts"),
    [
        ("a man rides a skateboard down the street", ["man", "skateboard", "street"]),
        ("a red star overlaps a blue cross", ["star", "cross"]),
        ("the ring touches two crosses", ["ring", "cross"]),
        ("a dog leaves a house", ["dog", "house"]),
        ("leaves on a tree", ["leaf", "tree"]),
        ("a branch of green leaves", ["branch", "leaf"]),
        ("an orange and an apple on the table", ["orange", "apple", "table"]),
        ("a star, a cross and a plus.", ["star", "cross", "plus"]),
        ("a drop", ["drop"]),
        ("cross", ["cross"]),
        ("people watch a tv", ["people", "tv"]),
    ],
)
def test_words_that_the_lexicon_misreads_are_read_from_their_place(caption: str, concepts: list[str]) -> None:
    assert PAPER.parse(caption) == concepts


@pytest.mark.parametrize(
    ("caption", "concepts"),
    [
        ("It is hers, and someone likes them.", []),
        ("each other", []),
        ("3 moons, 2 boats in 1930", ["moon", "boat"]),
        ("50% of 12", []),
        ("The woman's hat", ["hat"]),
        ("it's a cat", ["cat"]),
        ("I can't see the dogs, they don't run", ["dog"]),
        ("<PERSON> eats", ["person"]),
        ("http://example.org/x.jpg a cat", ["cat"]),
        ("a\u200bstar\x00 and\ta\nRING", ["star", "ring"]),
        ("\u201ca moon\u201d \u2013 the cat\u2019s moon", ["moon", "moon"]),
        ("cafe\u0301 table", ["caf\xe9 table"]),
        ("a dog \U0001f436", ["dog"]),
        ("a dog \u2764\ufe0f the cat \u2605", ["dog", "cat"]),
        ("a \U0001f469\u200d\U0001f680 astronaut", ["astronaut"]),
        ("dog ~ cat | moon", ["dog", "cat", "moon"]),
        ("salt &amp;amp; &quot;pepper&quot;", ["salt", "pepper"]),
        ("a caf\xc3\xa9 table", ["caf\xe9 table"]),
        ("a caf\xe9 table", ["caf\xe9 table"]),
        ("Nike\u2122 shoes", ["nike shoe"]),
        ("a dog_house", ["dog house"]),
        ("a ring \ud83d and a star", ["ring", "star"]),
        (f"a {'x' * 46} star", ["star"]),
        ("", []),
        (" \n ", []),
        ("?!", []),
    ],
)
def test_pronouns_numbers_marks_and_invisible_characters_name_nothing(caption: str, concepts: list[str]) -> None:
    assert PAPER.parse(caption) == concepts


def test_every_mention_is_one_item() -> None:
    assert PAPER.parse("a star, a star and three stars") == ["star", "star", "star"]


@pytest.mark.parametrize(
    ("word", "single"),
    [
        ("leaves", "leaf"),
        ("glasses", "glass"),
        ("scissors", "scissors"),
        ("mice", "mouse"),
        ("boxes", "box"),
        ("qwertys", "qwerty"),
    ],
)
def test_lemma_of_plurals(word: str, single: str) -> None:
    assert lemma(word, "NOUN") == single


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60) | st.text("ab redstar-'.,&\u200b\n", max_size=60))
def test_any_text_gives_clean_lower_case_concepts(caption: str) -> None:
    """Not that cleaning again changes nothing: ftfy may take what it has mended for broken once more."""
    for concept in DEMO.parse(caption):
        assert concept == concept.lower() == " ".join(concept.split())
        assert "," not in concept and not any(unicodedata.category(letter) == "Cc" for letter in concept)


@pytest.mark.parametrize(
    "pattern",
    [
        "x",
        "a ",
        "red ",
        "red , ",
        "stars ",
        "the star and ",
        "these rides ",
        "\U0001f436",
        "a-",
        "&",
        "\xc3\xa9",
        "n't",
        "://",
    ],
)
def test_captions_of_10000_characters_take_no_second(pattern: str) -> None:
    """Whatever repeats, the time is linear: a caption of ten words takes a tenth of a millisecond."""
    caption = (pattern * 10_000)[:10_000]
    start = time.perf_counter()
    PAPER.parse(caption)
    assert time.perf_counter() - start < 1


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from(sorted(lexicon)).map(str.lower), max_size=12)
    | st.lists(st.text("abdegilnsty", min_size=1))
)
def test_words_tagged_one_by_one_are_what_the_tagger_says_of_the_sentence(words: list[str]) -> None:
    """The tags are kept by word, which is exact because the tagger looks at no neighbours."""
    whole = [(word, tag) for word, tag in tagger.find_tags(words) if word[:1].isalnum() and len(word) <= 45]
    assert whole == [(word, _tag_word(word)) for word in words if word[:1].isalnum() and len(word) <= 45]


def test_a_parser_can_go_to_another_process() -> None:
    copy = pickle.loads(pickle.dumps(DEMO))  # noqa: S301
    assert copy.parse("red stars") == ["star", "red star"]
