"""A worker's own checkout is entered, else the repository is cloned; a run's worktree is the commit, and no more."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.checkout import REPOSITORY, SCRATCH, WORKSPACE, checkout, share, worktree
from regionclip.errors import InputError
from regionclip.stages.graph import read_graph
from tests.flows.conftest import commit

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


def test_a_worktree_is_the_commit_whatever_lies_in_it_and_in_the_checkout(repository: Path, command: Command) -> None:
    tree = worktree(repository)
    (repository / "params.yaml").write_text("profile: mine")
    (tree / "params.yaml").write_text("of a run with a profile")
    (tree / "dvc.lock").write_text("of another run")
    (tree / "left").write_text("by a run")
    (tree / ".dvc/tmp").mkdir(exist_ok=True)
    (tree / ".dvc/tmp/rwlock").write_text("{")
    commit(repository, {"step.py": "another commit"})
    (repository / "step.py").write_text("not committed")
    assert worktree(repository) == tree and (tree / "step.py").read_text() == "another commit"
    assert (tree / "params.yaml").read_text() == "profile: mine", "it went into the commit"
    assert not (tree / "dvc.lock").exists() and not (tree / ".dvc/tmp/rwlock").exists()
    share(repository, tree, read_graph(tree))
    assert not (tree / "left").exists() and (tree / ".scratch").exists() == (repository / ".scratch").exists()
    assert command(tree, "git", "status", "--porcelain").stdout == ""
    assert command(repository, "git", "status", "--porcelain").stdout == " M step.py\n"


def test_settings_of_dvc_hold_in_the_worktree_too(repository: Path, command: Command, tmp_path: Path) -> None:
    """Addresses relative to the checkout, and what stands in config.local, which nobody else may read."""
    command(repository, "dvc", "remote", "add", "--default", "store", "../store").check_returncode()
    command(repository, "dvc", "config", "--local", "cache.dir", "../cache").check_returncode()
    tree = worktree(repository)
    command(tree, "dvc", "repro", "a").check_returncode()
    command(tree, "dvc", "push", "a").check_returncode()
    assert (tmp_path / "store/files").is_dir() and (tmp_path / "cache/files").is_dir()
    assert (tree / ".dvc/config.local").stat().st_mode & 0o777 == 0o600
    assert not (tree / ".dvc/cache").exists() and not (repository / ".dvc/cache").exists()


def test_a_copy_of_a_checkout_has_a_worktree_of_its_own(repository: Path, tmp_path: Path, command: Command) -> None:
    def head(folder: Path) -> str:
        return command(folder, "git", "rev-parse", "HEAD").stdout

    tree = worktree(repository)
    copy = shutil.copytree(repository, tmp_path / "copy", symlinks=True)
    commit(copy, {"params.yaml": "profile: copied\n"})
    before = head(tree)
    assert head(worktree(copy)) == head(copy) != before == head(tree)
    moved = copy.rename(tmp_path / "moved")
    assert head(worktree(moved)) == head(moved) and not copy.exists()


def test_a_folder_without_a_commit_and_a_broken_lock_are_named(repository: Path) -> None:
    whole = (
        "schema: '2.0'\nstages:\n  a:\n    cmd: python step.py a a.txt\n    outs:\n    - path: a.txt\n      md5: 0cc1\n"
    )
    refused = 0
    for end in range(len(whole)):
        (repository / "dvc.lock").write_text(whole[:end])
        try:
            worktree(repository)
        except InputError as error:
            assert error.file == repository / "dvc.lock" and "`git checkout dvc.lock`" in str(error), whole[:end]
            refused += 1
    assert refused > 50
    (repository / "dvc.lock").write_text(f"<<<<<<< HEAD\n{whole}=======\n")
    with pytest.raises(InputError, match="it is not what DVC writes"):
        worktree(repository)
    shutil.rmtree(repository / ".git")
    with pytest.raises(InputError, match="there is no Git commit that a run could be of"):
        worktree(repository)
