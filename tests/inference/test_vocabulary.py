"""Names mean what they were given to mean, are embedded once, and are refused by name where they make no sense."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from regionclip.checkpoints.clip_folder import ClipFolder
from regionclip.errors import InputError
from regionclip.inference import Example, RegionCLIP
from regionclip.inference import vocabulary as module
from regionclip.text.prompts import TEMPLATE_SETS, embed_names
from regionclip.text.text_bank import TextBank

BOXES = [[0, 0, 60, 60], [40, 20, 160, 120], [10, 10, 30, 40], [80, 5, 150, 60]]


@pytest.fixture(scope="module")
def model(detector: RegionCLIP) -> RegionCLIP:
    return detector


@pytest.fixture(scope="module")
def picture(workspace: Path) -> Path:
    return workspace / "data/sets/coco/val/1.png"


def embedded(model: RegionCLIP, *texts: str) -> torch.Tensor:
    """What the stage `text_bank` gives for these texts."""
    clip, templates = ClipFolder.open(model.files.clip), TEMPLATE_SETS[model.files.params.text_bank.templates]
    return embed_names(clip.model(), clip.tokenizer(), texts, templates)


def test_of_several_phrases_the_nearest_counts(model: RegionCLIP, picture: Path) -> None:
    """The cosine with a name is the best of those with its phrases; one phrase that is the name changes nothing."""
    features = model.features(picture, BOXES)
    apart = model.similarity(features, ["couch", "sofa", "red circle"])
    together = model.similarity(features, {"seat": ["couch", "sofa"], "red circle": "red circle"})
    np.testing.assert_allclose(together, np.stack([apart[:, :2].max(axis=1), apart[:, 2]], axis=1), atol=1e-6)


def test_background_texts_take_probability_and_no_name(model: RegionCLIP, picture: Path) -> None:
    """By hand: exp(l_k) / (exp(0) + sum over names + sum over background texts), l the cosine over 0.01."""
    features = model.features(picture, BOXES)
    cosines = model.similarity(features, ["star", "fish", "shadow", "wall"])
    wanted = np.exp(cosines[:, :2] / 0.01) / (1 + np.exp(cosines / 0.01).sum(axis=1, keepdims=True))
    found = model.classify(picture, BOXES, ["star", "fish"], background=["shadow", "wall"])
    np.testing.assert_allclose(found, wanted, rtol=2e-3, atol=1e-6)
    seen = model(picture, ["star", "fish"], threshold=0, background=["shadow", "wall"])
    assert set(seen.names) <= {"star", "fish"} and seen.vocabulary == ("star", "fish")


def test_embeddings_banks_and_files_are_the_same_names(model: RegionCLIP, picture: Path, tmp_path: Path) -> None:
    names, rows = ("star", "red circle"), embedded(model, "star", "red circle")
    clip = ClipFolder.open(model.files.clip)
    bank = TextBank(names, rows, (), "tiny", clip.weights_sha256)
    bank.save(tmp_path / "bank.safetensors")
    (tmp_path / "names.txt").write_text("star\nred circle\n")
    wanted = model.classify(picture, BOXES, names)
    given = {name: row.numpy() for name, row in zip(names, rows, strict=True)}
    for form in (given, bank, tmp_path / "bank.safetensors", str(tmp_path / "names.txt"), model.vocabulary(names)):
        np.testing.assert_allclose(model.classify(picture, BOXES, form), wanted, atol=1e-5)
    foreign = TextBank(names, rows, (), "other", "f" * 64)
    with pytest.raises(InputError, match="built with weights ffffffffffff"):
        model.vocabulary(foreign)
    with pytest.raises(InputError, match="width"):
        model.vocabulary(TextBank(names, rows[:, :-1].contiguous(), (), "tiny", clip.weights_sha256))


def test_vocabulary_of_another_model_is_refused(model: RegionCLIP, workspace: Path, tmp_path: Path) -> None:
    made = model.vocabulary(["star"])
    other = module.Vocabulary(made.names, made.embeddings, None, "f" * 64)
    with pytest.raises(InputError, match="made by another model"):
        model.vocabulary(other)


def test_example_pictures_stand_for_a_name(model: RegionCLIP, picture: Path) -> None:
    """The example itself is nearest to what it shows; examples mix with words; a wrong box is named."""
    box = (40, 20, 160, 120)
    names = {"this": Example(picture, box), "other": [Example(Image.open(picture), (0, 0, 30, 30)), "fish"]}
    vocabulary = model.vocabulary(names)
    assert vocabulary.embeddings.shape[0] == 3 and vocabulary.owners.tolist() == [0, 1, 1]
    cosines = model.similarity(model.features(picture, [box, (0, 0, 30, 30), (100, 60, 120, 80)]), vocabulary)
    assert cosines[:, 0].argmax() == 0
    with pytest.raises(InputError, match="box 0 is not finite, or ends before it begins"):
        model.vocabulary({"this": Example(picture, (9, 9, 3, 3))})


def test_many_names_are_built_once_and_switched_at_once(
    model: RegionCLIP, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list seen before costs no encoding; a longer one only what is new."""
    calls: list[int] = []

    def counted(text, tokenizer, names, *rest, **more):
        calls.append(len(names))
        return embed_names(text, tokenizer, names, *rest, **more)

    monkeypatch.setattr(module, "embed_names", counted)
    names = [f"seldom {number}" for number in range(600)]
    first = model.vocabulary(names)
    assert sum(calls) == 600
    started = time.perf_counter()
    assert model.vocabulary(list(names)) is first and time.perf_counter() - started < 0.05
    model.vocabulary([*names, "one more"])
    assert sum(calls) == 601


@pytest.mark.parametrize(
    "name", ["Bär", "猫", "a \"quoted\" 'thing'", "x" * 300, "{}", "rock, paper + scissors", "\u202eabc"]
)
def test_any_text_is_a_name(model: RegionCLIP, picture: Path, name: str) -> None:
    found = model(picture, [name, "star"], threshold=0)
    assert set(found.names) <= {name, "star"} and found.vocabulary == (name, "star")
    found.plot()


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        ({}, "there is no name"),
        ({"a": None}, "record a.*NoneType stands for the name"),
        ({3: "a"}, "a int was given"),
        ({"a": [3]}, "stands for the name"),
        ({"a": np.zeros(4)}, "an embedding of shape"),
        ({"a": np.full(64, np.nan)}, "an embedding of shape|not finite"),
    ],
)
def test_meanings_that_make_no_sense_are_refused_by_name(model: RegionCLIP, names: object, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        model.vocabulary(names)
    for background in ("wall", ["a", "a"], [""], [1]):
        with pytest.raises(InputError, match="background"):
            model.vocabulary(["star"], background)


def test_names_are_split_at_commas() -> None:
    """Double quotes around a name keep its commas; other quotes are a part of it; nothing stays nothing."""
    found = module.split_names('red car,dog , "salt, pepper",5" pipe, l\'étoile')
    assert found == ["red car", "dog", "salt, pepper", '5" pipe', "l'étoile"]
    assert module.split_names("a,") == ["a", ""] and module.split_names('a, "", b') == ["a", "", "b"]
