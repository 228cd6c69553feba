"""Where a run works: the worker's own checkout or a fresh clone, and in it a Git worktree of one commit and its params.

What changes in the checkout while a run goes on, params.yaml or code, is not the run's; and a run leaves no change
behind that the next one would take for the user's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Collection, Mapping
from pathlib import Path

import yaml
from dvc.config import Config
from dvc.repo import Repo
from prefect.deployments.steps.pull import git_clone, set_working_directory

from flows.dvc_lock import LOCK, REPORTS, git, read_lock
from regionclip.errors import InputError
from regionclip.files import write_text
from regionclip.stages.graph import Stage
from regionclip.tracking.store import STATE
from regionclip.workspace.profiles import OWN, profile_text, profile_titles

WORKSPACE, REPOSITORY, SCRATCH = "REGIONCLIP_WORKSPACE", "REGIONCLIP_REPOSITORY", "REGIONCLIP_SCRATCH"
# DVC does not look into its own folder for stages, Git ignores it, and it lies on the disk of the checkout.
WORKTREE = Path(".dvc/tmp/flow")
PARAMS = "params.yaml"
_OWN = {".git", ".dvc", LOCK, REPORTS}


def checkout() -> dict[str, str]:
    """Enter the folder ``$REGIONCLIP_WORKSPACE``, or clone ``$REGIONCLIP_REPOSITORY`` into the run's own folder.

    They come from the worker's environment, so that prefect.yaml names no machine. A clone is deleted after the run;
    with ``$REGIONCLIP_SCRATCH``, a folder that stays, a training that was killed is resumed by the next run all the
    same. Prefect is told the ``directory`` where the run will work.

    Raises:
        InputError: The worker's environment has neither.
    """
    if workspace := os.environ.get(WORKSPACE):
        return set_working_directory(workspace)
    repository = os.environ.get(REPOSITORY)
    if not repository:
        mend = "set it in the worker's environment to the address of the repository"
        raise InputError(f"the worker has neither {WORKSPACE} nor {REPOSITORY}", key=REPOSITORY, mend=mend)
    entered = set_working_directory(git_clone(repository)["directory"])
    if scratch := os.environ.get(SCRATCH):
        Path(scratch).mkdir(parents=True, exist_ok=True)
        Path(".scratch").symlink_to(Path(scratch).resolve(), target_is_directory=True)
    return entered


def worktree(home: Path) -> Path:
    """Bring the worktree of the checkout ``home`` to its commit, with its dvc.lock and its settings of DVC; return it.

    It is kept from run to run, so that DVC does not hash and link everything anew; call it while no run is in it.
    dvc.lock is taken as it lies in the checkout, since DVC checks all that it says.

    Raises:
        InputError: There is no commit, or dvc.lock is broken.
    """
    commit, tree = git(home, "rev-parse", "--verify", "--quiet", "HEAD^{commit}").stdout.strip(), home / WORKTREE
    if not commit:
        raise InputError("there is no Git commit that a run could be of", file=home, mend="`git init` and commit")
    read_lock(home)
    # In a copy of the checkout, the worktree is still that of the original.
    places = [git(folder, "rev-parse", "--path-format=absolute", "--git-common-dir").stdout for folder in (home, tree)]
    if not (tree / ".git").is_file() or places[0] != places[1]:
        shutil.rmtree(tree, ignore_errors=True)
        git(home, "worktree", "prune")
        _done(git(home, "worktree", "add", "--quiet", "--force", "--detach", "--no-checkout", str(tree), commit))
    # The hooks of `dvc install` would check out outputs here.
    _done(git(tree, "-c", "core.hooksPath=/dev/null", "checkout", "--quiet", "--force", "--detach", commit))
    # What runs hold is written there in place: a kill may leave a part, which DVC refuses from then on.
    (tree / ".dvc/tmp/rwlock").unlink(missing_ok=True)
    (tree / LOCK).unlink(missing_ok=True)
    if (home / LOCK).exists():
        shutil.copy(home / LOCK, tree / LOCK)
    with Repo(str(home)) as repo:
        settings = repo.config.read()
        settings["cache"]["dir"] = repo.cache.local_cache_dir
    local = tree / ".dvc/config.local"
    local.unlink(missing_ok=True)
    local.touch(mode=0o600)  # it may hold the keys of a remote
    with Config(str(tree / ".dvc")).edit("local") as edited:
        edited.update(settings)
    return tree


def use_profile(tree: Path, name: str | None) -> str:
    """Write a profile of the commit over the worktree's params.yaml; None writes the committed params.yaml.

    Returned is the key ``profile`` of params.yaml; ``none`` where there is neither.

    Raises:
        InputError: The commit holds no such profile, or it makes no params.
    """
    if name is None:
        params = git(tree, "show", f"HEAD:./{PARAMS}").stdout
    else:
        # What an earlier run has linked here is not of the commit.
        git(tree, "clean", "-ffdqx", "--", OWN)
        known = profile_titles(tree)
        if name not in known:
            file, mend = tree / OWN / f"{name}.yaml", f"commit it; there: {', '.join(known)}"
            raise InputError("the commit holds no such profile", file=file, key="profile", mend=mend)
        params = profile_text(name, tree)
    if not params:
        return "none"
    write_text(tree / PARAMS, params)
    return str((yaml.safe_load(params) or {}).get("profile", "none"))


def share(home: Path, tree: Path, graph: Mapping[str, Stage]) -> None:
    """Link into the worktree what the commit does not hold and no stage writes: data sets, weights, scratch, mlruns.

    What runs of other graphs left is removed, because stages read whole folders.
    """
    written = [path for stage in graph.values() for path in (*stage.outs, *stage.reports)]
    kept = [f"--exclude=/{path}" for path in (*written, LOCK, ".dvc")]
    _done(git(tree, "clean", "-ffdqx", *kept, "--exclude=__pycache__"))
    for name in ("artifacts", "undelivered"):
        (home / STATE / name).mkdir(parents=True, exist_ok=True)
    _link(home, tree, _OWN | {Path(path).parts[0] for path in written})
    database = STATE / "mlflow.db"
    if not (tree / STATE).is_symlink() and not (tree / database).is_symlink():
        (tree / database).symlink_to(home / database)  # which MLflow has not made yet


def _link(home: Path, tree: Path, left: Collection[str]) -> None:
    for entry in home.iterdir():
        inside = tree / entry.name
        if entry.name in left:
            continue
        if entry.is_dir() and inside.is_dir():
            _link(entry, inside, {"__pycache__"})
        elif not inside.exists() and not inside.is_symlink():
            inside.symlink_to(entry)


def _done(process: subprocess.CompletedProcess[str]) -> None:
    if process.returncode:
        raise RuntimeError(f"{' '.join(process.args)}: {process.stderr.strip()[-500:]}")
