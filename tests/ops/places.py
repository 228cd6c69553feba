"""A place of the tests of kills: a checkout with four small stages, its deployment, and a pool of its own.

`prepare`; `side` and `train`, which need it; `report`, which needs both. `train` has five steps, keeps each in scratch,
and waits after the third for a file to go.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from uuid import UUID

import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from flows.checkout import WORKTREE
from tests.ops.conftest import IDENTITY, PROGRAMS, ROOT, running, wait_until

SOON = 180.0  # seconds for what takes a few on an idle machine
STEP = """
import pathlib, sys
name, *deps = sys.argv[1:]
pathlib.Path(f"{name}.txt").write_text(name + "".join(pathlib.Path(f"{dep}.txt").read_text() for dep in deps))
with open("ran.log", "a") as log:
    print(name, file=log)
"""
TRAIN = """
import pathlib, sys, time
point = pathlib.Path(".scratch/train/step")
point.parent.mkdir(parents=True, exist_ok=True)
step = int(point.read_text()) if point.exists() else 0
try:
    while step < 5:
        while step == 3 and pathlib.Path("hold").exists():
            time.sleep(0.1)
        step += 1
        beside = point.with_suffix(".new")
        beside.write_text(str(step))
        beside.replace(point)
        with open("steps.log", "a") as log:
            print(step, file=log)
except KeyboardInterrupt:
    sys.exit(4)
"""
TRACKED = """
import pathlib, time
from regionclip.tracking.tracker import track
with track("train", {"seed": 1}, {}, profile="mini") as tracker:
    for step in range(1, 6):
        while step == 4 and pathlib.Path("hold").exists():
            time.sleep(0.1)
        tracker.log_metrics({"loss": 1 / step}, step=step)
        with open("steps.log", "a") as log:
            print(step, file=log)
"""
THEN = "\nimport runpy, sys\nsys.argv = ['step.py', 'train', 'prepare']\nrunpy.run_path('step.py')\n"
STAGES = {
    "prepare": {"cmd": "python step.py prepare", "outs": ["prepare.txt"]},
    "side": {"cmd": "python step.py side prepare", "deps": ["prepare.txt"], "outs": ["side.txt"]},
    "train": {"cmd": "python train.py", "deps": ["prepare.txt"], "outs": ["train.txt"]},
    "report": {"cmd": "python step.py report side train", "deps": ["side.txt", "train.txt"], "outs": ["report.txt"]},
}
# As the deployments of the repository have them.
JOB_VARIABLES = yaml.safe_load((ROOT / "prefect.yaml").read_text())["definitions"]["patient"]


class Place:
    """A checkout with a deployment of the pipeline, one run at a time, and a pool of the folder's name.

    Args:
        folder: The checkout.
        settings: Environment of its worker and commands.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self.folder, self.name = folder, folder.name
        self.settings = dict(settings) | {
            "REGIONCLIP_WORKSPACE": str(folder),
            "PYTHONPATH": str(ROOT),  # stands for the installed code
            "PREFECT_WORKER_QUERY_SECONDS": "2",
        }

    def command(self, *arguments: str | Path) -> str:
        """Run a program in the checkout to its good end; return its output."""
        done = subprocess.run(
            arguments, cwd=self.folder, env=self.settings, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextlib.contextmanager
    def client(self) -> Iterator[SyncPrefectClient]:
        """A client of the server."""
        updates = {setting: self.settings[setting.name] for setting in (PREFECT_API_URL, PREFECT_API_AUTH_STRING)}
        with temporary_settings(updates), get_client(sync_client=True) as client:
            yield client

    def set_up(self, *, tracked: bool) -> None:
        """Write and commit the checkout; with ``tracked`` its training has a run in MLflow instead of a state."""
        shutil.copytree(ROOT / "flows", self.folder / "flows", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "prefect.yaml", self.folder)
        (self.folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": STAGES}))
        (self.folder / "step.py").write_text(STEP)
        (self.folder / "train.py").write_text((TRACKED if tracked else TRAIN) + THEN)
        (self.folder / ".gitignore").write_text("/*.log\n/*.txt\n/hold\n/.scratch\n/mlruns\n__pycache__\n")
        for shared in ("hold", "steps.log", "ran.log"):
            (self.folder / shared).touch()  # a run's worktree links what Git does not know
        for program in (("git", "init", "--quiet", "-b", "main"), ("dvc", "init", "--quiet"), ("git", "add", ".")):
            self.command(*program)
        self.command("git", *IDENTITY, "commit", "--quiet", "-m", "Four small stages")

    def deploy(self) -> None:
        """Make the pool and the deployment."""
        with self.client() as client:
            client.create_work_pool(WorkPoolCreate(name=self.name, type="process"))
        where = ("--name", self.name, "--pool", self.name, "--job-variable", json.dumps(JOB_VARIABLES))
        one = ("--concurrency-limit", "1", "--collision-strategy", "ENQUEUE")
        self.command("prefect", "--no-prompt", "deploy", "flows/pipeline.py:pipeline", *where, *one)

    def worker(self) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
        """A worker of the pool for as long as the block lasts."""
        start = (PROGRAMS / "prefect", "worker", "start", "--pool", self.name, "--type", "process")
        return running(*start, log=self.folder.with_suffix(".log"), settings=self.settings)

    def trigger(self, **job_variables: str) -> UUID:
        """Ask for a run."""
        with self.client() as client:
            deployment = client.read_deployment_by_name(f"pipeline/{self.name}")
            return client.create_flow_run_from_deployment(deployment.id, job_variables=job_variables).id

    def state(self, run: UUID) -> State:
        """Return the state that a run is in."""
        with self.client() as client:
            found = client.read_flow_run(run).state
        assert found is not None
        return found

    def end_of(self, run: UUID, seconds: float = SOON) -> State:
        """Wait for the end of a run."""
        wait_until(lambda: self.state(run).is_final(), seconds, f"a run of {self.name} ends")
        return self.state(run)

    def lines(self, log: str) -> list[str]:
        """Lines of ``steps.log`` or ``ran.log``."""
        path = self.folder / log
        return path.read_text().split() if path.exists() else []

    def recorded(self) -> set[str]:
        """Names of the stages that dvc.lock of the last run's worktree holds."""
        lock = self.folder / WORKTREE / "dvc.lock"
        return set((yaml.safe_load(lock.read_text()) or {}).get("stages", {})) if lock.exists() else set()

    def wait_for_training(self) -> None:
        """Wait until `train` is in its middle and what does not need it has ended."""

        def there() -> bool:
            return self.lines("steps.log") == ["1", "2", "3"] and {"prepare", "side"} <= self.recorded()

        wait_until(there, SOON, f"{self.name} trains")

    def release(self) -> None:
        """Let `train` go on."""
        (self.folder / "hold").unlink()

    def assert_each_done_once(self) -> None:
        """Every stage ran once and every step was made once; DVC finds nothing to do."""
        assert self.lines("steps.log") == ["1", "2", "3", "4", "5"]
        assert sorted(self.lines("ran.log")) == ["prepare", "report", "side", "train"]
        assert self.command("dvc", "status", "--json").strip() == "{}"
