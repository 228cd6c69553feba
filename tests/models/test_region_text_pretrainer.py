"""One training step of the pretrainer: what is computed, what moves and what does not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.optim import OptimWrapper, build_optim_wrapper
from open_clip.model import CLIP
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from regionclip.checkpoints.clip_folder import build_clip
from regionclip.engine.training import recipe
from regionclip.errors import InputError
from regionclip.models import region_extractor
from regionclip.models.losses import ConceptDistillationLoss, ImageTextContrastiveLoss, RegionConceptContrastiveLoss
from regionclip.models.region_crops import crop_regions
from regionclip.models.region_encoder import describe, part_configs
from regionclip.models.region_text_pretrainer import RegionTextPretrainer
from tests.conftest import profile_params

CONCEPTS = 7
LOSSES = dict(
    contrastive_loss=dict(type="RegionConceptContrastiveLoss"),
    distillation_loss=dict(type="ConceptDistillationLoss", loss_weight=0.5),
    image_text_loss=dict(type="ImageTextContrastiveLoss"),
)

VIT = dict(layers=2, width=16, head_width=8, patch_size=16, image_size=64)
TEXT = dict(context_length=16, vocab_size=49408, width=32, heads=2, layers=1)


def _pretrainer(clip: CLIP, parts: dict, **changes: object) -> RegionTextPretrainer:
    student = dict(type="RegionEncoder", **parts)
    config = dict(type="RegionTextPretrainer", student=student, **LOSSES)
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
    return _batch(labelled_regions, ((64, 80, 5), (72, 64, 3)))


def _batch(labelled_regions: Callable, pictures: tuple[tuple[int, int, int], ...]) -> dict[str, list]:
    """Pictures of a height, a width and a number of regions."""
    images, samples = [], []
    for height, width, regions in pictures:
        images.append(torch.randint(0, 256, (3, height, width), dtype=torch.uint8))
        sample = DetDataSample(metainfo=dict(img_shape=(height, width)))
        sample.proposals = labelled_regions(max(regions, 1), CONCEPTS)[:regions]
        sample.caption_features = torch.randn(32)
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
    texts = torch.stack([s.caption_features for s in samples])
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


@pytest.mark.parametrize("micro_batch", [None, 1])
def test_a_step_never_waits_for_the_device(
    clip: CLIP, parts: dict, batch: dict, micro_batch: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses, gradients, the clipping of each, and the weights' move."""
    # Only a CPU, for which there is nothing to wait, pools by tables.
    monkeypatch.setattr(region_extractor.Regions, "_by_table", False)
    monkeypatch.setattr(region_extractor, "FEW", 1)
    model = _pretrainer(clip, parts, concept_threshold=0.15, micro_batch=micro_batch)
    data, wrapper = model.data_preprocessor(batch, True), _wrapper(model)
    with _Waits() as waits:
        losses = model(**data, mode="loss")
        wrapper.update_params(model.parse_losses(losses)[0])
    assert waits.found == []
    with waits:
        float(losses["kept_regions"])
    assert waits.found == ["aten::_local_scalar_dense"], "the check itself must see"


def _wrapper(model: RegionTextPretrainer, **changes: object) -> OptimWrapper:
    """The optimiser of the paper's pretraining; its weights are clipped one by one."""
    schedule = profile_params("pretrain_cc3m_rn50").pretrain.schedule.model_copy(update=changes)
    return build_optim_wrapper(model, recipe([], schedule, seed=0)["optim_wrapper"])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch tells of waits for a GPU where there is one")
