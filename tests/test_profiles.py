"""Every profile of the paper builds its models, takes one training step and gives one prediction.

Random weights, pictures of 128x96, few regions. The CLIPs have their real widths, grids and embeddings, but one block a
stage; the RPNs have their real layers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import open_clip
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.model import BaseModel
from mmengine.optim import build_optim_wrapper
from mmengine.structures import InstanceData
from torch import Tensor

from regionclip.checkpoints.clip_folder import ClipFolder, build_clip, save_clip
from regionclip.engine.training import recipe
from regionclip.models.assembly import build_detector, build_pretrainer, build_rpn
from regionclip.models.detector_settings import finetune_settings, zero_shot_settings
from regionclip.params import Params
from regionclip.params.stages import Schedule
from tests.conftest import PAPER_PROFILES, profile_params

HEIGHT, WIDTH = 96, 128
CLASSES = {"coco": 5, "lvis": 7}


def _named(start: str) -> list[str]:
    return [name for name in PAPER_PROFILES if name.startswith(start)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Params], ClipFolder]:
    """A function that makes the teacher of a profile: its own architecture with one block a stage, random weights."""
    made: dict[str, ClipFolder] = {}

    def make(params: Params) -> ClipFolder:
        model = params.teacher.model
        if model not in made:
            config = open_clip.get_model_config(model)
            config["vision_cfg"]["layers"], config["text_cfg"]["layers"] = [1, 1, 1, 1], 1
            with torch.random.fork_rng():
                torch.manual_seed(0)
                state = build_clip(config).state_dict()
            folder = tmp_path_factory.mktemp(model) / "clip"
            save_clip(folder, config, state, {"stage_digest": "0" * 64})
            made[model] = ClipFolder.open(folder)
        return made[model]

    return make


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def _sample(classes: int, *, masks: bool = False) -> DetDataSample:
    """A picture with two boxes and six proposals."""
    meta = {"img_shape": (HEIGHT, WIDTH), "ori_shape": (HEIGHT, WIDTH), "scale_factor": (1.0, 1.0), "img_id": 1}
    sample = DetDataSample(metainfo=meta)
    boxes = torch.tensor([[8.0, 8, 60, 60], [40, 20, 120, 90]])
    sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.randint(classes, (2,)))
    if masks:
        bitmaps = torch.randint(2, (2, HEIGHT, WIDTH), dtype=torch.uint8).numpy()
        sample.gt_instances.masks = BitmapMasks(bitmaps, HEIGHT, WIDTH)
    start = torch.rand(6, 2) * 60
    found = torch.cat([start, start + 10 + torch.rand(6, 2) * 25], dim=1)
    sample.proposals = InstanceData(bboxes=torch.cat([found, boxes]), scores=torch.randn(8))
    return sample


def _batch(model: BaseModel, sample: DetDataSample, *, training: bool) -> dict[str, Any]:
    picture = torch.randint(256, (3, HEIGHT, WIDTH), dtype=torch.uint8)
    return model.data_preprocessor({"inputs": [picture], "data_samples": [sample]}, training)


def _step(model: BaseModel, data: dict[str, Any], schedule: Schedule) -> set[str]:
    """Take one step with the profile's optimiser; return the names of the parameters that it moved."""
    model.train()
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    losses = model(**data, mode="loss")
    total, _ = model.parse_losses(losses)
    assert total.isfinite()
    build_optim_wrapper(model, recipe([], schedule, seed=0)["optim_wrapper"]).update_params(total)
    return {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}


@torch.no_grad()
def _predict(model: BaseModel, sample: DetDataSample) -> InstanceData:
    model.eval()
    found = model(**_batch(model, sample, training=False), mode="predict")[0].pred_instances
    assert found.bboxes.isfinite().all() and found.scores.isfinite().all()
    return found


def _banks(model: BaseModel, classes: int) -> Tensor:
    return torch.randn(classes, model.roi_head.bbox_head.fc_cls.embeddings.shape[1])


