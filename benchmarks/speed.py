"""How much faster than the plain recipe (open_clip's and torchvision's modules, float32, nothing fused), in pairs.

Run ``python -m benchmarks.speed`` on an idle machine (about 40 minutes on two cores), or parts of it by name; a GPU by
``--device cuda``. Both sides of a pair do the same work in turns; their results are compared before they are timed.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import open_clip
import torch
import torch.nn.functional as F
import torchvision
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch import Tensor

from benchmarks.paired import RESULTS, Pair, measure, page
from regionclip.checkpoints.clip_folder import build_clip
from regionclip.files import atomic_path, write_json
from regionclip.mmcv_ops import soft_nms
from regionclip.models.assembly import read_config
from regionclip.models.clip_resnet_c4 import freeze_batch_norm
from regionclip.models.region_encoder import RegionEncoder, describe, load_visual, part_configs
from regionclip.models.region_text_pretrainer import RegionTextPretrainer
from regionclip.text.class_names import COCO_80
from regionclip.text.prompts import REGIONCLIP_81, embed_names, fill

MODEL = "RN50-quickgelu"
TEMPERATURE = 0.01


def region_head(
    device: torch.device, model: str = MODEL, regions: int = 300, side: int = 800, dtype: torch.dtype = torch.float32
) -> Pair:
    """RoIAlign, layer4 and attention pool of the regions of one picture; ``dtype`` is ours, under autocast."""
    visual = _clip(device, model).visual
    encoder = RegionEncoder.from_clip(visual).to(device, memory_format=torch.channels_last).eval()
    boxes = _boxes(regions, side, device)
    features = torch.randn(1, encoder.backbone.out_channels, side // 16, side // 16, device=device)
    ours_features = features.contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def plain() -> Tensor:
        return _plain_regions(visual, features, boxes)

    @torch.no_grad()
    def ours() -> Tensor:
        with _autocast(device, dtype):
            return encoder.encode(ours_features, [boxes])

    return Pair(f"region head, {regions} regions{_told(dtype)}", plain, ours, _difference(plain(), ours()))


def text(device: torch.device, model: str = MODEL, names: int = 12) -> Pair:
    """Class names through the 81 prompts; both sides tokenise."""
    clip = _clip(device, model)
    tokenizer = open_clip.SimpleTokenizer(context_length=clip.context_length)
    chosen = COCO_80[:names]

    @torch.no_grad()
    def plain() -> Tensor:
        prompts = [fill(template, name) for name in chosen for template in REGIONCLIP_81]
        parts = [prompts[start : start + 256] for start in range(0, len(prompts), 256)]
        features = [open_clip.CLIP.encode_text(clip, tokenizer(part).to(device)) for part in parts]
        return torch.cat(features).view(names, len(REGIONCLIP_81), -1).mean(dim=1).cpu()

    def ours() -> Tensor:
        return embed_names(clip, tokenizer, chosen, REGIONCLIP_81, device=device)

    return Pair(f"text, {names} names x {len(REGIONCLIP_81)} prompts", plain, ours, _difference(plain(), ours()))


def gaussian_soft_nms(device: torch.device, proposals: int = 1000, classes: int = 65) -> Pair:
    """The 100 best of all scored boxes, half of them above the threshold; plain is the loop over each class's boxes."""
    boxes = _boxes(proposals, 800, device)
    scores = torch.rand(proposals, classes, generator=torch.Generator().manual_seed(0)).to(device)
    rows, labels = (scores > 0.5).nonzero(as_tuple=True)
    places, found = boxes[rows], scores[rows, labels]

    def plain() -> Tensor:
        kept = [_soft_nms_of_one_class(places[labels == one], found[labels == one]) for one in range(classes)]
        return torch.cat(kept).sort(descending=True).values[:100]

    def ours() -> Tensor:
        return soft_nms(places, found, labels, 100, sigma=0.5, min_score=1e-3, method="gaussian")[1]

    work = f"gaussian soft-NMS, {proposals} proposals x {classes} classes"
    return Pair(work, plain, ours, _difference(plain(), ours()))


