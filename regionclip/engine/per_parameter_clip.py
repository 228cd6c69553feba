"""Optimiser wrappers that clip the gradient of each tensor by its own norm, as the official pretraining does."""

from __future__ import annotations

import torch
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS


class _PerParameterClip:
    """Apply ``clip_grad`` to one parameter at a time.

    MMEngine clips the norm over all parameters. Detectron2's ``solver/build.py``, and so the official RegionCLIP,
    clips each tensor apart from the others.
    """

    def _clip_grad(self) -> None:
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    torch.nn.utils.clip_grad_norm_(parameter, **self.clip_grad_kwargs)


@OPTIM_WRAPPERS.register_module()
class PerParameterClipOptimWrapper(_PerParameterClip, OptimWrapper):
    """``OptimWrapper`` that applies ``clip_grad`` to one parameter at a time."""


@OPTIM_WRAPPERS.register_module()
class PerParameterClipAmpOptimWrapper(_PerParameterClip, AmpOptimWrapper):
    """``AmpOptimWrapper`` that applies ``clip_grad`` to one parameter at a time."""
