"""Runs a stage, alone or in each process of a group: params, MLflow run, time, metrics and sidecar."""

from __future__ import annotations

import importlib
import time
from pathlib import Path
from typing import Any

from regionclip import artifacts, runtime
from regionclip.checkpoints.scratch import alone, clean_scratch, scratch_folder
from regionclip.errors import InputError
from regionclip.files import write_json
from regionclip.params import Params, load_params
from regionclip.stages.context import StageContext
from regionclip.stages.graph import Stage, read_stage
from regionclip.stages.inputs import Inputs, changed, read_inputs, require_raw
from regionclip.tracking.sidecar import write_sidecar
from regionclip.tracking.tracker import track

DATA_FOLDERS = ("data", "artifacts", "reports")


def run_stage(name: str, dataset: str | None = None) -> None:
    """Run the stage ``name`` in the current folder.

    Raises:
        InputError: Params, definition or an input is wrong; see the stage's module.
        DataCheckFailed: A gate refused an artefact.
    """
    runtime.check()
    params = load_params()
    stage = read_stage(name, dataset)
    require_raw(params)
    with alone(artifacts.file_name(stage.name)):
        _run_alone(stage, params, dataset)


def run_together(name: str, dataset: str | None = None) -> None:
    """Run a stage in each process of a group: all train and predict, the first tracks, measures and writes.

    Errors are those of `run_stage`, in whichever process they come.
    """
    from mmengine.dist import is_main_process

    from regionclip.engine.launch import process_group

    with process_group():
        if is_main_process():
            run_stage(name, dataset)
        else:
            _module(name).run(_untracked(name, dataset))


def run_shard(name: str, number: int, shards: int) -> None:
    """Make share ``number``, from 1, of ``shards`` of a stage that workers share; the stage merges the shares."""
    _module(name).run_shard(_untracked(name, None), number, shards)


def _module(name: str) -> Any:
    return importlib.import_module(f"regionclip.stages.{name}")


def _untracked(name: str, dataset: str | None) -> StageContext:
    """Return the context of a stage whose run and outputs are another process's."""
    runtime.check()
    params = load_params()
    stage = read_stage(name, dataset)
    _, digest, scratch = _resolve(stage, params)
    return StageContext(stage.name, params, dataset, digest, scratch, tracker=None)


def _run_alone(stage: Stage, params: Params, dataset: str | None) -> None:
    inputs, digest, scratch = _resolve(stage, params)
    values = stage.values(params.model_dump(mode="json"))
    data = {dep: md5 for dep, md5 in inputs.sums.items() if Path(dep).parts[0] in DATA_FOLDERS}
    started = time.perf_counter()
    with track(stage.name, values, data, profile=params.profile, digest=digest) as tracker:
        module = _module(stage.name.partition("@")[0])
        metrics = module.run(StageContext(stage.name, params, dataset, digest, scratch, tracker))
        _require_same(stage, values, inputs)
        if metrics:
            path = artifacts.metrics(stage.name)
            write_json(path, metrics)
            tracker.log_metrics(metrics)
            tracker.log_artifact(path)
        tracker.log_checkpoints(stage.outs, digest)
    seconds = round(time.perf_counter() - started, 1)
    # The report depends on the folder of sidecars and adds none to it.
    if stage.sidecar:
        write_sidecar(stage.sidecar, stage.name, tracker.run_id, seconds, digest)
    clean_scratch(scratch)


def _resolve(stage: Stage, params: Params) -> tuple[Inputs, str, Path]:
    """Return what a stage reads, the digest that names its params and inputs, and its folder for resumable state.

    Raises:
        InputError: An input is not there.
    """
    # Outside DVC nothing need have summed the raw data.
    deps = [dep for dep in map(Path, stage.deps) if dep.exists() or artifacts.RAW not in dep.parents]
    for dep in deps:
        if not dep.exists():
            raise InputError("the input does not exist", file=dep, mend=f"run `dvc repro {stage.name}`")
    inputs = read_inputs(deps)
    digest = inputs.digest(stage.values(params.model_dump(mode="json")))
    return inputs, digest, scratch_folder(artifacts.file_name(stage.name), digest)


def _require_same(stage: Stage, values: dict[str, Any], inputs: Inputs) -> None:
    """A result belongs to the params and inputs that it was made with; DVC records those of now."""
    now = stage.values(load_params().model_dump(mode="json"))
    keys = [key for key in values if now[key] != values[key]]
    file = changed(inputs, read_inputs([Path(dep) for dep in inputs.sums]))
    if keys or file:
        problem = f"changed while the stage {stage.name} ran, and DVC would record its result as made with this"
        mend = "run the stage again; with what it began with, a training goes on from its last resume point"
        raise InputError(problem, file="params.yaml" if keys else file, key=keys[0] if keys else None, mend=mend)
