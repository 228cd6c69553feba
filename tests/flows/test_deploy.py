"""Deploying again changes nothing, and what an operator has set stays."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate
from prefect.settings import get_current_settings

from flows import deploy

Command = Callable[..., subprocess.CompletedProcess[str]]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path, command: Command, prefect_server: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files that deploying reads, and the server's address for the commands it runs."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name in ("dvc.yaml", "params.yaml", "prefect.yaml"):
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "flows", folder / "flows")
    command(folder, "dvc", "init", "--no-scm", "--quiet").check_returncode()
    monkeypatch.setattr(deploy, "ROOT", folder)
    monkeypatch.setenv("PREFECT_API_URL", str(get_current_settings().api.url))
    return folder


def registered() -> dict[str, Any]:
    with get_client(sync_client=True) as client:
        found = client.read_deployments()
        automations = sorted((one.id, one.name) for one in client.read_automations())
        return {
            "deployments": {one.name: (one.id, one.parameters, one.pull_steps, one.concurrency_limit) for one in found},
            "schedules": {one.name: [(s.id, s.active, s.schedule.timezone) for s in one.schedules] for one in found},
            "automations": automations,
            "pools": sorted((pool.id, pool.type) for pool in client.read_work_pools()),
            "limit": client.read_global_concurrency_limit_by_name("gpu").limit,
        }


@pytest.mark.slow  # what it registers: test_prefect_yaml.py, test_automations.py
def test_second_deploy_changes_nothing(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    deploy.main()
    assert "New or changed: pool cpu, pool gpu, limit gpu, automation" in capfd.readouterr().out
    first = registered()
    assert set(first["deployments"]) == {
        "weekly-rebuild",
        "nightly-evaluation",
        "label-shard",
        "promote",
        "maintenance",
    }
    [(_, active, zone)] = first["schedules"]["weekly-rebuild"]
    assert not active and zone == "Etc/UTC" and first["schedules"]["maintenance"][0][1] and first["limit"] == 1
    with get_client(sync_client=True) as client:
        client.update_global_concurrency_limit("gpu", GlobalConcurrencyLimitUpdate(limit=4))
    deploy.main()
    assert "New or changed: no pool, limit or automation." in capfd.readouterr().out
    assert registered() == first | {"limit": 4}
