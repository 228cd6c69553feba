"""Detectors of CLIPs that are no ResNets: the untrained one and its RPN; F-ViT: its levels, a hand-checked loss, what
trains, detection with the CLIP's word.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from torch.nn import functional as F

from regionclip.checkpoints.clip_folder import ClipFolder, build_clip, save_clip
from regionclip.checkpoints.loading import load_strictly
from regionclip.models.assembly import build_detector, build_rpn
from regionclip.models.region_encoder import RegionEncoder
from regionclip.regions.matching import cosine_logits
from tests.conftest import profile_params
from tests.models.conftest import CONVNEXT, TEXT, VIT

BOXES = torch.tensor([[8.0, 8, 60, 60], [40, 20, 120, 90], [0, 0, 16, 16], [70, 10, 100, 50]])
SHARES = {"base": 0.1, "novel": 0.8}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> ClipFolder:
    return _clip(tmp_path_factory.mktemp("vit") / "clip", VIT)


def _clip(path: Path, vision: dict) -> ClipFolder:
    torch.manual_seed(0)
    config = dict(embed_dim=24, quick_gelu=True, vision_cfg=vision, text_cfg=TEXT)
    save_clip(path, config, build_clip(config).state_dict(), {})
    return ClipFolder.open(path)


def _detector(folder: ClipFolder, **more: object) -> BaseModel:
    torch.manual_seed(0)
    settings = {"roi_head.bbox_head.num_classes": 2, "test_cfg.rcnn.score_thr": 0.0}
    # All regions take part.
    settings |= {"train_cfg.rcnn.sampler.num": 8, "train_cfg.rcnn.sampler.pos_fraction": 1.0}
    model = build_detector(folder, settings | more, trained=True)
    model.roi_head.bbox_head.fc_cls.set_vocabulary(torch.randn(2, 24))
    return model


def _batch(model: BaseModel, *, training: bool) -> dict:
    torch.manual_seed(1)
    sample = DetDataSample(metainfo=dict(img_shape=(96, 128), ori_shape=(96, 128), scale_factor=(1.0, 1.0)))
    sample.gt_instances = InstanceData(bboxes=BOXES[:2], labels=torch.tensor([0, 1]))
    sample.proposals = InstanceData(bboxes=BOXES, scores=torch.zeros(4))
    picture = torch.randint(256, (3, 96, 128), dtype=torch.uint8)
    return model.data_preprocessor({"inputs": [picture], "data_samples": [sample]}, training)


def test_levels_are_of_four_blocks_and_the_embeddings_follow(folder: ClipFolder) -> None:
    """Strides 4 to 64, and the CLIP's own map; what doubles a map does as the definition says."""
    model = _detector(folder).eval()
    assert model.backbone.out_blocks == (0, 1, 2, 3)
    maps = model.extract_feat(torch.randn(1, 3, 96, 128))
    assert [tuple(level.shape[1:]) for level in maps] == [
        (256, 24, 32), (256, 12, 16), (256, 6, 8), (256, 3, 4), (256, 2, 2), (24, 6, 8),
    ]  # fmt: skip
    inner = model.backbone(torch.randn(1, 3, 96, 128))
    doubled = model.neck.scales[1](inner[1])
    weight, bias = model.neck.scales[1].weight, model.neck.scales[1].bias
    # A transposed convolution of 2 by 2: each place fills its own four.
    expected = torch.einsum("c,cdyx->dyx", inner[1][0, :, 2, 3], weight) + bias[:, None, None]
    torch.testing.assert_close(doubled[0, :, 4:6, 6:8], expected)


def test_a_step_has_the_losses_of_their_definition_and_leaves_the_clip_alone(folder: ClipFolder) -> None:
    model = _detector(folder).train()
    data = _batch(model, training=True)
    losses = model(**data, mode="loss")
    # Proposals and true boxes: two of each object, the other two are background.
    rois = F.pad(torch.cat([BOXES[:2], BOXES]), (1, 0))
    labels = torch.tensor([0, 1, 0, 1, 2, 2])
    with torch.no_grad():
        found = model.roi_head._bbox_forward(model.extract_feat(data["inputs"]), rois)
    entropy = F.cross_entropy(found["cls_score"], labels, reduction="none")
    weights = torch.tensor([1, 1, 1, 1, 0.6, 0.6])
    assert float(losses["loss_cls"]) == pytest.approx(float((weights * entropy).sum() / weights.sum()), rel=1e-4)
    # The boxes of the objects are true already: all deltas should be 0.
    assert float(losses["loss_bbox"]) == pytest.approx(float(found["bbox_pred"][:4].abs().sum() / 6), rel=1e-4)
    sum(value for name, value in losses.items() if "loss" in name).backward()
    trained = {name for name, value in model.named_parameters() if value.grad is not None and value.grad.any()}
    assert not any(name.startswith("backbone") for name in trained)
    parts = ("neck.scales", "neck.fpn", "roi_head.bbox_head.shared_convs", "roi_head.bbox_head.fc_cls.log_scale")
    assert all(any(name.startswith(part) for name in trained) for part in parts)


