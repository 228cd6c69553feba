"""Tracker: the record of one stage, delivered to MLflow in order, and kept beside the run while MLflow is away."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regionclip.errors import logger
from regionclip.tracking.delivery import ID, PARENT, Delivery, Record
from regionclip.tracking.logged_models import checkpoints
from regionclip.tracking.names import flat_metrics, flat_params
from regionclip.tracking.store import delivery_errors, one_line, require_answer
from regionclip.tracking.system_metrics import SystemMetrics
from regionclip.tracking.undelivered import Undelivered

_log = logger(__name__)
RETRY = 60.0  # seconds after which MLflow, once away, is tried again


class Tracker:
    """The record of one stage.

    When MLflow cannot be reached the stage goes on: a warning is given, the records wait, and from time to time and at
    the end it is tried again. What is still waiting then is in mlruns/undelivered/, for ``regionclip mlflow-sync``.

    Attributes:
        stage: DVC's name of the stage.
        run_id: The MLflow run; None as long as none could be opened.
    """

    def __init__(self, stage: str, uri: str, parent: Tracker | None = None) -> None:
        self.stage, self.id = stage, uuid.uuid4().hex
        self.undelivered = Undelivered(stage, self.id)
        self._delivery, self._parent, self._children = Delivery(uri), parent, []
        self._waiting: list[Record] = []
        self._refused: list[str] = []
        self._away: bool | None = None  # None: not asked yet
        self._tried = 0.0
        self._system: SystemMetrics | None = None

    @property
    def run_id(self) -> str | None:
        """The MLflow run; None as long as none could be opened."""
        return self._delivery.run_id

    def start(
        self,
        experiment: str,
        tags: Mapping[str, str],
        params: Mapping[str, Any],
        inputs: Mapping[str, Mapping[str, str]],
    ) -> None:
        """Open the run.

        Args:
            experiment: Name of the experiment; made when it is not there.
            tags: Tags of the run.
            params: Nested params.
            inputs: Name to the path and digest of each input.
        """
        self._experiment, self._tags = experiment, dict(tags)
        self._deliver(
            kind="start",
            name=self.stage,
            experiment=experiment,
            tags={**tags, ID: self.id},
            params=flat_params(params),
            inputs={name: dict(item) for name, item in inputs.items()},
        )

    def start_child(self, model: str) -> Tracker:
        """Open a run below this one for what the stage does with one model, so that MLflow can compare models."""
        child = Tracker(f"{self.stage} {model}", self._delivery.uri, parent=self)
        self._children.append(child)
        tags = {**self._tags, "model": model, PARENT: self.id}
        tags.pop("mlflow.parentRunId", None)
        if self.run_id:
            tags["mlflow.parentRunId"] = self.run_id
        child.start(self._experiment, tags, {"model": model}, {})
        return child

    def log_metrics(self, values: Mapping[str, Any], step: int | None = None) -> None:
        """Log numbers; nested dictionaries become names with slashes, see `flat_metrics`."""
        self._deliver(kind="metrics", step=step or 0, values=flat_metrics(values))

    def log_artifact(self, path: str | Path) -> None:
        """Log a file, or a folder with all that is in it, as it is now."""
        self._deliver(kind="artifact", path=str(path))

    def log_dict(self, values: Mapping[str, Any], file: str) -> None:
        """Log values as a JSON artifact with the name ``file``."""
        self._deliver(kind="dict", file=file, values=dict(values))

    def log_checkpoints(self, outs: tuple[Path, ...], digest: str) -> None:
        """Log the stage's weight files as models that DVC keeps; see `checkpoints`."""
        for described in checkpoints(self.stage, outs, digest):
            self._deliver(kind="model", values=described)

    def watch_system(self) -> None:
        """Log the use of CPU, memory, disk, network and GPU from now to the end of the run."""
        self._system = self._system or SystemMetrics(self._delivery.uri)
        self._system.restart(self.run_id)

    def finish(self, status: str, tags: Mapping[str, str]) -> None:
        """Close the run as FINISHED, FAILED or KILLED, with last tags."""
        if self._system is not None:
            self._system.stop()
            self._system = None
        refused = {"refused": f"{len(self._refused)} records, the first: {self._refused[0]}"} if self._refused else {}
        self._deliver(kind="finish", status=status, tags={**tags, **refused})

    def _deliver(self, *, kind: str, **content: Any) -> None:
        self._waiting.append({"kind": kind, "time": int(1000 * time.time()), **content})
        root = self._parent or self
        # The end is tried in any case: it is the last chance within the run.
        if not root._away or kind == "finish" or time.monotonic() - root._tried >= RETRY:
            root._send_waiting()
        if self._waiting:
            self.undelivered.keep(self.run_id, self._waiting)
            if kind == "finish":
                _log.warning(
                    "MLflow is away: the record of %s is in %s; deliver it with `regionclip mlflow-sync`.",
                    self.stage,
                    self.undelivered.file,
                )

    def _send_waiting(self) -> None:
        """Send what waits: the stage's own records, then those of its models."""
        self._tried = time.monotonic()
        try:
            if self._away is not False:
                require_answer(self._delivery.uri)
            for tracker in (self, *self._children):
                tracker._send_own()
        except delivery_errors() as error:
            if not self._away:
                _log.warning("MLflow does not take the record of %s, which goes on. %s", self.stage, one_line(error))
            self._away = True
        else:
            if self._away:
                self._say_back()
            self._away = False

    def _say_back(self) -> None:
        _log.warning("MLflow takes the record of %s again; all that waited is delivered.", self.stage)
        for tracker in (self, *self._children):
            if tracker._system is not None:
                tracker._system.restart(tracker.run_id)

    def _send_own(self) -> None:
        while self._waiting:
            if refusal := self._delivery.send(self._waiting[0]):
                self._refused.append(refusal)
                _log.warning("MLflow refuses a record of %s. %s", self.stage, refusal)
            self._waiting.pop(0)
        self.undelivered.remove()
