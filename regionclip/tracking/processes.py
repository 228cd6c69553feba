"""Which process a run belongs to, and runs whose process is gone: a stage that was killed cannot close its own."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from regionclip import files

if TYPE_CHECKING:
    from mlflow import MlflowClient

SILENT = timedelta(days=1)  # after which a process of another host is taken to be gone


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
        return last_sign is not None and time.time() - last_sign > SILENT.total_seconds()
    try:
        return files.is_gone(int(tags["process.pid"]), float(tags["process.started"]))
    except (KeyError, ValueError, OverflowError):
        return False


def close_left_open(client: MlflowClient, experiment: str, tags: Mapping[str, str], closed_by: str) -> list[str]:
    """Close, as KILLED, runs that are RUNNING though their process on this host is gone.

    Args:
        client: MLflow's client.
        experiment: Id of the experiment.
        tags: Which runs: those with these tags, such as ``dvc.stage``.
        closed_by: What closes them; kept as the tag ``closed_by``.

    Returns:
        Ids of the runs that were closed.
    """
    wanted = [f"tags.`{key}` = '{value}'" for key, value in {**tags, "host": platform.node()}.items()]
    running = client.search_runs([experiment], " and ".join(["attributes.status = 'RUNNING'", *wanted]))
    closed = [run.info.run_id for run in running if is_gone(run.data.tags)]
    for run_id in closed:
        client.set_tag(run_id, "closed_by", closed_by)
        client.set_terminated(run_id, "KILLED")
    return closed
