"""Checkpoints as MLflow's logged models: the facts and where DVC keeps the bytes, never the bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regionclip.artifacts import BEST
from regionclip.tracking.names import metric_name
from regionclip.tracking.store import process_wide

if TYPE_CHECKING:
    from mlflow import MlflowClient

_STAGES = {"teacher", "rpn", "pretrain", "finetune"}
_WEIGHTS = {".safetensors", ".pth"}


def checkpoints(stage: str, outs: Sequence[str | Path], digest: str) -> list[dict[str, Any]]:
    """Describe the weight files that a stage wrote.

    Args:
        stage: DVC's name of the stage.
        outs: Its outputs.
        digest: Digest of its params and inputs.

    Returns:
        Name and tags of each: its path, MD5 (the name of the bytes in DVC's cache and remotes), size, stage and digest.
    """
    if stage.split("@")[0] not in _STAGES:
        return []
    return [_describe(file, stage, digest) for file in _weight_files(map(Path, outs))]


def _weight_files(outs: Iterable[Path]) -> Iterator[Path]:
    for out in outs:
        files = [out] if out.is_file() else sorted(out.rglob("*"))
        yield from (file for file in files if file.suffix in _WEIGHTS)


def _describe(file: Path, stage: str, digest: str) -> dict[str, Any]:
    with file.open("rb") as handle:
        md5 = hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    # A stage that gives several files names them after the initialisation.
    name = metric_name(stage) if stage.count("@") == 0 else f"{metric_name(stage)}_{file.stem}"
    name += "_best" if file.parent.name == BEST else ""
    facts = {"path": file.as_posix(), "dvc.md5": md5, "bytes": str(file.stat().st_size)}
    return {"name": name, "tags": {**facts, "dvc.stage": stage, "stage.digest": digest}}


def send_model(client: MlflowClient, run_id: str, name: str, tags: Mapping[str, str]) -> None:
    """Log one of `checkpoints` as a model of a run, unless the run has it."""
    import mlflow
    from mlflow.entities import LoggedModelOutput

    experiment = client.get_run(run_id).info.experiment_id
    wanted = f"name = '{name}' and source_run_id = '{run_id}'"
    found = client.search_logged_models([experiment], wanted, max_results=1)
    if found:
        model = found[0]
    else:
        with process_wide(client.tracking_uri):
            model = mlflow.create_external_model(
                name, run_id, dict(tags), model_type="checkpoint", experiment_id=experiment
            )
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
