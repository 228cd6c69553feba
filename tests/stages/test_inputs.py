"""The sums of a stage's inputs are DVC's, each file is read once, and raw data are what params name."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from regionclip.errors import InputError
from regionclip.files import read_json
from regionclip.stages.inputs import RAW, Inputs, changed, read_inputs, require_raw, write_raw
from tests.conftest import PAPER_PROFILES, profile_params

GRAPH = """
stages:
  copy:
    cmd: cp -r in out
    deps: [in, one.txt]
    outs: [out]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder ``in`` of two files and a file ``one.txt``, as the working folder; no repository."""
    (tmp_path / "in/deep").mkdir(parents=True)
    (tmp_path / "in/a").write_text("a")
    (tmp_path / "in/deep/b").write_text("b")
    (tmp_path / "one.txt").write_text("1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / ".site"))
    return tmp_path


@pytest.fixture
def repository(folder: Path) -> Path:
    """The same as a DVC repository in which a stage has run."""
    (folder / "dvc.yaml").write_text(GRAPH)
    for command in ("git init -q", "dvc init -q", "dvc repro -q"):
        subprocess.run(command.split(), check=True)
    return folder


def test_sums_are_those_of_dvc_lock(repository: Path) -> None:
    inputs = read_inputs([Path("in"), Path("one.txt")])
    deps = yaml.safe_load(Path("dvc.lock").read_text())["stages"]["copy"]["deps"]
    assert inputs.sums == {dep["path"]: dep["md5"] for dep in deps}
    assert set(inputs.files) == {"in/a", "in/deep/b", "one.txt"}


def test_sums_are_the_same_outside_a_repository(folder: Path, repository: Path, tmp_path: Path) -> None:
    inside = read_inputs([Path("in")])
    shutil.rmtree(".dvc")
    assert read_inputs([Path("in")]) == inside


def test_a_file_that_dvc_has_summed_is_not_read_again(repository: Path) -> None:
    # Of the same size, time and inode it is the same file for DVC; that shows that it was not read.
    file, before = Path("one.txt"), read_inputs([Path("one.txt")])
    told = file.stat()
    with file.open("r+") as handle:
        handle.write("2")
    os.utime(file, ns=(told.st_atime_ns, told.st_mtime_ns))
    assert read_inputs([file]) == before
    os.utime(file)
    assert read_inputs([file]) != before


def test_compiled_code_is_no_input(folder: Path) -> None:
    before = read_inputs([Path("in")])
    Path("in/deep/__pycache__").mkdir()
    Path("in/deep/__pycache__/b.pyc").touch()
    assert read_inputs([Path("in")]) == before


def test_what_changed_is_named(folder: Path) -> None:
    before = read_inputs([Path("in")])
    assert changed(before, read_inputs([Path("in")])) is None
    Path("in/deep/b").write_text("B")
    assert changed(before, read_inputs([Path("in")])) == "in/deep/b"
    Path("in/deep/b").write_text("b")
    Path("in/c").touch()
    assert changed(before, read_inputs([Path("in")])) == "in/c"


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.lists(st.floats(allow_nan=False)), max_size=4))
def test_digest_depends_on_values_and_sums_and_not_on_their_order(values: dict) -> None:
    one = Inputs({"a": "1", "b": "2"}, {})
    assert one.digest(values) == Inputs({"b": "2", "a": "1"}, {}).digest(dict(reversed(values.items())))
    assert one.digest(values) != Inputs({"a": "2", "b": "1"}, {}).digest(values)
    assert one.digest(values) != one.digest({**values, "more_": 1})


def test_raw_data_that_changed_since_they_were_summed_are_refused(folder: Path) -> None:
    write_raw("sets/coco/images_train", Path("in"))
    record = RAW / "sets/coco/images_train.json"
    assert read_json(record) | {"md5": ""} == {"path": "in", "md5": "", "files": 2, "bytes": 2}
    assert read_inputs([RAW / "sets"]).files.keys() == {record.as_posix(), "in/a", "in/deep/b"}
    Path("in/a").write_text("other")
    with pytest.raises(InputError, match=r"in, key 'sets/coco/images_train': changed since DVC summed it.*dvc repro"):
        read_inputs([RAW / "sets"])


def test_raw_data_that_are_not_there_are_named(folder: Path) -> None:
    with pytest.raises(InputError, match=r"weights/clip: the file or folder does not exist|does not exist"):
        write_raw("teacher/weights", Path("weights/clip"))
    assert not RAW.exists()


def test_under_dvc_the_section_raw_lists_what_the_other_keys_name(monkeypatch: pytest.MonkeyPatch) -> None:
    params = profile_params("tiny")
    needs = params.model_copy(update={"rpn": params.rpn.model_copy(update={"weights": "weights/rpn.pth"})})
    require_raw(needs)
    monkeypatch.setenv("DVC_STAGE", "rpn")
    require_raw(params)
    with pytest.raises(InputError, match=r"(?s)key 'raw'.*\n  rpn/weights: \"weights/rpn\.pth\""):
        require_raw(needs)
    require_raw(needs.model_copy(update={"raw": {"rpn/weights": "weights/rpn.pth"}}))


@pytest.mark.parametrize("profile", PAPER_PROFILES)
def test_profiles_list_their_raw_data(profile: str) -> None:
    params = profile_params(profile)
    assert params.raw == params.raw_paths() and params.raw
