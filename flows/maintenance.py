"""The flow `maintenance`: delivers late records, closes MLflow runs left open, clears old files, looks at disks."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import ObjectNotFound
from pydantic import Field
from rich.filesize import decimal

from flows.dvc_lock import committed_runs
from regionclip.artifacts import SIDECARS
from regionclip.errors import InputError, printable
from regionclip.files import sweep
from regionclip.tracking.origin import close_left_open, is_gone
from regionclip.tracking.sidecar import read_sidecars
from regionclip.tracking.store import all_found, connect, delivery_errors, experiment_id, require_answer, tracking_uri
from regionclip.tracking.undelivered import sync

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

SCRATCH = Path(".scratch")
WRITTEN = (Path("artifacts"), Path("data"), SCRATCH)
DISKS = (Path(), SCRATCH, Path(".dvc/cache"), Path("mlruns"))
LEAST_FREE = 0.1  # of a disk
REMOVED, KEEP = "artifacts.removed", "keep"
_DIGEST = re.compile(r"[0-9a-f]{16}")
_STAGE_RUN = re.compile(r"stage\..+\.run_id")

Row = dict[str, str]
"""Of the table: subject (what kind of thing), item (which one), found (what is the matter with it), done."""


class DiskAlmostFull(Exception):
    """A disk has less free than the least; the flow run fails, so that its notice goes out."""


@flow(name="maintenance")
def maintenance(keep_days: Annotated[int, Field(ge=1, le=36_500)] = 30, dry_run: bool = False) -> list[Row]:
    """Deliver late records, close MLflow runs left open, clear old files and look at the disks.

    Files are those of the checkout it runs in. It belongs on a pool without a limit: one that a dead worker has
    filled would hold it back too. What dead workers hold in Prefect, its automations free.

    Args:
        keep_days: How long scratch and artifacts are kept that nothing refers to.
        dry_run: Only say what would be done.

    Returns:
        The rows of its table: subject, item, found, done.

    Raises:
        DiskAlmostFull: A disk has less than a tenth free; all else was done before.
    """
    # What writers that were killed left beside their files.
    left = [] if dry_run else [path for folder in WRITTEN for path in sweep(folder, below=True)]
    rows = [_row("temporary", path, "its writer is gone", "removed") for path in left]
    with get_client(sync_client=True) as prefect:
        rows += _of_mlflow(prefect, keep_days, dry_run)
    disks = list(_disks())
    rows += disks
    create_table_artifact(key="maintenance", table=rows, description="What maintenance found and did")
    for row in rows:
        get_run_logger().info("%(subject)s %(item)s: %(found)s; %(done)s", row)
    if full := [disk for disk in disks if disk["done"].startswith("alarm")]:
        raise DiskAlmostFull("; ".join(f"{disk['item']}: {disk['found']}" for disk in full))
    return rows


def _row(subject: str, item: object, found: str, done: str) -> Row:
    return {"subject": subject, "item": str(item), "found": found, "done": done}


def _of_mlflow(prefect: SyncPrefectClient, keep_days: int, dry_run: bool) -> list[Row]:
    """Do what needs MLflow; scratch too, since MLflow knows which training goes on."""
    rows: list[Row] = []
    uri = "MLFLOW_TRACKING_URI"
    try:
        uri = tracking_uri()
        require_answer(uri)
        client = connect(uri)
        for synced in sync(dry_run=dry_run):
            why = f": {synced.error}" if synced.error else ""
            records = f"{synced.records} of {synced.file.name}"
            rows.append(_row("undelivered records", synced.stage, records, f"{synced.outcome}{why}"))
        cleaning = _Cleaning(client, experiment_id(client), keep_days, dry_run)
        rows += cleaning.open_runs(prefect)
        rows += cleaning.scratch(SCRATCH)
        try:
            if not (sidecars := read_sidecars(SIDECARS).values()):
                problem = "there are no results here, so what others refer to is not known"
                raise InputError(problem, file=SIDECARS, mend="run maintenance where the results are")
            # What made the files here, or a commit's.
            named = {str(sidecar["run_id"]) for sidecar in sidecars} | committed_runs(Path.cwd())
            rows += cleaning.artifacts(named)
        except InputError as error:
            rows.append(_row("MLflow", "old artifacts", str(error), "nothing: all of them stay"))
    except (InputError, *delivery_errors()) as error:
        problem = " ".join(str(error).split())[:300]
        rows.append(_row("MLflow", uri, printable(problem), "nothing more: all of it stays"))
    return rows


@dataclass(frozen=True)
class _Cleaning:
    """What is cleared away by policy, with what MLflow knows of it; a dry run says what would be done."""

    client: MlflowClient
    experiment: str
    keep_days: int
    dry_run: bool

    def open_runs(self, prefect: SyncPrefectClient) -> list[Row]:
        """Close runs that are RUNNING without a live process.

        A run of this host is judged by its process. One of another host is closed when it gave no sign of life for a
        day: it was not started, logged no metric, and its Prefect flow run, where it has one, is over.
        """
        gone = partial(self._is_dead, prefect)
        dead = close_left_open(self.client, self.experiment, {}, "maintenance", gone, dry_run=self.dry_run)
        done = self._done("closed as KILLED")
        names = [f"{run.info.run_name} {run.info.run_id}" for run in dead]
        return [_row("MLflow run", name, "no sign of life of its process", done) for name in names]

    def scratch(self, folder: Path) -> Iterator[Row]:
        """Remove resumable state (STAGE/DIGEST) that nothing has touched for a while, and that is of no RUNNING run."""
        running = all_found(self.client.search_runs, [self.experiment], "attributes.status = 'RUNNING'")
        live = {run.data.tags.get("stage.digest", "")[:16] for run in running}
        for state in sorted(path for path in folder.glob("*/*") if path.is_dir() and _DIGEST.fullmatch(path.name)):
            files = [file.lstat() for file in state.rglob("*") if not file.is_dir()]
            age = _days_since(max([state.lstat().st_mtime, *(file.st_mtime for file in files)]))
            if age <= self.keep_days or state.name in live:
                continue
            if not self.dry_run:
                shutil.rmtree(state)
            found = f"{decimal(sum(file.st_size for file in files))}, untouched for {age:.0f} days"
            yield _row("scratch", f"{state.parent.name}/{state.name}", found, self._done("removed"))

    def artifacts(self, named: Iterable[str]) -> Iterator[Row]:
        """Remove the artifact files of old runs that nothing refers to; params, metrics and tags stay.

        Kept are the runs of registered versions, those that ``named`` holds or that have the tag ``keep``, the pipeline
        runs above them, the stage runs that such a pipeline run links to, and all children of runs that are kept.
        """
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        runs = {run.info.run_id: run for run in all_found(self.client.search_runs, [self.experiment])}
        tagged = {run_id for run_id, run in runs.items() if KEEP in run.data.tags}
        registered = {version.run_id for version in all_found(self.client.search_model_versions) if version.run_id}
        kept = _related(runs, {*named, *tagged, *registered})
        for run_id, run in runs.items():
            age = 0.0 if run.info.end_time is None else _days_since(run.info.end_time / 1000)
            if age <= self.keep_days or run_id in kept or REMOVED in run.data.tags:
                continue
            files = get_artifact_repository(run.info.artifact_uri, tracking_uri=self.client.tracking_uri)
            size = sum(_sizes(files))
            if not self.dry_run:
                files.delete_artifacts()
                self.client.set_tag(run_id, REMOVED, "maintenance")
            if size:
                found = f"{decimal(size)}, ended {age:.0f} days ago"
                yield _row("MLflow artifacts", f"{run.info.run_name} {run_id}", found, self._done("removed"))

    def _done(self, action: str) -> str:
        return f"would be {action}" if self.dry_run else action

    def _is_dead(self, prefect: SyncPrefectClient, run: Run) -> bool:
        tags = run.data.tags
        if is_gone(tags):
            return True
        histories = (self.client.get_metric_history(run.info.run_id, name) for name in run.data.metrics)
        last = max([run.info.start_time, *(metric.timestamp for history in histories for metric in history)])
        if not is_gone(tags, last / 1000):
            return False
        try:
            flow_run = tags.get("prefect.flow_run_id")
            state = prefect.read_flow_run(UUID(flow_run)).state if flow_run else None
        except (ObjectNotFound, ValueError):
            return False
        return flow_run is None or (state is not None and state.is_final())


def _related(runs: dict[str, Run], seeds: set[str]) -> set[str]:
    """Return the runs and all that are above, below or linked to them."""
    kept: set[str] = set()
    new = seeds
    while new:
        kept |= new
        tags = [item for run_id in new & runs.keys() for item in runs[run_id].data.tags.items()]
        near = {value for tag, value in tags if tag == "mlflow.parentRunId" or _STAGE_RUN.fullmatch(tag)}
        below = {run_id for run_id, run in runs.items() if run.data.tags.get("mlflow.parentRunId") in kept}
        new = (near | below) - kept
    return kept


def _disks() -> Iterator[Row]:
    """Say how much is free on each disk of the workspace."""
    disks: dict[int, Path] = {}
    for folder in DISKS:
        if folder.exists():
            disks.setdefault(folder.stat().st_dev, folder)
    for folder in disks.values():
        usage = shutil.disk_usage(folder)
        verdict = "nothing" if usage.free >= LEAST_FREE * usage.total else f"alarm: below {LEAST_FREE:.0%}"
        yield _row("disk", folder.resolve(), f"{decimal(usage.free)} of {decimal(usage.total)} free", verdict)


def _sizes(files: ArtifactRepository, path: str | None = None) -> list[int]:
    sizes = []
    for entry in files.list_artifacts(path):
        sizes += _sizes(files, entry.path) if entry.is_dir else [entry.file_size or 0]
    return sizes


def _days_since(seconds: float) -> float:
    return (time.time() - seconds) / 86_400
