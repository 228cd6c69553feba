"""One training step of the pretrainer: what is computed, what moves and what does not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.optim import OptimWrapper
from open_clip.model import CLIP
from torch.utils._python_dispatch import TorchDispatchMode

from regionclip.errors import InputError
from regionclip.models import region_extractor
from regionclip.models.losses import ConceptDistillationLoss, ImageTextContrastiveLoss, RegionConceptContrastiveLoss
from regionclip.models.region_text_pretrainer import RegionTextPretrainer
from regionclip.models.text_tower import CLIPTextTower

CONCEPTS = 7
LOSSES = dict(
    contrastive_loss=dict(type="RegionConceptContrastiveLoss"),
    distillation_loss=dict(type="ConceptDistillationLoss", loss_weight=0.5),
    image_text_loss=dict(type="ImageTextContrastiveLoss"),
)


def _tower(clip: CLIP) -> CLIPTextTower:
    tower = CLIPTextTower(32, dict(context_length=16, vocab_size=100, width=32, heads=2, layers=2))
    state = clip.state_dict()
    tower.load_state_dict({key: state[key] for key in tower.state_dict()})
    return tower


def _pretrainer(clip: CLIP, parts: dict, **changes: object) -> RegionTextPretrainer:
    student = dict(type="RegionEncoder", **parts)
    config = dict(type="RegionTextPretrainer", student=student, text_tower=_tower(clip), **LOSSES)
    config["data_preprocessor"] = dict(
        type="DetDataPreprocessor", mean=[122.77, 116.75, 104.09], std=[68.5, 66.63, 70.32]
    )
    model = MODELS.build(config | changes)
    model.student.load_visual_state_dict(clip.visual.state_dict())
    model.set_concepts(torch.randn(CONCEPTS, 32))
    return model.train()


@pytest.fixture
def batch(labelled_regions: Callable) -> dict[str, list]:
    """Two pictures of different sizes with 5 and 3 regions, as a loader gives them."""
    images, samples = [], []
    for height, width, regions in ((64, 80, 5), (72, 64, 3)):
        images.append(torch.randint(0, 256, (3, height, width), dtype=torch.uint8))
        sample = DetDataSample(metainfo=dict(img_shape=(height, width)))
        sample.proposals = labelled_regions(regions, CONCEPTS)
        sample.caption_tokens = torch.randint(1, 100, (16,))
        samples.append(sample)
    return dict(inputs=images, data_samples=samples)


def test_losses_are_those_of_the_modules_on_the_kept_regions(clip: CLIP, parts: dict, batch: dict) -> None:
    model = _pretrainer(clip, parts, concept_threshold=0.15)
    data = model.data_preprocessor(batch, True)
    inputs, samples = data["inputs"], data["data_samples"]
    losses = model(inputs, samples, mode="loss")

    index = torch.cat([s.proposals.concept_index for s in samples])
    probs = torch.cat([s.proposals.concept_prob for s in samples])
    keep = probs[:, 0] > 0.15
    assert 0 < keep.sum() < len(keep), "the case must tell kept regions from others"
    regions = model(inputs, samples)[keep]
    every = keep[keep]
    contrastive = RegionConceptContrastiveLoss()(regions, model.concepts, index[keep, 0], every)
    distillation = 0.5 * ConceptDistillationLoss()(regions, model.concepts, index[keep], probs[keep], every)
    boxes = [torch.tensor([[0.0, 0, 80, 64]]), torch.tensor([[0.0, 0, 64, 72]])]
    texts = clip.encode_text(torch.stack([s.caption_tokens for s in samples]))
    image_text = ImageTextContrastiveLoss()(model.student(inputs, boxes), texts)
    assert losses["kept_regions"] == keep.sum()
    assert torch.allclose(losses["loss_contrastive"], contrastive)
    assert torch.allclose(losses["loss_distillation"], distillation)
    assert torch.allclose(losses["loss_image_text"], image_text, rtol=1e-4)


class _Waits(TorchDispatchMode):
    """Notes what makes the host wait for a device: a number read, or rows whose number the data decide."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.name.removeprefix("aten::") in (
            "_local_scalar_dense",
            "nonzero",
            "masked_select",
            "is_nonzero",
        ):
            self.found.append(func._schema.name)
        return func(*args, **kwargs or {})


