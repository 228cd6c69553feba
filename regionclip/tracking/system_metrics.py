"""Use of CPU, memory, disk, network and GPU while a stage trains, by MLflow's own monitor."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

_log = logging.getLogger(__name__)


class SystemMetrics:
    """MLflow's monitor, a thread that ends when MLflow is away; `restart` starts it again.

    Args:
        uri: Tracking URI.
    """

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
