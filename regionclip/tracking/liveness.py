"""Which runs still have a process: one that was killed cannot close its run, so others close it."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from regionclip import files

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_SILENT = timedelta(days=1)  # after which a process of another host is taken to be gone


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


def all_runs(client: MlflowClient, experiment: str, wanted: str = "") -> Iterator[Run]:
    """Give the runs of an experiment that fit a filter of MLflow."""
    token = None
    while True:
        page = client.search_runs([experiment], wanted, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def close_left_open(
    client: MlflowClient,
    experiment: str,
    tags: Mapping[str, str],
    closed_by: str,
    gone: Callable[[Run], bool] = lambda run: is_gone(run.data.tags),
    *,
    dry_run: bool = False,
) -> list[Run]:
    """Close, as KILLED, runs that are RUNNING though their process is gone; return them.

    Args:
        client: MLflow's client.
        experiment: Id of the experiment.
        tags: Which runs: those with these tags, such as ``dvc.stage``.
        closed_by: Kept as a tag of that name.
        gone: Says so of a run; by default by its process on this host.
        dry_run: Change nothing.
    """
    wanted = ["attributes.status = 'RUNNING'", *(f"tags.`{key}` = '{value}'" for key, value in tags.items())]
    closed = [run for run in all_runs(client, experiment, " and ".join(wanted)) if gone(run)]
    for run in closed if not dry_run else ():
        client.set_tag(run.info.run_id, "closed_by", closed_by)
        client.set_terminated(run.info.run_id, "KILLED")
    return closed