def pretraining_step(
    device: torch.device, model: str = MODEL, regions: int = 100, side: int = 800, dtype: torch.dtype = torch.float32
) -> Pair:
    """Losses and gradients of one picture; plain finds and labels its regions in the step, as the official code does.

    That takes an RPN on a ResNet-50 of its own, a teacher and a text tower. Both sides then learn from the same boxes.
    """
    clip = _clip(device, model)
    plain_visual, teacher = copy.deepcopy(clip.visual).train(), _clip(device, model).visual
    for module in plain_visual.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval().requires_grad_(False)
    stem = [name for name, _ in plain_visual.named_parameters() if name.startswith(("conv", "bn", "layer1."))]
    for name in stem:
        plain_visual.get_parameter(name).requires_grad_(False)
    student = {"type": "RegionEncoder", **part_configs(*describe(clip.visual))}
    contrast, distillation = {"type": "RegionConceptContrastiveLoss"}, {"type": "ConceptDistillationLoss"}
    losses = {"contrastive_loss": contrast, "distillation_loss": distillation}
    ours_model = RegionTextPretrainer(student, concept_threshold=0.0, **losses)
    ours_model.student.load_visual_state_dict(clip.visual.state_dict())
    ours_model = ours_model.to(device, memory_format=torch.channels_last).train()
    width = ours_model.student.embed_dim
    bank = F.normalize(torch.randn(6250, width, generator=torch.Generator().manual_seed(1)), dim=1).to(device)
    ours_model.set_concepts(bank)
    images, boxes = torch.randn(1, 3, side, side, device=device), _boxes(regions, side, device)
    tokens = open_clip.SimpleTokenizer(context_length=clip.context_length)(["a person on a horse in a field"])
    with DefaultScope.overwrite_default_scope("mmdet"):
        rpn = MODELS.build(read_config("rpn_r50_c4.py").model).to(device).eval()
    with torch.no_grad():
        probs, index = _taught(teacher, images, boxes, bank).topk(64, dim=1)
    sample = InstanceData(bboxes=boxes, concept_index=index, concept_prob=probs)
    channels_last = images.contiguous(memory_format=torch.channels_last)

    def plain() -> Tensor:
        with torch.no_grad():
            rpn(images, [_sample(side)], mode="predict")
            open_clip.CLIP.encode_text(clip, tokens.to(device))
            taught = _taught(teacher, images, boxes, bank)
        features = _plain_regions(plain_visual, _plain_map(plain_visual, images), boxes)
        logits = F.normalize(features, dim=1) @ bank.T / TEMPERATURE
        labels = taught.argmax(dim=1)
        own = labels[:, None] == labels[None, :]
        contrastive = -(logits[:, labels].softmax(dim=1) * own).sum(dim=1).log().mean()
        top = torch.zeros_like(taught).scatter(1, index, probs)
        loss = contrastive + F.kl_div(logits.log_softmax(dim=1), top, reduction="batchmean")
        loss.backward()
        return loss.detach()

    def ours() -> Tensor:
        with _autocast(device, dtype):
            losses = ours_model(channels_last, [_Sample(sample)], mode="loss")
        loss = losses["loss_contrastive"] + losses["loss_distillation"]
        loss.backward()
        return loss.detach()

    return Pair(f"pretraining step, {regions} regions{_told(dtype)}", plain, ours, _difference(plain(), ours()))


