"""The Python API gives what the pipeline's evaluation gives, for any form of picture and any names, and as a bundle."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from regionclip.checkpoints.clip_folder import ClipFolder
from regionclip.checkpoints.loading import load_strictly
from regionclip.checkpoints.mmengine_files import read
from regionclip.data.datasets import detection as pipelines
from regionclip.data.layout import detection_set, load_classes
from regionclip.engine.detection import detect
from regionclip.errors import InputError
from regionclip.evaluation.detections import coco_results
from regionclip.inference import Detection, Detector
from regionclip.labelling.proposals import store_proposals
from regionclip.models.assembly import build_detector, build_rpn
from regionclip.models.detector_settings import finetune_settings
from regionclip.params import Params, load_params
from regionclip.text.prompts import TEMPLATE_SETS, embed_names
from regionclip.text.text_bank import TextBank

NAMES = ("star", "fish", "crown", "red circle")


@pytest.fixture(scope="module")
def detector(workspace: Path) -> Detector:
    """The detector of the workspace."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REGIONCLIP_DEVICE", "cpu")
        return Detector.open(workspace)


def pipeline_detections(params: Params, proposals: Path) -> dict[int, list[dict]]:
    """What the stages rpn, text_bank and evaluate give, by image id, in the current workspace."""
    clip = ClipFolder.open("artifacts/pretrain")
    rpn = build_rpn(clip, params.rpn, nms_iou=params.rpn.nms_iou, proposals=params.rpn.proposals)
    load_strictly(rpn, read("artifacts/rpn/rpn.pth")[0], "rpn.pth")
    pictures = pipelines.test_pipeline(params.detection, None)
    dataset = pipelines.boxes_dataset(
        detection_set("coco", "val"), load_classes("coco").names, pictures, training=False
    )
    store_proposals(rpn, dataset, proposals, {}, params.detection.test_batch)
    model = build_detector(clip, finetune_settings(params.finetune, params.finetune.sets["coco"], 2))
    load_strictly(model, read("artifacts/finetune/coco/regionclip.pth")[0], "regionclip.pth")
    templates = TEMPLATE_SETS[params.text_bank.templates]
    embeddings = embed_names(clip.model(), clip.tokenizer(), NAMES, templates)
    bank = TextBank(NAMES, embeddings, tuple(templates), "tiny", clip.weights_sha256)
    found: dict[int, list[dict]] = {}
    for result in coco_results(detect(model, "coco", "val", params.detection, proposals, bank, "evaluate")):
        found.setdefault(result["image_id"], []).append(result)
    return found


def test_equals_the_evaluation(workspace: Path, detector: Detector, tmp_path: Path, monkeypatch) -> None:
    """Names, scores and boxes are those of the stages, up to the 0.01 pixel that results files are rounded to."""
    monkeypatch.chdir(workspace)
    wanted = pipeline_detections(load_params(), tmp_path / "proposals")
    assert sorted(wanted) == [1, 2, 3] and all(len(results) >= 8 for results in wanted.values())
    for image_id, results in wanted.items():
        found = detector(workspace / f"data/sets/coco/val/{image_id}.png", NAMES)
        assert [one.name for one in found] == [NAMES[result["category_id"] - 1] for result in results]
        scores = np.array([result["score"] for result in results])
        np.testing.assert_allclose([one.score for one in found], scores, rtol=2e-5, atol=1e-7)
        boxes = np.array([result["bbox"] for result in results])
        boxes[:, 2:] += boxes[:, :2]
        np.testing.assert_allclose([one.box for one in found], boxes, atol=0.0101)


def test_every_form_of_a_picture_gives_the_same(workspace: Path, detector: Detector) -> None:
    """Path, text, bytes, Pillow image, RGB array and palette image of the same pixels."""
    file = workspace / "data/sets/coco/val/1.png"
    image = Image.open(file)
    forms = [str(file), file.read_bytes(), image, np.asarray(image), image.convert("RGBA")]
    wanted = detector(file, NAMES)
    assert wanted and all(detector(form, NAMES) == wanted for form in forms)
    other = detector(np.asarray(image)[..., ::-1], NAMES)
    assert other != wanted, "the order of channels matters"


