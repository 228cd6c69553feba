"""The tables rename official keys as the key lists and Detectron2's sources say, and back."""

from __future__ import annotations

import pytest
import torch

from regionclip.checkpoints.key_maps import (
    CLIP_PARTS,
    HEADS,
    MODIFIED_RESNET_TO_DETECTOR,
    OFFICIAL_PARTS,
    RPN_C4,
    RPN_FPN,
    KeyMap,
)


@pytest.mark.parametrize(
    ("table", "key", "name"),
    [
        (RPN_C4, "backbone.stem.conv1.weight", "backbone.conv1.weight"),
        (RPN_C4, "backbone.stem.conv1.norm.running_var", "backbone.bn1.running_var"),
        (RPN_C4, "backbone.res2.0.shortcut.weight", "backbone.layer1.0.downsample.0.weight"),
        (RPN_C4, "backbone.res3.0.shortcut.norm.bias", "backbone.layer2.0.downsample.1.bias"),
        (RPN_C4, "backbone.res4.5.conv3.norm.weight", "backbone.layer3.5.bn3.weight"),
        (RPN_C4, "proposal_generator.rpn_head.conv.weight", "rpn_head.rpn_conv.weight"),
        (RPN_C4, "proposal_generator.rpn_head.objectness_logits.bias", "rpn_head.rpn_cls.bias"),
        (RPN_C4, "proposal_generator.rpn_head.anchor_deltas.weight", "rpn_head.rpn_reg.weight"),
        (RPN_FPN, "backbone.bottom_up.res5.2.conv1.weight", "backbone.layer4.2.conv1.weight"),
        (RPN_FPN, "backbone.fpn_lateral2.weight", "neck.lateral_convs.0.conv.weight"),
        (RPN_FPN, "backbone.fpn_output5.bias", "neck.fpn_convs.3.conv.bias"),
        (RPN_FPN, "backbone.fpn_output3.norm.running_mean", "neck.fpn_convs.1.bn.running_mean"),
        (RPN_FPN, "proposal_generator.rpn_head.conv.conv1.bias", "rpn_head.rpn_conv.1.conv.bias"),
        (HEADS, "roi_heads.box_predictor.bbox_pred.bias", "roi_head.bbox_head.fc_reg.bias"),
        (HEADS, "roi_heads.mask_head.predictor.weight", "roi_head.mask_head.conv_logits.weight"),
        (MODIFIED_RESNET_TO_DETECTOR, "layer4.0.bn1.bias", "roi_head.shared_head.layer4.0.bn1.bias"),
        (MODIFIED_RESNET_TO_DETECTOR, "attnpool.q_proj.bias", "roi_head.bbox_head.attention_pool.q_proj.bias"),
        (MODIFIED_RESNET_TO_DETECTOR, "layer3.5.conv1.weight", "backbone.layer3.5.conv1.weight"),
    ],
)
def test_names_by_hand(table: KeyMap, key: str, name: str) -> None:
    assert table.rename(key) == name and table.inverse().rename(name) == key


@pytest.mark.parametrize("key", ["backbone.res6.0.conv1.weight", "backbone.res2.x.conv1.weight", "roi_heads.x", ""])
def test_a_key_that_the_table_lacks_has_no_name(key: str) -> None:
    assert RPN_C4.rename(key) is None
    assert RPN_C4.apply({key: torch.ones(1)}) == {}


@pytest.mark.parametrize(("architecture", "table"), [("c4", RPN_C4), ("fpn", RPN_FPN), ("fpn_lsj", RPN_FPN)])
def test_every_official_key_goes_there_and_back(rpn, architecture: str, table: KeyMap) -> None:
    """One name a key, and the same key again: nothing is lost and nothing collides."""
    state = rpn(architecture)
    renamed = table.apply(state)
    assert len(renamed) == len(state)
    assert list(table.inverse().apply(renamed)) == list(state)


def test_prefixes_inside_words_are_not_confused() -> None:
    """`backbone.` also ends `offline_backbone.` and `teacher_backbone.`."""
    keys = ["backbone.conv1.bias", "teacher_backbone.conv1.bias", "offline_backbone.stem.bias", "x.backbone."]
    renamed = OFFICIAL_PARTS.apply(dict.fromkeys(keys, torch.ones(1)))
    assert list(renamed) == ["student.conv1.bias", "teacher.conv1.bias", "rpn.backbone.stem.bias"]


@pytest.mark.parametrize("run", ["pretrain", "ft_coco", "text"])
def test_official_parts_join_to_the_official_keys(official, run: str) -> None:
    state = official(run)
    renamed = OFFICIAL_PARTS.apply(state)
    assert len(renamed) == len(state)
    assert OFFICIAL_PARTS.inverse().apply(renamed).keys() == state.keys()


def test_clip_keys_split_into_towers() -> None:
    keys = ["visual.layer4.0.bn1.bias", "logit_scale", "positional_embedding", "transformer.resblocks.0.ln_1.bias"]
    names = ["student.layer4.0.bn1.bias", "scale.logit_scale", f"text.{keys[2]}", f"text.{keys[3]}"]
    assert [CLIP_PARTS.rename(key) for key in keys] == names
    assert [CLIP_PARTS.inverse().rename(name) for name in names] == keys
