"""The parent run of a pipeline run: which stages ran or were cached, in which runs, with which dvc.lock."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from regionclip import artifacts
from regionclip.errors import logger, redacted
from regionclip.files import read_json
from regionclip.tracking.names import flat_metrics, metric_name
from regionclip.tracking.origin import all_packages, origin_tags
from regionclip.tracking.record import End, Metrics, Record, Start
from regionclip.tracking.sidecar import read_sidecars
from regionclip.tracking.store import connect, delivery_errors, one_line, require_answer, tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

_log = logger(__name__)
_Result = TypeVar("_Result")

LOCK = Path("dvc.lock")


@dataclass(frozen=True)
class StageRecord:
    """What became of one stage in a pipeline run."""

    name: str  # DVC's, such as finetune@coco
    # cached: its outputs were there already or came from the cache
    outcome: Literal["ran", "cached", "failed", "not run"]
    run_id: str | None  # the MLflow run that made its outputs; None when none is known
    seconds: float | None  # how long it took; None when it did not run


def start_pipeline_run(profile: str, tags: Mapping[str, str]) -> str | None:
    """Open the parent run and return its id; None, after a warning, when MLflow does not answer.

    Its stages find it as ``REGIONCLIP_PARENT_RUN_ID``. ``tags`` are further ones, such as ``prefect.flow_run_id``.
    """
    start = Start(tags={**origin_tags(), "kind": "pipeline", "profile": profile, **tags})
    record = Record.begin("pipeline", start)

    def open_run(client: MlflowClient) -> str | None:
        record.send(client)
        client.log_dict(record.run_id, all_packages(), "packages.json")
        return record.run_id

    return _unless_away("open", open_run)


def finish_pipeline_run(run_id: str | None, stages: Sequence[StageRecord], *, status: str, root: Path) -> None:
    """Close the parent run: each stage's outcome and run, dvc.lock and its MD5, the numbers of the summary.

    While MLflow is away the end is kept in mlruns/undelivered/. A stage without a run is looked up by its digest, since
    its record may have been delivered after it ended. ``status`` is FINISHED, FAILED or KILLED.
    """
    if run_id is None:
        return
    late = _unless_away("look into", lambda client: _late_runs(client, run_id, stages, root)) or {}
    record = Record.begin("pipeline", None, run_id)
    record.metrics = [Metrics(time=record.since, step=0, values=_numbers(stages, root))]
    record.artifacts = [str(root / LOCK)] if (root / LOCK).exists() else []
    record.end = End(time=record.since, status=status, tags=_tags(stages, late, root))
    if _unless_away("close", record.send) is None:
        record.keep()
        _log.warning("Its end is in %s; deliver it with `regionclip mlflow-sync`.", record.file)


def tracking_ui_link(run_id: str | None) -> str | None:
    """Return the address of a run in MLflow's UI; None without a run or a server."""
    uri = tracking_uri()
    if run_id is None or not uri.startswith(("http://", "https://")):
        return None

    def address(client: MlflowClient) -> str:
        return f"{redacted(uri).rstrip('/')}/#/experiments/{client.get_run(run_id).info.experiment_id}/runs/{run_id}"

    return _unless_away("look up", address)


def _tags(stages: Sequence[StageRecord], late: Mapping[str, str], root: Path) -> dict[str, str]:
    tags = {}
    for stage in stages:
        name = f"stage.{metric_name(stage.name)}"
        tags[f"{name}.outcome"] = stage.outcome
        if made_by := stage.run_id or late.get(stage.name):
            tags[f"{name}.run_id"] = made_by
    if (root / LOCK).exists():
        tags["dvc.lock.md5"] = hashlib.md5((root / LOCK).read_bytes(), usedforsecurity=False).hexdigest()
    return tags


def _late_runs(client: MlflowClient, run_id: str, stages: Sequence[StageRecord], root: Path) -> dict[str, str]:
    """Return the runs of stages whose sidecars name none, by stage: those that finished with the sidecar's digest."""
    found, experiment = {}, client.get_run(run_id).info.experiment_id
    sidecars = read_sidecars(root / artifacts.SIDECARS)
    for stage in stages:
        if stage.run_id or stage.outcome not in ("ran", "cached") or stage.name not in sidecars:
            continue
        digest = sidecars[stage.name]["digest"]
        wanted = f"tags.`stage.digest` = '{digest}' and tags.`dvc.stage` = '{stage.name}'"
        wanted += " and attributes.status = 'FINISHED'"
        runs = client.search_runs([experiment], wanted, order_by=["attributes.start_time DESC"])
        # The runs of single models have the stage's tags too.
        if of_stage := [run.info.run_id for run in runs if "model" not in run.data.tags]:
            found[stage.name] = of_stage[0]
    return found


def _numbers(stages: Sequence[StageRecord], root: Path) -> dict[str, float]:
    """Return seconds of the stages that ran, and the summary's numbers where the report belongs to this run."""
    numbers: dict[str, Any] = {"seconds": {stage.name: stage.seconds for stage in stages if stage.seconds is not None}}
    report = next((stage for stage in stages if stage.name == "report"), None)
    if report is not None and report.outcome in ("ran", "cached") and (root / artifacts.SUMMARY).exists():
        summary = read_json(root / artifacts.SUMMARY)
        # Of mistakes there are many numbers; the runs of the stages `evaluate` have them.
        chosen = summary.keys() - {"seconds", "errors"}
        numbers |= {key: summary[key] for key in summary if key in chosen and isinstance(summary[key], dict)}
    return flat_metrics(numbers)


def _unless_away(what: str, act: Callable[[MlflowClient], _Result]) -> _Result | None:
    """Do something with MLflow; warn and return None where that fails, because the pipeline goes on without it."""
    uri = tracking_uri()
    try:
        require_answer(uri)
        return act(connect(uri))
    except delivery_errors() as error:
        _log.warning("MLflow did not %s the pipeline's run. %s", what, one_line(error))
        return None
