"""From a CLIP folder and params to a built MMDetection model with CLIP's weights in it, whose ``cfg`` is its config."""

from __future__ import annotations

import copy
import logging
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope

from regionclip.checkpoints.clip_folder import ClipFolder
from regionclip.checkpoints.loading import Uninitialised
from regionclip.errors import InputError
from regionclip.models.clip_patch_map import CLIPPatchMap
from regionclip.models.region_encoder import RegionEncoder, load_visual, part_configs
from regionclip.models.region_text_pretrainer import RegionTextPretrainer
from regionclip.params.stages import ANCHOR_SIDE, Pretrain, Rpn

CONFIGS = Path(__file__).parent / "configs"
_LOSSES = {
    "contrastive": "RegionConceptContrastiveLoss",
    "distillation": "ConceptDistillationLoss",
    "image_text": "ImageTextContrastiveLoss",
    "classification": "ConceptClassificationLoss",
}
# More anchors lie on an object where each learns how well. Little counts as background: objects may have no box.
_QUALITY = {
    "rpn_head.type": "QualityRPNHead",
    "train_cfg.rpn.assigner": {"pos_iou_thr": 0.3, "neg_iou_thr": 0.1},
    "train_cfg.rpn.sampler.neg_pos_ub": 1,
}


def read_config(name: str) -> Config:
    """Read one of the package's MMEngine configs by its file name."""
    return copy.deepcopy(_read(name))


@cache
def _read(name: str) -> Config:
    # MMEngine reads MMDetection's hundred metafiles each time: half a second.
    return Config.fromfile(CONFIGS / name)


def clip_preprocessor(encoder: RegionEncoder | None) -> BaseModel:
    """Build what normalises pictures for CLIP: uint8 BGR of MMDetection's pipelines to padded batches.

    Args:
        encoder: What reads them, of whose patches none may be cut; None takes any size.
    """
    settings = read_config("ov_fast_rcnn_clip_rn50_c4.py").model.data_preprocessor
    return _build({**settings, "pad_size_divisor": encoder.divisor if encoder else 1})


def build_rpn(clip: ClipFolder, params: Rpn, *, nms_iou: float, proposals: int, filled: bool = True) -> BaseModel:
    """Build an RPN: on CLIP's own maps with CLIP's weights, or one of the official ones on a ResNet-50.

    Args:
        clip: The CLIP; only architectures ``clip_c4`` and ``clip_fpn`` use it.
        params: Section ``rpn``.
        nms_iou: IoU above which the lower of two proposals is dropped.
        proposals: Proposals kept an image.
        filled: With weights, CLIP's where it has them; not where those of a checkpoint are loaded over all of them.
    """
    own_trunk = not params.architecture.startswith("clip_")
    names = {"clip_c4": "rpn_clip_rn50_c4.py", "clip_fpn": "rpn_fvit.py"}
    file = read_config(names.get(params.architecture, f"rpn_{params.architecture}.py"))
    if params.objectness == "quality":
        file.merge_from_dict({f"model.{key}": value for key, value in _QUALITY.items()})
    config = file.model
    config.rpn_head.anchor_generator.scales = list(params.anchor_scales)
    nms = {"type": "nms", "iou_threshold": nms_iou}
    config.test_cfg.rpn.update(nms_pre=params.pre_nms, max_per_img=proposals, nms=nms)
    if own_trunk:
        # MMDetection counts a ResNet's stem as stage 0; -1 freezes nothing.
        config.backbone.frozen_stages = params.frozen_stages - 1
        if filled and params.backbone_weights:
            config.backbone.init_cfg = {"type": "Pretrained", "checkpoint": params.backbone_weights}
        return _build(config, filled)
    if params.architecture == "clip_fpn":
        changes = _pyramid(clip, "rpn_head.anchor_generator.strides", levels=5)
        file.merge_from_dict({f"model.{key}": value for key, value in changes.items()})
        model = _build(file.model, filled)
        if filled:
            _fill(clip, model.backbone)
        return model
    parts = _parts(clip, params.frozen_stages)
    channels, (stride,) = (parts["roi_extractor"][key] for key in ("out_channels", "featmap_strides"))
    config.backbone = parts["backbone"]
    config.rpn_head.update(in_channels=channels, feat_channels=channels)
    config.rpn_head.anchor_generator.update(strides=[stride], base_sizes=[ANCHOR_SIDE])
    if "res5" not in parts:
        config.data_preprocessor.pad_size_divisor = stride
    model = _build(config, filled)
    if filled:
        # The parts that an RPN lacks are built and dropped.
        _fill(clip, model.backbone, *(_build(parts[name]) for name in ("res5", "attention_pool") if name in parts))
    return model


