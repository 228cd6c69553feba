"""The commands on MLflow: what is told when there is nothing to do, and which errors they end with."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from regionclip.cli_tracking import add_tracking_commands
from regionclip.errors import InputError
from regionclip.files import write_json
from tests.conftest import profile_yaml


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


def test_broken_record_is_named_and_set_aside(capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is none of ours is no error of the command, and is not read again; a dry run leaves it."""
    write_json("mlruns/undelivered/rpn-1.json", {"stage": "rpn"})
    for arguments in (["--dry-run"], []):
        run("mlflow-sync", *arguments)
        said = capsys.readouterr().out
        assert "rpn-1.json: set aside" in said and "key 'id': not a record of a stage (Field required)" in said
    assert [path.name for path in Path("mlruns/undelivered").iterdir()] == ["rpn-1.broken"]
    run("mlflow-sync")
    assert "holds nothing" in capsys.readouterr().out


def test_register_outside_a_workspace_says_where_to_run() -> None:
    with pytest.raises(InputError, match=r"params\.yaml.* run from the folder that holds params\.yaml"):
        run("register", "--dataset", "coco")


def test_register_needs_a_data_set_that_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    Path("params.yaml").write_text(profile_yaml("tiny"))
    with pytest.raises(InputError, match="there is no data set 'cifar'. To mend: name one of coco, lvis"):
        run("register", "--dataset", "cifar")
    with pytest.raises(SystemExit):
        run("register")
    assert "--dataset" in capsys.readouterr().err
