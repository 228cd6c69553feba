"""What a pipeline run leaves in Prefect: a table of the stages, a summary, and one line for its final state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.schemas.objects import State

from flows.dvc_lock import Recorded
from flows.stage_runs import StageFailed, StageRun
from regionclip.artifacts import SUMMARY_TABLE
from regionclip.tracking.pipeline_run import StageRecord, tracking_ui_link


def stage_records(
    states: Mapping[str, State[Any]], before: Mapping[str, Recorded], after: Mapping[str, Recorded], *, force: bool
) -> list[StageRecord]:
    """Say of each stage whether it ran, was cached, failed or was not run.

    A stage ran when its entry in dvc.lock or its sidecar is another one than before, unless DVC restored it.
    """
    return [_record(name, state, before[name], after[name], force) for name, state in states.items()]


def problems(states: Mapping[str, State[Any]]) -> list[str]:
    """Return a line for each stage that failed, with its exit code, and one with those that were not run for it."""
    failures = {name: state.result(raise_on_failure=False) for name, state in states.items() if _failed(state)}
    found = [
        f"{name} {error.reason if isinstance(error, StageFailed) else f'failed ({error})'}"
        for name, error in failures.items()
    ]
    left = [name for name, state in states.items() if not state.is_completed() and name not in failures]
    return found + ([f"not run: {', '.join(left)}"] if left else [])


def leave_artifacts(
    records: Sequence[StageRecord], changes: Sequence[tuple[str, str, str]], notes: Sequence[str], root: Path
) -> None:
    """Make the run's two artifacts: the table of stages, and a summary with notes, results and `changed_outputs`."""
    rows = [
        {
            "stage": record.name,
            "outcome": record.outcome,
            "seconds": None if record.seconds is None else round(record.seconds, 1),
            "MLflow run": tracking_ui_link(record.run_id) or record.run_id,
        }
        for record in records
    ]
    create_table_artifact(key="pipeline-stages", table=rows, description="Every stage of the run")
    reported = any(record.name == "report" and record.outcome in ("ran", "cached") for record in records)
    parts = ["# Pipeline run", counts(records), *notes]
    if reported and (root / SUMMARY_TABLE).exists():
        parts.append((root / SUMMARY_TABLE).read_text(encoding="utf-8"))
    table = ["| stage | output | |", "|---|---|---|", *(f"| {' | '.join(change)} |" for change in changes)]
    parts += ["## Changed outputs", "\n".join(table) if changes else "None."]
    create_markdown_artifact(key="pipeline-summary", markdown="\n\n".join(parts), description="Results and changes")


def counts(records: Sequence[StageRecord]) -> str:
    """Return, for example, ``4 ran, 9 cached``."""
    return ", ".join(f"{number} {outcome}" for outcome, number in Counter(r.outcome for r in records).items())


def _record(name: str, state: State[Any], before: Recorded, after: Recorded, force: bool) -> StageRecord:
    if not state.is_completed():
        error = state.result(raise_on_failure=False) if _failed(state) else None
        seconds = error.seconds if isinstance(error, StageFailed) else None
        return StageRecord(name, "failed" if _failed(state) else "not run", None, seconds)
    run: StageRun = state.result()
    ran = (before != after or force) and not run.restored
    return StageRecord(name, "ran" if ran else "cached", after.run_id, run.seconds if ran else None)


def _failed(state: State[Any]) -> bool:
    return state.is_failed() or state.is_crashed()
