"""What dvc.lock and the sidecars say of each stage, and what a pipeline run changed in them."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from dvc.repo import Repo
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from voluptuous import Invalid

from regionclip.artifacts import SIDECARS
from regionclip.errors import InputError
from regionclip.stages.graph import Stage
from regionclip.tracking.sidecar import read_sidecars

LOCK, REPORTS = "dvc.lock", "reports"
# As DVC writes them: path, hash, md5, size.
_SIDECAR = re.compile(rf"^ *- path: {SIDECARS}/.*\n(?: +\w+: .*\n)*? +md5: ([0-9a-f]{{32}})$", re.MULTILINE)


@dataclass(frozen=True)
class Recorded:
    """What is recorded of a stage in dvc.lock (``entry``, None before its first run) and in its sidecar."""

    entry: dict[str, Any] | None  # command, and hashes of params, dependencies and outputs
    run_id: str | None  # the MLflow run that made its outputs; None when it is not known
    digest: str | None  # of its params and inputs

    def outs(self) -> dict[str, str]:
        """Path of each output to its hash."""
        return {out["path"]: out.get("md5", "") for out in (self.entry or {}).get("outs", [])}


def recorded(root: Path, graph: Mapping[str, Stage]) -> dict[str, Recorded]:
    """Read what is recorded of each stage; call it while no stage runs, as DVC writes dvc.lock in place.

    Raises:
        InputError: See `read_lock` and `read_sidecars`.
    """
    entries, sidecars = read_lock(root), read_sidecars(root / SIDECARS)
    found = {}
    for name in graph:
        sidecar = sidecars.get(name, {})
        found[name] = Recorded(entries.get(name), sidecar.get("run_id"), sidecar.get("digest"))
    return found


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


def committed_runs(root: Path) -> set[str]:
    """Return the MLflow runs that the commits of all branches and tags name, by the sidecars in their dvc.lock.

    Raises:
        InputError: They cannot all be known here.
    """
    if git(root, "rev-parse", "HEAD").returncode:
        return set()
    mend = "run maintenance where the results are, or tag MLflow runs `keep`"
    if git(root, "rev-parse", "--is-shallow-repository").stdout.strip() == "true":
        raise InputError("the clone lacks older commits", file=root, mend="`git fetch --unshallow`")
    if git(root, "fetch", "--quiet", "--all", "--prune").returncode:
        raise InputError("the branches of the origin cannot be fetched, so what they name is not known", mend=mend)
    objects = git(root, "rev-list", "--all", "--objects").stdout.splitlines()
    locks = [line.split()[0] for line in objects if line.partition(" ")[2] == LOCK]
    texts = [git(root, "cat-file", "blob", blob).stdout for blob in locks]
    texts += [(root / LOCK).read_text(encoding="utf-8")] if (root / LOCK).exists() else []
    hashes = {found for text in texts for found in _SIDECAR.findall(text)}
    with Repo(str(root)) as repo:
        files = [Path(repo.cache.local.oid_to_path(found)) for found in sorted(hashes)]
    if absent := [file for file in files if not file.exists()]:
        problem = f"{len(absent)} sidecars that commits name are not in DVC's cache, so their runs are not known"
        raise InputError(problem, file=absent[0], mend=f"`dvc fetch --all-commits`, or {mend}")
    return {str(run) for file in files if (run := json.loads(file.read_text(encoding="utf-8"))["run_id"])}


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


def git(root: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run Git in a folder; it asks nobody for a password."""
    environment = os.environ | {"GIT_TERMINAL_PROMPT": "0"} | settings
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", timeout=300, check=False)
