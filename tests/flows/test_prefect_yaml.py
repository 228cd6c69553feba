"""prefect.yaml names flows, parameters, stages and pools that there are, and costs no GPU hour when first deployed."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect import Flow

from flows.deploy import POOLS
from flows.shards import DEPLOYMENT

ROOT = Path(__file__).parents[2]
CONTENT = yaml.safe_load((ROOT / "prefect.yaml").read_text())
DEPLOYMENTS: dict[str, dict[str, Any]] = {entry["name"]: entry for entry in CONTENT["deployments"]}


def flow_of(entry: dict[str, Any]) -> Flow[..., Any]:
    file, name = entry["entrypoint"].split(":")
    return getattr(importlib.import_module(file.removesuffix(".py").replace("/", ".")), name)


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_entrypoint_is_a_flow_that_takes_the_parameters(name: str) -> None:
    entry = DEPLOYMENTS[name]
    flow, given = flow_of(entry), entry.get("parameters", {})
    assert isinstance(flow, Flow) and set(given) <= set(flow.parameters.properties)
    # All but those that are started with parameters can be started without.
    if "schedules" in entry:
        flow.validate_parameters(given | {key: None for key in flow.parameters.required or []})
    assert entry["work_pool"]["name"] in POOLS and entry["description"]
    # 510 seconds, less than the 9 minutes after which the server takes a run for dead.
    assert entry["work_pool"]["job_variables"] == {"env": {"PREFECT_CLIENT_MAX_RETRIES": "8"}}


def test_targets_are_stages() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    targets = DEPLOYMENTS["nightly-evaluation"]["parameters"]["targets"]
    assert {target.partition("@")[0] for target in targets} <= set(stages)


def test_schedules_have_a_time_zone_and_those_on_gpus_start_paused() -> None:
    scheduled = {name: entry["schedules"] for name, entry in DEPLOYMENTS.items() if "schedules" in entry}
    assert set(scheduled) == {"weekly-rebuild", "nightly-evaluation", "maintenance"}
    for name, schedules in scheduled.items():
        for schedule in schedules:
            assert len(schedule["cron"].split()) == 5 and schedule["timezone"] and schedule["slug"]
            assert schedule.get("active", True) == (DEPLOYMENTS[name]["work_pool"]["name"] == "cpu")


def test_runs_of_one_checkout_queue_and_shards_do_not() -> None:
    single = {name for name, entry in DEPLOYMENTS.items() if "concurrency_limit" in entry}
    assert single == {"weekly-rebuild", "nightly-evaluation", "promote", "maintenance"}
    for name in single:
        assert DEPLOYMENTS[name]["concurrency_limit"] == {"limit": 1, "collision_strategy": "ENQUEUE"}
    flow, deployment = DEPLOYMENT.split("/")
    assert flow_of(DEPLOYMENTS[deployment]).name == flow


def test_no_path_or_address_of_a_machine() -> None:
    text = (ROOT / "prefect.yaml").read_text()
    assert not any(word in text for word in ("http", "/home", "@github", "localhost", "127.0.0.1"))
    assert CONTENT["pull"] == [{"flows.checkout.checkout": {}}]
