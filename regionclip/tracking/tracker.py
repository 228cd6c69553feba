"""One MLflow run a stage, open while its block runs, closed whatever happens; MLflow may be away or come back."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regionclip import runtime
from regionclip.errors import InputError, Interrupted, logger
from regionclip.tracking.names import flat_metrics, flat_params
from regionclip.tracking.origin import origin_tags
from regionclip.tracking.record import PARENT, End, Metrics, Record, Start, checkpoints, milliseconds
from regionclip.tracking.store import connect, delivery_errors, one_line, require_answer, tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

_log = logger(__name__)
RETRY = 60.0  # seconds after which MLflow, once away, is tried again


@contextmanager
def track(
    stage: str, params: Mapping[str, Any], inputs: Mapping[str, str], *, profile: str, digest: str = "none"
) -> Iterator[Tracker]:
    """Record the block as one MLflow run named as the stage.

    The run is a child of ``REGIONCLIP_PARENT_RUN_ID`` where that is set. It ends as FINISHED, as FAILED when an
    exception leaves the block, and as KILLED when that is an interruption; the exception goes on. Runs of the stage
    that are still open though their process on this host is gone are closed as KILLED.
    ``inputs`` are paths of the data that it reads to their MD5, as DVC records them; they are logged as data sets.
    ``digest`` names params and inputs.
    """
    tags = {**origin_tags(), "dvc.stage": stage, "stage.digest": digest, "profile": profile}
    if parent := os.environ.get("REGIONCLIP_PARENT_RUN_ID"):
        tags["mlflow.parentRunId"] = parent
    tracker = Tracker(stage, Start(tags=tags, params=flat_params(params), inputs=dict(inputs)), tracking_uri())
    with tracker.open():
        yield tracker


class Tracker:
    """The record of one stage, or of what it does with one model.

    When MLflow cannot be reached the stage goes on: a warning is given, the records wait, and from time to time and at
    the end it is tried again. What is still waiting then is in mlruns/undelivered/, for ``regionclip mlflow-sync``.
    """

    def __init__(self, stage: str, start: Start, uri: str, parent: Tracker | None = None) -> None:
        self.stage = stage  # of a model, with its name
        self.record = Record.begin(stage, start)
        self._tags = dict(start.tags)
        self._uri = uri
        # The stage's own, which delivers for all, then those of its models.
        self._all: list[Tracker] = [] if parent is None else parent._all
        self._all.append(self)
        self._refused: list[str] = []
        self._away: bool | None = None  # None: not asked yet
        self._tried = 0.0
        self._system: SystemMetrics | None = None

    @property
    def run_id(self) -> str | None:
        """The MLflow run; None as long as none could be opened."""
        return self.record.run_id

    @cached_property
    def _client(self) -> MlflowClient:
        return connect(self._uri)

    @contextmanager
    def open(self) -> Iterator[None]:
        """Open the run, and close it as the block ends."""
        self._deliver()
        status = "FAILED"
        try:
            yield
            status = "FINISHED"
        except (KeyboardInterrupt, Interrupted):
            status = "KILLED"
            raise
        finally:
            self._finish(status)

    @contextmanager
    def model_run(self, model: str) -> Iterator[Tracker]:
        """Record the block in a run below this one, with the model's name as tag and param.

        Stages that do the same with CLIP and RegionCLIP give each a run of its own: the same names of metrics, so that
        MLflow's UI compares them.
        """
        tags = {**self._tags, "model": model, PARENT: self.record.id}
        tags.pop("mlflow.parentRunId", None)
        child = Tracker(f"{self.stage} {model}", Start(tags=tags, params={"model": model}), self._uri, parent=self)
        with child.open():
            yield child

    def log_metrics(self, values: Mapping[str, Any], step: int | None = None) -> None:
        """Log numbers; nested dictionaries become names with slashes, see `flat_metrics`."""
        self.record.metrics.append(Metrics(time=milliseconds(), step=int(step or 0), values=flat_metrics(values)))
        self._deliver()

    def log_artifact(self, path: str | Path) -> None:
        """Log a file, or a folder with all that is in it, as it is now."""
        self.record.artifacts.append(str(path))
        self._deliver()

    def log_checkpoints(self, outs: Sequence[str | Path], digest: str) -> None:
        """Log the stage's weight files as models that DVC keeps; see `checkpoints`."""
        self.record.models += checkpoints(self.stage, outs, digest)
        self._deliver()

    def watch_system(self) -> None:
        """Log the use of CPU, memory, disk, network and GPU from now to the end of the run."""
        self._system = self._system or SystemMetrics(self._uri)
        self._system.restart(self.run_id)

    def _finish(self, status: str) -> None:
        if self._system is not None:
            self._system.stop()
            self._system = None
        refused = {"refused": f"{len(self._refused)} records, the first: {self._refused[0]}"} if self._refused else {}
        self.record.end = End(time=milliseconds(), status=status, tags={**_device_tags(), **refused})
        self._deliver()
        if self.record.waiting:
            text = "MLflow is away: the record of %s is in %s; deliver it with `regionclip mlflow-sync`."
            _log.warning(text, self.stage, self.record.file)

    def _deliver(self) -> None:
        self.record.last = milliseconds()
        root = self._all[0]
        # The end is tried in any case: it is the last chance within the run.
        if not root._away or self.record.end or time.monotonic() - root._tried >= RETRY:
            root._send_waiting()
        if self.record.waiting:
            self.record.keep()

    def _send_waiting(self) -> None:
        """Send what waits: the stage's own records, then those of its models."""
        self._tried = time.monotonic()
        try:
            if self._away is not False:
                require_answer(self._uri)
            for tracker in self._all:
                if tracker.record.waiting:
                    for refusal in tracker.record.send(self._client):
                        tracker._refused.append(refusal)
                        _log.warning("MLflow refuses a record of %s. %s", tracker.stage, refusal)
                    tracker.record.remove()
        except delivery_errors() as error:
            if not self._away:
                _log.warning("MLflow does not take the record of %s, which goes on. %s", self.stage, one_line(error))
            self._away = True
        else:
            if self._away:
                _log.warning("MLflow takes the record of %s again; all that waited is delivered.", self.stage)
                for tracker in self._all:
                    if tracker._system is not None:
                        tracker._system.restart(tracker.run_id)
            self._away = False


