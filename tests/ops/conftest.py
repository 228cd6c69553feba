"""Real servers as processes on loopback: PostgreSQL, S3 (moto), Prefect, MLflow; an origin, and a worker."""

from __future__ import annotations

import contextlib
import getpass
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from regionclip.workspace.profiles import profile_text

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(sys.executable).parent
HOST = "127.0.0.1"
PASSWORD = "only-on-loopback"
DATABASES = ("prefect", "mlflow", "restarted")
MOTO = "moto[s3,server]>=5.1,<6"
COPIED = ("dvc.yaml", ".dvcignore", ".gitignore", "prefect.yaml", "pyproject.toml", "regionclip", "flows")
IDENTITY = ("-c", "user.name=ops", "-c", "user.email=ops@localhost")
Command = Callable[..., subprocess.CompletedProcess[str]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests here need servers and minutes."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.ops)
            item.add_marker(pytest.mark.xdist_group("ops"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def running(
    *command: str | Path, log: Path, settings: Mapping[str, str], cwd: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in a session of its own for as long as the block lasts."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=dict(settings), cwd=cwd, start_new_session=True
        )
    try:
        yield process
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.terminate()
            process.wait(40)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until(what: Callable[[], object], seconds: float, doing: str) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"{doing}: not within {seconds:.0f} s"
        time.sleep(0.3)


def status(address: str, authorization: str | None = None) -> int:
    """Return the HTTP status of an address; 0 when nothing answers."""
    request = urllib.request.Request(address, headers={"Authorization": authorization} if authorization else {})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


@pytest.fixture(scope="session")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the services' output."""
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="session")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment without settings of the user's, where nothing calls home."""
    ours = ("REGIONCLIP_", "MLFLOW_", "DVC_", "PREFECT_", "AWS_")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    return kept | {
        "PATH": os.pathsep.join([str(PROGRAMS), os.environ["PATH"]]),
        "DO_NOT_TRACK": "true",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DVC_NO_ANALYTICS": "1",
        "DVC_STUDIO_OFFLINE": "true",
        "GX_ANALYTICS_ENABLED": "false",
        "HF_HUB_OFFLINE": "1",
        "DVC_SITE_CACHE_DIR": str(tmp_path_factory.mktemp("dvc_site")),
        "PREFECT_HOME": str(tmp_path_factory.mktemp("prefect_home")),
        "OMP_NUM_THREADS": "1",
        "REGIONCLIP_DEVICE": "cpu",
        "REGIONCLIP_WORKERS": "0",
    }


@pytest.fixture(scope="session")
def postgres(quiet: dict[str, str], logs: Path) -> Iterator[str]:
    """A PostgreSQL with passwords and empty databases; its address without scheme."""
    # It refuses to run as root, and its user cannot enter root's temporary folders.
    as_user, user = (["runuser", "-u", "postgres", "--"], "postgres") if os.geteuid() == 0 else ([], getpass.getuser())
    port, folder = free_port(), Path(tempfile.mkdtemp(prefix="regionclip-postgres-"))
    try:
        (folder / "password").write_text(PASSWORD)
        os.chown(folder / "password", pwd.getpwnam(user).pw_uid, -1)
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
        data = folder / "data"
        initdb = [
            shutil.which("initdb") or "initdb",
            "--pgdata",
            data,
            "--username",
            "regionclip",
            "--encoding",
            "UTF8",
        ]
        secret = ["--auth", "scram-sha-256", "--pwfile", folder / "password"]
        subprocess.run([*as_user, *initdb, *secret], env=quiet, check=True, capture_output=True, cwd=folder)
        server = [shutil.which("postgres") or "postgres", "-D", data, "-h", HOST, "-p", str(port), "-k", ""]
        with running(*as_user, *server, "-c", "fsync=off", log=logs / "postgres.log", settings=quiet, cwd=folder):
            wait_until(lambda: _databases(port), 60, "PostgreSQL starts")
            yield f"regionclip:{PASSWORD}@{HOST}:{port}"
    finally:
        shutil.rmtree(folder)


def _databases(port: int) -> bool:
    import psycopg2

    try:
        connection = psycopg2.connect(host=HOST, port=port, user="regionclip", password=PASSWORD, dbname="postgres")
    except psycopg2.OperationalError:
        return False
    connection.autocommit = True
    with contextlib.closing(connection), connection.cursor() as cursor:
        for name in DATABASES:
            cursor.execute(f"CREATE DATABASE {name}")
    return True


@pytest.fixture(scope="session")
def s3(quiet: dict[str, str], logs: Path) -> Iterator[dict[str, str]]:
    """An S3 server with the buckets ``dvc`` and ``mlflow``; the environment of its clients."""
    import boto3

    # Its dependencies contradict those of dvc-s3, so it has an environment of its own.
    venv, port = ROOT / ".venv-ops", free_port()
    if not (venv / "bin/moto_server").exists():
        uv = PROGRAMS / "uv"
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, venv], check=True)
        subprocess.run([uv, "pip", "install", "--quiet", "--python", venv / "bin/python", MOTO], check=True)
    client = {
        "AWS_ACCESS_KEY_ID": "ops",
        "AWS_SECRET_ACCESS_KEY": PASSWORD,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{HOST}:{port}",
        "MLFLOW_S3_ENDPOINT_URL": f"http://{HOST}:{port}",
    }
    with running(venv / "bin/moto_server", "-H", HOST, "-p", str(port), log=logs / "s3.log", settings=quiet):
        wait_until(lambda: status(client["AWS_ENDPOINT_URL"]) == 200, 60, "S3 starts")
        storage = boto3.client(
            "s3",
            endpoint_url=client["AWS_ENDPOINT_URL"],
            aws_access_key_id="ops",
            aws_secret_access_key=PASSWORD,
            region_name="us-east-1",
        )
        for name in ("dvc", "mlflow"):
            storage.create_bucket(Bucket=name)
        yield client


