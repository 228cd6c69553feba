"""The profile of one's own data: complete, with sizes from the CLIP and lengths and anchors from the data."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from ruamel.yaml import YAML

from regionclip.params import Params, check_params
from regionclip.params.data import OwnClasses
from regionclip.workspace.own_profile import Captions, Clip, own_profile
from regionclip.workspace.own_set import OwnSet
from regionclip.workspace.profiles import compose_profile

SIDES = [0.1, 0.2, 0.3, 0.4, 0.5]
OWN = OwnSet(
    classes=OwnClasses(base=["déjà vu", 'a "b": c'], novel=["no"]),
    images={"train": 4000, "val": 100},
    boxes={"train": Counter(), "val": Counter()},
    faults=[],
    notes=[],
    sides=SIDES,
)
FILES = {"instances_train": "t.json", "instances_val": "v.json", "images_train": "p", "images_val": "q: #"}
RN50 = Clip("weights/clip.pt", "RN50-quickgelu", 224, 0.01)
SMALL = Clip("clip folder", None, 64, 0.066)
SOURCES = [(Captions("c.json", "p", 12_345), None), (None, "student.pth"), (None, "same")]


def _values(clip: Clip, own: OwnSet = OWN, captions: Captions | None = None, student: str | None = None) -> Any:
    text = own_profile("toys", own, FILES, clip, captions, clip.path if student == "same" else student)
    return YAML(typ="safe", pure=True).load(text)  # 1.2, in which `no` is a name, as DVC reads it


@pytest.mark.parametrize("clip", [RN50, SMALL], ids=["RN50", "small"])
@pytest.mark.parametrize(("captions", "student"), SOURCES, ids=["captions", "RegionCLIP", "CLIP only"])
def test_it_is_complete_whatever_the_sources(clip: Clip, captions: Captions | None, student: str | None) -> None:
    params: Params = check_params(_values(clip, OWN, captions, student), "params.yaml")
    assert list(params.data.sets) == list(params.finetune.sets) == [params.rpn.dataset] == ["toys"]
    assert params.data.sets["toys"].model_dump() == {
        "format": "coco",
        "classes": {"base": ["déjà vu", 'a "b": c'], "novel": ["no"]},
        "protocol": "constrained",
        "files": FILES,
    }
    assert params.teacher.weights == clip.path and params.teacher.model == clip.model
    assert (params.data.captions is None) == (params.pretrain.weights is not None)
    alone = student == "same"
    assert params.finetune.initialisations == (["clip"] if alone else ["clip", "regionclip"])
    assert params.zero_shot.temperature == params.finetune.temperature == clip.temperature


def test_pictures_are_as_much_larger_than_the_clips_as_in_the_profiles() -> None:
    paper, small = (check_params(_values(clip, student="x"), "p").detection for clip in (RN50, SMALL))
    assert (paper.test_short_side, paper.train_short_sides, paper.max_size) == (
        800,
        [640, 672, 704, 736, 768, 800],
        1333,
    )
    assert (small.test_short_side, small.train_short_sides, small.max_size) == (192, [176, 192, 208], 384)


def test_trainings_are_twelve_passes_over_the_pictures_within_limits() -> None:
    """4,000 pictures in batches of 16: 12 passes are 3,000 iterations; the paper's 90,000 are the most."""
    schedule = _values(RN50, student="x")["finetune"]["sets"]["toys"]["schedule"]
    assert (schedule["iterations"], schedule["milestones"], schedule["warmup_iterations"]) == (3000, [2000, 2666], 300)
    for images, iterations in ((10, 100), (10**6, 90_000)):
        own = replace(OWN, images={"train": images, "val": 1})
        assert _values(RN50, own, student="x")["rpn"]["schedule"]["iterations"] == iterations


def test_anchors_have_the_sizes_of_the_boxes() -> None:
    """The quantiles of 0.1 .. 0.5 are 0.14, 0.22, 0.3, 0.38, 0.46; times 192 pixels over the stride of 16."""
    assert _values(SMALL, student="x")["rpn"]["anchor_scales"] == [1.68, 2.64, 3.6, 4.56, 5.52]
    alike = replace(OWN, sides=[0.25] * 9)
    assert _values(SMALL, alike, student="x")["rpn"]["anchor_scales"] == [3.0]


@pytest.mark.parametrize(("count", "least"), [(900, 2), (12_345, 12), (3_000_000, 100), (None, 100)])
def test_a_concept_must_occur_the_more_often_the_more_captions_there_are(count: int | None, least: int) -> None:
    assert _values(SMALL, captions=Captions("c.jsonl", None, count))["concepts"]["minimum_count"] == least


def test_without_novel_classes_nothing_is_measured_without_the_others() -> None:
    closed = replace(OWN, classes=OwnClasses(base=["a"], novel=[]))
    assert _values(RN50, closed, student="x")["data"]["sets"]["toys"]["protocol"] == "closed_set"


def _leaves(value: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    if not isinstance(value, dict):
        return {path: value}
    return {key: leaf for name, inner in value.items() for key, leaf in _leaves(inner, (*path, name)).items()}


# Lengths and anchors are from the data; the RPN and the student are one's own.
FROM_THE_DATA = {
    "raw",
    "data",
    "teacher",
    "profile",
    "seed",
    "concepts",
    "anchor_scales",
    "weights",
    "architecture",
}
FROM_THE_DATA |= {"raw", "official", "initialisations", "group_by_aspect"}
LENGTHS = {"iterations", "milestones", "warmup_iterations", "batch_size"}


@pytest.mark.parametrize(
    ("clip", "profile"),
    [(RN50, "transfer_coco48_rn50"), (replace(SMALL, temperature=0.05), "demo")],
)
def test_what_does_not_come_from_the_data_is_as_in_the_profile_of_such_a_clip(clip: Clip, profile: str) -> None:
    theirs = _leaves(compose_profile(profile))
    ours = {
        tuple("coco" if part == "toys" else part for part in key): value
        for key, value in _leaves(_values(clip, student="x")).items()
    }
    assert len(ours) > 100
    different = {key for key in ours if theirs.get(key) != ours[key] and not (FROM_THE_DATA | LENGTHS) & {*key}}
    sizes = {("detection", "max_size"), ("pretrain", "max_size"), ("pretrain", "schedule", "learning_rate")}
    # Of how well this CLIP names the base classes nothing is known, nor of how far objects overlap.
    share, overlap = (("finetune", "sets", "coco", *key) for key in (("fusion", "base"), ("nms_iou",)))
    assert different <= sizes | {share, overlap, ("rpn", "dataset")}
    assert ours.get(share, 0) == 0 and ours[overlap] == 0.5
