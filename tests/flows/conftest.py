"""A Prefect server for the session, and a repository with a graph of four small stages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from flows import commands
from tests import warm

QUIET = {
    "DO_NOT_TRACK": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DVC_NO_ANALYTICS": "1",
    "DVC_STUDIO_OFFLINE": "true",
}
# Each stage appends its name to ran.log, which DVC does not know, and copies what it reads.
STEP = """
import pathlib, sys
name, out, *deps = sys.argv[1:]
if pathlib.Path(f"fail_{name}").exists():
    sys.exit(int(pathlib.Path(f"fail_{name}").read_text()))
with open("ran.log", "a") as log:
    print(name, file=log)
print(f"this is {name}")
pathlib.Path(out).write_text(name + "".join(pathlib.Path(dep).read_text() for dep in deps))
"""
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests that share the server or a repository in one process, where several run."""
    for item in items:
        shares = {"prefect_server", "command"} & set(item.fixturenames)
        if Path(__file__).parent in item.path.parents and shares:
            item.add_marker(pytest.mark.xdist_group("flows"))


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """A Prefect server on this host for as long as the tests run."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in QUIET.items():
            patch.setenv(name, value)
        from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
        from prefect.testing.utilities import prefect_test_harness

        # A flow that ends waits up to a second for the thread of its heartbeats, which only tests/ops looks at.
        with (
            temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}),
            prefect_test_harness(server_startup_timeout=600),
        ):
            yield


@pytest.fixture(scope="session")
def command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """A function that runs a program in a folder and returns its exit code and output; flows get the same settings.

    Its ``dvc`` is that of tests/warm.py.
    """

    def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(arguments, cwd=folder, capture_output=True, text=True, timeout=600, check=False)

    with pytest.MonkeyPatch.context() as patch:
        for name, value in QUIET.items():
            patch.setenv(name, value)
        patch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path_factory.mktemp("dvc_site")))
        patch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
        for name in [name for name in os.environ if name.startswith(("REGIONCLIP_", "MLFLOW_TRACKING"))]:
            patch.delenv(name)
        with warm.programs(tmp_path_factory.mktemp("warm"), os.environ, "dvc") as path:
            patch.setenv("PATH", path)
            yield run


@pytest.fixture
def quick_dvc(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flows take the ``dvc`` of `command`, which no signal reaches, instead of the one beside this Python."""
    environment = commands.environment
    monkeypatch.setattr(commands, "environment", lambda root: environment(root) | {"PATH": os.environ["PATH"]})


@pytest.fixture(scope="session")
def untouched(tmp_path_factory: pytest.TempPathFactory, command: Command) -> Path:
    """A Git and DVC repository: ``a`` is needed by ``b@x`` and ``b@y``, those by ``c``; nothing has run."""
    folder = tmp_path_factory.mktemp("untouched")
    step = "python step.py"
    stages = {
        "a": {"cmd": f"{step} a a.txt", "params": ["seed"], "outs": ["a.txt"]},
        "b": {
            "foreach": ["x", "y"],
            "do": {
                "cmd": f"{step} b_${{item}} out/${{item}}.txt a.txt",
                "meta": {"limit": "gpu"},
                "deps": ["a.txt"],
                "outs": ["out/${item}.txt"],
            },
        },
        "c": {"cmd": f"{step} c c.txt out/x.txt out/y.txt", "deps": ["out"], "outs": ["c.txt"]},
    }
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    (folder / "params.yaml").write_text("profile: mini\nseed: 1\n")
    (folder / "step.py").write_text(STEP)
    (folder / "out").mkdir()
    (folder / "out/.gitkeep").touch()
    (folder / "ran.log").touch()
    (folder / ".gitignore").write_text("/ran.log\n/fail_*\n/.scratch\n/mlruns\n/*.txt\n/out/*.txt\n")
    for program in (["git", "init", "--quiet", "-b", "main"], ["dvc", "init", "--quiet"], ["git", "add", "."]):
        command(folder, *program).check_returncode()
    identity = ("-c", "user.name=t", "-c", "user.email=t@localhost")
    command(folder, "git", *identity, "commit", "--quiet", "-m", "mini").check_returncode()
    return folder


def commit(folder: Path, files: Mapping[str, str]) -> None:
    """Write files, and commit all that Git does not ignore: runs are of commits."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    identity = ("-c", "user.name=t", "-c", "user.email=t@localhost")
    subprocess.run(["git", "add", "."], cwd=folder, check=True)
    subprocess.run(["git", *identity, "commit", "--quiet", "-m", "x"], cwd=folder, check=True)


@pytest.fixture
def repository(untouched: Path, tmp_path: Path) -> Path:
    """A copy of that repository for one test."""
    return shutil.copytree(untouched, tmp_path / "repository")
