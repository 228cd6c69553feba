"""The command line knows the stages of dvc.yaml and commands on files, and gives every ending its exit code."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

from regionclip import cli
from regionclip.errors import DataCheckFailed, InputError, Interrupted
from regionclip.stages import runner

ROOT = Path(__file__).parents[1]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
DVC = {name: body for name, body in STAGES.items() if not name.startswith("raw")}


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
        suffix = " --dataset ${key}" if name in cli.BY_DATASET else ""
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
    source = "".join(file.read_text() for file in (ROOT / "regionclip").rglob("*.py"))
    settings = set(re.findall(r'"(REGIONCLIP_[A-Z_]+)"', source))
    assert len(settings) > 5
    for word in (*cli.STAGES, *settings, "MLFLOW_TRACKING_URI"):
        assert word in text, word


def test_package_does_not_load_torch() -> None:
    assert _python("-c", "import regionclip, sys; print('torch' in sys.modules)").stdout.strip() == "False"


def test_package_runs_as_a_program() -> None:
    assert _python("-m", "regionclip", "finetune", "--help").stdout.startswith("usage: regionclip finetune")


@pytest.mark.parametrize("arguments", [[], ["train"], ["finetune"], ["rpn", "--dataset", "coco"]])
def test_wrong_usage_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2 and "usage: regionclip" in capsys.readouterr().err


def test_outside_a_pipeline_the_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["data"]) == 2
    assert capsys.readouterr().err.startswith("regionclip data: params.yaml: the file does not exist. To mend: ")


@pytest.mark.parametrize(("error", "code"), [(InputError("bad"), 2), (DataCheckFailed("bad"), 3)])
def test_errors_end_with_their_code(
    error: InputError, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stage(*_: object) -> None:
        raise error

    monkeypatch.setattr(runner, "run_stage", stage)
    assert cli.main(["rpn"]) == code and capsys.readouterr().err == "regionclip rpn: bad.\n"


@pytest.fixture
def _keyboard() -> Iterator[None]:
    """Ctrl-C as in a terminal: pytest-xdist's processes and a shell's background jobs ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_keyboard")
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


