"""The teacher's training is open_clip's own loss on open_clip's own features."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from mmengine.optim import OptimWrapper
from open_clip.model import CLIP

from regionclip.checkpoints.clip_folder import MEAN, STD
from regionclip.models.clip_pretrainer import ClipPretrainer


@pytest.fixture
def batch() -> dict[str, list[torch.Tensor]]:
    """Three images and captions, as a loader gives them."""
    return {
        "inputs": list(torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8)),
        "tokens": list(torch.randint(1, 100, (3, 16))),
    }


def _images(batch: dict[str, list[torch.Tensor]]) -> torch.Tensor:
    """CLIP's own preprocessing: to 0..1, then mean and standard deviation."""
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    return (torch.stack(batch["inputs"]).float() / 255 - mean) / std


def test_loss_is_the_symmetric_contrast_of_the_batch(clip: CLIP, batch: dict) -> None:
    loss = ClipPretrainer(clip)(**batch, mode="loss")["loss_clip"]
    images = F.normalize(clip.encode_image(_images(batch)), dim=-1)
    texts = F.normalize(clip.encode_text(torch.stack(batch["tokens"])), dim=-1)
    logits = images @ texts.T * clip.logit_scale.exp()
    labels = torch.arange(3)
    expected = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)


def test_features_are_those_of_the_clip(clip: CLIP, batch: dict) -> None:
    features = ClipPretrainer(clip)(**batch)
    assert torch.allclose(features, clip.encode_image(_images(batch)), atol=1e-4)


def test_only_the_clip_is_trained_and_saved(clip: CLIP, batch: dict) -> None:
    model = ClipPretrainer(clip).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert set(before) == {f"clip.{key}" for key in clip.state_dict()}
    model.train_step(batch, OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1)))
    moved = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert {"clip.visual.conv1.weight", "clip.text_projection", "clip.logit_scale"} < moved


def test_initialisation_by_a_runner_keeps_the_weights(clip: CLIP) -> None:
    model = ClipPretrainer(clip)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.init_weights()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
