"""Records of a run as plain values, and how each is sent to MLflow; sending one again changes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field
from typing_extensions import TypedDict

from regionclip.errors import InputError, logger
from regionclip.tracking.logged_models import send_model
from regionclip.tracking.processes import close_left_open
from regionclip.tracking.store import connect, delivery_errors, experiment_id, one_line, require_active

if TYPE_CHECKING:
    from mlflow import MlflowClient

_log = logger(__name__)
ID, PARENT = "delivery.id", "delivery.parent"
"""Tags: an id that the sender gives a run, and that of its parent where MLflow's own was not known."""

_BATCH = 100  # params that one call of MLflow takes
_DIGEST = 36  # letters of a data set's digest that MLflow takes
_REFUSALS = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "BAD_REQUEST"}

Record = dict[str, Any]
"""One of `AnyRecord`."""

Whole = Annotated[int, Field(ge=0, lt=2**63)]


class _Of(TypedDict):
    time: Whole  # milliseconds since 1970


class _Input(TypedDict):
    path: str
    digest: str


class _Start(_Of):
    kind: Literal["start"]
    name: str
    experiment: str
    tags: dict[str, str]
    params: dict[str, str]
    inputs: dict[str, _Input]


class _Metrics(_Of):
    kind: Literal["metrics"]
    step: Whole
    values: dict[str, float]


class _Artifact(_Of):
    kind: Literal["artifact"]
    path: str


class _Dict(_Of):
    kind: Literal["dict"]
    file: str
    values: dict[str, Any]


class _Described(TypedDict):
    name: str
    tags: dict[str, str]


class _Model(_Of):
    kind: Literal["model"]
    values: _Described


class _Finish(_Of):
    kind: Literal["finish"]
    status: Literal["FINISHED", "FAILED", "KILLED"]
    tags: dict[str, str]


AnyRecord = Annotated[_Start | _Metrics | _Artifact | _Dict | _Model | _Finish, Field(discriminator="kind")]


class Delivery:
    """The sending of one run's records, in order, to one store.

    Attributes:
        run_id: The MLflow run; None until the record of its start was sent.
    """

    def __init__(self, uri: str, run_id: str | None = None) -> None:
        self.uri, self.run_id = uri, run_id

    @cached_property
    def client(self) -> MlflowClient:
        """MLflow's client."""
        return connect(self.uri)

    def send(self, record: Record) -> str | None:
        """Send one record.

        Returns:
            Why MLflow refused the record, where sending it again is no use; else None.

        Raises:
            InputError, MlflowException, SQLAlchemyError, OSError: `delivery_errors`; the record is still to be sent.
        """
        if record["kind"] == "artifact" and not Path(record["path"]).exists():
            return f"artifact: {record['path']} is there no more"
        try:
            getattr(self, f"_{record['kind']}")(record)
        except delivery_errors() as error:
            # Without its start nothing of a run can be sent.
            if record["kind"] == "start" or not _is_refusal(error):
                raise
            self._require_run()
            return f"{record['kind']}: {one_line(error)}"
        return None

    def _require_run(self) -> None:
        """Tell a run that is no more, and so takes nothing, from a record that MLflow does not like."""
        from mlflow.exceptions import MlflowException

        try:
            run = self.client.get_run(self.run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            mend = "set MLFLOW_TRACKING_URI to the store that has it, or give up its records"
            raise InputError(f"there is no run {self.run_id}", file=self.uri, mend=mend) from None
        require_active(self.client.get_experiment(run.info.experiment_id), self.uri)
        if run.info.lifecycle_stage == "deleted":
            mend = f"run `MLFLOW_TRACKING_URI={quote(self.uri)} mlflow runs restore --run-id {self.run_id}`"
            raise InputError(f"the run {self.run_id} was deleted", file=self.uri, mend=mend)

    def _start(self, record: Record) -> None:
        tags, experiment = dict(record["tags"]), experiment_id(self.client, record["experiment"], self.uri)
        # The answer to the first try may have been lost.
        self.run_id = self._find(experiment, tags[ID])
        if self.run_id is None:
            if PARENT in tags and "mlflow.parentRunId" not in tags:
                tags |= {"mlflow.parentRunId": parent} if (parent := self._find(experiment, tags[PARENT])) else {}
            run = self.client.create_run(experiment, record["time"], tags, run_name=record["name"])
            self.run_id = run.info.run_id
        if "model" not in tags and "dvc.stage" in tags:
            close_left_open(self.client, experiment, {"dvc.stage": tags["dvc.stage"]}, closed_by=self.run_id)
        self._send_params(record["params"])
        self._send_inputs(record["inputs"])

    def _find(self, experiment: str, delivery_id: str) -> str | None:
        found = self.client.search_runs([experiment], f"tags.`{ID}` = '{delivery_id}'", max_results=1)
        return found[0].info.run_id if found else None

    def _send_params(self, params: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        entities = [Param(*item) for item in params.items()]
        for start in range(0, len(entities), _BATCH):
            self.client.log_batch(self.run_id, params=entities[start : start + _BATCH])

    def _send_inputs(self, inputs: Mapping[str, Mapping[str, str]]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        datasets = []
        for name, item in inputs.items():
            source = json.dumps({"uri": item["path"]})
            dataset = Dataset(name, item["digest"][:_DIGEST], source_type="local", source=source)
            datasets.append(DatasetInput(dataset, [InputTag("mlflow.data.context", "input")]))
        if datasets:
            self.client.log_inputs(self.run_id, datasets)

    def _metrics(self, record: Record) -> None:
        from mlflow.entities import Metric

        metrics = [Metric(name, value, record["time"], record["step"]) for name, value in record["values"].items()]
        self.client.log_batch(self.run_id, metrics=metrics)

    def _artifact(self, record: Record) -> None:
        path = Path(record["path"])
        if path.is_dir():
            self.client.log_artifacts(self.run_id, str(path), path.name)
        else:
            self.client.log_artifact(self.run_id, str(path))

    def _dict(self, record: Record) -> None:
        self.client.log_dict(self.run_id, dict(record["values"]), record["file"])

    def _model(self, record: Record) -> None:
        send_model(self.client, self.uri, self.run_id, record["values"])

    def _finish(self, record: Record) -> None:
        for key, value in record["tags"].items():
            self.client.set_tag(self.run_id, key, value)
        self.client.set_terminated(self.run_id, record["status"], record["time"])


def _is_refusal(error: Exception) -> bool:
    from sqlalchemy.exc import DatabaseError

    # Its subclasses are about a value; itself, the file is broken.
    return getattr(error, "error_code", None) in _REFUSALS and type(error.__cause__) is not DatabaseError
