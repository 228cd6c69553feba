"""Stage check_data: clean data pass as a whole; a novel box or a cut image stops it with exit code 3."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from regionclip.errors import DataCheckFailed, InputError
from regionclip.files import read_json, write_json
from regionclip.params.data import CheckData, Data, DataSet, OwnClasses, Quarantine, SetFiles
from regionclip.stages import check_data
from tests.conftest import profile_params

CONTEXT = SimpleNamespace(params=profile_params("tiny"), tracker=None)
Edit = Callable[[Path, Callable[[Any], None]], None]
OWN = OwnClasses(base=["star", "boat"], novel=["ring"])


@pytest.fixture
def project(data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(data.parent)
    return data.parent


def test_clean_data_pass(project: Path) -> None:
    metrics = check_data.run(CONTEXT)
    report = read_json("reports/checks/check_data.json")
    boxes = metrics.pop("boxes")
    assert metrics == {"expectations": report["expectations"], "warnings": 0, "images": 27, "rejected": 0}
    assert report["success"] is True and report["expectations"] > 90
    assert Path("artifacts/gates/check_data.json").exists()
    account = {"file": 6, "used": 6, "not_used": {}, "unexplained": 0}
    assert boxes["coco"]["train"] == boxes["lvis"]["train"] == account and report["boxes"] == boxes
    artefacts = {result["artefact"].split()[0] for result in report["results"]}
    assert artefacts == {"pairs", "scenes", "coco", "lvis", "pictures"}
    assert read_json("reports/checks/box_profile.json")["coco"]["train"]["boxes"] == 6
    assert "No record was set aside" in Path("reports/data_docs/check_data/quarantine.html").read_text()


def test_a_novel_box_and_a_cut_image_stop_it(project: Path) -> None:
    file, image = Path("data/sets/lvis/annotations/train.json"), Path("data/sets/lvis/val/000000000022.jpg")
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


@pytest.mark.parametrize("trained", ["scenes/images", "sets/lvis/train"])
def test_a_validation_picture_that_another_set_trains_on_stops_it(project: Path, trained: str) -> None:
    twin = Path("data") / trained / "000000000002.jpg"
    shutil.copy("data/sets/coco/val/000000000021.jpg", twin)
    with pytest.raises(DataCheckFailed, match=f"leak {twin}, .*trained on in another set") as caught:
        check_data.run(CONTEXT)
    assert caught.value.exit_code == 3 and caught.value.file == "data/sets/coco/val/000000000021.jpg"


def test_a_bad_caption_of_the_demo_world_stops_it(project: Path, edit: Edit) -> None:
    edit(Path("data/scenes/captions.json"), lambda content: content["annotations"][4].update(caption=" \n"))
    with pytest.raises(DataCheckFailed, match="empty caption") as caught:
        check_data.run(CONTEXT)
    where = (caught.value.file, caught.value.record, caught.value.key)
    assert where == (Path("data/scenes/captions.json"), "image 2", "caption") and caught.value.mend


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("9.txt", b"a star", "no image"),
        ("9.jpg", b"", "image without caption"),
        ("000000002.jpg", b"no picture", "the file is there twice"),
        ("000000001.txt", b" ", "no image"),
    ],
)
def test_a_fault_in_a_shard_stops_it(project: Path, name: str, content: bytes, problem: str) -> None:
    shard = Path("data/pairs/train/00000.tar")
    with tarfile.open(shard, "a") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    with pytest.raises(DataCheckFailed, match=problem) as caught:
        check_data.run(CONTEXT)
    assert caught.value.file == shard and str(caught.value.record).startswith(name.split(".")[0])


def test_a_cut_shard_and_an_empty_folder_are_refused(project: Path) -> None:
    shard = Path("data/pairs/train/00000.tar")
    shard.write_bytes(shard.read_bytes()[:700])
    with pytest.raises(DataCheckFailed, match=r"00000\.tar: the shard cannot be read \(unexpected end of data\)"):
        check_data.run(CONTEXT)
    shard.unlink()
    with pytest.raises(InputError, match=r"pairs/train: the folder holds no captions"):
        check_data.run(CONTEXT)


def _files_context(
    limit: float,
    official: Sequence[str] = (),
    box_profile: str | None = None,
    classes: str | OwnClasses = OWN,
) -> SimpleNamespace:
    """The same folder as if it came from files: its pictures and captions lie elsewhere."""
    params = CONTEXT.params
    files = SetFiles(instances_train="a", instances_val="b", images_train="c", images_val="d")
    coco = DataSet(format="coco", classes=classes, protocol="generalised", files=files)
    data = Data(source="files", sets={"coco": coco}, captions=None, demo=None)
    return SimpleNamespace(
        tracker=None,
        params=params.model_copy(
            update={
                "data": data,
                "quarantine": Quarantine(max_fraction=limit),
                "check_data": CheckData(official=list(official), box_profile=box_profile),
            }
        ),
    )


def test_bad_records_of_real_captions_are_set_aside_up_to_the_limit(project: Path) -> None:
    shutil.rmtree("data/sets/lvis")
    scenes = Path("data/scenes")
    write_json(scenes / "source.json", {"captions": "data/scenes/captions.json", "images": "data/scenes/images"})
    Path("data/scenes/images/000000000002.jpg").write_bytes(b"")
    metrics = check_data.run(_files_context(0.4))
    assert metrics["rejected"] == 1 and metrics["images"] == 11, "2 scenes and 9 pictures of coco"
    page = Path("reports/data_docs/check_data/quarantine.html").read_text()
    assert "1 records were set aside" in page and "image 2" in page and "no bytes" in page
    with pytest.raises(InputError, match="1 of 3 records were set aside, more than the limit of 10.00%"):
        check_data.run(_files_context(0.1))


def _real(project: Path) -> None:
    shutil.rmtree("data/sets/lvis")
    places = {"captions": "data/scenes/captions.json", "images": "data/scenes/images"}
    write_json(project / "data/scenes/source.json", places)


def test_a_part_of_a_public_set_stops_it_unless_it_is_not_named(project: Path) -> None:
    """Three pictures are not Flickr30K's 29,000; the message says what to do if they are meant."""
    _real(project)
    assert check_data.run(_files_context(0.0))["warnings"] == 0
    with pytest.raises(
        DataCheckFailed, match="counted images, expected 29000, found 3.*not the whole of flickr30k"
    ) as stop:
        check_data.run(_files_context(0.0, ["flickr30k"]))
    assert stop.value.exit_code == 3 and "take flickr30k out of check_data.official" in stop.value.mend
    sizes = {"images": 3, "annotations": 9}
    zero = {f"{s}_{k}": 0 for s in ("train", "val") for k in ("images_left_out", "annotations_left_out")}
    counts = zero | {f"{s}_{k}": n for s in ("train", "val") for k, n in {**sizes, "categories": 3}.items()}
    sources = {split: {"file": f"instances_{split}2017.json", **sizes} for split in ("train", "val")}
    about = {"format": "coco", "classes": "open_vocabulary", "sources": sources, "counts": counts}
    write_json("data/sets/coco/manifest.json", about)
    with pytest.raises(DataCheckFailed, match="images of instances_train2017.json, expected 118287, found 3"):
        check_data.run(_files_context(0.0, ["coco2017"], classes="open_vocabulary"))


def test_boxes_of_an_earlier_run_are_compared_with(project: Path) -> None:
    _real(project)
    check_data.run(_files_context(0.0))
    shutil.copy("reports/checks/box_profile.json", "before.json")
    check_data.run(_files_context(0.0, box_profile="before.json"))
    artefacts = {result["artefact"] for result in read_json("reports/checks/check_data.json")["results"]}
    assert {"coco drift", "coco drift from before"} <= artefacts
    with pytest.raises(InputError, match=r"no\.json: the file does not exist"):
        check_data.run(_files_context(0.0, box_profile="no.json"))
