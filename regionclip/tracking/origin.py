"""Where a run comes from: git commit, host, device."""

from __future__ import annotations

import platform
import subprocess
import sys

from regionclip.errors import InputError


def origin_tags() -> dict[str, str]:
    """Return the tags git.sha, git.dirty and host.

    What the pipeline itself writes (dvc.lock, reports) does not make the tree dirty.
    """
    sha = _git("rev-parse", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!dvc.lock", ":!reports")
    return {"git.sha": sha or "none", "git.dirty": str(bool(changed)).lower(), "host": platform.node()}


def device_name() -> str:
    """Return the device the stage ran on; a stage that did not load torch ran on the CPU."""
    if "torch" not in sys.modules:
        return "cpu"
    import torch

    from regionclip import runtime

    try:
        device = runtime.device()
    except InputError:
        # The stage has failed on the same setting; the run is to say so, not to fail again.
        return "unknown"
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def _git(*arguments: str) -> str:
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
