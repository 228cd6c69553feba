"""One pretraining step at three concept thresholds: run ``pretrain``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor, nn

from benchmarks.parity.golden_folder import PICTURES, Arrays, GoldenFolder
from benchmarks.parity.gradients import gradient_norms
from benchmarks.parity.probes import Call, recorded, summary
from regionclip.checkpoints.clip_folder import build_clip
from regionclip.checkpoints.official import OfficialCheckpoint
from regionclip.models.assembly import read_config
from regionclip.models.region_encoder import RegionEncoder, part_configs
from regionclip.models.region_text_pretrainer import RegionTextPretrainer
from regionclip.regions.matching import ConceptMatcher

# Ours to the official names of the losses.
LOSSES = {
    "loss_image_text": "loss_img_txt_level",
    "loss_distillation": "loss_region_distill",
    "loss_contrastive": "loss_concept_contrastive",
}
# By concept threshold, what the names of its outputs start with.
PREFIXES = {0.1: "", 0.3: "thres0.3_", 0.5: "thres0.5_"}
# The gradients of which the first entries are kept as well.
_SLICED = (
    "backbone.layer2.0.conv1.weight",
    "backbone.layer3.5.conv3.weight",
    "backbone.layer4.0.conv2.weight",
    "backbone.layer4.2.conv3.weight",
    "backbone.attnpool.positional_embedding",
    "backbone.attnpool.q_proj.weight",
    "backbone.attnpool.v_proj.weight",
    "backbone.attnpool.c_proj.weight",
)


def run(golden: GoldenFolder, thresholds: Sequence[float] = tuple(PREFIXES)) -> Arrays:
    """Return every documented output of ``pretrain``.

    Args:
        golden: The folder.
        thresholds: Of the teacher's probability, a step each.
    """
    checkpoint = golden.checkpoint("pretrain")
    bank = torch.from_numpy(golden.inputs["emb_concept200"])
    model = _pretrainer(checkpoint, bank)
    pictures = [torch.from_numpy(golden.inputs[f"pre_img{name}"]) for name in PICTURES]
    images = model.data_preprocessor(dict(inputs=pictures), training=True)["inputs"]
    boxes = [torch.from_numpy(golden.inputs[f"pre_prop{name}"]) for name in PICTURES]
    arrays, concepts = _teach(checkpoint, images, boxes, bank)
    tokens = torch.from_numpy(golden.inputs["captions"])
    trainable = [key for key, entry in golden.keys("pretrain").items() if entry["trainable"]]
    parameters = _official_parameters(model.student, trainable)
    arrays |= {"preproc": images.numpy(), "pre_trainable": np.array(trainable)}
    with torch.no_grad():
        clip = build_clip(checkpoint.clip_config()).eval()
        clip.load_state_dict(checkpoint.clip())
        texts = clip.encode_text(tokens)
    arrays |= {"text_embs": texts.numpy()}
    return arrays | _steps(model, images, _samples(*concepts, boxes, texts), parameters, thresholds)


def _pretrainer(checkpoint: OfficialCheckpoint, bank: Tensor) -> RegionTextPretrainer:
    cfg = checkpoint.clip_config()
    preprocessor = read_config("ov_fast_rcnn_clip_rn50_c4.py").model.data_preprocessor
    model = RegionTextPretrainer(
        student=dict(type="RegionEncoder", **part_configs(cfg["vision_cfg"], cfg["embed_dim"])),
        contrastive_loss=dict(type="RegionConceptContrastiveLoss"),
        distillation_loss=dict(type="ConceptDistillationLoss"),
        image_text_loss=dict(type="ImageTextContrastiveLoss"),
        whole_image_box="canvas",
        # The pretraining data are RGB.
        data_preprocessor={**preprocessor, "bgr_to_rgb": False},
    )
    model.student.load_visual_state_dict(checkpoint.visual())
    model.set_concepts(bank)
    return model.train()


@torch.no_grad()
def _teach(
    checkpoint: OfficialCheckpoint, images: Tensor, boxes: list[Tensor], bank: Tensor
) -> tuple[Arrays, tuple[Tensor, Tensor]]:
    """Let the teacher label the regions: what it saw and said, and all concepts with their probabilities."""
    cfg = checkpoint.clip_config()
    teacher = MODELS.build(dict(type="RegionEncoder", **part_configs(cfg["vision_cfg"], cfg["embed_dim"]))).eval()
    teacher.load_visual_state_dict(checkpoint.visual(teacher=True))
    features = teacher.forward_features(images)
    regions = teacher.encode(features, boxes)
    index, probs = ConceptMatcher(bank)(regions, len(bank))
    scores, keep = probs[:, 0], _confident(probs[:, 0], 0.1)
    labels = index[keep, 0].long()
    arrays = _maps("teacher", features) | {
        "teacher_feats": regions.numpy(),
        "teacher_concept_probs_kept": torch.zeros_like(probs).scatter_(1, index.long(), probs)[keep].numpy(),
        "matched_index_all": index[:, 0].long().numpy(),
        "matched_score_all": scores.numpy(),
        "keep": keep.numpy(),
        "matched_index_kept": labels.numpy(),
        "label_mtx": (labels[:, None] == labels).numpy().astype(np.uint8),
    }
    return arrays, (index, probs)


def _confident(scores: Tensor, threshold: float) -> Tensor:
    """Return which regions score above the threshold; all of them if none does."""
    keep = scores > threshold
    return keep if keep.any() else torch.ones_like(keep)


def _samples(index: Tensor, probs: Tensor, boxes: list[Tensor], texts: Tensor) -> list[DetDataSample]:
    """Turn the teacher's whole distributions into the data samples of the pretrainer."""
    samples, start = [], 0
    for row, caption in zip(boxes, texts, strict=True):
        rows = slice(start, start := start + len(row))
        samples.append(DetDataSample(caption_features=caption))
        samples[-1].proposals = InstanceData(bboxes=row, concept_index=index[rows].long(), concept_prob=probs[rows])
    return samples


