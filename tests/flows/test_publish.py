"""What a run made leaves the worker: outputs to the DVC remote, dvc.lock and reports on a branch, never on main."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows import publish as module
from flows.pipeline import pipeline
from flows.publish import publish
from tests.flows.conftest import commit

Command = Callable[..., subprocess.CompletedProcess[str]]
RUN = "12345678-90ab-cdef-1234-567890abcdef"


class Mlflow:
    """Stands for MLflow's client."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}

    def log_artifact(self, run_id: str, path: str) -> None:
        """Keep the text of an artifact by its run."""
        self.kept[run_id] = Path(path).read_text()


@pytest.fixture
def origin(tmp_path: Path, repository: Path, command: Command) -> Path:
    """A bare repository that takes pushes, with main as it is."""
    folder = tmp_path / "origin.git"
    command(tmp_path, "git", "init", "--bare", "--quiet", "-b", "main", str(folder)).check_returncode()
    command(repository, "git", "remote", "add", "origin", str(folder)).check_returncode()
    command(repository, "git", "push", "--quiet", "origin", "main").check_returncode()
    return folder


def change(folder: Path) -> None:
    """What a run leaves: a lock, a report, and files that Git does not keep."""
    (folder / "dvc.lock").write_text("schema: '2.0'\n")
    (folder / "reports").mkdir()
    (folder / "reports/summary.md").write_text("42\n")
    (folder / "a.txt").write_text("an output")
    (folder / "step.py").write_text("a change of the user's")


def state(command: Command, folder: Path) -> tuple[str, ...]:
    return tuple(command(folder, "git", *what).stdout for what in (["rev-parse", "HEAD"], ["status", "--porcelain"]))


def test_branch_holds_lock_and_reports_and_the_checkout_stays(repository: Path, origin: Path, command: Command) -> None:
    change(repository)
    before, main = state(command, repository), command(origin, "git", "rev-parse", "main").stdout
    assert publish(repository, "red-fox", RUN, None, pushed=True) == "The new dvc.lock is on the branch runs/red-fox."
    assert state(command, repository) == before and command(origin, "git", "rev-parse", "main").stdout == main
    changed = command(origin, "git", "diff", "--name-only", "main", "runs/red-fox").stdout.split()
    assert changed == ["dvc.lock", "reports/summary.md"]
    assert command(origin, "git", "rev-parse", "runs/red-fox^").stdout == main


def test_a_second_run_of_the_name_does_not_overwrite(repository: Path, origin: Path, command: Command) -> None:
    change(repository)
    publish(repository, "red-fox", RUN, None, pushed=True)
    first = command(origin, "git", "rev-parse", "runs/red-fox").stdout
    (repository / "reports/summary.md").write_text("43\n")
    assert "the branch runs/red-fox-12345678." in publish(repository, "red-fox", RUN, None, pushed=True)
    assert command(origin, "git", "rev-parse", "runs/red-fox").stdout == first
    assert command(origin, "git", "show", "runs/red-fox-12345678:reports/summary.md").stdout == "43\n"


def test_nothing_changed_makes_no_branch(repository: Path, origin: Path, command: Command) -> None:
    assert publish(repository, "red-fox", RUN, None, pushed=True).startswith("Nothing to commit")
    assert command(origin, "git", "branch", "--format", "%(refname:short)").stdout.split() == ["main"]


@pytest.mark.parametrize("pushed", [True, False])
def test_without_origin_or_outputs_the_change_is_a_patch_of_the_parent_run(
    repository: Path, command: Command, monkeypatch: pytest.MonkeyPatch, pushed: bool, request: pytest.FixtureRequest
) -> None:
    if not pushed:
        request.getfixturevalue("origin")
    mlflow = Mlflow()
    monkeypatch.setattr(module, "connect", lambda uri: mlflow)
    change(repository)
    said = publish(repository, "red-fox", RUN, "f00", pushed=pushed)
    assert "red-fox.patch, an artifact of the MLflow run f00" in said
    command(repository, "git", "clean", "--quiet", "--force", "dvc.lock", "reports").check_returncode()
    (repository / "p.patch").write_text(mlflow.kept["f00"])
    command(repository, "git", "apply", "p.patch").check_returncode()
    assert (repository / "reports/summary.md").read_text() == "42\n" and (repository / "dvc.lock").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_server", "quick_dvc")
def test_fresh_clone_of_the_branch_has_nothing_to_do(
    repository: Path, origin: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = ["dvc", "remote", "add", "--quiet", "--default", "store", str(tmp_path / "store")]
    identity = ("-c", "user.name=t", "-c", "user.email=t@localhost")
    command(repository, *remote).check_returncode()
    command(repository, "git", *identity, "commit", "--quiet", "-am", "remote").check_returncode()
    command(repository, "git", "push", "--quiet", "origin", "main").check_returncode()
    monkeypatch.setattr("flows.pipeline.start_pipeline_run", lambda profile, tags: None)

    def run(folder: Path, **parameters: Any) -> str:
        done = pipeline(workspace=str(folder), return_state=True, push=True, pull=True, **parameters)
        assert done.is_completed(), done.message
        return done.message

    assert run(repository) == "4 ran"
    [branch] = command(origin, "git", "branch", "--list", "runs/*", "--format", "%(refname:short)").stdout.split()
    clone = tmp_path / "clone"
    command(tmp_path, "git", "clone", "--quiet", "--branch", branch, str(origin), str(clone)).check_returncode()
    (clone / "ran.log").touch()
    assert run(clone) == "4 cached" and (clone / "ran.log").read_text() == "" and not (clone / "a.txt").exists()
    # Only c has to run; what it reads through the folder out/ is fetched whole.
    commit(clone, {"dvc.yaml": (clone / "dvc.yaml").read_text().replace("c c.txt", "c2 c.txt")})
    assert run(clone) == "3 cached, 1 ran" and (clone / "ran.log").read_text() == "c2\n"
    assert (clone / "c.txt").read_text() == "c2b_xab_ya" and not (clone / "a.txt").exists()
