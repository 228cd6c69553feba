"""Sidecars come back by stage, and a broken one is named."""

from __future__ import annotations

import pytest

from regionclip.errors import InputError
from regionclip.files import write_json
from regionclip.tracking.sidecar import read_sidecars, write_sidecar


def test_sidecars_are_read_back(tmp_path):
    """All sidecars of a folder, by stage name; a run that was not delivered has no id."""
    write_sidecar(tmp_path / "finetune_coco.json", "finetune@coco", "abc", 1.5, "d1")
    write_sidecar(tmp_path / "data.json", "data", None, 2.0, "d2")
    found = read_sidecars(tmp_path)
    assert list(found) == ["data", "finetune@coco"]
    assert found["finetune@coco"] == {"stage": "finetune@coco", "run_id": "abc", "seconds": 1.5, "digest": "d1"}
    assert found["data"]["run_id"] is None and read_sidecars(tmp_path / "none") == {}


def test_sidecar_without_a_key_is_named(tmp_path):
    """A missing key gives the file and the key."""
    write_json(tmp_path / "a.json", {"stage": "a", "run_id": "b", "seconds": 1})
    with pytest.raises(InputError) as caught:
        read_sidecars(tmp_path)
    assert caught.value.key == "digest" and caught.value.file == tmp_path / "a.json"


def test_sidecar_of_other_types_is_named(tmp_path):
    """Whatever stands there instead."""
    for broken in ([], {"stage": ["rpn"], "run_id": None, "seconds": 1.0, "digest": "d"}):
        write_json(tmp_path / "rpn.json", broken)
        with pytest.raises(InputError, match=r"rpn\.json, key 'stage'"):
            read_sidecars(tmp_path)


def test_what_a_kill_left_is_passed_over(tmp_path):
    """The temporary of a write that never ended."""
    write_sidecar(tmp_path / "rpn.json", "rpn", None, 1.0, "d")
    (tmp_path / ".rpn.json.x1.json").write_text('{"stage": ')
    assert list(read_sidecars(tmp_path)) == ["rpn"]
