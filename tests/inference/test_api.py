"""The Python API gives what the pipeline's evaluation gives, for any form of picture and any names, and as a bundle."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
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
from regionclip.engine.detection import detect, trained_detector
from regionclip.errors import InputError
from regionclip.evaluation.detections import coco_results
from regionclip.evaluation.overlap import overlaps
from regionclip.inference import RegionCLIP, Result
from regionclip.labelling.proposals import store_proposals
from regionclip.models.assembly import build_rpn
from regionclip.params import Params, load_params
from regionclip.text.prompts import TEMPLATE_SETS, embed_names
from regionclip.text.text_bank import TextBank

NAMES = ("star", "fish", "crown", "red circle")
LOW = 0.001
TEMPERATURE = 0.01


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
    model = trained_detector(Path("artifacts/finetune/coco/regionclip.pth"), clip, params.finetune, "coco")
    templates = TEMPLATE_SETS[params.text_bank.templates]
    embeddings = embed_names(clip.model(), clip.tokenizer(), NAMES, templates)
    bank = TextBank(NAMES, embeddings, tuple(templates), "tiny", clip.weights_sha256)
    found: dict[int, list[dict]] = {}
    for result in coco_results(detect(model, "coco", "val", params.detection, proposals, bank, "evaluate")):
        found.setdefault(result["image_id"], []).append(result)
    return found


def test_equals_the_evaluation(workspace: Path, detector: RegionCLIP, tmp_path: Path, monkeypatch) -> None:
    """Names, scores and boxes are those of the stages, up to the 0.01 pixel that results files are rounded to."""
    monkeypatch.chdir(workspace)
    params = load_params()
    wanted, least = pipeline_detections(params, tmp_path / "proposals"), params.finetune.sets["coco"].score_threshold
    assert sorted(wanted) == [1, 2, 3] and all(len(results) >= 8 for results in wanted.values())
    for image_id, results in wanted.items():
        found = detector(workspace / f"data/sets/coco/val/{image_id}.png", NAMES, threshold=least)
        assert found.names == [NAMES[result["category_id"] - 1] for result in results]
        scores = np.array([result["score"] for result in results])
        np.testing.assert_allclose(found.scores, scores, rtol=2e-5, atol=1e-7)
        boxes = np.array([result["bbox"] for result in results])
        boxes[:, 2:] += boxes[:, :2]
        np.testing.assert_allclose(found.boxes, boxes, atol=0.0101)


def same(one: Result, other: Result) -> bool:
    """Whether two results hold the same objects."""
    return one.names == other.names and all(
        np.array_equal(getattr(one, key), getattr(other, key)) for key in ("boxes", "scores")
    )


def test_every_form_of_a_picture_gives_the_same(workspace: Path, detector: RegionCLIP) -> None:
    """Path, text, bytes, Pillow image, RGB array, tensor and palette image of the same pixels."""
    file = workspace / "data/sets/coco/val/1.png"
    image = Image.open(file)
    tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    forms = [str(file), file.read_bytes(), image, np.asarray(image), image.convert("RGBA"), tensor]
    wanted = detector(file, NAMES, threshold=LOW)
    assert len(wanted) and all(same(detector(form, NAMES, threshold=LOW), wanted) for form in forms)
    assert np.array_equal(wanted.pixels, np.asarray(image))
    other = detector(np.asarray(image)[..., ::-1], NAMES, threshold=LOW)
    assert not same(other, wanted), "the order of channels matters"


@pytest.mark.parametrize("size", [(1800, 2), (1, 900), (1, 1)])
def test_thin_pictures_are_searched_too(detector: RegionCLIP, size: tuple[int, int]) -> None:
    """Their boxes lie in them, though the networks see them stretched."""
    for x1, y1, x2, y2 in detector(Image.effect_noise(size, 50), NAMES, threshold=0).boxes:
        assert 0 <= x1 <= x2 <= size[0] and 0 <= y1 <= y2 <= size[1]


def test_vocabulary_is_that_of_the_call(workspace: Path, detector: RegionCLIP) -> None:
    """Names that no training saw are found under their name; a call leaves nothing behind for the next."""
    file = workspace / "data/sets/coco/val/1.png"
    first = detector(file, NAMES, threshold=LOW)
    assert set(detector(file, ["blue zeppelin"], threshold=LOW).names) == {"blue zeppelin"}
    assert same(detector(file, NAMES, threshold=LOW), first)
    swapped = detector(file, NAMES[::-1], threshold=LOW)
    assert swapped.names == first.names and np.allclose(swapped.boxes, first.boxes, atol=1e-3)


def test_stream_of_many_pictures_gives_what_each_gives_alone(
    workspace: Path, detector: RegionCLIP, tmp_path: Path
) -> None:
    """A folder with two sizes and a broken file: in order, in batches, the broken one counted and not in the way."""
    for number in (3, 1, 2):
        shutil.copy(workspace / f"data/sets/coco/val/{number}.png", tmp_path / f"{number}.png")
    Image.open(tmp_path / "2.png").resize((90, 120)).save(tmp_path / "2b.jpg")
    (tmp_path / "1b.jpg").write_bytes(b"no picture")
    (tmp_path / "notes.txt").write_text("no picture either")
    rejected: list[InputError] = []
    found = list(detector.detect(tmp_path, NAMES, threshold=LOW, batch_size=3, rejected=rejected))
    assert [Path(one.source).name for one in found] == ["1.png", "2.png", "2b.jpg", "3.png"]
    assert [Path(error.file).name for error in rejected] == ["1b.jpg"]
    for one in found:
        alone = detector(one.source, NAMES, threshold=LOW)
        assert one.names == alone.names
        np.testing.assert_allclose(one.boxes, alone.boxes, atol=1e-3)
        np.testing.assert_allclose(one.scores, alone.scores, rtol=1e-4)
    by_glob = list(detector.detect(f"{tmp_path}/*.png", NAMES))
    assert [Path(one.source).name for one in by_glob] == ["1.png", "2.png", "3.png"]
    with pytest.raises(InputError, match="1b.jpg: the image cannot be decoded"):
        list(detector.detect(tmp_path, NAMES))
    for missing, problem in (
        ("none.png", "does not exist"),
        ("none/*.png", "no pictures"),
        ("a.mp4", "video does not"),
    ):
        with pytest.raises(InputError, match=problem):
            list(detector.detect(tmp_path / missing, NAMES))


def test_video_is_a_stream_of_its_frames(workspace: Path, detector: RegionCLIP, tmp_path: Path) -> None:
    frame = np.asarray(Image.open(workspace / "data/sets/coco/val/1.png"))
    film = cv2.VideoWriter(str(tmp_path / "film.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 5, frame.shape[1::-1])
    for _ in range(3):
        film.write(frame[..., ::-1])
    film.release()
    found = list(detector.detect(tmp_path / "film.avi", NAMES, threshold=LOW))
    assert [one.source for one in found] == [f"{tmp_path}/film.avi#{number}" for number in range(3)]
    assert found[0].size == frame.shape[1::-1] and all(len(one) for one in found)


def test_what_is_kept_is_what_is_asked_for(workspace: Path, detector: RegionCLIP) -> None:
    """Thresholds of all and of each name, the best of each name and of all, NMS among names."""
    file = workspace / "data/sets/coco/val/1.png"
    everything = detector(file, NAMES, threshold=LOW)
    middle = float(np.median(everything.scores))
    assert same(detector(file, NAMES, threshold=middle), everything[everything.scores > middle])
    name = everything.names[0]
    own = detector(file, NAMES, threshold=dict.fromkeys(NAMES, 1.0) | {name: LOW})
    assert set(own.names) == {name} and len(own) == everything.names.count(name)
    best = detector(file, NAMES, threshold=LOW, top_k=1)
    assert (
        best.names == list(dict.fromkeys(everything.names))
        and len(detector(file, NAMES, threshold=LOW, max_detections=2)) == 2
    )
    apart = detector(file, NAMES, threshold=LOW, agnostic=True, iou=0.3)
    near = overlaps(apart.boxes, apart.boxes) - np.eye(len(apart))
    assert len(apart) and near.max() <= 0.3 + 1e-6
    for wrong in ({"threshold": 2}, {"threshold": {"hat": 0.1}}, {"top_k": 0}, {"iou": -1}, {"batch_size": 0.5}):
        with pytest.raises(InputError):
            detector(file, NAMES, **wrong)


def test_boxes_of_the_caller_are_named_as_they_are(workspace: Path, detector: RegionCLIP) -> None:
    """Features, probabilities and cosines of own boxes agree with each other, and `boxes=` finds the likeliest name.

    Without fusion, which asks a head that `features` does not.
    """
    params = detector.files.params
    target = params.finetune.sets["coco"].model_copy(update={"fusion": None})
    finetune = params.finetune.model_copy(update={"sets": params.finetune.sets | {"coco": target}})
    files = replace(detector.files, params=params.model_copy(update={"finetune": finetune}))
    detector = RegionCLIP(files, device="cpu")
    file, boxes = workspace / "data/sets/coco/val/1.png", [[0, 0, 60, 60], [40.5, 20, 160, 120], [10, 10, 30, 40]]
    features, probs = detector.features(file, boxes), detector.classify(file, boxes, NAMES)
    assert features.shape == (3, detector.vocabulary(NAMES).embeddings.shape[1]) and probs.shape == (3, len(NAMES))
    logits = np.pad(detector.similarity(features, NAMES) / TEMPERATURE, ((0, 0), (0, 1)))
    np.testing.assert_allclose(torch.from_numpy(logits).softmax(dim=1)[:, :-1], probs, atol=1e-5)
    found = detector(file, NAMES, boxes, threshold=0)
    order = np.argsort(-probs.max(axis=1), kind="stable")
    assert np.array_equal(found.boxes, np.array(boxes, np.float32)[order])
    assert found.names == [NAMES[label] for label in probs.argmax(axis=1)[order]]
    assert len(detector(file, NAMES, [])) == 0 and detector.features(file, []).shape == (0, features.shape[1])
    for own in ([], [boxes], 5):
        with pytest.raises(InputError, match="no boxes are given for picture [01]"):
            list(detector.detect([file, file], NAMES, own))
    for wrong in (features[:, :3], features[0], [["a"]], np.zeros(features.shape, int)):
        with pytest.raises(InputError, match="key 'features'"):
            detector.similarity(wrong, NAMES)
    for wrong in ([[5, 5, 5, 9]], [[0, 0, np.nan, 1]], [[1, 2, 3]], "boxes"):
        with pytest.raises(InputError, match="key 'boxes'"):
            detector.features(file, wrong)


def test_bundle_is_the_same_detector(workspace: Path, detector: RegionCLIP, tmp_path: Path) -> None:
    """What is exported and opened elsewhere finds the same objects."""
    detector.bundle(tmp_path / "bundle")
    file = workspace / "data/sets/coco/val/2.png"
    assert same(RegionCLIP.open(tmp_path / "bundle")(file, NAMES, threshold=LOW), detector(file, NAMES, threshold=LOW))
    with pytest.raises(InputError, match="holds a detector of coco, not of lvis"):
        RegionCLIP.open(tmp_path / "bundle", dataset="lvis")


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
        ({"star": 1}, "record star.*a int stands for the name"),
        ({"star": []}, "stands for the name"),
        ({"star": ["star", " "]}, "an empty phrase"),
        ({"star": np.zeros(3)}, "an embedding of shape"),
        (["star", 3], r"key 'names.1': a int was"),
        (["star", None], r"key 'names.1'"),
        ([["star"]], r"key 'names.0'"),
        (iter(["star"]), "a list_iterator was"),
    ],
)
def test_names_that_make_no_sense_are_refused(detector: RegionCLIP, workspace: Path, names, problem) -> None:
    with pytest.raises(InputError, match=problem):
        detector(workspace / "data/sets/coco/val/1.png", names)


@pytest.mark.parametrize(
    "picture",
    [None, 3, 1.5, ["a.png"], [[0, 0, 0]], {"path": "a.png"}, bytearray(b"x"), object()],
)
def test_pictures_of_another_type_are_refused(detector: RegionCLIP, picture: object) -> None:
    with pytest.raises(InputError, match="key 'picture'.*a path, bytes, a picture or pixels"):
        detector(picture, NAMES)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((8, 8), np.uint8),
        torch.zeros(3, 8, 8),
        torch.zeros(8, 8, dtype=torch.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8, 3), np.int64),
        np.zeros((0, 8, 3), np.uint8),
        np.zeros((8, 8, 3), object),
    ],
)
def test_pixels_of_another_form_are_refused(detector: RegionCLIP, pixels: np.ndarray) -> None:
    with pytest.raises(InputError):
        detector(pixels, NAMES)


def test_other_arguments_of_another_type_are_refused(detector: RegionCLIP, workspace: Path) -> None:
    for arguments, key in (
        ({"dataset": "voc"}, "data.sets"),
        ({"dataset": 1}, "dataset"),
        ({"initialisation": "imagenet"}, "initialisation"),
        ({"initialisation": ["clip"]}, "initialisation"),
    ):
        with pytest.raises(InputError) as caught:
            RegionCLIP.open(workspace, **arguments)
        assert caught.value.key == key
    for missing in ("none", "weights/detector.pth"):
        with pytest.raises(InputError, match="no such folder.*regionclip bundle"):
            RegionCLIP.open(workspace / missing)
    for call in (RegionCLIP.open, detector.bundle):
        with pytest.raises(InputError, match="a NoneType was given"):
            call(None)


ODD = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.binary(max_size=3), st.lists)


@settings(max_examples=40)
@given(picture=ODD, names=ODD)
def test_any_arguments_are_answered_or_named(detector: RegionCLIP, picture: object, names: object) -> None:
    with pytest.raises(InputError) as caught:
        detector(picture, names)
    assert caught.value.mend


def test_import_of_the_package_stays_cheap() -> None:
    """`from regionclip import RegionCLIP` brings neither torch nor MLflow; they come when a detector is opened."""
    program = (
        "import sys; from regionclip import RegionCLIP; print(sorted({'torch', 'mlflow', 'mmdet'} & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "[]"


def test_threads_may_share_it(workspace: Path, detector: RegionCLIP) -> None:
    """Calls with vocabularies of their own, all at once, give what they give alone."""
    file = workspace / "data/sets/coco/val/1.png"
    lists = [[name, "thing"] for name in NAMES] * 3
    alone = [detector(file, names, threshold=LOW) for names in lists]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda names: detector(file, names, threshold=LOW), lists))
    assert all(same(one, other) for one, other in zip(together, alone, strict=True))


@pytest.mark.parametrize("name", ["first_detections", "clip_beside_regionclip"])
def test_notebooks_run(workspace: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell, one after the other, in a finished workspace."""
    monkeypatch.chdir(workspace)
    file = Path(__file__).parents[2] / f"docs/notebooks/{name}.ipynb"
    cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
    known: dict[str, object] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), known)
    assert known["boxes"].shape[1] == 4 and known["pictures"][0].is_file()
