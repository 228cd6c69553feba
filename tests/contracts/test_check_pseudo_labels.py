"""Stage check_pseudo_labels: a clean project passes as a whole; each artefact that breaks its contract stops it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from regionclip import artifacts
from regionclip.checkpoints.clip_folder import ClipFolder
from regionclip.checkpoints.mmengine_files import publish
from regionclip.errors import DataCheckFailed, InputError
from regionclip.files import read_json, sha256_file, write_json
from regionclip.params.data import Data, DataSet, Quarantine, SetFiles
from regionclip.regions.store_writer import RegionStoreWriter
from regionclip.stages import check_pseudo_labels
from regionclip.text.concepts import ConceptPool
from regionclip.text.text_bank import TextBank
from tests.conftest import TINY_CLIP, profile_params

NAMES = {
    "coco": ("star", "ring", "boat"),
    "lvis": ("red star", "blue ring round", "red boat"),
    "concepts": ("star", "boat", "ring", "moon", "fish", "leaf", "bell", "tree", "drum", "kite"),
}
IDS = {"train": (1, 2, 3), "dev": (11, 12, 13), "val": (21, 22, 23)}
LABELS = Path("artifacts/pseudo_labels")


def _store(
    path: Path,
    ids: tuple[int, ...] | tuple[str, ...],
    k: int = 0,
    box: tuple[float, ...] = (0, 0, 40, 30),
    **about: str,
) -> None:
    """Write two regions an image: the first has concept 0, 1, 2, ... with 0.8, the other is below the threshold."""
    with RegionStoreWriter(path, about, k=k) as writer:
        for number, image_id in enumerate(ids):
            boxes, logits = np.float32([box, [5, 5, 20, 20]]), np.float32([2, -1])
            index, prob = np.int32([[number, 9], [2, 0]]), np.float32([[0.8, 0.1], [0.05, 0.02]])
            writer.add(image_id, boxes, logits, *((index, prob) if k else ()))


def _labels(ids: tuple[int, ...] | tuple[str, ...], **about: str) -> None:
    """Write a store of pseudo labels that was made with what is there."""
    origin = {
        "teacher_sha256": ClipFolder.open("artifacts/teacher").weights_sha256,
        "bank_sha256": TextBank.load("artifacts/concept_bank/concepts.safetensors").sha256,
        "rpn_sha256": sha256_file("artifacts/rpn/rpn.pth"),
    }
    _store(LABELS, ids, k=2, **origin | about)


def _bank(name: str, names: tuple[str, ...], width: int = 4) -> None:
    bank = TextBank(names, torch.ones(len(names), width), ("a {}",), "tiny", "0" * 64)
    bank.save(artifacts.CONCEPT_BANK if name == "concepts" else artifacts.class_bank(name))


def _recall(value: float) -> None:
    for dataset in ("coco", "lvis"):
        write_json(artifacts.recall(dataset), {"val": {"ar300_all": value, "ar100_all": 0.1}})


@pytest.fixture
def project(data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder that is clean; the current folder."""
    monkeypatch.chdir(data.parent)
    ConceptPool(NAMES["concepts"], tuple(range(20, 10, -1)), "pattern", 1).save("artifacts/concepts/concepts.csv")
    config = {"model_cfg": TINY_CLIP | {"embed_dim": 4}}
    write_json("artifacts/teacher/open_clip_config.json", config)
    Path("artifacts/teacher/open_clip_model.safetensors").write_bytes(b"weights")
    publish({"w": torch.zeros(1)}, "artifacts/rpn/rpn.pth", {"classes": ["star", "boat"]})
    for name, names in NAMES.items():
        _bank(name, names)
    for split, ids in IDS.items():
        for dataset in ("coco", "lvis"):
            _store(artifacts.proposals(dataset, split), ids)
    _labels(IDS["train"], threshold="0.1")
    _recall(0.5)
    return data.parent


