"""Stage data: the demo world or real files, and nothing of an earlier profile left over."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from regionclip.data.layout import data_sets
from regionclip.errors import InputError
from regionclip.files import read_json, write_json
from regionclip.params.data import CaptionFiles, DataSet, SetFiles
from regionclip.stages import data


@pytest.fixture
def lvis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataSet:
    """An LVIS of three classes and one picture, no COCO, no captions."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sets/val2017").mkdir(parents=True)
    Image.new("RGB", (9, 9)).save(tmp_path / "sets/val2017/1.jpg")
    image = {"id": 1, "coco_url": "http://images.cocodataset.org/val2017/1.jpg", "width": 9, "height": 9}
    box = {"image_id": 1, "bbox": [1, 1, 5, 5], "area": 25, "segmentation": [[1, 1, 6, 1, 6, 6]]}
    content = {
        "images": [image | {"neg_category_ids": [], "not_exhaustive_category_ids": []}],
        "annotations": [box | {"id": number, "category_id": number} for number in (1, 2, 3)],
        "categories": [{"id": i, "name": f"class_{f}", "frequency": f} for i, f in enumerate("fcr", 1)],
    }
    write_json("sets/lvis.json", content)
    places = {f"instances_{split}": "sets/lvis.json" for split in ("train", "val")}
    files = SetFiles(**places, images_train="sets", images_val="sets")
    return DataSet(format="lvis", classes="open_vocabulary", protocol="federated", files=files)


def test_real_files_replace_the_demo_world(lvis: DataSet) -> None:
    """Folders of what the profile lacks, and of what only the demo has, are there for the graph, and empty."""
    for old in ("pairs/train/0.tar", "scenes/captions.json", "scenes_truth/instances.json", "sets/coco/classes.json"):
        Path("data", old).parent.mkdir(parents=True, exist_ok=True)
        Path("data", old).write_text("{}")
    assert data_sets() == ("coco",)
    counts = data.run(_params(lvis))
    assert (
        counts["scenes"] == {} and counts["lvis"]["train_annotations"] == 2 and counts["lvis"]["val_annotations"] == 3
    )
    assert data_sets() == ("lvis",)
    assert {path.name: len(list(path.iterdir())) for path in Path("data").iterdir()} == {
        "pairs": 0,
        "scenes": 0,
        "scenes_truth": 0,
        "sets": 1,
        "rejected": 0,
    }
    assert read_json("data/sets/lvis/pictures.json") == {"val": "sets", "train": "sets"}


def test_the_demo_world_is_built_from_its_own_section_and_beside_it_a_set_of_files(
    lvis: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def build(root: Path, *arguments: object) -> dict[str, dict[str, int]]:
        asked.append(arguments[:2] + arguments[3:])
        write_json(root / "sets/shapes/classes.json", {})
        return {"pairs": {"train": 1}}

    monkeypatch.setattr(data, "build_demo_world", build)
    shapes = DataSet(format="coco", classes="open_vocabulary", protocol="generalised", files=None)
    context = _params(lvis)
    context.params.data.source, context.params.data.demo = "demo", "sizes"
    context.params.data.sets = {"shapes": shapes, "own": lvis}
    counts = data.run(context)
    assert asked == [("sizes", 0, {"shapes": "coco"})] and list(counts) == ["pairs", "own"]
    assert data_sets() == ("own", "shapes")


def _params(lvis: DataSet, limit: float = 0.0, captions: CaptionFiles | None = None) -> SimpleNamespace:
    section = SimpleNamespace(source="files", sets={"lvis": lvis}, demo=None, captions=captions)
    return SimpleNamespace(params=SimpleNamespace(data=section, seed=0, quarantine=SimpleNamespace(max_fraction=limit)))


def test_a_failure_leaves_every_folder_as_it_was(lvis: DataSet) -> None:
    """No folder is emptied, nothing half-written stays; only the list of what was set aside is new."""
    for old in ("pairs/train/0.tar", "scenes/captions.json", "scenes_truth/instances.json", "sets/coco/classes.json"):
        Path("data", old).parent.mkdir(parents=True, exist_ok=True)
        Path("data", old).write_text("{}")
    before = {path: path.read_text() for path in Path("data").rglob("*") if path.is_file()}
    Path("sets/val2017/1.jpg").write_bytes(b"cut")
    with pytest.raises(InputError, match="1 of 1 records were set aside"):
        data.run(_params(lvis))
    after = {path: path.read_text() for path in Path("data").rglob("*") if path.is_file()}
    rejected = Path("data/rejected/lvis_rejected.jsonl")
    assert "the image does not decode" in after.pop(rejected) and after == before
    assert sorted(path.name for path in Path("data").iterdir()) == [
        "pairs",
        "rejected",
        "scenes",
        "scenes_truth",
        "sets",
    ]


def test_bad_captions_are_set_aside_up_to_the_limit(lvis: DataSet) -> None:
    """Not an error of the first bad line: the gate behind, and every stage that reads captions, does the same."""
    lines = ['{"image": "1.jpg", "caption": "a cup"}', "not JSON", '{"image": "2.jpg", "caption": "a cat"}']
    Path("sets/c.jsonl").write_text("\n".join([*lines, lines[0].replace("1.", "3.")]))
    for number in (1, 2):
        Path(f"sets/{number}.jpg").write_bytes(b"jpeg")
    captions = CaptionFiles(file="sets/c.jsonl", images=None)
    counts = data.run(_params(lvis, limit=0.5, captions=captions))
    assert counts["scenes"]["images"] == counts["scenes"]["rejected"] == 2
    reasons = [
        json.loads(line)["reason"] for line in Path("reports/rejected/data_rejected.jsonl").read_text().splitlines()
    ]
    assert reasons[0].startswith("not JSON (") and reasons[1] == "the image does not exist"
    with pytest.raises(InputError, match="2 of 4 records were set aside, more than the limit of 40.00%"):
        data.run(_params(lvis, limit=0.4, captions=captions))
