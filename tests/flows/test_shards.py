"""Parts of a stage are made before the stage, by workers where there are some, and only when the stage would run."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.schemas.objects import DeploymentStatus
from prefect.exceptions import ObjectNotFound
from prefect.states import Completed, Failed, Running, Scheduled

from flows import shards as module
from flows.pipeline import pipeline
from flows.shards import label_shard
from flows.stage_runs import RunOptions
from regionclip.stages.graph import Stage
from tests.flows.conftest import commit

Command = Callable[..., subprocess.CompletedProcess[str]]
# With --shard it makes a part, and leaves one that is there; without, it joins the parts that it finds.
LABEL = """
import pathlib, sys
folder = pathlib.Path(".scratch/parts")
folder.mkdir(parents=True, exist_ok=True)
if "--shard" in sys.argv:
    part = folder / sys.argv[-1].replace("/", "_")
    with open("ran.log", "a") as log:
        print("left" if part.exists() else "made", part.name, file=log)
    part.write_text(part.name)
else:
    pathlib.Path("labels.txt").write_text(" ".join(sorted(path.name for path in folder.iterdir())))
"""
PART = Stage("labels", "python label.py", (), (), ("labels.txt",), shards=True)


@pytest.fixture
def labelling(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The repository with a stage of which workers may share the parts."""
    graph = yaml.safe_load((repository / "dvc.yaml").read_text())
    meta, cmd = {"shards": True}, "python label.py"
    graph["stages"]["labels"] = {"cmd": cmd, "meta": meta, "deps": ["a.txt", "label.py"], "outs": ["labels.txt"]}
    commit(repository, {"dvc.yaml": yaml.safe_dump(graph), "label.py": LABEL})
    monkeypatch.setattr("flows.pipeline.start_pipeline_run", lambda profile, tags: None)
    return repository


def log_of(folder: Path) -> list[str]:
    log = folder / "ran.log"
    lines = sorted(log.read_text().splitlines())
    log.write_text("")
    return lines


@pytest.mark.usefixtures("prefect_server", "quick_dvc")
def test_parts_come_before_the_stage_and_not_when_nothing_changed(labelling: Path) -> None:
    def run(**parameters: Any) -> str:
        return pipeline(workspace=str(labelling), targets=["labels"], return_state=True, **parameters).message

    assert run(shards=3) == "2 ran"
    assert log_of(labelling) == ["a", "made 1_3", "made 2_3", "made 3_3"]
    assert (labelling / "labels.txt").read_text() == "1_3 2_3 3_3"
    assert run(shards=3) == "2 cached" and log_of(labelling) == []
    assert run(shards=1, force=True) == "2 ran" and log_of(labelling) == ["a"]


@pytest.mark.usefixtures("prefect_server", "quick_dvc")
def test_flow_of_a_part_makes_it_once_and_refuses_what_is_none(labelling: Path, tmp_path: Path) -> None:
    for _ in range(2):
        label_shard(str(labelling), 2, 3, stage="labels")
    assert log_of(labelling) == ["left 2_3", "made 2_3"]
    for arguments, message in (
        ((str(tmp_path), 1, 3), "put the checkout on a shared disk"),
        ((str(labelling), 4, 3), "no part 4 of 3 of 'labels'"),
        ((str(labelling), 0, 3), "no part 0 of 3"),
    ):
        assert message in label_shard(*arguments, stage="labels", return_state=True).message
    assert "no part 1 of 3 of 'a'" in label_shard(str(labelling), 1, 3, stage="a", return_state=True).message


class Server:
    """Stands for the client of a server whose worker brings a part's run through the given states."""

    def __init__(self, *states: Any, status: DeploymentStatus | None = DeploymentStatus.READY) -> None:
        self.states, self.status, self.set = list(states), status, []

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def read_deployment_by_name(self, name: str) -> Any:
        if self.status is None:
            raise ObjectNotFound(Exception(name))
        return type("Deployment", (), {"status": self.status})

    def read_flow_run(self, run_id: object = None) -> Any:
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return type("Run", (), {"id": 1, "state": state})

    def set_flow_run_state(self, run_id: object, state: Any, force: bool) -> None:
        self.set.append(state.name)


@pytest.mark.parametrize(
    ("server", "by_worker", "set_states"),
    [
        (Server(Scheduled(), Running(), Completed()), True, []),
        (Server(Scheduled(), Running(), Failed(message="out of memory")), False, []),
        (Server(Scheduled()), False, ["Cancelled"]),
        (Server(Completed(), status=DeploymentStatus.NOT_READY), False, []),
        (Server(Completed(), status=None), False, []),
    ],
    ids=["done", "failed there", "never started", "no worker", "no deployment"],
)
def test_what_no_worker_makes_is_made_here(
    monkeypatch: pytest.MonkeyPatch, server: Server, by_worker: bool, set_states: list[str]
) -> None:
    here: list[int] = []
    monkeypatch.setattr(module, "get_client", lambda sync_client: server)
    monkeypatch.setattr(module, "run_deployment", lambda *_, **__: server.read_flow_run())
    monkeypatch.setattr(module, "get_run_logger", lambda: logging.getLogger())
    monkeypatch.setattr(module, "make_part", lambda stage, number, shards, options: here.append(number))
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    monkeypatch.setattr(module, "POLL", 0.02)
    module.run_shard.fn(PART, 2, 3, RunOptions(Path()), True)
    assert here == ([] if by_worker else [2]) and server.set == set_states
    module.run_shard.fn(PART, 2, 3, RunOptions(Path()), False)
    assert here == ([] if by_worker else [2])
