"""Where a run comes from: git commit, host, process, flow run, package versions."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata

from regionclip.tracking.liveness import process_tags

_PACKAGES = ("regionclip", "torch", "mmdet", "mmengine", "open_clip_torch", "dvc")


def origin_tags() -> dict[str, str]:
    """Return tags of the commit, host, process, flow run (where a flow started this) and main packages.

    What the pipeline itself writes (dvc.lock, reports) does not make the tree dirty.
    """
    sha = _git("rev-parse", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!dvc.lock", ":!reports")
    tags = {"git.sha": sha or "none", "git.dirty": str(bool(changed)).lower(), "host": platform.node()}
    # Prefect's workers set the first; a flow that runs in a process of its own passes the second on.
    flow_run = os.environ.get("PREFECT__FLOW_RUN_ID") or os.environ.get("REGIONCLIP_FLOW_RUN_ID")
    if flow_run:
        tags["prefect.flow_run_id"] = flow_run
    installed = all_packages()
    versions = {f"package.{name}": installed[name] for name in _PACKAGES if name in installed}
    return {**tags, **process_tags(), **versions}


def all_packages() -> dict[str, str]:
    """Return the versions of all installed packages by name."""
    found = {part.metadata["Name"]: part.version for part in metadata.distributions()}
    return dict(sorted(found.items()))


def _git(*arguments: str) -> str:
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