def test_the_losses_of_regions_never_wait_for_the_device(
    clip: CLIP, parts: dict, batch: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Only a CPU, for which there is nothing to wait, pools by tables.
    monkeypatch.setattr(region_extractor.Regions, "_by_table", False)
    monkeypatch.setattr(region_extractor, "FEW", 1)
    model = _pretrainer(clip, parts, image_text_loss=None, text_tower=None, concept_threshold=0.15)
    data = model.data_preprocessor(batch, True)
    with _Waits() as waits:
        losses = model(**data, mode="loss")
        (losses["loss_contrastive"] + losses["loss_distillation"]).backward()
    assert waits.found == []
    with waits:
        float(losses["kept_regions"])
    assert waits.found == ["aten::_local_scalar_dense"], "the check itself must see"


def test_whole_image_box_may_be_the_padded_canvas(clip: CLIP, parts: dict, batch: dict) -> None:
    canvas = _pretrainer(clip, parts, whole_image_box="canvas")
    data = canvas.data_preprocessor(batch, True)
    boxes = canvas._whole_images(data["inputs"], data["data_samples"])
    assert [box.tolist() for box in boxes] == [[[0, 0, 80, 72]], [[0, 0, 80, 72]]]


def test_all_regions_count_when_none_is_confident(clip: CLIP, parts: dict, batch: dict) -> None:
    model = _pretrainer(clip, parts, concept_threshold=0.9)
    data = model.data_preprocessor(batch, True)
    assert model(**data, mode="loss")["kept_regions"] == 8


def test_refuses_a_batch_without_regions(clip: CLIP, parts: dict, batch: dict) -> None:
    """Its mean losses would be NaN."""
    model = _pretrainer(clip, parts)
    data = model.data_preprocessor(batch, True)
    for sample in data["data_samples"]:
        sample.proposals = sample.proposals[:0]
    with pytest.raises(InputError, match="no image of the batch has a region"):
        model(**data, mode="loss")


def test_trains_in_mixed_precision(clip: CLIP, parts: dict, batch: dict) -> None:
    model = _pretrainer(clip, parts)
    data = model.data_preprocessor(batch, True)
    exact = model(**data, mode="loss")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = model(**data, mode="loss")
    loss, _ = model.parse_losses(mixed)
    loss.backward()
    assert all(mixed[name].dtype == torch.float32 for name in exact)
    assert float(loss) == pytest.approx(float(model.parse_losses(exact)[0]), rel=0.2)


def test_one_step_moves_the_student_and_nothing_else(clip: CLIP, parts: dict, batch: dict) -> None:
    model = _pretrainer(clip, parts)
    before = copy.deepcopy(model.state_dict())
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    logged = model.train_step(batch, OptimWrapper(torch.optim.SGD(trainable, lr=0.01, weight_decay=1e-4)))
    expected = logged["loss_contrastive"] + logged["loss_distillation"] + logged["loss_image_text"]
    assert torch.allclose(logged["loss"], expected), "the number of kept regions is logged but is no loss"

    after = model.state_dict()
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    groups = {name.removeprefix("student.").split(".0")[0].split("_proj")[0] for name in moved}
    assert {"backbone.layer2", "backbone.layer3", "res5.layer4"} < groups
    still = ("student.backbone.conv", "student.backbone.bn", "student.backbone.layer1", "text_tower.")
    assert not [name for name in moved if name.startswith(still) or ".bn" in name]


def test_text_tower_is_clips_and_stays_in_evaluation_mode(clip: CLIP, parts: dict) -> None:
    model = _pretrainer(clip, parts)
    tokens = torch.randint(1, 100, (3, 16))
    assert torch.allclose(model.text_tower(tokens), clip.encode_text(tokens), atol=1e-5)
    assert not any(module.training for module in model.text_tower.modules())


def test_init_weights_keeps_pretrained_weights(clip: CLIP, parts: dict) -> None:
    model = _pretrainer(clip, parts)
    before = copy.deepcopy(model.state_dict())
    model.init_weights()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_concepts_are_not_saved_and_must_fit(clip: CLIP, parts: dict) -> None:
    model = _pretrainer(clip, parts)
    assert "concepts" not in model.state_dict()
    with pytest.raises(InputError, match="width 32"):
        model.set_concepts(torch.randn(5, 16))


def test_losses_can_be_left_out(clip: CLIP, parts: dict, batch: dict) -> None:
    model = _pretrainer(clip, parts, distillation_loss=None, image_text_loss=None, text_tower=None)
    assert set(model(**model.data_preprocessor(batch, True), mode="loss")) == {"kept_regions", "loss_contrastive"}
    with pytest.raises(InputError, match="text tower"):
        _pretrainer(clip, parts, text_tower=None)
