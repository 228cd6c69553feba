"""How results leave a worktree: back into the checkout, outputs to the DVC remote, dvc.lock on a branch of its own."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from dvc.repo import Repo
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows import commands
from flows.checkout import PARAMS
from flows.dvc_lock import LOCK, REPORTS, git
from regionclip.errors import InputError
from regionclip.files import atomic_dir, atomic_path
from regionclip.stages.graph import Stage
from regionclip.tracking.store import connect, delivery_errors, tracking_uri

REMOTE = "origin"
COMMITTED = (LOCK, PARAMS, REPORTS)
PATCHES = Path(".scratch/patches")
_AUTHOR = ("-c", "user.name=RegionCLIP pipeline", "-c", "user.email=pipeline@localhost")


def require_remote(root: Path) -> None:
    """Refuse to begin a run that could neither fetch nor send.

    Raises:
        InputError: DVC has no default remote.
    """
    with Repo(str(root)) as repo:
        if not repo.config["core"].get("remote"):
            problem, file = "DVC has no default remote to pull from or push to", root / ".dvc/config"
            mend = "`dvc remote add --default NAME ADDRESS`, or run with pull and push off"
            raise InputError(problem, file=file, key="core.remote", mend=mend)


@task(task_run_name="push", cache_policy=NO_CACHE, retries=5, retry_delay_seconds=[10, 30, 60, 240, 480])
def push_outputs(root: Path) -> None:
    """Send outputs and the run cache to the DVC remote; a remote that is away for ten minutes loses nothing.

    Raises:
        RuntimeError: DVC could not push.
    """
    commands.dvc(root, "push", "--run-cache")


def lock_of(home: Path) -> bytes | None:
    """Return the dvc.lock of a checkout as it is now; None where there is none."""
    return (home / LOCK).read_bytes() if (home / LOCK).exists() else None


def bring_home(tree: Path, home: Path, lock: bytes | None, graph: Mapping[str, Stage]) -> list[str]:
    """Give the checkout what a run made, as `dvc repro` would have left it; say in words why something is not there.

    Nothing is done where its dvc.lock is no more the ``lock`` that it was when the run began.
    """
    if lock_of(home) != lock:
        return [f"The checkout's {LOCK} was changed while the run went on, so its results were not brought there."]
    for report in [path for stage in graph.values() for path in stage.reports if (tree / path).exists()]:
        _replace(tree / report, home / report)
    for folder in (tree / REPORTS).glob("*/*"):
        # What Git and DVC do not know, such as the Data Docs.
        if git(tree, "check-ignore", "--quiet", str(folder.relative_to(tree))).returncode == 0:
            _replace(folder, home / folder.relative_to(tree))
    if (tree / LOCK).exists():
        _replace(tree / LOCK, home / LOCK)
    outs = [path for stage in graph.values() for path in stage.outs if (tree / path).exists()]
    try:
        if outs:
            commands.dvc(home, "checkout", "--quiet", "--allow-missing", *outs)
    except RuntimeError as error:
        return [f"The outputs were not brought into the checkout: {error}."]
    return []


def keep_branch(root: Path, name: str, run_id: str) -> str:
    """Commit what a run of a profile made as the branch ``runs/NAME`` of the checkout; say so in words."""
    commit = _commit(root, f"Pipeline run {name}")
    if commit is None:
        return "Nothing to commit: dvc.lock and the reports are as they were."
    branch = f"runs/{_file_name(name, run_id)}"
    git(root, "branch", "--force", branch, commit).check_returncode()
    return f"The new dvc.lock is on the branch {branch} of the checkout."


def publish(root: Path, name: str, run_id: str, parent_run: str | None, *, pushed: bool) -> str:
    """Push what the run changed of dvc.lock, params.yaml and reports/ as the branch ``runs/NAME``; say where it is.

    The checkout, its index and its branch stay as they are. The id of the flow run is part of the branch's name when
    its name is taken. Where ``origin`` does not take the branch, or the outputs did not reach the DVC remote
    (``pushed``), the change is kept as a patch with MLflow's parent run.
    """
    commit = _commit(root, f"Pipeline run {name}")
    if commit is None:
        return "Nothing to commit: dvc.lock and the reports are as they were."
    if pushed:
        own = _file_name(name, run_id)
        for branch, force in ((f"runs/{own}", []), (f"runs/{own}-{run_id[:8]}", ["--force"])):
            if git(root, "push", "--quiet", *force, REMOTE, f"{commit}:refs/heads/{branch}").returncode == 0:
                return f"The new dvc.lock is on the branch {branch}."
    return _keep_patch(root, _file_name(name, run_id), commit, parent_run)


def _replace(made: Path, place: Path) -> None:
    if made.is_dir():
        with atomic_dir(place) as beside:
            shutil.copytree(made, beside, dirs_exist_ok=True)
    else:
        with atomic_path(place) as beside:
            shutil.copyfile(made, beside)


def _file_name(name: str, run_id: str) -> str:
    """A run's name may be anything; one that is no plain word is no file and no branch either."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")
    return name if plain == name else f"{plain or 'run'}-{run_id[:8]}"


def _commit(root: Path, message: str) -> str | None:
    """Commit in an index of its own on top of HEAD, without a branch; None when nothing has changed."""
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        git(root, "read-tree", "HEAD", **index).check_returncode()
        git(root, "add", "--all", "--", *(path for path in COMMITTED if (root / path).exists()), **index)
        if git(root, "diff", "--cached", "--quiet", "HEAD", **index).returncode == 0:
            return None
        tree = git(root, "write-tree", **index).stdout.strip()
    made = git(root, *_AUTHOR, "commit-tree", tree, "-p", "HEAD", "-m", message)
    made.check_returncode()
    return made.stdout.strip()


def _keep_patch(root: Path, name: str, commit: str, parent_run: str | None) -> str:
    patch = root / PATCHES / f"{name}.patch"
    patch.parent.mkdir(parents=True, exist_ok=True)
    git(root, "diff", "--binary", f"--output={patch}", "HEAD", commit).check_returncode()
    where = patch.relative_to(root).as_posix()
    if parent_run is not None:
        try:
            connect(tracking_uri()).log_artifact(parent_run, str(patch))
            where = f"{patch.name}, an artifact of the MLflow run {parent_run}"
        except delivery_errors() as error:
            get_run_logger().warning("MLflow did not take the patch. %s", error)
    return f"{REMOTE} did not get a branch; the new dvc.lock is in {where} (`git apply` takes it)."
