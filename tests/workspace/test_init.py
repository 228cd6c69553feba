"""``data init``: a profile that the stages take, written whole, and the notes that a user needs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from regionclip.artifacts import SETS
from regionclip.cli_data import add_data_commands
from regionclip.data.annotations.splits import write_detection_set
from regionclip.data.layout import load_classes
from regionclip.errors import InputError
from regionclip.params import load_params
from regionclip.workspace.init import init, table

PROFILE = Path("params.yaml")


def _options(toys: Path, **more: Any) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_data_commands(parser)
    files = ["--train", f"{toys}/train.json", "--val", f"{toys}/val.json", "--images", f"{toys}/pictures"]
    chosen = parser.parse_args(["init", *files, "--name", "toys"])
    return argparse.Namespace(**vars(chosen) | more)


def _params(toys: Path, **more: Any) -> tuple[Any, list[str]]:
    _, notes = init(_options(toys, **more), PROFILE)
    return load_params(PROFILE), notes


def test_the_stage_data_takes_what_the_profile_names(toys: Path, clip_path: Path) -> None:
    params, _ = _params(toys, novel=f"{toys}/novel.txt", clip=str(clip_path), captions=f"{toys}/captions.json",
                        captions_images=f"{toys}/pictures")  # fmt: skip
    counts = write_detection_set(SETS, "toys", params.data.sets["toys"])
    assert load_classes("toys").names == ("star", "heart", "ring") and load_classes("toys").novel_names == ("ring",)
    assert counts["val_images"] == 6 and 0 < counts["train_images"] <= 12
    assert (params.teacher.source, params.teacher.weights) == ("folder", str(clip_path))
    assert params.detection.test_short_side == 192 and params.concepts.minimum_count == 2
    assert params.zero_shot.temperature == 0.07  # of fresh weights, as CLIP's paper has it


def test_a_name_that_no_data_set_can_have_is_refused(toys: Path) -> None:
    with pytest.raises(InputError, match="data.sets.Fork lifts"):
        _params(toys, name="Fork lifts")
    assert not PROFILE.exists()


def test_captions_are_read_before_anything_is_written(toys: Path, clip_path: Path) -> None:
    with pytest.raises(InputError, match="there are no captions"):
        _params(toys, clip=str(clip_path), captions="none.json")
    assert not PROFILE.exists()


def test_without_a_clip_the_profile_says_where_one_must_be(toys: Path) -> None:
    params, notes = _params(toys)
    assert (params.teacher.source, params.teacher.model) == ("open_clip", "RN50-quickgelu")
    assert "there is no CLIP at weights/clip_rn50.safetensors" in notes[0] and "cannot train one" in notes[0]
    assert "nothing is pretrained" in notes[1]
    assert params.pretrain.weights == params.teacher.weights


def test_a_regionclip_takes_the_place_of_pretraining(toys: Path, clip_path: Path) -> None:
    params, notes = _params(toys, clip=str(clip_path), regionclip="weights/regionclip.pth")
    assert params.pretrain.weights == "weights/regionclip.pth" and notes == []
    with pytest.raises(InputError, match="exclude each other"):
        _params(toys, captions="c.json", regionclip="weights/regionclip.pth")


def test_a_profile_that_is_there_is_kept_beside(toys: Path) -> None:
    PROFILE.write_text("mine")
    _params(toys)
    assert Path("params.yaml.before").read_text() == "mine"


@pytest.mark.parametrize(("content", "message"), [(None, "does not exist"), ("\n \n", "the file holds no name")])
def test_a_list_of_names_must_be_one(toys: Path, content: str | None, message: str) -> None:
    if content is not None:
        Path("names.txt").write_text(content)
    with pytest.raises(InputError, match=rf"names\.txt: .*{message}"):
        _params(toys, base="names.txt")
    assert not PROFILE.exists()


def test_the_table_shows_each_class_with_its_boxes(toys: Path) -> None:
    own, _ = init(_options(toys, novel=f"{toys}/novel.txt"), PROFILE)
    shown = [list(column.cells) for column in table(own).columns]
    assert shown[:2] == [["star", "heart", "ring"], ["base", "base", "novel"]]
    assert shown[2] == [str(own.boxes["train"][name]) for name in shown[0]]
