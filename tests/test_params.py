"""params.yaml is checked as a whole: whatever is unknown, missing or ill-typed is named with file and key."""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from regionclip.errors import InputError
from regionclip.params import Params, check_params, load_params
from tests.conftest import PAPER_PROFILES, profile_params, profile_values, profile_yaml

ROOT = Path(__file__).parents[1]
FILES = {f"{part}_{split}": "x" for part in ("instances", "images") for split in ("train", "val")}
OWN_SET = {"format": "coco", "classes": "all", "protocol": "closed_set", "files": FILES}


@pytest.fixture
def values() -> dict[str, Any]:
    """The values of the tiny params, to spoil."""
    return profile_values("tiny")


def _refused(values: object) -> InputError:
    with pytest.raises(InputError) as caught:
        check_params(values, "params.yaml")
    assert str(caught.value).startswith(f"params.yaml, key '{caught.value.key}': ") and caught.value.mend
    return caught.value


@pytest.mark.parametrize("name", ["demo", "tiny", *PAPER_PROFILES])
def test_every_profile_is_complete(name: str) -> None:
    params = profile_params(name)
    assert params.profile == name and Params.model_validate(params.model_dump()) == params


@pytest.mark.parametrize(
    "key", ["colour", "pretrain.colour", "rpn.schedule.colour", "finetune.sets.coco.colour", "data.sets.coco.colour"]
)
def test_unknown_key_is_named(values: dict[str, Any], key: str) -> None:
    *path, last = key.split(".")
    section = values
    for part in path:
        section = section[part]
    section[last] = 1
    error = _refused(values)
    assert error.key == key and error.problem == "unknown key"


@pytest.mark.parametrize("key", ["seed", "pretrain", "rpn.schedule.iterations", "data.demo.scenes"])
def test_missing_key_is_named(values: dict[str, Any], key: str) -> None:
    *path, last = key.split(".")
    section = values
    for part in path:
        section = section[part]
    del section[last]
    error = _refused(values)
    assert error.key == key and error.problem == "the key is missing"


