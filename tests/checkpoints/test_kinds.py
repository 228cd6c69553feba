"""A checkpoint is told by its keys and shapes: what it is, which architecture, and what foreign ones are."""

from __future__ import annotations

import open_clip
import pytest
import torch

from regionclip.checkpoints.kinds import describe_foreign, kind_of, require_architecture, require_kind
from regionclip.errors import InputError


@pytest.mark.parametrize(
    ("run", "kind"),
    [("pretrain", "pretrained"), ("text", "pretrained"), ("ft_coco", "finetuned"), ("zs_lvis_gt", "finetuned")],
)
def test_official_files_by_their_keys(official_keys, run: str, kind: str) -> None:
    assert kind_of(official_keys[run]) == kind


@pytest.mark.parametrize("architecture", ["c4", "fpn", "fpn_lsj"])
def test_proposal_networks_alone_and_cut_out_of_a_file(rpn, architecture: str) -> None:
    """A training file of Detectron2 has a detection head too."""
    state = rpn(architecture)
    assert kind_of(state) == kind_of([f"offline_{key}" for key in state]) == "rpn"
    assert kind_of([*state, "roi_heads.box_predictor.cls_score.weight"]) == "rpn"


def test_a_training_start_is_told_from_a_pretrained_file(official_keys) -> None:
    """The authors' export leaves CLIP's logit scales in it, and a second text encoder."""
    keys = set(official_keys["text"])
    assert kind_of(keys | {"logit_scale"}) == kind_of(keys | {"teacher_lang_encoder.ln_final.bias"}) == "oai_clip"


@pytest.mark.parametrize("name", ["RN50", "RN101", "RN50x4"])
def test_clips_and_their_architectures(name: str, of_architecture) -> None:
    with torch.device("meta"):
        clip = open_clip.CLIP(**open_clip.get_model_config(name)).state_dict()
    assert kind_of(clip) == "clip"
    visual = {key[9:]: value for key, value in of_architecture(name).items() if key.startswith("backbone.")}
    assert require_architecture(visual, "w.pth") == name


@pytest.mark.parametrize("change", ["a block more", "another resolution", "a part missing"])
def test_other_towers_have_no_name(of_architecture, change: str) -> None:
    visual = {key[9:]: value for key, value in of_architecture("RN50").items() if key.startswith("backbone.")}
    if change == "a block more":
        visual["layer3.6.conv1.weight"] = visual["layer3.5.conv1.weight"]
    elif change == "another resolution":
        visual["attnpool.positional_embedding"] = torch.empty(82, 2048, device="meta")
    else:
        del visual["attnpool.c_proj.weight"]
    with pytest.raises(InputError, match=r"w\.pth: the CLIP image tower is none of RN50, RN101, RN50x4"):
        require_architecture(visual, "w.pth")


def test_a_vision_transformer_is_named() -> None:
    with torch.device("meta"):
        vit = open_clip.CLIP(**open_clip.get_model_config("ViT-B-32")).state_dict()
    assert kind_of(vit) is None
    with pytest.raises(InputError, match="this is a CLIP with a vision transformer; wanted a pretrained RegionCLIP"):
        require_kind(vit, "pretrained", "ViT-B-32.pt")


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("backbone.bottom_up.layer1.0.conv1.weight", "proposal network on a CLIP ResNet with a feature pyramid"),
        ("backbone.attnpool.c_proj.bias", "without text encoder or box predictor"),
        ("roi_head.bbox_head.fc_reg.bias", "a detector in MMDetection's names"),
        ("bbox_head.rpn_cls.bias", "a proposal network in MMDetection's names"),
        ("vision_model.embeddings.class_embedding", "Hugging Face"),
        ("something", "1 tensors with unknown names"),
    ],
)
def test_foreign_files_are_described(key: str, words: str) -> None:
    assert kind_of([key]) is None and words in describe_foreign([key])


def test_the_clip_rpn_is_not_taken_for_a_resnet_rpn() -> None:
    """rpn_lvis_1203_clipbackbone: its trunk would not fit MMDetection's ResNet."""
    assert kind_of(["backbone.bottom_up.layer1.0.bn1.bias", "proposal_generator.rpn_head.conv.bias"]) is None


def test_refusal_says_what_it_is_and_what_was_wanted(official_keys) -> None:
    state = dict.fromkeys(official_keys["ft_coco"], torch.ones(1))
    with pytest.raises(InputError) as caught:
        require_kind(state, "pretrained", "ft.pth")
    assert str(caught.value) == (
        "ft.pth: this is a fine-tuned RegionCLIP detector; wanted a pretrained RegionCLIP (student and text encoder). "
        "To mend: give a file such as regionclip_pretrained-cc_rn50.pth."
    )
