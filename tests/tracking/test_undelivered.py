"""Kept records: whatever lies in their folder, the sound ones are delivered, and what cannot be says how to mend it."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient

from regionclip.tracking.origin import process_tags
from regionclip.tracking.record import FOLDER
from regionclip.tracking.tracker import track
from regionclip.tracking.undelivered import sync

NOW = int(1000 * time.time())
HERE = {"host": platform.node(), "process.pid": "999999999", "process.started": "1.00"}
START = {"tags": {"delivery.id": "a" * 32, "dvc.stage": "rpn"}, "params": {"a": "1"}, "inputs": {"x": "d"}}
METRICS = {"step": 1, "values": {"loss": 2.0, "undefined": float("nan")}, "time": NOW}
MODEL = {"name": "rpn", "tags": {"dvc.md5": "m"}}
END = {"status": "FINISHED", "tags": {}, "time": NOW}
KEPT = {
    "id": "a" * 32, "stage": "rpn", "run_id": None, "origin": HERE, "since": NOW,
    "last": NOW, "start": START, "metrics": [METRICS], "artifacts": [], "models": [MODEL], "end": END,
}  # fmt: skip
OPENED = KEPT | {"start": None, "models": []}


def keep(content: Any, name: str = "rpn-1.json") -> Path:
    """Put a file of kept records in its place."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return FOLDER / name


def runs(client: MlflowClient) -> list[str]:
    """Status of each run in the store."""
    found = client.search_experiments()
    return [run.info.status for run in client.search_runs([one.experiment_id for one in found])]