def _context(min_kept: float = 0.5, **changes: Any) -> SimpleNamespace:
    params = profile_params("tiny")
    wanted = {"min_kept_fraction": min_kept, "max_regions": 10, "min_proposal_recall": 0.3}
    demands = params.check_pseudo_labels.model_copy(update=wanted)
    params = params.model_copy(update={"check_pseudo_labels": demands, **changes})
    return SimpleNamespace(params=params, tracker=None)


def test_a_clean_project_passes_and_is_measured(project: Path) -> None:
    metrics = check_pseudo_labels.run(_context())
    report = read_json("reports/checks/check_pseudo_labels.json")
    assert report["success"] is True and metrics["expectations"] == report["expectations"] > 130
    assert (metrics["warnings"], metrics["kept_fraction"], metrics["concepts_seen"]) == (0, 0.5, 3)
    assert (metrics["regions"], metrics["images"]) == (6, 3)
    profile = read_json("reports/checks/label_profile.json")
    assert profile["concepts"] == {"star": 1, "boat": 1, "ring": 1} and sum(profile["confidence"]) == 6
    assert profile["novel_in_pool"] == {"coco": {"ring": 18}, "lvis": {}}
    assert Path("reports/data_docs/check_pseudo_labels/index.html").is_file()


def _rpn(classes: list[str]) -> None:
    publish({"w": torch.zeros(1)}, "artifacts/rpn/rpn.pth", {"classes": classes})


def _proposals(
    name: str, split: str, ids: tuple[int, ...] | None = None, box: tuple[float, ...] = (0, 0, 40, 30)
) -> None:
    _store(artifacts.proposals(name, split), ids or IDS[split], box=box)


def _pool(minimum: int) -> None:
    ConceptPool(NAMES["concepts"], (20, *[5] * 8, 3), "pattern", minimum).save("artifacts/concepts/concepts.csv")


# Each is in an artefact of its own, so one run finds them all: what to plant, the problem, its first record.
FAULTS = [
    (lambda: _rpn(["star", "ring"]), "rpn classes: the RPN was trained on a novel class", {"class_name": "ring"}),
    (lambda: _recall(0.2), "proposal recall: the proposals' average recall is below 0.3", {"split": "val"}),
    (
        lambda: _proposals("coco", "val", box=(0, 0, 41, 30)),
        "proposals coco val regions: the box leaves the image",
        {"image_id": 21, "region": 0, "over_right": 1.0},
    ),
    (
        lambda: _proposals("coco", "dev", ids=(11, 12, 13, 9)),
        "proposals coco dev regions: the image is not listed",
        {"image_id": 9},
    ),
    (lambda: _proposals("lvis", "dev", ids=(11, 12)), "proposals lvis dev images: an image has no region", {"id": 13}),
    (lambda: _pool(5), "concept pool: a concept occurs fewer than 5 times", {"concept": "kite", "count": 3}),
    (
        lambda: _bank("coco", ("star", "boat", "ring")),
        "text bank coco: the bank has another name in this row",
        {"row": 1, "name": "boat", "wanted": "ring"},
    ),
    (lambda: _bank("lvis", NAMES["lvis"][:2]), "text bank lvis: the bank has another name in this row", {"row": 2}),
    (
        lambda: _bank("concepts", NAMES["concepts"], 6),
        "text bank concepts: the embeddings are not 4 wide, as the teacher's are",
        {"row": 0, "width": 6},
    ),
    (
        lambda: _labels(tuple(range(1, 14)), threshold="0.9"),
        "pseudo label regions: the index is outside the pool of 10 concepts",
        {"image_id": 11, "top_concept": 10},
    ),
]


