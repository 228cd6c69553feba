"""What a stage's result comes from: its dependencies as DVC sums them, and the raw data that params name."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.exceptions import NotDvcRepoError
from dvc.fs import LocalFileSystem
from dvc.repo import Repo
from dvc_data.hashfile.build import build
from dvc_data.hashfile.db import HashFileDB
from dvc_data.hashfile.tree import Tree

from regionclip.artifacts import RAW
from regionclip.errors import InputError
from regionclip.files import read_json, write_json
from regionclip.params import Params

_PARAMS = Path("params.yaml")


@dataclass(frozen=True)
class Inputs:
    """What a stage reads."""

    sums: dict[str, str]  # dependency -> MD5, as dvc.lock has it (a folder's ends in .dir)
    files: dict[str, str]  # each file of the dependencies, and of the raw data behind them -> MD5

    def digest(self, values: dict[str, Any]) -> str:
        """Return a SHA-256 (hex) of a stage's params and inputs; their order does not matter."""
        content = {"params": values, "inputs": self.sums}
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_inputs(deps: Iterable[Path]) -> Inputs:
    """Sum the dependencies by DVC's own means: what it has summed before is not read again, nor later by DVC.

    Raises:
        InputError: A raw file or folder is not what its sum in ``artifacts/raw`` says.
    """
    sums: dict[str, str] = {}
    files: dict[str, str] = {}
    with _Hasher() as hasher:
        for dep in deps:
            sums[dep.as_posix()], inside = hasher.sum(dep)
            files |= inside
            for record in sorted(dep.rglob("*.json")) if RAW in dep.parents else ():
                files |= _raw_files(record, hasher)
    return Inputs(sums, files)


def write_raw(name: str, path: Path) -> None:
    """Write ``artifacts/raw/NAME.json``: path, MD5, files and bytes of a raw file or folder.

    Raises:
        InputError: It is not there.
    """
    if not path.exists():
        raise InputError("the file or folder does not exist", file=path, key=name, mend=f"mend {_PARAMS}, or bring it")
    with _Hasher() as hasher:
        md5, files = hasher.sum(path)
    size = sum(Path(file).stat().st_size for file in files)
    write_json(RAW / f"{name}.json", {"path": path.as_posix(), "md5": md5, "files": len(files), "bytes": size})


def require_raw(params: Params) -> None:
    """Where DVC runs the stage, the section ``raw`` must say what the other keys name: DVC follows what stands there.

    Raises:
        InputError: It does not.
    """
    wanted = params.raw_paths()
    if "DVC_STAGE" not in os.environ or params.raw == wanted:
        return
    lines = "\n".join(f"  {place}: {json.dumps(path, ensure_ascii=False)}" for place, path in wanted.items())
    problem = "does not list the files and folders that the other keys name, so DVC would not follow them"
    mend = f"let the section be\nraw:\n{lines}" if wanted else "let the section be `raw: {}`"
    raise InputError(problem, file=_PARAMS, key="raw", mend=mend)


def changed(before: Inputs, after: Inputs) -> str | None:
    """Return the first file that is another one now, or one that came or went; None where nothing changed."""
    names = sorted(before.files.keys() | after.files.keys())
    return next((name for name in names if before.files.get(name) != after.files.get(name)), None)


def _raw_files(record: Path, hasher: _Hasher) -> dict[str, str]:
    said = read_json(record)
    md5, files = hasher.sum(Path(said["path"]))
    if md5 != said["md5"]:
        name = record.relative_to(RAW).with_suffix("").as_posix()
        raise InputError("changed since DVC summed it", file=said["path"], key=name, mend="run `dvc repro`")
    return files


class _WithoutCaches:
    """What DVC's ignore file is to it: Python's caches change without a change of the code."""

    @staticmethod
    def walk(fs: LocalFileSystem, path: str) -> Iterator[tuple[str, list[str], list[str]]]:
        for root, folders, files in fs.walk(path):
            folders[:] = [name for name in folders if name != "__pycache__"]
            yield root, folders, files


class _Hasher:
    """DVC's sums of files and folders, with its record of what was summed before; outside a repository without one."""

    def __enter__(self) -> _Hasher:
        try:
            self._repo: Repo | None = Repo(".")
            self._store = self._repo.cache.local
        except NotDvcRepoError:
            self._repo = None
            self._store = HashFileDB(LocalFileSystem(), tempfile.gettempdir())
        return self

    def __exit__(self, *_: object) -> None:
        if self._repo is not None:
            self._repo.close()

    def sum(self, path: Path) -> tuple[str, dict[str, str]]:
        """Return the MD5 of a file or folder, and that of each file."""
        place = path.absolute()
        inside = self._repo is not None and place.is_relative_to(self._repo.root_dir)
        ignore = self._repo.dvcignore if inside else _WithoutCaches()
        _, _, found = build(self._store, str(place), LocalFileSystem(), "md5", dry_run=True, ignore=ignore)
        if isinstance(found, Tree):
            files = {(path / Path(*key)).as_posix(): info.value for key, (_, info) in found.iteritems()}
        else:
            files = {path.as_posix(): found.hash_info.value}
        return found.hash_info.value, files