@pytest.fixture(scope="session")
def start_prefect(
    postgres: str, quiet: dict[str, str], logs: Path
) -> Callable[[str, int], contextlib.AbstractContextManager[tuple[subprocess.Popen[bytes], dict[str, str]]]]:
    """A function that runs a Prefect server that asks for a password, on a database of PostgreSQL and a port.

    The block gets its process and the environment of its clients.
    """
    secret = f"ops:{PASSWORD}"

    @contextlib.contextmanager
    def start(database: str, port: int) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, str]]]:
        settings = quiet | {
            "PREFECT_API_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://{postgres}/{database}",
            "PREFECT_SERVER_API_AUTH_STRING": secret,
        }
        server = (PROGRAMS / "prefect", "server", "start", "--host", HOST, "--port", str(port))
        with running(*server, log=logs / f"{database}.log", settings=settings) as process:
            wait_until(lambda: status(f"http://{HOST}:{port}/api/ready", _basic(secret)) == 200, 300, "Prefect starts")
            yield (
                process,
                {
                    "PREFECT_API_URL": f"http://{HOST}:{port}/api",
                    "PREFECT_API_AUTH_STRING": secret,
                    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
                },
            )

    return start


@pytest.fixture(scope="session")
def prefect_api(start_prefect: Callable[..., contextlib.AbstractContextManager]) -> Iterator[dict[str, str]]:
    """A Prefect server; the environment of its clients."""
    with start_prefect("prefect", free_port()) as (_, client):
        yield client