def finetuning_step(
    device: torch.device, model: str = MODEL, regions: int = 512, side: int = 800, pictures: int = 2
) -> Pair:
    """Losses and gradients of MMDetection's Fast R-CNN on COCO's base classes; backbone and losses are the same."""
    detector, plain_detector = _detectors(device, model, {})
    for one in (detector, plain_detector):
        one.train().roi_head.bbox_sampler.num = regions
    images = torch.randn(pictures, 3, side, side, device=device)
    # All are taken, so that no dice decide: less than a quarter of them are objects.
    boxes = _boxes(regions, side, device)
    truth = InstanceData(bboxes=boxes[: regions // 64], labels=torch.arange(regions // 64, device=device) % 48)

    def step(one: BaseModel, memory_format: torch.memory_format) -> Tensor:
        samples = [_sample(side, boxes[len(truth) :], truth) for _ in range(pictures)]
        one.zero_grad()
        losses = one(images.contiguous(memory_format=memory_format), samples, mode="loss")
        total = losses["loss_cls"] + losses["loss_bbox"]
        total.backward()
        last = one.backbone.layer3[-1]
        return torch.stack([total.detach(), *[last.get_submodule(f"conv{i}").weight.grad.norm() for i in (1, 2, 3)]])

    plain = partial(step, plain_detector, torch.contiguous_format)
    ours = partial(step, detector, torch.channels_last)
    work = f"fine-tuning step, {pictures} pictures x {regions} regions"
    return Pair(work, plain, ours, _difference(plain(), ours()), memory=True)


def zero_shot(
    device: torch.device, model: str = MODEL, proposals: int = 1000, side: int = 800, dtype: torch.dtype = torch.float32
) -> Pair:
    """From one picture and its stored proposals to detections of COCO's 65 classes."""
    changes = {"roi_head.bbox_head.with_reg": False, "roi_head.bbox_head.num_classes": 65}
    detector, plain_detector = _detectors(device, model, changes)
    images, boxes = torch.randn(1, 3, side, side, device=device), _boxes(proposals, side, device)
    kept = detector.roi_head.test_cfg

    @torch.no_grad()
    def detect(one: BaseModel, memory_format: torch.memory_format) -> Tensor:
        samples = [_sample(side, boxes)]
        (found,) = one(images.contiguous(memory_format=memory_format), samples, mode="predict")
        scores = found.pred_instances.scores
        # What is not among the detections scores the threshold at most.
        return F.pad(scores, (0, kept.max_per_img - len(scores)), value=kept.score_thr)

    plain = partial(detect, plain_detector, torch.contiguous_format)

    def ours() -> Tensor:
        with _autocast(device, dtype):
            return detect(detector, torch.channels_last)

    work = f"zero-shot, a picture with {proposals} proposals{_told(dtype)}"
    return Pair(work, plain, ours, _difference(plain(), ours()))


def _detectors(device: torch.device, model: str, changes: dict[str, Any]) -> tuple[BaseModel, BaseModel]:
    """Return our Fast R-CNN, and one with torchvision's RoIAlign and open_clip's layer4 and pool in its RoI head."""
    visual = _clip(device, model).visual
    parts = part_configs(*describe(visual))
    pool = {key: value for key, value in parts["attention_pool"].items() if key != "type"}
    config = read_config("ov_fast_rcnn_clip_rn50_c4.py")
    changes = {
        "backbone": parts["backbone"],
        "roi_head.shared_head": parts["res5"],
        "roi_head.bbox_roi_extractor": parts["roi_extractor"],
        "roi_head.bbox_head.attention_pool": pool,
        **changes,
    }
    config.merge_from_dict({f"model.{key}": value for key, value in changes.items()})
    with DefaultScope.overwrite_default_scope("mmdet"):
        ours = MODELS.build(config.model).to(device)
        extractor = MODELS.build(parts["roi_extractor"] | {"type": "SingleRoIExtractor"})
    head = ours.roi_head
    load_visual(visual.state_dict(), ours.backbone, head.shared_head, head.bbox_head.attention_pool)
    classes = torch.randn(head.bbox_head.num_classes, parts["attention_pool"]["output_dim"], device=device)
    head.bbox_head.fc_cls.set_vocabulary(classes)
    plain = copy.deepcopy(ours).eval()
    plain.roi_head.bbox_roi_extractor, plain.roi_head.shared_head = extractor, _PlainRes5(visual.layer4)
    plain.roi_head.bbox_head.attention_pool = visual.attnpool
    return ours.to(memory_format=torch.channels_last).eval(), plain


class _PlainRes5(torch.nn.Sequential):
    def train(self, mode: bool = True) -> torch.nn.Sequential:
        return freeze_batch_norm(super().train(mode))


def _sample(side: int, boxes: Tensor | None = None, truth: InstanceData | None = None) -> DetDataSample:
    sample = DetDataSample(metainfo=dict(img_shape=(side, side), ori_shape=(side, side), scale_factor=(1.0, 1.0)))
    if boxes is not None:
        sample.proposals = InstanceData(bboxes=boxes.clone())
    if truth is not None:
        sample.gt_instances = truth
    return sample


class _Sample(NamedTuple):
    proposals: InstanceData


PAIRS: dict[str, Callable[[torch.device], Pair]] = {
    "head": region_head,
    "head_bfloat16": partial(region_head, dtype=torch.bfloat16),
    "text": text,
    "soft_nms": gaussian_soft_nms,
    "pretrain": pretraining_step,
    "pretrain_bfloat16": partial(pretraining_step, dtype=torch.bfloat16),
    "finetune": finetuning_step,
    "zero_shot": zero_shot,
    "zero_shot_bfloat16": partial(zero_shot, dtype=torch.bfloat16),
}


def main() -> None:
    """Measure what is asked for and write it as JSON and as a page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PAIRS)}; default: all")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--rounds", type=int, default=5, help="of each pair")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of speed_DEVICE.json and .md")
    chosen = parser.parse_args()
    if strange := [part for part in chosen.parts if part not in PAIRS]:
        parser.error(f"no part {strange[0]}; there are {', '.join(PAIRS)}")
    device, file = torch.device(chosen.device), chosen.out / f"speed_{chosen.device}.json"
    found = json.loads(file.read_text(encoding="utf-8"))["pairs"] if file.exists() else {}
    for part in chosen.parts or PAIRS:
        torch.manual_seed(0)
        found[part] = measure(PAIRS[part](device), chosen.rounds, device)
        print(f"{found[part]['work']}: {found[part]['ratio']:.2f} times")
    machine = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "open_clip": open_clip.__version__,
    }
    write_json(file, {"machine": machine, "pairs": found})
    with atomic_path(file.with_suffix(".md")) as beside:
        beside.write_text(page(machine, found), encoding="utf-8")


def _autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


def _told(dtype: torch.dtype) -> str:
    return "" if dtype == torch.float32 else f", ours in {str(dtype).removeprefix('torch.')}"


def _clip(device: torch.device, model: str) -> open_clip.CLIP:
    """Return a CLIP with batch norms that are not the identity, as those of trained weights are not."""
    clip = build_clip(open_clip.get_model_config(model)).to(device).eval()
    for module in clip.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.1)
    return clip


def _boxes(number: int, side: int, device: torch.device) -> Tensor:
    dice = torch.Generator().manual_seed(0)
    corners = torch.rand(number, 2, generator=dice) * side * 0.7
    sizes = torch.rand(number, 2, generator=dice) * side * 0.25 + 16
    return torch.cat([corners, corners + sizes], dim=1).clamp(max=side).to(device)


def _plain_map(visual: torch.nn.Module, images: Tensor) -> Tensor:
    return visual.layer3(visual.layer2(visual.layer1(visual.stem(images))))


def _plain_regions(visual: torch.nn.Module, features: Tensor, boxes: Tensor) -> Tensor:
    size = 2 * round((len(visual.attnpool.positional_embedding) - 1) ** 0.5)
    regions = torchvision.ops.roi_align(features, [boxes], size, 1 / 16, aligned=True)
    return visual.attnpool(visual.layer4(regions))


def _taught(teacher: torch.nn.Module, images: Tensor, boxes: Tensor, bank: Tensor) -> Tensor:
    features = _plain_regions(teacher, _plain_map(teacher, images), boxes)
    return (F.normalize(features, dim=1) @ bank.T / TEMPERATURE).softmax(dim=1)


def _soft_nms_of_one_class(boxes: Tensor, scores: Tensor) -> Tensor:
    """The decayed scores by the loop of arXiv:1704.04503, one box at a time."""
    kept = []
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    while len(scores):
        best = int(scores.argmax())
        kept.append(scores[best])
        sides = torch.minimum(boxes[best, 2:], boxes[:, 2:]) - torch.maximum(boxes[best, :2], boxes[:, :2])
        inter = sides.clamp(min=0).prod(dim=1)
        scores = scores * torch.exp(-((inter / (areas[best] + areas - inter)) ** 2) / 0.5)
        going = scores >= 1e-3
        going[best] = False
        boxes, scores, areas = boxes[going], scores[going], areas[going]
    return torch.stack(kept) if kept else scores


def _difference(plain: Tensor, ours: Tensor) -> float:
    return float((plain.cpu() - ours.cpu()).abs().max() / plain.abs().max())


if __name__ == "__main__":
    main()
