"""The graph that the flow runs is the one that DVC's own commands show."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.pipeline import gathered, select
from regionclip.errors import InputError
from regionclip.stages.graph import read_graph

Command = Callable[..., subprocess.CompletedProcess[str]]
ROOT = Path(__file__).parents[2]
GPU = {"teacher", "rpn", "proposals", "pseudo_labels", "pretrain", "zero_shot", "pseudo_boxes", "finetune", "evaluate"}


@pytest.fixture
def own(tmp_path: Path, command: Command) -> Path:
    """A repository with the project's own dvc.yaml and nothing else."""
    folder = tmp_path / "own"
    folder.mkdir()
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, folder / name)
    command(folder, "dvc", "init", "--no-scm", "--quiet").check_returncode()
    return folder


def _edges_of_dvc(command: Command, folder: Path) -> set[tuple[str, str]]:
    """(stage, what needs it), as `dvc dag` prints them."""
    dot = command(folder, "dvc", "dag", "--dot")
    dot.check_returncode()
    return set(re.findall(r'"([^"]+)" -> "([^"]+)"', dot.stdout))


def _edges(folder: Path) -> set[tuple[str, str]]:
    return {(need, stage.name) for stage in read_graph(folder).values() for need in stage.needs}


def test_mini_graph_is_what_dvc_shows(repository: Path, command: Command) -> None:
    graph = read_graph(repository)
    listed = command(repository, "dvc", "stage", "list", "--name-only")
    assert sorted(graph) == sorted(listed.stdout.split()) == ["a", "b@x", "b@y", "c"]
    assert _edges(repository) == _edges_of_dvc(command, repository)
    assert graph["c"].needs == ("b@x", "b@y") and graph["c"].deps == ("out",)
    assert graph["a"].outs == ("a.txt",) and (graph["a"].params, graph["a"].deps) == (("seed",), ())
    assert [stage.limit for stage in graph.values()] == [None, "gpu", "gpu", None]


def test_own_graph_is_what_dvc_shows_and_in_order(own: Path, command: Command) -> None:
    graph = read_graph(own)
    assert _edges(own) == _edges_of_dvc(command, own) and len(_edges(own)) > 30
    names = list(graph)
    assert all(names.index(need) < names.index(stage.name) for stage in graph.values() for need in stage.needs)


def test_own_graph_says_what_takes_a_gpu_and_what_workers_share(own: Path) -> None:
    graph = read_graph(own)
    assert {stage.name.partition("@")[0] for stage in graph.values() if stage.limit == "gpu"} == GPU
    assert [stage.name for stage in graph.values() if stage.shards] == ["pseudo_labels"]
    assert graph["finetune@lvis"].sidecar == "artifacts/runs/finetune_lvis.json" and graph["report"].sidecar is None


def test_meta_is_not_hashed(repository: Path, command: Command) -> None:
    command(repository, "dvc", "repro", "--quiet").check_returncode()
    text = (repository / "dvc.yaml").read_text()
    (repository / "dvc.yaml").write_text(text.replace("limit: gpu", "limit: cpu\n        shards: true"))
    assert read_graph(repository)["b@x"].shards
    assert command(repository, "dvc", "status", "--json").stdout.strip() == "{}"


def test_targets_bring_what_they_need_and_nothing_else(repository: Path) -> None:
    graph = read_graph(repository)
    assert list(select(graph, ["b@y"])) == ["a", "b@y"]
    assert list(select(graph, ["b"])) == ["a", "b@x", "b@y"]
    assert select(graph, None) == select(graph, []) == graph
    with pytest.raises(InputError, match=r"key 'd': no such stage. To mend: stages are a, b@x, b@y, c"):
        select(graph, ["d"])


def test_outputs_read_through_their_folder_are_found(repository: Path, own: Path) -> None:
    assert gathered(read_graph(repository)) == ["out/x.txt", "out/y.txt"]
    found = gathered(read_graph(own))
    assert {"artifacts/runs/teacher.json", "artifacts/history/finetune_coco", "artifacts/evaluate/lvis"} <= set(found)
    assert "artifacts/teacher" not in found and not any(path.startswith("reports/") for path in found)


def test_broken_dvc_yaml_is_named(repository: Path) -> None:
    (repository / "dvc.yaml").write_text("stages: {a: {command: x}}\n")
    with pytest.raises(InputError, match=r"dvc.yaml: DVC cannot read the graph"):
        read_graph(repository)
