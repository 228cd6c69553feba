"""Stages in several processes: the first runs the stage, the others share its work; and workers that label a shard."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.dist import is_main_process

from regionclip import runtime
from regionclip.engine.process_group import process_group
from regionclip.params import load_params
from regionclip.stages.graph import read_stage
from regionclip.stages.runner import StageContext, resolve, run_stage
from regionclip.tracking.mlflow_run import track_model
from regionclip.tracking.tracker import Tracker


def run_together(name: str, dataset: str | None = None) -> None:
    """Run a stage in each process of a group: all train and predict, the first tracks, measures and writes.

    Errors are those of `run_stage`, in whichever process they come.
    """
    with process_group():
        if is_main_process():
            run_stage(name, dataset)
        else:
            importlib.import_module(f"regionclip.stages.{name}").run(_context(name, dataset))


def label_shard(number: int, shards: int) -> None:
    """Label share ``number``, from 1, of ``shards`` of the pseudo labels; the stage merges the shares."""
    stage = importlib.import_module("regionclip.stages.pseudo_labels")
    stage.label_shard(_context("pseudo_labels", None), number, shards)


@contextmanager
def model_run(model: str) -> Iterator[Tracker | None]:
    """Record the block as `track_model` does; None in the processes of a group that track nothing."""
    if not is_main_process():
        yield None
        return
    with track_model(model) as tracker:
        yield tracker


def _context(name: str, dataset: str | None) -> StageContext:
    """Return the context of a stage whose run and outputs are another process's."""
    runtime.check()
    definition, params = read_stage(name, dataset), load_params()
    _, digest, scratch = resolve(definition, params)
    return StageContext(params, dataset, digest, scratch, tracker=None)
