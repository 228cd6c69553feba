"""Captions of the demo world are true, never name a distractor, and are in words that the parser reads as nouns."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from textblob.en import tag

from regionclip.demo_world.captions import pair_caption, scene_caption, with_article
from regionclip.demo_world.pairs import PairTask, render_pair
from regionclip.demo_world.vocabulary import COLOURS, DISTRACTORS, GROUNDS, SHAPES, Kind
from regionclip.files import read_json

NUMBERS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
WORDS = {shape: shape for shape in SHAPES} | {f"{shape}s": shape for shape in SHAPES if shape != "fish"}


def _scenes(world: Path) -> list[tuple[str, Counter[Kind]]]:
    """Return (caption, what the scene holds) of every scene caption."""
    truth = read_json(world / "scenes_truth/instances.json")
    names = {entry["id"]: entry["name"] for entry in truth["categories"]}
    held: dict[int, Counter[Kind]] = {image["id"]: Counter() for image in truth["images"]}
    for entry in truth["annotations"]:
        held[entry["image_id"]][Kind(names[entry["category_id"]], entry["colour"])] += 1
    annotations = read_json(world / "scenes/captions.json")["annotations"]
    return [(entry["caption"], held[entry["image_id"]]) for entry in annotations]


def test_scene_captions_name_only_what_is_there(world: Path) -> None:
    named = 0
    for caption, held in _scenes(world):
        words = re.findall(r"[a-z]+", caption.lower())
        shapes = {WORDS[word] for word in words if word in WORDS}
        assert shapes, caption
        assert shapes <= {kind.shape for kind in held}, caption
        for colour, noun in pairwise(words):
            if colour in COLOURS and noun in WORDS:
                assert Kind(WORDS[noun], colour) in held, caption
                named += 1
    assert named > 50


def test_numbers_in_captions_are_right() -> None:
    red_star, blue_fish = Kind("star", "red"), Kind("fish", "blue")
    objects = [
        SimpleNamespace(kind=kind, box=(0, 0, 9, 9), behind=[])
        for kind in (red_star, red_star, blue_fish, blue_fish, blue_fish)
    ]
    captions = [scene_caption(np.random.default_rng(seed), objects, "sand") for seed in range(60)]
    found = [re.findall(rf"({'|'.join(NUMBERS)}) (?:red |blue )?(stars|fish)", text.lower()) for text in captions]
    assert {pair for pairs in found for pair in pairs} == {("two", "stars"), ("three", "fish")}


def test_relations_are_true() -> None:
    left, right = Kind("star", "red"), Kind("moon", "blue")
    objects = [
        SimpleNamespace(kind=left, box=(0, 80, 20, 20), behind=[]),
        SimpleNamespace(kind=right, box=(150, 80, 20, 20), behind=[]),
    ]
    captions = [scene_caption(np.random.default_rng(seed), objects, "sand") for seed in range(80)]
    stated = {found.groups() for text in captions if (found := re.search(r"(star|moon) to the (left|right) of", text))}
    assert stated == {("star", "left"), ("moon", "right")}


def test_no_caption_names_a_distractor(world: Path) -> None:
    rng = np.random.default_rng(0)
    captions = [caption for caption, _ in _scenes(world)]
    captions += [pair_caption(rng, Kind("star", "red"), ground, 0.5) for ground in GROUNDS for _ in range(30)]
    words = {word for caption in captions for word in re.findall(r"[a-z]+", caption.lower())}
    assert not words & {form for name in DISTRACTORS for form in (name, f"{name}s")}


def test_a_quarter_of_pair_captions_leaves_the_colour_out() -> None:
    rng = np.random.default_rng(0)
    captions = [pair_caption(rng, Kind("star", "red"), "sand", 0.6) for _ in range(1000)]
    assert 0.2 < sum("red" not in caption for caption in captions) / 1000 < 0.3
    assert len({caption.split("star")[0] for caption in captions}) > 20


def test_pair_captions_tell_the_truth_about_size() -> None:
    rng = np.random.default_rng(0)
    full = {pair_caption(rng, Kind("star", "red"), "sand", 0.95) for _ in range(300)}
    assert any("large" in caption for caption in full)
    partly = {pair_caption(rng, Kind("star", "red"), "sand", 0.8) for _ in range(300)}
    assert not any("large" in caption for caption in partly)


def test_articles() -> None:
    assert [with_article(name) for name in ("orange star", "arrow", "house")] == [
        "an orange star",
        "an arrow",
        "a house",
    ]


def test_the_default_tagger_reads_shapes_as_nouns_and_colours_as_adjectives() -> None:
    for shape in SHAPES:
        for colour in COLOURS:
            tags = dict(tag(f"a photo of {with_article(f'{colour} {shape}')} on the grass"))
            assert tags[shape] == "NN", shape
            assert tags[colour] == "JJ", colour


def test_pairs_differ_from_split_to_split() -> None:
    train, val = (render_pair(PairTask(0, f"pairs/{split}", 0, 64, 92)) for split in ("train", "val"))
    assert train.jpeg != val.jpeg
