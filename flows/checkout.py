"""The pull step of the deployments: the worker's own checkout where it has one, else a fresh clone."""

from __future__ import annotations

import os
from pathlib import Path

from prefect.deployments.steps.pull import git_clone, set_working_directory

from regionclip.errors import InputError

WORKSPACE, REPOSITORY, SCRATCH = "REGIONCLIP_WORKSPACE", "REGIONCLIP_REPOSITORY", "REGIONCLIP_SCRATCH"


def checkout(branch: str | None = None) -> dict[str, str]:
    """Enter the folder ``$REGIONCLIP_WORKSPACE``, or clone ``$REGIONCLIP_REPOSITORY`` into the run's own folder.

    They come from the worker's environment, so that prefect.yaml names no machine. A clone is deleted after the run;
    with ``$REGIONCLIP_SCRATCH``, a folder that stays, a training that was killed is resumed by the next run all the
    same.

    Args:
        branch: To clone; None for the repository's default.

    Returns:
        The key ``directory``: where the run will work.

    Raises:
        InputError: The worker's environment has neither.
    """
    if workspace := os.environ.get(WORKSPACE):
        return set_working_directory(workspace)
    repository = os.environ.get(REPOSITORY)
    if not repository:
        raise InputError(
            f"the worker has neither {WORKSPACE} nor {REPOSITORY}",
            key=REPOSITORY,
            mend="set it in the worker's environment to the address of the repository",
        )
    entered = set_working_directory(git_clone(repository, branch=branch)["directory"])
    if scratch := os.environ.get(SCRATCH):
        Path(scratch).mkdir(parents=True, exist_ok=True)
        Path(".scratch").symlink_to(Path(scratch).resolve(), target_is_directory=True)
    return entered