def build_detector(
    clip: ClipFolder,
    overrides: dict[str, Any],
    frozen_stages: int = 2,
    *,
    masks: bool = False,
    trained: bool = False,
    filled: bool = True,
) -> BaseModel:
    """Build the open-vocabulary Fast R-CNN with CLIP's backbone, layer4 and attention pool in it.

    Args:
        clip: The CLIP.
        overrides: Changes to ``model`` of ``ov_fast_rcnn_clip_rn50_c4.py``, keys dotted.
        frozen_stages: See `CLIPResNetC4`.
        masks: Add the class-agnostic mask head of ``ov_mask_rcnn_clip_rn50_c4.py``.
        trained: It is to be trained, or was: that of a transformer is F-ViT then, ``ov_fvit.py``.
        filled: See `build_rpn`; a head that stays as it was before the training has CLIP's weights anyway.
    """
    parts = _parts(clip, frozen_stages)
    resnet = "res5" in parts
    if masks and not resnet:
        mend = "set its masks: false; or use a CLIP ResNet"
        raise InputError("only CLIP ResNets have a mask head here", key="finetune.sets", mend=mend)
    if trained and not resnet and _sizes(clip).blocks:
        if "roi_head.pseudo_labels" in overrides:
            mend = "set its pseudo_boxes: null; or use a CLIP ResNet"
            raise InputError("only CLIP ResNets learn pseudo boxes here", key="finetune.sets", mend=mend)
        return _fvit(clip, parts["roi_extractor"], overrides, filled)
    if not resnet and "roi_head.fusion" in overrides:
        mend = "set its fusion: null; or use a CLIP with a transformer, or a ResNet"
        raise InputError("this CLIP has no frozen head beside the trained one", key="finetune.sets", mend=mend)
    config = read_config("ov_mask_rcnn_clip_rn50_c4.py" if masks else "ov_fast_rcnn_clip_rn50_c4.py")
    if masks:
        # A mask is as large as the regions that are pooled: layer4 halves them, the head doubles them.
        side, width = parts["roi_extractor"]["roi_layer"]["output_size"], parts["res5"]["width"]
        overrides = {"roi_head.mask_head.in_channels": width * 32, "train_cfg.rcnn.mask_size": side, **overrides}
    if resnet:
        parts["attention_pool"].pop("type")
    else:
        extractor = parts["roi_extractor"]
        sizes = {"data_preprocessor.pad_size_divisor": extractor["featmap_strides"][0]}
        overrides = {"roi_head.bbox_head.in_channels": extractor["out_channels"], **sizes, **overrides}
    named = {
        "backbone": parts["backbone"],
        "roi_head.shared_head": parts.get("res5"),
        "roi_head.bbox_roi_extractor": parts["roi_extractor"],
        "roi_head.bbox_head.attention_pool": parts.get("attention_pool"),
    }
    # A part takes the place of the config's, which may be of another kind of CLIP.
    whole = {key: part and {"_delete_": True, **part} for key, part in named.items()}
    config.merge_from_dict({f"model.{key}": value for key, value in (whole | overrides).items()})
    model = _build(config.model, filled)
    head = model.roi_head
    if filled or "roi_head.fusion" in overrides:
        _fill(clip, model.backbone, *((head.shared_head, head.bbox_head.attention_pool) if resnet else ()))
    return model


def _fvit(clip: ClipFolder, region_extractor: dict[str, Any], overrides: dict[str, Any], filled: bool) -> BaseModel:
    changes = {
        **_pyramid(clip, "roi_head.bbox_roi_extractor.featmap_strides", levels=4),
        "roi_head.region_extractor": region_extractor,
        "roi_head.bbox_head.cls_predictor_cfg.embed_dim": clip.model_cfg["embed_dim"],
        # One head knows all kinds of scores.
        **{key: value for key, value in overrides.items() if key != "roi_head.type"},
    }
    config = read_config("ov_fvit.py")
    config.merge_from_dict({f"model.{key}": value for key, value in changes.items()})
    model = _build(config.model, filled)
    if filled:
        _fill(clip, model.backbone)
    return model


