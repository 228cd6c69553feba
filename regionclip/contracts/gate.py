"""Runs suites over tables as Great Expectations checkpoints, reports what was found and stops on an error."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from regionclip.artifacts import CHECKS, DATA_DOCS, REPORTS
from regionclip.contracts.gx import WARNING, Check  # isort: split

import great_expectations as gx
from great_expectations.data_context.types.base import ProgressBarsConfig

from regionclip.contracts.pages import results_page, write_pages
from regionclip.errors import DataCheckFailed
from regionclip.files import write_json

if TYPE_CHECKING:
    from regionclip.tracking.tracker import Tracker

ERROR = "error"
_SAMPLE = 5


def run_checks(checks: Sequence[Check]) -> list[dict[str, Any]]:
    """Run each check as a checkpoint.

    Returns:
        One dict an expectation: artefact, expectation, column, severity ("error" or "warning"), success, observed,
        unexpected (count), records (a sample of the unexpected ones), key, problem, mend.
    """
    # It lives in memory; the site that it comes with is in a temporary folder that nothing would remove.
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    site = context.variables.data_docs_sites.pop("local_site")
    shutil.rmtree(site["store_backend"]["base_directory"], ignore_errors=True)
    source = context.data_sources.add_pandas("tables")
    results: list[dict[str, Any]] = []
    for check in checks:
        name = check.name
        batch = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("whole")
        suite = context.suites.add(gx.ExpectationSuite(name=name, expectations=list(check.expectations)))
        definition = context.validation_definitions.add(gx.ValidationDefinition(name=name, data=batch, suite=suite))
        checkpoint = gx.Checkpoint(
            name=name,
            validation_definitions=[definition],
            result_format={
                "result_format": "SUMMARY",
                "unexpected_index_column_names": list(check.record),
                "partial_unexpected_count": _SAMPLE,
                "return_unexpected_index_query": False,
            },
        )
        run = context.checkpoints.add(checkpoint).run(batch_parameters={"dataframe": check.table})
        # Great Expectations has an order of its own; in the suite's, causes stand before consequences.
        order = {expectation.id: place for place, expectation in enumerate(suite.expectations)}
        found = [result for validated in run.run_results.values() for result in validated.results]
        found.sort(key=lambda result: order[result.expectation_config.id])
        results += [_plain_result(check, result) for result in found]
    return results


def gate(
    stage: str,
    checks: Sequence[Check],
    reports: Path = REPORTS,
    pages: Mapping[str, str] | None = None,
    about: Mapping[str, Any] | None = None,
    tracker: Tracker | None = None,
    verdict: Path | None = None,
) -> list[dict[str, Any]]:
    """Run the checks of a stage; write and log REPORTS/checks/STAGE.json and REPORTS/data_docs/STAGE in any case.

    Args:
        stage: Names the report.
        checks: See `Check`.
        reports: Folder of the reports.
        pages: More pages of the Data Docs: title -> HTML.
        about: What the report says beside the results.
        tracker: The stage's MLflow run, which gets report and Data Docs.
        verdict: A file that is there if the gate passes, and always the same: later stages depend on it, and nothing is
            trained anew because a gate has looked at more.

    Returns:
        See `run_checks`.

    Raises:
        DataCheckFailed: An expectation whose severity is "error" is not met; the message names file, record, key and
            mend of the first one.
    """
    if verdict is not None:
        verdict.unlink(missing_ok=True)
    results = run_checks(checks)
    errors, warnings = ([r for r in results if not r["success"] and r["severity"] == kind] for kind in (ERROR, WARNING))
    report, data_docs = reports / CHECKS.name / f"{stage}.json", reports / DATA_DOCS.name / stage
    counts = {"expectations": len(results), "failed": len(errors), "warnings": len(warnings)}
    write_json(report, {"success": not errors, **counts, **(about or {}), "results": results})
    more = {f"{name.lower()}.html": page for name, page in (pages or {}).items()}
    write_pages(data_docs, {"index.html": results_page(f"Data Docs of {stage}", results, pages or ()), **more})
    if tracker is not None:
        tracker.log_artifact(report)
        tracker.log_artifact(data_docs)
        if errors:
            # A stage that passes gives its counts itself, among its metrics.
            tracker.log_metrics(counts)
    if errors:
        raise _failure(errors, report)
    if verdict is not None:
        write_json(verdict, {"passed": True})
    return results


def counts_of(results: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Return how many expectations a passed gate had and how many of them were warnings, for a stage's metrics."""
    return {"expectations": len(results), "warnings": sum(not result["success"] for result in results)}


def _failure(failed: list[dict[str, Any]], report: Path) -> DataCheckFailed:
    first = failed[0]
    problem = f"{first['artefact']}: {first['problem']}"
    file, record = None, None
    if first["records"]:
        where = dict(first["records"][0])
        file = where.pop("file")
        record = where.get("record") or ", ".join(f"{column} {value}" for column, value in where.items())
        problem += f" ({first['unexpected']} records)" if first["unexpected"] > 1 else ""
    elif first["observed"] is not None:
        problem += f" (found {first['observed']})"
    if len(failed) > 1:
        problem += f"; {len(failed) - 1} more expectations failed"
    mend = f"{first['mend']}; all findings are in {report}"
    return DataCheckFailed(problem, file=file, record=record, key=first["key"], mend=mend)


def _plain_result(check: Check, result: Any) -> dict[str, Any]:
    """Flatten a Great Expectations result to plain JSON values."""
    config, found = result.expectation_config, result.result
    # Great Expectations gives one dict, or one a metric.
    info = result.exception_info
    if any(each.get("raised_exception") for each in ([info] if "raised_exception" in info else info.values())):
        raise RuntimeError(f"{check.name}: {config.type} could not be evaluated: {result.exception_info}")
    column = next((config.kwargs[key] for key in ("column", "column_A", "column_list") if key in config.kwargs), None)
    column = ", ".join(column) if isinstance(column, list) else column
    records = [_plain(record) for record in found.get("partial_unexpected_index_list") or []]
    return {
        "artefact": check.name,
        "expectation": config.type,
        "column": column,
        "severity": WARNING if config.severity == WARNING else ERROR,
        "success": bool(result.success),
        "observed": _plain(found.get("observed_value")),
        "unexpected": int(found.get("unexpected_count", 0)),
        "records": [{name: record[name] for name in (*check.record, *record)} for record in records],
        "key": config.meta["key"] or column,
        "problem": config.meta["problem"],
        "mend": config.meta["mend"],
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
