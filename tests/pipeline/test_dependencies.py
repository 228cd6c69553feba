"""What DVC calls stale: for a line of code the stages that import it, for raw data those that read them."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from dvc.repo import Repo
from PIL import Image

from regionclip.files import read_json, write_json
from regionclip.params import check_params
from tests.conftest import profile_values
from tests.pipeline.conftest import COPIED, ROOT, Command
from tests.stages.test_closure import STAGES, closure, module_file

DRAWN = 10  # modules for each stage


def _named(repository: Path) -> set[str]:
    """The stages that ``dvc status`` names; from elsewhere, DVC puts the path of dvc.yaml before them."""
    with Repo(str(repository)) as repo:
        return {name.rpartition(":")[2] for name in repo.status()}


@pytest.mark.slow
def test_a_line_in_a_module_makes_the_stages_stale_that_import_it(
    copy: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", environment["DVC_SITE_CACHE_DIR"])
    assert _named(copy) == set(), "nothing is stale at first"
    graph = yaml.safe_load((copy / "dvc.yaml").read_text())["stages"]
    folders = {stage: [Path(dep) for dep in _body(graph[stage])["deps"] if Path(dep).suffix == ""] for stage in STAGES}
    everything = sorted(
        ".".join(path.relative_to(copy).with_suffix("").parts) for path in (copy / "regionclip").rglob("[!_]*.py")
    )
    rng, inside, outside = random.Random(0), {}, {}
    for stage in STAGES:
        used = sorted(module for module in closure(stage) if module in everything)
        unrelated = [
            module
            for module in everything
            if module not in used and not any(folder in module_file(module).parents for folder in folders[stage])
        ]
        inside[stage], outside[stage] = rng.sample(used, DRAWN), rng.sample(unrelated, DRAWN)
    for module in sorted({module for drawn in (*inside.values(), *outside.values()) for module in drawn}):
        file = copy / module_file(module)
        before = file.read_text()
        file.write_text(f"{before}# a line\n")
        named = {name.partition("@")[0] for name in _named(copy)}
        file.write_text(before)
        for stage in STAGES:
            assert module not in inside[stage] or stage in named, f"{stage} imports {module}"
            assert module not in outside[stage] or stage not in named, f"{stage} does not import {module}"


def _body(stage: dict[str, Any]) -> dict[str, Any]:
    return stage.get("do", stage)


@pytest.fixture(scope="module")
def unmade(tmp_path_factory: pytest.TempPathFactory, clip_path: Path, command: Command) -> Path:
    """A repository with COCO files, captions and a CLIP of the user's own; nothing has run."""
    folder = tmp_path_factory.mktemp("own") / "data"
    folder.mkdir()
    for name in COPIED:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    rng, names = np.random.default_rng(0), ("star", "heart")
    (folder / "pictures").mkdir()
    for split, ids in (("train", range(1, 9)), ("val", range(9, 13))):
        for i in ids:
            Image.fromarray(rng.integers(0, 256, (90, 120, 3), np.uint8)).save(folder / f"pictures/{i}.jpg")
        boxes = [(i, k) for i in ids for k in (0, 1)]
        content = {
            "images": [{"id": i, "file_name": f"{i}.jpg", "width": 120, "height": 90} for i in ids],
            "annotations": [
                {"id": 2 * i + k, "image_id": i, "category_id": k, "bbox": [5 + 60 * k, 10, 40, 50], "area": 2000}
                | {"iscrowd": 0}
                for i, k in boxes
            ],
            "categories": [{"id": k, "name": name} for k, name in enumerate(names)],
        }
        write_json(folder / f"{split}.json", content)
    lines = [json.dumps({"image": f"{i}.jpg", "caption": "a red star and a heart"}) for i in range(1, 9)]
    (folder / "captions.jsonl").write_text("\n".join(lines))
    shutil.copytree(clip_path, folder / "clip")
    values = profile_values("tiny")
    coco = {"instances_train": "train.json", "instances_val": "val.json", "images_train": "pictures"}
    classes = {"base": list(names), "novel": []}
    own = {"format": "coco", "classes": classes, "protocol": "closed_set", "files": coco | {"images_val": "pictures"}}
    captions = {"file": "captions.jsonl", "images": "pictures"}
    values["data"] = {"source": "files", "sets": {"coco": own}, "captions": captions, "demo": None}
    values["teacher"] = {"source": "folder", "weights": "clip"}
    values["finetune"]["initialisations"] = ["regionclip"]
    for of_set in (values["finetune"]["sets"], values["zero_shot"]["score_threshold"]):
        del of_set["lvis"]
    values["concepts"]["minimum_count"] = 1
    values["raw"] = check_params(values, "params.yaml").raw_paths()
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    for program in ("git", "dvc"):
        command(folder, program, "init", "-q").check_returncode()
    return folder


