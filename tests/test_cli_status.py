"""`regionclip status` tells stages, what runs, numbers and models of a workspace, and names what is not there."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from regionclip import cli, cli_status
from regionclip.files import write_json

GRAPH = """
stages:
  first: {cmd: cp in.txt first.txt, deps: [in.txt], outs: [first.txt]}
  second: {foreach: [coco], do: {cmd: cp first.txt second.txt, deps: [first.txt], outs: [second.txt]}}
  third: {cmd: cp second.txt third.txt, deps: [second.txt], outs: [third.txt]}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chain of three stages, of which two were run."""
    folder = tmp_path_factory.mktemp("repository")
    (folder / "dvc.yaml").write_text(GRAPH)
    (folder / "in.txt").write_text("1")
    for words in (["init", "--no-scm", "-q"], ["repro", "-q", "second@coco"]):
        command = [sys.executable, "-m", "dvc", *words]
        subprocess.run(command, cwd=folder, env=os.environ | {"DVC_NO_ANALYTICS": "1"}, check=True, timeout=120)
    return folder


@pytest.fixture
def repository(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, to work in."""
    monkeypatch.chdir(shutil.copytree(made, tmp_path / "repository"))
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Path.cwd()


def rows(capsys: pytest.CaptureFixture[str]) -> dict[str, list[str]]:
    """Lines of the screen by their first word."""
    assert cli.main(["status"]) == 0
    return {words[0]: words[1:] for line in capsys.readouterr().out.splitlines() if (words := line.split())}


def test_stages_are_built_stale_or_never(repository: Path, capsys) -> None:
    found = rows(capsys)
    assert [found[name][0] for name in ("first", "second@coco", "third")] == ["built", "built", "never"]
    Path("in.txt").write_text("2")
    found = rows(capsys)
    assert found["first"] == ["stale", "in.txt", "modified"] and found["second@coco"] == ["stale", "behind", "first"]
    assert "no reports/summary.json" in " ".join(found["numbers:"])
    assert "nothing is registered" in " ".join(found["models:"])


def test_what_runs_and_what_was_interrupted_is_told(repository: Path, capsys) -> None:
    """A lock counts while its process lives: its number may be another's later."""
    locks = Path(".scratch/locks")
    locks.mkdir(parents=True)
    now, hour = (time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(time.time() - ago)) for ago in (0, 36000))
    process = f"process {os.getpid()} on {platform.node()}, since"
    (locks / "second_coco.run").write_text(f"{process} {now}\n")
    (locks / "first.run").write_text(f"{process} {hour}\n")
    point = Path(".scratch/third/0123456789abcdef/iter_40.pth")
    point.parent.mkdir(parents=True)
    point.touch()
    found = rows(capsys)
    assert found["second@coco"][:3] == ["runs", "process", f"{os.getpid()},"] and found["first"] == ["built"]
    assert found["third"] == ["never", "was", "interrupted;", "goes", "on", "from", "iteration", "40"]


def test_numbers_and_models(client, repository: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", client.tracking_uri)
    numbers = {"clip": {"ap50_novel": 0.25}, "regionclip": {"ap50_novel": 0.5}}
    summary = {"profile": "demo", "seed": 1, "split": "val", "protocols": {"toys": "generalised"}}
    write_json("reports/summary.json", summary | {"open_vocabulary": {"toys": numbers}})
    client.create_registered_model("regionclip-toys")
    version = client.create_model_version("regionclip-toys", "file:///nowhere")
    for key, value in (("headline", "ap50_novel,ap"), ("ap50_novel", "0.5")):
        client.set_model_version_tag("regionclip-toys", version.version, key, value)
    client.set_registered_model_alias("regionclip-toys", "champion", version.version)
    found = rows(capsys)
    assert found["regionclip-toys"] == ["1", "champion", "ap50_novel", "0.500"]
    monkeypatch.setattr(cli_status, "_models", lambda: "")
    assert cli.main(["status"]) == 0
    assert "AP50 novel  25.0  50.0" in capsys.readouterr().out


def test_what_is_not_installed_is_said(repository: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(cli_status, "find_spec", lambda name: None)
    found = rows(capsys)
    assert found["stages:"][:4] == ["DVC", "is", "not", "installed"]
    assert found["models:"][:4] == ["MLflow", "is", "not", "installed"]


def test_a_failing_dvc_leaves_what_the_lock_says(repository: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "ERROR: Unable to acquire lock.\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    assert cli.main(["status"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "first ?" in out and "third never" in out and "Unable to acquire lock" in out


def test_outside_a_workspace_the_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["status"]) == 2
    assert "dvc.yaml: the file does not exist" in capsys.readouterr().err
