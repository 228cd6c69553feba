"""The graph is read from dvc.yaml; the project's own graph keeps the rules of the design."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from regionclip.errors import InputError
from regionclip.params import load_params
from regionclip.stages.graph import read_stage

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
      deps: ["data/${item}", artifacts/pretrain]
"""
DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
SETS = load_params(ROOT / "params.yaml").data.sets
STAGES = {name: stage for name, stage in DVC.items() if not name.startswith("raw")}  # with a module of their own
ALL = [(name, item) for name, stage in STAGES.items() for item in (SETS if "foreach" in stage else [None])]


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    path = tmp_path / "dvc.yaml"
    path.write_text(GRAPH)
    return path


def _closure(name: str, item: str | None) -> set[str]:
    """All files that a stage can learn from, through the stages before it."""
    outs = {}
    for stage, member in ALL:
        body = DVC[stage].get("do", DVC[stage])
        for out in (*body.get("outs", []), *body.get("metrics", [])):
            text = next(iter(out)) if isinstance(out, dict) else out
            outs[text.replace("${item}", member or "")] = (stage, member)
    seen: set[str] = set()
    waiting = [(name, item)]
    while waiting:
        for dep in read_stage(*waiting.pop(), path=ROOT / "dvc.yaml").deps:
            if dep.as_posix() not in seen:
                seen.add(dep.as_posix())
                waiting += [made for out, made in outs.items() if f"{dep}/".startswith(f"{out}/")]
                waiting += [made for out, made in outs.items() if out.startswith(f"{dep}/")]
    return seen


def test_plain_stage(graph: Path) -> None:
    stage = read_stage("teacher", path=graph)
    assert stage.name == "teacher" and stage.params == ("seed", "teacher.schedule")
    assert stage.deps == (Path("data/pairs"), Path("src/teacher.py"))


def test_item_of_a_foreach_stage(graph: Path) -> None:
    stage = read_stage("finetune", "lvis", graph)
    assert stage.name == "finetune@lvis" and stage.params == ("finetune.lvis",)
    assert stage.deps == (Path("data/lvis"), Path("artifacts/pretrain"))


def test_items_may_stand_in_the_params(graph: Path) -> None:
    graph.write_text(GRAPH.replace("[coco, lvis]", "${data.sets}"))
    params = (ROOT / "tests/tiny.yaml").read_text()
    params = params.replace("sets: [coco, lvis]", "sets: [lvis]").replace("dataset: coco", "dataset: lvis")
    graph.with_name("params.yaml").write_text(params)
    assert read_stage("finetune", "lvis", graph).name == "finetune@lvis"
    with pytest.raises(InputError, match="no such item 'coco'. To mend: items are lvis"):
        read_stage("finetune", "coco", graph)
    graph.with_name("params.yaml").write_text("sets: [")
    with pytest.raises(InputError, match="not YAML"):
        read_stage("finetune", "coco", graph)


def test_outputs_are_paths_with_or_without_settings(graph: Path) -> None:
    text = GRAPH.replace("    deps: [data/pairs, src/teacher.py]", "    outs: [artifacts/a, {b.json: {cache: false}}]")
    graph.write_text(text)
    assert read_stage("teacher", path=graph).outs == (Path("artifacts/a"), Path("b.json"))


def test_values_are_the_params_it_depends_on_and_no_others(graph: Path) -> None:
    params = {"seed": 3, "teacher": {"schedule": {"iterations": 5}, "source": "train"}, "rpn": {}}
    assert read_stage("teacher", path=graph).values(params) == {"seed": 3, "teacher.schedule": {"iterations": 5}}


def test_unknown_stage_item_and_file_are_named(graph: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such stage. To mend: stages are teacher, finetune") as caught:
        read_stage("rpn", path=graph)
    assert caught.value.key == "rpn" and caught.value.file == graph
    for item in ("voc", None):
        with pytest.raises(InputError, match="no such item .* items are coco, lvis"):
            read_stage("finetune", item, graph)
    with pytest.raises(InputError, match="does not exist"):
        read_stage("rpn", path=tmp_path / "none.yaml")


@pytest.mark.parametrize(("name", "item"), ALL)
def test_params_and_code_that_dvc_yaml_names_are_there(name: str, item: str | None) -> None:
    stage = read_stage(name, item, ROOT / "dvc.yaml")
    assert len(stage.values(load_params(ROOT / "params.yaml").model_dump(mode="json"))) == len(stage.params) > 0
    code = [dep for dep in stage.deps if dep.parts[0] == "regionclip"]
    assert Path(f"regionclip/stages/{name}.py") in code and all((ROOT / dep).exists() for dep in code)


def test_true_boxes_of_the_scenes_are_read_by_the_measurement_only() -> None:
    readers = {
        name for name, item in ALL if Path("data/scenes_truth") in read_stage(name, item, ROOT / "dvc.yaml").deps
    }
    assert readers == {"pseudo_labels"}


@pytest.mark.parametrize(("name", "item"), [pair for pair in ALL if pair[0] not in ("data", "check_data")])
def test_nothing_runs_before_the_gate_on_data(name: str, item: str | None) -> None:
    assert "reports/checks/check_data.json" in _closure(name, item)


@pytest.mark.parametrize("name", ["pretrain", "zero_shot", "report"])
def test_pretraining_waits_for_the_gate_on_pseudo_labels(name: str) -> None:
    assert "reports/checks/check_pseudo_labels.json" in _closure(name, None)
    assert "reports/checks/check_pseudo_labels.json" not in _closure("rpn", None)


def test_runtime_settings_are_no_params() -> None:
    text = (ROOT / "params.yaml").read_text()
    assert not any(word in text for word in ("device", "workers:", "precision", "mlflow"))
