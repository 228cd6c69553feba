"""PerParameterClipOptimWrapper clips each tensor by its own norm."""

from __future__ import annotations

import pytest
import torch
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn

from regionclip.engine import training  # noqa: F401  (registered)


@pytest.mark.parametrize(
    ("kind", "moved"),
    [
        # (3, 4) has norm 5 and becomes (1.5, 2); (0, 1) has norm 1 and stays.
        ("PerParameterClipOptimWrapper", [[1.5, 2.0], [0.0, 1.0]]),
        # All of them have norm sqrt(26), so MMEngine's own wrapper scales both by 2.5 / sqrt(26).
        ("OptimWrapper", [[1.47087, 1.96116], [0.0, 0.49029]]),
    ],
)
def test_one_step_of_a_hand_made_gradient(kind: str, moved: list[list[float]]) -> None:
    """A step of rate 1 moves each parameter by its clipped gradient."""
    parameters = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))]
    optimizer = torch.optim.SGD(parameters, lr=1.0)
    wrapper = OPTIM_WRAPPERS.build({"type": kind, "optimizer": optimizer, "clip_grad": {"max_norm": 2.5}})
    # The third has no gradient, as a parameter that took no part in the step.
    (-(parameters[0] * torch.tensor([3.0, 4.0])).sum() - parameters[1][1]).backward()
    wrapper.step()
    for parameter, value in zip(parameters, [*moved, [0.0, 0.0]], strict=True):
        torch.testing.assert_close(parameter.data, torch.tensor(value), rtol=1e-5, atol=1e-5)