@pytest.mark.parametrize("name", _named("pretrain_"))
def test_pretraining_takes_a_step(name: str, clip: Callable) -> None:
    """The three losses move layers 2 to 4 and the pool, and not the stem or layer1."""
    params = profile_params(name)
    folder, section = clip(params), params.pretrain
    model = build_pretrainer(folder, section)
    model.set_concepts(torch.randn(9, folder.model_cfg["embed_dim"]))
    sample = _sample(3)
    index = torch.stack([torch.randperm(9)[:3] for _ in range(8)])
    sample.proposals.set_field(index, "concept_index")
    sample.proposals.set_field(torch.tensor([[0.6, 0.3, 0.1]]).repeat(8, 1), "concept_prob")
    sample.set_field(torch.randn(folder.model_cfg["embed_dim"]), "caption_features", dtype=Tensor)
    moved = _step(model, _batch(model, sample, training=True), section.schedule)
    trained = {"backbone.layer2", "backbone.layer3", "res5.layer4", "attention_pool"}
    assert {next((part for part in trained if part in key), key) for key in moved} == trained
    embeddings = model.eval()(**_batch(model, sample, training=False), mode="tensor")
    assert embeddings.shape == (8, folder.model_cfg["embed_dim"]) and embeddings.isfinite().all()


@pytest.mark.parametrize("name", _named("transfer_") + _named("supervised_"))
def test_transfer_takes_a_step_and_detects_other_classes(name: str, clip: Callable) -> None:
    """A step on some classes, then boxes (and masks, on LVIS) of a larger vocabulary."""
    params = profile_params(name)
    dataset = next(iter(params.data.sets))
    finetune, target = params.finetune.model_copy(update={"regions_per_image": 8}), params.finetune.sets[dataset]
    settings = finetune_settings(finetune, target, CLASSES[dataset])
    model = build_detector(clip(params), settings, finetune.frozen_stages, masks=target.masks)
    model.roi_head.bbox_head.fc_cls.set_vocabulary(_banks(model, CLASSES[dataset]))
    sample = _sample(CLASSES[dataset], masks=target.masks)
    moved = _step(model, _batch(model, sample, training=True), target.schedule)
    assert any(key.startswith("roi_head.shared_head.layer4") for key in moved)
    assert any(key.startswith("roi_head.bbox_head.fc_reg") for key in moved)
    assert any("mask_head" in key for key in moved) == target.masks
    model.roi_head.bbox_head.fc_cls.set_vocabulary(_banks(model, 11))
    found = _predict(model, _sample(CLASSES[dataset]))
    assert ("masks" in found) == target.masks
    # Scores of random features are below LVIS's threshold.
    assert dataset == "lvis" or (len(found) and found.labels.max() >= CLASSES[dataset])


@pytest.mark.parametrize("name", _named("pretrain_") + _named("zero_shot_"))
@pytest.mark.parametrize("dataset", ["coco", "lvis"])
@pytest.mark.parametrize("boxes", ["gt", "rpn"])
def test_zero_shot_leaves_boxes_where_they_are(name: str, dataset: str, boxes: str, clip: Callable) -> None:
    """Detections are given boxes as they are, with the score threshold of the set and of the kind of boxes."""
    params = profile_params(name)
    least = getattr(params.zero_shot.score_threshold[dataset], boxes)
    settings = zero_shot_settings(params.zero_shot, 4, 50, least, use_objectness=boxes == "rpn")
    model = build_detector(clip(params), settings)
    model.roi_head.bbox_head.fc_cls.set_vocabulary(_banks(model, 4))
    sample = _sample(4)
    given = sample.proposals.bboxes.clone()
    found = _predict(model, sample)
    assert len(found) and (found.scores > least).all()
    assert ((found.bboxes[:, None] - given).abs().amax(dim=2).amin(dim=1) < 1e-3).all()


@pytest.mark.parametrize("name", _named("rpn_"))
def test_rpn_takes_a_step_and_proposes(name: str, clip: Callable) -> None:
    """A step moves the head; proposals carry logits and are as many as asked."""
    params = profile_params(name)
    section = params.rpn.model_copy(update={"backbone_weights": None})
    model = build_rpn(clip(params), section, nms_iou=section.nms_iou, proposals=20)
    moved = _step(model, _batch(model, _sample(1), training=True), section.schedule)
    assert any("head" in key for key in moved) and any("layer3" in key for key in moved)
    assert any("layer1" in key for key in moved) == (section.frozen_stages == 0)
    found = _predict(model, _sample(1))
    assert 0 < len(found) <= 20
