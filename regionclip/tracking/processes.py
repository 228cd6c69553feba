"""Which process a run belongs to, and runs whose process is gone: a stage that was killed cannot close its own."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient

_CLOCK = 2.0  # seconds by which two readings of a process's start may differ


def process_tags() -> dict[str, str]:
    """Return the tags process.pid and process.started of this process."""
    import psutil

    return {"process.pid": str(os.getpid()), "process.started": f"{psutil.Process().create_time():.2f}"}


def is_gone(tags: Mapping[str, str]) -> bool:
    """Say whether the process of a run has ended; False where this host cannot know."""
    import psutil

    if tags.get("host") != platform.node() or not {"process.pid", "process.started"} <= tags.keys():
        return False
    try:
        started = psutil.Process(int(tags["process.pid"])).create_time()
    except psutil.NoSuchProcess:
        return True
    # Numbers of processes are given out again.
    return abs(started - float(tags["process.started"])) > _CLOCK


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
