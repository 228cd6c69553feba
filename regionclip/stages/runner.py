"""Runs one stage: reads params, opens its MLflow run, times it, writes its metrics and its sidecar."""

from __future__ import annotations

import importlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from regionclip import runtime
from regionclip.checkpoints.scratch import clean_scratch, scratch_folder, stage_digest
from regionclip.errors import InputError
from regionclip.files import write_json
from regionclip.params import Params, load_params
from regionclip.stages.graph import read_stage
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
    definition = read_stage(name, dataset)
    params = load_params()
    inputs = {dep.as_posix(): dep for dep in definition.deps if dep.parts[0] in DATA_FOLDERS}
    for dep in definition.deps:
        if not dep.exists():
            raise InputError("the input does not exist", file=dep, mend=f"run `dvc repro {definition.name}`")
    values = definition.values(params.model_dump(mode="json"))
    file_name = definition.name.replace("@", "_")
    digest = stage_digest(values, list(definition.deps))
    scratch = scratch_folder(file_name, digest, root=runtime.SCRATCH)
    started = time.perf_counter()
    with track(definition.name, values, inputs, profile=params.profile, digest=digest) as tracker:
        module = importlib.import_module(f"regionclip.stages.{name}")
        metrics = module.run(StageContext(params, dataset, digest, scratch, tracker))
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
    clean_scratch(file_name)