def test_params_of_an_earlier_version_say_what_to_add_key_by_key(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    lines = (ROOT / "params.yaml").read_text().splitlines(keepends=True)
    new = ("warmup_factor", "whole_image_box", "group_by_aspect")
    path.write_text("".join(line for line in lines if not line.strip().startswith(new)))
    with pytest.raises(InputError) as caught:
        load_params(path)
    assert caught.value.problem == "the key is missing (and 6 more)" and caught.value.key in caught.value.mend
    for line in ("detection.group_by_aspect: true", 'pretrain.whole_image_box: "canvas"'):
        assert f"\n  {line}" in caught.value.mend
    assert caught.value.mend.count("schedule.warmup_factor: 0.001") == 5


def test_params_with_lists_of_sets_say_what_became_of_each_key(values: dict[str, Any]) -> None:
    """As they were before a data set had a name of its own."""
    values["finetune"] |= values["finetune"].pop("sets")
    values["evaluation"] |= {"constrained": True, "lvis_images": "all"}
    values["data"] |= {"sets": ["coco", "lvis"], "files": None}
    del values["data"]["captions"]
    mend = _refused(values).mend
    for line in (
        "data.sets is a mapping now: under each name format, classes, protocol and files",
        "data.files goes: its files stand under data.sets.NAME.files, its captions under data.captions",
        "finetune.coco is finetune.sets.coco now",
        "finetune.lvis is finetune.sets.lvis now",
        "evaluation.constrained goes: choose data.sets.NAME.protocol: constrained for true, generalised for false",
        "evaluation.lvis_images goes: choose data.sets.NAME.protocol: federated (all) or federated_labelled",
        "add data.captions",
        "add finetune.sets",
    ):
        assert f"\n  {line}\n" in f"{mend}\n", line
    assert mend.count("\n") == 8


def test_keys_of_another_version_are_listed(values: dict[str, Any]) -> None:
    values["rpn"]["colour"] = values["rpn"].pop("nms_iou")
    del values["seed"]
    mend = _refused(values).mend
    assert "regionclip profile" in mend and mend.endswith(":\n  add seed\n  add rpn.nms_iou\n  remove rpn.colour")


@pytest.mark.parametrize(
    ("change", "key", "expected"),
    [
        (lambda v: v.update(seed="0"), "seed", "integer"),
        (lambda v: v.update(seed=0.5), "seed", "integer"),
        (lambda v: v.update(seed=True), "seed", "integer"),
        (lambda v: v.update(seed=-1), "seed", "greater than or equal to 0"),
        (lambda v: v["rpn"].update(nms_iou=1.5), "rpn.nms_iou", "less than or equal to 1"),
        (lambda v: v["rpn"].update(anchor_scales=[]), "rpn.anchor_scales", "at least 1 item"),
        (lambda v: v["rpn"].update(anchor_scales=[1.0, "2"]), "rpn.anchor_scales.1", "number"),
        (lambda v: v["rpn"]["schedule"].update(optimizer="Adam"), "rpn.schedule.optimizer", "'SGD' or 'AdamW'"),
        (lambda v: v["rpn"].update(schedule=None), "rpn.schedule", "object"),
        (lambda v: v["data"]["demo"].update(objects_per_scene=[2]), "data.demo.objects_per_scene.1", "missing"),
        (lambda v: v["pretrain"]["losses"].update(image_text=None), "pretrain.losses.image_text", "number"),
    ],
)
def test_ill_typed_value_is_named_with_what_was_expected(
    values: dict[str, Any], change: Callable[[dict[str, Any]], None], key: str, expected: str
) -> None:
    change(values)
    error = _refused(values)
    assert error.key == key and expected in error.problem


def test_several_faults_are_counted(values: dict[str, Any]) -> None:
    values["seed"], values["colour"] = "x", 1
    assert "(and 1 more)" in _refused(values).problem


def test_whole_number_is_a_fraction_too(values: dict[str, Any]) -> None:
    values["pretrain"]["losses"] = {"contrastive": 1, "distillation": 0, "image_text": 2}
    assert check_params(values, "params.yaml").pretrain.losses.contrastive == 1.0


def test_fusion_needs_the_map_that_the_pretrained_head_was_trained_on(values: dict[str, Any]) -> None:
    """So all stages before the head are frozen, and the detector is none of another origin."""
    finetune = values["finetune"]
    finetune |= {"frozen_stages": 4, "initialisations": ["regionclip"]}
    finetune["sets"]["lvis"]["fusion"] = {"base": 0.3, "novel": 0.7}
    assert check_params(values, "params.yaml").finetune.sets["lvis"].fusion.novel == 0.7
    for change in (
        {"frozen_stages": 3},
        {"sets": {**finetune["sets"], "lvis": finetune["sets"]["lvis"] | {"weights": "x"}}},
    ):
        error = _refused({**values, "finetune": finetune | change})
        assert error.key == "finetune.sets.lvis.fusion" and "freeze 4 stages" in error.problem


@pytest.mark.parametrize(("key", "value"), [("masks", True), ("fusion", None)])
def test_pseudo_boxes_have_no_masks_and_a_head_that_is_mixed_in(
    values: dict[str, Any], key: str, value: object
) -> None:
    values["finetune"]["frozen_stages"] = 4
    target = values["finetune"]["sets"]["coco"]
    target |= {"pseudo_boxes": {"score_threshold": 0.6}, "fusion": {"base": 1.0, "novel": 1.0}}
    assert check_params(values, "params.yaml").finetune.sets["coco"].pseudo_boxes.score_threshold == 0.6
    target[key] = value
    error = _refused(values)
    assert error.key == "finetune.sets.coco.pseudo_boxes" and key in error.problem


def test_gradients_need_not_be_clipped(values: dict[str, Any]) -> None:
    values["rpn"]["schedule"]["clip_gradients"] = None
    assert check_params(values, "params.yaml").rpn.schedule.clip_gradients is None


@pytest.mark.parametrize("of", ["zero_shot", "finetune.sets.coco"])
def test_objectness_as_quality_takes_no_score_that_cuts_at_half(values: dict[str, Any], of: str) -> None:
    values["rpn"]["objectness"] = "quality"
    check_params(values, "params.yaml")
    section = values["zero_shot"] if of == "zero_shot" else values["finetune"]["sets"]["coco"]
    section["score_mode"] = "official"
    error = _refused(values)
    assert error.key == f"{of}.score_mode" and "write sigmoid" in error.problem


def test_teacher_needs_the_keys_of_its_source(values: dict[str, Any]) -> None:
    values["teacher"] = {"source": "open_clip", "model": "RN50"}
    error = _refused(values)
    assert error.key == "teacher.weights" and "needs the keys weights" in error.problem
    values["teacher"]["weights"] = "RN50.pt"
    assert check_params(values, "params.yaml").teacher.architecture is None


def test_params_cannot_be_changed() -> None:
    params = profile_params("tiny")
    with pytest.raises(ValidationError):
        params.seed = 1


@pytest.mark.parametrize("content", ["", "- 1\n", "demo\n"])
def test_file_without_keys_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match="key '\\(top level\\)'") as caught:
        load_params(path)
    assert caught.value.file == path