@pytest.mark.parametrize("size", [(1800, 2), (1, 900), (1, 1)])
def test_thin_pictures_are_searched_too(detector: Detector, size: tuple[int, int]) -> None:
    """Their boxes lie in them, though the networks see them stretched."""
    for one in detector(Image.effect_noise(size, 50), NAMES):
        assert 0 <= one.box[0] <= one.box[2] <= size[0] and 0 <= one.box[1] <= one.box[3] <= size[1]


def test_vocabulary_is_that_of_the_call(workspace: Path, detector: Detector) -> None:
    """Names that no training saw are found under their name; a call leaves nothing behind for the next."""
    file = workspace / "data/sets/coco/val/1.png"
    first = detector(file, NAMES)
    assert {one.name for one in detector(file, ["blue zeppelin"])} == {"blue zeppelin"}
    assert detector(file, NAMES) == first
    swapped = detector(file, NAMES[::-1])
    assert [(one.name, one.box) for one in swapped] == [(one.name, one.box) for one in first]
    assert all(isinstance(one, Detection) and 0 <= one.score <= 1 for one in first)


def test_bundle_is_the_same_detector(workspace: Path, detector: Detector, tmp_path: Path) -> None:
    """What is exported and opened elsewhere finds the same objects."""
    detector.export(tmp_path / "bundle")
    file = workspace / "data/sets/coco/val/2.png"
    assert Detector.open(tmp_path / "bundle")(file, NAMES) == detector(file, NAMES)
    with pytest.raises(InputError, match="holds a detector of coco, not of lvis"):
        Detector.open(tmp_path / "bundle", dataset="lvis")


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        ([], "there is no name"),
        ((), "there is no name"),
        (["a", "b", "a"], "twice: 'a'"),
        (["a", " "], r"key 'names.1': an empty name"),
        ("red circle", r"key 'names': a str was given.*give a list"),
        (b"star", "a bytes was"),
        (None, "a NoneType was"),
        (3, "a int was"),
        ({"star": 1}, "a dict was"),
        (["star", 3], r"key 'names.1': a int was"),
        (["star", None], r"key 'names.1'"),
        ([["star"]], r"key 'names.0'"),
        (iter(["star"]), "a list_iterator was"),
    ],
)
def test_names_that_make_no_sense_are_refused(detector: Detector, workspace: Path, names, problem) -> None:
    with pytest.raises(InputError, match=problem):
        detector(workspace / "data/sets/coco/val/1.png", names)


@pytest.mark.parametrize(
    "picture",
    [None, 3, 1.5, ["a.png"], [[0, 0, 0]], {"path": "a.png"}, torch.zeros(3, 8, 8), bytearray(b"x"), object()],
)
def test_pictures_of_another_type_are_refused(detector: Detector, picture: object) -> None:
    with pytest.raises(InputError, match="key 'picture'.*a path, bytes, a picture or pixels"):
        detector(picture, NAMES)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8, 3), np.int64),
        np.zeros((0, 8, 3), np.uint8),
        np.zeros((8, 8, 3), object),
    ],
)
def test_pixels_of_another_form_are_refused(detector: Detector, pixels: np.ndarray) -> None:
    with pytest.raises(InputError):
        detector(pixels, NAMES)


def test_other_arguments_of_another_type_are_refused(detector: Detector, workspace: Path) -> None:
    for arguments, key in (
        ({"dataset": "voc"}, "data.sets"),
        ({"dataset": 1}, "dataset"),
        ({"initialisation": "imagenet"}, "initialisation"),
        ({"initialisation": ["clip"]}, "initialisation"),
    ):
        with pytest.raises(InputError) as caught:
            Detector.open(workspace, **arguments)
        assert caught.value.key == key
    for call in (Detector.open, detector.export):
        with pytest.raises(InputError, match="a NoneType was given"):
            call(None)


ODD = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.binary(max_size=3), st.lists)


@settings(max_examples=40, deadline=None)
@given(picture=ODD, names=ODD)
def test_any_arguments_are_answered_or_named(detector: Detector, picture: object, names: object) -> None:
    with pytest.raises(InputError) as caught:
        detector(picture, names)
    assert caught.value.mend


def test_import_of_the_package_stays_cheap() -> None:
    """`import regionclip` brings neither torch nor MLflow; the API is a package of its own."""
    program = "import sys, regionclip; print(sorted({'torch', 'mlflow', 'mmdet'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "[]"
