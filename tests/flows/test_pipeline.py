"""The flow does what `dvc repro` does, and says of each stage what became of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.artifacts import Artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.settings import get_current_settings

from flows import pipeline as module
from flows.checkout import WORKTREE
from flows.pipeline import pipeline
from flows.stage_runs import run_stage
from tests.flows.conftest import commit

ROOT = Path(__file__).parents[2]
# Stage b writes when it began and ended.
TIMED = """
import atexit, pathlib, sys, time
began = time.time()
if sys.argv[1].startswith("b"):
    time.sleep(2.5)
    atexit.register(lambda: pathlib.Path(f"time_{sys.argv[1]}").write_text(f"{began} {time.time()}"))
"""
TRAINING = """
import pathlib, sys, time
try:
    pathlib.Path("training").touch()
    time.sleep(60)
except KeyboardInterrupt:
    pathlib.Path("checkpoint").touch()
    sys.exit(4)
"""
TERMINATED = """
from flows import pipeline as module
from flows.checkout import WORKTREE
module.start_pipeline_run = lambda profile, tags: "parent"
module.finish_pipeline_run = lambda run, stages, status, root: open(root / "closed", "w").write(status)
module.pipeline(workspace={repository!r}, targets=["a"])
"""
pytestmark = pytest.mark.usefixtures("prefect_server", "quick_dvc")
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(autouse=True)
def no_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries follow at once."""
    monkeypatch.setattr(module, "run_stage", run_stage.with_options(retry_delay_seconds=0))


