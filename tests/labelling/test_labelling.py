"""Pseudo labels: the RPN's boxes in original pixels, the teacher's verdict on the same pixels of the network input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.model import BaseModel
from PIL import Image

from regionclip.checkpoints.clip_folder import ClipFolder
from regionclip.data.datasets.detection import PicturesDataset
from regionclip.engine.prediction import predict
from regionclip.errors import InputError
from regionclip.labelling.proposals import valid_regions
from regionclip.labelling.random_regions import RandomRegions
from regionclip.labelling.regions import label_regions
from regionclip.labelling.views import RegionTeacher
from regionclip.models.assembly import build_rpn
from regionclip.params.stages import Detection
from regionclip.regions.matching import ConceptMatcher
from tests.conftest import profile_params

SIZES = Detection(train_short_sides=[96], test_short_side=96, max_size=200, test_batch=8, test_proposals=5)


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGIONCLIP_WORKERS", "0")
    monkeypatch.setenv("REGIONCLIP_DEVICE", "cpu")


@pytest.fixture(scope="module")
def clip(clip_path: Path) -> ClipFolder:
    return ClipFolder.open(clip_path)


@pytest.fixture
def rpn(clip: ClipFolder) -> BaseModel:
    """An RPN that keeps five boxes a picture."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        section = profile_params("tiny").rpn
        return build_rpn(clip, section, nms_iou=0.7, proposals=5).eval()


@pytest.fixture
def pictures(tmp_path: Path) -> PicturesDataset:
    """Two pictures of noise, 64 x 48 and 48 x 60, which the network sees at 1.5 or 2 times their size."""
    rng = np.random.default_rng(0)
    files = []
    for number, (width, height) in enumerate([(64, 48), (48, 60)]):
        files.append((number + 1, tmp_path / f"{number}.png"))
        Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(files[-1][1])
    return PicturesDataset(files, SIZES)


@pytest.fixture
def matcher() -> ConceptMatcher:
    return ConceptMatcher(torch.randn(7, 32, generator=torch.Generator().manual_seed(2)), temperature=0.1)


def test_a_picture_that_cannot_be_read_is_handed_over_and_the_others_go_on(
    clip: ClipFolder, rpn: BaseModel, pictures: PicturesDataset, matcher: ConceptMatcher
) -> None:
    Path(pictures.pictures[0][1]).write_bytes(b"no picture")
    teacher = RegionTeacher(clip.model(), "crop", 1.3)
    error, regions = label_regions(rpn.test_step, teacher, matcher, pictures, top_k=3, batch_size=8)
    assert isinstance(error, InputError) and str(error.file) == str(pictures.pictures[0][1])
    assert len(regions.boxes) == 5


def test_boxes_are_the_rpns_in_original_pixels(
    clip: ClipFolder, rpn: BaseModel, pictures: PicturesDataset, matcher: ConceptMatcher
) -> None:
    teacher = RegionTeacher(clip.model(), "crop", 1.3)
    labelled = dict(zip((1, 2), label_regions(rpn.test_step, teacher, matcher, pictures, 3, batch_size=8), strict=True))
    expected = {sample.img_id: valid_regions(sample) for sample in predict(rpn, pictures, title="test", batch_size=8)}
    for image_id, (width, height) in {1: (64, 48), 2: (48, 60)}.items():
        regions, (boxes, logits) = labelled[image_id], expected[image_id]
        assert len(boxes) == 5
        np.testing.assert_allclose(regions.boxes, boxes, atol=1e-4)
        np.testing.assert_allclose(regions.objectness, logits, atol=1e-5)
        assert regions.boxes.min() >= 0 and (regions.boxes[:, 2:] <= [width + 1e-3, height + 1e-3]).all()


@pytest.mark.parametrize("view", ["crop", "roi"])
def test_concepts_are_the_teachers_on_the_same_pixels(
    clip: ClipFolder, rpn: BaseModel, pictures: PicturesDataset, matcher: ConceptMatcher, view: str
) -> None:
    """One picture at a time, so that nothing is padded: boxes times the scale on the normalised network input."""
    teacher = RegionTeacher(clip.model(), view, 1.3)
    labelled = dict(zip((1, 2), label_regions(rpn.test_step, teacher, matcher, pictures, 3, batch_size=1), strict=True))
    for record in (pictures[0], pictures[1]):
        sample = record["data_samples"]
        data = rpn.data_preprocessor({"inputs": [record["inputs"]], "data_samples": [sample]}, False)
        regions = labelled[sample.img_id]
        scale = torch.tensor([*sample.scale_factor, *sample.scale_factor])
        index, probs = matcher(teacher(data["inputs"], [torch.from_numpy(regions.boxes) * scale]), 3)
        assert regions.concept_index.tolist() == index.tolist()
        np.testing.assert_allclose(regions.concept_prob, probs, rtol=1e-3)
        assert regions.concept_index.dtype == np.int32 and regions.concept_prob.dtype == np.float32
    assert pictures[0]["data_samples"].scale_factor == (2.0, 2.0)


def test_labels_in_bfloat16_are_those_of_float32(
    clip: ClipFolder, pictures: PicturesDataset, matcher: ConceptMatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same boxes of random regions; probabilities to bfloat16's two or three digits, and not to float32's."""
    teacher, regions = RegionTeacher(clip.model(), "both", 1.3), RandomRegions(5, seed=1)
    exact = list(label_regions(regions, teacher, matcher, pictures, top_k=7, batch_size=2))
    monkeypatch.setenv("REGIONCLIP_PRECISION", "bf16")
    mixed = label_regions(regions, teacher, matcher, pictures, top_k=7, batch_size=2)
    for one, other in zip(exact, mixed, strict=True):
        assert np.array_equal(one.boxes, other.boxes) and other.concept_prob.dtype == np.float32
        spread = [np.take_along_axis(r.concept_prob, r.concept_index.argsort(axis=1), axis=1) for r in (one, other)]
        np.testing.assert_allclose(*spread, atol=0.03)
        assert not np.allclose(*spread, atol=1e-6)


def test_no_more_concepts_than_there_are(
    clip: ClipFolder, rpn: BaseModel, pictures: PicturesDataset, matcher: ConceptMatcher
) -> None:
    teacher = RegionTeacher(clip.model(), "crop", 1.3)
    for regions in label_regions(rpn.test_step, teacher, matcher, pictures, top_k=20, batch_size=8):
        assert regions.concept_index.shape == regions.concept_prob.shape == (5, 7)
        np.testing.assert_allclose(regions.concept_prob.sum(axis=1), 1, rtol=1e-5)


def test_picture_without_a_proposal_has_empty_regions(
    clip: ClipFolder, rpn: BaseModel, pictures: PicturesDataset, matcher: ConceptMatcher
) -> None:
    rpn.test_cfg.rpn.min_bbox_size = 10_000
    rpn.bbox_head.test_cfg.min_bbox_size = 10_000
    teacher = RegionTeacher(clip.model(), "crop", 1.3)
    for regions in label_regions(rpn.test_step, teacher, matcher, pictures, top_k=3, batch_size=8):
        assert regions.boxes.shape == (0, 4) and regions.concept_index.shape == regions.concept_prob.shape == (0, 3)
