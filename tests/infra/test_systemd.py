"""systemd units: systemd takes them, they run what compose.yaml runs, and a stop leaves a stage time to save."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

UNITS = ("regionclip-prefect.service", "regionclip-mlflow.service", "regionclip-worker@.service")


def settings(path: Path) -> dict[str, list[str]]:
    """Return the settings of a unit; those given several times have several values."""
    text = re.sub(r"\\\n\s*", "", path.read_text())
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


def environment(path: Path) -> dict[str, str]:
    """Return what a unit's Environment lines set."""
    lines = settings(path)["Environment"]
    return dict(entry.split("=", 1) for line in lines for entry in shlex.split(line))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd on this machine")
@pytest.mark.parametrize("name", UNITS)
def test_systemd_accepts_the_unit(infra: Path, tmp_path: Path, name: str) -> None:
    # The programs are not installed here; /bin/true stands for them.
    unit = tmp_path / name
    unit.write_text(re.sub(r"/opt/regionclip/\.venv/bin/\w+", "/bin/true", (infra / "systemd" / name).read_text()))
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stderr.strip(), done.stderr


@pytest.mark.parametrize("name", UNITS)
def test_units_restart_keep_secrets_out_and_are_hardened(infra: Path, name: str) -> None:
    unit = settings(infra / "systemd" / name)
    (secrets,) = unit["EnvironmentFile"]
    example = infra / "secrets.example" / Path(secrets).name
    promised = {line.split("=")[0] for line in example.read_text().splitlines()}
    assert not promised & set(environment(infra / "systemd" / name))
    assert unit["Restart"] == ["always"] and unit["KillSignal"] == ["SIGTERM"]
    assert unit["User"] == ["regionclip"] and unit["CapabilityBoundingSet"] == [""]
    for setting in ("NoNewPrivileges", "ProtectHome", "PrivateTmp", "RestrictSUIDSGID"):
        assert unit[setting] == ["true"], setting
    assert unit["ProtectSystem"] == ["strict"]


def test_the_worker_gives_its_run_the_time_that_compose_gives(infra: Path, compose: dict[str, Any]) -> None:
    unit = settings(infra / "systemd/regionclip-worker@.service")
    assert unit["KillMode"] == ["mixed"]  # SIGTERM to the worker, which passes it on; SIGKILL to all at the end
    assert unit["TimeoutStopSec"] == ["120"] and compose["services"]["worker-gpu"]["stop_grace_period"] == "2m"
    assert "PrivateDevices" not in unit, "a worker needs /dev/nvidia*"


@pytest.mark.parametrize(
    ("name", "service"), [("regionclip-prefect.service", "prefect"), ("regionclip-mlflow.service", "mlflow")]
)
def test_servers_run_as_in_compose_but_on_loopback(
    infra: Path, compose: dict[str, Any], name: str, service: str
) -> None:
    (line,) = settings(infra / "systemd" / name)["ExecStart"]
    program, *arguments = shlex.split(line)
    expected = [a.replace("0.0.0.0", "127.0.0.1") for a in compose["services"][service]["command"]]
    without_hosts = [a for a in [Path(program).name, *arguments] if not a.startswith("--allowed-hosts")]
    assert without_hosts == [a for a in expected if not a.startswith("--allowed-hosts")]
    given = set(environment(infra / "systemd" / name))
    given |= {line.split("=")[0] for line in (infra / f"secrets.example/{service}.env").read_text().splitlines()}
    elsewhere = {"PREFECT_SERVER_UI_API_URL"}  # systemd's server is called where it listens
    assert set(compose["services"][service]["environment"]) - elsewhere <= given
