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
from regionclip.params import CaptionFiles, DataFiles, LvisFiles
from regionclip.stages import data


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataFiles:
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
    lvis = LvisFiles(
        instances_train="sets/lvis.json", instances_val="sets/lvis.json", images="sets", classes="open_vocabulary"
    )
    return DataFiles(coco=None, lvis=lvis, captions=None)


def test_real_files_replace_the_demo_world(files: DataFiles) -> None:
    """Folders of what the profile lacks, and of what only the demo has, are there for the graph, and empty."""
    for old in ("pairs/train/0.tar", "scenes/captions.json", "scenes_truth/instances.json", "coco/classes.json"):
        Path("data", old).parent.mkdir(parents=True, exist_ok=True)
        Path("data", old).write_text("{}")
    assert data_sets() == ("coco",)
    counts = data.run(_params(files, ["lvis"]))
    assert (
        counts["scenes"] == {} and counts["lvis"]["train_annotations"] == 2 and counts["lvis"]["val_annotations"] == 3
    )
    assert data_sets() == ("lvis",)
    assert {path.name: len(list(path.iterdir())) for path in Path("data").iterdir()} == {
        "pairs": 0,
        "scenes": 0,
        "scenes_truth": 0,
        "lvis": 5,
        "coco": 0,
        "rejected": 0,
    }
    assert read_json("data/sets/lvis/pictures.json") == {"val": "sets", "train": "sets"}


def test_the_demo_world_is_built_from_its_own_section(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(data, "build_demo_world", lambda *arguments: asked.append(arguments) or {"pairs": {"train": 1}})
    section = SimpleNamespace(source="demo", sets=["coco", "lvis"], demo="sizes", files=None)
    counts = data.run(SimpleNamespace(params=SimpleNamespace(data=section, seed=5)))
    assert counts == {"pairs": {"train": 1}} and asked[0][:3] == (Path("data"), "sizes", 5)


def _params(files: DataFiles, sets: list[str], limit: float = 0.0) -> SimpleNamespace:
    section = SimpleNamespace(source="files", sets=sets, demo=None, files=files)
    return SimpleNamespace(params=SimpleNamespace(data=section, seed=0, quarantine=SimpleNamespace(max_fraction=limit)))


def test_a_failure_leaves_every_folder_as_it_was(files: DataFiles) -> None:
    """No folder is emptied, nothing half-written stays; only the list of what was set aside is new."""
    for old in ("pairs/train/0.tar", "scenes/captions.json", "scenes_truth/instances.json", "coco/classes.json"):
        Path("data", old).parent.mkdir(parents=True, exist_ok=True)
        Path("data", old).write_text("{}")
    before = {path: path.read_text() for path in Path("data").rglob("*") if path.is_file()}
    Path("sets/val2017/1.jpg").write_bytes(b"cut")
    with pytest.raises(InputError, match="1 of 1 records were set aside"):
        data.run(_params(files, ["lvis"]))
    after = {path: path.read_text() for path in Path("data").rglob("*") if path.is_file()}
    rejected = Path("data/rejected/lvis_rejected.jsonl")
    assert "the image does not decode" in after.pop(rejected) and after == before
    assert sorted(path.name for path in Path("data").iterdir()) == [
        "coco",
        "pairs",
        "rejected",
        "scenes",
        "scenes_truth",
    ]


def test_bad_captions_are_set_aside_up_to_the_limit(files: DataFiles) -> None:
    """Not an error of the first bad line: the gate behind, and every stage that reads captions, does the same."""
    lines = ['{"image": "1.jpg", "caption": "a cup"}', "not JSON", '{"image": "2.jpg", "caption": "a cat"}']
    Path("sets/c.jsonl").write_text("\n".join([*lines, lines[0].replace("1.", "3.")]))
    for number in (1, 2):
        Path(f"sets/{number}.jpg").write_bytes(b"jpeg")
    captioned = files.model_copy(update={"captions": CaptionFiles(file="sets/c.jsonl", images=None)})
    counts = data.run(_params(captioned, ["lvis"], limit=0.5))
    assert counts["scenes"]["images"] == counts["scenes"]["rejected"] == 2
    reasons = [
        json.loads(line)["reason"] for line in Path("reports/rejected/data_rejected.jsonl").read_text().splitlines()
    ]
    assert reasons[0].startswith("not JSON (") and reasons[1] == "the image does not exist"
    with pytest.raises(InputError, match="2 of 4 records were set aside, more than the limit of 40.00%"):
        data.run(_params(captioned, ["lvis"], limit=0.4))
