"""The region encoder is CLIP cut in parts: same numbers, and the weights go both ways."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torchvision
from open_clip.model import CLIP

from regionclip.models.region_encoder import RegionEncoder


def test_whole_image_features_are_clips(clip: CLIP) -> None:
    """On an image of CLIP's own size, the parts in a row are open_clip's tower."""
    encoder = RegionEncoder.from_clip(clip.visual)
    images = torch.randn(2, 3, 64, 64)
    whole = encoder.attention_pool(encoder.res5(encoder.forward_features(images)))
    assert torch.allclose(whole, clip.visual(images), atol=1e-6)


def test_region_features_are_roi_aligned_images_in_order(clip: CLIP, random_boxes: Callable) -> None:
    encoder = RegionEncoder.from_clip(clip.visual)
    images, boxes = torch.randn(2, 3, 96, 80), [random_boxes(3), random_boxes(2)]
    features = encoder.forward_features(images)
    regions = torchvision.ops.roi_align(features, boxes, 4, 1 / 16, 0, aligned=True)
    expected = clip.visual.attnpool(clip.visual.layer4(regions))
    assert torch.allclose(encoder(images, boxes), expected, atol=1e-6)


def test_an_image_without_regions_adds_no_rows(clip: CLIP, random_boxes: Callable) -> None:
    encoder = RegionEncoder.from_clip(clip.visual)
    images, boxes = torch.randn(2, 3, 64, 64), random_boxes(3)
    features = encoder.forward_features(images)
    with_empty = encoder.encode(features, [torch.zeros(0, 4), boxes])
    assert with_empty.shape == (3, 32)
    assert torch.allclose(with_empty, encoder.encode(features[1:], [boxes]), atol=1e-6)
    assert encoder.encode(features, [torch.zeros(0, 4)] * 2).shape == (0, 32)


def test_weights_round_trip_bit_for_bit(clip: CLIP) -> None:
    state = RegionEncoder.from_clip(clip.visual).to_visual_state_dict()
    expected = clip.visual.state_dict()
    assert set(state) == set(expected)
    assert all(torch.equal(state[key], value) for key, value in expected.items())
    assert int(state["bn1.num_batches_tracked"]) == 7
    clip.visual.load_state_dict(state)


def test_refuses_weights_of_another_architecture(clip: CLIP, parts: dict) -> None:
    parts["backbone"]["layers"] = [2, 1, 1]
    with pytest.raises(RuntimeError, match="Missing key.*layer1.1"):
        RegionEncoder(**parts).load_visual_state_dict(clip.visual.state_dict())