class SystemMetrics:
    """Use of CPU, memory, disk, network and GPU, by MLflow's own monitor: a thread that ends when MLflow is away."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._monitor: SystemMetricsMonitor | None = None

    def restart(self, run_id: str | None) -> None:
        """Log to a run from now on, after what was logged before; nothing without a run."""
        resume = self._monitor is not None
        self.stop()
        if run_id is None:
            return
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        # It tells of every start and stop; that MLflow is away is said by the tracker.
        logging.getLogger("mlflow.system_metrics").setLevel(logging.ERROR)
        try:
            self._monitor = SystemMetricsMonitor(run_id, resume_logging=resume, tracking_uri=self._uri)
            self._monitor.start()
        except Exception as error:
            # psutil, pynvml and MLflow fail in many ways, and the training matters more.
            _log.warning("There will be no system metrics. %s", error)

    def stop(self) -> None:
        """Log what was measured last and end the thread."""
        if self._monitor is not None:
            self._monitor.finish()


def _device_tags() -> dict[str, str]:
    """Return the tags device and gpu of the stage; one that did not load torch ran on the CPU."""
    if "torch" not in sys.modules:
        return {"device": "cpu", "gpu": "none"}
    import torch

    try:
        device = runtime.device()
    except InputError:
        # The stage has failed on the same setting; the run is to say so, not to fail again.
        return {"device": "unknown", "gpu": "unknown"}
    return {"device": str(device), "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else "none"}
