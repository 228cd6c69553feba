"""The graph of dvc.yaml as Prefect needs it: each stage, what it needs, and where it may run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.stage import PipelineStage

from regionclip.errors import InputError

SIDECARS = "artifacts/runs"


@dataclass(frozen=True)
class Stage:
    """One stage of dvc.yaml.

    Attributes:
        name: DVC's name, such as ``finetune@coco``.
        cmd: Its command.
        needs: Names of the stages whose outputs it reads.
        deps: Paths that it reads, from the repository's root; params.yaml where it has params.
        outs: Paths that it writes and DVC keeps.
        reports: Paths that it writes and Git keeps.
        limit: Prefect's global concurrency limit that it takes a slot of (``meta: {limit: gpu}``), or None.
        shards: Whether several workers may share it (``meta: {shards: true}``).
    """

    name: str
    cmd: str
    needs: tuple[str, ...]
    deps: tuple[str, ...]
    outs: tuple[str, ...]
    reports: tuple[str, ...] = ()
    limit: str | None = None
    shards: bool = False

    @property
    def sidecar(self) -> str | None:
        """Path of the file among its outputs that names the MLflow run that made them."""
        return next((out for out in self.outs if out.startswith(f"{SIDECARS}/")), None)


def read_graph(root: str | Path) -> dict[str, Stage]:
    """Read the stages of a repository, each after those it needs.

    ``Repo.index.graph`` is not public in DVC, and used here only; tests hold it to what ``dvc dag`` and
    ``dvc stage list`` say.

    Raises:
        InputError: DVC cannot read its files.
    """
    try:
        with Repo(str(root)) as repo:
            graph = repo.index.graph
            # A stage has a name; what `dvc add` tracks has none, and nothing to run.
            stages = {
                stage.name: _describe(stage, list(graph.successors(stage)), repo)
                for stage in graph
                if isinstance(stage, PipelineStage)
            }
    except DvcException as error:
        raise InputError(f"DVC cannot read the graph ({error})", file=Path(root) / "dvc.yaml") from error
    return _in_order(stages, list(stages))


def select(graph: dict[str, Stage], targets: Sequence[str] | None, file: str | Path = "dvc.yaml") -> dict[str, Stage]:
    """Return the stages that ``dvc repro TARGETS`` would look at: the targets and all they need; None gives all.

    Args:
        graph: Of `read_graph`.
        targets: Names of stages; one without its item (``finetune``) means all items.
        file: Named in errors.

    Raises:
        InputError: There is no such stage.
    """
    if not targets:
        return dict(graph)
    chosen = []
    for target in targets:
        found = [name for name in graph if target in (name, name.partition("@")[0])]
        if not found:
            raise InputError("no such stage", file=file, key=target, mend=f"stages are {', '.join(graph)}")
        chosen += found
    return _in_order(graph, chosen)


def gathered(graph: dict[str, Stage]) -> list[str]:
    """Return outputs that another stage reads through the folder they lie in, and all sidecars.

    ``dvc repro --pull`` fetches a folder that is not there at all; of one that is there in part, it would take the
    part for the whole. So a fresh checkout has to have these first.
    """
    deps = {dep for stage in graph.values() for dep in stage.deps}
    outs = (out for stage in graph.values() for out in stage.outs)
    return [out for out in outs if any(out.startswith(f"{dep}/") for dep in (*deps, SIDECARS))]


def _describe(stage: PipelineStage, needs: list[PipelineStage], repo: Repo) -> Stage:
    meta = stage.meta or {}
    return Stage(
        name=stage.name,
        cmd=stage.cmd,
        needs=tuple(sorted(other.name for other in needs if isinstance(other, PipelineStage))),
        deps=_paths(stage.deps, repo),
        outs=_paths([out for out in stage.outs if out.use_cache], repo),
        reports=_paths([out for out in stage.outs if not out.use_cache], repo),
        limit=meta.get("limit"),
        shards=bool(meta.get("shards", False)),
    )


def _paths(items: list, repo: Repo) -> tuple[str, ...]:
    """Paths from the root; what is params or lies outside has none."""
    local = (Path(item.fs_path) for item in items if getattr(item, "fs_path", None) and item.protocol == "local")
    root = Path(repo.root_dir)
    return tuple(path.relative_to(root).as_posix() for path in dict.fromkeys(local) if path.is_relative_to(root))


def _in_order(graph: dict[str, Stage], names: Sequence[str]) -> dict[str, Stage]:
    """The named stages and all they need, depth first."""
    ordered: dict[str, Stage] = {}

    def visit(name: str) -> None:
        if name not in ordered:
            for need in graph[name].needs:
                visit(need)
            ordered[name] = graph[name]

    for name in names:
        visit(name)
    return ordered
