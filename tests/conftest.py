"""What all tests share: a tiny CLIP and demo world on disk, interrupts, and a registry scope that no test leaves."""

from __future__ import annotations

import fcntl
import gc
import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

import regionclip  # noqa: F401  (before a test imports MMDetection: it lets mmcv-lite's operators be found)
from regionclip.params import Params, check_params
from regionclip.params.data import DemoWorld
from regionclip.workspace.profiles import compose_profile, profile_text, profile_titles
from tests import warm

if TYPE_CHECKING:
    from mlflow import MlflowClient

# How long an example takes says more of the machine than of the code; and examples may share a folder.
_UNCHECKED = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
settings.register_profile("any machine", deadline=None, suppress_health_check=_UNCHECKED)
settings.load_profile("any machine")

TINY_CLIP: dict[str, Any] = {
    "embed_dim": 32,
    "quick_gelu": True,
    "vision_cfg": {"layers": [1, 1, 1, 1], "width": 16, "image_size": 64},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


TINY = {
    "pair_size": 64,
    "scene_size": 192,
    "pairs_train": 12,
    "pairs_val": 4,
    "scenes": 24,
    "coco_train": 16,
    "coco_dev": 8,
    "coco_val": 10,
    "lvis_train": 40,
    "lvis_dev": 20,
    "lvis_val": 24,
    "objects_per_scene": (2, 6),
    "object_size": (28, 64),
    "distractors": (0, 3),
    "jpeg_quality": 92,
    "lvis_frequency_factor": 0.2,
}


DEMO_SETS = {"coco": "coco", "lvis": "lvis"}  # name -> format, below ``sets/``

# With `--no-loadscope-reorder`, pytest-xdist deals tests and groups out in the order in which it finds them.
LONGEST = ("tests/pipeline/test_repro", "tests/flows", "tests/pipeline", "tests/distributed", "tests/recovery")

PAPER_PROFILES = sorted(set(profile_titles()) - {"demo", "tiny", "tiny_vit"})


_composed, profile_yaml = cache(compose_profile), cache(profile_text)


def profile_values(name: str) -> dict[str, Any]:
    """The values of a profile, for the test to change."""
    return deepcopy(_composed(name))


@cache
def profile_params(name: str) -> Params:
    """A profile, composed and checked."""
    return check_params(_composed(name), name)


# First, because xdist writes the groups that it finds into the names of the tests.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep tests that share a fixture of their module in one process, where several run, so that it is made once.

    Those that take minutes come first, so that processes end together.
    """
    items.sort(key=lambda item: [long not in item.nodeid for long in LONGEST])
    for item in items:
        fixtures = (made for found in item._fixtureinfo.name2fixturedefs.values() for made in found)
        if not item.get_closest_marker("xdist_group") and any(made.scope == "module" for made in fixtures):
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))


def pytest_collection_finish() -> None:
    """Leave what was imported out of every later garbage collection: MMDetection's data sets ask for a whole one."""
    warm.skip_metafiles()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def interrupts_reach_programs() -> Iterator[None]:
    """pytest-xdist and a shell's background ignore SIGINT, and programs that tests start would inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def registry_scope_of_its_own() -> Iterator[None]:
    """A Runner leaves its default scope and its log's file behind; no test may depend on another's.

    uvicorn closes the files of all logs, and MMEngine writes to a closed one.
    """
    yield
    if "mmengine" in sys.modules:
        from mmengine.logging import MMLogger
        from mmengine.registry import DefaultScope

        DefaultScope._instance_dict.clear()
        for log in MMLogger._instance_dict.values():
            for handler in [one for one in log.handlers if isinstance(one, logging.FileHandler)]:
                log.removeHandler(handler)
                handler.close()


def _made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that all processes of a run share; the first that needs it makes it."""
    root = factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    with (root / f"{name}.lock").open("a+") as made:
        fcntl.flock(made, fcntl.LOCK_EX)
        if not made.seek(0, os.SEEK_END):
            (root / name).mkdir()
            make(root / name)
            made.write("made")
    return root / name


@pytest.fixture(scope="session")
def clip_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP folder with random weights; norms have statistics of their own, so that a mix-up shows."""
    import torch

    from regionclip.checkpoints.clip_folder import build_clip, save_clip

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_clip(TINY_CLIP)
        for module in model.visual.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
                torch.nn.init.uniform_(module.running_var, 0.8, 1.2)
                torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    path = tmp_path_factory.mktemp("clip") / "clip"
    save_clip(path, TINY_CLIP, model.state_dict(), {"stage_digest": "0" * 64})
    return path


@pytest.fixture(scope="session")
def tiny_spec() -> DemoWorld:
    """Sizes of the tiny world."""
    return DemoWorld(**TINY)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, tiny_spec: DemoWorld) -> Path:
    """The folder ``data`` of a tiny world, seed 0, its detection sets in ``sets/``; tests must not change it."""
    from regionclip.demo_world.build import build_demo_world

    def build(folder: Path) -> None:
        build_demo_world(folder / "data", tiny_spec, seed=0, workers=1, sets=DEMO_SETS)

    return _made_once(tmp_path_factory, "world", build) / "data"


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated MLflow database without runs, to copy; making one takes seconds."""
    from regionclip.tracking.store import connect

    def migrate(folder: Path) -> None:
        connect(f"sqlite:///{folder}/mlflow.db").search_experiments()

    return _made_once(tmp_path_factory, "mlflow", migrate) / "mlflow.db"


@pytest.fixture
def client(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """A client of the store that a stage uses in an empty working folder."""
    from regionclip.tracking.store import connect, tracking_uri

    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "REGIONCLIP_PARENT_RUN_ID", "PREFECT__FLOW_RUN_ID", "REGIONCLIP_FLOW_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "mlruns").mkdir()
    shutil.copy(template, tmp_path / "mlruns" / "mlflow.db")
    return connect(tracking_uri())