@pytest.fixture(autouse=True)
def parent_run(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The parent run is kept here instead of MLflow, which takes seconds to start; tests/tracking has the real one."""
    closed: list[dict[str, Any]] = []

    def finish(run_id: str | None, stages: Any, *, status: str, root: Path) -> None:
        closed.append({"run": run_id, "stages": list(stages), "status": status, "root": root})

    monkeypatch.setattr(module, "start_pipeline_run", lambda profile, tags: f"parent-of-{profile}")
    monkeypatch.setattr(module, "finish_pipeline_run", finish)
    return closed


def run(folder: Path, **parameters: Any) -> State[Any]:
    return pipeline(workspace=str(folder), return_state=True, **parameters)


def lock(folder: Path) -> dict[str, Any]:
    """dvc.lock as data: stages that ran side by side stand in it in the order in which they ended."""
    return yaml.safe_load((folder / "dvc.lock").read_text())


def ran(folder: Path) -> list[str]:
    """Names of the stages whose command ran, since the last call."""
    log = folder / "ran.log"
    names = log.read_text().split()
    log.write_text("")
    return names


def artifact(key: str) -> str:
    return Artifact.get(key).data


def outcomes() -> dict[str, str]:
    return {row["stage"]: row["outcome"] for row in json.loads(artifact("pipeline-stages"))}


def test_same_lock_as_plain_repro_then_nothing_to_do(
    repository: Path, tmp_path: Path, command: Command, parent_run: list[dict[str, Any]]
) -> None:
    plain = shutil.copytree(repository, tmp_path / "plain")
    command(plain, "dvc", "repro").check_returncode()
    state = run(repository)
    assert state.is_completed() and state.message == "4 ran"
    assert lock(repository) == lock(plain)
    assert sorted(ran(repository)) == ["a", "b_x", "b_y", "c"]
    assert command(repository, "dvc", "status", "--json").stdout.strip() == "{}"
    assert "| b@x | out/x.txt | new |" in artifact("pipeline-summary")

    assert run(repository).message == "4 cached" and ran(repository) == []
    assert set(outcomes().values()) == {"cached"} and "None." in artifact("pipeline-summary")
    assert [closed["status"] for closed in parent_run] == ["FINISHED"] * 2
    assert parent_run[0]["run"] == "parent-of-mini" and parent_run[0]["root"] == repository / WORKTREE
    assert [path.read_text() for path in (repository / "a.txt", repository / "out/x.txt")] == ["a", "b_xa"]
    assert command(repository, "git", "status", "--porcelain").stdout == "?? dvc.lock\n"


def test_failed_stage_stops_what_needs_it_and_not_its_neighbour(repository: Path) -> None:
    (repository / "fail_b_x").write_text("3")
    state = run(repository)
    assert state.is_failed()
    assert state.message == "b@x failed with exit code 3 (the data check refused its input); not run: c"
    assert sorted(ran(repository)) == ["a", "b_y"]
    assert outcomes() == {"a": "ran", "b@x": "failed", "b@y": "ran", "c": "not run"}

    (repository / "fail_b_x").unlink()
    assert run(repository).message == "2 cached, 2 ran" and ran(repository) == ["b_x", "c"]


def test_an_interruption_that_passes_does_not_fail_the_run(repository: Path) -> None:
    once = "import sys, pathlib\nif not pathlib.Path('once').exists():\n    open('once', 'w')\n    sys.exit(4)\n"
    commit(repository, {"step.py": once + (repository / "step.py").read_text()})
    assert run(repository, targets=["a"]).message == "1 ran"


def test_old_params_are_restored_by_dvc_and_count_as_cached(repository: Path) -> None:
    run(repository, targets=["a"])
    for seed in (2, 1):
        commit(repository, {"params.yaml": f"profile: mini\nseed: {seed}\n"})
        assert run(repository, targets=["a"]).is_completed()
    assert ran(repository) == ["a", "a"] and outcomes() == {"a": "cached"}


def test_a_profile_leaves_nothing_to_the_next_run(repository: Path, parent_run: list[Any], command: Command) -> None:
    big, small = "profile: big\nseed: 7\n", "profile: small\nseed: 9\n"
    commit(repository, {"profiles/big.yaml": big, "profiles/small.yaml": small})
    (repository / "params.yaml").write_text("profile: mine\nseed: 3\n")
    (repository / "step.py").write_text("a change of the user's")
    before = command(repository, "git", "status", "--porcelain").stdout
    for profile, name in (("big", "big"), ("small", "small"), (None, "mini"), ("big", "big")):
        state = run(repository, targets=["a"], profile=profile)
        assert state.is_completed() and parent_run[-1]["run"] == f"parent-of-{name}"
        assert (repository / "params.yaml").read_text() == "profile: mine\nseed: 3\n"
        assert (repository / "step.py").read_text() == "a change of the user's"
    assert state.message == "1 cached" and ran(repository) == ["a", "a", "a"]
    assert command(repository, "git", "status", "--porcelain").stdout == f"{before}?? dvc.lock\n"
    assert "seed: 1" in (repository / "dvc.lock").read_text(), "of the committed params"
    branches = command(repository, "git", "branch", "--list", "runs/*", "--format", "%(refname)").stdout.split()
    shown = [command(repository, "git", "show", f"{branch}:params.yaml").stdout for branch in branches]
    assert sorted(shown) == [big, big, small]
    assert "profile; there: big, small" not in run(repository, profile="none").message
    assert (
        "the commit holds no such profile. To mend: commit it; there: cityscapes_foggy_rn50, coco_eva_b16, "
        in run(repository, profile="x").message
    )


def test_what_changes_while_a_run_goes_on_is_not_the_run_s(repository: Path, command: Command) -> None:
    meddle = (
        "import pathlib\nfor name in ('params.yaml', 'step.py'):\n"
        f"    (pathlib.Path({str(repository)!r}) / name).write_text('seed: 5')\n"
    )
    commit(repository, {"step.py": meddle + (repository / "step.py").read_text()})
    assert run(repository).message == "4 ran"
    assert (repository / "params.yaml").read_text() == "seed: 5" and (repository / "c.txt").read_text() == "cb_xab_ya"
    command(repository, "git", "checkout", "--quiet", ".").check_returncode()
    assert command(repository, "dvc", "status", "--json").stdout.strip() == "{}", "the lock is that of the commit"


def test_a_lock_that_was_changed_meanwhile_is_not_overwritten(repository: Path) -> None:
    theirs = f"import pathlib\n(pathlib.Path({str(repository)!r}) / 'dvc.lock').write_text('mine')\n"
    commit(repository, {"step.py": theirs + (repository / "step.py").read_text()})
    assert run(repository).message == "4 ran" and (repository / "dvc.lock").read_text() == "mine"
    assert "so its results were not brought there" in artifact("pipeline-summary")


def test_data_and_state_outside_of_the_commit_are_shared(repository: Path, command: Command, tmp_path: Path) -> None:
    """A stage reads ignored folders, by link too, writes scratch and mlruns, and a report that Git keeps."""
    step = """
import pathlib
text = pathlib.Path("sets/big/one.txt").read_text() + pathlib.Path("sets/own.txt").read_text()
for name in (".scratch/point", "mlruns/undelivered/record", "mlruns/mlflow.db", "reports/data_docs/a/index.html"):
    pathlib.Path(name).parent.mkdir(parents=True, exist_ok=True)
    pathlib.Path(name).write_text("written")
pathlib.Path("reports/plots").mkdir(exist_ok=True)
pathlib.Path("reports/plots/new.txt").write_text(text)
pathlib.Path("data/made").mkdir(parents=True)
pathlib.Path("data/made/file").write_text(text)
"""
    stage = {
        "cmd": "python step.py",
        "deps": ["step.py", "sets/big", "sets/own.txt"],
        "outs": ["data/made", {"reports/plots": {"cache": False}}],
    }
    ignored = (repository / ".gitignore").read_text() + "/sets\n/data\n/reports/data_docs/\n__pycache__\n"
    graph = yaml.safe_dump({"stages": {"read": stage}})
    commit(repository, {"dvc.yaml": graph, "step.py": step, ".gitignore": ignored, "reports/plots/old.txt": "old"})
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/one.txt").write_text("1")
    (repository / "sets").mkdir()
    (repository / "sets/big").symlink_to(tmp_path / "elsewhere")
    (repository / "sets/own.txt").write_text("2")
    (repository / "data/of_another_graph").mkdir(parents=True)
    assert run(repository).message == "1 ran"
    assert [path.name for path in (repository / "reports/plots").iterdir()] == ["new.txt"]
    assert (repository / "data/made/file").read_text() == "12" and not (repository / "data").is_symlink()
    assert [path.name for path in (repository / WORKTREE / "data").iterdir()] == ["made"]
    (repository / WORKTREE / "data/left").touch()
    for name in (".scratch/point", "mlruns/undelivered/record", "mlruns/mlflow.db", "reports/data_docs/a/index.html"):
        assert (repository / name).read_text() == "written", name
    assert command(repository, "dvc", "status", "--json").stdout.strip() == "{}"
    (tmp_path / "elsewhere/one.txt").write_text("3")
    assert run(repository).message == "1 ran" and (repository / "data/made/file").read_text() == "32"
    assert run(repository).message == "1 cached" and not (repository / WORKTREE / "data/left").exists()


def test_wrong_place_and_wrong_target_are_named(tmp_path: Path, repository: Path) -> None:
    assert "give the checkout as workspace" in run(tmp_path).message
    assert "stages are a, b@x, b@y, c" in run(repository, targets=["z"]).message
    assert "DVC has no default remote" in run(repository, push=True).message


@pytest.mark.parametrize(("slots", "overlap"), [(None, True), (1, False)])
def test_neighbours_run_side_by_side_unless_a_limit_says_no(repository: Path, slots: int | None, overlap: bool) -> None:
    commit(repository, {"step.py": TIMED + (repository / "step.py").read_text()})
    with get_client(sync_client=True) as client:
        if slots:
            # The tests of `make deploy`, which share the server, leave one behind.
            client.upsert_global_concurrency_limit_by_name("gpu", slots)
        try:
            assert run(repository, targets=["b"]).message == "3 ran"
        finally:
            if slots:
                client.delete_global_concurrency_limit_by_name("gpu")
    (x_start, x_end), (y_start, y_end) = (
        map(float, (repository / WORKTREE / f"time_{name}").read_text().split()) for name in ("b_x", "b_y")
    )
    assert (x_start < y_end and y_start < x_end) == overlap


def test_terminated_flow_lets_its_stage_reach_a_checkpoint(repository: Path, parent_run: list[Any]) -> None:
    commit(repository, {"step.py": TRAINING})
    starter = TERMINATED.format(repository=str(repository))
    environment = os.environ | {"PREFECT_API_URL": str(get_current_settings().api.url)}
    flow = subprocess.Popen([sys.executable, "-c", starter], cwd=ROOT, env=environment)
    deadline = time.monotonic() + 90
    tree = repository / WORKTREE
    while not (tree / "training").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    flow.terminate()
    flow.wait(60)
    assert (tree / "checkpoint").exists() and (tree / "closed").read_text() == "KILLED"
    commit(repository, {"step.py": "import pathlib\npathlib.Path('a.txt').touch()\n"})
    assert run(repository, targets=["a"]).message == "1 ran"


def test_parameters_explain_themselves_in_the_form() -> None:
    fields = pipeline.parameters.properties
    assert list(fields) == ["profile", "targets", "force", "pull", "push", "shards", "workspace"]
    assert all(len(field["description"]) > 20 for field in fields.values())
