"""How results leave a worker: outputs to the DVC remote, dvc.lock and reports on a branch of their own."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from dvc.repo import Repo
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows import processes
from flows.dvc_lock import LOCK
from flows.profiles import PARAMS
from regionclip.errors import InputError
from regionclip.tracking.store import connect, delivery_errors, tracking_uri

REMOTE = "origin"
COMMITTED = (LOCK, PARAMS, "reports")
PATCHES = Path(".scratch/patches")
_AUTHOR = ("-c", "user.name=RegionCLIP pipeline", "-c", "user.email=pipeline@localhost")


def require_remote(root: Path) -> None:
    """Refuse to begin a run that could neither fetch nor send.

    Raises:
        InputError: DVC has no default remote.
    """
    with Repo(str(root)) as repo:
        if not repo.config["core"].get("remote"):
            raise InputError(
                "DVC has no default remote to pull from or push to",
                file=root / ".dvc/config",
                key="core.remote",
                mend="`dvc remote add --default NAME ADDRESS`, or run with pull and push off",
            )


@task(task_run_name="push", cache_policy=NO_CACHE, retries=5, retry_delay_seconds=[10, 30, 60, 240, 480])
def push_outputs(root: Path) -> None:
    """Send outputs and the run cache to the DVC remote; a remote that is away for ten minutes loses nothing.

    Raises:
        RuntimeError: DVC could not push.
    """
    command = ["dvc", "--wait-for-lock", "push", "--run-cache"]
    code, tail = processes.run(command, root=root, lock="push", settings={}, log=get_run_logger().info)
    if code:
        raise RuntimeError(f"dvc push failed: {tail[-1] if tail else code}")


def publish(root: Path, name: str, run_id: str, parent_run: str | None, *, pushed: bool) -> str:
    """Commit what the run changed of dvc.lock, params.yaml and reports/, and push it as the branch ``runs/NAME``.

    The checkout, its index and its branch stay as they are. Where ``origin`` does not take the branch, or the outputs
    did not reach the remote, the change is kept as a patch with MLflow's parent run.

    Args:
        root: The checkout.
        name: Of the flow run.
        run_id: Of the flow run; part of the branch's name when the other is taken.
        parent_run: MLflow's parent run, or None.
        pushed: Whether the outputs are on the DVC remote.

    Returns:
        Where the change is, in words.
    """
    commit = _commit(root, f"Pipeline run {name}")
    if commit is None:
        return "Nothing to commit: dvc.lock and the reports are as they were."
    if pushed:
        for branch, force in ((f"runs/{name}", []), (f"runs/{name}-{run_id[:8]}", ["--force"])):
            if _git(root, "push", "--quiet", *force, REMOTE, f"{commit}:refs/heads/{branch}").returncode == 0:
                return f"The new dvc.lock is on the branch {branch}."
    return _keep_patch(root, name, commit, parent_run)


def _commit(root: Path, message: str) -> str | None:
    """Commit in an index of its own on top of HEAD, without a branch; None when nothing has changed."""
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        _git(root, "read-tree", "HEAD", **index).check_returncode()
        _git(root, "add", "--all", "--", *(path for path in COMMITTED if (root / path).exists()), **index)
        if _git(root, "diff", "--cached", "--quiet", "HEAD", **index).returncode == 0:
            return None
        tree = _git(root, "write-tree", **index).stdout.strip()
    made = _git(root, *_AUTHOR, "commit-tree", tree, "-p", "HEAD", "-m", message)
    made.check_returncode()
    return made.stdout.strip()


def _keep_patch(root: Path, name: str, commit: str, parent_run: str | None) -> str:
    patch = root / PATCHES / f"{name}.patch"
    patch.parent.mkdir(parents=True, exist_ok=True)
    _git(root, "diff", "--binary", f"--output={patch}", "HEAD", commit).check_returncode()
    where = patch.relative_to(root).as_posix()
    if parent_run is not None:
        try:
            connect(tracking_uri()).log_artifact(parent_run, str(patch))
            where = f"{patch.name}, an artifact of the MLflow run {parent_run}"
        except delivery_errors() as error:
            get_run_logger().warning("MLflow did not take the patch. %s", error)
    return f"{REMOTE} did not get a branch; the new dvc.lock is in {where} (`git apply` takes it)."


def _git(root: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"GIT_TERMINAL_PROMPT": "0"} | settings
    return subprocess.run(
        ["git", *arguments], cwd=root, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
