"""What all tests share: a tiny CLIP on disk, interrupts, and a registry scope that no test leaves behind."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

TINY_CLIP: dict[str, Any] = {
    "embed_dim": 32,
    "quick_gelu": True,
    "vision_cfg": {"layers": [1, 1, 1, 1], "width": 16, "image_size": 64},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="session", autouse=True)
def interrupts_reach_programs() -> Iterator[None]:
    """pytest-xdist and a shell's background ignore SIGINT, and programs that tests start would inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def registry_scope_of_its_own() -> Iterator[None]:
    """A Runner leaves its default scope behind for the whole process; no test may depend on another's."""
    yield
    if "mmengine" in sys.modules:
        from mmengine.registry import DefaultScope

        DefaultScope._instance_dict.clear()


@pytest.fixture(scope="session")
def clip_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP folder with random weights; norms have statistics of their own, so that a mix-up shows."""
    import torch

    from regionclip.checkpoints.clip_folder import build_clip, save_clip

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_clip(TINY_CLIP)
        for module in model.visual.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
                torch.nn.init.uniform_(module.running_var, 0.8, 1.2)
                torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    path = tmp_path_factory.mktemp("clip") / "clip"
    save_clip(path, TINY_CLIP, model.state_dict(), {"stage_digest": "0" * 64})
    return path
