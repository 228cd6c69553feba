"""The graph is read from dvc.yaml; the project's own graph keeps the rules of the design."""

from __future__ import annotations

from pathlib import Path

import pytest

from regionclip import artifacts
from regionclip.errors import InputError
from regionclip.params import load_params
from regionclip.stages.graph import read_graph, read_stage

ROOT = Path(__file__).parents[2]
GRAPH = """
stages:
  teacher:
    cmd: regionclip teacher
    params: [seed, teacher.schedule]
    deps: [data/pairs, src/teacher.py]
  finetune:
    foreach: [coco, lvis]
    do:
      cmd: regionclip finetune --dataset ${item}
      params: ["finetune.${item}"]
      deps: ["data/sets/${item}", artifacts/pretrain]
"""
OWN = read_graph(ROOT)
ALL = [name for name in OWN if not name.startswith("raw")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "dvc.yaml").write_text(GRAPH)
    return tmp_path


def _closure(name: str) -> set[str]:
    """All files that a stage can learn from, through the stages before it."""
    seen: set[str] = set()
    waiting = [OWN[name]]
    while waiting:
        stage = waiting.pop()
        seen.update(stage.deps)
        waiting += [OWN[need] for need in stage.needs]
    return seen


def test_plain_stage(folder: Path) -> None:
    stage = read_stage("teacher", root=folder)
    assert stage.name == "teacher" and stage.params == ("seed", "teacher.schedule")
    assert stage.deps == ("data/pairs", "src/teacher.py")


def test_item_of_a_foreach_stage(folder: Path) -> None:
    stage = read_stage("finetune", "lvis", folder)
    assert stage.name == "finetune@lvis" and stage.params == ("finetune.lvis",)
    assert stage.deps == ("data/sets/lvis", "artifacts/pretrain")


def test_items_may_stand_in_the_params(folder: Path) -> None:
    (folder / "dvc.yaml").write_text(GRAPH.replace("[coco, lvis]", "${data.sets}"))
    (folder / "params.yaml").write_text("data: {sets: [lvis]}")
    assert read_stage("finetune", "lvis", folder).name == "finetune@lvis"
    with pytest.raises(InputError, match="no such item 'coco'. To mend: items are lvis"):
        read_stage("finetune", "coco", folder)
    (folder / "params.yaml").write_text("sets: [")
    with pytest.raises(InputError, match="params.yaml"):
        read_stage("finetune", "coco", folder)


def test_what_git_keeps_is_told_from_what_dvc_keeps(folder: Path) -> None:
    text = GRAPH.replace("    deps: [data/pairs, src/teacher.py]", "    outs: [artifacts/a, {b.json: {cache: false}}]")
    (folder / "dvc.yaml").write_text(text)
    stage = read_stage("teacher", root=folder)
    assert stage.outs == ("artifacts/a",) and stage.reports == ("b.json",)


def test_values_are_the_params_it_depends_on_and_no_others(folder: Path) -> None:
    params = {"seed": 3, "teacher": {"schedule": {"iterations": 5}, "source": "train"}, "rpn": {}}
    stage = read_stage("teacher", root=folder)
    assert stage.values(params) == {"seed": 3, "teacher.schedule": {"iterations": 5}}


def test_unknown_stage_item_and_file_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such stage. To mend: stages are teacher, finetune") as caught:
        read_stage("rpn", root=folder)
    assert caught.value.key == "rpn" and caught.value.file == folder / "dvc.yaml"
    for item in ("voc", None):
        with pytest.raises(InputError, match="no such item .* items are coco, lvis"):
            read_stage("finetune", item, folder)
    with pytest.raises(InputError, match="does not exist"):
        read_stage("rpn", root=tmp_path / "none")


def test_reading_needs_no_repository_and_leaves_nothing(folder: Path) -> None:
    read_graph(folder)
    assert [path.name for path in folder.iterdir()] == ["dvc.yaml"]


@pytest.mark.parametrize("name", ALL)
def test_params_and_code_that_dvc_yaml_names_are_there(name: str) -> None:
    stage = OWN[name]
    assert len(stage.values(load_params(ROOT / "params.yaml").model_dump(mode="json"))) == len(stage.params) > 0
    code = [dep for dep in stage.deps if dep.startswith("regionclip/")]
    assert f"regionclip/stages/{name.partition('@')[0]}.py" in code and all((ROOT / dep).exists() for dep in code)


def test_paths_of_artifacts_are_those_of_dvc_yaml() -> None:
    """Each constant is written by a stage, lies in what one writes, or holds it; and each output has its constant."""
    written = {Path(path) for stage in OWN.values() for path in (*stage.outs, *stage.reports)}
    named = {value for value in vars(artifacts).values() if isinstance(value, Path)}
    logged = {artifacts.REJECTED, artifacts.DATA_DOCS}  # Git and DVC know neither
    for path in named - logged:
        assert any(path == out or path in out.parents or out in path.parents for out in written), path
    for out in written:
        near = named - {artifacts.REPORTS}
        assert any(path == out or path in out.parents or out in path.parents for path in near), out
    for name, stage in OWN.items():
        assert stage.sidecar or name.startswith(("raw", "report")), name
        metrics = [path for path in stage.reports if Path(path).parent == artifacts.METRICS]
        assert metrics in ([], [artifacts.metrics(name).as_posix()])


def test_true_boxes_of_the_scenes_are_read_by_the_measurement_only() -> None:
    assert {name for name in ALL if "data/scenes_truth" in OWN[name].deps} == {"pseudo_labels"}


@pytest.mark.parametrize("name", [name for name in ALL if name not in ("data", "check_data")])
def test_nothing_runs_before_the_gate_on_data(name: str) -> None:
    assert artifacts.verdict("check_data").as_posix() in _closure(name)


@pytest.mark.parametrize("name", ["pretrain", "zero_shot@coco", "report"])
def test_pretraining_waits_for_the_gate_on_pseudo_labels(name: str) -> None:
    assert artifacts.verdict("check_pseudo_labels").as_posix() in _closure(name)
    assert artifacts.verdict("check_pseudo_labels").as_posix() not in _closure("rpn")


def test_runtime_settings_are_no_params() -> None:
    text = (ROOT / "params.yaml").read_text()
    assert not any(word in text for word in ("device", "workers:", "precision", "mlflow"))
