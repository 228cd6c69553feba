"""Fan-out: a stage's parts as Prefect runs on as many workers as take them; the stage then merges what it finds."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import DeploymentStatus, FlowRun
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run as this_run
from prefect.states import Cancelled

from flows import commands
from flows.stage_runs import RunOptions, StageFailed, patient_task, repro, slot
from regionclip.errors import InputError
from regionclip.stages.graph import Stage, read_graph

DEPLOYMENT = "label-shard/label-shard"
PATIENCE = 300.0  # seconds for a worker to start a part, before the pipeline does it itself
POLL = 5.0  # seconds


@flow(name="label-shard")
def label_shard(workspace: str, shard: int, shards: int, stage: str = "pseudo_labels") -> None:
    """Make one part of a stage that workers share. Made parts are left alone, so it may run again.

    Args:
        workspace: The checkout of the pipeline run; it has to be on a disk that this worker shares.
        shard: Which part, from 1.
        shards: How many parts.
        stage: Name of the stage in dvc.yaml; it has `meta: {shards: true}` there.
    """
    root = Path(workspace)
    if not (root / "dvc.yaml").is_file():
        mend = "put the checkout on a shared disk"
        raise InputError("this worker does not see it", file=root / "dvc.yaml", mend=mend)
    described = read_graph(root).get(stage)
    if described is None or not described.shards or not 1 <= shard <= shards:
        raise InputError(f"there is no part {shard} of {shards} of '{stage}'", file=root / "dvc.yaml", key="shards")
    with commands.stopped_together():
        make_part(described, shard, shards, RunOptions(root))


def submit_shards(stage: Stage, options: RunOptions, shards: int, wait_for: list[Any]) -> list[Any]:
    """Submit the parts of a stage as task runs, which do nothing where DVC would not run the stage; return futures."""
    needed = prepare_shards.submit(stage, options, wait_for=wait_for)
    return [run_shard.submit(stage, number, shards, options, needed) for number in range(1, shards + 1)]


@patient_task(task_run_name="{stage.name} shards")
def prepare_shards(stage: Stage, options: RunOptions) -> bool:
    """Say whether DVC would run the stage; if so, fetch what it reads and is not there."""
    needed = any(line.startswith("Running stage") for line in repro(stage, options, "--dry"))
    missing = [dep for dep in stage.deps if not (options.root / dep).exists()]
    if needed and options.pull and missing:
        commands.dvc(options.root, "pull", *missing)
    return needed


@patient_task(task_run_name="{stage.name} {number} of {shards}")
def run_shard(stage: Stage, number: int, shards: int, options: RunOptions, needed: bool) -> None:
    """Have a part made: by a worker of the pool where one starts it in time and finishes it, else here.

    Raises:
        StageFailed: Here it failed too.
    """
    if needed and not _made_by_a_worker(stage, number, shards, options):
        make_part(stage, number, shards, options)


def make_part(stage: Stage, number: int, shards: int, options: RunOptions) -> None:
    """Make a part of a stage here.

    Raises:
        StageFailed: It did not end well.
    """
    command = [*shlex.split(stage.cmd), "--shard", f"{number}/{shards}"]
    lock = f"{stage.name}-{number}-of-{shards}"
    with slot(stage):
        started = time.monotonic()
        code, tail = options.run(command, lock)
    if code:
        name = f"{stage.name}, part {number} of {shards},"
        raise StageFailed(name, code, time.monotonic() - started, tail[-1] if tail else "")


def _made_by_a_worker(stage: Stage, number: int, shards: int, options: RunOptions) -> bool:
    log = get_run_logger()
    with get_client(sync_client=True) as client:
        try:
            ready = client.read_deployment_by_name(DEPLOYMENT).status == DeploymentStatus.READY
        except ObjectNotFound:
            ready = False
        if not ready:
            return False
        parameters = {"workspace": str(options.root), "shard": number, "shards": shards, "stage": stage.name}
        name = f"{this_run.name}-{stage.name}-{number}-of-{shards}"
        run: FlowRun = run_deployment(DEPLOYMENT, parameters=parameters, timeout=0, flow_run_name=name)
        deadline = time.monotonic() + PATIENCE
        while not run.state.is_final():
            if commands.stopping.wait(POLL):
                return False
            run = client.read_flow_run(run.id)
            if time.monotonic() > deadline and (run.state.is_scheduled() or run.state.is_pending()):
                client.set_flow_run_state(run.id, Cancelled(message="No worker started it in time."), force=True)
                log.info("No worker started %s in %.0f s.", name, PATIENCE)
                return False
    if not run.state.is_completed():
        log.warning("%s ended as %s on its worker: %s", name, run.state.name, run.state.message)
    return run.state.is_completed()