@pytest.fixture(scope="session")
def mlflow_uri(postgres: str, s3: dict[str, str], quiet: dict[str, str], logs: Path) -> Iterator[str]:
    """An MLflow server on PostgreSQL with its artifacts on S3; its address."""
    port = free_port()
    store = (
        "--backend-store-uri",
        f"postgresql+psycopg2://{postgres}/mlflow",
        "--artifacts-destination",
        "s3://mlflow",
    )
    server = (PROGRAMS / "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1", *store)
    with running(*server, log=logs / "mlflow.log", settings=quiet | s3):
        wait_until(lambda: status(f"http://{HOST}:{port}/health") == 200, 300, "MLflow starts")
        yield f"http://{HOST}:{port}"


@pytest.fixture(scope="session")
def client_settings(
    quiet: dict[str, str], s3: dict[str, str], prefect_api: dict[str, str], mlflow_uri: str
) -> dict[str, str]:
    """The environment of workers and of whoever deploys."""
    return quiet | s3 | prefect_api | {"MLFLOW_TRACKING_URI": mlflow_uri}


@pytest.fixture(scope="session")
def command(client_settings: dict[str, str]) -> Command:
    """A function that runs a program in a folder to its end and returns its exit code and output."""

    def run(folder: Path, *arguments: str | Path, **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            arguments, cwd=folder, env=client_settings | settings, capture_output=True, text=True, check=False
        )

    return run


@pytest.fixture(scope="session")
def origin(tmp_path_factory: pytest.TempPathFactory, s3: dict[str, str], command: Command) -> Path:
    """A bare Git repository: this working tree with the tiny profile as its params and a DVC remote on S3."""
    folder = tmp_path_factory.mktemp("origin")
    tree, bare = folder / "tree", folder / "regionclip.git"
    tree.mkdir()
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, tree / name)
    (tree / "params.yaml").write_text(profile_text("tiny"))
    for arguments in (
        ("git", "init", "--quiet", "-b", "main"),
        ("dvc", "init", "--quiet"),
        ("dvc", "remote", "add", "--quiet", "--default", "storage", "s3://dvc/store"),
        ("dvc", "remote", "modify", "storage", "endpointurl", s3["AWS_ENDPOINT_URL"]),
        ("git", "add", "."),
        ("git", *IDENTITY, "commit", "--quiet", "-m", "The pipeline on tiny params"),
        ("git", "clone", "--quiet", "--bare", str(tree), str(bare)),
    ):
        done = command(tree, *arguments)
        assert done.returncode == 0, done.stderr
    return bare


@pytest.fixture(scope="session")
def clone(origin: Path, command: Command) -> Callable[..., Path]:
    """A function that clones the origin, or a branch of it, into a folder."""

    def make(folder: Path, branch: str = "main") -> Path:
        made = command(origin.parent, "git", "clone", "--quiet", "--branch", branch, str(origin), str(folder))
        assert made.returncode == 0, made.stderr
        return folder

    return make


@pytest.fixture(scope="session")
def worker_settings(client_settings: dict[str, str], origin: Path, deployed: Path) -> dict[str, str]:
    """The environment of a worker that clones the origin for each run; ``deployed`` stands for the installed code."""
    return client_settings | {"REGIONCLIP_REPOSITORY": origin.as_uri(), "PYTHONPATH": str(deployed)}


@pytest.fixture(scope="session")
def worker(worker_settings: dict[str, str], logs: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process worker of the pool gpu."""
    start = (PROGRAMS / "prefect", "worker", "start", "--pool", "gpu", "--type", "process")
    with running(*start, log=logs / "worker.log", settings=worker_settings) as process:
        yield process


@pytest.fixture(scope="session")
def deployed(tmp_path_factory: pytest.TempPathFactory, clone: Callable[..., Path], command: Command) -> Path:
    """A checkout from which everything has been deployed to the servers."""
    folder = clone(tmp_path_factory.mktemp("deployer") / "checkout")
    done = command(folder, sys.executable, "-m", "flows.deploy", PYTHONPATH=str(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def _basic(secret: str) -> str:
    import base64

    return f"Basic {base64.b64encode(secret.encode()).decode()}"
