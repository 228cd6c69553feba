"""The numbers of the official RegionCLIP code, on RN50 filled by the recipe."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor, nn

from regionclip.models.region_encoder import RegionEncoder
from regionclip.models.text_embedding_classifier import TextEmbeddingClassifier
from regionclip.models.text_tower import CLIPTextTower
from regionclip.models.visual_weights import part_configs
from regionclip.regions.matching import ConceptMatcher

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
PARTS = part_configs(dict(layers=[3, 4, 6, 3], width=64, image_size=224), embed_dim=1024)
SOME = [*range(10), *range(100, 110)]


def _fill(encoder: RegionEncoder, recipe: ModuleType, prefix: str) -> RegionEncoder:
    state = encoder.to_visual_state_dict()
    weights = {key for key in state if not key.endswith("num_batches_tracked")}
    state.update({key: torch.from_numpy(recipe.param(prefix + key, state[key].shape)) for key in weights})
    encoder.load_visual_state_dict(state)
    return encoder.eval()


def _canvas(pictures: list[np.ndarray], height: int, width: int) -> Tensor:
    """Normalise uint8 RGB pictures (3, h, w) and pad them with zeros, right and bottom, to one batch."""
    batch = torch.zeros(len(pictures), 3, height, width)
    for row, picture in zip(batch, pictures, strict=True):
        _, h, w = picture.shape
        pixels = torch.from_numpy(picture).float() / 255
        row[:, :h, :w] = (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    return batch


def _pretraining_batch(recipe: ModuleType) -> Tensor:
    return _canvas([recipe.image("preA", 256, 320, 6)[0], recipe.image("preB", 224, 288, 6)[0]], 256, 320)


def _concepts(recipe: ModuleType) -> Tensor:
    norms = (recipe.uni("emb/concept200/norm", (200, 1)) + 1) / 2 + 0.5
    return torch.from_numpy(recipe.embeddings("emb/concept200", 200) * norms).float()


def _assert_close(actual: Tensor, expected: np.ndarray, tolerance: float = 1e-4) -> None:
    """Compare with a tolerance relative to the largest expected number."""
    expected = torch.from_numpy(np.asarray(expected))
    assert actual.shape == expected.shape
    assert float((actual - expected).abs().max() / expected.abs().max()) < tolerance


@torch.no_grad()
def test_zero_shot_region_classification(recipe: ModuleType, golden: dict[str, Any]) -> None:
    encoder = _fill(RegionEncoder(**PARTS), recipe, "backbone.")
    picture, boxes = recipe.image("imgA", 480, 640, 8)
    features = encoder.forward_features(_canvas([picture], 512, 640))
    _assert_close(features[:, :8, :12, :12], golden["zs_res4_slice"])
    regions = encoder.encode(features, [torch.from_numpy(boxes)])
    _assert_close(regions, golden["zs_feats"])
    classifier = TextEmbeddingClassifier(1024, 66)
    classifier.set_vocabulary(torch.from_numpy(recipe.embeddings("emb/coco65", 65)))
    _assert_close(classifier(regions), golden["zs_logits"])
    weight, bias = (
        recipe.param(f"roi_heads.box_predictor.bbox_pred.{k}", s) for k, s in (("weight", (4, 1024)), ("bias", (4,)))
    )
    deltas = nn.functional.linear(regions, torch.from_numpy(weight), torch.from_numpy(bias))
    _assert_close(deltas, golden["zs_deltas"])


def test_detections_scored_by_class_and_objectness(golden: dict[str, Any]) -> None:
    """Given the official class probabilities, scores, NMS and the best 100 are the official ones."""
    cfg = ConfigDict(score_thr=0.001, nms=dict(type="nms", iou_threshold=0.5), max_per_img=100)
    given = {
        k: torch.from_numpy(golden[f"det_{k}"])
        for k in ("proposals", "objectness", "probs", "boxes", "scores", "classes")
    }
    head = MODELS.build(dict(type="ProposalScoreRoIHead", score_mode="official"))
    found = head._detect(
        InstanceData(bboxes=given["proposals"] * 1.25, scores=given["probs"]), given["objectness"], cfg
    )
    # Neighbours within rounding of each other may swap, so detections are matched by box and class.
    same = (found.bboxes[:, None] - given["boxes"]).abs().amax(dim=2) < 1e-2
    same &= found.labels[:, None] == given["classes"]
    assert len(found) == 100 and (same.sum(dim=1) == 1).all() and (same.sum(dim=0) == 1).all()
    assert torch.allclose(found.scores, given["scores"][same.int().argmax(dim=1)], rtol=1e-5)


@torch.no_grad()
def test_teacher_and_student_region_features_and_teacher_labels(recipe: ModuleType, golden: dict[str, Any]) -> None:
    images = _pretraining_batch(recipe)
    boxes = [torch.from_numpy(b[:10]) for b in golden["pre_boxes"]]
    encoder = RegionEncoder(**PARTS)
    student = _fill(encoder, recipe, "backbone.")(images, boxes)
    _assert_close(student, golden["pre_student_feats"])
    teacher = _fill(encoder, recipe, "teacher_backbone.")(images, boxes)
    _assert_close(teacher, golden["pre_teacher_feats"])
    match = ConceptMatcher(_concepts(recipe), temperature=0.01, threshold=0.1)(teacher)
    assert match.labels.tolist() == golden["pre_labels"][SOME].tolist()
    assert match.keep.tolist() == golden["pre_keep"][SOME].tolist()
    _assert_close(match.scores, golden["pre_scores"][SOME])


@pytest.mark.slow
def test_pretraining_losses_and_gradients(recipe: ModuleType, golden: dict[str, Any]) -> None:
    """One whole step: 200 regions, the text encoder, three losses, 51 gradients."""
    images = _pretraining_batch(recipe)
    boxes = [torch.from_numpy(b) for b in golden["pre_boxes"]]
    with torch.no_grad():
        teacher = _fill(RegionEncoder(**PARTS), recipe, "teacher_backbone.")(images, boxes)
    index, probs = ConceptMatcher(_concepts(recipe))(teacher).top_k(200)
    model = _pretrainer(recipe)
    tokens = torch.from_numpy(golden["captions"])
    _assert_close(model.text_tower(tokens), golden["text_embs"])
    samples = []
    for image in range(2):
        rows = slice(100 * image, 100 * image + 100)
        samples.append(DetDataSample(caption_tokens=tokens[image]))
        samples[-1].proposals = InstanceData(
            bboxes=boxes[image], concept_index=index[rows].long(), concept_prob=probs[rows]
        )
    losses = model(images, samples, mode="loss")
    for name in ("contrastive", "distillation", "image_text"):
        assert float(losses[f"loss_{name}"]) == pytest.approx(float(golden[f"loss_{name}"]), rel=1e-4)
    model.parse_losses(losses)[0].backward()
    _assert_gradients(model.student, dict(zip(golden["grad_names"], golden["grad_norms"], strict=True)))


def _pretrainer(recipe: ModuleType) -> nn.Module:
    text = dict(context_length=77, vocab_size=49408, width=512, heads=8, layers=12)
    tower = CLIPTextTower(1024, text, quick_gelu=True)
    state = tower.state_dict()
    tower.load_state_dict({k: torch.from_numpy(recipe.param(f"lang_encoder.{k}", v.shape)) for k, v in state.items()})
    model = MODELS.build(
        dict(
            type="RegionTextPretrainer",
            **PARTS,
            text_tower=tower,
            contrastive_loss=dict(type="RegionConceptContrastiveLoss"),
            distillation_loss=dict(type="ConceptDistillationLoss"),
            image_text_loss=dict(type="ImageTextContrastiveLoss"),
            whole_image_box="canvas",
        )
    )
    _fill(model.student, recipe, "backbone.")
    model.set_concepts(_concepts(recipe))
    return model.train()


def _assert_gradients(student: RegionEncoder, norms: dict[str, float]) -> None:
    """Compare the norm of each gradient; the key bias has none in theory, so its rounding noise is left out."""
    official = {
        name: parameter.grad
        for module, prefix in ((student.backbone, ""), (student.res5, ""), (student.attention_pool, "attnpool."))
        for name, parameter in ((f"backbone.{prefix}{k}", v) for k, v in module.named_parameters())
        if parameter.requires_grad
    }
    assert set(official) == set(norms)
    for name, norm in norms.items():
        if not name.endswith("k_proj.bias"):
            assert float(official[name].double().norm()) == pytest.approx(norm, rel=2e-4), name
