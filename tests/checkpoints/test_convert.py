"""Converted checkpoints are read by MMDetection and open_clip, know their origin, and spare what is in the way."""

from __future__ import annotations

from pathlib import Path

import open_clip
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.logging import HistoryBuffer
from mmengine.registry import DefaultScope

from regionclip.checkpoints.clip_folder import CONFIG, build_clip
from regionclip.checkpoints.convert import to_mmdet, to_open_clip
from regionclip.checkpoints.loading import load_strictly
from regionclip.checkpoints.mmengine_files import read
from regionclip.checkpoints.official import OfficialCheckpoint, read_official
from regionclip.errors import InputError
from regionclip.files import sha256_file
from regionclip.models.region_encoder import part_configs

RN50 = open_clip.get_model_config("RN50")


@pytest.fixture
def finetuned(official, tmp_path: Path) -> Path:
    torch.save({"model": official("ft_coco")}, tmp_path / "finetuned.pth")
    return tmp_path / "finetuned.pth"


@pytest.fixture
def pretrained(official, tmp_path: Path) -> Path:
    torch.save({"model": official("pretrain")}, tmp_path / "pretrained.pth")
    return tmp_path / "pretrained.pth"


@pytest.mark.parametrize(("part", "architecture", "tensors"), [(None, "RN50", 342), ("rpn", "c4", 264)])
def test_mmdet_checkpoint_holds_the_part_and_its_origin(
    finetuned: Path, tmp_path: Path, part: str | None, architecture: str, tensors: int
) -> None:
    out = tmp_path / "out" / "detector.pth"
    assert str(out) in to_mmdet(finetuned, out, part)
    state, meta = read(out)
    official = read_official(finetuned)
    wanted = official.rpn() if part else official.detector()
    assert state.keys() == wanted.keys() and all(torch.equal(value, wanted[key]) for key, value in state.items())
    assert len(state) == tensors
    assert meta == {
        "source": "finetuned.pth", "source_sha256": sha256_file(finetuned), "source_kind": "finetuned",
        "part": part or "detector", "architecture": architecture, "classes": [],
    }  # fmt: skip


def test_student_and_teacher_are_the_image_parts_of_a_detector(pretrained: Path, tmp_path: Path) -> None:
    made = {}
    for part in ("student", "teacher"):
        to_mmdet(pretrained, tmp_path / f"{part}.pth", part)
        made[part] = read(tmp_path / f"{part}.pth")[0]
    assert made["student"].keys() == made["teacher"].keys() and len(made["student"]) == 284 + 55
    key = "roi_head.shared_head.layer4.0.conv1.weight"
    assert not torch.equal(made["student"][key], made["teacher"][key])


def test_open_clip_reads_the_folder(pretrained: Path, tmp_path: Path) -> None:
    """open_clip's own factory builds the model from the folder, with the student's weights in it.

    An earlier CLIP folder is replaced.
    """
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / CONFIG).write_text("{}")
    to_open_clip(pretrained, tmp_path / "clip")
    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{tmp_path / 'clip'}")
    wanted = read_official(pretrained).clip()
    assert all(torch.equal(value, wanted[key]) for key, value in model.state_dict().items())
    assert preprocess.transforms[0].size in (224, (224, 224)) and model.visual.image_size in (224, (224, 224))


def test_our_pretraining_goes_out_to_open_clip(tmp_path: Path) -> None:
    """A training checkpoint of MMEngine, loss history and all: the student in its CLIP, every key in its place."""
    with DefaultScope.overwrite_default_scope("mmdet"), torch.device("meta"):
        student = {"type": "RegionEncoder", **part_configs(RN50["vision_cfg"], RN50["embed_dim"])}
        shapes = MODELS.build({"type": "RegionTextPretrainer", "student": student}).state_dict()
        text = {key: value for key, value in build_clip(RN50).state_dict().items() if not key.startswith("visual.")}
    # As the hook of exported trainings names it.
    shapes |= {f"text_tower.{key}": value for key, value in text.items() if key != "logit_scale"}
    state = {key: torch.tensor(float(number)).expand(v.shape) for number, (key, v) in enumerate(shapes.items())}
    history = HistoryBuffer([1.0], [1])
    torch.save({"state_dict": state, "meta": {"epoch": 1}, "message_hub": {"loss": history}}, tmp_path / "epoch_1.pth")
    checkpoint = read_official(tmp_path / "epoch_1.pth", "pretraining")
    with torch.device("meta"):
        clip = build_clip(checkpoint.clip_config())
    load_strictly(clip, checkpoint.clip(), "epoch_1.pth")
    for key, name in {
        "student.res5.layer4.2.bn3.bias": "visual.layer4.2.bn3.bias",
        "student.attention_pool.k_proj.weight": "visual.attnpool.k_proj.weight",
        "student.backbone.bn1.running_mean": "visual.bn1.running_mean",
        "text_tower.ln_final.bias": "ln_final.bias",
    }.items():
        assert checkpoint.clip()[name].flatten()[0] == state[key].flatten()[0], name
    del state["text_tower.ln_final.bias"]
    with pytest.raises(InputError, match="key 'text_tower.ln_final.bias'.*1 missing"):
        OfficialCheckpoint.from_state(state, "epoch_1.pth")


def test_a_detector_has_no_text_encoder_for_open_clip(finetuned: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="wanted one with a text encoder"):
        to_open_clip(finetuned, tmp_path / "clip")
    with pytest.raises(InputError, match="open_clip has no place for a part 'rpn'"):
        to_open_clip(finetuned, tmp_path / "clip", "rpn")
    assert [path.name for path in tmp_path.iterdir()] == ["finetuned.pth"]


def test_what_is_in_the_way_is_spared(finetuned: Path, tmp_path: Path) -> None:
    before = sha256_file(finetuned)
    for out in (tmp_path, finetuned):
        with pytest.raises(InputError) as caught:
            to_mmdet(finetuned, out)
        assert caught.value.file == out
        with pytest.raises(InputError, match="holds something else, without open_clip_config.json"):
            to_open_clip(finetuned, out)
    assert sha256_file(finetuned) == before and [path.name for path in tmp_path.iterdir()] == ["finetuned.pth"]
