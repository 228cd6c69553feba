"""The code that a stage imports or reads is among its dependencies in dvc.yaml, and hardly any other."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import grimp
import pytest

from regionclip.params.stages import DatasetFinetune
from regionclip.stages.graph import read_graph

ROOT = Path(__file__).parents[2]
GRAPH = read_graph(ROOT)
STAGES = list(dict.fromkeys(name.partition("@")[0] for name in GRAPH if not name.startswith("raw")))

# Left out on purpose: what these hold cannot change a result, and changes often.
LEFT_OUT = {
    "regionclip.errors": "messages",
    "regionclip.tracking": "records and shows what happened",
    "regionclip.params": "checks values; the values themselves are params of the stages",
    "regionclip.runtime": "where a stage runs, which never triggers a rebuild",
    "regionclip.files": "whole files, JSON and sums: what is written is the caller's",
    "regionclip.checkpoints.scratch": "where resumable state lies",
}
# Files that a module reads by path, which no import shows.
READ_BY_PATH = {
    "regionclip.models.assembly": "regionclip/models/configs",
    "regionclip.text.pattern_parser": "regionclip/text/pattern_parser.npz",
}
# What stands behind a package of others (regionclip/__init__.py).
BEHIND = {"mmcv": "regionclip.mmcv_ops", "mmdet": "regionclip.mmcv_ops"}


@cache
def _imports() -> grimp.ImportGraph:
    # Lazy imports count, those of type checkers do not.
    return grimp.build_graph(
        "regionclip", include_external_packages=True, exclude_type_checking_imports=True, cache_dir=None
    )


def _left_out(module: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in LEFT_OUT)


def module_file(module: str) -> Path:
    """The file of a module, from the root."""
    path = Path(*module.split("."))
    return path / "__init__.py" if (ROOT / path).is_dir() else path.with_suffix(".py")


def closure(stage: str) -> set[str]:
    """The modules that a stage imports, however deep, and the packages that hold them."""
    seen: set[str] = set()
    waiting = [f"regionclip.stages.{stage}"]
    while waiting:
        module = waiting.pop()
        module = BEHIND.get(module, module)
        if module not in seen and module.startswith("regionclip") and not _left_out(module):
            seen.add(module)
            waiting += [*_imports().find_modules_directly_imported_by(module), module.rpartition(".")[0] or module]
    return seen - {"regionclip"}


def _code(stage: str) -> list[Path]:
    definition = next(found for name, found in GRAPH.items() if name.partition("@")[0] == stage)
    return [Path(dep) for dep in definition.deps if dep.startswith("regionclip/")]


def _covers(deps: list[Path], path: Path) -> bool:
    return any(dep == path or dep in path.parents for dep in deps)


def _says_nothing(path: Path) -> bool:
    """Whether a package's own file is its docstring alone."""
    return path.name == "__init__.py" and not re.search(r"^(from|import) ", (ROOT / path).read_text(), re.M)


@pytest.mark.parametrize("stage", STAGES)
def test_dvc_yaml_names_all_code_that_a_stage_imports_or_reads(stage: str) -> None:
    deps, modules = _code(stage), closure(stage)
    files = {module_file(module) for module in modules} | {
        Path(read) for module, read in READ_BY_PATH.items() if module in modules
    }
    missing = sorted(path.as_posix() for path in files if not _covers(deps, path) and not _says_nothing(path))
    assert not missing, f"add to the deps of {stage} in dvc.yaml: {missing}"


@pytest.mark.parametrize("stage", STAGES)
def test_dvc_yaml_names_no_code_that_a_stage_does_not_use(stage: str) -> None:
    used = {module_file(module) for module in closure(stage)}
    for dep in _code(stage):
        if not _covers([Path(read) for read in READ_BY_PATH.values()], dep):
            inside = [dep] if dep.suffix else [path.relative_to(ROOT) for path in (ROOT / dep).rglob("[!_]*.py")]
            named = sorted(path.as_posix() for path in inside if path in used)
            assert len(named) >= len(inside) / 2, f"{stage}: {dep} is mostly unused; name the files {named}"


def test_all_settings_of_a_transfer_but_those_of_a_test_make_its_training_stale() -> None:
    place = "finetune.sets.coco."
    named = {key.removeprefix(place) for key in GRAPH["finetune@coco"].params if key.startswith(place)}
    assert named == DatasetFinetune.model_fields.keys() - {"fusion", "box_voting"}


def test_what_is_left_out_is_there() -> None:
    assert all((ROOT / module_file(module)).exists() for module in LEFT_OUT)


def test_every_module_that_reads_beside_itself_is_known() -> None:
    reading = {
        module
        for module in _imports().modules
        if module.startswith("regionclip.") and "__file__" in (ROOT / module_file(module)).read_text(encoding="utf-8")
    }
    of_stages = set.union(*(closure(stage) for stage in STAGES))
    assert reading & of_stages == set(READ_BY_PATH)
