"""`make serve` starts all or nothing, says where it listens, and leaves no process behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from flows import local
from flows.local import HOST, Service, serve, services
from regionclip.errors import InputError

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


@pytest.fixture
def ports() -> tuple[int, int]:
    return free_port(), free_port()


def stand_in(monkeypatch: pytest.MonkeyPatch, *others: Service) -> None:
    """Put small web servers in the place of the two servers, and the given ones in the place of the workers."""

    def stand_ins(root: Path, mlflow_port: int, prefect_port: int) -> tuple[list[Service], dict[str, str]]:
        real, environment = services(root, mlflow_port, prefect_port)
        answering = [
            Service(
                one.name, (sys.executable, "-m", "http.server", str(port), "--bind", HOST), f"http://{HOST}:{port}/"
            )
            for one, port in zip(real, (mlflow_port, prefect_port), strict=False)
        ]
        return [*answering, *others], environment

    monkeypatch.setattr(local, "services", stand_ins)


def children() -> set[int]:
    return {int(pid) for pid in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()}


def test_commands_and_environment_point_at_each_other(tmp_path: Path) -> None:
    serving, environment = services(tmp_path, 5001, 4201)
    assert [one.name for one in serving] == ["mlflow", "prefect", "worker-cpu", "worker-gpu"]
    assert all(Path(one.command[0]).exists() for one in serving)
    assert environment["MLFLOW_TRACKING_URI"] == "http://127.0.0.1:5001"
    assert environment["PREFECT_API_URL"] == "http://127.0.0.1:4201/api"
    assert environment["REGIONCLIP_WORKSPACE"] == str(tmp_path)
    assert all(one.command[one.command.index("--host") + 1] == HOST for one in serving[:2])


def test_starts_all_and_stops_all(
    tmp_path: Path, ports: tuple[int, int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = tmp_path / "seen"
    program = f"import os, time; open({str(seen)!r}, 'w').write(os.environ['MLFLOW_TRACKING_URI']); time.sleep(60)"
    stand_in(monkeypatch, Service("worker-cpu", (sys.executable, "-c", program)))
    before, stop = children(), threading.Event()
    thread = threading.Thread(target=serve, args=(tmp_path, *ports, stop))
    thread.start()
    deadline = time.monotonic() + 60
    while not (seen.exists() and seen.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    stop.set()
    thread.join(30)
    assert seen.read_text() == f"http://{HOST}:{ports[0]}" and children() == before
    printed = capsys.readouterr().out
    assert f"http://{HOST}:{ports[0]}\n" in printed and f"http://{HOST}:{ports[1]}\n" in printed


def test_taken_port_is_named_and_nothing_started(tmp_path: Path, ports: tuple[int, int]) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, ports[1]))
        taken.listen()
        with pytest.raises(InputError, match=f"port {ports[1]} of 127.0.0.1 is taken"):
            serve(tmp_path, *ports, threading.Event())
    assert not (tmp_path / ".prefect").exists()


def test_a_service_that_ends_stops_the_others(
    tmp_path: Path, ports: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, Service("worker-gpu", (sys.executable, "-c", "print('no pool'); raise SystemExit(3)")))
    before = children()
    with pytest.raises(InputError, match=r"worker-gpu.log: worker-gpu ended with exit code 3"):
        serve(tmp_path, *ports, threading.Event())
    assert (tmp_path / ".prefect/logs/worker-gpu.log").read_text() == "no pool\n" and children() == before


@pytest.mark.slow
def test_real_servers_and_workers(tmp_path: Path, ports: tuple[int, int]) -> None:
    program = (
        f"import sys, flows.local as l; from pathlib import Path; l.ROOT = Path({str(tmp_path)!r}); sys.exit(l.main())"
    )
    options = ("--mlflow-port", str(ports[0]), "--prefect-port", str(ports[1]))
    command = [sys.executable, "-c", program, *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            printed = [process.stdout.readline() for _ in range(3)]
            assert [line.split()[0] for line in printed] == ["MLflow", "Prefect", "Workers"], process.poll()
            deadline, log = time.monotonic() + 60, tmp_path / ".prefect/logs/worker-cpu.log"
            while "started" not in log.read_text() and time.monotonic() < deadline:
                time.sleep(0.2)
            assert "started" in log.read_text()
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(100) == 0
    assert (tmp_path / "mlruns/mlflow.db").exists() and (tmp_path / ".prefect/prefect.db").exists()
    with socket.socket() as probe:
        assert probe.connect_ex((HOST, ports[1])) != 0
