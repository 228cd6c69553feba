"""`dvc repro` on tiny params: everything is made, recorded and measured, and nothing runs twice without a reason."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

from regionclip.files import read_json, sha256_tree

SETS = ("coco", "lvis")
AFTER_PRETRAIN = {
    f"{stage}@{name}" for stage in ("zero_shot", "pseudo_boxes", "finetune", "evaluate") for name in SETS
} | {"report"}
STAGES = AFTER_PRETRAIN | {
    *("data", "check_data", "concepts", "teacher", "text_bank", "rpn", "proposals@coco", "proposals@lvis"),
    *("pseudo_labels", "check_pseudo_labels", "pretrain"),
}
FOLDERS = {"raw_folders", *(f"raw_sets@{name}" for name in SETS)}


def _ran(output: str) -> set[str]:
    """Stages that DVC says it ran."""
    lines = (line for line in output.splitlines() if line.startswith("Running stage '"))
    return {line.split("'")[1] for line in lines}


def test_first_run_makes_every_output(first_run: subprocess.CompletedProcess[str], finished: Path) -> None:
    assert _ran(first_run.stdout) == STAGES | FOLDERS
    locked = yaml.safe_load((finished / "dvc.lock").read_text())["stages"]
    assert set(locked) == STAGES | FOLDERS
    outputs = [out["path"] for stage in locked.values() for out in stage["outs"]]
    assert len(outputs) > 40 and [path for path in outputs if not (finished / path).exists()] == []


def test_finished_trainings_leave_no_scratch(finished: Path) -> None:
    left = [path for path in (finished / ".scratch").rglob("*") if path.is_file()]
    assert [path for path in left if path.parent.name != "locks"] == []


def test_summary_has_what_is_promised(finished: Path) -> None:
    summary = read_json(finished / "reports/summary.json")
    assert summary["profile"] == "tiny" and summary["seed"] == 0
    assert set(summary["seconds"]) == STAGES - {"report"} and min(summary["seconds"].values()) > 0
    fractions = {
        ("teacher",): {"image_top1", "crop_top1"},
        ("rpn", "coco"): {"ar100_base", "ar100_novel", "ar300_base", "ar300_novel"},
        ("pseudo_labels",): {"kept_fraction", "precision"},
    }
    top1 = {"top1_base", "top1_novel", "top1_all"}
    average = {"coco": {"ap50_base", "ap50_novel", "ap50_all"}, "lvis": {"ap", "apr", "apc", "apf"}}
    for dataset, precision in average.items():
        for model in ("clip", "regionclip"):
            fractions[("zero_shot", dataset, "gt", model)] = top1 | precision
            fractions[("zero_shot", dataset, "rpn", model)] = precision
            fractions[("open_vocabulary", dataset, model)] = precision | {"ap"}
            fractions |= {("true_boxes", dataset, model, when): top1 for when in ("before", "after")}
            fractions[("errors", dataset, model, "ap50")] = {"base", "novel", "all"}
    for path, keys in fractions.items():
        numbers: Any = summary
        for key in path:
            numbers = numbers[key]
        assert keys <= set(numbers), path
        assert all(numbers[key] is None or 0 <= numbers[key] <= 1 for key in keys), path


def test_table_and_pictures_are_there(finished: Path) -> None:
    table = (finished / "reports/summary.md").read_text()
    assert "profile tiny" in table and table.count("\n| coco |") == table.count("\n| lvis |") == 9 + 2 + 3
    pictures = sorted((finished / "reports/plots").glob("*.png"))
    assert len(pictures) >= 5 and all(file.read_bytes().startswith(b"\x89PNG") for file in pictures)
    page = (finished / "reports/index.html").read_text()
    links = [link for link in re.findall('(?:href|src)="([^"]*)"', page) if not link.startswith("#")]
    assert {f"plots/{file.name}" for file in pictures} <= set(links), "each picture is on the page"
    assert all((finished / "reports" / link).is_file() for link in links)


def test_mistakes_are_counted_by_the_protocol(finished: Path) -> None:
    """Their AP50 is that of all detections of the stage."""
    for dataset in ("coco", "lvis"):
        for numbers in read_json(finished / f"reports/metrics/evaluate_{dataset}.json").values():
            assert numbers["errors"]["ap50"]["all"] == pytest.approx(numbers["ap50"])


def test_dvc_draws_learning_curves_and_bars_by_class(finished: Path, command) -> None:
    """From tables beside the pictures: a row a logged step, a row a class with a number a model."""
    curves = {file.stem for file in (finished / "reports/plots/curves").iterdir()}
    assert {"rpn", "pretrain", "teacher", "finetune_coco_clip"} <= curves
    rows = list(csv.DictReader((finished / "reports/plots/per_class/finetuned_coco.csv").open()))
    numbers = json.loads((finished / "reports/metrics/evaluate_coco.json").read_text())["regionclip"]["per_class"]
    assert {row["class"]: row["RegionCLIP"] for row in rows} == {
        name: "" if number is None else str(number) for name, number in numbers.items()
    }
    shown = command(finished, "dvc", "plots", "show", "--json")
    assert shown.returncode == 0 and "pretrain.csv" in shown.stdout and "zero_shot_lvis.csv" in shown.stdout


def test_nothing_runs_again_even_with_other_runtime_settings(finished: Path, command) -> None:
    started = time.perf_counter()
    again = command(finished, "dvc", "repro", REGIONCLIP_WORKERS="1", REGIONCLIP_CHECKPOINT_INTERVAL="3")
    seconds = time.perf_counter() - started
    assert again.returncode == 0 and _ran(again.stdout) == set()
    assert "up to date" in again.stdout
    assert seconds < 30


@pytest.mark.parametrize(
    ("key", "value", "stale"),
    [
        (("pretrain", "losses", "image_text"), 0.2, {"pretrain"}),
        # Pseudo boxes are found as zero-shot detections are.
        (("zero_shot", "temperature"), 0.02, {f"{of}@{name}" for of in ("zero_shot", "pseudo_boxes") for name in SETS}),
        # The gate asks whether masks are trained on, which this section says.
        (("finetune", "sets", "lvis", "focal_gamma"), 0.5, {"check_data", "finetune@lvis", "evaluate@lvis"}),
    ],
)
def test_changed_param_makes_exactly_its_readers_stale(
    finished: Path, command, key: tuple[str, ...], value: float, stale: set[str]
) -> None:
    params = finished / "params.yaml"
    before = params.read_text()
    content = yaml.safe_load(before)
    section = content
    for part in key[:-1]:
        section = section[part]
    section[key[-1]] = value
    try:
        params.write_text(yaml.safe_dump(content))
        status = json.loads(command(finished, "dvc", "status", "--json").stdout)
    finally:
        params.write_text(before)
    assert set(status) == stale
    changed = {part for found in status.values() for item in found for part in item["changed deps"]}
    assert changed == {"params.yaml"}


def test_what_follows_pretrain(finished: Path, command) -> None:
    """With the test above: other pretrain params make pretrain and these run, and no other stage."""
    forced = command(finished, "dvc", "repro", "--dry", "--force", "--downstream", "pretrain")
    assert _ran(forced.stdout) == {"pretrain"} | AFTER_PRETRAIN


def test_mlflow_has_one_finished_run_a_stage(finished: Path) -> None:
    client, runs = _runs(finished)
    runs = [run for run in runs if "model" not in run.data.tags]
    by_stage = {run.data.tags["dvc.stage"]: run for run in runs}
    assert len(runs) == len(STAGES) and set(by_stage) == STAGES
    for stage, run in by_stage.items():
        assert run.info.status == "FINISHED" and len(run.data.tags["stage.digest"]) == 64
        if stage != "report":  # its sidecar is not kept: nothing comes after it
            sidecar = read_json(finished / f"artifacts/runs/{stage.replace('@', '_')}.json")
            assert sidecar["run_id"] == run.info.run_id and sidecar["digest"] == run.data.tags["stage.digest"]
    pretrain = by_stage["pretrain"]
    assert pretrain.data.params["pretrain.schedule.learning_rate"] == "0.0003"
    history = client.get_metric_history(pretrain.info.run_id, "train/loss")
    assert [metric.step for metric in history] == [1, 2, 3, 4, 5, 6]
    assert {item.dataset.name for item in pretrain.inputs.dataset_inputs} >= {"data/scenes", "artifacts/teacher"}


def test_mlflow_can_compare_clip_and_regionclip(finished: Path) -> None:
    """Each stage that does the same with both has two children whose metrics have the same names."""
    _, runs = _runs(finished)
    parents = {run.info.run_id: run.data.tags["dvc.stage"] for run in runs}
    children = [run for run in runs if "model" in run.data.tags]
    pairs: dict[str, dict[str, set[str]]] = {}
    for run in children:
        assert run.info.status == "FINISHED"
        stage = parents[run.data.tags["mlflow.parentRunId"]]
        pairs.setdefault(stage, {})[run.data.tags["model"]] = set(run.data.metrics)
    assert set(pairs) == {stage for stage in AFTER_PRETRAIN if stage.startswith(("zero", "fine", "eval"))} and len(
        children
    ) == 2 * len(pairs)
    assert all(pair["clip"] == pair["regionclip"] != set() for pair in pairs.values())


def _runs(folder: Path) -> tuple[MlflowClient, list[Run]]:
    client = MlflowClient(f"sqlite:///{folder / 'mlruns/mlflow.db'}")
    return client, list(client.search_runs([client.get_experiment_by_name("regionclip").experiment_id]))


def test_data_are_the_same_bytes_again(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from regionclip import cli

    for name in ("params.yaml", "dvc.yaml", "regionclip"):
        (tmp_path / name).symlink_to(finished / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REGIONCLIP_WORKERS", "0")
    assert cli.main(["data"]) == 0
    assert sha256_tree(tmp_path / "data") == sha256_tree(finished / "data")


@pytest.mark.slow
def test_changed_pretrain_params_run_pretrain_and_what_follows(copy: Path, command) -> None:
    params = copy / "params.yaml"
    params.write_text(params.read_text().replace("image_text: 0.1", "image_text: 0.2"))
    again = command(copy, "dvc", "repro")
    assert again.returncode == 0, again.stderr[-3000:]
    assert _ran(again.stdout) == {"pretrain"} | AFTER_PRETRAIN