def test_file_that_is_no_yaml_is_named_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("seed: 0\nprofile: [demo\n")
    with pytest.raises(InputError, match=r"params\.yaml: not YAML \(.*line 3"):
        load_params(path)


def test_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"params\.yaml: the file does not exist"):
        load_params(tmp_path / "params.yaml")


def test_official_sets_are_those_of_the_data(values: dict[str, Any]) -> None:
    """A name that nothing stands for would be a demand that is never checked."""
    values["check_data"]["official"] = ["coco2017"]
    assert "names coco2017, which the data leave out" in _refused(values).problem
    profile = profile_values("pretrain_coco_rn50")
    profile["check_data"]["official"] += ["cc3m"]
    assert "names coco_captions and cc3m, and data.captions is one set" in _refused(profile).problem
    profile["check_data"]["official"] = ["flickr30k"]
    assert check_params(profile, "params.yaml").check_data.official == ["flickr30k"]
    profile["check_data"]["official"] = ["flickr"]
    assert _refused(profile).key == "check_data.official.0"


@pytest.mark.parametrize("name", PAPER_PROFILES)
def test_profiles_of_the_paper_use_the_whole_of_their_public_sets(name: str) -> None:
    params = profile_params(name)
    sets = [of.public for of in params.data.sets.values() if of.public]
    captions = params.data.captions
    sets += [] if captions is None else ["cc3m" if captions.file == "datasets/cc3m" else "coco_captions"]
    assert params.check_data.official == sets


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("pretrain.schedule.learning_rate", math.inf),
        ("pseudo_labels.crop_context", math.inf),
        ("pseudo_labels.temperature", 1e-300),
        ("seed", 2**32),
        ("teacher.architecture.text_cfg.heads", 3),
        ("teacher.architecture.vision_cfg.width", 7),
        ("teacher.architecture.vision_cfg.image_size", 48),
        ("pretrain.losses", {"contrastive": 0.0, "distillation": 0.0, "image_text": 0.0}),
        ("pretrain.max_size", 64),
        ("detection.max_size", 64),
        ("data.demo.pair_size", 96),
        ("data.demo.object_size", [48, 24]),
        ("data.demo.object_size", [24, 129]),
        ("data.demo.objects_per_scene", [5, 2]),
        ("data.demo.lvis_dev", 19),
        ("data.sets", {}),
        ("data.sets.coco.classes", "all"),
        ("data.sets.coco.protocol", "closed_set"),
        ("data.sets.lvis.protocol", "generalised"),
        ("data.sets.lvis.classes", {"base": ["star"], "novel": []}),
        ("data.sets.scenes", OWN_SET),
        ("data.sets.Fork lifts", OWN_SET),
        ("rpn.dataset", "forklifts"),
        ("zero_shot.score_threshold.forklifts", {"gt": 0.1, "rpn": 0.1}),
        ("finetune.initialisations", ["clip", "clip"]),
        ("finetune.sets.coco", None),
        ("finetune.sets.coco.weights", "a.pth"),
        ("rpn.anchor_scales", [1.0, 1.0]),
        ("rpn.schedule.milestones", [3, 2]),
        ("rpn.schedule.warmup_iterations", 5),
        ("rpn.weights", "a\0b"),
        ("teacher.source", "folder"),
    ],
)
def test_values_that_no_stage_can_work_with_are_refused_by_their_key(
    values: dict[str, Any], key: str, value: object
) -> None:
    *path, last = key.split(".")
    section = values
    for part in path:
        section = section[part]
    section[last] = value
    named = {
        "finetune.sets.coco.weights": "finetune.initialisations",
        "teacher.source": "teacher.weights",
    }.get(key, key)
    assert _refused(values).key == named


