"""What dvc.yaml says of a stage: the params and files that decide its result. The graph is written once, there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from regionclip.errors import InputError
from regionclip.params import load_params


@dataclass(frozen=True)
class StageDefinition:
    """One stage of dvc.yaml.

    Attributes:
        name: DVC's name, such as ``finetune@coco``.
        params: Keys of params.yaml that the stage depends on, dotted.
        deps: Files and folders that the stage depends on.
        outs: Files and folders that it writes, metrics apart.
    """

    name: str
    params: tuple[str, ...]
    deps: tuple[Path, ...]
    outs: tuple[Path, ...]

    def values(self, params: dict[str, Any]) -> dict[str, Any]:
        """Pick the stage's params out of the whole of params.yaml."""
        picked = {}
        for key in self.params:
            value: Any = params
            for part in key.split("."):
                value = value[part]
            picked[key] = value
        return picked


def read_stage(name: str, item: str | None = None, path: str | Path = "dvc.yaml") -> StageDefinition:
    """Read the definition of a stage from dvc.yaml.

    Args:
        name: The stage's name without its item.
        item: The item of a ``foreach`` stage, such as ``coco``.
        path: The file.

    Raises:
        InputError: There is no such file, stage or item.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("the file does not exist", file=path, mend="run from the folder that holds dvc.yaml")
    stages = yaml.safe_load(path.read_text(encoding="utf-8")).get("stages", {})
    if name not in stages:
        raise InputError("no such stage", file=path, key=name, mend=f"stages are {', '.join(stages)}")
    body, full = stages[name], name
    if "foreach" in body:
        items = _items(body["foreach"], path)
        if item not in items:
            raise InputError(f"no such item {item!r}", file=path, key=name, mend=f"items are {', '.join(items)}")
        body, full = body["do"], f"{name}@{item}"
    params = tuple(_fill(key, item) for key in body.get("params", []))
    deps = tuple(Path(_fill(dep, item)) for dep in body.get("deps", []))
    # An output with settings is a mapping of its path to them.
    outs = tuple(Path(_fill(out if isinstance(out, str) else next(iter(out)), item)) for out in body.get("outs", []))
    return StageDefinition(full, params, deps, outs)


def _items(foreach: list[str] | str, path: Path) -> list[str]:
    """Return the items of a ``foreach``: a list, or ``${a.b}``, which DVC takes from params.yaml beside its file."""
    if isinstance(foreach, list):
        return foreach
    value = load_params(path.with_name("params.yaml")).model_dump()
    for part in foreach.removeprefix("${").removesuffix("}").split("."):
        value = value[part]
    return value


def _fill(text: str, item: str | None) -> str:
    return text.replace("${item}", item) if item else text
