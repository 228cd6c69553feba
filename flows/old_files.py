"""What maintenance clears away by policy: old resumable state and old MLflow artifacts; and how full the disks are."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from flows.findings import Finding, done
from flows.stale_mlflow_runs import all_runs

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

LEAST_FREE = 0.1  # of a disk
REMOVED, KEEP = "artifacts.removed", "keep"
_DIGEST = re.compile(r"[0-9a-f]{16}")
_STAGE_RUN = re.compile(r"stage\..+\.run_id")


def clean_scratch(
    scratch: Path, is_live: Callable[[str], bool], keep: timedelta, *, now: float, dry_run: bool
) -> list[Finding]:
    """Remove resumable state that nothing has touched for a while.

    Args:
        scratch: Folder of STAGE/DIGEST folders, see `regionclip.checkpoints.scratch`.
        is_live: Says whether a run with this start of its digest goes on.
        keep: How long untouched state is kept.
        now: The time, in seconds since 1970.
        dry_run: Change nothing.
    """
    findings = []
    for state in sorted(path for path in scratch.glob("*/*") if path.is_dir() and _DIGEST.fullmatch(path.name)):
        files = [file.lstat() for file in state.rglob("*") if not file.is_dir()]
        touched = max([state.lstat().st_mtime, *(file.st_mtime for file in files)])
        if now - touched <= keep.total_seconds() or is_live(state.name):
            continue
        if not dry_run:
            shutil.rmtree(state)
        found = f"{_size(sum(file.st_size for file in files))}, untouched for {(now - touched) / 86400:.0f} days"
        findings.append(Finding("scratch", f"{state.parent.name}/{state.name}", found, done("removed", dry_run)))
    return findings


def clean_artifacts(
    client: MlflowClient, experiment: str, named: Iterable[str], keep: timedelta, *, now: float, dry_run: bool
) -> list[Finding]:
    """Remove the artifact files of old runs that nothing refers to; params, metrics and tags stay.

    Kept are the runs of registered versions, those that `named` holds or that have the tag ``keep``, the pipeline runs
    above them, the stage runs that such a pipeline run links to, and all children of runs that are kept.

    Args:
        client: MLflow's client.
        experiment: Id of the experiment.
        named: Ids of runs that made what lies in the workspace, or what a commit names.
        keep: Age, counted from a run's end, up to which its artifacts are kept.
        now: The time, in seconds since 1970.
        dry_run: Change nothing.
    """
    runs = {run.info.run_id: run for run in all_runs(client, experiment)}
    tagged = {run_id for run_id, run in runs.items() if KEEP in run.data.tags}
    kept = _kept(runs, {*named, *tagged, *_registered(client)})
    findings = []
    for run_id, run in runs.items():
        old = run.info.end_time is not None and now - run.info.end_time / 1000 > keep.total_seconds()
        if not old or run_id in kept or REMOVED in run.data.tags:
            continue
        files = _artifacts(client, run)
        size = sum(_sizes(files))
        if not dry_run:
            files.delete_artifacts()
            client.set_tag(run_id, REMOVED, "maintenance")
        if size:
            found = f"{_size(size)}, ended {(now - run.info.end_time / 1000) / 86400:.0f} days ago"
            item = f"{run.info.run_name} {run_id}"
            findings.append(Finding("MLflow artifacts", item, found, done("removed", dry_run)))
    return findings


def look_at_disks(folders: Iterable[Path]) -> list[Finding]:
    """Say how much is free on the disks of these folders; ``done`` says when it is too little."""
    disks: dict[int, Path] = {}
    for folder in folders:
        if folder.exists():
            disks.setdefault(folder.stat().st_dev, folder)
    findings = []
    for folder in disks.values():
        usage = shutil.disk_usage(folder)
        free = f"{_size(usage.free)} of {_size(usage.total)} free"
        verdict = "nothing" if usage.free >= LEAST_FREE * usage.total else f"alarm: below {LEAST_FREE:.0%}"
        findings.append(Finding("disk", str(folder.resolve()), free, verdict))
    return findings


def _kept(runs: dict[str, Run], seeds: set[str]) -> set[str]:
    kept, new = set(), seeds
    while new:
        kept |= new
        near = {value for run_id in new & runs.keys() for value in _related(runs[run_id])}
        below = {run_id for run_id, run in runs.items() if run.data.tags.get("mlflow.parentRunId") in kept}
        new = (near | below) - kept
    return kept


def _related(run: Run) -> list[str]:
    return [value for tag, value in run.data.tags.items() if tag == "mlflow.parentRunId" or _STAGE_RUN.fullmatch(tag)]


def _registered(client: MlflowClient) -> set[str]:
    token, found = None, set()
    while True:
        page = client.search_model_versions(page_token=token)
        found |= {version.run_id for version in page if version.run_id}
        token = page.token
        if not token:
            return found


def _artifacts(client: MlflowClient, run: Run) -> ArtifactRepository:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    return get_artifact_repository(run.info.artifact_uri, tracking_uri=client.tracking_uri)


def _sizes(files: ArtifactRepository, path: str | None = None) -> list[int]:
    sizes = []
    for entry in files.list_artifacts(path):
        sizes += _sizes(files, entry.path) if entry.is_dir else [entry.file_size or 0]
    return sizes


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
