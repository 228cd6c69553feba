"""Misspellings: what the rule merges and, case by case, what it leaves alone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regionclip.text.spelling import Misspelling, mend_spellings, write_misspellings


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("skatebord", "skateboard"),  # a letter left out
        ("refridgerator", "refrigerator"),  # a letter added
        ("skatebaord", "skateboard"),  # two letters changed places
        ("motercycle", "motorcycle"),  # a vowel for a vowel
    ],
)
def test_one_edit_away_from_a_noun_a_hundred_times_as_frequent(wrong: str, right: str) -> None:
    counts = Counter({right: 900, f"red {right}": 100, wrong: 9, f"red {wrong}": 1})
    assert mend_spellings(counts) == [Misspelling(wrong, right, 10)]
    assert counts == {right: 909, f"red {right}": 101}


def test_at_less_than_a_hundred_times_it_is_another_word() -> None:
    counts = Counter({"skateboard": 999, "skatebord": 10})
    assert mend_spellings(counts) == []
    assert counts == {"skateboard": 999, "skatebord": 10}


@pytest.mark.parametrize(
    ("rare", "frequent", "why"),
    [
        ("colour", "color", "the dictionary knows it"),
        ("barnard", "barnyard", "the tagger's lexicon knows the name"),
        ("surfnoard", "surfboard", "a consonant for another"),
        ("umbrelia", "umbrella", "a vowel for a consonant"),
        ("giraff", "giraffe", "the last letter is missing"),
        ("mbrella", "umbrella", "the first letter is missing"),
        ("bycicle", "bicycle", "two edits"),
        ("botle", "bottle", "too short"),
        ("obamma", "obama", "the frequent one is in no dictionary"),
        ("quickkly", "quickly", "the frequent one is no noun"),
    ],
)
def test_left_alone(rare: str, frequent: str, why: str) -> None:
    counts = Counter({frequent: 100_000, rare: 1})
    assert mend_spellings(counts) == [], why
    assert counts == {frequent: 100_000, rare: 1}


def test_two_nouns_that_fit_are_no_answer() -> None:
    """ "stroage" would be storage; "bettle" is battle as well as bottle and beetle."""
    counts = Counter({"battle": 1000, "bottle": 1000, "bettle": 1})
    assert mend_spellings(counts) == []
    assert mend_spellings(Counter({"bottle": 1000, "bettle": 1})) == [Misspelling("bettle", "bottle", 1)]


def test_two_misspelled_words_of_a_concept_are_both_merged_and_listed_by_falling_mentions() -> None:
    counts = Counter({"skateboard": 5000, "umbrella": 5000, "skatebord umbrela": 2, "skatebord": 3})
    assert mend_spellings(counts) == [Misspelling("skatebord", "skateboard", 5), Misspelling("umbrela", "umbrella", 2)]
    assert counts == {"skateboard": 5003, "umbrella": 5000, "skateboard umbrella": 2}


@given(
    st.dictionaries(
        st.lists(
            st.sampled_from(
                ["skateboard", "skatebord", "skatebaord", "umbrella", "umbrela", "red", "bettle", "bottle"]
            ),
            min_size=1,
            max_size=3,
        ).map(" ".join),
        st.integers(1, 100_000),
    )
)
def test_no_mention_is_lost_and_no_merged_spelling_is_left(counts: dict[str, int]) -> None:
    mended = Counter(counts)
    merged = mend_spellings(mended)
    assert mended.total() == sum(counts.values())
    gone = {misspelling.spelling for misspelling in merged}
    assert not any(gone & set(concept.split(" ")) for concept in mended)


def test_the_list_is_written_as_csv(tmp_path: Path) -> None:
    write_misspellings([Misspelling("skatebord", "skateboard", 5)], tmp_path / "misspellings.csv")
    assert (tmp_path / "misspellings.csv").read_text() == "spelling,word,mentions\nskatebord,skateboard,5\n"
