"""A training's run shows the use of the machine, on its own clock, and never fails a stage."""

from __future__ import annotations

import time

from regionclip.tracking.tracker import SystemMetrics, track


def test_machine_is_watched_to_the_end_of_the_run(client, monkeypatch):
    """From `watch_system` on the run gets CPU and memory at each interval; after the run nothing more is logged."""
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    with track("pretrain", {}, {}, profile="demo") as tracker:
        tracker.watch_system()
        time.sleep(1.5)
    metrics = client.get_run(tracker.run_id).data.metrics
    assert (
        0 <= metrics["system/cpu_utilization_percentage"] <= 100 and metrics["system/system_memory_usage_megabytes"] > 0
    )
    history = client.get_metric_history(tracker.run_id, "system/cpu_utilization_percentage")
    assert len(history) >= 2 and [point.step for point in history] == list(range(len(history)))
    time.sleep(0.5)
    assert len(client.get_metric_history(tracker.run_id, "system/cpu_utilization_percentage")) == len(history)


def test_monitor_that_cannot_start_fails_no_stage(client, monkeypatch, caplog):
    """A machine without what the monitor reads gives a warning."""

    def broken() -> None:
        raise RuntimeError("no /proc")

    monkeypatch.setattr("mlflow.system_metrics.system_metrics_monitor.CPUMonitor", broken)
    with track("pretrain", {}, {}, profile="demo") as tracker:
        tracker.watch_system()
    assert "There will be no system metrics. no /proc" in caplog.text
    assert client.get_run(tracker.run_id).info.status == "FINISHED"


def test_nothing_to_follow_without_a_run():
    """While MLflow is away there is no run, and no thread."""
    metrics = SystemMetrics("sqlite:///none.db")
    metrics.restart(None)
    metrics.stop()
    assert metrics._monitor is None