@pytest.mark.parametrize("micro_batch", [None, 1])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_never_waits_for_the_gpu(
    clip: CLIP, parts: dict, batch: dict, micro_batch: int | None, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch raises where the host would wait; a step before warms up what is made once."""
    monkeypatch.setenv("REGIONCLIP_PRECISION", precision)
    model = _pretrainer(clip, parts, concept_threshold=0.15, micro_batch=micro_batch).cuda()
    data, wrapper = model.data_preprocessor(batch, True), _wrapper(model)
    for mode in ("default", "error"):
        torch.cuda.set_sync_debug_mode(mode)
        try:
            with wrapper.optim_context(model):
                losses = model(**data, mode="loss")
            wrapper.update_params(model.parse_losses(losses)[0])
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert all(value.isfinite() for value in losses.values())


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
    still = ("student.backbone.conv", "student.backbone.bn", "student.backbone.layer1")
    assert not [name for name in moved if name.startswith(still) or ".bn" in name]


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
    model = _pretrainer(clip, parts, distillation_loss=None, image_text_loss=None)
    assert set(model(**model.data_preprocessor(batch, True), mode="loss")) == {"kept_regions", "loss_contrastive"}


def _gradients(model: RegionTextPretrainer, batch: dict) -> tuple[dict[str, float], dict[str, Tensor]]:
    model.zero_grad()
    data = model.data_preprocessor(copy.deepcopy(batch), True)
    inputs, samples = data["inputs"].double(), data["data_samples"]
    for sample in samples:
        sample.proposals.bboxes = sample.proposals.bboxes.double()
    with mock.patch.object(Tensor, "float", Tensor.double):
        losses = model(inputs, samples, mode="loss")
    model.parse_losses(losses)[0].backward()
    found = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.requires_grad}
    return {name: value.item() for name, value in losses.items()}, found


@pytest.mark.parametrize("micro_batch", [1, 2, 3])
def test_micro_batches_have_the_gradients_of_the_joint_batch(
    clip: CLIP, parts: dict, labelled_regions: Callable, micro_batch: int
) -> None:
    """In float64, five pictures of several sizes, one of them without regions; the mean over parts differs."""
    torch.manual_seed(1)
    batch = _batch(labelled_regions, ((64, 80, 5), (72, 64, 3), (64, 64, 0), (80, 80, 4), (64, 72, 1)))
    model = _pretrainer(clip, parts, concept_threshold=0.15).double()
    wanted = _gradients(model, batch)
    model.micro_batch = micro_batch
    state = torch.get_rng_state()
    losses, gradients = _gradients(model, batch)
    assert torch.equal(torch.get_rng_state(), state), "nothing is drawn"
    assert losses == pytest.approx(wanted[0], rel=1e-12)
    largest = max(float(value.abs().max()) for value in wanted[1].values())
    for name, value in wanted[1].items():
        assert float((gradients[name] - value).abs().max()) <= 1e-9 * largest, name
    halves = [_gradients(model, {key: values[part] for key, values in batch.items()})[1]
              for part in (slice(0, 2), slice(2, 5))]  # fmt: skip
    name = "student.attention_pool.c_proj.weight"
    mean = (2 * halves[0][name] + 3 * halves[1][name]) / 5
    assert float((mean - wanted[1][name]).abs().max()) > 1e-3 * largest, "plain accumulation is another loss"


def test_micro_batches_hold_the_activations_of_their_own_pictures_only(
    clip: CLIP, parts: dict, labelled_regions: Callable
) -> None:
    """What autograd keeps of six pictures grows with them, unless they come one by one."""
    kept = {}
    for pictures, micro_batch in ((1, None), (6, None), (6, 1)):
        model = _pretrainer(clip, parts, micro_batch=micro_batch)
        batch = _batch(labelled_regions, ((64, 64, 4),) * pictures)
        data, held = model.data_preprocessor(batch, True), [0]
        weights = {value.data_ptr() for value in model.state_dict().values()}

        def note(tensor: Tensor, held: list[int] = held, weights: set[int] = weights) -> Tensor:
            held[0] += 0 if tensor.data_ptr() in weights else tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            model(**data, mode="loss")
        kept[pictures, micro_batch] = held[0]
    # Folded weights are kept once, however many pictures there are.
    assert kept[6, None] > 2 * kept[1, None] and kept[6, 1] < kept[1, None]


def test_losses_of_bfloat16_follow_those_of_float32(
    clip: CLIP, parts: dict, labelled_regions: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thirty steps on one batch: at each the loss is float32's to 2 percent of the first, and it falls to a quarter."""
    batch = _batch(labelled_regions, ((64, 80, 5), (72, 64, 3), (64, 64, 4)))
    curves = {}
    for precision in ("fp32", "bf16"):
        monkeypatch.setenv("REGIONCLIP_PRECISION", precision)
        torch.manual_seed(0)
        model = _pretrainer(clip, parts)
        wrapper = _wrapper(model, learning_rate=0.0001)
        steps = [model.train_step(copy.deepcopy(batch), wrapper) for _ in range(30)]
        assert all(value.dtype == torch.float32 for value in steps[-1].values())
        curves[precision] = torch.tensor([float(step["loss"].detach()) for step in steps])
    first, apart = curves["fp32"][0], (curves["bf16"] - curves["fp32"]).abs().max()
    assert 0 < apart < 0.02 * first and curves["fp32"][-1] < 0.25 * first, (apart, curves)


@pytest.mark.parametrize("kind", ["contrastive", "distillation", "image_text"])
def test_losses_are_computed_in_float32_under_autocast(clip: CLIP, parts: dict, batch: dict, kind: str) -> None:
    """Of the same features: bit by bit those outside it."""
    model = _pretrainer(clip, parts)
    samples, features = batch["data_samples"], torch.randn(8, 32).bfloat16()
    index = torch.cat([sample.proposals.concept_index for sample in samples])
    probs = torch.cat([sample.proposals.concept_prob for sample in samples])
    labels, keep = index[:, 0], torch.ones(8, dtype=torch.bool)
    arguments = {
        "contrastive": (features, model.concepts, labels, keep),
        "distillation": (features, model.concepts, index, probs, keep),
        "image_text": (features, torch.randn(8, 32)),
    }[kind]
    loss = getattr(model, f"{kind}_loss")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = loss(*arguments)
    exact = [value.float() if value.dtype == torch.bfloat16 else value for value in arguments]
    assert mixed.dtype == torch.float32 and torch.equal(mixed, loss(*exact))


@pytest.mark.parametrize("vision", [None, VIT], ids=["resnet", "vit"])
def test_crops_distil_the_frozen_original(clip: CLIP, parts: dict, batch: dict, vision: dict | None) -> None:
    """All regions count; crops are as the frozen tower sees them, which a step leaves as it is."""
    original = dict(embed_dim=32, vision_cfg=vision or describe(clip.visual)[0])
    if vision:
        clip, parts = build_clip(original | {"text_cfg": TEXT}).eval(), part_configs(vision, 32, frozen_stages=1)
    only = dict.fromkeys(("contrastive_loss", "distillation_loss", "image_text_loss"))
    config = dict(crop_distillation_loss=dict(type="CropDistillationLoss"), original=original)
    model = _pretrainer(clip, parts, **only, **config)
    # Another one than the student's start, of which all regions look alike.
    for value in clip.visual.parameters():
        torch.nn.init.normal_(value, std=0.3)
    model.original.load_state_dict(clip.visual.state_dict())
    assert not any(module.training for module in model.original.modules())
    data = model.data_preprocessor(batch, True)
    boxes = [sample.proposals.bboxes for sample in data["data_samples"]]
    with torch.no_grad():
        crops = torch.cat(
            [
                clip.visual(crop_regions(image[None], [box], 64, 1.0))
                for image, box in zip(data["inputs"], boxes, strict=True)
            ]
        )
        expected = 1 - torch.cosine_similarity(model(**data), crops).mean()
    losses = model(**data, mode="loss")
    assert float(losses["loss_crop_distillation"]) == pytest.approx(float(expected), rel=1e-5)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    build_optim_wrapper(model, recipe([], profile_params("tiny").pretrain.schedule, 0)["optim_wrapper"]).update_params(
        model.parse_losses(losses)[0]
    )
    moved = {name.partition(".")[0] for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert moved == {"student"}
