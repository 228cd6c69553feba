"""What is recorded of a stage is read from dvc.lock and its sidecar, and changes are told by their hashes."""

from __future__ import annotations

from pathlib import Path

import yaml

from flows.dvc_lock import Recorded, changed_outputs, recorded
from regionclip.stages.graph import Stage
from regionclip.tracking.sidecar import write_sidecar


def entry(**outs: str) -> Recorded:
    return Recorded({"outs": [{"path": path, "md5": md5} for path, md5 in outs.items()]}, None, None)


def test_entry_and_sidecar(tmp_path: Path) -> None:
    stage = Stage("finetune@coco", "x", outs=("artifacts/f", "artifacts/runs/finetune_coco.json"))
    other = Stage("report", "x", reports=("reports/plots",))
    graph = {stage.name: stage, other.name: other}
    assert recorded(tmp_path, graph) == {name: Recorded(None, None, None) for name in graph}
    lock = {
        "schema": "2.0",
        "stages": {"finetune@coco": {"cmd": "x", "outs": [{"path": "artifacts/f", "md5": 32 * "1"}]}},
    }
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump(lock))
    write_sidecar(tmp_path / "artifacts/runs/finetune_coco.json", "finetune@coco", "r", 1.0, "d")
    found = recorded(tmp_path, graph)
    assert found["finetune@coco"] == Recorded(lock["stages"]["finetune@coco"], "r", "d")
    assert found["finetune@coco"].outs() == {"artifacts/f": 32 * "1"} and found["report"].entry is None


def test_changed_outputs_are_new_changed_or_gone() -> None:
    before = {"a": entry(same="1", other="2", old="3"), "b": Recorded(None, None, None)}
    after = {"a": entry(same="1", other="9", fresh="4"), "b": entry(made="5")}
    assert changed_outputs(before, after) == [
        ("a", "fresh", "new"),
        ("a", "old", "gone"),
        ("a", "other", "changed"),
        ("b", "made", "new"),
    ]
    assert changed_outputs(after, after) == []
