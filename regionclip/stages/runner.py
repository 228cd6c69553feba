"""Runs one stage: reads params, opens its MLflow run, times it, writes its metrics and its sidecar."""

from __future__ import annotations

import importlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regionclip import runtime
from regionclip.checkpoints.scratch import alone, clean_scratch, scratch_folder
from regionclip.errors import InputError
from regionclip.files import write_json
from regionclip.params import Params, load_params
from regionclip.stages.graph import StageDefinition, read_stage
from regionclip.stages.inputs import RAW, Inputs, changed, read_inputs, require_raw
from regionclip.tracking.mlflow_run import track
from regionclip.tracking.sidecar import write_sidecar

if TYPE_CHECKING:
    from regionclip.tracking.mlflow_run import Tracker

METRICS = Path("reports/metrics")
SIDECARS = Path("artifacts/runs")
DATA_FOLDERS = ("data", "artifacts", "reports")


@dataclass(frozen=True)
class StageContext:
    """What a stage is given besides its files.

    Attributes:
        params: The whole of params.yaml, checked.
        dataset: The item of a ``foreach`` stage (``coco`` or ``lvis``), else None.
        digest: Names the params and inputs that decide the result; kept in what the stage writes.
        scratch: Folder for resumable state, named by the digest.
        tracker: The stage's MLflow run.
    """

    params: Params
    dataset: str | None
    digest: str
    scratch: Path
    tracker: Tracker


def run_stage(name: str, dataset: str | None = None) -> None:
    """Run the stage ``name`` in the current folder.

    Raises:
        InputError: Params, definition or an input is wrong; see the stage's module.
        DataCheckFailed: A gate refused an artefact.
    """
    runtime.check()
    definition, params = read_stage(name, dataset), load_params()
    require_raw(params)
    with alone(definition.name.replace("@", "_")):
        _run_alone(definition, params, name, dataset)


def _run_alone(definition: StageDefinition, params: Params, name: str, dataset: str | None) -> None:
    inputs, digest, scratch = resolve(definition, params)
    values = definition.values(params.model_dump(mode="json"))
    data = {dep: md5 for dep, md5 in inputs.sums.items() if Path(dep).parts[0] in DATA_FOLDERS}
    file_name = definition.name.replace("@", "_")
    started = time.perf_counter()
    with track(definition.name, values, data, profile=params.profile, digest=digest) as tracker:
        module = importlib.import_module(f"regionclip.stages.{name}")
        metrics = module.run(StageContext(params, dataset, digest, scratch, tracker))
        _require_same(definition, values, inputs)
        if metrics:
            path = METRICS / f"{file_name}.json"
            write_json(path, metrics)
            tracker.log_metrics(metrics)
            tracker.log_artifact(path)
        tracker.log_checkpoints(definition.outs, digest)
    seconds = round(time.perf_counter() - started, 1)
    sidecar = SIDECARS / f"{file_name}.json"
    # The report depends on the folder of sidecars and adds none to it.
    if sidecar in definition.outs:
        write_sidecar(sidecar, definition.name, tracker.run_id, seconds, digest)
    clean_scratch(scratch)


def resolve(definition: StageDefinition, params: Params) -> tuple[Inputs, str, Path]:
    """Return what a stage reads, the digest that names its params and inputs, and its folder for resumable state.

    Raises:
        InputError: An input is not there.
    """
    # Outside DVC nothing need have summed the raw data.
    deps = [dep for dep in definition.deps if dep.exists() or RAW not in dep.parents]
    for dep in deps:
        if not dep.exists():
            raise InputError("the input does not exist", file=dep, mend=f"run `dvc repro {definition.name}`")
    inputs = read_inputs(deps)
    digest = inputs.digest(definition.values(params.model_dump(mode="json")))
    return inputs, digest, scratch_folder(definition.name.replace("@", "_"), digest, root=runtime.SCRATCH)


def _require_same(definition: StageDefinition, values: dict[str, Any], inputs: Inputs) -> None:
    """A result belongs to the params and inputs that it was made with; DVC records those of now."""
    now = definition.values(load_params().model_dump(mode="json"))
    keys = [key for key in values if now[key] != values[key]]
    file = changed(inputs, read_inputs([Path(dep) for dep in inputs.sums]))
    if keys or file:
        raise InputError(
            f"changed while the stage {definition.name} ran, and DVC would record its result as made with this",
            file="params.yaml" if keys else file,
            key=keys[0] if keys else None,
            mend="run the stage again; with what it began with, a training goes on from its last resume point",
        )
