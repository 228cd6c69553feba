"""Prompts: the official templates in their order, and the clean-up of names."""

from __future__ import annotations

import open_clip
import pytest

from regionclip.text.class_names import clean_lvis_name
from regionclip.text.prompts import TEMPLATE_SETS, fill, same_to_clip


def test_there_are_81_distinct_templates_with_one_slot_and_a_full_stop() -> None:
    templates = TEMPLATE_SETS["regionclip_81"]
    assert len(templates) == len(set(templates)) == 81
    assert all(template.count("{}") == 1 and template.endswith(".") for template in templates)


@pytest.mark.parametrize(
    ("number", "template"),
    [
        (1, "{}."),
        (2, "a photo of a {}."),
        (3, "a bad photo of a {}."),
        (13, "the embroidered {}."),
        (27, "a pixelated photo of the {}."),
        (28, "a sculpture of the {}."),
        (38, "a {} in a video game."),
        (46, "a origami {}."),
        (54, "a photo of a weird {}."),
        (55, "a blurry photo of a {}."),
        (59, "a embroidered {}."),
        (72, "a black and white photo of a {}."),
        (81, "a tattoo of the {}."),
    ],
)
def test_templates_stand_at_their_official_numbers(number: int, template: str) -> None:
    assert TEMPLATE_SETS["regionclip_81"][number - 1] == template


def test_commas_go_and_plus_becomes_a_space() -> None:
    assert fill("a photo of a {}.", "monitor, screen+tv") == "a photo of a monitor screen tv."
    assert fill("{}.", "{}") == "{}."


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("red_star", "red star"),
        ("bat_(animal)", "bat animal"),
        ("flip-flop_(sandal)", "flip-flop sandal"),
        ("cat", "cat"),
    ],
)
def test_lvis_names_as_a_person_writes_them(name: str, clean: str) -> None:
    assert clean_lvis_name(name) == clean


@pytest.mark.parametrize(
    ("names", "twins"),
    [
        (["ring", "star"], {}),
        (["Ring", "ring"], {"ring": "Ring"}),
        (["c+", "c", "c "], {"c": "c+", "c ": "c+"}),
        (["salt, pepper", "salt pepper"], {"salt pepper": "salt, pepper"}),
        (["stop_sign", "stop sign"], {}),
        (["a b c d e f g h i j k l m n", "a b c d e f g h i j k l m n o p"], {}),
        (["a " * 20 + "b", "a " * 20 + "c"], {"a " * 20 + "c": "a " * 20 + "b"}),
    ],
)
def test_names_of_the_same_tokens_are_told(names: list[str], twins: dict[str, str]) -> None:
    """With 20 tokens, of which start and end take two."""
    tokenizer = open_clip.SimpleTokenizer(context_length=20)
    assert same_to_clip(names, TEMPLATE_SETS["regionclip_81"], tokenizer) == twins