@pytest.fixture
def own_data(unmade: Path, tmp_path: Path) -> Path:
    """A copy of that repository for one test."""
    return Path(shutil.copytree(unmade, tmp_path / "copy"))


def _repro(folder: Path, command: Command) -> set[str]:
    """Let DVC make concepts and teacher; return the stages that ran."""
    done = command(folder, "dvc", "repro", "concepts", "teacher")
    assert done.returncode == 0, done.stdout + done.stderr
    return {line.split("'")[1] for line in done.stdout.splitlines() if line.startswith("Running stage '")}


@pytest.mark.parametrize(
    ("raw", "readers"),
    [
        ("sets/coco/images_train", {"data", "check_data"}),
        ("sets/coco/instances_train", {"data", "check_data"}),
        ("captions/file", {"data", "check_data", "concepts"}),
        ("teacher/weights", {"check_data", "teacher"}),
    ],
)
def test_stages_depend_on_the_sum_of_the_raw_data_that_they_read(raw: str, readers: set[str]) -> None:
    graph = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    deps = {stage: _body(graph[stage])["deps"] for stage in ("data", "check_data", "concepts", "teacher")}
    record = Path(f"artifacts/raw/{raw}.json")
    assert {stage for stage, named in deps.items() if any(map(record.is_relative_to, named))} == readers


# The test above asks dvc.yaml the same; here DVC answers.
@pytest.mark.slow
def test_raw_data_make_the_stages_stale_that_read_them(
    own_data: Path, command: Command, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture's change is followed through the graph; of the others, what each makes stale, then all in one run."""
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", environment["DVC_SITE_CACHE_DIR"])
    _repro(own_data, command)
    before = _named(own_data)
    Image.new("RGB", (120, 90), (9, 99, 200)).save(own_data / "pictures/3.jpg")
    pictures = {"raw@sets/coco/images_train", "raw@captions/images"}  # one folder
    assert _named(own_data) - before == pictures
    assert _repro(own_data, command) >= pictures | {"data", "check_data", "concepts"}

    boxes = read_json(own_data / "train.json")
    changes: dict[str, tuple[Callable[[], Any], set[str]]] = {
        "captions/file": (
            lambda: (own_data / "captions.jsonl").write_text('{"image": "1.jpg", "caption": "a blue heart"}\n'),
            {"data", "check_data", "concepts"},
        ),
        "teacher/weights": (
            lambda: (own_data / "clip/open_clip_config.json").write_text(
                json.dumps(read_json(own_data / "clip/open_clip_config.json"))
            ),
            {"check_data", "teacher"},
        ),
        "sets/coco/instances_train": (
            lambda: write_json(own_data / "train.json", boxes | {"annotations": boxes["annotations"][2:]}),
            {"data", "check_data"},
        ),
    }
    stale = set()
    for name, (change, readers) in changes.items():
        change()
        stale.add(f"raw@{name}")
        assert _named(own_data) - before == stale
        kept = (own_data / f"artifacts/raw/{name}.json").read_bytes()
        command(own_data, "regionclip", "raw", name).check_returncode()
        assert _named(own_data) - before == stale | readers, name
        (own_data / f"artifacts/raw/{name}.json").write_bytes(kept)
    assert _repro(own_data, command) >= stale | {"data", "check_data", "concepts", "teacher"}
    assert len(read_json(own_data / "data/sets/coco/annotations/train.json")["annotations"]) == 14


def test_raw_data_that_params_name_and_the_section_raw_does_not_are_refused(own_data: Path, command: Command) -> None:
    params = own_data / "params.yaml"
    values = yaml.safe_load(params.read_text())
    del values["raw"]["sets/coco/instances_val"]
    params.write_text(yaml.safe_dump(values))
    done = command(own_data, "dvc", "repro", "-f", "data")
    assert done.returncode != 0 and "params.yaml, key 'raw'" in done.stderr and "instances_val" in done.stderr
