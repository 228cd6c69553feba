"""Stage data: the demo world or real files, and nothing of an earlier profile left over."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from regionclip.data.layout import data_sets
from regionclip.files import read_json, write_json
from regionclip.params import DataFiles, LvisFiles
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
    section = SimpleNamespace(source="files", sets=["lvis"], demo=None, files=files)
    params = SimpleNamespace(data=section, seed=0, quarantine=SimpleNamespace(max_fraction=0.0))
    counts = data.run(SimpleNamespace(params=params))
    assert (
        counts["scenes"] == {} and counts["lvis"]["train_annotations"] == 2 and counts["lvis"]["val_annotations"] == 3
    )
    assert data_sets() == ("lvis",)
    assert {path.name: len(list(path.iterdir())) for path in Path("data").iterdir()} == {
        "pairs": 0,
        "scenes": 0,
        "scenes_truth": 0,
        "lvis": 4,
        "coco": 0,
        "rejected": 0,
    }
    assert read_json("data/lvis/pictures.json") == {"val": "sets", "train": "sets"}


def test_the_demo_world_is_built_from_its_own_section(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(data, "build_demo_world", lambda *arguments: asked.append(arguments) or {"pairs": {"train": 1}})
    section = SimpleNamespace(source="demo", sets=["coco", "lvis"], demo="sizes", files=None)
    counts = data.run(SimpleNamespace(params=SimpleNamespace(data=section, seed=5)))
    assert counts == {"pairs": {"train": 1}} and asked[0][:3] == (Path("data"), "sizes", 5)
