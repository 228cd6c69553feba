"""What MLflow is still to be told of a run, as plain values; sending any of it again changes nothing."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from regionclip.artifacts import BEST, file_name
from regionclip.errors import InputError, logger
from regionclip.files import write_text
from regionclip.tracking.names import metric_name
from regionclip.tracking.origin import close_left_open, process_tags
from regionclip.tracking.store import STATE, experiment_id, one_line, process_wide, require_active

if TYPE_CHECKING:
    from mlflow import MlflowClient

_log = logger(__name__)
FOLDER = STATE / "undelivered"
ID, PARENT = "delivery.id", "delivery.parent"
"""Tags: the id that a record has from its begin, and that of its parent's record."""

_BATCH = 100  # params that one call of MLflow takes
_DIGEST = 36  # letters of a data set's digest that MLflow takes
_TRAININGS, _WEIGHTS = {"teacher", "rpn", "pretrain", "finetune"}, {".safetensors", ".pth"}
_REFUSALS = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "BAD_REQUEST"}

Time = Annotated[int, Field(ge=0, lt=2**63)]  # milliseconds since 1970


class _Values(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", ser_json_inf_nan="constants")


class Start(_Values):
    """How a run is opened; ``inputs`` are paths to MD5."""

    tags: dict[str, str]
    params: dict[str, str] = {}
    inputs: dict[str, str] = {}


class Metrics(_Values):
    """Numbers of one step."""

    time: Time
    step: Time
    values: dict[str, float]


class End(_Values):
    """How a run ended."""

    time: Time
    status: Literal["FINISHED", "FAILED", "KILLED"]
    tags: dict[str, str]


class Model(_Values):
    """A weight file: tags are its path, MD5 (the name of the bytes in DVC's cache and remotes), size, stage, digest."""

    name: str
    tags: dict[str, str]


class Record(_Values):
    """What is still to be sent of one run; while MLflow is away it lies in ``mlruns/undelivered/STAGE-ID.json``."""

    id: Annotated[str, Field(min_length=1)]  # names the run before MLflow does, so that it is opened once
    stage: str  # name of the run
    run_id: str | None = None  # of MLflow; None until it was opened
    origin: dict[str, str]  # host and process that the record is of
    since: Time  # when the run began
    last: Time  # when something was last added
    start: Start | None = None
    metrics: list[Metrics] = []
    artifacts: list[Annotated[str, Field(min_length=1)]] = []
    models: list[Model] = []
    end: End | None = None

    @model_validator(mode="after")
    def _can_begin(self) -> Record:
        if self.start is None and self.run_id is None:
            raise ValueError("it names no run, and does not say how to open one")
        return self

    @classmethod
    def begin(cls, stage: str, start: Start | None, run_id: str | None = None) -> Record:
        """Begin the record of a run of this process, which is opened by ``start`` or is there already."""
        identity, now = run_id or uuid.uuid4().hex, milliseconds()
        if start is not None:
            start.tags[ID] = identity
        origin = {"host": platform.node(), **process_tags()}
        return cls(id=identity, stage=stage, run_id=run_id, origin=origin, since=now, last=now, start=start)

    @property
    def waiting(self) -> int:
        """How many parts are still to be sent."""
        whole = [part for part in (self.start, self.end) if part is not None]
        return len(whole) + len(self.metrics) + len(self.artifacts) + len(self.models)

    @property
    def file(self) -> Path:
        """Where it lies while MLflow is away; beside it a folder with copies of the artifacts that wait."""
        return FOLDER / f"{file_name(self.stage).replace(' ', '_')}-{self.id[:12]}.json"

    def keep(self) -> None:
        """Write it, and copy artifacts, since they may be other ones later; a full disk stops no stage."""
        try:
            copies = self.file.with_suffix("")
            self.artifacts = [
                path if Path(path).is_relative_to(copies) else _copy(Path(path), copies) for path in self.artifacts
            ]
            write_text(self.file, self.model_dump_json())
        except (OSError, ValueError) as error:
            # ValueError: a text that is none.
            _log.warning("The record of %s cannot be kept in %s. %s", self.stage, self.file, error)

    def remove(self, file: Path | None = None) -> None:
        """Remove what was kept, under whatever name."""
        file = file or self.file
        file.unlink(missing_ok=True)
        shutil.rmtree(file.with_suffix(""), ignore_errors=True)

    def send(self, client: MlflowClient) -> list[str]:
        """Send what waits; what was sent waits no more.

        Returns:
            Why MLflow refused parts that it will never take.

        Raises:
            InputError, MlflowException, SQLAlchemyError, OSError: `delivery_errors`; the rest still waits.
        """
        refused: list[str] = []
        if self.start is not None:
            self.run_id = _open(self.start, self, client)
            self.start = None
        parts = (
            ("metrics", _log_metrics, self.metrics),
            ("artifact", _log_artifact, self.artifacts),
            ("model", _log_model, self.models),
        )
        for kind, log, waiting in parts:
            while waiting:
                refused += self._refusal(client, kind, log, waiting[0])
                waiting.pop(0)
        if self.end is not None:
            refused += self._refusal(client, "finish", _finish, self.end)
            self.end = None
        return refused

    def _refusal(self, client: MlflowClient, kind: str, log: Callable[..., None], part: Any) -> list[str]:
        """Send one part; return why MLflow refused it, where sending it again is no use."""
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import DatabaseError, SQLAlchemyError

        if kind == "artifact" and not Path(part).exists():
            return [f"artifact: {part} is there no more"]
        try:
            log(client, self.run_id, part)
        except (MlflowException, SQLAlchemyError) as error:
            # Its subclasses are about a value; itself, the file is broken.
            broken = type(error.__cause__) is DatabaseError
            if getattr(error, "error_code", None) not in _REFUSALS or broken:
                raise
            _require_run(client, self.run_id)
            return [f"{kind}: {one_line(error)}"]
        return []


def checkpoints(stage: str, outs: Sequence[str | Path], digest: str) -> list[Model]:
    """Describe the weight files among the outputs of a stage; ``digest`` is that of its params and inputs."""
    if stage.split("@")[0] not in _TRAININGS:
        return []
    files = [file for out in map(Path, outs) for file in ([out] if out.is_file() else sorted(out.rglob("*")))]
    models = []
    for file in (file for file in files if file.suffix in _WEIGHTS):
        with file.open("rb") as handle:
            md5 = hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        # A stage that gives several files names them after the initialisation.
        name = metric_name(stage) if "@" not in stage else f"{metric_name(stage)}_{file.stem}"
        name += "_best" if file.parent.name == BEST else ""
        facts = {"path": file.as_posix(), "dvc.md5": md5, "bytes": str(file.stat().st_size)}
        models.append(Model(name=name, tags={**facts, "dvc.stage": stage, "stage.digest": digest}))
    return models


def milliseconds() -> int:
    """Return the time as MLflow counts it."""
    return int(1000 * time.time())


def _copy(path: Path, copies: Path) -> str:
    # Files of one name may wait twice.
    copy = copies / uuid.uuid4().hex[:8] / path.name
    copy.parent.mkdir(parents=True)
    if path.is_dir():
        shutil.copytree(path, copy)
    else:
        shutil.copy2(path, copy)
    return str(copy)


def _open(start: Start, record: Record, client: MlflowClient) -> str:
    """Open the run, unless the answer to an earlier try was lost; return its id."""
    from mlflow.entities import Dataset, DatasetInput, InputTag, Param

    experiment, tags = experiment_id(client), dict(start.tags)
    run_id = _find(client, experiment, record.id)
    if run_id is None:
        if parent := PARENT in tags and _find(client, experiment, tags[PARENT]):
            tags["mlflow.parentRunId"] = parent
        run_id = client.create_run(experiment, record.since, tags, run_name=record.stage).info.run_id
    like = {key: tags[key] for key in ("dvc.stage", "kind", "host") if key in tags}
    if "model" not in tags and "host" in tags:
        close_left_open(client, experiment, like, closed_by=run_id)
    params = [Param(*item) for item in start.params.items()]
    for first in range(0, len(params), _BATCH):
        client.log_batch(run_id, params=params[first : first + _BATCH])
    datasets = [
        DatasetInput(
            Dataset(path, md5[:_DIGEST], source_type="local", source=json.dumps({"uri": path})),
            [InputTag("mlflow.data.context", "input")],
        )
        for path, md5 in start.inputs.items()
    ]
    if datasets:
        client.log_inputs(run_id, datasets)
    return run_id


def _find(client: MlflowClient, experiment: str, identity: str) -> str | None:
    found = client.search_runs([experiment], f"tags.`{ID}` = '{identity}'", max_results=1)
    return found[0].info.run_id if found else None


def _log_metrics(client: MlflowClient, run_id: str, part: Metrics) -> None:
    from mlflow.entities import Metric

    metrics = [Metric(name, value, part.time, part.step) for name, value in part.values.items()]
    client.log_batch(run_id, metrics=metrics)


def _log_artifact(client: MlflowClient, run_id: str, path: str) -> None:
    if Path(path).is_dir():
        client.log_artifacts(run_id, path, Path(path).name)
    else:
        client.log_artifact(run_id, path)


def _log_model(client: MlflowClient, run_id: str, model: Model) -> None:
    """Log a weight file as a model of a run, unless the run has it: the facts and where DVC has the bytes."""
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


def _finish(client: MlflowClient, run_id: str, part: End) -> None:
    for key, value in part.tags.items():
        client.set_tag(run_id, key, value)
    client.set_terminated(run_id, part.status, part.time)


def _require_run(client: MlflowClient, run_id: str | None) -> None:
    """Tell a run that is no more, and so takes nothing, from a part that MLflow does not like."""
    from mlflow.exceptions import MlflowException

    uri = client.tracking_uri
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        mend = "set MLFLOW_TRACKING_URI to the store that has it, or give up its records"
        raise InputError(f"there is no run {run_id}", file=uri, mend=mend) from None
    require_active(client.get_experiment(run.info.experiment_id), uri)
    if run.info.lifecycle_stage == "deleted":
        mend = f"run `MLFLOW_TRACKING_URI={quote(uri)} mlflow runs restore --run-id {run_id}`"
        raise InputError(f"the run {run_id} was deleted", file=uri, mend=mend)
