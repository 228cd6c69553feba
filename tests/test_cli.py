"""The command line knows the stages of dvc.yaml and no others, and gives every ending its exit code."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from regionclip import cli
from regionclip.errors import DataCheckFailed, InputError
from regionclip.stages import runner

DVC = yaml.safe_load((Path(__file__).parents[1] / "dvc.yaml").read_text())["stages"]


@pytest.fixture(autouse=True)
def _handler() -> Iterator[None]:
    """Put back pytest's handler of SIGTERM."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True, timeout=120)


def test_stages_are_those_of_dvc_yaml_in_their_order() -> None:
    assert list(cli.STAGES) == list(DVC)
    assert {name for name, stage in DVC.items() if "foreach" in stage} == cli.BY_DATASET


def test_dvc_yaml_calls_each_stage_by_its_name() -> None:
    for name, stage in DVC.items():
        suffix = " --dataset ${item}" if name in cli.BY_DATASET else ""
        assert stage.get("do", stage)["cmd"] == f"regionclip {name}{suffix}"


def test_every_stage_has_a_module_with_run() -> None:
    for name in cli.STAGES:
        assert callable(importlib.import_module(f"regionclip.stages.{name}").run), name


def test_help_lists_all_stages_and_settings_and_loads_nothing_heavy() -> None:
    heavy = "[name for name in ('torch', 'mlflow', 'mmengine', 'pandas') if name in sys.modules]"
    text = _python(
        "-c", f"import sys, regionclip.cli; regionclip.cli.build_parser().print_help(); print({heavy})"
    ).stdout
    assert text.rstrip().endswith("[]")
    for word in (*cli.STAGES, "REGIONCLIP_DEVICE", "REGIONCLIP_WORKERS", "REGIONCLIP_PRECISION", "MLFLOW_TRACKING_URI"):
        assert word in text


def test_package_does_not_load_torch() -> None:
    assert _python("-c", "import regionclip, sys; print('torch' in sys.modules)").stdout.strip() == "False"


def test_package_runs_as_a_program() -> None:
    assert _python("-m", "regionclip", "finetune", "--help").stdout.startswith("usage: regionclip finetune")


@pytest.mark.parametrize(
    "arguments", [[], ["train"], ["finetune"], ["finetune", "--dataset", "voc"], ["rpn", "--dataset", "coco"]]
)
def test_wrong_usage_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2 and "usage: regionclip" in capsys.readouterr().err


def test_outside_a_pipeline_the_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["data"]) == 2
    assert capsys.readouterr().err.startswith("regionclip data: dvc.yaml: the file does not exist. To mend: ")


@pytest.mark.parametrize(("error", "code"), [(InputError("bad"), 2), (DataCheckFailed("bad"), 3)])
def test_errors_end_with_their_code(
    error: InputError, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stage(*_: object) -> None:
        raise error

    monkeypatch.setattr(runner, "run_stage", stage)
    assert cli.main(["rpn"]) == code and capsys.readouterr().err == "regionclip rpn: bad.\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_with_4_even_where_a_library_catches_every_exception(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """MLflow's store turns each Exception into its own, which counts as a failed delivery only."""

    def stage(*_: object) -> None:
        try:
            os.kill(os.getpid(), number)
            for _ in range(1000):
                pass
        except Exception as error:
            raise AssertionError("swallowed") from error

    monkeypatch.setattr(runner, "run_stage", stage)
    assert cli.main(["pretrain"]) == 4
    assert "run it again" in capsys.readouterr().err


def test_done_ends_with_0_and_passes_the_data_set_on(monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    monkeypatch.setattr(runner, "run_stage", lambda *arguments: called.append(arguments))
    assert cli.main(["evaluate", "--dataset", "lvis"]) == cli.main(["rpn"]) == 0
    assert called == [("evaluate", "lvis"), ("rpn", None)]
