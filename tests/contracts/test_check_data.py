"""Stage check_data: clean data pass as a whole; a novel box or a cut image stops it with exit code 3."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from regionclip.errors import DataCheckFailed
from regionclip.files import read_json
from regionclip.params import load_params
from regionclip.stages import check_data

CONTEXT = SimpleNamespace(params=load_params(Path(__file__).parents[1] / "tiny.yaml"))


@pytest.fixture
def project(data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(data.parent)
    return data.parent


def test_clean_data_pass(project: Path) -> None:
    metrics = check_data.run(CONTEXT)
    report = read_json("reports/checks/check_data.json")
    assert metrics == {"expectations": report["expectations"], "images": 27}
    assert report["success"] is True and report["expectations"] > 90
    artefacts = {result["artefact"].split()[0] for result in report["results"]}
    assert artefacts == {"pairs", "scenes", "coco", "lvis"}


def test_a_novel_box_and_a_cut_image_stop_it(project: Path) -> None:
    file, image = Path("data/lvis/annotations/lvis_train_base.json"), Path("data/lvis/val/000000000022.jpg")
    content = json.loads(file.read_text())
    content["annotations"][0]["category_id"] = 2
    content["images"][0]["neg_category_ids"] = []
    file.write_text(json.dumps(content))
    image.write_bytes(image.read_bytes()[:500])
    with pytest.raises(DataCheckFailed, match=r"record id 101, .*key 'category_id': lvis training boxes") as caught:
        check_data.run(CONTEXT)
    assert caught.value.exit_code == 3 and caught.value.file == str(file)
    failed = [result for result in read_json("reports/checks/check_data.json")["results"] if not result["success"]]
    assert [result["artefact"] for result in failed] == ["lvis training boxes", "lvis image files"]
    assert failed[1]["records"][0]["file"] == str(image) and failed[1]["records"][0]["error"]
