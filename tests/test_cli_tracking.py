"""The commands on MLflow: what is told when there is nothing to do, and which errors they end with."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from regionclip.cli_tracking import add_tracking_commands
from regionclip.errors import InputError
from regionclip.files import write_json


def run(*arguments: str) -> None:
    """Run a command as ``regionclip`` does."""
    parser = argparse.ArgumentParser()
    add_tracking_commands(parser.add_subparsers(required=True))
    chosen = parser.parse_args(arguments)
    chosen.run(chosen)


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands work in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")


def test_nothing_to_deliver_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    run("mlflow-sync")
    assert capsys.readouterr().out == "mlruns/undelivered holds nothing.\n" and not Path("mlflow.db").exists()


def test_broken_record_is_named() -> None:
    """A file that is none of ours stops before anything is sent."""
    write_json("mlruns/undelivered/rpn-1.json", {"stage": "rpn"})
    with pytest.raises(InputError, match=r"rpn-1\.json, key 'run_id': the key is missing"):
        run("mlflow-sync")


def test_register_outside_a_workspace_says_where_to_run() -> None:
    with pytest.raises(InputError, match=r"params\.yaml.* run from the folder that holds params\.yaml"):
        run("register", "--dataset", "coco")


@pytest.mark.parametrize("arguments", [["register"], ["register", "--dataset", "cifar"]])
def test_register_needs_a_data_set(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(*arguments)
    assert "--dataset" in capsys.readouterr().err