def test_each_planted_fault_is_found_in_one_run(project: Path) -> None:
    for plant, *_ in FAULTS:
        plant()
    with pytest.raises(DataCheckFailed, match=r"rpn\.pth, record class_name ring.*trained on a novel class") as caught:
        check_pseudo_labels.run(_context())
    assert caught.value.exit_code == 3 and caught.value.mend
    results = read_json("reports/checks/check_pseudo_labels.json")["results"]
    failed = {f"{r['artefact']}: {r['problem']}": r for r in results if not r["success"]}
    for _, problem, record in FAULTS:
        assert record.items() <= failed[problem]["records"][0].items(), problem
    kept = failed["pseudo label regions: too few regions are above the threshold 0.9"]
    assert kept["observed"] == 0


def test_whole_images_of_a_store_that_is_too_large_are_checked(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_pseudo_labels, "MOST_REGIONS", 3)
    monkeypatch.setattr(check_pseudo_labels, "MOST_PROPOSALS", 5)
    metrics = check_pseudo_labels.run(_context(0.5))
    assert (metrics["regions"], metrics["images"]) == (2, 1)


def test_without_pretraining_the_detectors_inputs_are_checked(project: Path) -> None:
    params = _context().params
    context = _context(pretrain=params.pretrain.model_copy(update={"weights": "regionclip.pth"}))
    (project / "artifacts/concepts/concepts.csv").unlink()
    assert set(check_pseudo_labels.run(context)) == {"expectations", "warnings"}
    _rpn(["ring"])
    with pytest.raises(DataCheckFailed, match=r"rpn\.pth, record class_name ring.*trained on a novel class"):
        check_pseudo_labels.run(context)


def test_real_captions_of_any_form_are_covered_but_for_what_was_set_aside(project: Path) -> None:
    """Sizes come from the pictures' headers; a picture that does not decode has no regions, within the limit."""
    lines = [json.dumps({"image": f"{number:012d}.jpg", "caption": "a star"}) for number in (1, 2, 3)]
    Path("set.jsonl").write_text("\n".join(lines))
    write_json("data/scenes/source.json", {"captions": "set.jsonl", "images": "data/scenes/images"})
    keys = tuple(f"{number:012d}.jpg" for number in (1, 2, 3))
    _labels(keys, threshold="0.1")
    files = SetFiles(instances_train="a", instances_val="b", images_train="c", images_val="d")
    coco = DataSet(format="coco", classes="all", protocol="closed_set", files=files)
    data = Data(source="files", sets={"coco": coco}, captions=None, demo=None)
    context = _context(data=data, quarantine=Quarantine(max_fraction=0.4))
    assert check_pseudo_labels.run(context)["images"] == 3
    Path("data/scenes/images/000000000003.jpg").write_bytes(b"no picture")
    _labels(keys[:2], threshold="0.1")
    assert check_pseudo_labels.run(context)["regions"] == 4
    _labels(keys[:1], threshold="0.1")
    with pytest.raises(DataCheckFailed, match=r"record id 000000000002\.jpg.*an image has no region \(2 records\)"):
        check_pseudo_labels.run(context)


def test_a_store_without_threshold_is_refused(project: Path) -> None:
    _store(LABELS, IDS["train"], k=2)
    with pytest.raises(InputError, match="key 'threshold'"):
        check_pseudo_labels.run(_context())


@pytest.mark.parametrize("key", ["teacher_sha256", "bank_sha256", "rpn_sha256"])
def test_labels_of_another_teacher_bank_or_rpn_are_refused(project: Path, key: str) -> None:
    _labels(IDS["train"], threshold="0.1", **{key: "f" * 64})
    with pytest.raises(DataCheckFailed, match=f"record made_with {key}.*another teacher, text bank or RPN") as stop:
        check_pseudo_labels.run(_context())
    assert stop.value.exit_code == 3 and "run the stage `pseudo_labels` again" in stop.value.mend


def test_random_regions_need_no_rpn(project: Path) -> None:
    _labels(IDS["train"], threshold="0.1", rpn_sha256="random regions")
    random = _context().params.pseudo_labels.model_copy(update={"regions": "random"})
    assert check_pseudo_labels.run(_context(pseudo_labels=random))["warnings"] == 0
