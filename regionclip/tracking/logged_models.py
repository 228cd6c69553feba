"""Checkpoints as MLflow's logged models: the facts and where DVC keeps the bytes, never the bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from regionclip.artifacts import BEST
from regionclip.tracking.names import metric_name
from regionclip.tracking.store import process_wide

if TYPE_CHECKING:
    from mlflow import MlflowClient

_STAGES = {"teacher", "rpn", "pretrain", "finetune"}
_WEIGHTS = {".safetensors", ".pth"}


class Model(BaseModel):
    """A weight file: tags are its path, MD5 (the name of the bytes in DVC's cache and remotes), size, stage, digest."""

    model_config = ConfigDict(strict=True, extra="forbid")
    name: str
    tags: dict[str, str]


def checkpoints(stage: str, outs: Sequence[str | Path], digest: str) -> list[Model]:
    """Describe the weight files among the outputs of a stage; ``digest`` is that of its params and inputs."""
    if stage.split("@")[0] not in _STAGES:
        return []
    files = [file for out in map(Path, outs) for file in ([out] if out.is_file() else sorted(out.rglob("*")))]
    return [_describe(file, stage, digest) for file in files if file.suffix in _WEIGHTS]


def _describe(file: Path, stage: str, digest: str) -> Model:
    with file.open("rb") as handle:
        md5 = hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    # A stage that gives several files names them after the initialisation.
    name = metric_name(stage) if stage.count("@") == 0 else f"{metric_name(stage)}_{file.stem}"
    name += "_best" if file.parent.name == BEST else ""
    facts = {"path": file.as_posix(), "dvc.md5": md5, "bytes": str(file.stat().st_size)}
    return Model(name=name, tags={**facts, "dvc.stage": stage, "stage.digest": digest})


def send_model(client: MlflowClient, run_id: str, model: Model) -> None:
    """Log a model of a run, unless the run has it."""
    import mlflow
    from mlflow.entities import LoggedModelOutput

    experiment = client.get_run(run_id).info.experiment_id
    wanted = f"name = '{model.name}' and source_run_id = '{run_id}'"
    found = list(client.search_logged_models([experiment], wanted, max_results=1))
    if not found:
        with process_wide(client.tracking_uri):
            made = mlflow.create_external_model(
                model.name, run_id, model.tags, model_type="checkpoint", experiment_id=experiment
            )
        found.append(made)
    client.log_outputs(run_id, [LoggedModelOutput(found[0].model_id, step=0)])