def _steps(
    model: RegionTextPretrainer,
    images: Tensor,
    samples: list[DetDataSample],
    parameters: dict[str, nn.Parameter],
    thresholds: Sequence[float],
) -> Arrays:
    arrays: Arrays = {}
    for threshold in thresholds:
        prefix = PREFIXES[threshold]
        model.zero_grad()
        model.concept_threshold = threshold
        with recorded(_watched(model)) as calls:
            losses = model(images, samples, mode="loss")
        model.parse_losses(losses)[0].backward()
        arrays |= {prefix + official: np.array(float(losses[ours])) for ours, official in LOSSES.items()}
        if prefix:
            scores = torch.cat([sample.proposals.concept_prob[:, 0] for sample in samples])
            arrays[f"{prefix}keep"] = _confident(scores, threshold).numpy()
            arrays |= gradient_norms(prefix.removesuffix("_"), parameters)
        else:
            arrays |= _forward_arrays(calls) | gradient_norms("pre", parameters)
            arrays |= {f"pre_grad|{name}": parameters[name].grad.flatten()[:256].numpy().copy() for name in _SLICED}
    return arrays


def _watched(model: RegionTextPretrainer) -> dict[str, nn.Module]:
    student = model.student
    return {
        "maps": student.backbone,
        "roi_align": student.roi_extractor,
        "feats": student.attention_pool,
    }


def _forward_arrays(calls: dict[str, list[Call]]) -> Arrays:
    """Name what the student gave; regions are embedded first, then whole images."""
    regions, whole = (call.output.detach().numpy() for call in calls["feats"])
    (features,) = calls["maps"][0].output
    return _maps("student", features) | {
        "student_feats": regions,
        "student_global_feats": whole,
        "global_boxes": calls["roi_align"][1].args[1][:, 1:].numpy(),
    }


def _maps(name: str, features: Tensor) -> Arrays:
    return {f"{name}_res4_summary": summary(features), f"{name}_res4_slice": features[:, :8].detach().numpy().copy()}


def _official_parameters(student: RegionEncoder, names: list[str]) -> dict[str, nn.Parameter]:
    homes = {
        "backbone.attnpool.": student.attention_pool,
        "backbone.layer4.": student.res5.layer4,
        "backbone.": student.backbone,
    }
    found = {}
    for name in names:
        prefix = next(prefix for prefix in homes if name.startswith(prefix))
        found[name] = homes[prefix].get_parameter(name.removeprefix(prefix))
    return found
