"""Runs of killed stages are closed by the retry; those of living ones, and of other hosts, are left alone."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time

from regionclip.tracking.origin import is_gone, process_tags
from regionclip.tracking.tracker import track

KILLED = """
import os, signal
from regionclip.tracking.tracker import track
with track("finetune@coco", {}, {}, profile="demo") as tracker, tracker.model_run("clip"):
    print(tracker.run_id, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""

# The child of this one prints its tags and ends before anybody asks for its end.
ZOMBIE = """
import json, os, time
from regionclip.tracking.origin import process_tags
if os.fork() == 0:
    print(json.dumps(process_tags()), flush=True)
    os._exit(0)
time.sleep(60)
"""


def test_this_process_lives():
    """Only a process with this number and this start is this one."""
    here = {"host": platform.node(), **process_tags()}
    assert not is_gone(here)
    assert is_gone(here | {"process.started": "1000.00"}), "the number was given out again"
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert is_gone(here | {"process.pid": str(ended.pid)})
    child = subprocess.Popen([sys.executable, "-c", ZOMBIE], stdout=subprocess.PIPE, text=True)
    tags = json.loads(child.stdout.readline())
    while not is_gone(here | tags):
        time.sleep(0.05)
    assert child.poll() is None, "its parent lives and has not asked"
    child.kill()
    child.wait()
    assert not is_gone(here | {"host": "elsewhere", "process.pid": str(ended.pid)}), "this host cannot know"
    assert not is_gone({"host": "elsewhere"}, time.time() - 3600) and is_gone(
        {"host": "elsewhere"}, time.time() - 90_000
    )
    assert not is_gone(here, 0), "it lives, however long it was silent"
    assert not is_gone({"host": platform.node()}), "a run of an older version has no process"
    assert not is_gone(here | {"process.pid": "many"}), "tags can be changed by anyone"


def test_retry_closes_what_a_kill_left_open(client):
    """After SIGKILL the stage's run and its model's are RUNNING; the retry closes both and names itself."""
    done = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, text=True, check=False)
    assert done.returncode == -9
    killed = done.stdout.split()[-1]
    experiment = client.get_run(killed).info.experiment_id
    assert [run.info.status for run in client.search_runs([experiment])] == ["RUNNING", "RUNNING"]
    other = client.create_run(experiment, tags={"dvc.stage": "rpn", "host": platform.node()}).info.run_id
    with track("finetune@lvis", {}, {}, profile="demo"):
        assert client.get_run(killed).info.status == "RUNNING", "another stage"
    with track("finetune@coco", {}, {}, profile="demo") as retry:
        of_stage = client.search_runs([experiment], "tags.`dvc.stage` = 'finetune@coco'")
        states = {run.info.run_id: (run.info.status, run.data.tags.get("closed_by")) for run in of_stage}
        assert states.pop(retry.run_id) == ("RUNNING", None)
        assert list(states.values()) == [("KILLED", retry.run_id)] * 2
    assert client.get_run(retry.run_id).info.status == "FINISHED"
    assert client.get_run(other).info.status == "RUNNING"
    assert client.get_run(retry.run_id).data.tags["process.pid"] == str(os.getpid())
