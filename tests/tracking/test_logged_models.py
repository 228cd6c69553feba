"""Checkpoints are logged models of their stage's run, with the name of their bytes in DVC's cache, and no bytes."""

from __future__ import annotations

import hashlib
from pathlib import Path

from regionclip.tracking.record import checkpoints
from regionclip.tracking.tracker import track


def write(path: str, content: str) -> Path:
    """Write a file with the folders above it."""
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    return file


def test_models_of_a_stage(client, tmp_path):
    """Each weight file is a model of the run with path, MD5, stage and digest; its bytes are not copied."""
    outs = (Path("artifacts/finetune/coco"), Path("artifacts/history"), Path("artifacts/runs/finetune_coco.json"))
    files = [write(f"artifacts/finetune/coco/{name}.pth", name * 1000) for name in ("clip", "regionclip")]
    write("artifacts/history/clip.jsonl", "{}")
    with track("finetune@coco", {}, {}, profile="demo", digest="d" * 64) as tracker:
        tracker.log_checkpoints(outs, "d" * 64)
    run = client.get_run(tracker.run_id)
    models = {model.name: model for model in client.search_logged_models([run.info.experiment_id])}
    assert models.keys() == {"finetune_coco_clip", "finetune_coco_regionclip"}
    for file in files:
        model = models[f"finetune_coco_{file.stem}"]
        facts = {
            "path": file.as_posix(),
            "dvc.md5": hashlib.md5(file.read_bytes()).hexdigest(),
            "dvc.stage": "finetune@coco",
        }
        assert model.tags.items() >= {**facts, "stage.digest": "d" * 64, "bytes": str(file.stat().st_size)}.items()
        assert model.source_run_id == tracker.run_id and model.status == "READY" and model.model_type == "checkpoint"
    assert {output.model_id for output in run.outputs.model_outputs} == {model.model_id for model in models.values()}
    copied = [path for path in Path("mlruns/artifacts").rglob("*") if path.is_file() and path.stat().st_size > 4000]
    assert not copied and not Path("mlruns/undelivered").exists()


def test_only_stages_that_make_weights(client):
    """A folder has its weight file; a stage of data has no model, whatever it writes."""
    folder = write("artifacts/teacher/open_clip_model.safetensors", "x").parent
    write("artifacts/teacher/open_clip_config.json", "{}")
    (model,) = checkpoints("teacher", [folder], "d")
    assert (model.name, model.tags["path"]) == ("teacher", "artifacts/teacher/open_clip_model.safetensors")
    assert checkpoints("text_bank", [folder], "d") == []


def test_best_weights_have_a_name_of_their_own(client):
    """A training that validates leaves two files of one name."""
    for path in ("artifacts/rpn/rpn.pth", "artifacts/rpn/best/rpn.pth"):
        write(path, "x")
    models = {model.name: model.tags["path"] for model in checkpoints("rpn", ["artifacts/rpn"], "d")}
    assert models == {"rpn": "artifacts/rpn/rpn.pth", "rpn_best": "artifacts/rpn/best/rpn.pth"}