def _pyramid(clip: ClipFolder, strides: str, levels: int) -> dict[str, Any]:
    """Return the changes that put a transformer under a config of F-ViT; ``strides`` is the key of the levels'."""
    parts = _parts(clip, 5)
    patch = None if "res5" in parts else _sizes(clip)
    if patch is None or not patch.blocks:
        mend = "use another rpn.architecture, or a CLIP with a transformer"
        raise InputError("a pyramid of blocks needs a vision transformer", file=clip.path, mend=mend)
    # A third, a half, two thirds and all of the blocks.
    wanted = [max(round(patch.blocks * share) - 1, 0) for share in (1 / 3, 1 / 2, 2 / 3, 1)]
    return {
        **{f"backbone.{key}": value for key, value in parts["backbone"].items()},
        "backbone.out_blocks": wanted,
        "neck.in_channels": patch.width,
        "data_preprocessor.pad_size_divisor": 2 * patch.stride,
        strides: [patch.stride * 2.0**power for power in range(-2, levels - 2)],
    }


def _sizes(clip: ClipFolder) -> CLIPPatchMap:
    """Build the backbone of a CLIP that is no ResNet without its weights."""
    with torch.device("meta"):
        return MODELS.build(_parts(clip, 5)["backbone"])


def build_pretrainer(clip: ClipFolder, params: Pretrain) -> RegionTextPretrainer:
    """Build the region-text pretrainer, its student filled from a CLIP.

    Args:
        clip: The CLIP that the student starts from.
        params: Section ``pretrain``; a loss of weight 0 is left out.
    """
    preprocessor = read_config("ov_fast_rcnn_clip_rn50_c4.py").model.data_preprocessor
    config = {
        "type": "RegionTextPretrainer",
        "student": {"type": "RegionEncoder", **_parts(clip, params.frozen_stages)},
        "concept_threshold": params.threshold,
        "whole_image_box": params.whole_image_box,
        "micro_batch": params.schedule.micro_batch,
        # Its data set gives RGB.
        "data_preprocessor": {**preprocessor, "bgr_to_rgb": False},
    }
    for loss, kind in _LOSSES.items():
        if weight := getattr(params.losses, loss):
            config[f"{loss}_loss"] = {"type": kind, "temperature": params.temperature, "loss_weight": weight}
    if weight := params.losses.crop_distillation:
        config["crop_distillation_loss"] = {"type": "CropDistillationLoss", "loss_weight": weight}
        cfg = clip.model_cfg
        config["original"] = {key: cfg[key] for key in ("embed_dim", "vision_cfg", "quick_gelu") if key in cfg}
    if "res5" not in config["student"]:
        stride = config["student"]["roi_extractor"]["featmap_strides"][0]
        config["data_preprocessor"]["pad_size_divisor"] = stride
    model = _build(config)
    if weight:
        model.original.load_state_dict(clip.model().visual.state_dict())
    _fill(clip, model.student.backbone, model.student.res5, model.student.attention_pool)
    return model


def _build(config: dict[str, Any], filled: bool = True) -> BaseModel:
    # MMDetection's own parts look for each other in the default scope, which only a Runner sets.
    with DefaultScope.overwrite_default_scope("mmdet"), nullcontext() if filled else Uninitialised():
        model = MODELS.build(config)
    if filled and hasattr(model, "init_weights"):
        # It prints a paragraph for every parameter.
        logging.disable(logging.INFO)
        try:
            model.init_weights()
        finally:
            logging.disable(logging.NOTSET)
    model.cfg = ConfigDict(config)
    return model


def _parts(clip: ClipFolder, frozen_stages: int) -> dict[str, dict[str, Any]]:
    cfg = clip.model_cfg
    gelu = cfg.get("quick_gelu", False)
    return part_configs(cfg["vision_cfg"], cfg["embed_dim"], frozen_stages=frozen_stages, quick_gelu=gelu)


def _fill(clip: ClipFolder, *parts: Any) -> None:
    # By way of the whole CLIP, whose strict loading names the file and the key at fault.
    load_visual(clip.model().visual.state_dict(), *parts)
