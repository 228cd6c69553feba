"""The pipeline as a Prefect flow: the graph of dvc.yaml, one task a stage, what is independent side by side."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from flows import commands
from flows.checkout import share, use_profile, worktree
from flows.dvc_lock import changed_outputs, recorded
from flows.publish import bring_home, keep_branch, lock_of, publish, push_outputs, require_remote
from flows.run_report import counts, leave_artifacts, problems, stage_records
from flows.shards import submit_shards
from flows.stage_runs import RunOptions, run_stage
from regionclip.artifacts import SIDECARS
from regionclip.errors import InputError
from regionclip.stages.graph import Stage, in_order, read_graph
from regionclip.tracking.pipeline_run import finish_pipeline_run, start_pipeline_run, tracking_ui_link


@flow(name="pipeline")
def pipeline(
    profile: str | None = None,
    targets: list[str] | None = None,
    force: bool = False,
    pull: bool = False,
    push: bool = False,
    shards: int = 1,
    workspace: str | None = None,
) -> State[None]:
    """Bring the pipeline up to date: `dvc repro` stage by stage, with logs, retries and limits.

    It works in a Git worktree of the checkout's commit; changes that are not committed are not its own, and stay. A
    failed stage stops what needs it, not its neighbours. The run ends as Failed when a stage did, with the names and
    exit codes in its message. Without a profile, dvc.lock, reports and outputs are brought into the checkout; with one,
    they are on the branch runs/NAME-OF-THIS-RUN.

    Args:
        profile: Name of a profile, as `regionclip profile` lists them, that takes the place of params.yaml; empty for
            params.yaml as it is committed.
        targets: Stages to bring up to date, with all they need, such as evaluate@coco; empty for all.
        force: Run the stages even where nothing has changed.
        pull: Fetch from the DVC remote what the stages to run need; outputs that are only missing are not made again.
        push: Send outputs to the DVC remote, and the new dvc.lock to the branch runs/NAME-OF-THIS-RUN of origin.
        shards: Into how many parts to split stages that several workers may share.
        workspace: The checkout to run in; empty for the folder that the worker prepared.
    """
    home = Path(workspace or ".").resolve()
    if not (home / "dvc.yaml").is_file():
        raise InputError("the file does not exist", file=home / "dvc.yaml", mend="give the checkout as workspace")
    with commands.alone_in(home, get_run_logger().info):
        if pull or push:
            require_remote(home)
        tree = worktree(home)
        lock = lock_of(home)
        name = use_profile(tree, profile)
        whole = read_graph(tree)
        graph = select(whole, targets, home / "dvc.yaml")
        share(home, tree, whole)
        tags = {"prefect.flow_run_id": str(flow_run.id), "prefect.flow_run": flow_run.name}
        # MLflow's default store and Git are looked for from the current folder.
        with contextlib.chdir(tree):
            options = RunOptions(tree, start_pipeline_run(name, tags), force, pull)
            back = None if profile else partial(bring_home, tree, home, lock, graph)
            return _record_run(graph, options, shards, push, back)


def select(graph: dict[str, Stage], targets: Sequence[str] | None, file: str | Path = "dvc.yaml") -> dict[str, Stage]:
    """Return the stages that ``dvc repro TARGETS`` would look at: the targets and all they need; None gives all.

    A name without its item (``finetune``) means all items.

    Raises:
        InputError: There is no such stage.
    """
    if not targets:
        return dict(graph)
    chosen = []
    for target in targets:
        found = [name for name in graph if target in (name, name.partition("@")[0])]
        if not found:
            raise InputError("no such stage", file=file, key=target, mend=f"stages are {', '.join(graph)}")
        chosen += found
    return in_order(graph, chosen)


def gathered(graph: Mapping[str, Stage]) -> list[str]:
    """Return outputs that another stage reads through the folder they lie in, and all sidecars.

    ``dvc repro --pull`` fetches a folder that is not there at all; of one that is there in part, it would take the
    part for the whole. So a fresh checkout has to have these first.
    """
    deps = {dep for stage in graph.values() for dep in stage.deps} | {SIDECARS.as_posix()}
    outs = (out for stage in graph.values() for out in stage.outs)
    return [out for out in outs if any(out.startswith(f"{dep}/") for dep in deps)]


def _record_run(
    graph: Mapping[str, Stage], options: RunOptions, shards: int, push: bool, back: Callable[[], list[str]] | None
) -> State[None]:
    """Run the stages, then leave what became of them in Prefect, MLflow, and the checkout (by ``back``) or a branch."""
    records = []
    try:
        with commands.stopped_together():
            if options.pull:
                _fetch_gathered(graph, options)
            before = recorded(options.root, graph)
            states = _run_stages(graph, options, shards)
        after = recorded(options.root, graph)
        records = stage_records(states, before, after, force=options.force)
        failures = problems(states)
        link = tracking_ui_link(options.parent_run)
        notes = [f"[The run in MLflow]({link})"] if link else []
        if back is not None:
            notes += back()
        if push:
            _send(options, failures, notes)
        elif back is None:
            notes.append(keep_branch(options.root, flow_run.name, flow_run.id))
        leave_artifacts(records, changed_outputs(before, after), [*failures, *notes], options.root)
        status = "FAILED" if failures else "FINISHED"
    except BaseException as error:
        status = "FAILED" if isinstance(error, Exception) else "KILLED"
        raise
    finally:
        finish_pipeline_run(options.parent_run, records, status=status, root=options.root)
    return Failed(message="; ".join(failures)) if failures else Completed(message=counts(records))


def _send(options: RunOptions, failures: list[str], notes: list[str]) -> None:
    """Send outputs and dvc.lock off, those of a run that failed too; add to ``failures`` what did not work."""
    pushed = push_outputs(options.root, return_state=True)
    if not pushed.is_completed():
        failures.append(str(pushed.result(raise_on_failure=False)))
    try:
        where = publish(options.root, flow_run.name, flow_run.id, options.parent_run, pushed=pushed.is_completed())
    except (OSError, subprocess.SubprocessError) as error:
        failures.append(f"the new dvc.lock could not be committed ({error})")
    else:
        notes.append(where)


def _run_stages(graph: Mapping[str, Stage], options: RunOptions, shards: int) -> dict[str, State[Any]]:
    """Submit every stage to start once those it needs have ended well; return the state each came to."""
    futures: dict[str, Any] = {}
    for name, stage in graph.items():
        needs = [futures[need] for need in stage.needs]
        parts = submit_shards(stage, options, shards, wait_for=needs) if stage.shards and shards > 1 else []
        futures[name] = run_stage.submit(stage, options, wait_for=[*needs, *parts])
    for future in futures.values():
        future.wait()
    return {name: future.state for name, future in futures.items()}


def _fetch_gathered(graph: Mapping[str, Stage], options: RunOptions) -> None:
    """Fetch the outputs that are read through their folder; those never made are left to their stages."""
    made = [out for record in recorded(options.root, graph).values() for out in record.outs()]
    wanted = [out for out in gathered(graph) if out in made and not (options.root / out).exists()]
    if wanted:
        commands.dvc(options.root, "pull", "--allow-missing", *wanted)
