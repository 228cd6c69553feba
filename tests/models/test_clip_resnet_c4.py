"""The image-level trunk is open_clip's, and what is frozen stays frozen."""

from __future__ import annotations

import pytest
import torch
from open_clip.model import CLIP

from regionclip.models.clip_resnet_c4 import CLIPResNetC4


def _trunk(clip: CLIP, frozen_stages: int = 2) -> CLIPResNetC4:
    trunk = CLIPResNetC4([1, 1, 1], width=16, frozen_stages=frozen_stages)
    state = {k: v for k, v in clip.visual.state_dict().items() if not k.startswith(("layer4", "attnpool"))}
    trunk.load_state_dict(state)
    return trunk


def test_equals_open_clip_to_layer3_in_train_mode_too(clip: CLIP) -> None:
    images = torch.randn(2, 3, 70, 64)
    expected = clip.visual.forward_intermediates(images, indices=[3], intermediates_only=True)["image_intermediates"][0]
    (features,) = _trunk(clip).train()(images)
    assert features.shape == (2, 256, 4, 4)
    assert torch.equal(features, expected)


@pytest.mark.parametrize(
    ("frozen_stages", "trains"),
    [(0, {"conv1", "conv2", "conv3", "layer1", "layer2", "layer3"}), (2, {"layer2", "layer3"}), (4, set())],
)
def test_only_convolutions_after_the_frozen_stages_train(clip: CLIP, frozen_stages: int, trains: set[str]) -> None:
    trainable = [n for n, p in _trunk(clip, frozen_stages).named_parameters() if p.requires_grad]
    assert {name.split(".")[0] for name in trainable} == trains
    assert not [name for name in trainable if ".bn" in name or "downsample.1" in name]


def test_batch_norm_statistics_do_not_move_in_training(clip: CLIP) -> None:
    trunk = _trunk(clip).train()
    before = {k: v.clone() for k, v in trunk.state_dict().items()}
    trunk(torch.randn(2, 3, 64, 64))
    assert all(torch.equal(v, before[k]) for k, v in trunk.state_dict().items())


def test_init_weights_keeps_pretrained_weights(clip: CLIP) -> None:
    trunk = _trunk(clip)
    before = {k: v.clone() for k, v in trunk.state_dict().items()}
    trunk.init_weights()
    assert all(torch.equal(v, before[k]) for k, v in trunk.state_dict().items())