def test_stages_that_can_be_shared_are_started_in_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the setting asks for it; the teacher only on CUDA, and no process starts others."""
    from regionclip.engine import launch

    called = []
    for module, name in ((launch, "launch"), (runner, "run_stage"), (runner, "run_together")):
        monkeypatch.setattr(module, name, lambda *arguments, name=name: called.append((name, *arguments)))
    monkeypatch.setenv("REGIONCLIP_PROCESSES", "2")
    monkeypatch.setenv("REGIONCLIP_DEVICE", "cpu")
    for arguments in (["pretrain"], ["finetune", "--dataset", "coco"], ["teacher"], ["concepts"]):
        assert cli.main(arguments) == 0
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("RANK", "0")
    assert cli.main(["finetune", "--dataset", "coco"]) == 0
    assert called == [
        ("launch", ["pretrain"]),
        ("launch", ["finetune", "--dataset", "coco"]),
        ("run_stage", "teacher", None),
        ("run_stage", "concepts", None),
        ("run_together", "finetune", "coco"),
    ]


def test_other_stages_are_refused_under_torchrun(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("RANK", "1")
    assert cli.main(["concepts"]) == 2
    assert "processes cannot share the stage concepts" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "-1/2", "1/0"])
def test_shard_is_a_number_of_a_number(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["pseudo_labels", f"--shard={text}"])
    assert "is no share such as 1/4" in capsys.readouterr().err


def test_help_of_the_commands_on_files_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    for command, words in {
        "inspect": ["FILE", "sha256", "no code in it"],
        "convert": [
            "{mmdet,open_clip,text-bank}",
            "{student,teacher,rpn,detector}",
            "--names coco65",
            "rpn_coco_48.pth",
        ],
    }.items():
        with pytest.raises(SystemExit):
            cli.main([command, "--help"])
        text = " ".join(capsys.readouterr().out.split())
        assert all(word in text for word in words), command


def test_embeddings_become_a_text_bank_and_are_inspected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from regionclip.text.text_bank import TextBank

    source, bank = tmp_path / "coco_17_target_cls_emb.pth", tmp_path / "bank.safetensors"
    torch.save(torch.arange(17.0 * 3).reshape(17, 3) + 1, source)
    assert cli.main(["inspect", str(source)]) == 0 and "17 of width 3" in capsys.readouterr().out
    assert cli.main(["convert", str(source), "--to", "text-bank", "--names", "coco17", "-o", str(bank)]) == 0
    assert capsys.readouterr().out == f"{bank}: 17 embeddings of width 3\n"
    assert TextBank.load(bank).names[0] == "airplane"
    assert cli.main(["inspect", str(bank)]) == 0 and "a text bank" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["inspect", "none.pth"], "regionclip inspect: none.pth: the file does not exist."),
        (["convert", "none.pth", "--to", "mmdet", "-o", "out.pth"], "regionclip convert: none.pth: the file does not"),
        (["convert", "none.pth", "--to", "text-bank", "-o", "out"], "a text bank needs --names"),
        (["convert", "x", "--to", "text-bank", "--names", "coco65", "--part", "rpn", "-o", "out"], "has no --part"),
        (["convert", "none.pth", "--to", "mmdet", "--names", "coco65", "-o", "out"], "--names is for text banks only"),
        (["convert", "none.pth", "--to", "open_clip", "--part", "rpn", "-o", "out"], "no place for a part 'rpn'"),
    ],
)
def test_wrong_files_and_options_end_with_2_and_write_nothing(
    tmp_path: Path,
    arguments: list[str],
    problem: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    assert problem in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_inspect_of_a_checkpoint_prints_facts_table_and_commands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from regionclip.checkpoints.official import rpn_shapes

    path = tmp_path / "rpn.pth"
    state = {key: torch.tensor(0.0).expand(value.shape) for key, value in rpn_shapes("c4").items()}
    torch.save({"model": state}, path)
    assert cli.main(["inspect", str(path)]) == 0
    text = capsys.readouterr().out
    for words in ("a region proposal network of Detectron2", "backbone.res4", f"convert {path} --to mmdet --part rpn"):
        assert words in text
    assert cli.main(["convert", str(path), "--to", "mmdet", "-o", str(tmp_path / "out.pth")]) == 0
    assert "264 tensors in MMDetection's names" in capsys.readouterr().out


def test_an_interrupted_command_has_nothing_to_go_on_from(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from regionclip.checkpoints import convert

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(convert, "to_mmdet", interrupted)
    assert cli.main(["convert", "a.pth", "--to", "mmdet", "-o", "b.pth"]) == 4
    assert capsys.readouterr().err == "regionclip convert: interrupted.\n"


@pytest.mark.usefixtures("_keyboard")
@pytest.mark.parametrize("error", [KeyboardInterrupt(), Interrupted("stopped")])
def test_every_command_can_be_interrupted(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever a command's own defaults are; those are said to go on that do."""

    def interrupted(_: object) -> None:
        raise error

    parser, found = cli.build_parser(), []
    for arguments in COMMANDS:
        chosen = parser.parse_args(arguments)
        chosen.run = interrupted
        monkeypatch.setattr(cli, "build_parser", lambda chosen=chosen: SimpleNamespace(parse_args=lambda _: chosen))
        assert cli.main(arguments) == 4
        found.append("go on" in capsys.readouterr().err)
    assert found == [
        arguments[0] in {*cli.STAGES, "detect", "label"} and arguments[1:2] not in (["init"], ["status"])
        for arguments in COMMANDS
    ]


COMMANDS = [
    *([name, "--dataset", "coco"] if name in cli.BY_DATASET else [name] for name in cli.STAGES),
    ["data", "fetch", "coco2017", "--root", "x"],
    ["data", "init", "--train", "a", "--val", "b", "--images", "c"],
    ["data", "status", "--root", "x"],
    ["inspect", "x"],
    ["convert", "x", "--to", "mmdet", "-o", "y"],
    ["retrieval", "x", "--captions", "y", "--images", "z"],
    ["mlflow-sync"],
    ["new", "x"],
    ["profile"],
    ["config", "rpn"],
    ["raw"],
    ["register", "--dataset", "coco"],
    ["detect", "x", "--names", "y", "--out", "z"],
    ["label", "x", "--names", "y", "--out", "z"],
    ["val", "x", "--images", "y"],
    ["embed", "x", "--out", "y"],
    ["status"],
    ["calibrate"],
    ["export", "-o", "x"],
    ["bundle", "-o", "x"],
    ["serve"],
    ["app"],
]