def test_what_the_sources_lack_is_refused(values: dict[str, Any]) -> None:
    for named in (values["data"]["sets"], values["finetune"]["sets"], values["zero_shot"]["score_threshold"]):
        del named["coco"]
    assert _refused(values).key == "rpn.dataset"
    values["finetune"]["sets"]["coco"] = values["finetune"]["sets"]["lvis"]
    assert _refused(values).key == "finetune.sets.coco"
    values = profile_values("tiny")
    values["data"]["sets"]["lvis"] = values["data"]["sets"]["coco"]
    assert _refused(values).key == "data.sets"
    values = profile_values("transfer_coco48_rn50")
    values["data"]["sets"]["coco"]["files"] = None
    assert _refused(values).key == "data.sets.coco.files"
    values = profile_values("pretrain_coco_rn50")
    values["teacher"] = profile_values("demo")["teacher"]
    assert _refused(values).key == "teacher.source"


TEXT = profile_yaml("tiny")


def _read(path: Path, content: bytes) -> InputError:
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_params(path)
    assert caught.value.file == path and caught.value.mend
    return caught.value


def test_numbers_are_what_dvc_takes_them_for(tmp_path: Path) -> None:
    """DVC reads YAML 1.2; in 1.1, 1e-3 is a text and 010 is eight."""
    path = tmp_path / "params.yaml"
    path.write_text(TEXT.replace("seed: 0", "seed: 010").replace("learning_rate: 0.0005", "learning_rate: 5e-4"))
    params = load_params(path)
    assert (params.seed, params.rpn.schedule.learning_rate) == (10, 0.0005)
    path.write_text("\ufeff" + TEXT.replace("\n", "\r\n"), encoding="utf-8", newline="")
    assert load_params(path).seed == 0, "as Windows writes it"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (TEXT.replace("seed: 0", "seed: 0\nseed: 1"), r'duplicate key "seed".*line 4'),
        (TEXT.replace("  max_fraction", "\tmax_fraction"), r"not YAML \(.*line \d\d"),
        (TEXT.replace("profile: tiny", "profile: caf\xe9").encode("latin-1"), r"not UTF-8 text \(byte \d+\)"),
        (TEXT.encode("utf-16"), "not UTF-8 text"),
        ("a: &a [*a]\n", "alias that holds itself"),
        ("b0: &b0 [1, 2]\n" + "".join(f"b{n + 1}: &b{n + 1} [{f'*b{n}, ' * 9}]\n" for n in range(30)), "too many"),
        ("[" * 20_000, "not YAML"),
        ("seed: " + "1" * 5000, "not YAML"),
        ("seed: 2020-13-45", "not YAML"),
        ("seed: 2020-01-02", "neither a number nor a text; got datetime"),
        ("? 2020-01-02\n: 1", "the key datetime.* is no text"),
        ("data: {sets: {13: {}}}", "the key 13 is no text"),
        ("data: {sets: {null: {}}}", "the key None is no text"),
        ("seed: !!binary aGk=", "neither a number nor a text"),
        ("seed: !!python/object/apply:os.getcwd []", "not YAML"),
        ("seed: 1\n---\nseed: 2\n", "not YAML"),
        ("seed: \0", "not YAML"),
    ],
)  # fmt: skip
def test_faults_of_the_file_are_named(tmp_path: Path, content: str | bytes, problem: str) -> None:
    error = _read(tmp_path / "params.yaml", content if isinstance(content, bytes) else content.encode())
    assert re.search(problem, error.problem), error.problem


def test_a_folder_in_the_place_of_the_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Is a directory") as caught:
        load_params(tmp_path)
    assert caught.value.file == tmp_path


@settings(max_examples=200)
@given(
    place=st.integers(0, len(TEXT)),
    cut=st.integers(0, 40),
    put=st.text(max_size=6) | st.sampled_from(["{", "*a", "\t"]),
)
def test_a_spoiled_file_is_read_or_named(place: int, cut: int, put: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "params.yaml"
        path.write_bytes((TEXT[:place] + put + TEXT[place + cut :]).encode("utf-8", "surrogatepass"))
        try:
            load_params(path)
        except InputError as error:
            assert error.file == path and error.mend
