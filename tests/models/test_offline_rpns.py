"""The official offline RPNs as configs: parameters under MMDetection's names, levels and proposals."""

from __future__ import annotations

import pytest
import torch

from regionclip.models.assembly import _build, read_config

METAS = [dict(img_shape=(60, 90))]
# Convolutions of the MSRA ResNet-50, up to layer3 and whole.
C4_CONVS, R50_CONVS = 43, 53


def _weights(model: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in model.state_dict().items() if "num_batches_tracked" not in key}


def _proposals(model: torch.nn.Module, height: int, width: int) -> tuple[list[torch.Size], torch.Tensor, torch.Tensor]:
    model.eval()
    with torch.no_grad():
        scores, deltas = model.bbox_head(model.extract_feat(torch.randn(1, 3, height, width)))
        (found,) = model.bbox_head.predict_by_feat(scores, deltas, batch_img_metas=METAS)
    return [level.shape for level in scores], found.bboxes, found.scores


def test_c4_has_one_level_and_fifteen_anchors() -> None:
    model = _build(read_config("rpn_r50_c4.py").model)
    weights = _weights(model)
    # A convolution and a norm of four tensors each; three layers of the head with bias.
    assert len(weights) == 5 * C4_CONVS + 6
    assert weights["bbox_head.rpn_conv.weight"] == (1024, 1024, 3, 3)
    assert weights["bbox_head.rpn_cls.weight"] == (15, 1024, 1, 1)
    levels, boxes, scores = _proposals(model, 60, 90)
    assert levels == [(1, 15, 4, 6)]
    assert len(boxes) > 0 and (scores.diff() <= 0).all()
    assert boxes[:, 0::2].max() <= 90 and boxes[:, 1::2].max() <= 60 and boxes.min() >= 0


def test_c4_anchors_stand_in_detectron2s_order() -> None:
    """Size outside, ratio inside, centred on the corner of the cell: area 32^2 first, twice as wide as high."""
    generator = _build(read_config("rpn_r50_c4.py").model).bbox_head.prior_generator
    anchors = generator.grid_priors([(1, 2)], device="cpu")[0]
    sizes = (anchors[:, 2:] - anchors[:, :2])[:15]
    assert sizes.prod(1).sqrt().tolist() == pytest.approx([s for s in (32, 64, 128, 256, 512) for _ in range(3)])
    assert (sizes[:, 1] / sizes[:, 0]).tolist() == pytest.approx([0.5, 1, 2] * 5, rel=1e-5)
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    assert centres[0].tolist() == [0, 0] and centres[15].tolist() == [16, 0]


@pytest.mark.parametrize(("name", "extra"), [("rpn_r50_fpn", 16 + 6), ("rpn_r50_fpn_lsj", 8 + 8 * 4 + 8)])
def test_fpn_has_five_levels_and_three_anchors(name: str, extra: int) -> None:
    """Eight convolutions with bias, or without but with norms; a head of one convolution, or of two."""
    model = _build(read_config(f"{name}.py").model)
    weights = _weights(model)
    assert len(weights) == 5 * R50_CONVS + extra
    assert ("neck.fpn_convs.0.bn.running_mean" in weights) == ("neck.fpn_convs.0.conv.bias" not in weights)
    assert ("bbox_head.rpn_conv.1.conv.weight" in weights) == (name == "rpn_r50_fpn_lsj")
    assert weights["bbox_head.rpn_cls.weight"] == (3, 256, 1, 1)
    padded = model.data_preprocessor(dict(inputs=[torch.zeros(3, 60, 90, dtype=torch.uint8)]), False)["inputs"]
    assert padded.shape == (1, 3, 64, 96)
    levels, boxes, scores = _proposals(model, 64, 96)
    assert levels == [(1, 3, 16, 24), (1, 3, 8, 12), (1, 3, 4, 6), (1, 3, 2, 3), (1, 3, 1, 2)]
    assert len(boxes) > 0 and len(boxes) == len(scores) and boxes[:, 0::2].max() <= 90


def test_pictures_are_bgr_less_the_mean_only() -> None:
    for name in ("rpn_r50_c4", "rpn_r50_fpn", "rpn_r50_fpn_lsj"):
        preprocessor = _build(read_config(f"{name}.py").model).data_preprocessor
        picture = torch.tensor([104.0, 117.0, 124.0]).to(torch.uint8).view(3, 1, 1).expand(3, 32, 32).clone()
        pixels = preprocessor(dict(inputs=[picture]), False)["inputs"][0, :, 0, 0]
        assert pixels.tolist() == pytest.approx([104 - 103.530, 117 - 116.280, 124 - 123.675], abs=1e-4)
