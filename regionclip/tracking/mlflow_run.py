"""One MLflow run a stage: opened with params, inputs and tags, closed whatever happens."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from regionclip.checkpoints.scratch import stage_digest
from regionclip.errors import Interrupted
from regionclip.files import sha256_tree
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
    inputs: Mapping[str, Path],
    experiment: str | None = None,
    *,
    profile: str,
    digest: str | None = None,
) -> Iterator[Tracker]:
    """Record the block as one MLflow run named as the stage.

    The run is a child of ``REGIONCLIP_PARENT_RUN_ID`` where that is set. It ends as FINISHED, as FAILED when an
    exception leaves the block, and as KILLED when that is an interruption; the exception goes on. Runs of the stage
    that are still open though their process on this host is gone are closed as KILLED.

    Args:
        stage: DVC's name, such as ``finetune@coco``.
        params: The params that the stage depends on.
        inputs: Name to path of the files and folders that it reads; logged as data sets with their SHA-256.
        experiment: Name of the experiment; None for the one of all stages.
        profile: Name of the params profile.
        digest: Digest of params and inputs; None computes it.
    """
    digest = digest or stage_digest(dict(params), list(inputs.values()))
    tags = {**origin_tags(), "dvc.stage": stage, "stage.digest": digest, "profile": profile}
    if parent := os.environ.get("REGIONCLIP_PARENT_RUN_ID"):
        tags["mlflow.parentRunId"] = parent
    described = {name: {"path": path.as_posix(), "digest": sha256_tree(path)} for name, path in inputs.items()}
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
