"""Reaper of Prefect's stale flow runs: a dead worker's runs hold the slots of their pool until they are Crashed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from prefect.client.schemas.filters import FlowFilter, FlowRunFilter
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.events.filters import EventFilter, EventNameFilter, EventOccurredFilter, EventResourceFilter
from prefect.settings import get_current_settings
from prefect.states import Crashed

from flows.automations import FLOWS
from flows.findings import Finding, done

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

_PAGE = 200
_MARGIN = 15  # seconds between a heartbeat and its record on the server
_KEPT = timedelta(days=7)  # Prefect's default retention of events


def crash_stale_flow_runs(
    client: SyncPrefectClient, stale: timedelta, *, but: UUID | None, dry_run: bool
) -> list[Finding]:
    """Mark as Crashed the runs of our flows that stay PENDING, and those RUNNING whose heartbeats stopped.

    A silent run is looked at again one heartbeat later, because a server that was away has missed some.

    Args:
        client: Client of the server.
        stale: How long a run may be PENDING or silent.
        but: A run that is left alone: the one that asks.
        dry_run: Change nothing.
    """
    findings = [
        _crash(client, run, f"pending since {run.state.timestamp:%Y-%m-%d %H:%M}", dry_run)
        for run in _runs(client, StateType.PENDING)
        if _age(run.state.timestamp) > stale and run.id != but
    ]
    silent = []
    for run in _runs(client, StateType.RUNNING):
        beat = _last_heartbeat(client, run)
        if run.id == but or _age(beat or run.state.timestamp) <= stale:
            continue
        if beat is None:
            # Heartbeats can be switched off, so their absence alone proves nothing.
            findings.append(Finding("flow run", run.name, "running, but no heartbeat is known", "nothing: look at it"))
        else:
            silent.append(run)
    if silent and not dry_run:
        time.sleep((get_current_settings().flows.heartbeat_frequency or 0) + _MARGIN)
    for run in silent:
        beat = _last_heartbeat(client, run)
        if beat is not None and _age(beat) > stale:
            findings.append(_crash(client, run, f"no heartbeat since {beat:%Y-%m-%d %H:%M}", dry_run))
    return findings


def _runs(client: SyncPrefectClient, state: StateType) -> Iterator[FlowRun]:
    ours = FlowFilter.model_validate({"name": {"any_": list(FLOWS)}})
    in_state = FlowRunFilter.model_validate({"state": {"type": {"any_": [state]}}})
    found: list[FlowRun] = []
    while True:
        page = client.read_flow_runs(
            flow_filter=ours, flow_run_filter=in_state, sort=FlowRunSort.ID_DESC, limit=_PAGE, offset=len(found)
        )
        found += page
        if len(page) < _PAGE:
            return iter(found)


def _last_heartbeat(client: SyncPrefectClient, run: FlowRun) -> datetime | None:
    wanted = EventFilter(
        event=EventNameFilter(name=["prefect.flow-run.heartbeat"]),
        resource=EventResourceFilter(id=[f"prefect.flow-run.{run.id}"]),
        occurred=EventOccurredFilter(since=datetime.now(UTC) - _KEPT),
    )
    events = client.read_events(wanted, limit=1).events  # the newest comes first
    return events[0].occurred if events else None


def _crash(client: SyncPrefectClient, run: FlowRun, found: str, dry_run: bool) -> Finding:
    if not dry_run:
        now = client.read_flow_run(run.id)
        if now.state is None or now.state.id != run.state.id:
            return Finding("flow run", run.name, found, "nothing: it went on in the meantime")
        client.set_flow_run_state(run.id, Crashed(message=f"Maintenance: {found}; its worker is gone."))
    return Finding("flow run", run.name, found, done("marked Crashed", dry_run))


def _age(moment: datetime) -> timedelta:
    return datetime.now(UTC) - moment
