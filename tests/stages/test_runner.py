"""Whatever a stage does, the runner times it, records it and keeps its endings apart."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from regionclip.errors import InputError, Interrupted
from regionclip.files import read_json
from regionclip.stages.inputs import read_inputs
from regionclip.stages.runner import StageContext, run_stage
from tests.conftest import profile_yaml

GRAPH = """
stages:
  probe:
    foreach: [coco]
    do:
      cmd: regionclip probe
      params: [seed, pretrain.losses]
      deps: [data/in.txt, code.py]
      outs: ["artifacts/runs/probe_${item}.json"]
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of an MLflow store for all tests of this module."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: str) -> Path:
    """A pipeline of one stage, in the current folder."""
    (tmp_path / "params.yaml").write_text(profile_yaml("tiny"))
    (tmp_path / "dvc.yaml").write_text(GRAPH)
    (tmp_path / "code.py").touch()
    (tmp_path / "data").mkdir()
    (tmp_path / "data/in.txt").write_text("in")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    return tmp_path


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[StageContext], Any]], None]:
    """A function that puts another function in the place of a stage's ``run``, and runs the stage."""

    def run(function: Callable[[StageContext], Any]) -> None:
        module = types.ModuleType("regionclip.stages.probe")
        module.run = function
        monkeypatch.setitem(sys.modules, "regionclip.stages.probe", module)
        run_stage("probe", "coco")

    return run


def _last_run(store: str) -> Run:
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("regionclip").experiment_id
    return client.search_runs([experiment], order_by=["attributes.start_time DESC"])[0]


def test_finished_stage_has_metrics_sidecar_and_run(project: Path, stage: Callable, store: str) -> None:
    seen: list[StageContext] = []

    def run(context: StageContext) -> dict[str, Any]:
        seen.append(context)
        context.scratch.mkdir(parents=True)
        (context.scratch / "state").touch()
        return {"rpn": {"ar": 0.5}, "undefined": None}

    stage(run)
    (context,) = seen
    losses = {"contrastive": 1.0, "distillation": 1.0, "image_text": 0.1}
    losses |= {"crop_distillation": 0.0, "classification": 0.0}
    inputs = read_inputs([Path("data/in.txt"), Path("code.py")])
    digest = inputs.digest({"seed": 0, "pretrain.losses": losses})
    assert context.digest == digest and context.dataset == "coco" and context.params.profile == "tiny"
    assert context.scratch == Path(".scratch/probe_coco") / digest[:16] and not context.scratch.exists()
    assert read_json("reports/metrics/probe_coco.json") == {"rpn": {"ar": 0.5}, "undefined": None}
    done = _last_run(store)
    sidecar = read_json("artifacts/runs/probe_coco.json")
    assert sidecar["stage"] == "probe@coco" and sidecar["digest"] == digest and sidecar["seconds"] >= 0
    assert sidecar["run_id"] == done.info.run_id and done.info.status == "FINISHED"
    assert done.data.metrics["rpn/ar"] == 0.5 and done.data.tags["stage.digest"] == digest
    assert [item.dataset.name for item in done.inputs.dataset_inputs] == ["data/in.txt"], "code is no data set"


def test_stage_without_metrics_writes_none(project: Path, stage: Callable) -> None:
    stage(lambda context: None)
    assert not Path("reports").exists() and Path("artifacts/runs/probe_coco.json").exists()


@pytest.mark.parametrize(
    ("error", "status"), [(InputError("bad"), "FAILED"), (Interrupted(), "KILLED"), (KeyboardInterrupt(), "KILLED")]
)
def test_stage_that_stops_keeps_its_scratch_and_writes_nothing(
    project: Path, stage: Callable, store: str, error: BaseException, status: str
) -> None:
    def run(context: StageContext) -> None:
        context.scratch.mkdir(parents=True)
        raise error

    with pytest.raises(type(error)):
        stage(run)
    assert _last_run(store).info.status == status
    assert len(list(Path(".scratch/probe_coco").iterdir())) == 1
    assert not Path("reports").exists() and not Path("artifacts").exists()


@pytest.mark.parametrize(
    ("file", "content"), [("data/in.txt", "other"), ("code.py", "other"), ("params.yaml", "image_text: 0.3")]
)
def test_digest_follows_params_inputs_and_code(project: Path, stage: Callable, file: str, content: str) -> None:
    digests = []
    stage(lambda context: digests.append(context.digest))
    before = Path(file).read_text()
    Path(file).write_text(before.replace("image_text: 0.1", content) if file == "params.yaml" else content)
    stage(lambda context: digests.append(context.digest))
    assert digests[0] != digests[1]


def test_other_params_do_not_change_the_digest(project: Path, stage: Callable) -> None:
    digests = []
    stage(lambda context: digests.append(context.digest))
    params = Path("params.yaml")
    params.write_text(params.read_text().replace("minimum_count: 2", "minimum_count: 3"))
    stage(lambda context: digests.append(context.digest))
    assert digests[0] == digests[1]


def test_absent_input_stops_before_a_run_is_opened(project: Path, stage: Callable) -> None:
    Path("data/in.txt").unlink()
    with pytest.raises(InputError, match=r"data/in\.txt: the input does not exist.*`dvc repro probe@coco`"):
        stage(lambda context: pytest.fail("it ran"))


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("params.yaml", "image_text: 0.1", "image_text: 0.3", r"params\.yaml, key 'pretrain\.losses'"),
        ("code.py", "", "other", r"code\.py"),
        ("data/in.txt", "in", "ni", r"data/in\.txt"),
    ],
)
def test_what_changes_while_a_stage_runs_makes_no_result(
    project: Path, stage: Callable, file: str, old: str, new: str, said: str
) -> None:
    before = Path(file).read_text()

    def run(context: StageContext) -> dict[str, Any]:
        context.scratch.mkdir(parents=True)
        Path(file).write_text(before.replace(old, new))
        return {"ap": 0.5}

    with pytest.raises(InputError, match=f"{said}: changed while the stage probe@coco ran"):
        stage(run)
    assert not Path("reports").exists() and not Path("artifacts").exists(), "no metrics, no sidecar"
    assert list(Path(".scratch/probe_coco").iterdir()), "what it began with can be taken up again"


def test_params_that_the_stage_does_not_depend_on_may_change_while_it_runs(project: Path, stage: Callable) -> None:
    params = Path("params.yaml")
    stage(
        lambda context: params.write_text(params.read_text().replace("minimum_count: 2", "minimum_count: 3")) and None
    )
    assert Path("artifacts/runs/probe_coco.json").exists()
