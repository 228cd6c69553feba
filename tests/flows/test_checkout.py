"""A worker's own checkout is entered, else the repository is cloned into the run's folder, both by the environment."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.checkout import REPOSITORY, SCRATCH, WORKSPACE, checkout
from regionclip.errors import InputError

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker starts a run in an empty folder."""
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")


def test_workspace_is_entered_and_not_cloned(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORKSPACE, str(repository))
    monkeypatch.setenv(REPOSITORY, "file:///nowhere")
    assert checkout() == {"directory": str(repository)} and Path.cwd() == repository


def test_repository_is_cloned(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(REPOSITORY, repository.as_uri())
    folder = Path(checkout()["directory"])
    assert folder == Path.cwd() and folder.parent == tmp_path / "run"
    assert (folder / "dvc.yaml").read_text() == (repository / "dvc.yaml").read_text()


def test_scratch_outlives_clones(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(REPOSITORY, repository.as_uri())
    monkeypatch.setenv(SCRATCH, str(tmp_path / "kept"))
    for run in ("first", "second"):
        (tmp_path / run).mkdir()
        monkeypatch.chdir(tmp_path / run)
        folder = Path(checkout()["directory"])
        (folder / ".scratch" / run).touch()
        assert subprocess.run(["git", "status", "--porcelain"], capture_output=True, check=True).stdout == b""
    assert {path.name for path in (folder / ".scratch").iterdir()} == {"first", "second"}


def test_a_worker_that_knows_neither_says_what_to_set() -> None:
    with pytest.raises(InputError, match="neither REGIONCLIP_WORKSPACE nor REGIONCLIP_REPOSITORY"):
        checkout()
