"""`make serve` starts all or nothing, closed to strangers, says where it listens, and leaves no process behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
from pathlib import Path
from typing import Any

import httpx
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


def test_the_login_is_random_kept_and_nobody_else_s_to_read(tmp_path: Path) -> None:
    (tmp_path / ".prefect").mkdir(mode=0o755)
    first, again, other = (services(folder, 1, 2)[1] for folder in (tmp_path, tmp_path, tmp_path / "other"))
    assert first == again and other["MLFLOW_TRACKING_PASSWORD"] != first["MLFLOW_TRACKING_PASSWORD"]
    login = f"{first['MLFLOW_TRACKING_USERNAME']}:{first['MLFLOW_TRACKING_PASSWORD']}"
    assert login == first["PREFECT_API_AUTH_STRING"] == first["PREFECT_SERVER_API_AUTH_STRING"] and len(login) > 40
    assert (tmp_path / ".prefect/login").read_text() == f"{login}\n"
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / ".prefect", tmp_path / ".prefect/login")] == [448, 384]
    (tmp_path / ".prefect/login").write_text("someone:\n")
    with pytest.raises(InputError, match=r"login: it is not regionclip:PASSWORD. To mend: remove it"):
        services(tmp_path, 1, 2)


def test_settings_of_the_user_s_own_are_not_overwritten(tmp_path: Path, ports: tuple[int, int]) -> None:
    (tmp_path / "prefect.toml").write_text("[api]\n")
    with pytest.raises(InputError, match="it would be overwritten"):
        serve(tmp_path, *ports, threading.Event())
    assert (tmp_path / "prefect.toml").read_text() == "[api]\n"


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
    client = tmp_path / "prefect.toml"
    told, mode = tomllib.loads(client.read_text())["api"], client.stat().st_mode & 0o777
    stop.set()
    thread.join(30)
    assert told["url"] == f"http://{HOST}:{ports[1]}/api" and mode == 0o600 and not client.exists()
    assert told["auth_string"] == (tmp_path / ".prefect/login").read_text().strip()
    assert seen.read_text() == f"http://{HOST}:{ports[0]}" and children() == before
    printed = capsys.readouterr().out
    assert f"http://{HOST}:{ports[0]}\n" in printed and f"http://{HOST}:{ports[1]}\n" in printed
    assert "log in as the one line of .prefect/login says" in printed and told["auth_string"] not in printed


def test_one_service_alone(tmp_path: Path, ports: tuple[int, int], monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    stand_in(monkeypatch)
    stop = threading.Event()
    threading.Timer(2, stop.set).start()
    serve(tmp_path, *ports, stop, ["mlflow"])
    printed = capsys.readouterr().out
    assert "mlflow" in printed and "prefect  " not in printed and not (tmp_path / "prefect.toml").exists()
    assert [path.name for path in (tmp_path / ".prefect/logs").iterdir()] == ["mlflow.log"]


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


def closed_but_to_the_login(root: Path, mlflow_port: int, prefect_port: int) -> None:
    """What a page in a browser and a user of this machine may try, at both servers; then what may be done."""
    login = tuple((root / ".prefect/login").read_text().strip().split(":"))
    mlflow, prefect = (f"http://{HOST}:{port}" for port in (mlflow_port, prefect_port))
    calls = [(f"{mlflow}/api/2.0/mlflow/experiments/search", {"max_results": 1}), (f"{prefect}/api/flows/filter", {})]
    for url, body in calls:

        def status(url: str = url, body: Any = body, auth: Any = None, **headers: str) -> int:
            return httpx.post(url, json=body, auth=auth, headers=headers, timeout=60).status_code

        assert status() == status(auth=("regionclip", "wrong")) == status(auth=("", "")) == 401
        for foreign in ("http://evil.example", "null", f"http://{HOST}:1", "https://10.evil.example"):
            assert status(auth=login, Origin=foreign) == 403
        assert status(auth=login, Host="evil.example") == 403
        assert status(auth=login) == status(auth=login, Origin=url.partition("/api")[0]) == 200
    asked = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    for url, _ in calls:
        answer = httpx.options(url, headers=asked, timeout=60)
        assert answer.status_code >= 400 and "access-control-allow-origin" not in answer.headers
    # Prefect's page loads without the login, asks for it, and calls its own origin.
    page = httpx.get(f"{prefect}/", follow_redirects=True, timeout=60)
    assert page.status_code == 200 and "<script" in page.text
    found = httpx.get(f"{prefect}/ui-settings", timeout=60).json()
    assert (found["auth"], found["api_url"]) == ("BASIC", f"{prefect}/api")
    assert httpx.get(f"{mlflow}/", timeout=60).status_code == 401
    assert "<script" in httpx.get(f"{mlflow}/", auth=login, timeout=60).text
    # Prefect's commands find server and login by themselves in this folder, as a fresh shell does.
    fresh = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT")}
    command = [Path(sys.executable).parent / "prefect", "work-pool", "ls"]
    done = subprocess.run(command, cwd=root, env=fresh, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0 and "cpu" in done.stdout, done.stdout + done.stderr


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
            assert [line.split()[0] for line in printed] == ["mlflow", "prefect", "log"], process.poll()
            deadline, log = time.monotonic() + 60, tmp_path / ".prefect/logs/worker-cpu.log"
            while "started" not in log.read_text() and time.monotonic() < deadline:
                time.sleep(0.2)
            assert "started" in log.read_text()
            closed_but_to_the_login(tmp_path, *ports)
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(100) == 0
    assert (tmp_path / "mlruns/mlflow.db").exists() and (tmp_path / ".prefect").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / ".prefect/prefect.db").stat().st_mode & 0o777 == 0o600
    with socket.socket() as probe:
        assert probe.connect_ex((HOST, ports[1])) != 0
