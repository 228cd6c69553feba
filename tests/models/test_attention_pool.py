"""The cheap attention pool is open_clip's."""

from __future__ import annotations

import pytest
import torch
from open_clip.modified_resnet import AttentionPool2d

from regionclip.errors import InputError
from regionclip.models.attention_pool import AttentionPool


def _pair() -> tuple[AttentionPool2d, AttentionPool]:
    official = AttentionPool2d(spacial_dim=3, embed_dim=64, num_heads=4, output_dim=16)
    torch.nn.init.normal_(official.k_proj.bias)  # would change the result if it did not cancel
    ours = AttentionPool(3, 64, 4, 16)
    ours.load_state_dict(official.state_dict())
    return official, ours


def test_equals_open_clip_forward_and_backward() -> None:
    official, ours = _pair()
    maps = torch.randn(5, 64, 3, 3)
    inputs = [maps.clone().requires_grad_() for _ in range(2)]
    outputs = [pool(x) for pool, x in zip((official, ours), inputs, strict=True)]
    assert torch.allclose(*outputs, atol=1e-5)
    for out in outputs:
        out.square().sum().backward()
    assert torch.allclose(inputs[0].grad, inputs[1].grad, atol=1e-4)
    mine = dict(ours.named_parameters())
    for name, parameter in official.named_parameters():
        assert torch.allclose(parameter.grad, mine[name].grad, atol=1e-3), name


def test_every_parameter_gets_a_gradient() -> None:
    """The key bias cancels in the softmax, but DistributedDataParallel waits for its gradient."""
    _, ours = _pair()
    ours(torch.randn(2, 64, 3, 3)).sum().backward()
    assert all(parameter.grad is not None for parameter in ours.parameters())


def test_takes_no_regions() -> None:
    assert _pair()[1](torch.zeros(0, 64, 3, 3)).shape == (0, 16)


def test_refuses_another_grid() -> None:
    with pytest.raises(InputError, match="3x3 maps and got 2x2.*6x6"):
        _pair()[1](torch.randn(1, 64, 2, 2))
