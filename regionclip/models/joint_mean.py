"""What a process divides its sums by, so that the mean over the processes is the mean over their joint batch."""

from __future__ import annotations

import torch
from mmengine.dist import all_reduce


def joint_mean(count: float | torch.Tensor) -> float:
    """Return the mean of ``count`` over all processes, which must all call this; ``count`` itself where there is one.

    Training averages the gradients of the processes. Each dividing its sum by its own count would weigh the pictures
    of a process with few regions more; all dividing by this number gives what one process would compute.
    """
    mean = torch.as_tensor(count).detach().cpu().double()
    all_reduce(mean, "mean")
    return mean.item()
