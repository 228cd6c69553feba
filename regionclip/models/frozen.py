"""Keep parts of a network as they are: no gradients, and batch norm on its running statistics."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def freeze(module: Module) -> Module:
    """Take every parameter of ``module`` out of training."""
    return module.requires_grad_(False)


def freeze_batch_norm(module: Module) -> Module:
    """Fix every batch norm in ``module``: running statistics, and neither scale nor shift trains."""
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            freeze(child)
    return keep_batch_norm_fixed(module)


def keep_batch_norm_fixed(module: Module) -> Module:
    """Put every batch norm in ``module`` in evaluation mode; to be called after each ``train()``."""
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            child.eval()
    return module
