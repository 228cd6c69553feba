"""One stage of dvc.yaml as a Prefect task: `dvc repro --single-item`, logged, limited, retried where that helps."""

from __future__ import annotations

import contextlib
import re
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.concurrency.sync import concurrency

from flows import commands
from flows.supervise import INTERRUPTED
from regionclip.errors import FAULT, DataCheckFailed, InputError
from regionclip.stages.graph import Stage

# Seconds; together as long as clients wait for a Prefect server that is away, without which there is no slot (`slot`).
_RETRY_DELAYS = [30.0, 120.0, 360.0]
FINAL = {InputError.exit_code, DataCheckFailed.exit_code, FAULT}  # the same input gives the same failure
_EXITED = re.compile(r"exited with (-?\d+)$")
_RESTORED = "is cached - skipping run"


@dataclass(frozen=True)
class RunOptions:
    """What all stages of a pipeline run share."""

    root: Path  # the checkout
    parent_run: str | None = None  # of MLflow
    force: bool = False  # run stages that have not changed too
    pull: bool = False  # fetch what is missing from the DVC remote, and run nothing for outputs that are only missing

    def run(self, command: Sequence[str], lock: str) -> tuple[int, list[str]]:
        """Run a command of a stage, as `commands.run` does; its MLflow run lies below the parent."""
        settings = {"REGIONCLIP_PARENT_RUN_ID": self.parent_run or ""}
        return commands.run(command, root=self.root, lock=lock, settings=settings, log=get_run_logger().info)


@dataclass(frozen=True)
class StageRun:
    """A stage that ended well: how long DVC took, and whether it ``restored`` the outputs from its run cache."""

    seconds: float
    restored: bool = False


class StageFailed(Exception):
    """A stage did not end well; without the exit code of its command, DVC itself failed or was stopped."""

    def __init__(self, name: str, exit_code: int | None, seconds: float, last: str = "") -> None:
        self.name, self.exit_code, self.seconds = name, exit_code, seconds
        super().__init__(f"{name} {self.reason}{f': {last}' if last else ''}")

    @property
    def reason(self) -> str:
        """How it failed, in words."""
        if self.exit_code is None:
            return "failed in DVC"
        meaning = {
            InputError.exit_code: " (wrong input)",
            DataCheckFailed.exit_code: " (the data check refused its input)",
            INTERRUPTED: " (interrupted, can be resumed)",
            FAULT: " (a fault of the program)",
        }
        return f"failed with exit code {self.exit_code}{meaning.get(self.exit_code, '')}"


def worth_a_retry(task: Any, task_run: Any, state: Any) -> bool:
    """Say whether the same again may end better: not for wrong input or a failed data check, not while stopping."""
    if commands.stopping.is_set():
        return False
    try:
        state.result()
    except StageFailed as failure:
        return failure.exit_code not in FINAL
    except Exception:
        return True
    return False


patient_task = partial(
    task,
    cache_policy=NO_CACHE,
    retries=len(_RETRY_DELAYS),
    retry_delay_seconds=_RETRY_DELAYS,
    retry_condition_fn=worth_a_retry,
)


@patient_task(task_run_name="{stage.name}")
def run_stage(stage: Stage, options: RunOptions) -> StageRun:
    """Bring one stage up to date; DVC decides whether it has to run.

    Raises:
        StageFailed: It did not end well.
    """
    with slot(stage):
        started = time.monotonic()
        tail = repro(stage, options, *(["--pull"] if options.pull else []))
        return StageRun(time.monotonic() - started, any(_RESTORED in line for line in tail))


def repro(stage: Stage, options: RunOptions, *flags: str) -> list[str]:
    """Call ``dvc repro`` for one stage alone; return its last lines.

    Raises:
        StageFailed: It did not end well.
    """
    command = ["dvc", "--wait-for-lock", "repro", "--single-item", stage.name, *flags]
    command += ["--force"] if options.force else []
    command += ["--allow-missing"] if options.pull else []
    started = time.monotonic()
    code, tail = options.run(command, stage.name)
    if code:
        raise StageFailed(stage.name, exit_code(tail), time.monotonic() - started, tail[-1] if tail else "")
    return tail


def slot(stage: Stage) -> contextlib.AbstractContextManager[None]:
    """Hold a slot of the global concurrency limit that the stage's ``meta`` names; a limit that is not there is none.

    A lease that cannot be renewed, because the server is away, does not stop the stage.
    """
    return concurrency(stage.limit, occupy=1, strict=False) if stage.limit else contextlib.nullcontext()


def exit_code(tail: list[str]) -> int | None:
    """Find the exit code of the stage's command, which DVC only prints; its own is 255 for any failure.

    DVC runs it through ``$SHELL``. dash, unlike bash, waits for it and then dies of the interrupt that both were sent.
    """
    found = [int(match.group(1)) for line in tail if (match := _EXITED.search(line))]
    code = found[-1] if found else None
    return INTERRUPTED if code == -signal.SIGINT else code
