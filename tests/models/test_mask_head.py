"""Masks from layer4's maps: shapes, one mask for every vocabulary, and pasting into the picture."""

from __future__ import annotations

import pytest
import torch
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.structures.mask import BitmapMasks
from mmdet.testing import demo_mm_inputs
from mmengine.structures import InstanceData

from regionclip.models.assembly import _build, read_config

SIDE = 4  # of the masks: layer4's maps are 2 x 2


@pytest.fixture
def detector(parts: dict) -> torch.nn.Module:
    """The committed mask config around a tiny CLIP, three training classes."""
    config = read_config("ov_mask_rcnn_clip_rn50_c4.py")
    pool = {key: value for key, value in parts["attention_pool"].items() if key != "type"}
    config.merge_from_dict(
        {
            "model.backbone": parts["backbone"],
            "model.roi_head.shared_head": parts["res5"],
            "model.roi_head.bbox_roi_extractor": parts["roi_extractor"],
            "model.roi_head.bbox_head.attention_pool": pool,
            "model.roi_head.bbox_head.num_classes": 3,
            "model.roi_head.mask_head.in_channels": parts["res5"]["width"] * 32,
            "model.train_cfg.rcnn.mask_size": SIDE,
            "model.test_cfg.rcnn.score_thr": 0.0,
        }
    )
    model = _build(config.model)
    model.roi_head.bbox_head.fc_cls.set_vocabulary(torch.randn(3, 32))
    return model


def test_the_committed_head_is_the_official_one() -> None:
    """Deconvolution of layer4's 2048 channels to 256, then one mask for all classes, twice the maps' side."""
    head = _build(read_config("ov_mask_rcnn_clip_rn50_c4.py").model).roi_head.mask_head
    shapes = {key: tuple(value.shape) for key, value in head.state_dict().items()}
    assert shapes == {
        "upsample.weight": (2048, 256, 2, 2),
        "upsample.bias": (256,),
        "conv_logits.weight": (1, 256, 1, 1),
        "conv_logits.bias": (1,),
    }
    with torch.no_grad():
        maps = torch.rand(2, 2048, 7, 7)
        found = head(maps)
        deconvolved = torch.nn.functional.conv_transpose2d(maps, head.upsample.weight, head.upsample.bias, stride=2)
        expected = torch.nn.functional.conv2d(deconvolved.relu(), head.conv_logits.weight, head.conv_logits.bias)
    assert found.shape == (2, 1, 14, 14)
    assert torch.allclose(found, expected, atol=1e-5)


def _proposals(count: int) -> InstanceData:
    start = torch.rand(count, 2) * 24
    return InstanceData(bboxes=torch.cat([start, start + 16 + torch.rand(count, 2) * 20], 1))


def test_masks_do_not_depend_on_the_vocabulary(detector: torch.nn.Module) -> None:
    """Another vocabulary of another size changes the classes, and not the mask of a box."""
    detector.eval()
    inputs = demo_mm_inputs(1, image_shapes=[(3, 64, 64)], with_mask=True, num_classes=3)
    data = detector.data_preprocessor(inputs, False)
    data["data_samples"][0].set_metainfo(dict(ori_shape=(64, 64), scale_factor=(1.0, 1.0)))
    proposals = _proposals(4)
    found = []
    for size in (3, 7):
        detector.roi_head.bbox_head.fc_cls.set_vocabulary(torch.randn(size, 32))
        data["data_samples"][0].proposals = proposals
        with torch.no_grad():
            found.append(detector.predict(data["inputs"], data["data_samples"], rescale=False)[0].pred_instances)
            found[-1] = InstanceData(bboxes=found[-1].bboxes, labels=found[-1].labels, masks=found[-1].masks)
    few, many = found
    assert int(many.labels.max()) > 2 and len(few) > 0
    assert few.masks.shape == (len(few), 64, 64) and few.masks.dtype == torch.bool
    same = (few.bboxes[:, None] - many.bboxes).abs().amax(2) < 1e-4
    rows, columns = same.nonzero(as_tuple=True)
    assert len(rows) > 0
    assert torch.equal(few.masks[rows], many.masks[columns])


@pytest.mark.parametrize(("logit", "inside"), [(9.0, 20 * 10 - 4), (-9.0, 0)])
def test_a_mask_is_pasted_into_its_box(detector: torch.nn.Module, logit: float, inside: int) -> None:
    """A full mask covers the box's 20 x 10 pixels in the original picture but its corners; an empty one none.

    The mask fades at its rim, over half a cell: at a corner pixel to 0.6 of its width times 0.7 of its height.
    """
    logits = torch.full((1, 1, SIDE, SIDE), logit)
    found = InstanceData(bboxes=torch.tensor([[16.0, 8, 56, 28]]), labels=torch.tensor([0]), scores=torch.ones(1))
    meta = dict(ori_shape=(32, 32), img_shape=(64, 64), scale_factor=(2.0, 2.0))
    (pasted,) = detector.roi_head.mask_head.predict_by_feat(
        [logits], [found], [meta], detector.roi_head.test_cfg, rescale=True
    )
    assert pasted.masks.shape == (1, 32, 32)
    assert int(pasted.masks.sum()) == int(pasted.masks[0, 4:14, 8:28].sum()) == inside


def test_a_half_mask_fills_half_the_box(detector: torch.nn.Module) -> None:
    logits = torch.full((1, 1, SIDE, SIDE), -9.0)
    logits[..., : SIDE // 2] = 9.0
    found = InstanceData(bboxes=torch.tensor([[8.0, 8, 40, 40]]), labels=torch.tensor([0]), scores=torch.ones(1))
    meta = dict(ori_shape=(64, 64), img_shape=(64, 64), scale_factor=(1.0, 1.0))
    (pasted,) = detector.roi_head.mask_head.predict_by_feat(
        [logits], [found], [meta], detector.roi_head.test_cfg, rescale=True
    )
    # Away from the box's corners, where the mask fades.
    assert pasted.masks[0, 12:36, 8:24].all()
    assert not pasted.masks[0, :, 24:].any()


def test_mask_loss_is_the_mean_over_pixels_of_foreground_regions(detector: torch.nn.Module) -> None:
    """Zero logits cost log 2 a pixel, whatever the truth; only the foreground has a mask."""
    detector.train()
    head: StandardRoIHead = detector.roi_head
    with torch.no_grad():
        for parameter in head.mask_head.conv_logits.parameters():
            parameter.zero_()
    inputs = demo_mm_inputs(1, image_shapes=[(3, 64, 64)], with_mask=True, num_classes=3, num_items=[2])
    data = detector.data_preprocessor(inputs, True)
    (sample,) = data["data_samples"]
    sample.gt_instances.bboxes = torch.tensor([[4.0, 4, 40, 40], [20, 20, 60, 60]])
    sample.gt_instances.masks = BitmapMasks(torch.zeros(2, 64, 64, dtype=torch.uint8).numpy(), 64, 64)
    sample.proposals = _proposals(4)
    losses = detector(data["inputs"], [sample], mode="loss")
    assert float(losses["loss_mask"]) == pytest.approx(0.6931472, rel=1e-5)
    losses["loss_mask"].backward()
    assert float(head.mask_head.conv_logits.bias.grad) == pytest.approx(0.5, rel=1e-5)
