"""Where a run comes from (commit, host, process, packages), and whether its process lives; others close what died."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING

from regionclip import files
from regionclip.tracking.store import all_found

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_PACKAGES = ("regionclip", "torch", "mmdet", "mmengine", "open_clip_torch", "dvc")
_SILENT = timedelta(days=1)  # after which a process of another host is taken to be gone


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


@cache
def all_packages() -> dict[str, str]:
    """Return the versions of all installed packages by name."""
    # Each access reads the package's file again.
    facts = [part.metadata for part in metadata.distributions()]
    return dict(sorted((one["Name"], one["Version"]) for one in facts))


def _git(*arguments: str) -> str:
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def process_tags() -> dict[str, str]:
    """Return the tags process.pid and process.started of this process."""
    import psutil

    return {"process.pid": str(os.getpid()), "process.started": f"{psutil.Process().create_time():.2f}"}


def is_gone(tags: Mapping[str, str], last_sign: float | None = None) -> bool:
    """Say whether the process of a run has ended; False where this host cannot know.

    Args:
        tags: Those of `process_tags`, and ``host``.
        last_sign: When it last gave a sign of life, in seconds since 1970. A process of another host, such as a pod
            that is no more, is gone after a day without; None leaves that open.
    """
    if tags.get("host") != platform.node():
        return last_sign is not None and time.time() - last_sign > _SILENT.total_seconds()
    try:
        return files.is_gone(int(tags["process.pid"]), float(tags["process.started"]))
    except (KeyError, ValueError, OverflowError):
        return False


def close_left_open(
    client: MlflowClient,
    experiment: str,
    tags: Mapping[str, str],
    closed_by: str,
    gone: Callable[[Run], bool] = lambda run: is_gone(run.data.tags),
    *,
    dry_run: bool = False,
) -> list[Run]:
    """Close, as KILLED, runs with these tags that are RUNNING though their process is gone; return them.

    ``gone`` says so of a run, by default by its process on this host. ``closed_by`` is kept as a tag of that name.
    ``dry_run`` changes nothing.
    """
    wanted = ["attributes.status = 'RUNNING'", *(f"tags.`{key}` = '{value}'" for key, value in tags.items())]
    closed = [run for run in all_found(client.search_runs, [experiment], " and ".join(wanted)) if gone(run)]
    for run in closed if not dry_run else ():
        client.set_tag(run.info.run_id, "closed_by", closed_by)
        client.set_terminated(run.info.run_id, "KILLED")
    return closed
