"""infra/ as the tests read it: compose.yaml with its variables replaced, and its servers as processes of this host."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

INFRA = Path(__file__).parents[2] / "infra"
_VARIABLE = re.compile(r"\$\{(\w+)(?::[-?][^}]*)?\}")
# What an operator would put into .env.
SECRETS = {
    "REGIONCLIP_REPOSITORY": "https://example.org/regionclip.git",
    "POSTGRES_PASSWORD": "of-the-superuser",
    "PREFECT_DB_PASSWORD": "of-prefect's-database",
    "MLFLOW_DB_PASSWORD": "of-mlflow's-database",
    "S3_ACCESS_KEY": "access",
    "S3_SECRET_KEY": "secret-of-s3",
    "PREFECT_AUTH": "admin:of-prefect",
    "MLFLOW_USER": "admin",
    "MLFLOW_PASSWORD": "of-mlflow-itself",
    "MLFLOW_SECRET_KEY": "of-the-sessions",
    "REGIONCLIP_API_KEY": "of-the-detector",
}


def example() -> dict[str, str]:
    """Return the variables of .env.example."""
    lines = [line for line in (INFRA / ".env.example").read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def resolved(value: Any, variables: Mapping[str, str]) -> Any:
    """Replace ``${NAME}`` in all strings, as Compose does; a variable that is missing raises KeyError."""
    if isinstance(value, dict):
        return {key: resolved(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [resolved(item, variables) for item in value]
    if isinstance(value, str):
        return _VARIABLE.sub(lambda match: variables[match[1]], value).replace("$$", "$")
    return value


@pytest.fixture(scope="session")
def infra() -> Path:
    """The folder infra/."""
    return INFRA


@pytest.fixture(scope="session")
def compose() -> dict[str, Any]:
    """compose.yaml with the values of .env.example, and secrets of an operator."""
    return resolved(yaml.safe_load((INFRA / "compose.yaml").read_text()), example() | SECRETS)


@dataclass(frozen=True)
class Services:
    """The servers of compose.yaml as processes of this host.

    Attributes:
        prefect: Address of the Prefect server.
        mlflow: Address of the MLflow server.
        postgres: Port of PostgreSQL.
        environment: What the MLflow server was started with.
    """

    prefect: str
    mlflow: str
    postgres: int
    environment: dict[str, str]


@pytest.fixture(scope="session")
def services(compose: dict[str, Any]) -> Iterator[Services]:
    """PostgreSQL, Prefect and MLflow, started with the commands and the environment of compose.yaml.

    What differs is only where things are: host names and ports of containers become those of this host.
    """
    # PostgreSQL does not run as root, and pytest's folders are root's alone.
    folder = Path(tempfile.mkdtemp(prefix="regionclip-infra-"))
    ports = {"postgres": _free_port(), "prefect": _free_port(), "mlflow": _free_port()}
    started: list[subprocess.Popen[bytes]] = []
    try:
        _start_postgres(folder, ports["postgres"], compose, started)
        _start("prefect", compose["services"]["prefect"], ports, folder, started)
        environment = _start("mlflow", compose["services"]["mlflow"], ports, folder, started)
        prefect, mlflow = (f"http://127.0.0.1:{ports[name]}" for name in ("prefect", "mlflow"))
        result = Services(prefect, mlflow, ports["postgres"], environment)
        _await(f"{result.prefect}/api/ready", folder / "prefect.log", started[1])
        _await(f"{result.mlflow}/health", folder / "mlflow.log", started[2])
        yield result
    finally:
        for process in reversed(started):
            # PostgreSQL's quick stop is SIGINT; the others' groups are killed as a whole.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT if process is started[0] else signal.SIGKILL)
            process.wait(30)
        shutil.rmtree(folder)


def _free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


def _start_postgres(folder: Path, port: int, compose: dict[str, Any], started: list[subprocess.Popen[bytes]]) -> None:
    """Make a cluster as the image's entry point does, and run infra's script of databases in it."""
    user: dict[str, Any] = {}
    if os.geteuid() == 0:
        user = {"user": "postgres", "extra_groups": []}
        shutil.chown(folder, "postgres")
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **compose["services"]["postgres"]["environment"]}
    password, data = folder / "password", folder / "postgres"
    password.write_text(environment["POSTGRES_PASSWORD"])
    password.chmod(0o644)
    make = ["initdb", "--username=postgres", f"--pwfile={password}", "--auth=scram-sha-256", f"--pgdata={data}"]
    subprocess.run([*make, "--no-sync"], env=environment, capture_output=True, check=True, cwd=folder, **user)
    run = ["postgres", "-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", str(folder), "-F"]
    with (folder / "postgres.log").open("w") as log:
        started.append(
            subprocess.Popen(run, env=environment, cwd=folder, stdout=log, stderr=log, start_new_session=True, **user)
        )
    client = {"PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": "postgres"}
    environment |= client | {"PGPASSWORD": environment["POSTGRES_PASSWORD"]}
    end = time.monotonic() + 60
    while subprocess.run(["psql", "-c", "select 1"], env=environment, capture_output=True, check=False).returncode:
        assert time.monotonic() < end, (folder / "postgres.log").read_text()
        time.sleep(0.2)
    script = INFRA / "postgres/databases.sql"
    subprocess.run(["psql", "--file", str(script)], env=environment, capture_output=True, check=True)


def _start(
    name: str, service: dict[str, Any], ports: dict[str, int], folder: Path, started: list[subprocess.Popen[bytes]]
) -> dict[str, str]:
    """Start a server and return its environment."""
    inside = {"postgres": "5432", "prefect": "4200", "mlflow": "5000"}

    def here(text: str, key: str = "") -> str:
        if key.endswith("HOST"):
            return "127.0.0.1"
        if key.endswith(("_HOSTS", "_ORIGINS")):
            return f"{text},{text.replace('4200', str(ports['prefect']))}"
        for other, port in inside.items():
            if text in (port, f"--port={port}"):
                text = text.replace(port, str(ports[other]))
        text = text.replace("/etc/regionclip/mlflow_auth.ini", f"{INFRA}/mlflow/auth.ini")
        return text.replace("0.0.0.0", "127.0.0.1").replace("/tmp/mlflow-metrics", str(folder / "metrics"))

    program, *arguments = service["command"]
    home = {"HOME": str(folder), "PREFECT_HOME": str(folder / "prefect"), "PATH": os.environ["PATH"]}
    home["PYTHONPATH"] = str(INFRA.parent)  # for what the image copies
    environment = home | {key: here(value, key) for key, value in service["environment"].items()}
    with (folder / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            # `python -m mlflow` is the command `mlflow`, and so with prefect.
            [sys.executable, "-m", program, *map(here, arguments)],
            env=environment,
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    started.append(process)
    return environment


def _await(address: str, log: Path, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 180
    while True:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            assert process.poll() is None and time.monotonic() < end, log.read_text()[-5000:]
            time.sleep(0.3)
