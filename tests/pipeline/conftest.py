"""The whole graph on tiny params, run once by DVC in a repository of its own; tests that plant faults get a copy."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.kills import COPIED
from tests import warm
from tests.conftest import profile_yaml

ROOT = Path(__file__).parents[2]
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests that share the first run in one process, where several run."""
    for item in items:
        shares = {"command", "first_run", "finished"} & set(item.fixturenames)
        if Path(__file__).parent in item.path.parents and shares:
            item.add_marker(pytest.mark.xdist_group("pipeline"))


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of the pipeline's commands: this interpreter's programs, one thread, no network."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("REGIONCLIP_", "MLFLOW_", "DVC_"))}
    return kept | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "OMP_NUM_THREADS": "1",
        "REGIONCLIP_DEVICE": "cpu",
        "REGIONCLIP_WORKERS": "0",
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(tmp_path_factory.mktemp("dvc_site")),
        "DO_NOT_TRACK": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GX_ANALYTICS_ENABLED": "false",
        "HF_HUB_OFFLINE": "1",
    }


@pytest.fixture(scope="session")
def warm_path(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PATH whose first ``regionclip`` and ``dvc`` are those of tests/warm.py."""
    with warm.programs(tmp_path_factory.mktemp("warm"), environment, "regionclip", "dvc") as path:
        yield path


@pytest.fixture(scope="session")
def command(environment: dict[str, str], warm_path: str) -> Command:
    """A function that runs a program in a folder to its end and returns its exit code and output."""

    def run(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        used = environment | {"PATH": warm_path} | settings
        return subprocess.run(
            arguments, cwd=folder, env=used, capture_output=True, text=True, timeout=1200, check=False
        )

    return run


def new_repository(folder: Path, profile: str, command: Command) -> Path:
    """Make a Git and DVC repository with the pipeline and the params of a profile; nothing has run in it yet."""
    folder.mkdir()
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    (folder / "params.yaml").write_text(profile_yaml(profile))
    command(folder, "git", "init", "--quiet").check_returncode()
    command(folder, "dvc", "init", "--quiet").check_returncode()
    return folder


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory, command: Command) -> Path:
    """A repository with the tiny params."""
    return new_repository(tmp_path_factory.mktemp("pipeline") / "repository", "tiny", command)


@pytest.fixture(scope="session")
def first_run(repository: Path, command: Command) -> subprocess.CompletedProcess[str]:
    """The first ``dvc repro``: the whole graph from nothing."""
    return command(repository, "dvc", "repro")


@pytest.fixture(scope="session")
def finished(repository: Path, first_run: subprocess.CompletedProcess[str]) -> Path:
    """The repository after the first run; tests must leave it as it is."""
    assert first_run.returncode == 0, first_run.stdout[-3000:] + first_run.stderr[-3000:]
    return repository


@pytest.fixture
def copy(finished: Path, template: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the finished repository to plant faults in; its MLflow store is empty."""
    yield from _copied(finished, template, tmp_path / "copy", "mlruns")


@pytest.fixture
def outputs(finished: Path, template: Path, tmp_path: Path) -> Iterator[Path]:
    """The same without DVC's cache, for stages that run without DVC."""
    yield from _copied(finished, template, tmp_path / "copy", "mlruns", "cache")


def _copied(finished: Path, template: Path, folder: Path, *left_out: str) -> Iterator[Path]:
    shutil.copytree(finished, folder, ignore=shutil.ignore_patterns(*left_out), symlinks=True)
    (folder / "mlruns").mkdir()
    shutil.copy(template, folder / "mlruns")
    yield folder
    shutil.rmtree(folder)
