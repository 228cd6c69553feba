"""Automations of the Prefect server: tell of failures, free what a dead worker left behind; made idempotently.

They act in the server, so that they work while no worker does.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from prefect.automations import Automation
from prefect.blocks.webhook import Webhook
from prefect.client.schemas.objects import StateType
from prefect.events.actions import CallWebhook, ChangeFlowRunState, DoNothing
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectNotFound
from prefect.settings import get_current_settings

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient

Change = Literal["created", "updated", "unchanged"]

WEBHOOK_SETTING = "REGIONCLIP_ALERT_WEBHOOK"
WEBHOOK_BLOCK = "regionclip-alerts"
FLOWS = ("pipeline", "label-shard", "promote", "maintenance")
PENDING_MINUTES = 30
# A run that no longer sends heartbeats is no zombie when it has ended or was put to sleep.
_ENDS = ("Completed", "Failed", "TimedOut", "Cancelled", "Crashed", "Paused", "Suspended")
# Slack, Mattermost and Google Chat show `text`; other receivers find the rest beside it.
_TEXT = 'flow.name ~ "/" ~ flow_run.name ~ ": " ~ flow_run.state.name ~ ". " ~ (flow_run.state.message or "")'
_MESSAGE = (
    f'{{"text": {{{{ ({_TEXT}) | tojson }}}}, "state": {{{{ flow_run.state.name | tojson }}}}, '
    '"flow_run": {{ flow_run.id | string | tojson }}, "address": {{ flow_run | ui_url | tojson }}}'
)


def ensure_automations(client: SyncPrefectClient) -> dict[str, Change]:
    """Make or update the automations, and return what was done with each; a second call changes nothing.

    The address in ``REGIONCLIP_ALERT_WEBHOOK`` is kept on the server as the block ``webhook/regionclip-alerts``;
    without it a block of that name that is there already is used. Without either, failures are only marked in the
    server's event feed and nobody is told.
    """
    wanted = [_failure_notice(_webhook(client)), _zombies(), _stuck_pending()]
    return {automation.name: _ensure(client, automation) for automation in wanted}


def _failure_notice(webhook: UUID | None) -> AutomationCore:
    told = "calls the webhook" if webhook else f"tells nobody, because {WEBHOOK_SETTING} was not set"
    return AutomationCore(
        name="regionclip: a flow run failed",
        description=f"A run of {', '.join(FLOWS)} failed, crashed or timed out; {told}.",
        trigger=_of_each_run({f"prefect.flow-run.{state}" for state in ("Failed", "Crashed", "TimedOut")}),
        actions=[CallWebhook(block_document_id=webhook, payload=_MESSAGE) if webhook else DoNothing()],
    )


def _zombies() -> AutomationCore:
    heartbeat, frequency = "prefect.flow-run.heartbeat", get_current_settings().flows.heartbeat_frequency or 180
    signs = {heartbeat, *(f"prefect.flow-run.{state}" for state in _ENDS)}
    return AutomationCore(
        name="regionclip: a running flow run went silent",
        description=f"No heartbeat for {3 * frequency} s: its process is gone. The run is marked Crashed.",
        trigger=_of_each_run(signs, heartbeat, timedelta(seconds=3 * frequency)),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message="No heartbeat: its process is gone.")],
    )


def _stuck_pending() -> AutomationCore:
    # Heartbeats start with Running, so a worker that dies before leaves a run that holds its pool's slot for good.
    return AutomationCore(
        name="regionclip: a flow run stays pending",
        description=f"Pending for {PENDING_MINUTES} minutes: its worker died. The run is marked Crashed.",
        trigger=_of_each_run({"prefect.flow-run.*"}, "prefect.flow-run.Pending", timedelta(minutes=PENDING_MINUTES)),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message="Pending too long: its worker is gone.")],
    )


def _of_each_run(expect: set[str], after: str | None = None, within: timedelta = timedelta(0)) -> EventTrigger:
    """Return a trigger that watches each run of `FLOWS`: for an event, or for that none comes ``after`` another."""
    return EventTrigger(
        match={"prefect.resource.id": "prefect.flow-run.*"},
        match_related={"prefect.resource.role": "flow", "prefect.resource.name": list(FLOWS)},
        for_each={"prefect.resource.id"},
        after={after} if after else set(),
        expect=expect,
        posture=Posture.Proactive if after else Posture.Reactive,
        threshold=1,
        within=within,
    )


def _webhook(client: SyncPrefectClient) -> UUID | None:
    """Save the webhook's address on the server, if one is given, and return the block's id."""
    if address := os.environ.get(WEBHOOK_SETTING):
        # The block lives on the server that PREFECT_API_URL names, as the client does.
        return Webhook(url=address, headers={"Content-Type": "application/json"}).save(WEBHOOK_BLOCK, overwrite=True)
    try:
        return client.read_block_document_by_name(WEBHOOK_BLOCK, "webhook").id
    except ObjectNotFound:
        return None


def _ensure(client: SyncPrefectClient, wanted: AutomationCore) -> Change:
    """Bring one automation into its state; more than one of its name are reduced to one."""
    found = client.read_automations_by_name(wanted.name)
    for extra in found[1:]:
        client.delete_automation(extra.id)
    if not found:
        client.create_automation(wanted)
        return "created"
    # Whether it is switched on is the operator's to say.
    wanted = wanted.model_copy(update={"enabled": found[0].enabled})
    if _content(found[0]) == _content(wanted) and len(found) == 1:
        return "unchanged"
    client.update_automation(found[0].id, wanted)
    return "updated"


def _content(automation: AutomationCore | Automation) -> dict[str, object]:
    return automation.model_dump(exclude={"id", "owner_resource", "tags"})
