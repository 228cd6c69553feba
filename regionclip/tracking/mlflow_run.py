"""One MLflow run a stage: opened with params, inputs and tags, closed whatever happens."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from regionclip.errors import Interrupted
from regionclip.tracking.origin import device_tags, origin_tags
from regionclip.tracking.store import EXPERIMENT, tracking_uri
from regionclip.tracking.tracker import Tracker

_current: Tracker | None = None


def current_tracker() -> Tracker | None:
    """Return the tracker of the stage that is running, if any."""
    return _current


@contextmanager
def track(
    stage: str,
    params: Mapping[str, Any],
    inputs: Mapping[str, str],
    experiment: str | None = None,
    *,
    profile: str,
    digest: str = "none",
) -> Iterator[Tracker]:
    """Record the block as one MLflow run named as the stage.

    The run is a child of ``REGIONCLIP_PARENT_RUN_ID`` where that is set. It ends as FINISHED, as FAILED when an
    exception leaves the block, and as KILLED when that is an interruption; the exception goes on. Runs of the stage
    that are still open though their process on this host is gone are closed as KILLED.

    Args:
        stage: DVC's name, such as ``finetune@coco``.
        params: The params that the stage depends on.
        inputs: Path of each file and folder of data that it reads -> MD5, as DVC records it; logged as data sets.
        experiment: Name of the experiment; None for the one of all stages.
        profile: Name of the params profile.
        digest: Names params and inputs.
    """
    tags = {**origin_tags(), "dvc.stage": stage, "stage.digest": digest, "profile": profile}
    if parent := os.environ.get("REGIONCLIP_PARENT_RUN_ID"):
        tags["mlflow.parentRunId"] = parent
    described = {path: {"path": path, "digest": md5} for path, md5 in inputs.items()}
    tracker = Tracker(stage, tracking_uri())
    tracker.start(experiment or EXPERIMENT, tags, params, described)
    with _recording(tracker):
        yield tracker


@contextmanager
def track_model(model: str) -> Iterator[Tracker]:
    """Record the block as a child of the stage's run, with the model's name as tag and param.

    Stages that do the same with CLIP and RegionCLIP give each a run of its own: the same names of metrics, so that
    MLflow's UI compares them.

    Args:
        model: ``clip`` or ``regionclip``.
    """
    if _current is None:
        raise RuntimeError("track_model works inside the stage's track() only")
    with _recording(_current.start_child(model)) as tracker:
        yield tracker


@contextmanager
def _recording(tracker: Tracker) -> Iterator[Tracker]:
    """Make ``tracker`` the current one for the block, and close its run as the block ended."""
    global _current
    outer, _current, status = _current, tracker, "FAILED"
    try:
        yield tracker
        status = "FINISHED"
    except (KeyboardInterrupt, Interrupted):
        status = "KILLED"
        raise
    finally:
        _current = outer
        tracker.finish(status, device_tags())