BROKEN = {
    "cut": '{"stage": ',
    "empty": "",
    "nested": "[" * 100_000,
    "list": [],
    "of a strange kind": KEPT | {"find": [METRICS]},
    "metrics without values": KEPT | {"metrics": [{"step": 1, "time": NOW}]},
    "metrics that are text": KEPT | {"metrics": [METRICS | {"values": {"loss": "low"}}]},
    "huge time": KEPT | {"since": 10**30},
    "huge number": '{"since": ' + "9" * 5000 + "}",
    "half a letter": json.dumps(KEPT | {"stage": "\ud83d"}),
    "no start": KEPT | {"start": None},
    "no id": KEPT | {"id": ""},
    "strange status": KEPT | {"end": END | {"status": "DONE"}},
    "key missing": {key: value for key, value in KEPT.items() if key != "origin"},
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_file_is_set_aside_and_the_others_delivered(client, kind: str) -> None:
    """Beside it lie a sound file, and what kills inside an atomic write left there."""
    keep(BROKEN[kind], "a-first.json")
    keep(KEPT)
    for left in (".rpn-2.json.x1.json", ".rpn-2.json.x1.tmp"):
        keep('{"stage": ', left)
    aside, delivered = sync()
    assert (aside.outcome, delivered.outcome, delivered.refused) == ("set aside", "delivered", ())
    assert "not a record of a stage" in str(aside.error) and "a-first.json" in str(aside.error)
    assert runs(client) == ["FINISHED"]
    assert sorted(path.name for path in FOLDER.glob("[!.]*")) == ["a-first.broken"]
    assert list(sync()) == []


def paths(value: Any, path: tuple = ()) -> list[tuple]:
    """Where each value of nested ones stands."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, one in inside for found in paths(one, (*path, key)))]


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=60)
@given(st.sampled_from(paths(KEPT)), ANYTHING, st.booleans())
def test_any_shape_ends_in_one_of_four_ways(client, where: tuple, value: Any, drop: bool) -> None:
    """One value of a kept file is another one or is gone: it is delivered, in use, set aside or waits with a reason;
    no error leaves, and the file beside it is delivered."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    changed = json.loads(json.dumps(KEPT))
    holder = changed
    for key in where[:-1]:
        holder = holder[key]
    if not where:
        changed = value
    elif drop:
        del holder[where[-1]]
    else:
        holder[where[-1]] = value
    keep(changed, "changed.json")
    keep(KEPT | {"since": 2**62}, "sound.json")
    outcomes = {synced.file.stem: synced for synced in sync()}
    assert outcomes["sound"].outcome == "delivered"
    assert outcomes["changed"].outcome in ("delivered", "in use", "set aside", "waits")
    assert outcomes["changed"].outcome != "waits" or outcomes["changed"].error.mend


def test_file_that_is_no_more_holds_nothing_up(client) -> None:
    """Where somebody has cleared away the copy of an artifact, the rest of the record is delivered."""
    keep(KEPT | {"artifacts": ["no/such"]})
    (done,) = sync()
    assert done.outcome == "delivered" and done.refused == ("artifact: no/such is there no more",)


def follow(mend: str) -> None:
    """Do what an error says, word for word, in a shell."""
    command = mend.split("`")[1]
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    subprocess.run(["sh", "-c", command], env=os.environ | {"PATH": programs}, check=True)


def test_deleted_experiment_gives_a_mend_that_helps(client) -> None:
    """A record that was never sent, and one whose run went with the experiment; after the mend both are delivered, and
    a stage that runs meanwhile goes on."""
    with track("rpn", {}, {}, profile="demo") as tracker:
        tracker.log_metrics({"loss": 1.0}, step=1)
    experiment = client.get_run(tracker.run_id).info.experiment_id
    client.delete_experiment(experiment)
    keep(KEPT)
    keep(OPENED | {"run_id": tracker.run_id}, "rpn-2.json")
    with track("teacher", {}, {}, profile="demo"):
        pass
    waiting = list(sync())
    assert [synced.outcome for synced in waiting] == ["waits"] * 3
    for synced in waiting:
        assert "the experiment regionclip was deleted" in str(synced.error)
    follow(waiting[0].error.mend)
    assert [synced.outcome for synced in sync()] == ["delivered"] * 3
    assert {metric.value for metric in client.get_metric_history(tracker.run_id, "loss")} == {1.0, 2.0}
    assert runs(client) == ["FINISHED"] * 3


def test_deleted_run_gives_a_mend_that_helps(client) -> None:
    """While the stage runs too: nothing of its record is lost; a run that no store has is named."""
    with track("rpn", {}, {}, profile="demo") as tracker:
        client.delete_run(tracker.run_id)
        tracker.log_metrics({"loss": 2.0}, step=2)
    (waits,) = sync()
    assert waits.outcome == "waits" and f"the run {tracker.run_id} was deleted" in str(waits.error)
    follow(waits.error.mend)
    assert [synced.outcome for synced in sync()] == ["delivered"]
    assert client.get_run(tracker.run_id).info.status == "FINISHED"
    keep(OPENED | {"run_id": "f" * 32})
    (unknown,) = sync()
    assert unknown.outcome == "waits" and f"there is no run {'f' * 32}" in str(unknown.error)


def test_stage_of_another_host_is_gone_after_a_day_of_silence(client) -> None:
    """Nobody here can see its process, and pods never have a name twice."""
    day = 86_400_000
    for age, outcome in ((day // 2, "in use"), (2 * day, "delivered")):
        keep(KEPT | {"origin": HERE | {"host": "worker-5d9-x7"}, "since": NOW - age, "last": NOW - age, "end": None})
        assert [synced.outcome for synced in sync()] == [outcome]
    assert runs(client) == ["KILLED"]
    keep(KEPT | {"origin": {"host": platform.node(), **process_tags()}, "end": None})
    assert [synced.outcome for synced in sync()] == ["in use"]


def test_record_that_cannot_be_written_stops_no_stage(client, monkeypatch, caplog) -> None:
    """Half a surrogate pair in a record, where MLflow is away."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with track("rpn", {"class": "\ud83d"}, {}, profile="demo"):
        pass
    assert "cannot be kept" in caplog.text
