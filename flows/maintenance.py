"""The flow `maintenance`: frees what dead workers hold, delivers late records, clears old files, looks at disks."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run
from pydantic import Field

from flows.dvc_lock import committed_runs
from flows.findings import Finding
from flows.old_files import clean_artifacts, clean_scratch, look_at_disks
from flows.stale_flow_runs import crash_stale_flow_runs
from flows.stale_mlflow_runs import all_runs, close_stale_runs
from regionclip.errors import InputError, printable
from regionclip.tracking.sidecar import read_sidecars
from regionclip.tracking.store import (
    EXPERIMENT,
    connect,
    delivery_errors,
    experiment_id,
    require_answer,
    tracking_uri,
)
from regionclip.tracking.undelivered import sync

if TYPE_CHECKING:
    from mlflow import MlflowClient

SCRATCH, SIDECARS = Path(".scratch"), Path("artifacts/runs")
DISKS = (Path(), SCRATCH, Path(".dvc/cache"), Path("mlruns"))


class DiskAlmostFull(Exception):
    """A disk has less free than the least; the flow run fails, so that its notice goes out."""


@flow(name="maintenance")
def maintenance(
    stale_minutes: Annotated[int, Field(ge=1, le=525_600)] = 30,
    keep_days: Annotated[int, Field(ge=1, le=36_500)] = 30,
    dry_run: bool = False,
) -> list[dict[str, str]]:
    """Free what dead workers hold, deliver late records, clear old files and look at the disks.

    Files are those of the checkout it runs in. It belongs on a pool without a limit: one that a dead worker has
    filled would hold it back too.

    Args:
        stale_minutes: How long a flow run may be PENDING, or RUNNING without a heartbeat.
        keep_days: How long scratch and artifacts are kept that nothing refers to.
        dry_run: Only say what would be done.

    Returns:
        The rows of its table: subject, item, found, done.

    Raises:
        DiskAlmostFull: A disk has less than a tenth free; all else was done before.
    """
    own = UUID(str(flow_run.id)) if flow_run.id else None
    with get_client(sync_client=True) as client:
        findings = crash_stale_flow_runs(client, timedelta(minutes=stale_minutes), but=own, dry_run=dry_run)
        findings += _mlflow(_ending_of(client), timedelta(days=keep_days), dry_run)
    disks = look_at_disks(DISKS)
    rows = [asdict(finding) for finding in findings + disks]
    create_table_artifact(key="maintenance", table=rows, description="What maintenance found and did")
    for row in rows:
        get_run_logger().info("%(subject)s %(item)s: %(found)s; %(done)s", row)
    if full := [disk for disk in disks if disk.done.startswith("alarm")]:
        raise DiskAlmostFull("; ".join(f"{disk.item}: {disk.found}" for disk in full))
    return rows


def _mlflow(ended: Callable[[str], bool | None], keep: timedelta, dry_run: bool) -> list[Finding]:
    """Do what needs MLflow; scratch too, since MLflow knows which training goes on."""
    findings, uri = list[Finding](), "MLFLOW_TRACKING_URI"
    options: dict[str, Any] = {"now": time.time(), "dry_run": dry_run}
    try:
        uri = tracking_uri()
        require_answer(uri)
        client = connect(uri)
        for synced in sync(dry_run=dry_run):
            records = f"{synced.records} of {synced.file.name}"
            why = f": {synced.error}" if synced.error else ""
            findings.append(Finding("undelivered records", synced.stage, records, f"{synced.outcome}{why}"))
        experiment = experiment_id(client, EXPERIMENT, uri)
        findings += close_stale_runs(client, experiment, ended, **options)
        running = all_runs(client, experiment, "attributes.status = 'RUNNING'")
        live = {run.data.tags.get("stage.digest", "") for run in running}
        findings += clean_scratch(SCRATCH, lambda start: any(d.startswith(start) for d in live), keep, **options)
        findings += _old_artifacts(client, experiment, keep, **options)
    except (InputError, *delivery_errors()) as error:
        problem = " ".join(str(error).split())[:300]
        findings.append(Finding("MLflow", uri, printable(problem), "nothing more: all of it stays"))
    return findings


def _old_artifacts(client: MlflowClient, experiment: str, keep: timedelta, **options: Any) -> list[Finding]:
    """Clear artifacts that nothing names, from a checkout that knows what is named."""
    try:
        sidecars = read_sidecars(SIDECARS).values()
        if not sidecars:
            mend = "run maintenance where the results are"
            raise InputError(
                "there are no results here, so what others refer to is not known", file=SIDECARS, mend=mend
            )
        named = {str(sidecar["run_id"]) for sidecar in sidecars} | committed_runs(Path.cwd())
    except InputError as error:
        return [Finding("MLflow", "old artifacts", str(error), "nothing: all of them stay")]
    return clean_artifacts(client, experiment, named, keep, **options)


def _ending_of(client: SyncPrefectClient) -> Callable[[str], bool | None]:
    def ended(flow_run_id: str) -> bool | None:
        try:
            state = client.read_flow_run(UUID(flow_run_id)).state
        except (ObjectNotFound, ValueError):
            return None
        return state is not None and state.is_final()

    return ended
