"""Key maps between checkpoint formats, as tables of name templates that are read in both directions.

Sources: microsoft/RegionCLIP ``clip_backbone.py``, ``clip_rcnn.py``, ``fast_rcnn.py``; Detectron2 ``resnet.py``,
``fpn.py``, ``rpn.py``; MMDetection 3.3 ``resnet.py``, ``fpn.py``, ``rpn_head.py``, ``fcn_mask_head.py``; baaivision/EVA
``eva_vit_model.py``, timm ``eva.py``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor


@dataclass(frozen=True)
class KeyMap:
    """An ordered table of (template here, template there); the first that fits a key renames it.

    ``{}`` in a template stands for a number, and a template that is empty or ends in a dot is a prefix: what follows
    it is kept. Both templates of a row have their numbers in the same order.
    """

    rows: tuple[tuple[str, str], ...]

    @cached_property
    def _patterns(self) -> list[tuple[re.Pattern[str], str]]:
        return [(_pattern(here), _replacement(there)) for here, there in self.rows]

    def rename(self, key: str) -> str | None:
        """Return the key's name there, or None where the table has none."""
        for pattern, replacement in self._patterns:
            if match := pattern.fullmatch(key):
                return match.expand(replacement)
        return None

    def inverse(self) -> KeyMap:
        """Return the way back."""
        return KeyMap(tuple((there, here) for here, there in self.rows))

    def apply(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the keys of ``state``; those that the table does not have are left out."""
        return {name: value for key, value in state.items() if (name := self.rename(key)) is not None}


def _is_prefix(template: str) -> bool:
    return not template or template.endswith(".")


def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(r"(\d+)".join(map(re.escape, template.split("{}"))) + ("(.+)" if _is_prefix(template) else ""))


def _replacement(template: str) -> str:
    pieces = template.split("{}")
    numbered = "".join(f"{piece}\\g<{number}>" for number, piece in enumerate(pieces[:-1], 1)) + pieces[-1]
    return numbered + (f"\\g<{len(pieces)}>" if _is_prefix(template) else "")


OFFICIAL_PARTS = KeyMap(
    (
        ("backbone.", "student."),
        ("teacher_backbone.", "teacher."),
        ("lang_encoder.", "text."),
        ("teacher_lang_encoder.", "teacher_text."),
        ("offline_backbone.", "rpn.backbone."),
        ("offline_proposal_generator.", "rpn.proposal_generator."),
        ("roi_heads.", "heads.roi_heads."),
        ("logit_scale", "scale.logit_scale"),
    )
)
"""RegionCLIP's own files to parts: a part stands before the first dot, and behind it the name in the part, which in
visual and text parts is that of open_clip's towers."""

RPN_PARTS = KeyMap((("backbone.", "rpn.backbone."), ("proposal_generator.", "rpn.proposal_generator.")))
"""A Detectron2 proposal network, or a detector whose proposal network is wanted."""

CLIP_PARTS = KeyMap((("visual.", "student."), ("logit_scale", "scale.logit_scale"), ("", "text.")))
"""CLIPs of OpenAI and open_clip."""

PRETRAINER_PARTS = KeyMap(
    (
        ("student.res5.layer4.", "student.layer4."),
        ("student.attention_pool.", "student.attnpool."),
        ("student.backbone.", "student."),
        ("text_tower.", "text."),
    )
)
"""Our own `RegionTextPretrainer`, with the text tower that exported trainings put into checkpoints."""

MODIFIED_RESNET_TO_DETECTOR = KeyMap(
    (
        ("layer4.", "roi_head.shared_head.layer4."),
        ("attnpool.", "roi_head.bbox_head.attention_pool."),
        ("", "backbone."),
    )
)
"""open_clip's image tower to the parts of the open-vocabulary Fast R-CNN."""

HEADS = KeyMap(
    (
        ("roi_heads.box_predictor.cls_score.weight", "roi_head.bbox_head.fc_cls.embeddings"),
        ("roi_heads.box_predictor.bbox_pred.", "roi_head.bbox_head.fc_reg."),
        ("roi_heads.mask_head.deconv.", "roi_head.mask_head.upsample."),
        ("roi_heads.mask_head.predictor.", "roi_head.mask_head.conv_logits."),
    )
)
"""Official box predictor and mask head to ours (``JointMaskHead``, named as the stock ``FCNMaskHead``)."""

EVA = KeyMap(
    (
        ("blocks.{}.attn.q_bias", "blocks.{}.attn.q_proj.bias"),
        ("blocks.{}.attn.v_bias", "blocks.{}.attn.v_proj.bias"),
        ("blocks.{}.attn.inner_attn_ln.", "blocks.{}.attn.norm."),
        ("blocks.{}.mlp.w1.", "blocks.{}.mlp.fc1_g."),
        ("blocks.{}.mlp.w2.", "blocks.{}.mlp.fc1_x."),
        ("blocks.{}.mlp.w3.", "blocks.{}.mlp.fc2."),
        ("blocks.{}.mlp.ffn_ln.", "blocks.{}.mlp.norm."),
        *((f"blocks.{{}}.{part}.", f"blocks.{{}}.{part}.") for part in ("norm1", "norm2")),
        *(
            (f"blocks.{{}}.attn.{part}.", f"blocks.{{}}.attn.{part}.")
            for part in ("q_proj", "k_proj", "v_proj", "proj")
        ),
        *((name, name) for name in ("cls_token", "pos_embed", "patch_embed.", "norm.", "head.")),
    )
)
"""EVA02-CLIP's image tower to timm's. Rotary tables (``rope``), which are computed, have no name there."""

EVA_PARTS = KeyMap(
    (
        *((f"visual.{theirs}", f"student.trunk.{ours}") for theirs, ours in EVA.rows),
        ("text.", "text."),
        ("logit_scale", "scale.logit_scale"),
    )
)
"""EVA-CLIP's own files to parts, the image tower as open_clip holds timm's."""


def _resnet(prefix: str) -> tuple[tuple[str, str], ...]:
    """Detectron2's ResNet below ``prefix`` to MMDetection's: res2 is layer1, a convolution holds its norm."""
    rows = [
        (f"{prefix}stem.conv1.weight", "backbone.conv1.weight"),
        (f"{prefix}stem.conv1.norm.", "backbone.bn1."),
    ]
    for layer in (1, 2, 3, 4):
        block = f"{prefix}res{layer + 1}.{{}}."
        rows += [
            (f"{block}conv{{}}.weight", f"backbone.layer{layer}.{{}}.conv{{}}.weight"),
            (f"{block}conv{{}}.norm.", f"backbone.layer{layer}.{{}}.bn{{}}."),
            (f"{block}shortcut.weight", f"backbone.layer{layer}.{{}}.downsample.0.weight"),
            (f"{block}shortcut.norm.", f"backbone.layer{layer}.{{}}.downsample.1."),
        ]
    return tuple(rows)


# The LSJ network has norms instead of biases in the FPN, and two convolutions in the head.
_FPN = tuple(
    row
    for level in range(4)
    for ours, theirs in (("lateral_convs", "fpn_lateral"), ("fpn_convs", "fpn_output"))
    for row in (
        (f"backbone.{theirs}{level + 2}.norm.", f"neck.{ours}.{level}.bn."),
        (f"backbone.{theirs}{level + 2}.", f"neck.{ours}.{level}.conv."),
    )
)
_HEAD = (
    ("proposal_generator.rpn_head.conv.conv{}.", "rpn_head.rpn_conv.{}.conv."),
    ("proposal_generator.rpn_head.conv.", "rpn_head.rpn_conv."),
    ("proposal_generator.rpn_head.objectness_logits.", "rpn_head.rpn_cls."),
    ("proposal_generator.rpn_head.anchor_deltas.", "rpn_head.rpn_reg."),
)

RPN_C4 = KeyMap(_resnet("backbone.") + _HEAD)
"""Detectron2's proposal network on R50-C4 to MMDetection's. Anchors keep their order (``scale_major=False``)."""

RPN_FPN = KeyMap(_resnet("backbone.bottom_up.") + _FPN + _HEAD)
"""The same on R50-FPN, plain and LSJ."""
