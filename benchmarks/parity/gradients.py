"""Gradients of a run, under the official names."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import nn

from benchmarks.parity.golden_folder import Arrays


def gradient_norms(prefix: str, parameters: Mapping[str, nn.Parameter]) -> Arrays:
    """Return names and L2 norms (float64) of the gradients of ``parameters``, in their order."""
    norms = [float(parameter.grad.double().norm()) for parameter in parameters.values()]
    return {f"{prefix}_grad_names": np.array(list(parameters)), f"{prefix}_grad_norms": np.array(norms)}
