"""What dvc.lock and the sidecars say of each stage, and what a pipeline run changed in them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from voluptuous import Invalid

from flows.dvc_graph import Stage
from regionclip.errors import InputError

LOCK, REPORTS = "dvc.lock", "reports"


@dataclass(frozen=True)
class Recorded:
    """What is recorded of a stage.

    Attributes:
        entry: Its part of dvc.lock: command, and hashes of params, dependencies and outputs; None before its first run.
        run_id: The MLflow run that made its outputs, by its sidecar; None when it is not there or names none.
        digest: The sidecar's digest.
    """

    entry: dict[str, Any] | None
    run_id: str | None
    digest: str | None

    def outs(self) -> dict[str, str]:
        """Path of each output to its hash."""
        return {out["path"]: out.get("md5", "") for out in (self.entry or {}).get("outs", [])}


def recorded(root: Path, graph: Mapping[str, Stage]) -> dict[str, Recorded]:
    """Read what is recorded of each stage; call it while no stage runs, as DVC writes dvc.lock in place.

    Raises:
        InputError: See `read_lock`.
    """
    entries = read_lock(root)
    return {name: Recorded(entries.get(name), *_sidecar(root, stage)) for name, stage in graph.items()}


def read_lock(root: Path) -> dict[str, Any]:
    """Return the stages of dvc.lock; none where it is not there.

    Raises:
        InputError: It was cut by a kill, or a merge left its marks.
    """
    file = root / LOCK
    if not file.exists():
        return {}
    try:
        return COMPILED_LOCKFILE_SCHEMA(yaml.safe_load(file.read_text(encoding="utf-8"))).get("stages", {})
    except (yaml.YAMLError, UnicodeDecodeError, Invalid) as error:
        problem = f"it is not what DVC writes ({' '.join(str(error).split())[:200]})"
        mend = f"`git checkout {LOCK}`; DVC finds in its cache what was made since"
        raise InputError(problem, file=file, mend=mend) from None


def changed_outputs(before: Mapping[str, Recorded], after: Mapping[str, Recorded]) -> list[tuple[str, str, str]]:
    """Return (stage, path, ``new``, ``changed`` or ``gone``) of every output whose hash is another one now."""
    changes = []
    for name in after:
        old, new = before[name].outs(), after[name].outs()
        for path in sorted(old.keys() | new.keys()):
            if old.get(path) != new.get(path):
                kind = "new" if path not in old else "gone" if path not in new else "changed"
                changes.append((name, path, kind))
    return changes


def _sidecar(root: Path, stage: Stage) -> tuple[str | None, str | None]:
    path = root / stage.sidecar if stage.sidecar else None
    if path is None or not path.exists():
        return None, None
    sidecar = json.loads(path.read_text(encoding="utf-8"))
    return sidecar.get("run_id"), sidecar.get("digest")