def test_detection_mixes_in_what_the_clip_says(folder: ClipFolder) -> None:
    """Scores are tuned^(1 - w) x clip^w of each class: w is 0.1 for the training's names, and 0.8 for a new one."""
    model = _detector(folder, **{"roi_head.fusion": SHARES}).eval()
    head, classify = model.roi_head, model.roi_head.bbox_head.fc_cls
    torch.nn.init.normal_(classify.projection.weight)
    head.freeze()
    classify.set_vocabulary(torch.cat([head.frozen_classes[:1], torch.randn(1, 24)]))
    data = _batch(model, training=False)
    maps = model.extract_feat(data["inputs"])
    rois = F.pad(BOXES, (1, 0))
    found = head._bbox_forward(maps, rois)["cls_score"].softmax(dim=1)
    # The third box is one place of the CLIP's map, whose middle is the only sample of it.
    region = maps[-1][0, :, 0, 0]
    clip = F.pad(cosine_logits(region[None], classify.embeddings, 1 / 75), (0, 1)).softmax(dim=1)[0]
    head.fusion = None
    tuned = head._bbox_forward(maps, rois)["cls_score"].softmax(dim=1)[2]
    shares = torch.tensor([0.1, 0.8])
    expected = tuned[:2] ** (1 - shares) * clip[:2] ** shares
    torch.testing.assert_close(found[2, :2], expected / max(1.0, float(expected.sum())), rtol=1e-4, atol=1e-6)
    assert not torch.allclose(found[2], tuned, atol=1e-3)
    boxes = model(**data, mode="predict")[0].pred_instances
    assert len(boxes) and boxes.scores.isfinite().all() and (boxes.bboxes[:, 2:] > boxes.bboxes[:, :2]).all()


@pytest.mark.parametrize("vision", [VIT, CONVNEXT], ids=["vit", "convnext"])
def test_untrained_detector_says_what_the_clip_says(tmp_path: Path, vision: dict) -> None:
    clip = _clip(tmp_path / "clip", vision)
    model = build_detector(clip, {"roi_head.bbox_head.num_classes": 2, "test_cfg.rcnn.score_thr": 0.0}).eval()
    head, words = model.roi_head.bbox_head, torch.randn(2, 24)
    head.fc_cls.set_vocabulary(words)
    data = _batch(model, training=False)
    found = model.roi_head._bbox_forward(model.extract_feat(data["inputs"]), F.pad(BOXES, (1, 0)))["cls_score"]
    encoder = RegionEncoder.from_clip(clip.model().visual).eval()
    regions = encoder(data["inputs"], [BOXES])
    expected = cosine_logits(regions, words, head.fc_cls.temperature)
    torch.testing.assert_close(found[:, :2], expected, rtol=1e-4, atol=1e-4)
    boxes = model(**data, mode="predict")[0].pred_instances
    assert len(boxes) and boxes.scores.isfinite().all()


@pytest.mark.parametrize(("vision", "stride"), [(VIT, 16), (CONVNEXT, 32)], ids=["vit", "convnext"])
def test_anchors_lie_on_the_clips_own_map(tmp_path: Path, vision: dict, stride: int) -> None:
    """Each in the corner of its place, as large as the params say: scales of 16 pixels."""
    params = profile_params("tiny").rpn.model_copy(update={"anchor_scales": (2.0,)})
    model = build_rpn(_clip(tmp_path / "clip", vision), params, nms_iou=0.7, proposals=9).eval()
    batch = _batch(model, training=False)
    (features,) = model.extract_feat(batch["inputs"])
    assert features.shape[2:] == (96 // stride, 128 // stride)
    (anchors,) = model.bbox_head.prior_generator.grid_priors([features.shape[2:]], device="cpu")
    places = anchors.view(96 // stride, 128 // stride, -1, 4)
    step = torch.tensor([2.0, 1, 2, 1]) * stride
    torch.testing.assert_close(places[1, 2], places[0, 0] + step)
    sides = anchors[:, 2:] - anchors[:, :2]
    torch.testing.assert_close(sides.prod(dim=1), torch.full((len(sides),), 32.0**2))
    assert len(model(**batch, mode="predict")[0].pred_instances)
    uneven = model.data_preprocessor({"inputs": [torch.zeros(3, 90, 100)], "data_samples": None})["inputs"]
    assert uneven.shape[2:] == (96, 128 if stride == 32 else 112)


@pytest.mark.parametrize("kind", ["rpn", "detector"])
def test_what_a_checkpoint_is_loaded_over_lacks_nothing(folder: ClipFolder, kind: str) -> None:
    rpn = partial(build_rpn, folder, profile_params("tiny_vit").rpn, nms_iou=0.7, proposals=9)
    build = rpn if kind == "rpn" else partial(build_detector, folder, {}, trained=True)
    whole, model = build(), build(filled=False)
    load_strictly(model, whole.state_dict(), "x.pth")
    expected = dict(whole.named_buffers())
    assert all(torch.equal(buffer, expected.pop(name)) for name, buffer in model.named_buffers()) and not expected


def test_rpn_on_the_same_pyramid(folder: ClipFolder) -> None:
    params = profile_params("tiny_vit").rpn
    model = build_rpn(folder, params, nms_iou=0.7, proposals=9)
    losses = model(**_batch(model, training=True), mode="loss")
    total, _ = model.parse_losses(losses)
    total.backward()
    assert {name.partition(".")[0] for name, value in model.named_parameters() if value.grad is not None} == {
        "neck", "bbox_head",
    }  # fmt: skip
    found = model.eval()(**_batch(model, training=False), mode="predict")[0].pred_instances
    assert len(found) == 9