@pytest.mark.parametrize("port", ["99999", "-1", "x", "80.5", ""])
@pytest.mark.parametrize("server", ["serve", "app"])
def test_servers_listen_on_the_port_that_was_asked_for(server: str, port: str, capsys) -> None:
    """Systems take a number that is too large modulo 65,536."""
    with pytest.raises(SystemExit) as ended:
        cli.main([server, "--port", port])
    assert ended.value.code == 2 and "--port" in capsys.readouterr().err


def test_no_command_is_missing_above() -> None:
    assert {arguments[0] for arguments in COMMANDS} == set(re.findall(r"^    ([a-z_-]+)(?: |$)", _help(), re.MULTILINE))


def _help() -> str:
    return cli.build_parser().format_help().partition("options:")[0]


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (KeyError("box"), 5, "a fault of the program (KeyError: 'box')"),
        (ValueError("two\nlines"), 5, "(ValueError: two lines)"),
        (RecursionError("deep"), 5, "a fault"),
        (FileNotFoundError(2, "gone", "x"), 5, "a fault"),
        (OSError(5, "Input/output error"), 1, "the machine failed (OSError: [Errno 5]"),
        (ConnectionResetError(104, "reset"), 1, "the machine failed"),
        (MemoryError(), 1, "the machine failed"),
        (RuntimeError("CUDA error: an illegal memory access"), 1, "the machine failed"),
        (torch.OutOfMemoryError("CUDA out of memory."), 1, "the machine failed"),
        (OSError(28, "No space left on device", "/disk/file"), 2, "/disk: the disk takes no more"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), 2, "the disk takes no more"),
    ],
)
def test_what_nobody_foresaw_is_short_and_kept(
    error: Exception,
    code: int,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stage(*_: object) -> None:
        raise error

    monkeypatch.chdir(tmp_path)
    (tmp_path / ".scratch").mkdir()
    monkeypatch.setattr(runner, "run_stage", stage)
    assert cli.main(["rpn"]) == code
    said = capsys.readouterr().err
    assert said.startswith("regionclip rpn: ") and words in said and said.count("\n") == 1
    kept = list((tmp_path / ".scratch").iterdir())
    assert (len(kept) == 1 and str(kept[0].name) in said and "Traceback" in kept[0].read_text()) or code == 2


def test_a_traceback_that_cannot_be_kept_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stage(*_: object) -> None:
        raise KeyError("box")

    monkeypatch.setattr(runner, "run_stage", stage)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli.tempfile, "gettempdir", lambda: str(tmp_path / "none"))
    assert cli.main(["rpn"]) == 5
    assert "Traceback" in (said := capsys.readouterr().err) and "stands above" in said


def test_a_full_disk_ends_a_command_with_2_and_its_folder(tmp_path: Path) -> None:
    """The writer of safetensors is Rust, whose errors are no OSError."""
    source = tmp_path / "coco_17_target_cls_emb.pth"
    torch.save(torch.rand(17, 2000), source)
    command = (
        f"ulimit -f 50; exec {sys.executable} -m regionclip convert {source} --to text-bank --names coco17 -o out/b"
    )
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 2 and "the disk takes no more" in done.stderr and str(tmp_path) in done.stderr
    assert "Traceback" not in done.stderr and not [
        path for path in tmp_path.rglob("*") if path.is_file() and path != source
    ]


def test_a_command_of_the_pipeline_says_what_the_light_install_lacks(tmp_path: Path) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    program = "import sys; sys.modules['dvc'] = None; from regionclip.cli import main; sys.exit(main(['report']))"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    said = "regionclip report: the package 'dvc' is not installed. To mend: pip install 'regionclip[pipeline]'.\n"
    assert (done.returncode, done.stderr) == (2, said)
