"""Tracker: delivers one stage's record to MLflow, and keeps it in a file when MLflow does not take it."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regionclip.files import write_json
from regionclip.tracking.names import flat_metrics, flat_params
from regionclip.tracking.store import STATE, connect, experiment_id

if TYPE_CHECKING:
    from mlflow import MlflowClient

_log = logging.getLogger(__name__)
_BATCH = 100  # params that one call of MLflow takes
_DIGEST = 36  # letters of a data set's digest that MLflow takes


class Tracker:
    """The record of one stage.

    When MLflow cannot be reached the stage goes on: a warning is given once, nothing more is sent, and ``finish``
    writes the whole record to mlruns/undelivered/.

    Attributes:
        stage: DVC's name of the stage.
        run_id: The MLflow run; None when none could be opened.
    """

    def __init__(self, stage: str, digest: str) -> None:
        self.stage, self.digest, self.run_id = stage, digest, None
        self.undelivered = STATE / "undelivered" / f"{stage.replace('@', '_').replace(' ', '_')}-{digest[:16]}.json"
        self._client: MlflowClient | None = None
        self._problem: str | None = None
        self._records: list[dict[str, Any]] = []

    def start(
        self,
        uri: str,
        experiment: str,
        tags: dict[str, str],
        params: Mapping[str, Any],
        inputs: Mapping[str, dict[str, str]],
    ) -> None:
        """Open the run.

        Args:
            uri: Tracking URI.
            experiment: Name of the experiment; made when it is not there.
            tags: Tags of the run.
            params: Nested params.
            inputs: Name to the path and digest of each input.
        """
        flat = flat_params(params)
        self._where, self._tags = (uri, experiment), tags

        def send() -> None:
            client = self._client = connect(uri)
            self.run_id = client.create_run(
                experiment_id(client, experiment, uri), run_name=self.stage, tags=tags
            ).info.run_id
            self._send_params(flat)
            self._send_inputs(inputs)

        record = {"kind": "start", "experiment": experiment, "tags": tags, "params": flat, "inputs": dict(inputs)}
        self._deliver(record, send)

    def start_child(self, model: str) -> Tracker:
        """Open a run below this one for what the stage does with one model, so that MLflow can compare models."""
        child = Tracker(f"{self.stage} {model}", self.digest)
        # What failed for the stage is not tried again for each model.
        child._problem = self._problem
        tags = {**self._tags, "model": model}
        if self.run_id:
            tags["mlflow.parentRunId"] = self.run_id
        child.start(*self._where, tags, {"model": model}, {})
        return child

    def log_metrics(self, values: Mapping[str, Any], step: int | None = None) -> None:
        """Log numbers; nested dictionaries become names with slashes, see `flat_metrics`."""
        flat, now = flat_metrics(values), int(1000 * time.time())

        def send() -> None:
            from mlflow.entities import Metric

            metrics = [Metric(name, value, now, step or 0) for name, value in flat.items()]
            self._client.log_batch(self.run_id, metrics=metrics)

        self._deliver({"kind": "metrics", "step": step, "values": flat}, send)

    def log_artifact(self, path: str | Path) -> None:
        """Log a file, or a folder with all that is in it."""
        path = Path(path)

        def send() -> None:
            if path.is_dir():
                self._client.log_artifacts(self.run_id, str(path), path.name)
            else:
                self._client.log_artifact(self.run_id, str(path))

        self._deliver({"kind": "artifact", "path": str(path)}, send)

    def log_dict(self, values: Mapping[str, Any], file: str) -> None:
        """Log values as a JSON artifact with the name ``file``."""
        self._deliver(
            {"kind": "dict", "file": file, "values": values},
            lambda: self._client.log_dict(self.run_id, dict(values), file),
        )

    def finish(self, status: str, tags: dict[str, str]) -> None:
        """Close the run as FINISHED, FAILED or KILLED, with last tags; keep the record if MLflow missed any of it."""

        def send() -> None:
            for key, value in tags.items():
                self._client.set_tag(self.run_id, key, value)
            self._client.set_terminated(self.run_id, status)

        self._deliver({"kind": "finish", "status": status, "tags": tags}, send)
        if self._problem is None:
            self.undelivered.unlink(missing_ok=True)
        else:
            content = {"stage": self.stage, "run_id": self.run_id, "problem": self._problem, "records": self._records}
            write_json(self.undelivered, content)

    def _send_params(self, params: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        entities = [Param(*item) for item in params.items()]
        for start in range(0, len(entities), _BATCH):
            self._client.log_batch(self.run_id, params=entities[start : start + _BATCH])

    def _send_inputs(self, inputs: Mapping[str, dict[str, str]]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        datasets = []
        for name, item in inputs.items():
            dataset = Dataset(
                name, item["digest"][:_DIGEST], source_type="local", source=json.dumps({"uri": item["path"]})
            )
            datasets.append(DatasetInput(dataset, [InputTag("mlflow.data.context", "input")]))
        if datasets:
            self._client.log_inputs(self.run_id, datasets)

    def _deliver(self, record: dict[str, Any], send: Callable[[], None]) -> None:
        self._records.append(record)
        if self._problem is not None:
            return
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            send()
        except (MlflowException, SQLAlchemyError, OSError) as error:
            self._problem = " ".join(str(error).split())[:500]
            _log.warning(
                "MLflow does not take the record of %s; it goes to %s. %s", self.stage, self.undelivered, self._problem
            )
