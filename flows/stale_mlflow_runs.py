"""MLflow runs that stayed open: closed as KILLED where no process can close them any more."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from flows.findings import Finding, done
from regionclip.tracking.processes import SILENT, is_gone

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_PAGE = 1000
CLOSED_BY = "maintenance"


def all_runs(client: MlflowClient, experiment: str, wanted: str = "") -> Iterator[Run]:
    """Give the runs of an experiment that fit a filter of MLflow."""
    token = None
    while True:
        page = client.search_runs([experiment], wanted, max_results=_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def close_stale_runs(
    client: MlflowClient, experiment: str, ended: Callable[[str], bool | None], *, now: float, dry_run: bool
) -> list[Finding]:
    """Close, as KILLED with the tag ``closed_by``, runs that are RUNNING without a live process.

    A run of this host is judged by its process. One of another host is closed when it gave no sign of life for a day:
    it was not started, logged no metric, and its Prefect flow run, where it has one, is over.

    Args:
        client: MLflow's client.
        experiment: Id of the experiment.
        ended: Says of a Prefect flow run's id whether it is over; None when that is not known.
        now: The time, in seconds since 1970.
        dry_run: Change nothing.
    """
    findings = []
    for run in all_runs(client, experiment, "attributes.status = 'RUNNING'"):
        found = _problem(client, run, ended, now)
        if found is None:
            continue
        if not dry_run:
            client.set_tag(run.info.run_id, "closed_by", CLOSED_BY)
            client.set_terminated(run.info.run_id, "KILLED")
        item = f"{run.info.run_name} {run.info.run_id}"
        findings.append(Finding("MLflow run", item, found, done("closed as KILLED", dry_run)))
    return findings


def _problem(client: MlflowClient, run: Run, ended: Callable[[str], bool | None], now: float) -> str | None:
    """Return why a RUNNING run is none; None when it may be alive."""
    tags = run.data.tags
    if is_gone(tags):
        return "its process is gone"
    if now - _last_sign(client, run) / 1000 < SILENT.total_seconds() or _is_here(tags):
        return None
    if "prefect.flow_run_id" in tags and ended(tags["prefect.flow_run_id"]) is not True:
        return None
    return "no sign of life for a day"


def _is_here(tags: dict[str, str]) -> bool:
    """Say whether the run's process is one of this host; it lives, for `is_gone` was asked before."""
    return tags.get("host") == platform.node() and "process.pid" in tags


def _last_sign(client: MlflowClient, run: Run) -> int:
    logged = (client.get_metric_history(run.info.run_id, name) for name in run.data.metrics)
    return max([run.info.start_time, *(metric.timestamp for history in logged for metric in history)])
