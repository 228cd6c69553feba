"""Commands stop together and with the flow's process, with time to reach a point they can resume from."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flows import commands
from flows.stage_runs import exit_code
from flows.supervise import INTERRUPTED

Command = Callable[..., subprocess.CompletedProcess[str]]
# A stage in training: writes its number, and on an interrupt takes a moment for its checkpoint.
TRAINING = """
import os, pathlib, sys, time
try:
    pathlib.Path("new").write_text(str(os.getpid()))
    pathlib.Path("new").rename("pid")
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(0.5)
    with open("checkpoint", "a") as file:
        print("saved", file=file)
    sys.exit(4)
"""


@pytest.fixture
def training(repository: Path) -> Path:
    """The repository with a stage ``a`` that trains for a minute."""
    (repository / "step.py").write_text(TRAINING)
    return repository


def wait_for(what: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def run(folder: Path, *command: str, lock: str = "a") -> tuple[int, list[str]]:
    return commands.run(command, root=folder, lock=lock, settings={"WORD": "hello"}, log=lambda line: None)


def test_output_comes_line_by_line_with_exit_code_and_settings(tmp_path: Path) -> None:
    seen: list[tuple[float, str]] = []
    program = "import os, sys, time; print(os.environ['WORD']); time.sleep(0.5); print(os.getcwd()); sys.exit(7)"
    code, tail = commands.run(
        [sys.executable, "-c", program],
        root=tmp_path,
        lock="a",
        settings={"WORD": "hello"},
        log=lambda line: seen.append((time.monotonic(), line)),
    )
    assert code == 7 and tail == [line for _, line in seen] == ["hello", str(tmp_path)]
    assert seen[1][0] - seen[0][0] > 0.3


@pytest.fixture(autouse=True)
def _nothing_is_stopping() -> Iterator[None]:
    """A test that fails while commands are being stopped does not take the next ones along."""
    yield
    commands.stopping.clear()


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
def test_interrupt_reaches_the_stage_and_its_exit_code_comes_back(
    training: Path, shell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not Path(shell).exists():
        pytest.skip(f"no {shell} here")
    monkeypatch.setenv("SHELL", shell)  # dash and bash end otherwise after an interrupt
    ended: list[tuple[int, list[str]]] = []
    command = ("dvc", "repro", "--single-item", "a")

    def work() -> None:
        ended.append(run(training, *command))

    thread = threading.Thread(target=work)
    with pytest.raises(RuntimeError, match="terminated"), commands.stopped_together():
        thread.start()
        wait_for((training / "pid").exists)
        raise RuntimeError("terminated")
    thread.join(60)
    assert (training / "checkpoint").read_text() == "saved\n"
    code, tail = ended[0]
    assert code == 255 and exit_code(tail) == INTERRUPTED, tail
    with pytest.raises(RuntimeError, match="being stopped"):
        run(training, *command)
    with commands.stopped_together():
        assert run(training, "true")[0] == 0


def test_a_killed_flow_takes_its_stage_along_and_a_retry_waits_for_it(training: Path) -> None:
    starter = f"""
from pathlib import Path
from flows import commands
commands.run(["dvc", "repro", "-s", "a"], root=Path({str(training)!r}), lock="a", settings={{}}, log=print)
"""
    root = Path(__file__).parents[2]
    flow = subprocess.Popen([sys.executable, "-c", starter], cwd=root, stdout=subprocess.DEVNULL)
    wait_for((training / "pid").exists)
    stage = int((training / "pid").read_text())
    flow.kill()
    flow.wait()
    code, _ = run(training, "cat", "checkpoint")
    assert code == 0 and not alive(stage)


def test_a_second_pipeline_waits_for_the_checkout(tmp_path: Path) -> None:
    waiting, order = threading.Event(), []

    def second() -> None:
        with commands.alone_in(tmp_path, lambda line: waiting.set()):
            order.append("second")

    with commands.alone_in(tmp_path, lambda line: None):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(10)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_a_command_of_which_the_leader_is_killed_is_stopped_whole(training: Path) -> None:
    program = "import os, signal, subprocess; subprocess.Popen(['sleep', '60']); os.kill(os.getpid(), signal.SIGKILL)"
    code, _ = run(training, sys.executable, "-c", program)
    assert code == 128 + signal.SIGKILL


def test_dvc_killed_while_hashing_leaves_what_the_next_run_mends(repository: Path, command: Command) -> None:
    text = (repository / "dvc.yaml").read_text()
    (repository / "dvc.yaml").write_text(text.replace("step.py a a.txt", "big.py"))
    (repository / "big.py").write_text(
        "import pathlib\npathlib.Path('a.txt').write_bytes(bytes(300_000_000))\npathlib.Path('made').touch()\n"
    )
    dvc = Path(sys.executable).with_name("dvc")
    killed = subprocess.Popen([dvc, "--quiet", "repro", "a"], cwd=repository, start_new_session=True)
    wait_for((repository / "made").exists)
    time.sleep(0.1)
    os.killpg(killed.pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL and not (repository / "dvc.lock").exists()

    code, tail = run(repository, "dvc", "--wait-for-lock", "repro", "--single-item", "a")
    assert code == 0, tail
    assert command(repository, "dvc", "status", "--json", "a").stdout.strip() == "{}"
    assert (repository / "a.txt").stat().st_size == 300_000_000


def test_a_checkout_is_held_until_what_a_killed_run_left_has_ended(tmp_path: Path) -> None:
    """The next run resets the worktree, so nobody may still write there."""
    command = (
        "import pathlib, time\ntry:\n    pathlib.Path('began').touch()\n    time.sleep(60)\n"
        "except KeyboardInterrupt:\n    time.sleep(2)\n    pathlib.Path('ended').touch()\n"
    )
    run = (
        "import sys\nfrom pathlib import Path\nfrom flows import commands\nroot = Path(sys.argv[1])\n"
        "with commands.alone_in(root, print):\n"
        "    commands.run([sys.executable, '-c', sys.argv[2]], root=root, lock='a', settings={}, log=print)\n"
    )
    killed = subprocess.Popen([sys.executable, "-c", run, str(tmp_path), command], cwd=Path(__file__).parents[2])
    while not (tmp_path / "began").exists():
        assert killed.poll() is None
        time.sleep(0.05)
    killed.kill()
    killed.wait()
    said: list[str] = []
    with commands.alone_in(tmp_path, said.append):
        assert (tmp_path / "ended").exists() and "Waiting for another pipeline run" in said[0]
