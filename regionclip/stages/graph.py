"""The graph of dvc.yaml as DVC itself reads it: what each stage runs, reads and writes, and where it may run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.dependency import ParamsDependency
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.repo.graph import build_graph
from dvc.stage import PipelineStage

from regionclip import artifacts
from regionclip.errors import InputError


@dataclass(frozen=True)
class Stage:
    """One stage of dvc.yaml."""

    name: str  # DVC's, such as finetune@coco
    cmd: str
    params: tuple[str, ...] = ()  # keys of params.yaml that it depends on, dotted
    deps: tuple[str, ...] = ()  # files and folders that it reads, from the folder of dvc.yaml
    outs: tuple[str, ...] = ()  # what it writes and DVC keeps
    reports: tuple[str, ...] = ()  # what it writes and Git keeps
    needs: tuple[str, ...] = ()  # names of the stages whose outputs it reads
    limit: str | None = None  # Prefect's global concurrency limit that it takes a slot of (meta: {limit: gpu})
    shards: bool = False  # whether several workers may share it (meta: {shards: true})

    @property
    def sidecar(self) -> str | None:
        """Path of the file among its outputs that names the MLflow run that made them; the report has none."""
        path = artifacts.sidecar(self.name).as_posix()
        return path if path in self.outs else None

    def values(self, params: dict[str, Any]) -> dict[str, Any]:
        """Pick the stage's params out of the whole of params.yaml."""
        picked = {}
        for key in self.params:
            value: Any = params
            for part in key.split("."):
                value = value[part]
            picked[key] = value
        return picked


def read_graph(root: str | Path = ".") -> dict[str, Stage]:
    """Read the stages of a folder's dvc.yaml by name, each after those it needs; it need be no repository of DVC.

    DVC gives its stages to Python only by what its own commands call; tests hold this to ``dvc dag`` and
    ``dvc stage list``.

    Raises:
        InputError: There is no dvc.yaml, or DVC cannot read it.
    """
    file = Path(root) / "dvc.yaml"
    if not file.is_file():
        raise InputError("the file does not exist", file=file, mend="run from the folder that holds dvc.yaml")
    try:
        with Repo(str(root), uninitialized=True) as repo:
            stages = repo.stage.load_all(str(file.absolute()))
            graph = build_graph(stages)
            described = {stage.name: _describe(stage, graph.successors(stage)) for stage in stages}
    except DvcException as error:
        raise InputError(f"DVC cannot read the graph ({error})", file=file) from error
    return in_order(described, described)


def read_stage(name: str, item: str | None = None, root: str | Path = ".") -> Stage:
    """Read one stage of a folder's dvc.yaml, by its name and, of a ``foreach`` stage, its item, such as ``coco``.

    Raises:
        InputError: There is no such file, stage or item.
    """
    graph, file = read_graph(root), Path(root) / "dvc.yaml"
    items = [stage.partition("@")[2] for stage in graph if stage.partition("@")[0] == name]
    if not items:
        known = ", ".join(dict.fromkeys(stage.partition("@")[0] for stage in graph))
        raise InputError("no such stage", file=file, key=name, mend=f"stages are {known}")
    if (item or "") not in items:
        raise InputError(f"no such item {item!r}", file=file, key=name, mend=f"items are {', '.join(items)}")
    return graph[f"{name}@{item}" if item else name]


def in_order(graph: dict[str, Stage], names: Iterable[str]) -> dict[str, Stage]:
    """Return the named stages and all they need, each after those it needs."""
    ordered: dict[str, Stage] = {}

    def visit(name: str) -> None:
        if name not in ordered:
            for need in graph[name].needs:
                visit(need)
            ordered[name] = graph[name]

    for name in names:
        visit(name)
    return ordered


def _describe(stage: PipelineStage, needs: Iterable[PipelineStage]) -> Stage:
    meta = stage.meta or {}
    params = [dep for dep in stage.deps if isinstance(dep, ParamsDependency)]
    return Stage(
        name=stage.name,
        cmd=stage.cmd,
        params=tuple(key for dep in params for key in dep.params),
        deps=tuple(dep.def_path for dep in stage.deps if dep not in params),
        outs=tuple(out.def_path for out in stage.outs if out.use_cache),
        reports=tuple(out.def_path for out in stage.outs if not out.use_cache),
        needs=tuple(sorted(other.name for other in needs)),
        limit=meta.get("limit"),
        shards=bool(meta.get("shards", False)),
    )
